"""From texts to windows of token ids, and to length-bucketed batches."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor

from .data import Example

WINDOW = 128
"""Tokens of one window, [CLS] and [SEP] included."""
CONTENT = WINDOW - 2
STRIDE = 96
"""Content tokens from the start of one window to the start of the next."""
CLS, SEP, PAD = 101, 102, 0


def plain_tokenizer(source: Path) -> Tokenizer:
    """The encoder's tokenizer without truncation and padding."""
    made = json.loads(source.read_text(encoding="utf-8"))
    made["truncation"], made["padding"] = None, None
    return Tokenizer.from_str(json.dumps(made))


def windows(ids: Sequence[int]) -> list[list[int]]:
    """All windows of a text given its content token ids; the last one reaches the end."""
    out = []
    start = 0
    while True:
        out.append([CLS, *ids[start : start + CONTENT], SEP])
        if start + CONTENT >= len(ids):
            return out
        start += STRIDE


def crop(ids: Sequence[int], offsets: Sequence[tuple[int, int]], example: Example, rng: random.Random) -> list[int]:
    """One training window: around the attack, at an end, or anywhere."""
    if len(ids) <= CONTENT:
        if example.focus is None and len(ids) > 40 and example.attack == 0 and rng.random() < 0.15:
            size = rng.randint(12, len(ids))  # benign fragments of all lengths
            start = rng.randint(0, len(ids) - size)
            return [CLS, *ids[start : start + size], SEP]
        return [CLS, *ids, SEP]
    last = len(ids) - CONTENT
    if example.focus is not None:
        low = next((i for i, (_, end) in enumerate(offsets) if end > example.focus[0]), 0)
        high = next((i for i, (start, _) in enumerate(offsets) if start >= example.focus[1]), len(ids))
        if high - low >= CONTENT:
            start = rng.randint(low, max(low, high - CONTENT))
        else:
            start = rng.randint(max(0, high - CONTENT), low)
    elif example.ends:
        start = 0 if rng.random() < 0.6 else last
    else:
        start = rng.choice([0, rng.randint(0, last), rng.randint(0, last)])
    start = min(start, last)
    return [CLS, *ids[start : start + CONTENT], SEP]


@dataclass
class Batch:
    """Tensors of one step."""

    ids: Tensor
    mask: Tensor
    attack: Tensor
    attack_weight: Tensor
    harm: Tensor
    harm_weight: Tensor


def collate(rows: Sequence[tuple[list[int], Example]]) -> Batch:
    """Pad to the longest row."""
    longest = max(len(ids) for ids, _ in rows)
    ids = torch.full((len(rows), longest), PAD, dtype=torch.long)
    for i, (row, _) in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row)
    examples = [e for _, e in rows]
    known = torch.tensor([float(e.attack >= 0) for e in examples])
    return Batch(
        ids, (ids != PAD).long(), torch.tensor([max(0, e.attack) for e in examples]), torch.tensor([e.attack_weight for e in examples]) * known,
        torch.tensor([e.harm for e in examples]), torch.tensor([e.harm_weight for e in examples]),
    )  # fmt: skip


def cropped(examples: Sequence[Example], tokenizer: Tokenizer, rng: random.Random) -> list[tuple[list[int], Example]]:
    """Every example with its training window."""
    out = []
    for start in range(0, len(examples), 1024):
        part = examples[start : start + 1024]
        for encoding, example in zip(tokenizer.encode_batch([e.text for e in part], add_special_tokens=False), part, strict=True):
            if encoding.ids:
                out.append((crop(encoding.ids, encoding.offsets, example, rng), example))
    return out


def bucketed(rows: Sequence[tuple[list[int], Example]], size: int, rng: random.Random, pool: int = 40) -> Iterator[Batch]:
    """Shuffled batches of nearly equal lengths: sort inside pools of ``pool`` batches."""
    order = list(range(len(rows)))
    rng.shuffle(order)
    for start in range(0, len(order), size * pool):
        part = sorted(order[start : start + size * pool], key=lambda i: len(rows[i][0]))
        batches = [part[i : i + size] for i in range(0, len(part), size)]
        rng.shuffle(batches)
        for batch in batches:
            yield collate([rows[i] for i in batch])
