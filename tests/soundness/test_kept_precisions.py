"""Bounds on single values at hand, against numbers that they have to hold, at the ends of all that
is given: what a whole network leaves room around."""

from __future__ import annotations

from itertools import product
from math import exp, inf

import numpy as np
import pytest
from given_radii import off_by

from encoders.families.images.sampling import product_off
from encoders.functions.accuracy import Evidence, FunctionAccuracy
from encoders.functions.exp import EXP
from encoders.functions.function import Function
from encoders.functions.tanh import TANH
from encoders.lemmas.ranges.placing import range_of, range_through
from encoders.numbers.enclosure import Interval, LinearPart
from encoders.numbers.formats import BINARY32
from encoders.rounding.proportions import Proportion
from encoders.rounding.rounding_bounds import Rounder
from encoders.rounding.tracked import Tracked
from encoders.rounding.tracked_functions import applied
from refine.bounds.relative import run_time_range

ENDS = [(1.0, 3.0), (-3.0, -1.0), (-1.0, 2.0), (0.0, 1.0), (-2.0, 0.0), (1e-3, 1e-3)]


def known(lo: float, hi: float, precision: float, lost: float) -> Proportion:
    """Of which no more is known than where it lies, how precise it is and what is lost besides."""
    ideal, none = Interval(np.array([lo]), np.array([hi])), np.array([inf])
    g, h = off_by(np.array([precision])), off_by(np.array([lost]))
    return Proportion.alone(Tracked(ideal, off_by(none), inf), g, h)


@pytest.mark.parametrize("ends", ENDS)
@pytest.mark.parametrize("g", [0.0, 1e-3, 0.1, 0.9])
@pytest.mark.parametrize("h", [0.0, 1e-2])
def test_what_is_computed_lies_where_its_precision_says(
    ends: tuple[float, float], g: float, h: float
) -> None:
    value = known(*ends, g, h)
    found = run_time_range(value)
    for x, s, m in product((ends[0], sum(ends) / 2, ends[1]), (-g, 0.0, g), (-h, 0.0, h)):
        computed = x * exp(s) + m
        assert found.lo[0] <= computed <= found.hi[0]
        assert value.least[0] <= computed
    grown, shrunk = 1.0 / (1.0 - g), 1.0 - g
    low = ends[0] * (shrunk if ends[0] >= 0 else grown) - h
    high = ends[1] * (shrunk if ends[1] <= 0 else grown) + h
    np.testing.assert_allclose([found.lo[0], found.hi[0]], [low, high], rtol=1e-12, atol=1e-300)
    if ends[0] > 0:
        np.testing.assert_allclose(value.least[0], low, rtol=1e-12)


@pytest.mark.parametrize("ends", ENDS)
def test_of_what_has_no_precision_nothing_is_known(ends: tuple[float, float]) -> None:
    found = run_time_range(known(*ends, inf, 0.0))
    assert (found.lo[0], found.hi[0]) == (-inf, inf)
    assert known(*ends, inf, 0.0).least[0] == -inf
    wide = run_time_range(known(*ends, 1.5, 0.0))
    far = [x * exp(s) for x in ends for s in (-1.5, 1.5)]
    assert wide.lo[0] <= min(far)
    assert max(far) <= wide.hi[0]


def test_negated_ranges_change_their_ends() -> None:
    x = range_of(Interval(np.array([-1.0, 2.0]), np.array([3.0, 5.0])))
    negative = LinearPart(np.negative, np.abs, np.negative, terms=0, adjoint_terms=0)
    found = range_through(x, negative)
    np.testing.assert_array_equal([found.lo, found.hi], [[-3.0, -5.0], [1.0, -2.0]])


@pytest.mark.parametrize(("f", "exact"), [(EXP, np.exp), (TANH, np.tanh)])
@pytest.mark.parametrize("ends", [(-1.0, 1.0), (-2.0, -1.5), (0.5, 2.0)])
@pytest.mark.parametrize("off", [1e-3, 0.5])
def test_functions_of_what_is_off_move_along_their_curve(
    f: Function, exact: np.ufunc, ends: tuple[float, float], off: float
) -> None:
    """At the ends of what computed arguments may be; the function itself is taken exactly."""
    a = Tracked(Interval(*(np.array([end]) for end in ends)), off_by(np.array([off])), 0.0)
    accuracy = FunctionAccuracy(0.5, None, Evidence.PROVED, "a test")
    r = Rounder(BINARY32, exact=False, flush_results=False, flush_operands=False)
    found = applied(f, a, a.error, r, accuracy)
    for x, d in product(np.linspace(*ends, 9), np.linspace(-off, off, 9)):
        assert found.ideal.lo[0] - 1e-14 <= exact(x) <= found.ideal.hi[0] + 1e-14
        assert abs(exact(x + d) - exact(x)) <= found.error.bound[0]
    assert found.error.bound[0] <= 4.0 * off * max(float(exact(2.5)), 1.0)


def test_products_of_weights_are_off_by_each_of_them() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        k = int(rng.integers(1, 4))
        w, d = rng.uniform(-2, 2, k), rng.uniform(0, 0.5, k) * rng.integers(0, 2, k)
        off, largest = product_off(list(np.abs(w)[:, None]), list(d[:, None]))
        worst = 0.0
        for signs in product((-1.0, 1.0), repeat=k):
            computed = np.prod(w + d * signs)
            worst = max(worst, float(abs(computed - np.prod(w))))
            assert abs(computed) <= largest[0] * (1 + 1e-15)
        assert worst <= off[0] * (1 + 1e-12)
        assert off[0] <= worst * (1 + 1e-12) + 1e-300
