"""A pinned order is one of all: what is proved of it is never more than what is proved of any."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from encoders.contract.contract import AnyOrder, Contraction, RuntimeContract
from encoders.contract.orders import Blocked, Lanes, Pairwise
from encoders.contract.presets import PRESETS
from encoders.numbers.enclosure import FloatArray, Interval
from gpu_check.emulator.emulator import emulate
from onnx_import.graph import Graph
from refine.bounds.network import InputBox, network_bounds
from refine.options.models import opened, read_as

SEQUENTIAL = PRESETS["sequential"]
CONTRACTS = {
    "sequential": SEQUENTIAL,
    "sequential-fma": PRESETS["sequential-fma"],
    "ort-cpu": PRESETS["ort-cpu"],
    "pairwise": replace(SEQUENTIAL, order=Pairwise()),
    "blocked": replace(PRESETS["sequential-fma"], order=Blocked(8)),
    "lanes": replace(PRESETS["sequential-fma"], order=Lanes(4)),
}


def product(weights: FloatArray) -> Graph:
    """x·W of a row."""
    n, m = weights.shape
    held = [numpy_helper.from_array(weights.astype(np.float32), "w")]
    sides = [
        helper.make_tensor_value_info(t, TensorProto.FLOAT, [1, k]) for t, k in (("x", n), ("y", m))
    ]
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    graph = helper.make_graph([node], "g", sides[:1], sides[1:], held)
    opsets = [helper.make_opsetid("", 18)]
    with opened(helper.make_model(graph, opset_imports=opsets, ir_version=9)) as source:
        return read_as(source)


def weights(kind: str, rng: np.random.Generator) -> FloatArray:
    """Columns that select few terms, differences of two, powers of two, and dense ones."""
    w = rng.normal(0, 1, (40, 24)).astype(np.float32).astype(np.float64)
    if kind == "dense":
        return w
    kept = np.zeros(w.shape)
    for column in range(w.shape[1]):
        few = rng.choice(40, int(rng.integers(0, 4)), replace=False)
        kept[few, column] = rng.choice([-1.0, 1.0, 0.5, 2.0**-130], len(few))
    return kept if kind == "selection" else np.where(rng.random(w.shape) < 0.8, 0.0, w)


@pytest.mark.parametrize("contract", CONTRACTS.values(), ids=CONTRACTS)
@pytest.mark.parametrize("kind", ["selection", "sparse", "dense"])
def test_pinned_is_at_most_any_and_holds(kind: str, contract: RuntimeContract) -> None:
    rng = np.random.default_rng(5)
    w = weights(kind, rng)
    graph = product(w)
    scale = np.exp2(rng.integers(-8, 8, (1, 40)).astype(np.float64))
    scale[0, :4] = 2.0**-126
    box = InputBox({"x": Interval(-scale, scale)}, {"x": np.zeros((1, 40))})
    free = replace(contract, rules=(), order=AnyOrder(), contraction=Contraction.EITHER)
    pinned, any_ = (network_bounds(graph, box, c).errors["y"] for c in (contract, free))
    assert np.all(pinned <= any_)
    x = (scale * rng.uniform(-1, 1, (200, 1, 40))).astype(np.float32)
    x[:50] = (scale * rng.choice([-1.0, 1.0], (50, 1, 40))).astype(np.float32)
    ran = emulate(graph, {"x": x}, contract)["y"].astype(np.float64)
    rows = [[(i, Fraction(float(w[i, j]))) for i in np.flatnonzero(w[:, j])] for j in range(24)]
    for sample in range(0, 200, 5):
        at = [Fraction(float(v)) for v in x[sample, 0]]
        for j, row in enumerate(rows):
            exact = sum((at[i] * v for i, v in row), Fraction(0))
            off = abs(Fraction(float(ran[sample, 0, j])) - exact)
            assert off <= Fraction(float(pinned[0, j]))
