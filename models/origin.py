#!/usr/bin/env python3
"""Does it help to know where a text comes from? Two short runs that differ in nothing else.

python origin.py --data DATA --init guard/model.int8.onnx

Both arms continue the same weights with the same rows, seed and order, and train the last two layers and the attack head. Every text starts with
one spare token: in the arm "with" it says user, tool or answer, in the arm "without" it is always the same. The requests that BIPIA hides in
documents stand in the training rows twice: within a tool's text, where they are injections, and alone from the user, where they are benign.
Measured on val; no benchmark row is read.
"""

from __future__ import annotations

import argparse
import json
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from export import torch_logits
from recipe import calibrate as cal
from recipe.batches import SEP, bucketed, cropped, plain_tokenizer
from recipe.data import Example
from recipe.mixture import SHARES, Mixture
from recipe.network import Guard, encoder_folder
from recipe.scoring import auroc, combine
from train import optimiser_of, scale_of, start_from

SPARE = {"user": 1, "tool": 2, "answer": 3}
"""Ids of [unused0] and the next two, which no text contains."""
MAKERS = ("gen/injection", "gen/direct", "gen/family", "gen/jailbreak", "gen/injection_hidden", "gen/bipia_hidden", "gen/documents", "gen/everyday", "gen/trigger", "gen/near_miss", "gen/answers")  # fmt: skip


def origin_of(example: Example) -> str:
    """Where a text of this group would come from."""
    if example.group in ("gen/answers",):
        return "answer"
    inside = ("attack/bipia", "gen/injection_hidden", "gen/bipia_hidden", "gen/documents")
    return "tool" if example.group in inside else "user"


def texts(mixture: Mixture, count: int, rng: random.Random) -> list[Example]:
    """Rows of the attack task, generated texts, and BIPIA's requests as a user would send them."""
    names = [*MAKERS, *(n for n in SHARES if n.startswith("attack/") and n not in ("attack/hh_rlhf_harmless_test", "attack/edos_posts"))]
    weights = [8.0 if n.startswith("attack/bipia") else SHARES[n] for n in names]
    out = []
    for name in rng.choices(names, weights, k=count):
        example = mixture.draw(name)
        if example is not None:
            out.append(replace(example, attack_weight=1.0) if name.startswith("attack/bipia") else example)
    twins = [Example(rng.choice(mixture.hidden), "twin", attack=0) for _ in range(count // 12)] if mixture.hidden else []
    return out + twins


def main() -> None:
    """Parse the command line, train both arms and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--init", type=Path, required=True, help="a checkpoint folder or a shipped int8 .onnx file")
    parser.add_argument("--examples", type=int, default=6400)
    parser.add_argument("--check", type=int, default=1200, help="val texts")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    encoder = encoder_folder()
    tokenizer = plain_tokenizer(encoder / "tokenizer.json")
    train = texts(Mixture(args.data, "train", args.seed), args.examples, random.Random(args.seed))
    val = texts(Mixture(args.data, "val", args.seed), args.check, random.Random(args.seed))
    val = list({e.text: e for e in val}.values())
    rows = cropped(train, tokenizer, random.Random(args.seed))
    lines = []
    for arm in ("without", "with"):
        torch.manual_seed(args.seed)

        def marked(ids: list[int], example: Example, arm: str = arm) -> list[int]:
            token = SPARE[origin_of(example) if arm == "with" else "user"]
            return [ids[0], token, *(ids[1:] if len(ids) < 128 else [*ids[1:-2], SEP])]

        model = Guard(encoder)
        start_from(model, args.init)
        model.freeze_embeddings()
        for layer in model.encoder.encoder.layer[:-2]:
            layer.requires_grad_(requires_grad=False)
        model.train()
        optimiser = optimiser_of(model, 1.5e-4, 5e-4, 0.0, 0.01)
        prepared = [(marked(ids, e), e) for ids, e in rows]
        steps = -(-len(prepared) // 32)
        for step, batch in enumerate(tqdm(bucketed(prepared, 32, random.Random(args.seed)), total=steps, desc=arm, mininterval=10)):
            for group in optimiser.param_groups:
                group["lr"] = group["peak"] * scale_of(step, 10, step / steps)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                attack, _ = model(batch.ids, batch.mask)
            loss = nn.functional.cross_entropy(attack.float(), batch.attack, reduction="none", label_smoothing=0.02) * batch.attack_weight
            optimiser.zero_grad(set_to_none=True)
            (loss.sum() / batch.attack_weight.sum()).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
        model.eval()
        scores = np.array([combine(a, h)[3] for a, h in torch_logits(model, [e.text for e in val], tokenizer, [SPARE[origin_of(e) if arm == "with" else "user"] for e in val])])
        attack_row = np.array([e.attack > 0 for e in val])
        group = np.array([e.group for e in val])
        bipia, twin = np.isin(group, ("attack/bipia", "gen/bipia_hidden")), group == "twin"
        cut = cal.quantile_threshold(scores[~attack_row], 0.01)
        found = {
            "arm": arm, "steps": steps, "val texts": len(val),
            "all, AUROC": auroc(scores, attack_row), "all, recall at 1 %": float((scores[attack_row] > cut).mean()),
            "BIPIA, AUROC within tool texts": auroc(scores[bipia], attack_row[bipia]),
            "BIPIA, recall at 1 %": float((scores[bipia & attack_row] > cut).mean()),
            "same requests from the user, AUROC against BIPIA": auroc(scores[(bipia & attack_row) | twin], attack_row[(bipia & attack_row) | twin]),
            "other attacks, recall at 1 %": float((scores[attack_row & ~bipia] > cut).mean()),
        }  # fmt: skip
        lines.append({k: round(v, 4) if isinstance(v, float) else v for k, v in found.items()})
        print(json.dumps(lines[-1]), flush=True)
    print("| figure, val | without | with the origin |\n| --- | --- | --- |")
    for key in list(lines[0])[1:]:
        print(f"| {key} | {lines[0][key]} | {lines[1][key]} |")


if __name__ == "__main__":
    main()
