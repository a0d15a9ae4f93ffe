"""First-order forms and their derivatives hold the exact values at vertices of boxes, in rationals.

A form says |v − centre − slope·t| ≤ radius and lo ≤ v ≤ hi: values are made from vertices t of the
box and from ends of the radius, where the bounds are tight, and go through the operation exactly.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from encoders.arithmetic.exact_fields import object_array
from encoders.arithmetic.runtime import Relation
from encoders.numbers.enclosure import Interval
from encoders.relaxations.affine_forms import Form, flat, variable
from encoders.relaxations.form_fields import Dual, Duals, Forms

BOXES, INPUTS = 60, 2
VERTICES = [(*t, e) for t in itertools.product((-1, 1), repeat=INPUTS) for e in (-1, 1)]
SAMPLES = [*VERTICES, (0, 0, 1), (Fraction(1, 2), Fraction(-1, 3), -1)]
Sample = tuple[Any, ...]


def outward(form: Form) -> Form:
    """The form with the ends that its coefficients have, rounded outward."""
    reach = [
        sum((abs(Fraction(s)) for s in form.slope[:, k]), Fraction(form.radius[k]))
        for k in range(BOXES)
    ]
    ends = [(Fraction(c) - r, Fraction(c) + r) for c, r in zip(form.centre, reach, strict=True)]
    lo = np.array([np.nextafter(float(a), -np.inf) for a, _ in ends])
    hi = np.array([np.nextafter(float(b), np.inf) for _, b in ends])
    return Form(form.centre, form.slope, form.radius, lo, hi)


def random_form(seed: int, away: bool = False) -> Form:
    """Of all sizes, some without slopes and some without a radius; `away` from zero, else around
    or near it."""
    rng = np.random.default_rng(seed)
    scale = 10.0 ** rng.integers(-3, 4, BOXES)
    slope = rng.standard_normal((INPUTS, BOXES)) * scale * rng.choice([0, 0.1, 1], BOXES)
    radius = np.abs(rng.standard_normal(BOXES)) * scale * rng.choice([0, 1e-6, 1], BOXES)
    centre = rng.standard_normal(BOXES) * scale
    if away:
        least = np.abs(slope).sum(axis=0) + radius
        centre = np.where(centre < 0, -1, 1) * (np.abs(centre) + 1.001 * least)
    return outward(Form(centre, slope, radius, centre, centre))


def value(form: Form, k: int, at: Sample) -> Fraction:
    *t, e = at
    slopes = (Fraction(s) * v for s, v in zip(form.slope[:, k], t, strict=True))
    return Fraction(sum(slopes, Fraction(form.centre[k])) + e * Fraction(form.radius[k]))


def holds(found: Form, k: int, at: Sample, exact: Fraction) -> bool:
    *t, _ = at

    def number(a: Any) -> Any:
        v = float(a[..., k if np.shape(a)[-1] > 1 else 0])
        return Fraction(v) if np.isfinite(v) else v

    along = sum((number(s) * v for s, v in zip(found.slope, t, strict=True)), number(found.centre))
    inside = number(found.lo) <= exact <= number(found.hi)
    return bool(inside and abs(exact - along) <= number(found.radius))


def every(*forms: Form) -> Iterator[tuple[int, Sample, list[Fraction]]]:
    for k in range(BOXES):
        for at in SAMPLES:
            yield k, at, [value(f, k, at) for f in forms]


BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "sum": lambda p, q: p + q,
    "difference": lambda p, q: p - q,
    "product": lambda p, q: p * q,
    "square of the first": lambda p, q: p * p,
    "product of sums": lambda p, q: (p + q) * (p - q),
    "one and a product": lambda p, q: 1 + 3 * (p * q),
    "rest of one": lambda p, q: 1 - p,
}


@pytest.mark.parametrize("name", BINARY)
def test_sums_and_products(name: str) -> None:
    p, q = random_form(1), random_form(2)
    found = BINARY[name](p, q)
    for k, at, (x, y) in every(p, q):
        assert holds(found, k, at, BINARY[name](x, y))


@pytest.mark.parametrize("seed", range(3))
def test_quotients(seed: int) -> None:
    p, q = random_form(seed), random_form(seed + 10, away=True)
    ratio, inverse, twice = p / q, 1 / q, 2 / q
    for k, at, (x, y) in every(p, q):
        assert holds(ratio, k, at, x / y)
        assert holds(inverse, k, at, 1 / y)
        assert holds(twice, k, at, 2 / y)


def test_the_reciprocal_is_tight_where_it_touches() -> None:
    """At both ends of [l, h] and at √(l·h), with a slope of its own for each sign."""
    low = np.array([1.0, 0.25, 1e-3, -4.0, -1e3, 2.0**-400])
    high = np.array([4.0, 16.0, 10.0, -1.0, -0.1, 2.0**-396])
    form = variable(0, low[None], high[None])
    found = form.reciprocal()
    middle = np.sqrt(low * high) * np.sign(low)
    for x in (low, high, middle):
        for k, v in enumerate(x):
            t = (Fraction(v) - Fraction(form.centre[k])) / Fraction(form.slope[0, k])
            assert holds(found, k, (t, 0), 1 / Fraction(v))
    assert np.all(found.radius <= 2.0 * np.abs(1 / low - 1 / high))


def test_roots() -> None:
    """√ at squares of rationals, at both ends and where the slope is that of the chord."""
    rng = np.random.default_rng(5)
    roots = np.sort(np.abs(rng.standard_normal((2, BOXES))) * 10.0 ** rng.integers(-3, 4, BOXES), 0)
    roots = roots.astype(np.float32).astype(np.float64)
    roots[0, :5] = 0.0
    form = variable(0, (roots[0] ** 2)[None], (roots[1] ** 2)[None])
    found = form.root()
    for share in (Fraction(0), Fraction(1, 2), Fraction(1), Fraction(1, 7)):
        for k in range(BOXES):
            root = Fraction(roots[0, k]) * (1 - share) + Fraction(roots[1, k]) * share
            t = (root * root - Fraction(form.centre[k])) / Fraction(form.slope[0, k])
            assert holds(found, k, (t, 0), root)


def test_nothing_is_known_of_roots_of_negative_numbers() -> None:
    found = variable(0, np.array([[-1.0, 0.5]]), np.array([[1.0, 2.0]])).root()
    assert np.isinf(found.hi[0])
    assert np.isfinite(found.hi[1])


def test_magnitudes_are_nowhere_below() -> None:
    p = random_form(6)
    found = p.magnitude()
    for k, at, (x,) in every(p):
        *t, _ = at
        slopes = (Fraction(s) * v for s, v in zip(found.slope[:, k], t, strict=True))
        most = sum(slopes, Fraction(found.centre[k])) + Fraction(found.radius[k])
        assert abs(x) <= most
        assert abs(x) <= found.hi[k]


def test_widening_and_scaling() -> None:
    rng = np.random.default_rng(7)
    p = random_form(8)
    by = np.abs(rng.standard_normal(BOXES))
    factor, shift = rng.standard_normal(BOXES), rng.standard_normal(BOXES)
    wider, scaled = p.inflate(by), p.scaled(factor, shift, by)
    for k, at, (x,) in every(p):
        for e in (-1, 1):
            away = e * Fraction(by[k])
            assert holds(wider, k, at, x + away)
            assert holds(scaled, k, at, x * Fraction(factor[k]) + Fraction(shift[k]) + away)


def each(form: Any) -> Any:
    return object_array([form], (1,))


def test_the_larger_one() -> None:
    p, q = random_form(11), random_form(12)
    (found,) = Forms(INPUTS).maximum(each(p), each(q))
    for k, at, (x, y) in every(p, q):
        assert holds(found, k, at, max(x, y))


@pytest.mark.parametrize("relation", Relation)
def test_comparisons(relation: Relation) -> None:
    p, q = random_form(13), random_form(14)
    points = flat(Interval(np.resize([0.0, 1.0, 2.0], BOXES), np.resize([0.0, 1.0, 2.0], BOXES)), 2)
    ones = flat(Interval(np.ones(BOXES), np.ones(BOXES)), 2)
    holds_of: dict[Relation, Callable[[Fraction, Fraction], bool]] = {
        Relation.LESS: lambda x, y: x < y,
        Relation.AT_MOST: lambda x, y: x <= y,
        Relation.EQUAL: lambda x, y: x == y,
    }
    for a, b in ((p, q), (points, ones), (p, p), (p, ones)):
        (found,) = Forms(INPUTS).compare(relation, each(a), each(b))
        for k, at, (x, y) in every(a, b):
            assert holds(found, k, at, Fraction(holds_of[relation](x, y)))


def test_selections() -> None:
    p, q = random_form(15), random_form(16)
    low, high = np.resize([0.0, 0.0, 1.0], BOXES), np.resize([0.0, 1.0, 1.0], BOXES)
    condition = flat(Interval(low, high), INPUTS)
    (found,) = Forms(INPUTS).select(each(condition), each(p), each(q))
    for k, at, (x, y) in every(p, q):
        for c in {low[k], high[k]}:
            assert holds(found, k, at, x if c else y)


# --- derivatives ----------------------------------------------------------------------------------

FIELD = Duals(INPUTS, arguments=2)
DERIVED: dict[str, tuple[Callable[[Any, Any], Any], Callable[[Any, Any], tuple[Any, Any]]]] = {
    "sum": (lambda x, y: x + y, lambda x, y: (1, 1)),
    "difference": (lambda x, y: x - y, lambda x, y: (1, -1)),
    "rest": (lambda x, y: 2 - x, lambda x, y: (-1, 0)),
    "product": (lambda x, y: x * y, lambda x, y: (y, x)),
    "cube": (lambda x, y: x * x * x, lambda x, y: (3 * x * x, 0)),
    "multiple": (lambda x, y: 3 * x, lambda x, y: (3, 0)),
    "quotient": (lambda x, y: x / y, lambda x, y: (1 / y, -x / (y * y))),
    "reciprocal": (lambda x, y: 1 / y, lambda x, y: (0, -1 / (y * y))),
}


def form_of(slope: Form | int) -> Form:
    return FIELD._form(slope)


@pytest.mark.parametrize("name", DERIVED)
def test_derivatives(name: str) -> None:
    f, slopes = DERIVED[name]
    p, q = random_form(21), random_form(22, away=True)
    found = f(FIELD.argument(0, p), FIELD.argument(1, q))
    for k, at, (x, y) in every(p, q):
        assert holds(found.value, k, at, f(x, y))
        for slope, exact in zip(found.slopes, slopes(x, y), strict=True):
            assert holds(form_of(slope), k, at, Fraction(exact))


def test_derivatives_of_roots() -> None:
    low, high = np.array([[1.0, 0.25, 4.0]]), np.array([[4.0, 16.0, 4.5]])
    field = Duals(1, arguments=1)
    (found,) = field.sqrt(each(field.argument(0, variable(0, low, high))))
    for x in (low[0], high[0], np.array([2.25, 1.0, 4.2025])):
        root = [Fraction(round(float(np.sqrt(v)) * 100), 100) for v in x]
        for k, r in enumerate(root):
            assert found.slopes[0].lo[k] <= 1 / (2 * r) <= found.slopes[0].hi[k]


def test_derivatives_at_kinks() -> None:
    p, q = random_form(23), random_form(24)
    (found,) = FIELD.maximum(each(FIELD.argument(0, p)), each(FIELD.argument(1, q)))
    for k, at, (x, y) in every(p, q):
        if x != y:
            for slope, exact in zip(found.slopes, (x > y, y > x), strict=True):
                assert holds(slope, k, at, Fraction(exact))


def test_derivatives_of_selections() -> None:
    """Known where the condition is; where it is open the function may jump."""
    p, q = random_form(25), random_form(26)
    low, high = np.resize([0.0, 0.0, 1.0], BOXES), np.resize([0.0, 1.0, 1.0], BOXES)
    condition = Dual(flat(Interval(low, high), INPUTS), (0, 0))
    a, b = FIELD.argument(0, p), FIELD.argument(1, q)
    (found,) = FIELD.select(each(condition), each(a), each(b))
    for k, at, _ in every(p, q):
        if low[k] == high[k]:
            for slope, exact in zip(found.slopes, (low[k], 1 - low[k]), strict=True):
                assert holds(slope, k, at, Fraction(exact))
        else:
            assert all(np.isinf(s.hi[k]) and np.isinf(s.lo[k]) for s in found.slopes)
