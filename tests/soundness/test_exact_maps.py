"""Pull-backs through single operators in exact rationals, the float64 roundings of ours included.

At a point the bounds on values are no wider than what float64 may do to them, and errors that move
an operator as a plane leave nothing else either: there a rounding that nobody charged shows.
"""

from __future__ import annotations

from contextlib import suppress
from fractions import Fraction
from typing import Any

import flint
import numpy as np
import pytest
from given_radii import off_by
from test_traits import FIELD, real, steps

from encoders.arithmetic.exact_fields import fraction
from encoders.functions.accuracy import Transcendental
from encoders.numbers.enclosure import Interval
from encoders.program import Step
from encoders.registry import operators

NAMES = sorted(set(operators()) - {"And", "Or", "Not", "GroupNormalization"})
"""All but those of truth values, and one whose type is not inferred in the examples' opset."""
IRRATIONAL = (Transcendental, ZeroDivisionError, NotImplementedError, ValueError)
LARGEST = 200


def exact(values: Any) -> np.ndarray:
    """Floats as rationals, in an array of objects."""
    given = np.asarray(values, np.float64)
    made = [flint.fmpq(f.numerator, f.denominator) for f in map(Fraction, given.ravel().tolist())]
    found = np.empty(given.size, dtype=object)
    found[:] = made
    return found.reshape(given.shape)


def total(functional: np.ndarray, at: np.ndarray) -> Fraction:
    """Σ c·x, exactly."""
    products = exact(functional).ravel() * np.asarray(at).ravel()
    return fraction(sum(products.tolist(), flint.fmpq(0)))


def usable(step: Step) -> bool:
    site = step.site
    kinds = [site.type_of(i) for i in site.variable]
    apart = len({site.node.inputs[i] for i in site.variable}) == len(site.variable)
    small = apart and all(0 < t.size <= LARGEST for t in (*kinds, *site.outputs))
    return bool(kinds) and small and all(t.dtype.is_float for t in (*kinds, *site.outputs[:1]))


@pytest.mark.parametrize("name", NAMES)
def test_maps_hold_to_the_last_bit(name: str) -> None:
    rng = np.random.default_rng(len(name))
    try:
        found = [step for step in steps(name) if usable(step)][:3]
    except KeyError:
        pytest.skip("no example has this operator alone")
    for step in found:
        with suppress(*IRRATIONAL):
            _check(step, rng)


def _check(step: Step, rng: np.random.Generator) -> None:
    site, operator = step.site, step.operator
    shapes = [site.type_of(i).shape for i in site.variable]
    x = [rng.uniform(-2.0, 3.0, s) for s in shapes]
    e = [rng.uniform(0.0, 0.1, s) for s in shapes]
    d = [v * rng.choice([-1.0, 1.0], v.shape) for v in e]
    ranges = [Interval(v, v) for v in x]

    def run(at: list[np.ndarray]) -> np.ndarray:
        given: list[Any] = [v[None] for v in at]
        out: np.ndarray = real(operator, site, list(site.arguments(given, _stored).given))
        return np.asarray(out[0], dtype=object)

    here = run([exact(v) for v in x])
    there = run([np.asarray(exact(v) + exact(w)) for v, w in zip(x, d, strict=True)])
    moved = np.asarray(there - here, dtype=object)
    values = operator.values(site, ranges)
    differences = operator.differences(site, ranges, [off_by(v) for v in e])
    for at, low, high in zip(here.ravel(), values.range.lo.ravel(), values.range.hi.ravel(),
                             strict=True):  # fmt: skip
        assert low <= high
        assert low == -np.inf or Fraction(float(low)) <= fraction(at)
        assert high == np.inf or fraction(at) <= Fraction(float(high))
    c = rng.standard_normal((2, *site.outputs[0].shape))
    for functionals in (c, -c):
        for pulled, start, result in (
            (values.backward(functionals), x, here),
            (differences.backward(functionals), d, moved),
        ):
            for k in np.flatnonzero(np.isfinite(pulled.constant)):
                pairs = [*zip(pulled.coefficients, start, strict=True)]
                parts = (total(p[k], exact(v)) for p, v in pairs if p is not None)
                right = sum(parts, Fraction(float(pulled.constant[k])))
                assert total(functionals[k], result) <= right, site.node.describe()


def _stored(stored: Any, kind: Any) -> Any:
    return FIELD.constant(stored)
