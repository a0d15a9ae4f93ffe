"""Outward-rounded arithmetic against exact rationals, on numbers that float64 rounds inwards."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from encoders.numbers.enclosure import (
    SMALLEST,
    Interval,
    LinearPart,
    add_down,
    add_up,
    all_in_blocks,
    any_in_blocks,
    dot_up,
    gamma,
    in_blocks,
    inner_up,
    midpoint_radius,
    multiply_up,
    nothing,
    raised,
    some,
    sum_up,
    with_zero,
)

SIZES = (40, 1500, 16_500)  # a few, many, and more than one block
UNIT = Fraction(1, 2**53)
LEAST = Fraction(1, 2**1074)


def exact(a: Any) -> list[Fraction]:
    return [Fraction(v) for v in np.ravel(a).tolist()]


def numbers(size: int, seed: int, sign: bool = True) -> Any:
    """Of all magnitudes, zeros and subnormal numbers among them; half of large ones ordinary."""
    rng = np.random.default_rng(seed)
    power = np.where(
        rng.random(size) < 0.3, rng.integers(-1070, 400, size), rng.integers(-4, 5, size)
    )
    values = rng.standard_normal(size) * 2.0**power
    values[rng.random(size) < 0.1] = 0.0
    return values if sign else np.abs(values)


def ordinary(size: int, seed: int) -> Any:
    """Positive and far from underflow: what quicker ways are for."""
    return np.random.default_rng(seed).random(size) + 0.5


PAIRS: dict[str, Callable[[int], tuple[Any, Any]]] = {
    "mixed": lambda n: (numbers(n, 1), numbers(n, 2)),
    "not negative": lambda n: (numbers(n, 3, sign=False), numbers(n, 4, sign=False)),
    "ordinary": lambda n: (ordinary(n, 5), ordinary(n, 6)),
    "one for all": lambda n: (ordinary(n, 7), np.asarray(1.0 / 3.0)),
    "negative": lambda n: (-ordinary(n, 8), -ordinary(n, 9)),
    "little above a power of two": lambda n: (
        np.where(np.arange(n) % 3, 1.0 + 2.0**-27, 0.0),
        np.full(n, 1.0 - 2.0**-27 + 2.0**-53) * np.where(np.arange(n) % 2, 1.0, -1.0),
    ),
    "a little beside a power of two": lambda n: (
        np.where(np.arange(n) % 2, 1.0, -1.0),
        np.where(np.arange(n) % 3, 2.0**-54, -(2.0**-55)),
    ),
    "opposite signs": lambda n: (ordinary(n, 10), -ordinary(n, 11)),
}
both = pytest.mark.parametrize("pair", PAIRS)
sizes = pytest.mark.parametrize("size", SIZES)


@both
@sizes
def test_sums(pair: str, size: int) -> None:
    a, b = PAIRS[pair](size)
    b_wide = np.broadcast_to(b, a.shape)
    up, down = exact(add_up(a, b)), exact(add_down(a, b))
    for x, y, high, low in zip(exact(a), exact(b_wide), up, down, strict=True):
        assert low <= x + y <= high
        assert max(high - (x + y), (x + y) - low) <= 6 * UNIT * abs(x + y)


@both
@sizes
def test_products(pair: str, size: int) -> None:
    a, b = PAIRS[pair](size)
    b_wide = np.broadcast_to(b, a.shape)
    for x, y, high in zip(exact(a), exact(b_wide), exact(multiply_up(a, b)), strict=True):
        assert x * y <= high <= x * y + 6 * UNIT * abs(x * y) + 2 * LEAST * (x * y != 0)


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@sizes
def test_a_product_with_zero_is_zero(size: int) -> None:
    infinite = np.full(size, np.inf)
    infinite[::2] = 3.0
    assert not np.any(multiply_up(np.zeros(size), infinite))
    assert not np.any(multiply_up(infinite, np.zeros(size)))
    assert np.all(multiply_up(infinite, 2.0)[1::2] == np.inf)


@sizes
def test_blocks_change_nothing(size: int) -> None:
    a, b = numbers(size, 1).reshape(-1, 20), numbers(20, 2)
    c = np.broadcast_to(3.0, a.shape)

    def f(x: Any, y: Any, z: Any) -> Any:
        return x - 2.0 * y * z

    def two(x: Any, y: Any) -> Any:
        return x - y, x + 2.0 * y

    assert np.array_equal(in_blocks(f, a, b, c), f(a, b, c))
    assert np.array_equal(in_blocks(f, a, 0.5, c), f(a, 0.5, c))
    for found, expected in zip(all_in_blocks(two, b, a), two(b, a), strict=True):
        assert np.array_equal(found, expected)
    last = np.zeros(size)
    last[-1] = 1.0
    assert any_in_blocks(lambda v: v > 0, last)
    assert not any_in_blocks(lambda v: v > 1, last)


def test_whether_some_number_is_not_zero() -> None:
    late = np.zeros((3, 4))
    assert not some(late)
    late[2, 3] = 1.0
    assert some(late)
    assert not some(nothing((5, 5)))
    assert some(np.broadcast_to(2.0, (5, 5)))


def swallowed(count: int) -> Any:
    """A one whose sum with each of the others rounds down to itself."""
    return np.concatenate([[1.0], np.full(count - 1, 2.0**-53 * 0.999)])


@pytest.mark.parametrize("count", [1, 7, 300, 5000])
def test_long_sums(count: int) -> None:
    for a in (swallowed(count), ordinary(count, 1), numbers(count, 2, sign=False)):
        assert sum(exact(a)) <= Fraction(float(sum_up(a)))
        rows = np.stack([a, 2 * a])
        by_row, by_column = sum_up(rows, axis=1), sum_up(rows, axis=0)
        assert all(sum(exact(r)) <= s for r, s in zip(rows, exact(by_row), strict=True))
        assert all(3 * v <= s for v, s in zip(exact(a), exact(by_column), strict=True))
        weights = np.stack([np.ones(count), -np.ones(count), ordinary(count, 3), numbers(count, 4)])
        weights = weights.clip(-1e100, 1e100)
        limited = a.clip(0.0, 1e100)
        for w, up in zip(weights, exact(dot_up(weights, limited)), strict=True):
            total = sum(abs(x) * y for x, y in zip(exact(w), exact(limited), strict=True))
            assert total <= up
        for s in (limited, limited * np.where(np.arange(count) % 2, -1.0, 1.0), -limited):
            for w, up in zip(weights, exact(inner_up(weights, s)), strict=True):
                assert sum(x * y for x, y in zip(exact(w), exact(s), strict=True)) <= up


def test_dot_products_with_unknown_numbers() -> None:
    weights = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0], [-1.0, 2.0]])
    found = dot_up(weights, np.array([1.0, np.inf]))
    assert 1.0 <= found[0] < 1.1
    assert found[1] == found[3] == np.inf
    assert found[2] < 1e-300
    assert np.all(dot_up(weights, np.array([1.0, np.nan]))[[1, 3]] == np.inf)
    assert np.all(inner_up(weights, np.array([1.0, np.nan]))[[1, 3]] == np.inf)
    assert not np.any(dot_up(weights, np.zeros(2)))
    assert not np.any(inner_up(weights, np.zeros(2)))


def test_dot_products_that_underflow() -> None:
    count = 50
    tiny = np.full(count, 2.0**-1074)
    weights = np.full((3, count), 0.49)
    weights[1], weights[2] = -0.49, 0.0
    total = Fraction(0.49) * LEAST * count
    assert total <= Fraction(float(dot_up(weights, tiny)[0]))
    assert total <= Fraction(float(inner_up(weights, tiny)[0]))
    assert -total <= Fraction(float(inner_up(weights, tiny)[1]))


def test_gamma() -> None:
    for n in (0, 1, 2, 1000, 2**30, 2**40):
        assert n * UNIT / (1 - n * UNIT) <= Fraction(gamma(n)) <= n * UNIT * Fraction(1001, 1000)
    with pytest.raises(ValueError, match="too long"):
        gamma(2**40 + 1)


def test_raised() -> None:
    a = np.array([0.0, 2.0**-1074, 2.0**-501, 2.0**-500, 2.0**-499, 1.0])
    assert raised(a).tolist() == [0.0, 2.0**-500, 2.0**-500, 2.0**-500, 2.0**-499, 1.0]
    assert raised(a[3:]) is not None
    assert np.array_equal(raised(a[3:]), a[3:])


# --- intervals ------------------------------------------------------------------------------------


def random_interval(size: int, seed: int) -> Interval:
    ends = np.sort([numbers(size, seed), numbers(size, seed + 50)], axis=0)
    return Interval(ends[0], ends[1])


@sizes
def test_intervals(size: int) -> None:
    x, r = random_interval(size, 1), numbers(size, 2, sign=False)
    wider, (middle, radius) = x.inflate(r), midpoint_radius(x)
    columns = (x.lo, x.hi, r, wider.lo, wider.hi, x.magnitude, middle, radius)
    for lo, hi, by, low, high, most, mid, around in zip(*map(exact, columns), strict=True):
        assert low <= lo - by
        assert hi + by <= high
        assert most == max(abs(lo), abs(hi))
        assert mid - around <= lo <= hi <= mid + around
        assert around <= (hi - lo) * Fraction(51, 100) + UNIT * abs(mid) * 8 + 4 * LEAST
    point = midpoint_radius(Interval(x.lo, x.lo))
    assert np.array_equal(point[0], x.lo)
    assert not np.any(point[1])


def test_common_points_and_zeros() -> None:
    a = Interval(np.array([0.0, -1.0, 2.0]), np.array([3.0, 1.0, 4.0]))
    b = Interval(np.array([1.0, -2.0, 1.0]), np.array([2.0, 0.5, 3.0]))
    both_of = a.intersect(b)
    assert both_of.lo.tolist() == [1.0, -1.0, 2.0]
    assert both_of.hi.tolist() == [2.0, 0.5, 3.0]
    c = Interval(np.array([1.0, -3.0, 1.0, -1.0]), np.array([2.0, -2.0, 2.0, 1.0]))
    held = with_zero(c, np.array([True, True, False, True]))
    assert held.lo.tolist() == [0.0, -3.0, 1.0, -1.0]
    assert held.hi.tolist() == [2.0, 0.0, 2.0, 1.0]


def test_an_unbounded_interval_has_no_small_radius() -> None:
    ends = Interval(np.array([-np.inf, 0.0, -np.inf]), np.array([1.0, np.inf, np.inf]))
    _, radius = midpoint_radius(ends)
    assert not np.any(np.isfinite(radius))


# --- linear parts ---------------------------------------------------------------------------------


def dense(matrix: Any, relative: float = 0.0) -> LinearPart:
    floor = np.where(matrix != 0, np.maximum(np.abs(matrix), 2.0**-500), 0.0)
    outputs, inputs = matrix.shape
    return LinearPart(
        lambda x: x @ matrix.T,
        lambda x: x @ floor.T,
        lambda c: c @ matrix,
        terms=inputs,
        adjoint_terms=outputs,
        relative=relative,
    )


@pytest.mark.parametrize("relative", [0.0, 2.0**-20])
def test_linear_parts(relative: float) -> None:
    """Coefficients off by `relative` upwards, the most unfavourable of what is allowed."""
    rng = np.random.default_rng(3)
    matrix = rng.standard_normal((6, 9)) * 10.0 ** rng.integers(-3, 4, (6, 9))
    matrix[rng.random(matrix.shape) < 0.2] = 0.0
    part = dense(matrix, relative)
    values = np.abs(rng.standard_normal(9))
    true = [[Fraction(v) * (1 + Fraction(relative)) for v in row] for row in matrix.tolist()]
    for row, up in zip(true, exact(part.magnitude_up(values)), strict=True):
        assert sum(abs(m) * v for m, v in zip(row, exact(values), strict=True)) <= up
    rho, tiny = part.adjoint_error(values), part.adjoint_underflow(values)
    for c in rng.standard_normal((8, 6)):
        pulled = exact(part.adjoint(c[None])[0])
        for signs in rng.choice([-1.0, 1.0], (4, 9)):
            x = exact(values * signs)
            outputs = [sum(m * v for m, v in zip(row, x, strict=True)) for row in true]
            forward = sum(k * y for k, y in zip(exact(c), outputs, strict=True))
            back = sum(p * v for p, v in zip(pulled, x, strict=True))
            allowed = sum(abs(k) * r for k, r in zip(exact(c), exact(rho), strict=True))
            assert abs(Fraction(forward - back)) <= Fraction(allowed) + Fraction(tiny)


def test_relative_errors_alone_are_charged() -> None:
    """A part that only scales has no sum to round, and coefficients that are not exact."""
    scale = np.array([3.0, -2.0])
    part = LinearPart(
        lambda x: x * scale, lambda x: x * abs(scale), lambda c: c * scale, 1, 0, 0.25
    )
    assert np.all(part.adjoint_error(np.ones(2)) >= [0.75, 0.5])
    assert np.all(part.magnitude_up(np.ones(2)) >= 1.25 * np.abs(scale))
    assert part.adjoint_underflow(np.ones(2)) == 0.0
    moved = replace(part, terms=0, relative=0.0)
    assert not np.any(moved.adjoint_error(np.ones(2)))


def test_linear_parts_of_unknown_and_tiny_numbers() -> None:
    part = dense(np.array([[1.0, 0.0], [0.0, 2.0], [2.0**-600, 2.0**-700]]))
    found = part.magnitude_up(np.array([np.inf, 1.0]))
    assert found[0] == np.inf
    assert found[2] == np.inf
    assert 2.0 <= found[1] < 2.1
    assert not np.any(part.magnitude_up(np.zeros(2)))
    tiny = part.magnitude_up(np.full(2, 2.0**-1074))
    assert np.all(tiny >= SMALLEST)
    underflow = part.adjoint_underflow(np.array([8.0, 1.0]))
    assert underflow >= 8.0 * SMALLEST * 3 * 2
