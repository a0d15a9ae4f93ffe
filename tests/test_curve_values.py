"""Values of formulas at many numbers at once: enclosed by polynomials as they are in balls."""

from __future__ import annotations

import flint
import numpy as np
import pytest
from test_functions import CURVES

from encoders.arithmetic.exact_fields import Balls
from encoders.curves import values
from encoders.curves.curves import linear_bounds_of, range_of, slopes_of
from encoders.curves.values import MANY, ball_array, enclosed
from encoders.functions.curve import Curve, Formula, Shape
from encoders.functions.exp import EXP
from encoders.functions.log import LOG
from encoders.functions.waves import SIN
from encoders.numbers.enclosure import FloatArray, Interval

every_curve = pytest.mark.parametrize("name", CURVES)
PRECISE = Balls(3000)


def numbers(curve: Curve, seed: int) -> FloatArray:
    """Numbers of ordinary sizes, near 1, tiny and large ones, and zeros, where the curve is."""
    rng = np.random.default_rng(seed)
    wide = rng.standard_normal(400) * np.exp(rng.uniform(-30.0, 4.0, 400))
    x = np.concatenate(
        [
            2.0 * rng.standard_normal(2 * MANY),
            1.0 + 1e-5 * rng.standard_normal(MANY // 2),
            wide,
            [0.0, -0.0, 1.0, 2.0**-1074, 2.0**-600],
        ]
    )
    x = np.concatenate([x, np.abs(x)])
    return np.asarray(x[(x >= curve.start) & (x <= curve.end)])


def assert_enclosed(formula: Formula, x: FloatArray, found: Interval) -> None:
    """Balls of 3,000 bits lie within the ends, at every so many of the numbers."""
    with PRECISE.working():
        some = np.arange(0, x.size, 61)
        exact = np.broadcast_to(np.asarray(formula(PRECISE, ball_array(x[some]))), some.shape)
        for i, ball in zip(some, exact, strict=True):
            if flint.arb(ball).is_finite():
                ends = flint.arb(found.lo[i]), flint.arb(found.hi[i])
                assert ends[0] <= ball <= ends[1], (x[i], found.lo[i], found.hi[i], ball)


@every_curve
def test_many_numbers_are_enclosed_as_closely_as_few(name: str) -> None:
    curve = CURVES[name]
    met = 0
    for piece in curve.pieces:
        if piece.shape is Shape.UNKNOWN or piece.start > 8.0 or piece.end < -8.0 or met > 8:
            continue
        met += 1
        x = numbers(curve, met)
        x = x[(x >= piece.start) & (x <= piece.end)]
        if x.size < 16:
            continue
        x = np.resize(x, max(x.size, MANY))
        for formula in (piece.value, piece.slope):
            found = enclosed(formula, x)
            assert_enclosed(formula, x, found)
            few = enclosed(formula, x[: MANY - 1])
            wide, narrow = found.hi[: MANY - 1] - found.lo[: MANY - 1], few.hi - few.lo
            size = np.maximum(np.abs(few.lo), np.abs(few.hi))
            # what a cell's polynomial loses beside its own size
            assert np.all(wide <= 2.0 * narrow + 2.0**-44 * np.maximum(size, 2.0**-9))


def test_polynomials_are_what_is_used() -> None:
    x = 1.0 + np.random.default_rng(0).random(4 * MANY)
    where, low, high = values._by_polynomials(EXP.shape.pieces[0].value, x, 8)
    assert where.size == x.size
    assert np.all(high - low <= 2.0**-49 * high)


def test_what_loses_much_or_has_no_series_is_left_to_balls() -> None:
    x = 1e6 + 1e3 * np.random.default_rng(0).random(4 * MANY)
    for formula in (SIN.shape.pieces[0].value, lambda field, a: field.maximum(a, a)):
        assert values._by_polynomials(formula, x, 8)[0].size == 0
        assert_enclosed(formula, x, enclosed(formula, x))
    x = 600.0 + 5.0 * np.random.default_rng(0).random(MANY)
    assert [values._by_polynomials(EXP.shape.pieces[0].value, x, d)[0].size for d in (8, 14)] == [
        0,
        x.size,
    ]


def test_outside_a_domain_nothing_is_known() -> None:
    x = np.linspace(-1.0, 1.0, 4 * MANY)
    found = enclosed(LOG.shape.pieces[0].value, x)
    assert np.all(found.lo[x <= 0.0] == -np.inf)
    assert np.all(found.hi[x < 0.0] == np.inf)
    assert np.all(np.isfinite(found.lo[x > 0.0]))


def test_wrong_polynomials_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is charged is needed: a coefficient off by 2^-30 of itself leaves numbers outside."""
    made = values._polynomials

    def wrong(formula: Formula, centres: FloatArray, widths: FloatArray) -> object:
        coefficients, lost = made(formula, centres, widths)
        coefficients[2] *= 1.0 + 2.0**-30
        return coefficients, lost

    monkeypatch.setattr(values, "_polynomials", wrong)
    x = 1.0 + np.random.default_rng(0).random(4 * MANY)
    formula = EXP.shape.pieces[0].value
    with pytest.raises(AssertionError):
        assert_enclosed(formula, x, enclosed(formula, x))


@pytest.mark.parametrize("name", ["tanh", "sigmoid", "gelu", "exp", "softplus", "erf", "atan"])
def test_many_intervals_have_the_bounds_of_few(name: str) -> None:
    """Ranges, slopes and lines are those of the same intervals a few at a time, or little more."""
    curve = CURVES[name]
    rng = np.random.default_rng(3)
    lo = 3.0 * rng.standard_normal(2 * MANY)
    x = Interval(lo, lo + rng.choice([0.0, 1e-6, 0.3, 4.0], lo.size))
    few = Interval(x.lo[:200], x.hi[:200])
    many, alone = range_of(curve, x), range_of(curve, few)
    assert np.all(many.lo[:200] <= alone.lo + 2.0**-48 * np.abs(alone.lo))
    assert np.all(np.abs(many.hi[:200] - alone.hi) <= 2.0**-44 * many.magnitude[:200])
    for found, near in zip(slopes_of(curve, x), slopes_of(curve, few), strict=True):
        assert np.all(np.abs(found[:200] - near) <= 2.0**-40)
    lines, near_lines = linear_bounds_of(curve, x, many), linear_bounds_of(curve, few, alone)
    middle = 0.5 * few.lo + 0.5 * few.hi
    for where in (few.lo, middle, few.hi):
        value = curve_at(curve, where)
        below = lines.low_slope[:200] * where + lines.low[:200]
        above = lines.high_slope[:200] * where + lines.high[:200]
        assert np.all(below <= value + 1e-13 * (1.0 + np.abs(value)))
        assert np.all(above >= value - 1e-13 * (1.0 + np.abs(value)))
    size = 1.0 + many.magnitude[:200]
    assert np.all(np.abs(lines.high[:200] - near_lines.high) <= 1e-12 * size)
    assert np.all(np.abs(lines.low[:200] - near_lines.low) <= 1e-12 * size)


def curve_at(curve: Curve, x: FloatArray) -> FloatArray:
    found = range_of(curve, Interval(x, x))
    return np.asarray(0.5 * found.lo + 0.5 * found.hi)
