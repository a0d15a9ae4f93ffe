"""Transpositions that an optimiser moves through nodes: what is shown equal is equal, and what is
moved is shown equal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper
from small_models import save

from encoders.arithmetic.approximate_field import ApproximateReals
from encoders.contract.presets import EXACT
from gpu_check.emulator.exact import evaluate_real
from onnx_import import load
from refine.options.optimised import optimised_into
from refine.pair.congruence import Congruence
from refine.pair.pair import Pair, pair_of
from refine.results.verdict import Side

_N = helper.make_node
_SHAPE = (3, 3, 3)  # no order of axes, and no axis, is ruled out by a length
_EACH = ("Relu", "Mul", "Add", "Sigmoid", "Sub", "PRelu", "Max", "Where")
_CONSTANTS = {
    "a": np.arange(3), "b": np.arange(3).reshape(3, 1), "c": np.arange(3).reshape(3, 1, 1),
    "d": np.arange(9).reshape(3, 3), "e": np.float32(2), "f": np.arange(9).reshape(3, 1, 3),
}  # fmt: skip


def _random(rng: np.random.Generator, path: Path) -> Path:
    """A few moves and nodes on elements of x, then a sum or a maximum along some axes."""
    nodes: list[onnx.NodeProto] = []
    at, held = "x", {k: np.asarray(v, np.float32) / 4 + 1 for k, v in _CONSTANTS.items()}
    orders = [(0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1)]

    def add(op: str, *inputs: str, **attributes: Any) -> str:
        nodes.append(_N(op, list(inputs), [f"t{len(nodes)}"], **attributes))
        return f"t{len(nodes) - 1}"

    for _ in range(rng.integers(1, 3)):
        if rng.random() < 0.5:
            at = add("Transpose", at, perm=orders[rng.integers(len(orders))])
        op = str(rng.choice(_EACH[: 3 + 5 * (rng.random() < 0.3)]))
        stored = str(rng.choice(list("abcdeff"[: 3 + 4 * (rng.random() < 0.3)])))
        if op in ("Relu", "Sigmoid"):
            at = add(op, at)
        elif op == "Where":
            at = add(op, add("Less", at, stored), at, stored)
        else:
            turned = op in ("Add", "Mul", "Sub", "Max") and rng.random() < 0.5
            at = add(op, *((stored, at) if turned else (at, stored)))
    if rng.random() < 0.5:
        at = add("Transpose", at, perm=orders[rng.integers(len(orders))])
    axes = [[0], [1], [2], [0, 1], [0, 2], [1, 2]][rng.integers(6)]
    op, kept = ("ReduceMax", "ReduceMean")[rng.integers(2)], 1
    at = add(op, at, axes=axes, keepdims=kept)
    at = add("Transpose", at, perm=orders[rng.integers(len(orders))])
    shape = [1 if v in axes else 3 for v in range(3)]
    perm = list(nodes[-1].attribute[0].ints)
    nodes[-1].output[0] = "y"
    used = {t for n in nodes for t in n.input}
    given = {k: v for k, v in held.items() if k in used}
    return save(path, nodes, {"x": _SHAPE}, {"y": [shape[p] for p in perm]}, given)


def _shown(pair: Pair) -> bool:
    """Are they shown equal by what their nodes do, with no look at values?"""
    return Congruence.of(pair).equal() == frozenset(pair.outputs)


def test_what_is_shown_equal_has_equal_values(tmp_path: Path) -> None:
    """Random graphs in pairs, many of which are nearly the same."""
    rng = np.random.default_rng(6)
    graphs = [load(_random(rng, tmp_path / f"{i}.onnx")) for i in range(200)]
    x = {"x": rng.normal(size=(2, *_SHAPE))}
    values = [evaluate_real(g, x, ApproximateReals())["y"] for g in graphs]
    equal = 0
    for i, (g, v) in enumerate(zip(graphs, values, strict=True)):
        for h, w in zip(graphs[:i], values[:i], strict=True):
            if v.shape == w.shape and _shown(pair_of(Side(g, EXACT), Side(h, EXACT))):
                equal += 1
                np.testing.assert_allclose(v, w, rtol=1e-12)
    assert equal > 3


_MOVED = {
    "elements": [
        _N("Transpose", ["x"], ["p"], perm=[0, 3, 1, 2]), _N("Mul", ["p", "c"], ["q"]),
        _N("Relu", ["q"], ["r"]), _N("Add", ["r", "p"], ["t"]),
        _N("Transpose", ["t"], ["y"], perm=[0, 2, 3, 1]),
    ],
    "a maximum": [
        _N("Transpose", ["x"], ["p"], perm=[0, 3, 1, 2]), _N("Sub", ["p", "c"], ["q"]),
        _N("Transpose", ["q"], ["r"], perm=[0, 2, 3, 1]), _N("PRelu", ["r", "s"], ["t"]),
        _N("ReduceMax", ["t"], ["y"], axes=[1, 2], keepdims=0),
    ],
    "a sum of squares": [
        _N("Transpose", ["x"], ["p"], perm=[0, 2, 1, 3]), _N("Mul", ["p", "s"], ["q"]),
        _N("Mul", ["q", "q"], ["r"]), _N("ReduceSum", ["r", "i"], ["t"], keepdims=0),
        _N("Sqrt", ["t"], ["u"]), _N("Transpose", ["u"], ["y"], perm=[0, 2, 1]),
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", _MOVED)
def test_what_onnxruntime_moves_is_shown_equal(name: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    nodes = _MOVED[name]
    used = {t for n in nodes for t in n.input}
    held = {
        "c": rng.normal(size=(4, 1, 1)).astype(np.float32),
        "s": rng.normal(size=4).astype(np.float32), "i": np.array([-1], np.int64),
    }  # fmt: skip
    stored = {k: v for k, v in held.items() if k in used}
    results = {"elements": (1, 2, 3, 4), "a maximum": (1, 4), "a sum of squares": (1, 2, 3)}
    spec = save(tmp_path / "m.onnx", nodes, {"x": (1, 2, 3, 4)}, {"y": results[name]}, stored)
    impl = optimised_into(spec, "all", tmp_path / "all.onnx")
    kinds = [n.op_type for n in onnx.load(impl).graph.node]
    assert kinds.count("Transpose") < 2
    assert _shown(pair_of(Side(load(spec), EXACT), Side(load(impl), EXACT)))
