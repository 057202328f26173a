"""Calibration of the logits on val, and thresholds at a fixed false-positive rate."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from .data import Example
from .scoring import Array, softmax

RATES = {"fpr_0.5": 0.005, "fpr_1": 0.01}


def strongest(attack: Array) -> Array:
    """The logits of the window with the highest attack probability."""
    row: Array = attack[int(np.argmin(softmax(attack)[:, 0]))]
    return row


def fit_attack(logits: Array, target: NDArray[np.int64], weight: Array) -> tuple[float, Array]:
    """Temperature and per-class shift that minimise the weighted log loss (shift kept small)."""
    x, y, w = torch.tensor(logits), torch.tensor(target), torch.tensor(weight)
    log_scale, shift = torch.zeros(1, dtype=torch.float64, requires_grad=True), torch.zeros(3, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([log_scale, shift], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        loss = (torch.nn.functional.cross_entropy(x * log_scale.exp() + shift, y, reduction="none") * w).sum() / w.sum() + 1e-3 * (
            shift**2
        ).sum()
        loss.backward()
        return loss

    optimiser.step(closure)
    return float(log_scale.detach().exp()), (shift - shift.mean()).detach().numpy()


def fit_platt(logits: Array, target: Array, weight: Array) -> tuple[float, float]:
    """Scale and shift of one sigmoid."""
    x, y, w = torch.tensor(logits), torch.tensor(target), torch.tensor(weight)
    log_scale, shift = torch.zeros(1, dtype=torch.float64, requires_grad=True), torch.zeros(1, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([log_scale, shift], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        loss = (
            torch.nn.functional.binary_cross_entropy_with_logits(x * log_scale.exp() + shift, y, reduction="none") * w
        ).sum() / w.sum() + 1e-3 * (log_scale**2 + shift**2).sum()
        loss.backward()
        return loss

    optimiser.step(closure)
    return float(log_scale.detach().exp()), float(shift.detach())


def balance(groups: list[str]) -> Array:
    """Weights that give each source the square root of its size."""
    names, inverse, counts = np.unique(groups, return_inverse=True, return_counts=True)
    del names
    return 1.0 / np.sqrt(counts[inverse].astype(np.float64))


def benign_for_attack(example: Example) -> bool:
    """Counts for the false positives of the attack head: the benign kinds, generated ones included."""
    return (
        example.attack == 0
        and example.group != "attack/harmful_no_technique"
        and not example.group.startswith("harm/")
        and not any(example.harm)
    )


# "none" rows that are no evidence of harmlessness: labels that hang on unreadable emoji, "not sexist" (but perhaps hateful
# otherwise), answers to jailbreaks.
UNSURE = {"harm/hatemoji", "harm/edos_sexism", "harm/gptfuzz_responses", "attack/edos_posts", "attack/harmful_no_technique"}
# Real posts that were chosen because they are close to harm: ordinary traffic is not made of them.
CONTESTED = {"harm/tdavidson_tweets", "harm/toxigen_annotated", "harm/surge_toxicity"}
# Generated texts that were written because they are close to harm, or to an attack.
CLOSE_TO_HARM = {
    *("gen/polite", "gen/self_harm_safe", "gen/sexual_safe", "gen/violence_safe", "gen/danger", "gen/contrast_ok"),
    *("gen/self_harm_calm", "gen/sexual_calm", "gen/violence_calm", "gen/harassment_calm", "gen/hate_calm"),
}
EVERYDAY_SENSE = {"gen/danger", "gen/contrast_ok"}
"""Dangerous words in an everyday sense ("kill a process")."""
CLOSE_TO_ATTACK = {"gen/trigger", "gen/near_miss", "gen/small_talk_close", "gen/documents_close", "gen/heap", "gen/appended_ok"}
# What the thresholds take ordinary traffic to be made of. Contested posts are counted apart: a model tells generated texts apart more easily,
# so that in one heap they would leave real posts their whole share of the alarms.
SHARES = {
    "attack": {"real": 0.75, "generated": 0.25, "close": 0.0},
    "harm": {"real": 0.6, "generated": 0.3, "contested": 0.05, "close": 0.05},
}
# Look-alikes have limits of their own beside the budget: no more of them may be flagged. They are as many as the recipe happens to write, and
# a few held-out phrases make up most of them, so that as a share of traffic they would decide a threshold alone. The first numbers are those that
# the recipe aims at on look-alikes of others (NotInject, XSTest); they were set before any threshold had been measured there.
LOOK_ALIKES = {"attack": CLOSE_TO_ATTACK, "harm": EVERYDAY_SENSE}
LOOK_ALIKE_LIMIT = {"attack": {"fpr_0.5": 0.10, "fpr_1": 0.20}, "harm": {"fpr_0.5": 0.05, "fpr_1": 0.10}}
FLOOR = 0.25
"""No threshold below this calibrated probability, however quiet val is."""


def benign_for_harm(example: Example) -> bool:
    """Counts for the false positives of the harm head."""
    return not any(example.harm) and example.attack == 0 and min(example.harm_weight) >= 0.4 and example.group not in UNSURE


def origin_of(example: Example) -> str:
    """Where a text of this group would come from, in the words of a policy."""
    if example.group == "gen/answers" or example.group.endswith("_answers"):
        return "output"
    inside = ("attack/bipia", "gen/documents", "gen/documents_close", "gen/injection_hidden", "gen/bipia_hidden")
    return "tool_result" if example.group in inside else "user"


def stratum(example: Example, head: str) -> str:
    """The part of ordinary traffic that a benign text stands for."""
    if head == "harm" and example.group in CONTESTED:
        return "contested"
    if example.group in (CLOSE_TO_HARM if head == "harm" else CLOSE_TO_ATTACK):
        return "close"
    return "generated" if example.group.startswith("gen/") else "real"


def population(examples: Sequence[Example], head: str) -> Array:
    """Weights of the benign texts, which sum to one: those of a stratum share what it has alike."""
    names = [stratum(e, head) for e in examples]
    counts = Counter(names)
    whole = sum(SHARES[head][n] for n in counts)
    return np.array([SHARES[head][n] / whole / counts[n] for n in names])


def limited(examples: Sequence[Example], scores: Array, head: str, key: str) -> Array:
    """Thresholds of the columns of ``scores`` (benign texts): within the budget of ``key`` on ordinary traffic, and within the limit on look-alikes."""
    cuts = shared_thresholds(scores, RATES[key], population(examples, head))
    alike = np.array([e.group in LOOK_ALIKES[head] for e in examples])
    if not alike.any():
        return cuts
    even = np.full(int(alike.sum()), 1.0 / alike.sum())
    return np.maximum(cuts, shared_thresholds(scores[alike], LOOK_ALIKE_LIMIT[head][key], even))


def quantile_threshold(scores: Array, rate: float, weight: Array | None = None) -> float:
    """Smallest score that at most ``rate`` of the (weighted) population exceeds strictly."""
    w = np.full(len(scores), 1.0 / len(scores)) if weight is None else weight
    order = np.argsort(-scores, kind="stable")
    above = np.cumsum(w[order])  # weight of the scores down to and including this one
    return float(scores[order][int(np.searchsorted(above, rate, side="right"))]) if rate < above[-1] else float(scores.min())


def shared_thresholds(scores: Array, rate: float, weight: Array, floor: float = FLOOR) -> Array:
    """One threshold a column such that all columns together flag at most ``rate`` of the population.

    The budget is shared evenly: every column is cut at the same quantile, which is widened until the union is
    spent.
    """

    def cut(share: float) -> Array:
        return np.maximum([quantile_threshold(scores[:, j], share, weight) for j in range(scores.shape[1])], floor)

    low, high = 0.0, rate
    for _ in range(40):
        middle = (low + high) / 2
        if float(weight[(scores > cut(middle)).any(axis=1)].sum()) <= rate:
            low = middle
        else:
            high = middle
    return cut(low)


def expected_calibration_error(p: Array, y: Array, bins: int = 10) -> float:
    """Mean gap between confidence and frequency over equal-width bins."""
    which = np.minimum((p * bins).astype(int), bins - 1)
    return float(sum(abs(p[which == b].mean() - y[which == b].mean()) * (which == b).mean() for b in range(bins) if (which == b).any()))


def reliability(p: Array, y: Array, bins: int = 10) -> list[tuple[int, float, float]]:
    """For each filled bin of equal width: rows, mean probability, share of positives."""
    which = np.minimum((p * bins).astype(int), bins - 1)
    rows = [which == b for b in range(bins)]
    return [(int(k.sum()), round(float(p[k].mean()), 3), round(float(y[k].mean()), 3)) for k in rows if k.any()]
