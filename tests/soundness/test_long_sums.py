"""Sums so long that n·u ≥ 1, u the unit roundoff: all their executions in toy formats.

Where m·u reaches 1 the closed form of a sum in any order has a negative or no denominator; bounds
must then come from a lemma that holds for any number of terms, or be infinite.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import product
from typing import Any

import numpy as np
import pytest
from cases import Case, case
from checking import bounds_of, check_emulated, check_every_execution, every_point, exact_values
from checking import input_box
from networks import network, node, numbers

from encoders.contract import (
    IEEE_ANY,
    PAIRWISE,
    SEQUENTIAL,
    SEQUENTIAL_FMA,
    AnyOrder,
    Blocked,
    RuntimeContract,
    Subnormals,
)
from encoders.formats import BFLOAT16, small_format
from encoders.rounding_bounds import Rounder, any_order_sum
from encoders.exact_fields import Balls
from gpu_check.emulator import emulate
from gpu_check.exact import evaluate_exact
from operator_checks import ends

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
        "five equal terms", E4P2, 0.5, 3, (node("MatMul", "x W", "y"),), {"x": (1, 1)},
        W=[[1.0]],
    ),
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
    assert found.executions and all(np.isfinite(r) for r in found.ratios.values())


@every_sum
def test_pinned_executions(case: Case) -> None:
    graph, box, points = prepared(case)
    free = bounds_of(graph, box, in_format(IEEE_ANY, case.format))
    for contract in PINNED:
        pinned = in_format(contract, case.format)
        for bounds in (free, bounds_of(graph, box, pinned)):
            found = check_emulated(graph, bounds, pinned, points, case.name)
            assert not found.failures, "\n".join(found.failures)


def _toy(precision: int, flushes: bool) -> Rounder:
    return Rounder(small_format(6, precision), False, flushes, flushes)


@pytest.mark.parametrize("precision", [2, 3, 8, 11])
@pytest.mark.parametrize("flushes", [False, True])
def test_any_number_of_additions_has_a_true_bound(precision: int, flushes: bool) -> None:
    """From far below n·u = 1 to far above: never negative, never NaN, finite, monotone."""
    r = _toy(precision, flushes)
    counts = np.unique(np.concatenate([np.arange(0.0, 40.0), 2.0 ** np.arange(1, 40), 2.0**52 + np.zeros(1)]))
    sums = np.full(counts.shape, 3.0)
    for aligned in (None, 4):
        here = replace(r, alignment=aligned)
        steps = 3.0 if aligned else 0.0
        found = any_order_sum(here, sums, counts, 0.125 * np.ones_like(sums), steps, 0.5)
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
        (found,) = any_order_sum(r, *(np.array([v]) for v in numbers))
    assert found == np.inf
