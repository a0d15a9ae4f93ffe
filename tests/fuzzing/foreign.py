"""Operators outside ONNX's own domain: what optimisers put together, and classical pipelines."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from reading import Array, Meaning, Reading, chosen

Gemm = Callable[[Reading], Array]


def _activated(r: Reading, x: Array) -> Array:
    match r.get("activation", ""):
        case "Relu":
            return r.a.maximum(x, r.number(0.0))
        case "LeakyRelu":
            under = r.a.multiply(r.real("activation_alpha", 0.01), x)
            return chosen(r.a.less(x, r.number(0.0)), under, x)
        case "Tanh" | "Sigmoid" as name:
            return r.a.function(name.lower(), x)
    return x


def fused_gemm(gemm: Gemm) -> Meaning:
    return lambda r: _activated(r, gemm(r))


def _fused_matmul(r: Reading) -> Array:
    x, y = r.x
    x = np.swapaxes(x, -1, -2) if r.get("transA", 0) else x
    y = y if r.get("transB", 0) else np.swapaxes(y, -1, -2)
    place = r.place(terms=x.shape[-1], rows=x.shape[-2], columns=y.shape[-2],
                    constant=r.stored[1] is not None, plain=y.ndim == 3)  # fmt: skip
    total = r.a.products(x[..., :, None, :], y[..., None, :, :], None, place, True)
    alpha = np.float32(r.get("alpha", 1.0))
    return total if alpha == 1 else r.a.multiply(r.real("alpha", 1.0), total)


def _quick_gelu(r: Reading) -> Array:
    inner = r.a.multiply(r.x[0], r.real("alpha", 1.702))
    return r.a.multiply(r.x[0], r.a.function("sigmoid", inner))


def bias_gelu(gelu: Meaning) -> Meaning:
    return lambda r: gelu(r.within(r.a, [r.a.add(r.x[0], r.x[1])]))


def _scaler(r: Reading) -> Array:
    offset, scale = (
        r.a.stored(np.array(r.attributes[n], np.float32))[:, None] for n in ("offset", "scale")
    )
    return r.a.multiply(r.a.subtract(r.x[0], offset), scale)


def _trees(r: Reading) -> Array:
    """Sample by sample, row by row, from the root down; the sum over trees in some order."""
    given: Mapping[str, Any] = r.attributes
    keys = list(zip(given["nodes_treeids"], given["nodes_nodeids"], strict=True))
    at = {key: k for k, key in enumerate(keys)}
    leaf = {
        (t, n): w
        for t, n, w in zip(given["target_treeids"], given["target_nodeids"],
                           given["target_weights"], strict=True)
    }  # fmt: skip
    limits = r.a.stored(np.array(given["nodes_values"], np.float32))[0]

    def below(tree: int, node: int) -> Array:
        k = at[tree, node]
        if given["nodes_modes"][k] == b"LEAF":
            whole = r.x[0][..., 0]
            value = r.a.stored(np.array([leaf[tree, node]], np.float32)).reshape(1, 1)
            return np.broadcast_to(value, whole.shape)
        feature = r.x[0][..., given["nodes_featureids"][k]]
        holds = ~r.a.less(np.asarray([limits[k]]), feature)  # BRANCH_LEQ
        return chosen(
            holds, *(below(tree, given[f"nodes_{s}nodeids"][k]) for s in ("true", "false"))
        )

    trees = [below(tree, 0) for tree in sorted(set(given["nodes_treeids"]))]
    total = r.a.total(np.stack(trees, -1), r.place())
    return total[..., None]


FOREIGN: dict[str, Meaning] = {
    "FusedMatMul": _fused_matmul, "QuickGelu": _quick_gelu, "Scaler": _scaler,
    "TreeEnsembleRegressor": _trees,
}  # fmt: skip
