#!/usr/bin/env python3
"""Train the guard: one MiniLM encoder with a prompt_attack and a harm head.

python train.py --data DATA --work WORK --examples 60000
"""

from __future__ import annotations

import argparse
import json
import math
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
from recipe.shipped import load_shipped

ANY = 5
"""The first labels of the harm head whose strongest is trained as well: all but illicit, which asks for other texts."""


def loss_of(model: Guard, batch: Batch, harm_weight: float, any_weight: float, smoothing: float) -> tuple[Tensor, Tensor]:
    """The two masked losses of one batch; the harm loss also looks at the strongest of the first five labels."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        attack, harm = model(batch.ids, batch.mask)
    attack, harm = attack.float(), harm.float()
    per_row = nn.functional.cross_entropy(attack, batch.attack, reduction="none", label_smoothing=smoothing)
    # A threshold at 0.5 % is set by the few benign texts that score highest: they count up to twice.
    suspected = torch.where(batch.attack == 0, 1.0 - attack.detach().softmax(1)[:, 0], 0.0)
    attack_loss = (per_row * batch.attack_weight * (1.0 + suspected)).sum() / batch.attack_weight.sum().clamp(min=1.0)
    target = batch.harm * (1 - smoothing) + smoothing / 2
    per_cell = nn.functional.binary_cross_entropy_with_logits(harm, target, reduction="none") * batch.harm_weight
    harm_loss = per_cell.sum() / batch.harm_weight.sum().clamp(min=1.0)
    # The labels are used together ("is anything wrong?"), so that they have to share one scale.
    present, known = batch.harm[:, :ANY].amax(1), batch.harm_weight[:, :ANY]
    weight = torch.where(present > 0, (known * batch.harm[:, :ANY]).amax(1), known.amin(1))
    strongest = torch.logsumexp(harm[:, :ANY], dim=1)
    per_row = (
        nn.functional.binary_cross_entropy_with_logits(strongest, present * (1 - smoothing) + smoothing / 2, reduction="none") * weight
    )
    any_loss = per_row.sum() / weight.sum().clamp(min=1.0)
    return attack_loss, harm_weight * harm_loss + any_weight * any_loss


def optimiser_of(model: Guard, rate: float, head_rate: float, embedding_rate: float, decay: float) -> torch.optim.Optimizer:
    """AdamW with smaller steps for lower layers and the smallest, or none, for the embeddings."""
    layers = model.encoder.config.num_hidden_layers
    groups = [{"params": [*model.prompt_attack.parameters(), *model.harm.parameters()], "lr": head_rate}]
    for name, parameter in model.encoder.named_parameters():
        if name.startswith("embeddings."):
            if parameter.requires_grad:
                groups.append({"params": [parameter], "lr": embedding_rate, "weight_decay": 0.0})
        elif parameter.requires_grad:
            depth = next((int(part) for part in name.split(".") if part.isdigit()), layers - 1)
            groups.append(
                {"params": [parameter], "lr": rate * 0.88 ** (layers - 1 - depth), "weight_decay": 0.0 if parameter.ndim == 1 else decay}
            )
    for group in groups:
        group["peak"] = group["lr"]
    return torch.optim.AdamW(groups, betas=(0.9, 0.98), weight_decay=decay)


def start_from(model: Guard, init: Path | None) -> None:
    """Load the weights that a run continues."""
    if init is not None and init.suffix == ".onnx":
        load_shipped(model, init)
    elif init is not None:
        model.load_state_dict(torch.load(init / "guard.pt", weights_only=True))


def scale_of(step: int, warm: int, progress: float) -> float:
    """Share of the peak rate: a short rise, then half a cosine down to a fiftieth."""
    return min((step + 1) / warm, 0.02 + 0.98 * (1 + math.cos(math.pi * min(1.0, progress))) / 2)


def main() -> None:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with prompt_attack.jsonl.gz and harm.jsonl.gz")
    parser.add_argument("--work", type=Path, required=True, help="folder for checkpoints")
    parser.add_argument("--examples", type=int, default=60_000)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rate", type=float, default=2e-4)
    parser.add_argument("--head-rate", type=float, default=1e-3)
    parser.add_argument("--embedding-rate", type=float, default=0.0, help="0 keeps the word vectors as they are")
    parser.add_argument("--decay", type=float, default=0.01)
    parser.add_argument("--harm-weight", type=float, default=4.0)
    parser.add_argument("--any-weight", type=float, default=0.5, help="weight of the loss on the strongest harm label")
    parser.add_argument("--smoothing", type=float, default=0.02)
    parser.add_argument("--average", type=float, default=0.998, help="decay of the running average of the weights")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--init", type=Path, help="start from a checkpoint folder (its facts are kept) or from a shipped int8 .onnx file")
    parser.add_argument(
        "--save-every", type=float, default=8.0, help="minutes between checkpoints, so that a run can be looked at or stopped"
    )
    parser.add_argument("--minutes", type=float, default=0.0, help="stop after this time (the rate then falls with the time); 0: no limit")
    parser.add_argument(
        "--leave-out", default="", help="sources, separated by commas, that this run must not see (develop.py then measures them)"
    )
    parser.add_argument("--seed", type=int, default=20261124)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    rng = random.Random(args.seed)
    started = time.time()

    encoder = encoder_folder()
    tokenizer = plain_tokenizer(encoder / "tokenizer.json")
    mixture = Mixture(args.data, "train", args.seed, frozenset(filter(None, args.leave_out.split(","))))
    examples = mixture.sample(args.examples)
    rows = cropped(examples, tokenizer, rng)
    print(
        f"{len(rows)} examples, mean {sum(len(r) for r, _ in rows) / len(rows):.0f} tokens; dropped as too close to a benchmark: {dict(mixture.dropped)}",
        flush=True,
    )

    model = Guard(encoder)
    start_from(model, args.init)
    if args.embedding_rate <= 0:
        model.freeze_embeddings()
    model.train()
    optimiser = optimiser_of(model, args.rate, args.head_rate, args.embedding_rate, args.decay)
    steps = -(-len(rows) // args.batch)
    warm = max(1, min(150, int(0.06 * steps)))
    mean = torch.optim.swa_utils.AveragedModel(model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(args.average))
    seen = {"attack": 0.0, "harm": 0.0}
    bar = tqdm(bucketed(rows, args.batch, rng), total=steps, desc="train", mininterval=5)
    looped = saved = time.time()
    args.work.mkdir(parents=True, exist_ok=True)
    done = 0
    for step, batch in enumerate(bar):
        progress = step / steps if args.minutes <= 0 else max(step / steps, (time.time() - looped) / 60 / args.minutes)
        if progress >= 1.0:
            break
        done = step + 1
        scale = scale_of(step, warm, progress)
        for group in optimiser.param_groups:
            group["lr"] = group["peak"] * scale
        attack_loss, harm_loss = loss_of(model, batch, args.harm_weight, args.any_weight, args.smoothing)
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
        if args.save_every > 0 and time.time() - saved > 60 * args.save_every:
            saved = time.time()
            torch.save(mean.module.state_dict(), args.work / "guard.part.pt")
        if step % 20 == 0:
            bar.set_postfix(attack=f"{seen['attack']:.3f}", harm=f"{seen['harm']:.3f}")

    torch.save(mean.module.state_dict(), args.work / "guard.pt")
    (args.work / "guard.part.pt").unlink(missing_ok=True)
    facts = {
        "settings": {k: v for k, v in vars(args).items() if k not in ("data", "work", "init")},
        "rows": min(len(rows), done * args.batch), "steps": done, "minutes": round((time.time() - started) / 60, 1),
        "final_loss": {k: round(v, 4) for k, v in seen.items()},
        "data_sha256": {f"{t}.jsonl.gz": sha256(args.data / f"{t}.jsonl.gz") for t in ("prompt_attack", "harm", "preference")},
        "encoder_sha256": sha256(encoder / "model.safetensors"),
        "dropped_near_benchmark": dict(mixture.dropped), "shares": SHARES, "torch": torch.__version__,
    }  # fmt: skip
    if args.init and args.init.suffix == ".onnx":
        facts["continues"] = {
            "revision": json.loads((args.init.parent / "manifest.json").read_text())["revision"],
            "sha256": sha256(args.init),
        }
    elif args.init:
        facts["earlier_stage"] = json.loads((args.init / "train.json").read_text())
    (args.work / "train.json").write_text(json.dumps(facts, indent=1))
    print(json.dumps({k: facts[k] for k in ("rows", "steps", "minutes", "final_loss")}))


if __name__ == "__main__":
    main()
