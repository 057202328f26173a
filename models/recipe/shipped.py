"""Start from weights that were shipped: the int8 file read back into the network (fused layers split again)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper

from .network import Guard


def load_shipped(model: Guard, path: Path) -> None:
    """Put the dequantised weights of an exported int8 file into ``model``; the word vectors stay as they are."""
    graph = onnx.load(str(path)).graph
    kept = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    state = model.state_dict()

    def real(name: str, suffix: str) -> np.ndarray:
        """One matrix of 8-bit numbers as floats, [in, out]."""
        quantised, zero, scale = (kept[f"{name}_{part}"].astype(np.float32) for part in ("quantized", "zero_point", suffix))
        return (quantised - zero) * scale

    def put(name: str, value: np.ndarray) -> None:
        if tuple(state[name].shape) != value.shape:
            raise ValueError(f"{path}: {name} has shape {value.shape}, expected {tuple(state[name].shape)}")
        state[name] = torch.tensor(np.ascontiguousarray(value))

    dense = iter(
        [n.input[1].removesuffix("_quantized") for n in graph.node if n.op_type == "MatMulInteger" and n.input[1].startswith("onnx::")]
    )
    for layer in range(model.encoder.config.num_hidden_layers):
        prefix = f"encoder.encoder.layer.{layer}"
        weight, bias = real(f"Attention_{layer}_qkv_weight", "scale"), kept[f"Attention_{layer}_qkv_bias"]
        for at, part in enumerate(("query", "key", "value")):
            width = weight.shape[0]
            put(f"{prefix}.attention.self.{part}.weight", weight[:, at * width : (at + 1) * width].T)
            put(f"{prefix}.attention.self.{part}.bias", bias[at * width : (at + 1) * width])
        for part in ("attention.output.dense", "intermediate.dense", "output.dense"):
            put(f"{prefix}.{part}.weight", real(next(dense), "scale").T)
    for head in ("prompt_attack", "harm"):
        whole = next((v for n, v in kept.items() if n.startswith(f"{head}.weight") and v.dtype == np.float32 and v.ndim == 2), None)
        if whole is None:
            whole = real(f"{head}.weight", "scale")
        put(f"{head}.weight", whole if whole.shape == tuple(state[f"{head}.weight"].shape) else whole.T)
    for name, value in kept.items():
        if name in state and (name.endswith("bias") or "LayerNorm" in name):
            put(name, value)
    model.load_state_dict(state)
