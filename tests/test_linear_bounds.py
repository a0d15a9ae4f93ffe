"""Linear bounds and secants of functions with kinks, in rationals at the points where they touch.

That is at the ends of a range, at the kinks in it, and, of differences, as far apart as is allowed
and onto a kink.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from given_radii import off_by

from encoders.lemmas.kernel import nothing_known
from encoders.lemmas.ranges.placing import range_of
from encoders.numbers.enclosure import Interval
from encoders.operator import (
    Contribution,
    DifferenceMap,
    LinearBounds,
    Moved,
    SlopeChoice,
    ValueMap,
)
from encoders.relaxations.composed import (
    added_differences,
    added_values,
    composed_differences,
    composed_values,
)
from encoders.relaxations.elementwise import elementwise_differences, secant_of_slopes
from encoders.relaxations.hinges import hinge_differences, hinge_relaxation, hinge_values
from encoders.relaxations.piecewise import (
    PiecewiseLinear,
    clamp,
    hinge,
    piecewise_bounds,
    piecewise_differences,
    piecewise_values,
)

COUNT = 48
Function = Callable[[Fraction], Fraction]


def ranges(seed: int) -> Interval:
    """Around zero, to one side, from zero, of one point, tiny, and much longer to one side."""
    rng = np.random.default_rng(seed)
    a, b = rng.random((2, COUNT)) * 10.0 ** rng.integers(-3, 4, (2, COUNT))
    kind = np.arange(COUNT) % 8
    zero = np.zeros(COUNT)
    low = np.choose(kind, [-a, -a, np.minimum(a, b), -a - b, zero, -a, a, -a * 2.0**-1060])
    high = np.choose(kind, [b, b, a + b, -np.minimum(a, b), b, zero, a, b * 2.0**-1060])
    return Interval(low, high)


def fraction(v: Any) -> Fraction:
    return Fraction(float(v))


def points(x: Interval, i: int, kinks: tuple[float, ...] = (0.0,)) -> list[Fraction]:
    lo, hi = fraction(x.lo[i]), fraction(x.hi[i])
    inside = [Fraction(k) for k in kinks if lo <= k <= hi]
    return [lo, hi, *inside, (lo + 2 * hi) / 3]


def one_each(seed: int) -> Any:
    """Functionals of one element each, of both signs."""
    c = np.random.default_rng(seed).standard_normal(COUNT)
    return np.concatenate([np.diag(c), np.diag(-c), np.eye(COUNT)])


def bound_of(pulled: Contribution | Moved, row: int, i: int, at: Fraction) -> Fraction:
    """Of several inputs, which are all at the same place."""
    constant = pulled.constant[row]
    assert np.isfinite(constant)
    slope = sum(fraction(a[row, i]) for a in pulled.coefficients if a is not None)
    return slope * at + fraction(constant)


def check_lines(bounds: LinearBounds, f: Function, x: Interval, kinks: tuple[float, ...]) -> None:
    for i in range(COUNT):
        for p in points(x, i, kinks):
            low = fraction(bounds.low_slope[i]) * p + fraction(bounds.low[i])
            assert low <= f(p) <= fraction(bounds.high_slope[i]) * p + fraction(bounds.high[i])


def check_values(mapped: ValueMap, f: Function, x: Interval, kinks: tuple[float, ...]) -> None:
    c = one_each(1)
    pulled = mapped.backward(c)
    for i in range(COUNT):
        for p in points(x, i, kinks):
            assert fraction(mapped.range.lo[i]) <= f(p) <= fraction(mapped.range.hi[i])
            for row in (i, i + COUNT, i + 2 * COUNT):
                assert fraction(c[row, i]) * f(p) <= bound_of(pulled, row, i, p)


def moves(p: Fraction, error: Fraction, kinks: tuple[float, ...]) -> Iterator[Fraction]:
    yield from (error, -error, error / 3)
    yield from (Fraction(k) - p for k in kinks if abs(Fraction(k) - p) <= error)


def check_differences(
    mapped: DifferenceMap, f: Function, x: Interval, error: Any, kinks: tuple[float, ...]
) -> None:
    c = one_each(2)
    pulled = mapped.backward(c)
    for i in range(COUNT):
        for p in points(x, i, kinks):
            for d in moves(p, fraction(error[i]), kinks):
                change = f(p + d) - f(p)
                assert abs(change) <= fraction(mapped.radius.bound[i])
                for row in (i, i + COUNT, i + 2 * COUNT):
                    assert fraction(c[row, i]) * change <= bound_of(pulled, row, i, d)


def errors(x: Interval, seed: int) -> Any:
    rng = np.random.default_rng(seed)
    return x.magnitude * rng.choice([0.0, 1e-6, 0.3, 2.0], COUNT) * rng.random(COUNT)


# --- hinges ---------------------------------------------------------------------------------------

BELOW = (0.0, 0.1, -0.7, 1.0, 0.9999999)
below_zero = pytest.mark.parametrize("below", BELOW)


def hinged(below: float) -> Function:
    return lambda p: p if p >= 0 else Fraction(below) * p


@below_zero
def test_linear_bounds_of_hinges(below: float) -> None:
    for seed in range(3):
        x = ranges(seed)
        check_lines(hinge_relaxation(np.full(COUNT, below), x), hinged(below), x, (0.0,))
    stable = Interval(np.abs(x.lo), np.abs(x.lo) + np.abs(x.hi))
    check_lines(hinge_relaxation(np.full(COUNT, below), stable), hinged(below), stable, (0.0,))


@below_zero
def test_values_of_hinges(below: float) -> None:
    for seed in range(3):
        x = ranges(seed)
        check_values(hinge_values(np.full(COUNT, below), x), hinged(below), x, (0.0,))


@below_zero
def test_differences_of_hinges(below: float) -> None:
    f = hinged(below)
    for seed in range(3):
        x = ranges(seed)
        error = errors(x, seed)
        mapped = hinge_differences(np.full(COUNT, below), x, off_by(error))
        check_differences(mapped, f, x, error, (0.0,))


@below_zero
def test_fixed_secant_slopes_of_hinges(below: float) -> None:
    """With the slope that two points have, nothing but rounding remains; elsewhere as before."""
    f, x = hinged(below), ranges(5)
    error = errors(x, 5)
    mapped = hinge_differences(np.full(COUNT, below), x, off_by(error))
    assert mapped.fixed is not None
    assert mapped.unstable is not None
    c = one_each(3)
    for share in (0.0, 1.0):
        slope = Fraction(below) + Fraction(share) * (1 - Fraction(below))
        at = np.broadcast_to(mapped.unstable, c.shape)
        pulled = mapped.fixed(c, np.full(c.shape, share), at)
        for i in range(COUNT):
            for p in points(x, i):
                for d in moves(p, fraction(error[i]), (0.0,)):
                    change = slope * d if mapped.unstable[i] else f(p + d) - f(p)
                    for row in (i, i + COUNT, i + 2 * COUNT):
                        assert fraction(c[row, i]) * change <= bound_of(pulled, row, i, d)


@below_zero
def test_hinges_where_more_is_known_of_their_inputs(below: float) -> None:
    """Lower slopes between b and 1, inputs confined to one side but for a slack, any multiplier."""
    f, x = hinged(below), ranges(6)
    rng = np.random.default_rng(6)
    mapped = hinge_values(np.full(COUNT, below), x)
    assert mapped.choice is not None
    c = one_each(4)
    for slack in (0.0, 0.25):
        phase = rng.integers(-1, 2, c.shape).astype(np.int8)
        multiplier = rng.random(c.shape) * rng.choice([0.0, 1.0, 100.0], c.shape)
        slope = rng.uniform(below - 0.5, 1.5, c.shape)
        allowed = np.broadcast_to(slack * x.magnitude, (COUNT,))
        confined = np.broadcast_to(x.lo < 0, (COUNT,)) & (x.hi > 0)
        phase = np.where(confined, phase, 0).astype(np.int8)
        multiplier = np.where(phase == 0, 0.0, multiplier)
        pulled = mapped.choice.backward(c, SlopeChoice(slope, phase, multiplier, allowed))
        for i in range(COUNT):
            edge = fraction(allowed[i])
            lo, hi = fraction(x.lo[i]), fraction(x.hi[i])
            for p in (*points(x, i), max(lo, -edge), min(hi, edge)):
                for row in (i, i + COUNT, i + 2 * COUNT):
                    side = phase[row, i]
                    if (side > 0 and p < -edge) or (side < 0 and p > edge):
                        continue
                    assert fraction(c[row, i]) * f(p) <= bound_of(pulled, row, i, p)


# --- other functions with kinks -------------------------------------------------------------------

SLOPES = (
    (-1.0, -0.25),
    (-0.25, -2.0),
    (0.1, 1.0),
    (1.0, -0.3),
    (-1.0, 1.0),
    (0.0, 0.0),
    (2.5, 2.5),
    (0.1, 0.3),
)
CLAMPS = ((-0.3, 0.7), (0.0, 6.0), (-np.inf, 0.5), (0.25, np.inf), (-np.inf, np.inf), (0.5, 0.5))


def every_piecewise() -> Iterator[tuple[PiecewiseLinear, Function, tuple[float, ...]]]:
    for below, above in SLOPES:
        f = hinge(np.full(COUNT, below), np.full(COUNT, above))

        def hinged_at(p: Fraction, below: float = below, above: float = above) -> Fraction:
            return Fraction(below if p < 0 else above) * p

        yield f, hinged_at, (0.0,)
    for low, high in CLAMPS:
        kinks = tuple(k for k in (low, high) if np.isfinite(k))

        def clamped(p: Fraction, low: float = low, high: float = high) -> Fraction:
            p = max(p, Fraction(low)) if np.isfinite(low) else p
            return min(p, Fraction(high)) if np.isfinite(high) else p

        yield clamp(low, high), clamped, kinks


def test_piecewise_linear_functions() -> None:
    for seed, (f, exact, kinks) in enumerate(every_piecewise()):
        x = ranges(seed)
        range_, bounds = piecewise_bounds(f, x)
        check_lines(bounds, exact, x, kinks)
        check_values(piecewise_values(f, x), exact, x, kinks)
        assert np.all(range_.lo <= range_.hi)
        error = errors(x, seed)
        check_differences(piecewise_differences(f, x, off_by(error)), exact, x, error, kinks)


def test_mean_value_steps() -> None:
    rng = np.random.default_rng(8)
    low, high = np.sort(rng.standard_normal((2, COUNT)), axis=0)
    error = rng.random(COUNT)
    secant = secant_of_slopes(range_of(Interval(low, high)), off_by(error))
    mapped = elementwise_differences(secant, nothing_known((COUNT,)), off_by(error))
    c = one_each(9)
    pulled = mapped.backward(c)
    for i in range(COUNT):
        for slope in (fraction(low[i]), fraction(high[i])):
            for d in (fraction(error[i]), -fraction(error[i])):
                rest = abs(slope * d - fraction(secant.slope[i]) * d)
                assert rest <= fraction(secant.remainder.bound[i])
                for row in (i, i + COUNT):
                    assert fraction(c[row, i]) * slope * d <= bound_of(pulled, row, i, d)


# --- one after another, and added -----------------------------------------------------------------


def test_compositions_and_sums() -> None:
    x = ranges(10)
    error = errors(x, 10)
    outer, inner = np.full(COUNT, -0.3), np.full(COUNT, 0.1)
    kinks = (0.0, 0.5)

    def first(p: Fraction) -> Fraction:
        return hinged(0.1)(p)

    def second(p: Fraction) -> Fraction:
        return hinged(-0.3)(p)

    def third(p: Fraction) -> Fraction:
        return min(p, Fraction(1, 2))

    one, capped = hinge_values(inner, x), clamp(-np.inf, 0.5)
    both = composed_values(one, lambda y: hinge_values(outer, y))
    check_values(both, lambda p: second(first(p)), x, kinks)
    cut = composed_values(one, lambda y: piecewise_values(capped, y))
    check_values(cut, lambda p: third(first(p)), x, (*kinks, 5.0))
    total = added_values(one, piecewise_values(capped, x))
    check_values(total, lambda p: first(p) + third(p), x, kinks)
    steps = hinge_differences(inner, x, off_by(error))
    check_differences(
        added_differences(steps, piecewise_differences(capped, x, off_by(error))),
        lambda p: first(p) + third(p), x, error, kinks,
    )  # fmt: skip
    check_differences(
        composed_differences(steps, lambda e: hinge_differences(outer, one.range, e)),
        lambda p: second(first(p)), x, error, kinks,
    )  # fmt: skip


# --- and no looser than they are known to be ------------------------------------------------------

ALMOST = 1 + Fraction(1, 2**40)
TINY = Fraction(1, 2**1050)


@below_zero
def test_hinges_have_their_triangle(below: float) -> None:
    """Above, the chord (of a stable element the function); below, the slope that cuts off less."""
    f = hinged(below)
    for seed in range(3):
        x = ranges(seed)
        bounds = hinge_relaxation(np.full(COUNT, below), x)
        mapped = hinge_values(np.full(COUNT, below), x)
        for i in range(COUNT):
            lo, hi = fraction(x.lo[i]), fraction(x.hi[i])
            slack = (hi - lo + abs(lo) + abs(hi)) * Fraction(1, 2**48) + Fraction(1, 2**1069)
            for p in (lo, hi):
                high = fraction(bounds.high_slope[i]) * p + fraction(bounds.high[i])
                assert high <= f(p) + slack * (lo < hi)
            one = lo >= 0 or hi > max(-lo, Fraction(0))
            assert bounds.low_slope[i] == (1.0 if one else below)
            assert bounds.low[i] == 0.0
            values = [f(p) for p in points(x, i)]
            assert fraction(mapped.range.lo[i]) >= min(values) - slack
            assert fraction(mapped.range.hi[i]) <= max(values) + slack
            assert mapped.choice is not None
            assert mapped.choice.free[i] == (lo < 0 < hi)


@below_zero
def test_hinges_have_the_best_of_three_secants(below: float) -> None:
    b = Fraction(below)
    for seed in range(3):
        x = ranges(seed)
        error = errors(x, seed)
        mapped = hinge_differences(np.full(COUNT, below), x, off_by(error))
        c = one_each(3)
        pulled = mapped.backward(c)
        (coefficients,) = pulled.coefficients
        assert coefficients is not None
        assert mapped.unstable is not None
        for i in range(COUNT):
            lo, hi, e = fraction(x.lo[i]), fraction(x.hi[i]), fraction(error[i])
            by_one = min(e, max(Fraction(0), e - lo)) * abs(1 - b)
            by_below = min(e, max(Fraction(0), e + hi)) * abs(1 - b)
            best = min(by_one, by_below, e / 2 * abs(1 - b)) * ALMOST
            slack = e * Fraction(1, 2**45) * (below != 0) + Fraction(1, 2**1050)
            assert mapped.unstable[i] == (min(by_one, by_below) > e / 2 * abs(1 - b)) or below == 1
            for row in (i, i + COUNT):
                assert pulled.constant[row] <= abs(fraction(c[row, i])) * (best + slack) + TINY
            slope = abs(fraction(coefficients[i + 2 * COUNT, i]))
            assert slope <= max(Fraction(1), abs(b))
            assert fraction(mapped.radius.bound[i]) <= (slope * e + best) * ALMOST + slack


def test_piecewise_linear_functions_are_bounded_as_well_as_by_one_slope() -> None:
    """The range is that of the values; at the middle, no slope or chord is better; and a secant is
    as good as each slope that f has over the hull."""
    for seed, (f, exact, kinks) in enumerate(every_piecewise()):
        x = ranges(seed)
        error = errors(x, seed)
        range_, bounds = piecewise_bounds(f, x)
        mapped = piecewise_differences(f, x, off_by(error))
        pulled = mapped.backward(np.eye(COUNT))
        for i in range(COUNT):
            inside = points(x, i, kinks)[:-1]
            values = [exact(p) for p in inside]
            size = sum(map(abs, (*values, *inside, *map(Fraction, kinks))))
            slack = 8 * size * Fraction(1, 2**45) + Fraction(1, 2**1050)
            assert fraction(range_.lo[i]) >= min(values) - slack
            assert fraction(range_.hi[i]) <= max(values) + slack
            middle = (inside[0] + inside[1]) / 2
            at = fraction(bounds.high_slope[i]) * middle + fraction(bounds.high[i])
            below = fraction(bounds.low_slope[i]) * middle + fraction(bounds.low[i])
            slopes = {Fraction(0), *(Fraction(float(np.ravel(s)[0])) for s in f.slopes)}
            slopes |= {
                (exact(q) - exact(p)) / (q - p)
                for p in inside
                for q in inside
                if abs(q - p) > slack
            }
            for s in slopes:
                rests = [v - s * p for v, p in zip(values, inside, strict=True)]
                assert at <= s * middle + max(rests) + slack * (1 + abs(s))
                assert below >= s * middle + min(rests) - slack * (1 + abs(s))
            hull = [inside[0] - fraction(error[i]), inside[1] + fraction(error[i])]
            met = steepness(exact, hull, kinks)
            e, spread = fraction(error[i]), max(met) - min(met)
            wide = Interval(np.full(COUNT, float(hull[0])), np.full(COUNT, float(hull[1])))
            ends = [exact(p) for p in points(wide, 0, kinks)[:-1]]
            swing = (max(ends) - min(ends)) * ALMOST
            most = min(e * max(map(abs, met)), swing) * ALMOST + slack
            assert fraction(mapped.radius.bound[i]) <= most
            assert pulled.constant[i] <= spread * e / 2 * ALMOST + slack


def steepness(f: Function, hull: list[Fraction], kinks: tuple[float, ...]) -> list[Fraction]:
    """The slopes of f over a range, one that is only touched at its end left out."""
    inner = sorted({Fraction(k) for k in kinks if hull[0] < k < hull[1]})
    edges = [hull[0], *inner, hull[1]]
    if hull[0] == hull[1]:
        edges = [hull[0] - Fraction(1, 2**20), hull[0], hull[0] + Fraction(1, 2**20)]
    return [(f(q) - f(p)) / (q - p) for p, q in pairwise(edges)]
