"""Scoring with onnxruntime as the gateway does it: windows one at a time, maximum kept; and the metrics."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from tokenizers import Tokenizer
from tqdm import tqdm

from .batches import plain_tokenizer, windows
from .labels import ATTACK, CATEGORIES

Array = NDArray[np.float64]
LABELS = (*(f"prompt_attack.{n}" for n in ATTACK), "prompt_attack.attack", *(f"harm.{n}" for n in CATEGORIES))


class Scorer:
    """An ONNX file and a tokenizer; ``logits`` gives every window, ``scores`` one row a text."""

    def __init__(self, weights: Path, tokenizer: Path, threads: int = 1) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self.session = ort.InferenceSession(str(weights), options, providers=["CPUExecutionProvider"])
        self.tokenizer: Tokenizer = plain_tokenizer(tokenizer)

    def windows_of(self, text: str) -> list[list[int]]:
        """Token ids of every window."""
        return windows(self.tokenizer.encode(text, add_special_tokens=False).ids)

    def window_logits(self, ids: Sequence[int]) -> tuple[Array, Array]:
        """Logits of one window at batch 1."""
        row = np.asarray([ids], dtype=np.int64)
        attack, harm = self.session.run(["prompt_attack", "harm"], {"input_ids": row, "attention_mask": np.ones_like(row)})
        return attack[0].astype(np.float64), harm[0].astype(np.float64)

    def logits(self, texts: Sequence[str], label: str = "score") -> list[tuple[Array, Array]]:
        """Logits [windows, 3] and [windows, 6] of every text."""
        out = []
        for text in tqdm(texts, desc=label, mininterval=5, disable=len(texts) < 20):
            pairs = [self.window_logits(ids) for ids in self.windows_of(text)]
            out.append((np.stack([a for a, _ in pairs]), np.stack([h for _, h in pairs])))
        return out

    def scores(self, texts: Sequence[str], label: str = "score") -> Array:
        """Probabilities [texts, LABELS]: the maximum over the windows (benign: the minimum)."""
        return np.stack([combine(a, h) for a, h in self.logits(texts, label)])


def softmax(logits: Array) -> Array:
    """Row-wise softmax."""
    e = np.exp(logits - logits.max(axis=-1, keepdims=True))
    p: Array = e / e.sum(axis=-1, keepdims=True)
    return p


def sigmoid(logits: Array) -> Array:
    """Logistic function."""
    return 1.0 / (1.0 + np.exp(-np.clip(logits, -60, 60)))


def combine(attack: Array, harm: Array) -> Array:
    """All label scores of one text from the logits of its windows."""
    p = softmax(attack)
    return np.concatenate([[p[:, 0].min(), p[:, 1].max(), p[:, 2].max(), (1.0 - p[:, 0]).max()], sigmoid(harm).max(axis=0)])


def auroc(score: Array, positive: NDArray[np.bool_]) -> float:
    """Area under the ROC curve (ties count half)."""
    if positive.all() or not positive.any():
        return float("nan")
    _, inverse, counts = np.unique(score, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2.0)[inverse]
    n = int(positive.sum())
    return float((ranks[positive].sum() - n * (n + 1) / 2) / (n * (len(score) - n)))


def auprc(score: Array, positive: NDArray[np.bool_]) -> float:
    """Average precision."""
    if not positive.any():
        return float("nan")
    order = np.argsort(-score, kind="stable")
    hits = positive[order]
    last = np.r_[score[order][1:] != score[order][:-1], True]  # one point for each distinct score
    found, total = np.cumsum(hits)[last], np.flatnonzero(last) + 1
    recall = np.r_[0.0, found / hits.sum()]
    return float(np.sum(np.diff(recall) * found / total))


def interval(metric: object, score: Array, positive: NDArray[np.bool_], rounds: int = 300, seed: int = 7) -> tuple[float, float]:
    """95 % bootstrap interval of a metric(score, positive)."""
    rng = np.random.default_rng(seed)
    values = []
    for _ in range(rounds):
        pick = rng.integers(0, len(score), len(score))
        value = metric(score[pick], positive[pick])  # type: ignore[operator]
        if np.isfinite(value):
            values.append(value)
    return (float(np.percentile(values, 2.5)), float(np.percentile(values, 97.5))) if values else (float("nan"), float("nan"))
