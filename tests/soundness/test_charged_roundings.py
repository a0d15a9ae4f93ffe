"""What float64's own rounding costs, charged by the functions that bounds are put together from.

Each is held against exact rationals on numbers that it rounds inwards, or that underflow: inside a
whole bound the allowances of others hide what one of them leaves out.
"""

from __future__ import annotations

import itertools
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from given_radii import off_by
from operator_checks import example
from test_outward_rounding import dense, exact
from test_pieces_of_bounds import site_and_operator

from encoders.contract.presets import SEQUENTIAL
from encoders.families.images.sampling import product_off
from encoders.lemmas.combining import EXACT
from encoders.lemmas.kernel import exactly_zero
from encoders.numbers.enclosure import FloatArray, Interval, dot_up, norms_up
from encoders.numbers.leaning import Leaning
from encoders.operator import Contribution, ValueMap
from encoders.ops.reductions import reduce_l2
from encoders.quantized import layers
from encoders.relaxations.affine import AffineMap, affine_differences, affine_values
from encoders.relaxations.elementwise import Secant, elementwise_differences
from encoders.relaxations.low_rank import LowRank
from encoders.rounding.rounding_bounds import rounder
from encoders.rounding.sequential_chain import _Chain
from encoders.rounding.tracked import Tracked
from refine.bounds.ellipsoids import norms

UNIT = 2.0**-53
SWALLOWED = np.array([1.0, *[UNIT] * 500])
"""Added one by one, each after the first is lost."""


def test_norms_of_numbers_whose_squares_underflow() -> None:
    v = np.array([[2.0**-540, 2.0**-560, 0.0], [2.0**-530, 2.0**-538, 2.0**-539]])
    for row, norm in zip(v, norms_up(v, axis=1), strict=True):
        assert Fraction(float(norm)) ** 2 >= sum(x**2 for x in exact(row))


def test_norms_of_rows_that_lie_apart_in_memory_are_no_larger_than_their_least() -> None:
    """Columns are added one after the other, and each sum is rounded up."""
    lo = np.full((2, 2000), np.sqrt(0.75 * 2.0**-52))
    lo[:, 0] = 1.0
    least = reduce_l2._range(Interval(np.asfortranarray(lo), np.asfortranarray(lo) + 1.0)).lo
    for row, norm in zip(lo, np.ravel(least).tolist(), strict=True):
        assert 0 < Fraction(norm) ** 2 <= sum(x**2 for x in exact(row))


def test_many_functionals_of_many_numbers_are_summed_upwards() -> None:
    weights = np.full((1, 2, 4096), UNIT / 2)
    weights[:, :, :64] = 1.0  # before what it swallows, in whichever order of those in use
    for found in np.ravel(dot_up(weights, np.ones((2, 4096)), kept=1)).tolist():
        assert Fraction(found) >= 64 + 4032 * Fraction(UNIT / 2)


def test_what_is_left_of_a_row_is_summed_upwards() -> None:
    rng = np.random.default_rng(0)
    spread, a, b, radius = (rng.random((50, 3)) for _ in range(4))
    zero = np.zeros((50, 3))
    found = LowRank(zero, (), zero, spread, ((a, b), (b, a))).remainder(radius)
    alone = LowRank(zero, (), zero, spread, ()).remainder(radius)
    for i, j in itertools.product(range(50), range(3)):
        s, r = exact(spread[i]), exact(radius[i])
        own = s[j] * r[j]
        x, y = exact(a[i]), exact(b[i])
        others = [k for k in range(3) if k != j]
        loose = sum(x[j] * y[k] * r[k] + y[j] * x[k] * r[k] for k in others)
        assert own <= Fraction(float(alone[i, j]))
        assert own + loose <= Fraction(float(found[i, j]))


def test_weights_that_are_off_are_multiplied_upwards() -> None:
    rng = np.random.default_rng(1)
    lost = [np.array([e]) for e in (UNIT * 0.499, UNIT * 0.999, UNIT * 0.999)]  # beside sizes
    for _ in range(300):
        sizes = [1.0 - rng.random(1) / 50, *(1.0 + rng.random((2, 1)) / 10**4)]
        errors = lost if rng.random() < 0.8 else list(rng.random((3, 1)) * 2.0**-20)
        off, largest = product_off(sizes, errors)
        (w, d) = ([Fraction(float(v[0])) for v in part] for part in (sizes, errors))
        most = [x + y for x, y in zip(w, d, strict=True)]
        assert Fraction(float(largest[0])) >= most[0] * most[1] * most[2]
        assert Fraction(float(off[0])) >= most[0] * most[1] * most[2] - w[0] * w[1] * w[2]


@pytest.mark.parametrize("op", ["Where", "Max"])
def test_coefficients_of_what_is_broadcast_are_summed(op: str) -> None:
    """Rows are added one after the other."""
    rows = {"w": np.zeros((len(SWALLOWED), 2), np.float32)}
    if op == "Where":
        rows["k"] = np.ones((len(SWALLOWED), 2), np.bool_)
        case = example("Where", "k x w", (1, 2), constants=rows, opset=16)
    else:
        case = example("Max", "x w", (1, 2), constants=rows)
    site, operator = site_and_operator(case)
    x = Interval(np.full((1, 2), 5.0), np.full((1, 2), 6.0))
    held = [x if i in site.variable else Interval(c := np.asarray(site.constants[i], float), c)
            for i in range(len(site.inputs))]  # fmt: skip
    off = [off_by(np.full(h.shape, 0.25 if i in site.variable else 0.0))
           for i, h in enumerate(held)]  # fmt: skip
    given = [v for i, v in enumerate(zip(held, off, strict=True)) if i in site.variable]
    drawn = np.random.default_rng(3).standard_normal((1, len(SWALLOWED), 2))
    some = False
    for c in (drawn, np.stack([SWALLOWED, -SWALLOWED], axis=1)[None]):
        ranges, errors = [v for v, _ in given], [e for _, e in given]
        moved = operator.differences(site, ranges, errors).backward(c)
        carried = [p for p in moved.coefficients if p is not None]
        assert len(carried) == 1
        lost = sum(
            abs(sum(exact(c[0, :, k])) - Fraction(float(carried[0][0, 0, k]))) / 4 for k in range(2)
        )
        some |= lost > 0
        assert lost <= Fraction(float(moved.cost.bound[0]))
    assert some


class AnyOrder(np.ndarray):
    """Numbers whose products are each as small as some order of summing may make them."""

    def __matmul__(self, other: Any) -> Any:
        a, b = np.asarray(self), np.asarray(other)
        least = a @ b - a.shape[1] * UNIT * (np.abs(a) @ np.abs(b))
        return least.view(AnyOrder)


def test_a_largest_singular_value_is_a_bound_in_every_order_of_sums() -> None:
    row = np.ones((1, 4096))
    assert Fraction(norms.spectral_up(row.view(AnyOrder))) ** 2 >= 4096


def test_sums_of_products_that_underflow_have_ranges() -> None:
    n = 64
    part = dense(np.full((1, n), 2.0**-560))
    x = np.full(n, 1.5 * 2.0**-515)
    found = affine_values(AffineMap((part,), np.zeros(1), np.zeros(1)), [Interval(x, x)]).range
    true = n * Fraction(2.0**-560) * Fraction(1.5 * 2.0**-515)
    assert Fraction(float(found.lo[0])) <= true <= Fraction(float(found.hi[0]))


def test_functionals_of_differences_that_underflow_are_charged() -> None:
    part = dense(np.array([[2.0**-540]]))
    given = off_by(np.array([2.0**1000]))
    c = np.array([[2.0**-540]])
    moved = affine_differences(AffineMap((part,), np.zeros(1), np.zeros(1)), [given]).backward(c)
    (carried,) = moved.coefficients
    assert carried is not None
    lost = abs(Fraction(2.0**-1000) / 2**80 - Fraction(float(carried[0, 0]))) * 2**1000
    assert 0 < lost <= Fraction(float(moved.cost.bound[0]))


@pytest.mark.parametrize("slope", [-0.7, 0.7])
def test_what_scales_pays_for_its_product(slope: float) -> None:
    rng = np.random.default_rng(2)
    slopes, e = slope * rng.random(20), rng.random(20)
    zero = exactly_zero(EXACT, (20,))
    secant = Secant(slopes, zero, np.ones(20, np.bool_))
    given = off_by(e)
    between = elementwise_differences(secant, off_by(np.ones(20)), given)
    assert between.scaled is not None
    rest = exact(between.scaled().rest.bound)
    for m, off, left in zip(exact(slopes), exact(e), rest, strict=True):
        assert left >= abs(m) * off * Fraction(UNIT)


def test_partial_sums_of_a_chain_are_near_their_middles() -> None:
    """A start of either sign, and products that are lost beside it."""
    site, _ = site_and_operator(example("Relu", "x", (1, 1)))
    zero = exactly_zero(EXACT, (1, 40))
    ones, tiny = np.ones((1, 40)), np.full((1, 40), UNIT * 0.75)

    def tracked(v: FloatArray) -> Tracked:
        return Tracked(Interval(v, v), exactly_zero(EXACT, v.shape), float(np.max(np.abs(v))))

    for start in (1.0, -1.0):
        a, b = Tracked(Interval(ones, ones), zero, 1.0), tracked(start * tiny)
        chain = _Chain(rounder(site, SEQUENTIAL), SEQUENTIAL, a, b, tracked(np.array([start])))
        for k, (middle, radius) in enumerate(
            zip(exact(chain.middle), exact(chain.radius), strict=True)
        ):
            true = Fraction(start) * (1 + (k + 1) * Fraction(UNIT * 0.75))
            assert abs(true - middle) <= radius


def test_constants_of_quantised_layers_are_summed_upwards(monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = Interval(np.zeros(1), np.zeros(1))

    class Read:
        range = nothing

        def backward(self, c: FloatArray) -> Contribution:
            return Contribution((c,), np.array([UNIT * 0.75]))

    class Core:
        def values(self, site: Any, ranges: Any) -> ValueMap:
            def backward(c: FloatArray) -> Contribution:
                return Contribution((c, c, None), np.array([1.0]))

            return ValueMap(nothing, backward)  # type: ignore[arg-type]

    class Layer:
        core = Core()

        def computed(self, site: Any) -> tuple[int, ...]:
            return 0, 1, 2

        def plain(self, site: Any) -> Any:
            return site

    monkeypatch.setattr(layers, "_read", lambda *_: None)
    monkeypatch.setattr(layers, "affine_values", lambda *_: Read())
    monkeypatch.setattr(layers, "composed_values", lambda values, _: values)
    made: Any = layers._values
    found = made(Layer(), None, [nothing] * 3).backward(np.ones((1, 1)))
    assert Fraction(float(found.constant[0])) >= 1 + 2 * Fraction(UNIT * 0.75)


def test_rows_that_lean_are_inflated_on_both_sides() -> None:
    lo, hi = np.array([[1.0, -2.0]]), np.array([[3.0, 5.0]])
    rows = Leaning(lo, hi, np.array([[0, 1]]), np.array([4.0]))
    found = rows.inflate(np.array([[0.3, 0.4]]))
    assert isinstance(found, Leaning)
    for ends, wide, side in ((lo, found.lo, -1), (hi, found.hi, 1)):
        for v, w, r in zip(exact(ends), exact(wide), exact(np.array([0.3, 0.4])), strict=True):
            assert r <= side * (w - v) < r + Fraction(1, 2**40)
    squared = exact(np.array([0.3, 0.4]))[0] ** 2 + exact(np.array([0.3, 0.4]))[1] ** 2
    assert (4 - exact(found.least)[0]) ** 2 >= squared
    assert found.least[0] > 3.49
