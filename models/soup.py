#!/usr/bin/env python3
"""Average two checkpoints, weight by weight, and choose the share of the second on val (arXiv 2109.01903, 2203.05482).

python soup.py --data DATA --first guard/model.int8.onnx --second WORK/stage4 --out WORK/soup

Both must have the same shape and a common history: weights that were trained apart from the start do not average. Every candidate is
calibrated and gets thresholds as export.py does it, so that its recalls are what it would be shipped with. Of the candidates that rank the real
rows about as well as the best one (RANKINGS, within --give) the one with the highest mean of RECALLS is chosen, ties to the earlier one: recalls
on generated texts alone would favour whatever was trained on that generator last. No benchmark row is read, except to keep texts away from them.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from export import calibrated, thresholds, torch_logits, validation
from recipe import calibrate as cal
from recipe.augment import backwards, half_read, rot13, spaced
from recipe.batches import plain_tokenizer
from recipe.data import Example, read_rows, sha256
from recipe.labels import CATEGORIES
from recipe.network import Guard, encoder_folder
from recipe.scoring import LABELS, Array, auprc, auroc, combine
from train import start_from

ATTACK, HARM = LABELS.index("prompt_attack.attack"), LABELS.index("harm.hate")
DISGUISES: tuple[Callable[[str, random.Random], str], ...] = (half_read, backwards, rot13, spaced)
RECALLS = ("attack_real", "attack_made", "attack_disguised", "harm_real", "harm_made", "harm_unseen")
"""Recall at fpr_0.5: the mean over sources or kinds of real rows, generated texts, disguised generated attacks, and a source that training hardly saw."""

RANKINGS = ("attack_auroc_real", "harm_auprc_real")


def state_of(encoder: Path, path: Path) -> dict[str, Tensor]:
    """The weights of a checkpoint folder or of a shipped int8 file."""
    model = Guard(encoder)
    start_from(model, path)
    return model.state_dict()


def between(first: dict[str, Tensor], second: dict[str, Tensor], share: float) -> dict[str, Tensor]:
    """``share`` of the second and the rest of the first."""
    return {k: v if not v.is_floating_point() else torch.lerp(v, second[k], share) for k, v in first.items()}


def disguised(examples: Sequence[Example], seed: int, count: int) -> list[Example]:
    """Generated attacks of val as they look after the gateway's normaliser has not, or only half, undone what hides them."""
    rng = random.Random(seed)
    plain = [e for e in examples if e.attack > 0 and e.group in ("gen/direct", "gen/family", "gen/injection", "gen/injection_foreign")]
    out = []
    for change in DISGUISES:
        for e in rng.sample(plain, min(count, len(plain))):
            out.append(Example(change(e.text, rng), f"disguised/{change.__name__}", attack=e.attack, attack_weight=0.0))
    return out


def unlabelled_source(data: Path, count: int, seed: int) -> list[Example]:
    """AdvBench's goals (redteam file): the harm head was trained on 15 of them, and on some recast by garak, so this is no source left out."""
    rows = [r for r in read_rows(data, "redteam") if r["source"] == "advbench"]
    harm = tuple(float(c == "illicit") for c in CATEGORIES)
    return [
        Example(r["text"], "unseen/advbench", harm=harm, harm_weight=(0.0,) * 6)
        for r in random.Random(seed).sample(rows, min(count, len(rows)))
    ]


def figures(examples: list[Example], scores: Array, limits: dict[str, Any]) -> dict[str, Any]:
    """What decides, and what explains it."""
    groups = np.array([e.group for e in examples])
    attack = np.array([e.attack > 0 for e in examples])
    harm = np.array([any(e.harm) for e in examples])
    flagged_a = scores[:, ATTACK] >= limits["prompt_attack"]["attack"]["fpr_0.5"]
    flagged_h = (scores[:, HARM:] >= np.array([limits["harm"][c]["fpr_0.5"] for c in CATEGORIES])).any(axis=1)

    def recall(flags: np.ndarray, truth: np.ndarray, prefix: str) -> dict[str, float]:
        """Recall by source or kind with at least eight positives."""
        names = [g for g in dict.fromkeys(groups) if g.startswith(prefix) and (truth & (groups == g)).sum() >= 8]
        return {g: float(flags[truth & (groups == g)].mean()) for g in names}

    parts = {
        "attack_real": recall(flagged_a, attack, "attack/"), "attack_made": recall(flagged_a, attack, "gen/"),
        "attack_disguised": recall(flagged_a, attack, "disguised/"), "harm_real": recall(flagged_h, harm, "harm/"),
        "harm_made": recall(flagged_h, harm, "gen/"), "harm_unseen": recall(flagged_h, harm, "unseen/"),
    }  # fmt: skip
    real = np.array([g.startswith("attack/") for g in groups])
    harmless = np.array([cal.benign_for_harm(e) for e in examples])
    of_harm = np.array([g.startswith("harm/") for g in groups]) & (harm | harmless)
    five = scores[:, HARM : HARM + 5].max(axis=1)
    whole: dict[str, Any] = {k: float(np.mean(list(v.values()))) for k, v in parts.items()}
    whole["mean"] = float(np.mean([whole[k] for k in RECALLS]))
    whole |= {
        "attack_auroc_real": auroc(scores[real, ATTACK], attack[real]), "harm_auprc_real": auprc(five[of_harm], np.array([any(e.harm[:5]) for e in examples])[of_harm]),
        **{f"flagged_{name}": float(flags[np.isin(groups, sorted(kinds)) & ~harm].mean()) for name, flags, kinds in (
            ("everyday_sense", flagged_h, cal.EVERYDAY_SENSE), ("contested", flagged_h, cal.CONTESTED), ("close_to_attack", flagged_a, cal.CLOSE_TO_ATTACK),
        )},
    }  # fmt: skip
    return {
        "whole": {k: round(v, 4) for k, v in whole.items()},
        "parts": {k: {g: round(x, 3) for g, x in v.items()} for k, v in parts.items()},
    }


def main() -> None:
    """Parse the command line, measure the candidates and write the chosen one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--first", type=Path, required=True, help="checkpoint folder or shipped int8 .onnx file")
    parser.add_argument("--second", type=Path, required=True, help="checkpoint folder")
    parser.add_argument("--out", type=Path, required=True, help="folder for the chosen guard.pt and its train.json")
    parser.add_argument("--shares", default="0,0.25,0.5,0.75,1", help="candidates: shares of the second")
    parser.add_argument("--give", type=float, default=0.001, help="how far a candidate's ranking of real rows may lie under the best")
    parser.add_argument("--seed", type=int, default=424242, help="draw of the val texts, as of export.py")
    parser.add_argument("--cap", type=int, default=300)
    parser.add_argument("--per-group", type=int, default=60)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    encoder = encoder_folder()
    tokenizer = plain_tokenizer(encoder / "tokenizer.json")
    first, second = state_of(encoder, args.first), state_of(encoder, args.second)
    examples = validation(args.data, args.seed, args.per_group, args.cap)
    known = len(examples)
    examples += disguised(examples, args.seed, 2 * args.per_group) + unlabelled_source(args.data, args.cap, args.seed)
    texts = [e.text for e in examples]
    model = Guard(encoder)
    model.eval()
    tried: dict[float, dict[str, Any]] = {}
    for share in (float(s) for s in args.shares.split(",")):
        model.load_state_dict(between(first, second, share))
        logits = torch_logits(model, texts, tokenizer)
        fitted = calibrated(examples[:known], logits[:known])
        scores = np.stack([combine(*fitted.of(pair)) for pair in logits])
        tried[share] = figures(examples, scores, thresholds(examples[:known], scores[:known]))
        print(share, json.dumps(tried[share]["whole"]), flush=True)
    best = {key: max(t["whole"][key] for t in tried.values()) for key in RANKINGS}
    fair = [s for s in tried if all(tried[s]["whole"][key] >= best[key] - args.give for key in RANKINGS)] or list(tried)
    chosen = max(fair, key=lambda s: tried[s]["whole"]["mean"])
    print("| figure, val | " + " | ".join(f"{s:g}" for s in tried) + " |\n| --- |" + " --- |" * len(tried))
    for key in tried[chosen]["whole"]:
        print(f"| {key} | " + " | ".join(f"{t['whole'][key]:.3f}" for t in tried.values()) + " |")
    for kind, values in tried[chosen]["parts"].items():
        for group in values:
            print(f"| {kind}: {group} | " + " | ".join(f"{t['parts'][kind][group]:.2f}" for t in tried.values()) + " |")
    args.out.mkdir(parents=True, exist_ok=True)
    torch.save(between(first, second, chosen), args.out / "guard.pt")
    facts = json.loads((args.second / "train.json").read_text())
    facts["average"] = {
        "share_of_the_second": chosen, "first_sha256": sha256(args.first if args.first.is_file() else args.first / "guard.pt"), "second_sha256": sha256(args.second / "guard.pt"),
        "val": {f"{s:g}": t["whole"] for s, t in tried.items()},
    }  # fmt: skip
    if args.first.is_dir():
        facts["average"]["first"] = json.loads((args.first / "train.json").read_text())
    (args.out / "train.json").write_text(json.dumps(facts, indent=1))
    print(json.dumps({"chosen": chosen}))


if __name__ == "__main__":
    main()
