"""Backward errors of single rows, in every arithmetic that a contract can ask for.

A row's new weights exist if its error is at most what they may move it by: Σ|w·x|·r over the
products, |b|·r for the bias, and what is allowed beside. All in rational numbers, of executions in
16 bits and more, accumulated in a wider format or not, flushed or not, fused or not, scaled or not.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from small_models import graph_of_nodes

from encoders.contract.contract import BiasPlacement, Contraction, RuntimeContract, Subnormals
from encoders.contract.orders import AnyOrder, Blocked, Lanes
from encoders.contract.presets import PAIRWISE, SEQUENTIAL, SEQUENTIAL_FMA
from encoders.numbers.formats import BINARY16, BINARY32, BINARY64, FloatFormat, round_array
from gpu_check.emulator.emulator import emulate
from onnx_import.graph import Array, DType, Graph, Node, TensorType, build_graph
from refine.perturbed.bound import NORMAL, BackwardBound, backward_bound
from refine.perturbed.standing import Laid

WIDER = {DType.FLOAT16: BINARY32, DType.BFLOAT16: BINARY32, DType.FLOAT32: BINARY64}


def contracts(rng: np.random.Generator, dtype: DType) -> Iterator[RuntimeContract]:
    """Four pinned contracts, drawn."""
    for base in (SEQUENTIAL, SEQUENTIAL_FMA, PAIRWISE, SEQUENTIAL):
        subnormals = Subnormals.FLUSH if rng.random() < 0.5 else Subnormals.KEEP
        made = replace(
            base,
            bias=BiasPlacement.FIRST if rng.random() < 0.5 else BiasPlacement.LAST,
            results=subnormals,
            operands=subnormals,
        )
        if rng.random() < 0.3:
            made = replace(made, order=Blocked(4) if rng.random() < 0.5 else Lanes(4))
        if rng.random() < 0.6:
            made = replace(made, accumulation=WIDER[dtype])
        if dtype is DType.FLOAT32 and rng.random() < 0.5:
            yield replace(made, compute_format=BINARY16, accumulation=None)
        else:
            yield made


def drawn(rng: np.random.Generator) -> tuple[Graph, Array, float, float]:
    """A row or three: Gemm, scaled Gemm, MatMul, MatMul and Add; numbers of all sizes."""
    dtype = DType(rng.choice([kind.value for kind in WIDER]))
    n, m = int(rng.integers(1, 14)), int(rng.integers(1, 4))
    scale = 10.0 ** (rng.uniform(-4, 2) if rng.random() < 0.4 else rng.uniform(-9, -3))

    def numbers(*shape: int) -> Array:
        values = round_array(rng.normal(size=shape) * scale, BINARY16)
        return np.asarray(values).astype(dtype.numpy)

    x = round_array(rng.normal(size=(4, 1, n)), BINARY16).astype(dtype.numpy)
    kind = rng.choice(["Gemm", "scaled", "MatMul", "Add"])
    alpha, beta = 1.0, 1.0
    stored = {"w": numbers(n, m)} | ({} if kind == "MatMul" else {"b": numbers(m)})
    shapes = {"x": (1, n), "y": (1, m)}
    if kind in ("Gemm", "scaled"):
        if kind == "scaled":
            alpha, beta = (float(np.float32(v)) for v in rng.choice([0.5, 1.0, 3.7, 0.3], 2))
        nodes = [Node("g", "Gemm", ("x", "w", "b"), ("y",), {"alpha": alpha, "beta": beta}, 17)]
    elif kind == "MatMul":
        nodes = [Node("g", "MatMul", ("x", "w"), ("y",), {}, 17)]
    else:
        shapes["t"] = (1, m)
        nodes = [
            Node("g", "MatMul", ("x", "w"), ("t",), {}, 17),
            Node("a", "Add", ("t", "b"), ("y",), {}, 17),
        ]
    return graph_of_nodes(nodes, stored, shapes, dtype), x, alpha, beta


def room(found: BackwardBound, x: Array, column: int, scales: tuple[float, float]) -> Fraction:
    """By how much the row may be moved."""
    take = {m.tensor: m for m in found.moved}
    alpha, beta = (Fraction(s) for s in scales)
    weights = found.graph.constants["w"][:, column].tolist()
    size = sum(abs(alpha * Fraction(w) * Fraction(v)) for w, v in zip(weights, x, strict=True))
    total = size * Fraction(take["w"].relative.largest)
    if "b" in take:
        held = take["b"]
        bias = Fraction(float(found.graph.constants["b"][column]))
        total += abs(beta * bias) * Fraction(held.relative.largest)
        if held.besides is not None:
            total += abs(beta) * Fraction(float(held.besides.bound[column]))
    if "y" in found.mixed:
        total += Fraction(float(found.mixed["y"].bound[0, column]))
    return total


def error(graph: Graph, x: Array, y: float, column: int, scales: tuple[float, float]) -> Fraction:
    """How far the row is from its exact value."""
    weights = graph.constants["w"][:, column].tolist()
    exact = sum(Fraction(w) * Fraction(v) for w, v in zip(weights, x, strict=True))
    exact *= Fraction(scales[0])
    if "b" in graph.constants:
        exact += Fraction(scales[1]) * Fraction(float(graph.constants["b"][column]))
    return abs(Fraction(y) - exact)


@pytest.mark.parametrize("pinned", [True, False], ids=["as it runs", "any order"])
def test_rows_may_be_moved_as_far_as_they_err(pinned: bool) -> None:
    closest, seen = 0.0, 0
    for seed in range(60):
        rng = np.random.default_rng((11, seed))
        graph, samples, *scales = drawn(rng)
        for contract in contracts(rng, graph.types["x"].dtype):
            claimed = contract
            if not pinned:
                claimed = replace(
                    contract,
                    order=AnyOrder(),
                    contraction=Contraction.EITHER,
                    bias=BiasPlacement.ANY,
                    results=Subnormals.EITHER,
                    operands=Subnormals.EITHER,
                )
            found = backward_bound(graph, claimed, Laid.WEIGHTS)
            if NORMAL in found.assumed:
                continue
            with np.errstate(all="ignore"):
                ran = np.asarray(emulate(graph, {"x": samples}, contract)["y"], np.float64)
            for x, y in zip(samples[:, 0].tolist(), ran[:, 0], strict=True):
                for column, value in enumerate(y.tolist()):
                    if not np.isfinite(value):
                        continue
                    off = error(graph, x, value, column, (scales[0], scales[1]))
                    limit = room(found, x, column, (scales[0], scales[1]))
                    assert off <= limit, (seed, contract.describe())
                    closest = max(closest, float(off / limit) if limit else 0.0)
                    seen += 1
    assert seen > 500
    assert closest > 0.5


@pytest.mark.parametrize("flushed", [False, True], ids=["gradual", "flushed"])
def test_every_row_of_a_small_format(flushed: bool) -> None:
    """x₁·w₁ + x₂·w₂ + b for all numbers of a format of two digits: 161,051 rows under each
    contract, of which none errs by more than its new weights can give."""
    fmt = FloatFormat("e2p2", 2, 0, 1)
    numbers = np.unique(round_array(np.linspace(-3.0, 3.0, 601), fmt))
    assert numbers.tolist() == [-3, -2, -1.5, -1, -0.5, 0, 0.5, 1, 1.5, 2, 3]
    rows = np.array(list(itertools.product(numbers, repeat=5)))
    given = {"x": rows[:, None, :2], "w": rows[:, 2:4, None], "b": rows[:, 4:5]}
    shapes = {"x": (1, 2), "w": (2, 1), "b": (1,), "y": (1, 1)}
    node = Node("g", "Gemm", ("x", "w", "b"), ("y",), {}, 17)
    kinds = {t: TensorType(DType.FLOAT32, shape) for t, shape in shapes.items()}
    runs = build_graph((node,), kinds, constants={}, inputs=("x", "w", "b"), outputs=("y",))
    ones = {"w": np.full((2, 1), 3.0, np.float32), "b": np.ones(1, np.float32)}
    stored = build_graph((node,), kinds, constants=ones, inputs=("x",), outputs=("y",))
    products = rows[:, :2] * rows[:, 2:4]
    subnormal = (np.abs(rows[:, 2:]) == 0.5).any(axis=1)  # which the bound refuses where flushed
    for base in (SEQUENTIAL, SEQUENTIAL_FMA, PAIRWISE):
        how = Subnormals.FLUSH if flushed else Subnormals.KEEP
        contract = replace(base, compute_format=fmt, results=how, operands=how)
        take = {m.tensor: m for m in backward_bound(stored, contract, Laid.WEIGHTS).moved}
        assert take["w"].relative.largest == 0.75
        assert take["b"].besides is not None
        with np.errstate(all="ignore"):
            ran = np.asarray(emulate(runs, given, contract)["y"], np.float64)[:, 0, 0]
        size = np.abs(products).sum(axis=1) + np.abs(rows[:, 4])
        off = np.abs(ran - products.sum(axis=1) - rows[:, 4])
        here = np.isfinite(ran) & ~(subnormal & flushed)
        assert np.all(off[here] <= (0.75 * size + take["b"].besides.largest)[here])
        assert np.count_nonzero(here) > 30000
