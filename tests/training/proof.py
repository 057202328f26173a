"""Proof of use: rows that the gateway left, exported, loaded and trained on.

Runs the demo gateway under a policy of its own, asks it things that get revised or blocked, exports what lies in the
spool in every format, and feeds the exports to the training libraries themselves: `datasets` loads them, and TRL's
trainers take a few steps with a model that is made on the spot. Nothing is downloaded.
"""

import argparse
import copy
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from proving import SAID, comes, free_port, run, say

os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", HF_DATASETS_OFFLINE="1", TOKENIZERS_PARALLELISM="false")

ROOT = pathlib.Path(__file__).resolve().parents[2]
STEPS = 3
TOPICS = (
    "bread soup tea chess gardens trains maps rain snow wool clay bells boats bridges kites lamps apples rivers "
    "clocks paper stamps violins bicycles"
).split()
POLICY = """
constitution:
  preamble: Follow these principles in every answer.
  principles:
    - { id: kind, text: Be kind., critique: Say what is unkind., revision: Rewrite it kindly. }
rules:
  - id: insult
    guard: { patterns: [{ id: insult, regex: '(?i)worthless|idiot|loser' }] }
    stages: [output]
    action: revise
  - id: desk
    guard: { patterns: [{ id: desk, regex: 'demo desk' }] }
    stages: [output]
    action: block
"""
CONFIG = """
listen: 127.0.0.1:{data}
admin: 127.0.0.1:{admin}
upstreams:
  openai: {{ dialect: openai, url: http://127.0.0.1:9, api_key_env: DEMO }}
policies: {{ dir: policies, active: proof }}
pairs: {{ dir: pairs, fsync_rows: 1 }}
"""

# Transcribed from OpenAI's guide to direct preference optimisation: what a line has to look like.
OPENAI_ROLES = {"system", "user", "assistant", "tool"}


def rows(binary, place):
    """Starts the demo, has some answers revised and some blocked, stops it; says how many requests were made."""
    data, admin = free_port(), free_port()
    (place / "policies").mkdir()
    (place / "policies/proof.yaml").write_text(POLICY)
    (place / "wardline.yaml").write_text(CONFIG.format(data=data, admin=admin))
    gateway = run([binary, "demo", "--config", place / "wardline.yaml"], place / "log")
    try:
        if not comes(60, lambda: urllib.request.urlopen(f"http://127.0.0.1:{admin}/readyz", timeout=1)):
            raise SystemExit(f"the gateway did not start:\n{(place / 'log').read_text()}")
        for topic in TOPICS:
            for question in (f"Please insult me. I like {topic}.", f"What is your contact for {topic}?"):
                body = {"model": "demo", "messages": [{"role": "user", "content": question}]}
                request = urllib.request.Request(
                    f"http://127.0.0.1:{data}/v1/chat/completions",
                    json.dumps(body).encode(),
                    {"content-type": "application/json"},
                )
                urllib.request.urlopen(request, timeout=30).read()
    finally:
        gateway.terminate()
        gateway.wait(30)
    return 2 * len(TOPICS)


def export(binary, place):
    files = {}
    for name in ("trl", "openai-dpo", "llama-factory", "axolotl", "kto", "sft", "hh"):
        files[name] = place / f"{name}.jsonl"
        command = [binary, "pairs", "export", "--format", name, "--out", files[name], place / "pairs"]
        told = subprocess.run(command, check=True, capture_output=True, text=True).stderr
        say(f"  {told.splitlines()[0]}")
    return files


def load(file):
    from datasets import load_dataset

    return load_dataset("json", data_files=str(file), split="train", cache_dir=str(file.parent / "cache"))


def tiny():
    """A tokenizer of bytes and a language model of two layers, with random weights."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: at for at, token in enumerate(["<pad>", "<s>", "</s>", *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>")
    fast.chat_template = (
        "{% for message in messages %}{{ message['role'] + ': ' + message['content'] + '\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    config = LlamaConfig(
        vocab_size=len(vocabulary), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=2048, pad_token_id=0, bos_token_id=1, eos_token_id=2,
    )
    return fast, config, LlamaForCausalLM(config)


def train(files, place):
    import torch
    import transformers
    from transformers import AutoModelForSequenceClassification
    from trl import DPOConfig, DPOTrainer, RewardConfig, RewardTrainer, SFTConfig, SFTTrainer

    transformers.logging.set_verbosity_error()
    torch.manual_seed(7)
    common = {
        "max_steps": STEPS, "per_device_train_batch_size": 4, "report_to": [], "use_cpu": True, "save_strategy": "no",
        "logging_steps": 1, "disable_tqdm": True, "bf16": False,
    }
    tokenizer, config, model = tiny()

    def run(name, trainer):
        trainer.remove_callback(transformers.PrinterCallback)
        losses = [entry["loss"] for entry in (trainer.train(), trainer.state.log_history)[1] if "loss" in entry]
        assert len(losses) == STEPS and all(loss == loss and abs(loss) < 1e4 for loss in losses), (name, losses)
        say(f"  {name}: {STEPS} steps, loss {' '.join(f'{loss:.4f}' for loss in losses)}")

    arguments = DPOConfig(output_dir=str(place / "dpo"), max_length=512, **common)
    run("DPOTrainer on trl", DPOTrainer(
        model=model, ref_model=copy.deepcopy(model), args=arguments, train_dataset=load(files["trl"]),
        processing_class=tokenizer))
    arguments = RewardConfig(output_dir=str(place / "reward"), max_length=512, **common)
    config.num_labels = 1
    reward = AutoModelForSequenceClassification.from_config(config)
    run("RewardTrainer on trl", RewardTrainer(
        model=reward, args=arguments, train_dataset=load(files["trl"]), processing_class=tokenizer))
    arguments = SFTConfig(output_dir=str(place / "sft"), max_length=512, **common)
    run("SFTTrainer on sft", SFTTrainer(
        model=model, args=arguments, train_dataset=load(files["sft"]), processing_class=tokenizer))
    try:
        from trl import KTOConfig, KTOTrainer
    except ImportError:
        from trl.experimental.kto import KTOConfig, KTOTrainer
    arguments = KTOConfig(output_dir=str(place / "kto"), max_length=512, **common)
    run("KTOTrainer on kto", KTOTrainer(
        model=model, ref_model=copy.deepcopy(model), args=arguments, train_dataset=load(files["kto"]),
        processing_class=tokenizer))


def check_openai(file):
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    for line in lines:
        assert set(line) == {"input", "preferred_output", "non_preferred_output"}, sorted(line)
        assert set(line["input"]) == {"messages", "tools", "parallel_tool_calls"}
        assert isinstance(line["input"]["tools"], list) and line["input"]["parallel_tool_calls"] is True
        assert line["input"]["messages"] and line["input"]["messages"][-1]["role"] != "assistant"
        for message in line["input"]["messages"]:
            assert message["role"] in OPENAI_ROLES and isinstance(message["content"], str)
        for side in ("preferred_output", "non_preferred_output"):
            (message,) = line[side]
            assert message["role"] == "assistant" and message["content"].strip()
        assert line["preferred_output"] != line["non_preferred_output"]
    say(f"  openai-dpo: {len(lines)} lines have the documented shape")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", default=ROOT / "target/release/wardline", type=pathlib.Path)
    parser.add_argument("--record", type=pathlib.Path, help="a file for what was said")
    arguments = parser.parse_args()
    binary = arguments.binary.resolve()
    with tempfile.TemporaryDirectory() as name:
        place = pathlib.Path(name)
        requests = rows(binary, place)
        kept = sum(len(file.read_text().splitlines()) for file in (place / "pairs").iterdir())
        assert kept == requests, f"{kept} rows of {requests} requests"
        say(f"{requests} requests to the demo gateway, {kept} rows kept")
        subprocess.run([binary, "pairs", "validate", place / "pairs"], check=True, stdout=subprocess.DEVNULL)
        say("exports")
        files = export(binary, place)
        say("loaded by datasets")
        for name, file in files.items():
            data = load(file)
            assert len(data) > 0, name
            say(f"  {name}: {len(data)} rows, columns {', '.join(data.column_names)}")
        check_openai(files["openai-dpo"])
        say("trained on, tiny model of random weights")
        train(files, place)
        versions = {name: __import__(name).__version__ for name in ("datasets", "torch", "transformers", "trl")}
        say("with " + ", ".join(f"{name} {version}" for name, version in versions.items()))
    if arguments.record:
        said = "\n".join(SAID)
        arguments.record.write_text(f"# Proof of use\n\nWhat `make pairs-proof` said last:\n\n```\n{said}\n```\n")


if __name__ == "__main__":
    sys.exit(main())
