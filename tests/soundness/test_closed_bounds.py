"""Closed bounds against what they are of: long sums, functions of some accuracy, steps of grids."""

from __future__ import annotations

import random
from fractions import Fraction as Q

import numpy as np
import pytest
from given_radii import off_by

from encoders.functions.accuracy import Evidence, FunctionAccuracy
from encoders.numbers.enclosure import Interval
from encoders.numbers.formats import BINARY32, small_format
from encoders.quantized.grid_steps import IntegerGrid, step_differences, step_rounding
from encoders.rounding.any_order import any_order_sum
from encoders.rounding.rounding_bounds import Rounder
from encoders.rounding.tracked import tracked
from encoders.rounding.tracked_functions import function_error

ALIGNMENT = 10
CLAMPED = 2.0**-18
TOTAL, PRODUCTS = 2.0**-20, 2.0**-24


@pytest.mark.parametrize("flushes", [False, True])
@pytest.mark.parametrize("steps", [0, 3])
def test_long_sums_have_the_bound_that_their_lemma_gives(steps: int, flushes: bool) -> None:
    """So many additions that nothing else bounds them; numbers near the end of the range, so that
    everything that is lost counts."""
    fmt, additions = small_format(6, 8), 700
    alignment = ALIGNMENT if steps else None
    r = Rounder(fmt, False, flushes, flushes, alignment=alignment)
    sizes = np.array([TOTAL])
    found = any_order_sum(
        r,
        sizes,
        additions=np.array([float(additions)]),
        products=off_by(np.array([PRODUCTS])),
        steps=float(steps),
        clamped=CLAMPED,
        total=sizes,
    )
    u = Q(fmt.unit_roundoff)
    v, normal = u / (1 + u), Q(2) ** fmt.emin
    lost = 2 * normal if flushes else Q(0)
    of_node = (normal if flushes else u * normal) + lost * (1 + 4 * v)
    off = Q(PRODUCTS) + additions * of_node
    share = Q(2) / 2**ALIGNMENT
    w = share + 2 * u * (1 + share)
    if steps:
        least = normal if flushes else 2 * u * normal
        off += steps * (least + w * Q(CLAMPED) + lost) * (1 + w)
        growth = (1 + v) ** additions * (1 + w) ** steps
        expected, slack = growth * (Q(TOTAL) + off) - Q(TOTAL), Q(1, 64)
    else:
        expected, slack = off + additions * v * (Q(TOTAL) + off), Q(1, 2**40)
    assert expected <= Q(float(found.bound[0])) <= expected * (1 + slack)


@pytest.mark.parametrize("flushes", [False, True])
def test_what_a_function_errs_by_is_what_its_accuracy_says(flushes: bool) -> None:
    """In ulps, in units, in the less of both; and λ more only where a result may be below it."""
    r = Rounder(BINARY32, False, False, False)
    tiny, u = r.smallest_normal, r.unit
    y = Interval(np.array([0.0, 1.0, tiny]), np.array([tiny, 3.0, 2.0 * tiny]))
    ulps = np.array([2 * u * tiny, 4 * u, 4 * u * tiny]) * 3
    lost = np.array([tiny, 0.0, tiny]) if flushes else np.zeros(3)
    for of_ulps, of_units, wanted in (
        (3.0, None, ulps + lost),
        (None, 5.0, 5.0 * u + lost),
        (3.0, 5.0, np.minimum(ulps, 5.0 * u) + lost),
    ):
        accuracy = FunctionAccuracy(of_ulps, of_units, Evidence.PROVED, "", flushes=flushes)
        found = function_error(r, accuracy, y).bound
        assert np.all((wanted <= found) & (found <= wanted * (1 + 2.0**-45)))


GRID = IntegerGrid(-4.0, 5.0)


def numbers_of(low: float, high: float) -> list[float]:
    """Multiples of a quarter from end to end."""
    return list(np.arange(low, high + 0.125, 0.25))


def stored(t: float, zero: float) -> float:
    return float(np.clip(np.rint(t) + zero, GRID.lowest, GRID.highest))


@pytest.mark.parametrize("seed", range(40))
def test_no_two_steps_are_further_apart_than_said(seed: int) -> None:
    draw = random.Random(seed)
    low = draw.randint(-28, 28) / 4
    high, error = low + draw.randint(0, 8) / 4, draw.randint(0, 8) / 4
    first = draw.randint(-2, 2)
    zero = Interval(np.array([float(first)]), np.array([float(first + draw.randint(0, 2))]))
    ideal, off = Interval(np.array([low]), np.array([high])), off_by(np.array([error]))
    r = Rounder(BINARY32, False, False, False)
    rounding = step_rounding(GRID, tracked(ideal, off), zero, r, (1,)).bound
    apart = [
        abs(stored(there, z) - stored(t, z))
        for t in numbers_of(low, high)
        for there in numbers_of(t - error, t + error)
        for z in range(int(zero.lo[0]), int(zero.hi[0]) + 1)
    ]
    assert max(apart) <= rounding[0] <= max(apart) + 1
    moved = step_differences(GRID, ideal, off).radius.bound
    apart = [
        abs(stored(there, 0.0) - stored(t, 0.0))
        for t in numbers_of(low, high)
        for there in numbers_of(t - error, t + error)
    ]
    assert max(apart) <= moved[0] <= max(apart) + 1


def test_steps_of_what_may_be_no_number_are_unknown() -> None:
    ideal = Interval(np.array([-np.inf, 0.0]), np.array([0.0, np.inf]))
    bound = step_differences(GRID, ideal, off_by(np.array([0.0, 0.5]))).radius.bound
    assert np.all(bound == np.inf)


def test_a_quotient_that_overflows_leaves_the_whole_type() -> None:
    r = Rounder(BINARY32, False, False, False)
    huge = Interval(np.array([0.0]), np.array([2.0**127]))
    t = tracked(huge, off_by(np.array([2.0**127])))
    bound = step_rounding(GRID, t, Interval(np.zeros(1), np.zeros(1)), r, (1,)).bound
    assert bound[0] == GRID.highest - GRID.lowest
