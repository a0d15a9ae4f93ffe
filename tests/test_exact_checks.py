"""What the checks of operators decide by floats first is decided as rational numbers decide it."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import flint
import numpy as np
import pytest
from exact_checks import Reals

from encoders.arithmetic.exact_fields import enclosure
from encoders.numbers.enclosure import FloatArray

PLACES = 400


def numbers(kind: str) -> list[Any]:
    """Floats, rationals beside them, and balls around them, of many magnitudes."""
    rng = np.random.default_rng(7)
    found: list[Any] = []
    for _ in range(PLACES):
        exact = flint.fmpq(int(rng.integers(-9, 10)), int(rng.integers(1, 9)))
        exact *= flint.fmpq(2) ** int(rng.integers(-70, 70))
        if kind == "floats":
            exact = flint.fmpq(*float(Fraction(int(exact.p), int(exact.q))).as_integer_ratio())
        found.append(flint.arb(exact, 2.0**-40 * abs(float(exact))) if kind == "balls" else exact)
    return found


def values_near(real: list[Any]) -> tuple[FloatArray, FloatArray]:
    """Floats, and limits that they just keep, just miss, or keep by far."""
    rng = np.random.default_rng(8)
    values, limits = [], []
    for number in real:
        low, high = enclosure(number)
        middle = float((low + high) / 2)
        value = middle + float(rng.choice([0.0, 1e-16, -1e-16, 1e-9, 0.5])) * abs(middle)
        off = float(max(Fraction(value) - high, low - Fraction(value), Fraction(0)))
        below, above = math.nextafter(off, 0.0), math.nextafter(off, math.inf)
        values.append(value)
        limits.append(float(rng.choice([0.0, off, below, above, 2.0 * off, 1.0])))
    return np.array(values), np.array(limits)


@pytest.mark.parametrize("kind", ["floats", "rationals", "balls"])
def test_floats_decide_as_rationals_do(kind: str) -> None:
    real = numbers(kind)
    reals = Reals.of([np.array(real, dtype=object)])
    values, limits = values_near(real)
    found = reals.near(values[None], limits[None])[0]
    ends = [enclosure(number) for number in real]
    exactly = [
        max(Fraction(v) - low, high - Fraction(v)) <= Fraction(limit) + (high - low)
        for v, limit, (low, high) in zip(values.tolist(), limits.tolist(), ends, strict=True)
    ]
    assert found.tolist() == exactly
    assert 20 < sum(exactly) < PLACES - 20


@pytest.mark.parametrize("kind", ["floats", "rationals", "balls"])
def test_ranges_hold_what_they_hold(kind: str) -> None:
    outcomes = set()
    for number in numbers(kind):
        low, high = enclosure(number)
        reals = Reals.of([np.array([number], dtype=object)])
        for lo, hi in ((low, high), (low, low), (high, high)):
            for to in (-math.inf, math.inf):
                ends = [math.nextafter(float(end), to) for end in (lo, hi)] + [float(lo), float(hi)]
                for a, b in (ends[:2], ends[2:]):
                    holds = Fraction(a) <= low and high <= Fraction(b)
                    assert reals.are_within(np.array([a]), np.array([b])) == holds
                    outcomes.add(holds)
    assert outcomes == {True, False}


def test_what_is_no_number_is_not_compared() -> None:
    reals = Reals.of([np.array([flint.fmpq(1)], dtype=object)])
    for value, limit in ((np.inf, 1.0), (np.nan, 1.0), (1.0, np.inf)):
        with pytest.raises(OverflowError):
            reals.near(np.array([[value]]), np.array([limit]))
