#!/usr/bin/env python3
"""Records what the Python package lime says of a few texts under the shipped model, for tests/it/lime.rs.

    make lime-record        (about two minutes on 2 cores; again after every change of the weights)

Twice, with different seeds: how far lime agrees with itself is the measure of how far anything else can agree with it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort
from lime.lime_text import LimeTextExplainer
from tokenizers import Tokenizer

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
SAMPLES, WORDS = 3000, 10


class Model:
    """The shipped weights, scored as the gateway scores a short text: windows at batch 1, the maximum kept."""

    def __init__(self, folder: Path) -> None:
        self.manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        files = self.manifest["files"]
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = ort.InferenceSession(str(folder / files["weights"]["path"]), options, providers=["CPUExecutionProvider"])
        self.tokenizer = Tokenizer.from_file(str(folder / files["tokenizer"]["path"]))
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()
        self.known: dict[str, list[float]] = {}

    def labels(self) -> list[str]:
        """Full names, a head's derived label after its own."""
        out = []
        for head in self.manifest["heads"]:
            names = head["labels"] + ([head["any"]] if head.get("any") else [])
            out += [f"{head['name']}.{name}" for name in names]
        return out

    def scores(self, text: str) -> list[float]:
        """One probability a label."""
        if text not in self.known:
            ids = self.tokenizer.encode(text, add_special_tokens=False).ids
            content = self.manifest["window"]["tokens"] - 2
            assert len(ids) <= content, "the texts here are shorter than a window"
            self.known[text] = self.window(ids) if ids else [0.0] * len(self.labels())
        return self.known[text]

    def window(self, ids: list[int]) -> list[float]:
        """One run of the model."""
        first, last = self.tokenizer.token_to_id("[CLS]"), self.tokenizer.token_to_id("[SEP]")
        row = np.asarray([[first, *ids, last]], dtype=np.int64)
        heads = self.manifest["heads"]
        outputs = self.session.run([head["output"] for head in heads], {"input_ids": row, "attention_mask": np.ones_like(row)})
        out: list[float] = []
        for head, (logits,) in zip(heads, outputs, strict=True):
            if head["activation"] == "sigmoid":
                out += (1 / (1 + np.exp(-logits))).tolist()
                continue
            p = np.exp(logits - logits.max())
            p /= p.sum()
            out += p.tolist()
            if head.get("any"):
                out.append(float(1 - p[head["labels"].index(head["negative"])]))
        return out


def main() -> None:
    """Explain every text twice and write the fixture."""
    model = Model(ROOT / "models" / "guard")
    labels = model.labels()
    cases = []
    for line in (HERE / "texts.txt").read_text(encoding="utf-8").splitlines():
        label, text = line.split("\t")
        runs = []
        for seed in (0, 1):
            explainer = LimeTextExplainer(random_state=seed)
            found = explainer.explain_instance(
                text,
                lambda texts: np.asarray([model.scores(t) for t in texts]),
                labels=[labels.index(label)],
                num_features=WORDS,
                num_samples=SAMPLES,
            )
            runs.append([[word, round(float(weight), 5)] for word, weight in found.as_list(label=labels.index(label))])
        score = round(model.scores(text)[labels.index(label)], 5)
        cases.append({"label": label, "text": text, "score": score, "r2": round(float(found.score), 4), "words": runs[0], "again": runs[1]})
        print(f"{score:.3f} {label}: {', '.join(word for word, _ in runs[0][:5])}", file=sys.stderr)
    head = f'{{"revision": {json.dumps(model.manifest["revision"])}, "samples": {SAMPLES}, "cases": [\n'
    body = ",\n".join(json.dumps(case, ensure_ascii=False) for case in cases)
    (ROOT / "tests" / "fixtures" / "lime.json").write_text(f"{head}{body}\n]}}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
