#!/usr/bin/env python3
"""Make the form of the committed weights that a GPU serves: the same weights, no longer quantised, in half precision.

python gpu.py --model guard

Integer kernels for dynamically quantised graphs exist for CPUs only. The result differs from the int8 form in the
activations, which are not rounded to eight bits, so it gets a self-test of its own, measured here on the CPU. Writes
`model.fp16.onnx` and `gpu.json` into the model's folder; the manifest stays as it is.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import tokenizers
from onnx import helper, numpy_helper
from onnxruntime.transformers.float16 import convert_float_to_float16

# How far a probability may lie from that of the int8 form.
WITHIN = 0.15


class Float:
    """A quantised graph on its way back to floating point."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.graph = model.graph
        self.constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
        self.makers = {name: node for node in model.graph.node for name in node.output}
        self.users: dict[str, list[onnx.NodeProto]] = {}
        for node in model.graph.node:
            for name in node.input:
                self.users.setdefault(name, []).append(node)
        self.gone: set[str] = set()

    def weight(self, name: str, scale: str, zero: str) -> str:
        """Add the floating-point form of a quantised constant, and say its name."""
        values, point = self.constants[name].astype(np.float32), self.constants[zero].astype(np.float32)
        made = f"{name}_float"
        self.graph.initializer.append(numpy_helper.from_array(((values - point) * self.constants[scale]).astype(np.float32), made))
        return made

    def remove(self, *nodes: onnx.NodeProto) -> None:
        """Note nodes that the new ones replace."""
        self.gone.update(output for node in nodes for output in node.output)

    def attention(self, node: onnx.NodeProto) -> onnx.NodeProto:
        """QAttention as Attention."""
        quantised, weight, bias, _, scale, mask, _, zero = node.input[:8]
        source = self.makers[quantised].input[0]
        kept = [helper.make_attribute(a.name, helper.get_attribute_value(a)) for a in node.attribute if a.name in ("num_heads", "unidirectional")]
        made = helper.make_node("Attention", [source, self.weight(weight, scale, zero), bias, mask], list(node.output), domain="com.microsoft")
        made.attribute.extend(kept)
        self.remove(self.makers[quantised], node)
        return made

    def product(self, node: onnx.NodeProto) -> onnx.NodeProto:
        """MatMulInteger, the Cast and the Mul after it, as MatMul."""
        quantised, weight, _, zero = node.input
        (cast,) = self.users[node.output[0]]
        (scaled,) = self.users[cast.output[0]]
        scales = self.makers[next(name for name in scaled.input if name != cast.output[0])]
        scale = next(name for name in scales.input if name in self.constants)
        source = self.makers[quantised].input[0]
        self.remove(self.makers[quantised], node, cast, scales, scaled)
        return helper.make_node("MatMul", [source, self.weight(weight, scale, zero)], list(scaled.output))

    def table(self, node: onnx.NodeProto) -> onnx.NodeProto:
        """A Gather in quantised rows and the DequantizeLinear after it, as a Gather in floating-point rows."""
        gather = self.makers[node.input[0]]
        weight = self.weight(gather.input[0], node.input[1], node.input[2])
        made = helper.make_node("Gather", [weight, gather.input[1]], list(node.output))
        made.attribute.extend(gather.attribute)
        self.remove(gather, node)
        return made

    def rewrite(self) -> None:
        """Replace every quantised operator."""
        forms = {"QAttention": self.attention, "MatMulInteger": self.product, "DequantizeLinear": self.table}
        made = {}
        for node in list(self.graph.node):
            if node.op_type in forms:
                new = forms[node.op_type](node)
                made[new.output[0]] = new
        nodes = []
        for node in self.graph.node:
            new = made.get(node.output[0])
            if new is not None:
                nodes.append(new)
            elif not self.gone.intersection(node.output):
                nodes.append(node)
        used = {name for node in nodes for name in node.input}
        kept = [tensor for tensor in self.graph.initializer if tensor.name in used]
        del self.graph.node[:], self.graph.initializer[:]
        self.graph.node.extend(nodes)
        self.graph.initializer.extend(kept)


def scores(session: onnxruntime.InferenceSession, manifest: dict, ids: list[int]) -> dict[str, float]:
    """Score one window: probabilities by full label name."""
    window = np.array([ids], dtype=np.int64)
    logits = session.run([head["output"] for head in manifest["heads"]], {"input_ids": window, "attention_mask": np.ones_like(window)})
    out = {}
    for head, row in zip(manifest["heads"], logits, strict=True):
        row = row[0].astype(np.float64)
        if head["activation"] == "softmax":
            row = np.exp(row - row.max())
            row /= row.sum()
            if head.get("any"):
                out[f"{head['name']}.{head['any']}"] = float(1 - row[head["labels"].index(head["negative"])])
        else:
            row = 1 / (1 + np.exp(-row))
        out.update({f"{head['name']}.{label}": float(score) for label, score in zip(head["labels"], row, strict=True)})
    return out


def main() -> None:
    """Convert, compare with the manifest's self-test, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="the model's folder")
    parser.add_argument("--out", type=Path, help="another folder to write to")
    arguments = parser.parse_args()
    folder, out = arguments.model, arguments.out or arguments.model
    manifest = json.loads((folder / "manifest.json").read_text())
    weights = manifest["files"]["weights"]
    source = (folder / weights["path"]).read_bytes()
    if hashlib.sha256(source).hexdigest() != weights["sha256"]:
        raise SystemExit(f"{folder / weights['path']}: not the file that the manifest describes; restore it")
    model = onnx.load_from_string(source)
    Float(model).rewrite()
    left = {node.op_type for node in model.graph.node if "Quantize" in node.op_type or "Integer" in node.op_type or node.op_type == "QAttention"}
    if left:
        raise SystemExit(f"operators that this script does not know how to undo: {sorted(left)}")
    half = convert_float_to_float16(model, keep_io_types=True).SerializeToString()

    session = onnxruntime.InferenceSession(half, providers=["CPUExecutionProvider"])
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / manifest["files"]["tokenizer"]["path"]))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    cases, furthest = [], 0.0
    for case in manifest["self_test"]:
        ids = tokenizer.encode(case["text"]).ids
        if len(ids) > manifest["window"]["tokens"]:
            continue
        found = scores(session, manifest, ids)
        furthest = max(furthest, *(abs(found[label] - score) for label, score in case["scores"].items()))
        cases.append({"text": case["text"], "scores": {label: round(found[label], 4) for label in case["scores"]}})
    if not cases or furthest > WITHIN:
        raise SystemExit(f"the float form lies {furthest:.3f} from the int8 form, over {WITHIN}: not written")

    out.mkdir(parents=True, exist_ok=True)
    (out / "model.fp16.onnx").write_bytes(half)
    form = {
        "of": weights["sha256"],
        "weights": {"path": "model.fp16.onnx", "sha256": hashlib.sha256(half).hexdigest(), "bytes": len(half), "precision": "fp16"},
        "self_test": cases,
    }
    (out / "gpu.json").write_text(json.dumps(form, indent=1) + "\n")
    print(f"{out / 'model.fp16.onnx'}: {len(half) / 1e6:.1f} MB, {len(cases)} self-tests, at most {furthest:.4f} from the int8 form")


if __name__ == "__main__":
    main()
