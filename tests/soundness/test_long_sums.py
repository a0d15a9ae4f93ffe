"""Sums so long that n·u ≥ 1, u the unit roundoff: all their executions in toy formats.

Where m·u reaches 1 the closed form of a sum in any order has a negative or no denominator; bounds
must then come from a lemma that holds for any number of terms, or be infinite.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from cases import Case, case
from checking import (
    bounds_of,
    check_emulated,
    check_every_execution,
    every_point,
    exact_values,
    input_box,
)
from given_radii import off_by
from operator_checks import Example, box_of, ends, example, graph_of
from text_networks import node

from encoders.arithmetic.exact_fields import Balls
from encoders.contract.contract import AnyOrder, Blocked, RuntimeContract, Subnormals
from encoders.contract.presets import IEEE_ANY, PAIRWISE, SEQUENTIAL, SEQUENTIAL_FMA
from encoders.numbers.formats import round_array, small_format
from encoders.rounding.any_order import any_order_sum
from encoders.rounding.rounding_bounds import Rounder
from gpu_check.emulator.emulator import emulate
from gpu_check.emulator.exact import evaluate_exact

KEEP = Subnormals.KEEP
E4P2, E5P2, E4P3 = (small_format(e, p) for e, p in ((4, 2), (5, 2), (4, 3)))
ANY_ORDER = (
    IEEE_ANY,
    replace(IEEE_ANY, name="gradual", results=KEEP, operands=KEEP),
    replace(IEEE_ANY, name="flush", results=Subnormals.FLUSH, operands=Subnormals.FLUSH),
)
PINNED = (
    SEQUENTIAL,
    SEQUENTIAL_FMA,
    PAIRWISE,
    replace(SEQUENTIAL, name="blocks", order=Blocked(3)),
    replace(SEQUENTIAL, name="flush", results=Subnormals.FLUSH, operands=Subnormals.FLUSH),
)

SUMS = (
    case(
        "six products", E4P2, 1, 1.5, (
            node("Concat", "x x x", "z", axis=1), node("MatMul", "z W", "y"),
        ), {"x": (1, 2)}, W=[[1.5, 1.0], [1.0, -1.5], [1.5, 1.0], [1.5, 0.75], [1.0, -1.0],
                             [0.75, 1.5]],
    ),
    case(
        "seven products that cancel", E4P2, -0.75, 0.75, (
            node("Concat", "x x x x x x x", "z", axis=1), node("MatMul", "z W", "y"),
        ), {"x": (1, 1)}, W=[[1.5], [-1.5], [1.0], [0.75], [-1.5], [1.0], [1.5]],
    ),
    case(
        "six products with a bias", E4P2, 0.25, 0.5, (
            node("Concat", "x x x", "z", axis=1), node("Gemm", "z W b", "y"),
        ), {"x": (1, 2)}, W=[[1.5], [0.0625], [1.0], [1.5], [-0.125], [0.75]], b=[1.5],
    ),
    case(
        "underflow in a long sum", E4P2, -0.03125, 0.03125, (
            node("Concat", "x x x", "z", axis=1), node("MatMul", "z W", "y"),
        ), {"x": (1, 2)}, W=[[0.25], [-0.5], [0.75], [0.375], [1.5], [-0.75]],
    ),
)  # fmt: skip
every_sum = pytest.mark.parametrize("case", SUMS, ids=lambda c: c.name)


def in_format(contract: RuntimeContract, fmt: Any) -> RuntimeContract:
    return replace(contract, compute_format=fmt)


def prepared(case: Case) -> Any:
    graph = case.build()
    box = input_box(graph, case.lo, case.hi)
    points = list(every_point(graph, box, case.format))
    return graph, box, [(point, exact_values(graph, point)) for point in points]


@every_sum
@pytest.mark.parametrize("contract", ANY_ORDER, ids=lambda c: c.name)
@pytest.mark.parametrize("alignment", [None, 2])
def test_every_execution(case: Case, contract: RuntimeContract, alignment: int | None) -> None:
    graph, box, points = prepared(case)
    toy = replace(in_format(contract, case.format), order=AnyOrder(alignment))
    bounds = bounds_of(graph, box, toy)
    points = points[:: 1 if alignment is None else 7]
    found = check_every_execution(graph, bounds, toy, points, case.name)
    assert not found.failures, "\n".join(found.failures)
    assert found.executions
    assert alignment is not None or all(np.isfinite(r) for r in found.ratios.values())


@every_sum
def test_pinned_executions(case: Case) -> None:
    graph, box, points = prepared(case)
    free = bounds_of(graph, box, in_format(IEEE_ANY, case.format))
    for contract in PINNED:
        pinned = in_format(contract, case.format)
        for bounds in (free, bounds_of(graph, box, pinned)):
            found = check_emulated(graph, bounds, pinned, points, case.name)
            assert not found.failures, "\n".join(found.failures)


N = 12
LONG = (
    example("ReduceSum", "x axes", (1, N), constants={"axes": np.array([1])}),
    example("ReduceMean", "x", (1, N), axes=[1]),
    example("ReduceMean", "x", (1, N), "positive", lo=0.5, hi=3.0, axes=[1]),
    example("ReduceL1", "x", (1, N), axes=[1]),
    example("ReduceSumSquare", "x", (1, N), axes=[1]),
    example("ReduceL2", "x", (1, N), lo=0.5, hi=2.0, axes=[1], rational=False),
    example("ReduceLogSumExp", "x", (1, N), lo=-1.0, hi=1.0, axes=[1], rational=False),
    example("AveragePool", "x", (1, 1, N), kernel_shape=[N]),
    example("GlobalAveragePool", "x", (1, 2, 3, 4)),
    example("Sum", "x x x x x x", (1, 2)),
    example("Mean", "x x x x x x", (1, 2)),
    example("Softmax", "x", (1, N), axis=1, rational=False),
    example("LogSoftmax", "x", (1, N), axis=1, rational=False),
    example(
        "LayerNormalization", "x s b", (1, N), opset=17, axis=1, epsilon=0.5, rational=False,
        constants={"s": np.linspace(0.5, 2.0, N), "b": np.linspace(-1.0, 1.0, N)},
    ),
    example(
        "RMSNormalization", "x s", (1, N), opset=23, axis=1, epsilon=0.5, rational=False,
        constants={"s": np.linspace(0.5, 2.0, N)},
    ),
    example(
        "InstanceNormalization", "x s b", (1, 1, N), epsilon=0.5, rational=False,
        constants={"s": np.array([1.5]), "b": np.array([0.25])},
    ),
    example(
        "Conv", "x W b", (1, 2, 6), constants={
            "W": np.linspace(-1.0, 1.5, 12).reshape(1, 2, 6), "b": np.array([0.75]),
        },
    ),
    example(
        "ConvTranspose", "x W", (1, 3, 3), constants={
            "W": np.linspace(-1.0, 1.5, 12).reshape(3, 1, 4),
        },
    ),
    example("MatMul", "x x", (4, 4)),
    example("Gemm", "x x b", (4, 4), constants={"b": np.full(4, 0.75)}),
)  # fmt: skip


@pytest.mark.parametrize("case", LONG, ids=lambda c: c.name)
@pytest.mark.parametrize("precision", [2, 3, 5])
def test_emulated_executions_of_every_kind_of_sum(case: Example, precision: int) -> None:
    """Means, norms, pools and normalisations of 12 terms, 6 ≥ n·u ≥ 0.4."""
    fmt = small_format(7, precision)
    graph, _ = graph_of(case)
    rng = np.random.default_rng(precision)
    shape = graph.types["x"].shape
    inputs = round_array(rng.uniform(case.lo, case.hi, (24, *shape)), fmt)
    inputs[0], inputs[1] = case.lo, case.hi
    inputs = np.clip(inputs, case.lo, case.hi).astype(np.float32)
    exact = [
        {t: ends(v) for t, v in evaluate_exact(graph, {"x": x}, Balls(), every_tensor=True).items()}
        for x in inputs
    ]
    free = bounds_of(graph, box_of(case, graph), in_format(IEEE_ANY, fmt))
    for contract in PINNED:
        pinned = in_format(contract, fmt)
        own = bounds_of(graph, box_of(case, graph), pinned)
        with np.errstate(all="ignore"):
            computed = emulate(graph, {"x": inputs}, pinned, every_tensor=True)
        for bounds in (free, own):
            for t in graph.outputs:
                limit = bounds.maps.errors[t]
                assert np.all(limit >= 0.0), (case.name, contract.name)
                for value, real in zip(computed[t], exact, strict=True):
                    _within(value, real[t], limit, f"{case.name} under {contract.name}")


def _within(value: Any, real: Any, limit: Any, label: str) -> None:
    """|value − real| ≤ limit for every element, value finite where the limit is."""
    low, high = real
    for at in np.ndindex(*limit.shape):
        if np.isfinite(limit[at]):
            v, room = float(value[at]), Fraction(float(limit[at]))
            assert np.isfinite(v), label
            assert low[at] - room <= Fraction(v) <= high[at] + room, (label, at, v, float(room))


def _toy(precision: int, flushes: bool) -> Rounder:
    return Rounder(small_format(6, precision), False, flushes, flushes)


@pytest.mark.parametrize("precision", [2, 3, 8, 11])
@pytest.mark.parametrize("flushes", [False, True])
def test_any_number_of_additions_has_a_true_bound(precision: int, flushes: bool) -> None:
    """From far below n·u = 1 to far above: never negative, never NaN, finite, monotone."""
    r = _toy(precision, flushes)
    counts = np.unique(np.concatenate([np.arange(0.0, 40.0), 2.0 ** np.arange(1, 52)]))
    sums = np.full(counts.shape, 3.0)
    for aligned in (None, 4):
        here = replace(r, alignment=aligned)
        steps = 3.0 if aligned else 0.0
        found = any_order_sum(
            here,
            sums,
            additions=counts,
            products=off_by(0.125 * np.ones_like(sums)),
            steps=steps,
            clamped=0.5,
        ).bound
        assert np.all(found >= 0.125), found
        finite = counts * r.unit < 64
        assert np.all(np.isfinite(found[finite]))
        assert np.all(np.diff(found[finite]) >= -1e-9 * found[finite][1:])


@pytest.mark.parametrize(
    "numbers",
    [(-1.0, 3.0, 0.0), (1.0, -3.0, 0.0), (1.0, 3.0, -0.5), (np.nan, 3.0, 0.0), (1.0, np.inf, 0.0),
     (np.inf, 3.0, 0.0), (1.0, 3.0, np.nan)],
)  # fmt: skip
def test_hypotheses_are_checked_of_the_numbers(numbers: tuple[float, float, float]) -> None:
    r = _toy(3, False)
    with np.errstate(all="ignore"):
        partial, additions, products = (np.array([v]) for v in numbers)
        found = any_order_sum(r, partial, additions, off_by(products))
    assert found.bound == np.inf
