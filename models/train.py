#!/usr/bin/env python3
"""Train the guard: one MiniLM encoder with a prompt_attack and a harm head.

python train.py --data DATA --work WORK --examples 60000
"""

from __future__ import annotations

import argparse
import json
import random
import time
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

from recipe.batches import Batch, bucketed, cropped, plain_tokenizer
from recipe.data import sha256
from recipe.mixture import SHARES, Mixture
from recipe.network import Guard, encoder_folder


def loss_of(model: Guard, batch: Batch, harm_weight: float, smoothing: float) -> tuple[Tensor, Tensor]:
    """The two masked losses of one batch."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        attack, harm = model(batch.ids, batch.mask)
    attack, harm = attack.float(), harm.float()
    per_row = nn.functional.cross_entropy(attack, batch.attack, reduction="none", label_smoothing=smoothing)
    attack_loss = (per_row * batch.attack_weight).sum() / batch.attack_weight.sum().clamp(min=1.0)
    target = batch.harm * (1 - smoothing) + smoothing / 2
    per_cell = nn.functional.binary_cross_entropy_with_logits(harm, target, reduction="none") * batch.harm_weight
    harm_loss = per_cell.sum() / batch.harm_weight.sum().clamp(min=1.0)
    return attack_loss, harm_weight * harm_loss


def optimiser_of(model: Guard, rate: float, head_rate: float, decay: float) -> torch.optim.Optimizer:
    """AdamW with smaller steps for lower layers and none for the embeddings."""
    layers = model.encoder.config.num_hidden_layers
    groups = [{"params": [*model.prompt_attack.parameters(), *model.harm.parameters()], "lr": head_rate}]
    for name, parameter in model.encoder.named_parameters():
        if parameter.requires_grad:
            depth = next((int(part) for part in name.split(".") if part.isdigit()), layers - 1)
            groups.append(
                {"params": [parameter], "lr": rate * 0.88 ** (layers - 1 - depth), "weight_decay": 0.0 if parameter.ndim == 1 else decay}
            )
    for group in groups:
        group["peak"] = group["lr"]
    return torch.optim.AdamW(groups, betas=(0.9, 0.98), weight_decay=decay)


def main() -> None:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with prompt_attack.jsonl.gz and harm.jsonl.gz")
    parser.add_argument("--work", type=Path, required=True, help="folder for checkpoints")
    parser.add_argument("--examples", type=int, default=60_000)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rate", type=float, default=2e-4)
    parser.add_argument("--head-rate", type=float, default=1e-3)
    parser.add_argument("--decay", type=float, default=0.01)
    parser.add_argument("--harm-weight", type=float, default=4.0)
    parser.add_argument("--smoothing", type=float, default=0.02)
    parser.add_argument("--average", type=float, default=0.998, help="decay of the running average of the weights")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--init", type=Path, help="checkpoint folder to start from (a second stage); its facts are kept")
    parser.add_argument("--minutes", type=float, default=0.0, help="stop after this time (the rate then falls with the time); 0: no limit")
    parser.add_argument("--seed", type=int, default=20261124)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    rng = random.Random(args.seed)
    started = time.time()

    encoder = encoder_folder()
    tokenizer = plain_tokenizer(encoder / "tokenizer.json")
    mixture = Mixture(args.data, "train", args.seed)
    examples = mixture.sample(args.examples)
    rows = cropped(examples, tokenizer, rng)
    print(
        f"{len(rows)} examples, mean {sum(len(r) for r, _ in rows) / len(rows):.0f} tokens; dropped as too close to a benchmark: {dict(mixture.dropped)}",
        flush=True,
    )

    model = Guard(encoder)
    if args.init:
        model.load_state_dict(torch.load(args.init / "guard.pt", weights_only=True))
    model.freeze_embeddings()
    model.train()
    optimiser = optimiser_of(model, args.rate, args.head_rate, args.decay)
    steps = -(-len(rows) // args.batch)
    warm = max(1, min(150, int(0.06 * steps)))
    mean = torch.optim.swa_utils.AveragedModel(model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(args.average))
    seen = {"attack": 0.0, "harm": 0.0}
    bar = tqdm(bucketed(rows, args.batch, rng), total=steps, desc="train", mininterval=5)
    looped = time.time()
    done = 0
    for step, batch in enumerate(bar):
        progress = step / steps if args.minutes <= 0 else max(step / steps, (time.time() - looped) / 60 / args.minutes)
        if progress >= 1.0:
            break
        done = step + 1
        scale = min((step + 1) / warm, max(0.02, 1.0 - progress))
        for group in optimiser.param_groups:
            group["lr"] = group["peak"] * scale
        attack_loss, harm_loss = loss_of(model, batch, args.harm_weight, args.smoothing)
        optimiser.zero_grad(set_to_none=True)
        (attack_loss + harm_loss).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        mean.update_parameters(model)
        keep = min(0.99, step / (step + 1))
        seen = {
            "attack": keep * seen["attack"] + (1 - keep) * attack_loss.item(),
            "harm": keep * seen["harm"] + (1 - keep) * harm_loss.item(),
        }
        if step % 20 == 0:
            bar.set_postfix(attack=f"{seen['attack']:.3f}", harm=f"{seen['harm']:.3f}")

    args.work.mkdir(parents=True, exist_ok=True)
    torch.save(mean.module.state_dict(), args.work / "guard.pt")
    facts = {
        "settings": {k: v for k, v in vars(args).items() if k not in ("data", "work", "init")},
        "rows": min(len(rows), done * args.batch), "steps": done, "minutes": round((time.time() - started) / 60, 1),
        "final_loss": {k: round(v, 4) for k, v in seen.items()},
        "data_sha256": {f"{t}.jsonl.gz": sha256(args.data / f"{t}.jsonl.gz") for t in ("prompt_attack", "harm")},
        "encoder_sha256": sha256(encoder / "model.safetensors"),
        "dropped_near_benchmark": dict(mixture.dropped), "shares": SHARES, "torch": torch.__version__,
    }  # fmt: skip
    if args.init:
        facts["earlier_stage"] = json.loads((args.init / "train.json").read_text())
    (args.work / "train.json").write_text(json.dumps(facts, indent=1))
    print(json.dumps({k: facts[k] for k in ("rows", "steps", "minutes", "final_loss")}))


if __name__ == "__main__":
    main()
