"""The checker's linear maps against exact rational arithmetic: what they charge covers what float64
loses, in sums that cancel."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from checker.arithmetic import Linear, chosen, convolution, last_bits, upper
from checker.rounding import FORMATS, Rounding

ZERO = Fraction(0)
WINDOWS = np.array([[-1, 0, 1, 2, 3], [0, 1, 2, 3, 4], [1, 2, 3, 4, 5]])
MAPS: dict[str, Callable[[np.random.Generator], tuple[Linear, int, int]]] = {
    "product": lambda rng: (
        convolution(numbers(rng, 7, 40)[..., None], np.zeros((1, 1), np.int64), 40, 1, 1),
        40,
        7,
    ),
    "convolution": lambda rng: (
        convolution(numbers(rng, 4, 2, 3), WINDOWS, 4, 6, 2),
        24,
        20,
    ),
    "scaled": lambda rng: (chosen(rng.integers(-1, 9, 12), 9, numbers(rng, 12)), 9, 12),
}


def numbers(rng: np.random.Generator, *shape: int) -> Any:
    """Of many magnitudes, so that a large term stands beside small ones."""
    return rng.uniform(-1, 1, shape) * 2.0 ** rng.integers(-20, 20, shape)


def exact_matrix(linear: Linear, inputs: int, outputs: int) -> list[list[Fraction]]:
    """M, column by column: one product is exact in float64 where the other factor is 1."""
    unit = np.eye(inputs)
    columns = [linear.forward(linear.weights, unit[j]) for j in range(inputs)]
    return [[Fraction(float(columns[j][i])) for j in range(inputs)] for i in range(outputs)]


def inner(c: Any, x: Any) -> Fraction:
    return sum(
        (Fraction(float(a)) * Fraction(float(b)) for a, b in zip(c, x, strict=True)),
        ZERO,
    )


@pytest.mark.parametrize("name", MAPS)
def test_what_is_charged_covers_what_is_lost(name: str) -> None:
    rng, lost = np.random.default_rng(5), 0
    for _ in range(20):
        linear, inputs, outputs = MAPS[name](rng)
        c, x = numbers(rng, 1, outputs), numbers(rng, inputs)
        matrix = exact_matrix(linear, inputs, outputs)
        y = [inner(map(float, row), x) for row in matrix]
        meant = sum((Fraction(float(a)) * b for a, b in zip(c[0], y, strict=True)), ZERO)
        sent, cost = linear.back(c, np.abs(x))
        found = inner(sent[0], x)
        lost += found != meant
        assert abs(found - meant) <= Fraction(float(cost[0]))
        high = linear.over(x, x)
        low = linear.over(-x, -x)
        for value, above, below in zip(y, high, low, strict=True):
            assert -Fraction(float(below)) <= value <= Fraction(float(above))
    assert lost > 10, "nothing was lost, so that nothing was tested"


def test_upper_bounds_and_last_bits() -> None:
    rng = np.random.default_rng(6)
    for _ in range(50):
        c, lo = numbers(rng, 1, 30), numbers(rng, 30)
        hi = lo + np.abs(numbers(rng, 30)) * (rng.random(30) < 0.5)
        ends = [b if a > 0 else d for a, b, d in zip(c[0], hi, lo, strict=True)]
        assert inner(c[0], ends) <= Fraction(float(upper(c, lo, hi)[0]))
        third = [Fraction(float(a)) / 3 for a in c[0]]
        rounded = np.array([[float(a) for a in third]])
        missing = [abs(a - Fraction(float(b))) for a, b in zip(third, rounded[0], strict=True)]
        moved = sum((m * Fraction(float(abs(x))) for m, x in zip(missing, lo, strict=True)), ZERO)
        assert 0 < moved <= Fraction(float(last_bits(rounded, np.abs(lo))[0]))


@pytest.mark.parametrize("name", FORMATS)
def test_half_an_ulp_of_the_smallest_numbers_is_not_lost(name: str) -> None:
    """In float64, too, where half of the smallest subnormal is no number."""
    rounding = Rounding(name, (False, False))
    ulp = Fraction(2) ** (rounding.emin - rounding.p + 1)
    for size in (float(ulp), float(3 * ulp), 0.75 * rounding.least, rounding.least):
        found = Fraction(float(rounding.any(np.array([size]))[0]))
        assert found >= ulp / 2, size
