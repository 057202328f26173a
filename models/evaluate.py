#!/usr/bin/env python3
"""Benchmark tables of the shipped int8 weights, as markdown.

    python evaluate.py --data DATA --model guard [--fp32 WORK/model.fp32.onnx] [--write tables.md]

Texts are scored by windows at batch 1, the maximum is kept. The gateway's normaliser is not applied here.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recipe.augment import leet, look_alikes, shouting, spaced, squeezed, typos
from recipe.data import Row, read_rows, sha256
from recipe.labels import CATEGORIES
from recipe.mixture import Mixture
from recipe.scoring import LABELS, Array, Scorer, auprc, auroc, interval

Bools = NDArray[np.bool_]
HARM = slice(LABELS.index("harm.hate"), LABELS.index("harm.hate") + 6)
ATTACK = LABELS.index("prompt_attack.attack")
RATES = ("fpr_0.5", "fpr_1")


def table(title: str, head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """One markdown table."""
    lines = [f"\n### {title}\n", "| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(str(c) for c in row) + " |" for row in rows)])


def share(flags: Bools) -> str:
    """A share in percent with its count."""
    return f"{100 * flags.mean():.1f} % ({int(flags.sum())}/{len(flags)})"


def with_interval(metric: Any, score: Array, positive: Bools) -> str:
    """Metric with a 95 % bootstrap interval."""
    low, high = interval(metric, score, positive)
    return f"{metric(score, positive):.3f} ({low:.3f}-{high:.3f})"


class Report:
    """Scores every set once and collects tables and figures."""

    def __init__(self, data: Path, model: Path, fp32: Path | None) -> None:
        self.limits = json.loads((model / "manifest.json").read_text(encoding="utf-8"))["thresholds"]
        self.int8 = Scorer(model / "model.int8.onnx", model / "tokenizer.json")
        self.fp32 = Scorer(fp32, model / "tokenizer.json") if fp32 else None
        self.attack_rows, self.harm_rows = read_rows(data, "prompt_attack"), read_rows(data, "harm")
        self.data = data
        self.parts: list[str] = []
        self.figures: dict[str, Any] = {}
        self.agreement: list[tuple[str, float, float]] = []

    def attack_flags(self, scores: Array, rate: str) -> Bools:
        """Texts that the attack head flags at a threshold."""
        flags: Bools = np.asarray(scores[:, ATTACK] >= self.limits["prompt_attack"]["attack"][rate])
        return flags

    def harm_flags(self, scores: Array, rate: str) -> Bools:
        """Texts that any harm label flags at its threshold."""
        cut = np.array([self.limits["harm"][c][rate] for c in CATEGORIES])
        flags: Bools = np.asarray((scores[:, HARM] >= cut).any(axis=1))
        return flags

    def score(self, rows: Sequence[Row], label: str) -> Array:
        """int8 scores of rows."""
        return self.int8.scores([r["text"] for r in rows], label)

    def compare(self, rows: Sequence[Row], int8: Array, name: str, column: int | slice, positive: Bools) -> None:
        """AUROC of int8 beside fp32."""
        if self.fp32 is None:
            return
        other = self.fp32.scores([r["text"] for r in rows], f"fp32 {name}")
        pick = lambda s: s[:, column] if isinstance(column, int) else s[:, column].max(axis=1)  # noqa: E731
        self.agreement.append((name, auroc(pick(int8), positive), auroc(pick(other), positive)))

    # ------------------------------------------------------------ benchmarks

    def openai(self) -> None:
        """OpenAI moderation: by category (annotated rows only) and any-harm."""
        rows = [r for r in self.harm_rows if r["source"] == "openai_moderation_1680"]
        scores = self.score(rows, "openai moderation")
        lines: list[list[object]] = []
        figures: dict[str, Any] = {}
        positive = np.array([r["label"] != ["none"] for r in rows])
        length = np.array([float(len(r["text"])) for r in rows])
        five = scores[:, HARM][:, :5].max(axis=1)
        six = scores[:, HARM].max(axis=1)
        for name, column in (
            ("any harm, five labels of the set", five),
            ("any harm, six labels (with illicit)", six),
            ("length only", length),
        ):
            lines.append([name, int(positive.sum()), with_interval(auroc, column, positive), with_interval(auprc, column, positive)])
            figures[name] = {"auroc": round(auroc(column, positive), 4), "auprc": round(auprc(column, positive), 4)}
        for j, name in enumerate(CATEGORIES[:5]):
            keep = np.array([name in r.get("annotated", CATEGORIES) for r in rows])
            y, s = np.array([name in r["label"] for r in rows])[keep], scores[keep][:, HARM][:, j]
            lines.append([name, int(y.sum()), with_interval(auroc, s, y), with_interval(auprc, s, y)])
            figures[name] = {"auroc": round(auroc(s, y), 4), "auprc": round(auprc(s, y), 4)}
        self.parts.append(table("OpenAI moderation (1,653 rows)", ["score", "positives", "AUROC", "AUPRC"], lines))
        flagged = [[r, share(self.harm_flags(scores, r)[positive]), share(self.harm_flags(scores, r)[~positive])] for r in RATES]
        self.parts.append(
            table("OpenAI moderation at the shipped thresholds (any of six)", ["threshold", "recall", "false positives"], flagged)
        )
        self.figures["openai_moderation"] = figures
        self.compare(rows, scores, "OpenAI moderation, any harm", slice(HARM.start, HARM.start + 5), positive)

    def deepset(self) -> None:
        """deepset: AUROC, recall and false positives, by language."""
        rows = [r for r in self.attack_rows if r["source"] == "deepset_prompt_injections"]
        scores = self.score(rows, "deepset")
        positive = np.array([r["label"] != "benign" for r in rows])
        lang = np.array([r["lang"] for r in rows])
        lines = []
        for name, keep in (("all", np.ones(len(rows), dtype=bool)), ("en", lang == "en"), ("de", lang == "de")):
            s, y = scores[keep], positive[keep]
            if y.any() and not y.all():
                lines.append(
                    [
                        name,
                        len(y),
                        with_interval(auroc, s[:, ATTACK], y),
                        *(f"{share(self.attack_flags(s, r)[y])} / {share(self.attack_flags(s, r)[~y])}" for r in RATES),
                    ]
                )
        length = np.array([float(len(r["text"])) for r in rows])
        lines.append(["length only", len(rows), with_interval(auroc, length, positive), "", ""])
        self.parts.append(
            table("deepset prompt injections", ["rows", "count", "AUROC", "recall / false positives at fpr_0.5", "at fpr_1"], lines)
        )
        self.figures["deepset"] = {"auroc": round(auroc(scores[:, ATTACK], positive), 4)} | {
            r: {
                "recall": round(float(self.attack_flags(scores, r)[positive].mean()), 4),
                "fpr": round(float(self.attack_flags(scores, r)[~positive].mean()), 4),
            }
            for r in RATES
        }
        self.compare(rows, scores, "deepset, attack", ATTACK, positive)

    def over_defence(self) -> None:
        """NotInject and XSTest: benign texts that must pass, and XSTest's unsafe contrasts."""
        lines = []
        for name in ("notinject", "xstest_safe"):
            rows = [r for r in self.attack_rows if r["source"] == name]
            scores = self.score(rows, name)
            self.figures[name] = {}
            for rate in RATES:
                attack, harm = self.attack_flags(scores, rate), self.harm_flags(scores, rate)
                lines.append([name, rate, share(~attack), share(~harm), share(attack | harm)])
                self.figures[name][rate] = {
                    "attack_pass": round(float(1 - attack.mean()), 4),
                    "harm_pass": round(float(1 - harm.mean()), 4),
                    "flagged_by_any": round(float((attack | harm).mean()), 4),
                }
        self.parts.append(
            table(
                "Over-defence: benign texts that pass",
                ["set", "threshold", "attack head passes", "harm head passes", "flagged by any head"],
                lines,
            )
        )
        rows = [r for r in self.harm_rows if r["source"] == "xstest"]
        scores = self.score(rows, "xstest")
        positive = np.array([r["label"] != ["none"] for r in rows])
        six = scores[:, HARM].max(axis=1)
        lines = [[with_interval(auroc, six, positive), *(share(self.harm_flags(scores, r)[positive]) for r in RATES)]]
        self.parts.append(
            table("XSTest: unsafe against safe prompts, harm head", ["AUROC", "unsafe flagged at fpr_0.5", "at fpr_1"], lines)
        )
        self.figures["xstest"] = {"auroc": round(auroc(six, positive), 4)} | {
            r: {"unsafe_flagged": round(float(self.harm_flags(scores, r)[positive].mean()), 4)} for r in RATES
        }
        self.compare(rows, scores, "XSTest, any harm", HARM, positive)

    # ------------------------------------------------------------ same sources, other rows

    def in_source(self) -> None:
        """The test split: flattering, for comparison between our own runs."""
        rng = random.Random(5)
        rows = [r for r in self.attack_rows if r["split"] == "test" and r.get("kind") != "harmful_no_technique"]
        rows = rng.sample(rows, min(1200, len(rows)))
        scores = self.score(rows, "test, attack")
        positive = np.array([r["label"] != "benign" for r in rows])
        length = np.array([float(len(r["text"])) for r in rows])
        lines: list[list[object]] = [
            [
                "prompt_attack",
                int(positive.sum()),
                with_interval(auroc, scores[:, ATTACK], positive),
                f"{auroc(length, positive):.3f}",
                *(f"{share(self.attack_flags(scores, r)[positive])} / {share(self.attack_flags(scores, r)[~positive])}" for r in RATES),
            ]
        ]
        self.figures["test"] = {"prompt_attack": {"auroc": round(auroc(scores[:, ATTACK], positive), 4)}}
        for source in sorted({r["source"] for r in rows if r["label"] != "benign"}):
            keep = np.array([r["source"] == source and r["label"] != "benign" for r in rows])
            lines.append([f"recall on {source}", int(keep.sum()), "", "", *(share(self.attack_flags(scores, r)[keep]) for r in RATES)])
        rows = [r for r in self.harm_rows if r["split"] == "test" and not r.get("truncated")]
        rows = rng.sample(rows, min(1500, len(rows)))
        scores = self.score(rows, "test, harm")
        length = np.array([float(len(r["text"])) for r in rows])
        none = np.array([r["label"] == ["none"] for r in rows])
        for j, name in enumerate(CATEGORIES):
            y = np.array([name in r["label"] for r in rows])
            keep = y | none
            s = scores[:, HARM][:, j]
            lines.append(
                [
                    f"harm.{name}",
                    int(y.sum()),
                    with_interval(auroc, s[keep], y[keep]),
                    f"{auroc(length[keep], y[keep]):.3f}",
                    *(f"{share(s[y] >= self.limits['harm'][name][r])} / {share(s[none] >= self.limits['harm'][name][r])}" for r in RATES),
                ]
            )
            self.figures["test"][name] = {"auroc": round(auroc(s[keep], y[keep]), 4)}
        self.parts.append(
            table(
                "Test split of the training sources",
                ["score", "positives", "AUROC", "length only", "recall / false positives at fpr_0.5", "at fpr_1"],
                lines,
            )
        )

    def generated(self) -> None:
        """Generated kinds with phrases that training held out."""
        examples = Mixture(self.data, "test", 99).generated(60)
        scores = self.int8.scores([e.text for e in examples], "generated")
        lines = []
        for group in dict.fromkeys(e.group for e in examples):
            keep = np.array([e.group == group for e in examples])
            lines.append(
                [
                    group.removeprefix("gen/"),
                    *(f"{share(self.attack_flags(scores[keep], r))}, {share(self.harm_flags(scores[keep], r))}" for r in RATES),
                ]
            )
        self.parts.append(
            table(
                "Generated kinds, held-out phrases: flagged by the attack head, by the harm head", ["kind", "at fpr_0.5", "at fpr_1"], lines
            )
        )

    def other_benign(self) -> None:
        """Ordinary texts of the folder's other tasks, never trained on but for hh-rlhf, whose train split was."""
        rng = random.Random(3)
        rows = read_rows(self.data, "preference")
        preference = [r for r in rows if r["source"] in ("vicuna_gpt4_reviews", "pandalm_testset")]
        provoked = [r for r in rows if r["source"] == "hh_rlhf_harmless_test" and r["split"] == "test"]
        sets = {
            "sentences with personal data (pii)": [r["text"] for r in read_rows(self.data, "pii")],
            "prompts (vicuna, pandalm)": sorted({r["prompt"] for r in preference}),
            "answers of models (vicuna, pandalm)": sorted({r["response_a"] for r in preference}),
            "answers to provocation (hh-rlhf, test split; some are harmful)": sorted({r["response_a"] for r in provoked}),
        }
        lines = []
        for name, texts in sets.items():
            scores = self.int8.scores(rng.sample(texts, min(300, len(texts))), name)
            lines.append(
                [name, len(scores), *(f"{share(self.attack_flags(scores, r))}, {share(self.harm_flags(scores, r))}" for r in RATES)]
            )
            self.figures.setdefault("other_benign", {})[name] = {
                r: round(float((self.attack_flags(scores, r) | self.harm_flags(scores, r)).mean()), 4) for r in RATES
            }
        self.parts.append(
            table(
                "Benign texts of other tasks: flagged by the attack head, by the harm head",
                ["texts", "count", "at fpr_0.5", "at fpr_1"],
                lines,
            )
        )

    def obfuscated(self) -> None:
        """Recall on deepset's attacks when they are obfuscated, without the normaliser."""
        rows = [r for r in self.attack_rows if r["source"] == "deepset_prompt_injections" and r["label"] != "benign"]
        lines = []
        for name, change in (
            ("as they are", None),
            ("leet", leet),
            ("typos", typos),
            ("letters apart", spaced),
            ("spaces lost", squeezed),
            ("look-alike letters", look_alikes),
            ("upper case", shouting),
        ):
            rng = random.Random(11)
            scores = self.int8.scores([change(r["text"], rng) if change else r["text"] for r in rows], name)
            lines.append([name, *(share(self.attack_flags(scores, r)) for r in RATES)])
        self.parts.append(
            table("deepset attacks under obfuscation, raw (no normaliser): recall", ["obfuscation", "fpr_0.5", "fpr_1"], lines)
        )

    def markdown(self) -> str:
        """All tables."""
        if self.agreement:
            self.parts.append(
                table(
                    "int8 against fp32, AUROC",
                    ["set", "int8", "fp32", "difference"],
                    [[n, f"{a:.4f}", f"{b:.4f}", f"{a - b:+.4f}"] for n, a, b in self.agreement],
                )
            )
            self.figures["int8_vs_fp32"] = {n: {"int8": round(a, 4), "fp32": round(b, 4)} for n, a, b in self.agreement}
        return "\n".join(self.parts) + "\n"


def main() -> None:
    """Parse the command line and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True, help="folder with manifest.json")
    parser.add_argument("--fp32", type=Path, help="fused fp32 ONNX file to compare with")
    parser.add_argument("--write", type=Path, help="also write the tables here")
    parser.add_argument("--record", action="store_true", help="put the benchmark figures into the manifest's metrics")
    parser.add_argument("--no-benchmarks", action="store_true", help="only the test split and the generated kinds (for work on the recipe)")
    args = parser.parse_args()
    report = Report(args.data, args.model, args.fp32)
    if not args.no_benchmarks:
        report.openai()
        report.deepset()
        report.over_defence()
        report.obfuscated()
    report.other_benign()
    report.in_source()
    report.generated()
    text = report.markdown()
    print(text)
    if args.write:
        args.write.write_text(text, encoding="utf-8")
    if args.record:
        path = args.model / "manifest.json"
        manifest = json.loads(path.read_text(encoding="utf-8"))
        if manifest["files"]["weights"]["sha256"] != sha256(args.model / "model.int8.onnx"):
            raise SystemExit("the manifest does not belong to these weights")
        manifest["metrics"]["benchmarks"] = report.figures
        path.write_text(json.dumps(manifest, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
