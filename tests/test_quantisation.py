"""Quantising: the distance from the identity over the reals, against exact rationals."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from operator_checks import Example, graph_of

from encoders.contract import EXACT, IEEE_ANY, SEQUENTIAL, RuntimeContract, Subnormals
from encoders.enclosure import Interval, point
from encoders.operator import site_of
from encoders.quantisation import Grid, quantisation_error
from encoders.quantised_pairs import are_inverse, grid_of, pair_error
from gpu_check.emulator import emulate

FLUSH = Subnormals.FLUSH

INT8 = Grid(np.asarray(0.1), np.asarray(3.0), -128.0, 127.0)
SCALES = st.floats(2.0**-149, 2.0**20, width=32)
NUMBERS = st.floats(-(2.0**30), 2.0**30)


def distance(x: float, grid: Grid, moved: float = 0.0) -> Fraction:
    """|(q − zero point)·scale − x| in rationals, the quotient moved before it is rounded."""
    scale, zero = Fraction(float(grid.scale)), int(grid.zero_point)
    stored = round(Fraction(x) / scale + Fraction(moved)) + zero
    stored = min(max(stored, int(grid.lowest)), int(grid.highest))
    return abs((stored - zero) * scale - Fraction(x))


@given(
    SCALES,
    st.integers(-128, 127),
    st.lists(NUMBERS, min_size=3, max_size=3),
    st.sampled_from([0.0, 2.0**-20, 0.75]),
    st.booleans(),
)
def test_no_point_of_a_range_is_quantised_further_away_than_bounded(
    scale: float, zero: int, ends: list[float], moved: float, near: bool
) -> None:
    grid = Grid(np.asarray(scale), np.asarray(float(zero)), -128.0, 127.0)
    low, x, high = sorted(v * scale * 2.0**-23 if near else v for v in ends)
    bound = quantisation_error(Interval(np.asarray(low), np.asarray(high)), grid, moved)
    for shift in (-moved, 0.0, moved):
        assert max(distance(v, grid, shift) for v in (low, x, high)) <= Fraction(float(bound))


@pytest.mark.parametrize(
    ("low", "high", "largest"),
    [
        (-1.0, 1.0, 0.05),  # half a step
        (0.98, 1.01, 0.02),  # all stored as one number
        (0.0, 0.0, 0.0),
        (12.0, 13.0, 0.6),  # the last point of the grid is 12.4
        (-20.0, -14.0, 6.9),
        (-np.inf, 0.0, np.inf),
    ],
)
def test_the_distance_is_half_a_step_within_the_grid_and_grows_outside(
    low: float, high: float, largest: float
) -> None:
    x = Interval(np.asarray(low), np.asarray(high))
    assert quantisation_error(x, INT8) == pytest.approx(largest, abs=1e-12)


def test_every_element_has_its_own_range_and_its_channel_its_own_scale() -> None:
    grid = Grid(np.array([[0.5], [2.0]]), np.zeros((2, 1)), 0.0, 255.0)
    x = Interval(np.array([[0.0, 0.1], [0.0, -3.0]]), np.array([[3.0, 0.2], [3.0, 3.0]]))
    bound = quantisation_error(x, grid)
    assert bound == pytest.approx(np.array([[0.25, 0.2], [1.0, 3.0]]))


def test_the_bound_of_a_point_is_its_own_distance() -> None:
    rng = np.random.default_rng(5)
    for x in rng.uniform(-15.0, 15.0, 200).tolist():
        bound = float(quantisation_error(point(np.asarray(x)), INT8))
        assert 0 <= Fraction(bound) - distance(x, INT8) < Fraction(1, 10**12)


COLUMNS = {"axis": 1}
PAIR = Example(
    "pair",
    (("QuantizeLinear", "x s z", "q", COLUMNS), ("DequantizeLinear", "q s z", "y", COLUMNS)),
    {"x": (2, 3)},
    {"s": [0.02, 0.5, 0.0125], "z": np.array([-3, 0, 7], np.int8)},
)


@pytest.mark.parametrize("contract", [SEQUENTIAL, IEEE_ANY], ids=lambda c: c.name)
def test_a_pair_moves_run_time_numbers_by_no_more_than_bounded(contract: RuntimeContract) -> None:
    graph, _ = graph_of(PAIR)
    first, second = (site_of(graph, node) for node in graph.order)
    assert are_inverse(first, second)
    rng = np.random.default_rng(4)
    for width in (0.0, 1e-3, 1.0):
        low = rng.uniform(-3.0, 3.0, (2, 3)).astype(np.float32).astype(np.float64)
        high = (low + width).astype(np.float32).astype(np.float64)
        bound = pair_error(first, second, Interval(low, high), contract)
        share = rng.random((50, 2, 3))
        x = (low + share * (high - low)).astype(np.float32)
        x = np.clip(np.concatenate([x, low[None], high[None]]), low, high).astype(np.float32)
        for pinned in (SEQUENTIAL, replace(SEQUENTIAL, results=FLUSH, operands=FLUSH)):
            if contract is SEQUENTIAL and pinned is not SEQUENTIAL:
                continue
            y = emulate(graph, {"x": x}, pinned)["y"]
            apart = np.abs(y.astype(np.float64) - x.astype(np.float64))
            assert np.all(apart <= bound)
            assert np.all(bound <= np.maximum(0.26, np.max(apart, axis=0) + 0.26))


def test_without_rounding_a_pair_is_as_far_from_the_identity_as_over_the_reals() -> None:
    graph, _ = graph_of(PAIR)
    first, second = (site_of(graph, node) for node in graph.order)
    x = Interval(np.full((2, 3), -1.0), np.full((2, 3), 1.0))
    grid = grid_of(first)
    assert grid is not None
    exact = pair_error(first, second, x, EXACT)
    np.testing.assert_allclose(exact, quantisation_error(x, grid), rtol=1e-14)
    np.testing.assert_allclose(exact[0], [0.01, 0.25, 0.00625], rtol=1e-7)


@pytest.mark.parametrize(
    ("scales", "zeros"),
    [([0.02, 0.5, 0.013], [-3, 0, 7]), ([0.02, 0.5, 0.0125], [-3, 0, 8])],
)
def test_other_parameters_make_no_pair(scales: list[float], zeros: list[int]) -> None:
    mixed = replace(
        PAIR,
        nodes=(PAIR.nodes[0], ("DequantizeLinear", "q t w", "y", COLUMNS)),
        constants={**PAIR.constants, "t": scales, "w": np.array(zeros, np.int8)},
    )
    graph, _ = graph_of(mixed)
    assert not are_inverse(*(site_of(graph, node) for node in graph.order))
