"""Lemmas on where operations have a value in the worlds of `test_lemma_worlds.py`: where they have
none, the result is as far off as you like."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction as Q

import pytest
from test_lemma_worlds import LEAST, Draw, World, assert_met, nearest, truncated

from encoders.lemmas import domains
from encoders.lemmas.lemma import Lemma

WILD = Q(1000)


def computed(d: Draw, z: Q, defined: bool) -> tuple[dict[str, Q], Q]:
    """A result rounded to three bits, if there is one."""
    fl = nearest(z) if defined else WILD
    return {"z": z, "fl": fl, "e": d.beyond(nearest(z) - z)}, fl - z


def defined_quotient(d: Draw) -> World:
    x, y = d.real(), d.float()
    limit = abs(y) + d.choice([Q(-1, 8), Q(0), Q(1), Q(3)])
    defined = y != 0 and abs(y) <= limit
    numbers, error = computed(d, x / y if y else Q(0), defined)
    lo, hi = d.around(y)
    return {**numbers, "y": y, "lo": lo, "hi": hi, "limit": limit}, error


def defined_above_zero(d: Draw) -> World:
    x = d.real()
    numbers, error = computed(d, 1 / x if x else Q(0), x > 0)
    return {**numbers, "x": x, "lo": d.around(x)[0]}, error


def defined_from_zero(d: Draw) -> World:
    root = Q(d.choice([0, d.randint(0, 32)]), 8)
    x = root * root if d.random() < 0.7 else -root - 1
    numbers, error = computed(d, root, x >= 0)
    return {**numbers, "x": x, "lo": d.around(x)[0]}, error


def defined_where_finite(d: Draw) -> World:
    x, limit = d.real(), Q(d.choice([2, 3, 4]))
    numbers, error = computed(d, x * x, abs(x) <= limit)
    return {**numbers, "x": x, "M": d.beyond(x), "limit": limit}, error


def defined_within(d: Draw) -> World:
    """A square root of 1 − x², which is what an inverse sine is steep by."""
    root = Q(d.choice([0, d.randint(0, 32)]), 8)
    x = d.choice([root, -root])
    numbers, error = computed(d, 1 - x * x, abs(x) <= 1)
    lo, hi = d.around(x)
    return {**numbers, "x": x, "lo": lo, "hi": hi, "least": Q(-1), "most": Q(1)}, error


def integers_fit(d: Draw) -> World:
    """Three bits of an integer, which wrap around."""
    x = Q(d.randint(-9, 9))
    lo, hi = d.around(x)
    fl = (x + 4) % 8 - 4
    numbers = {"x": x, "z": x, "fl": fl, "lo": lo, "hi": hi, "least": Q(-4), "most": Q(3)}
    return {**numbers, "e": d.choice([Q(0), Q(1)])}, fl - x


def factors_kept(d: Draw) -> World:
    w, x = d.float(), d.real()
    flushed = Q(1) if 0 < abs(w) <= LEAST and d.random() < 0.8 else Q(0)
    cut = truncated(w * Q(5, 4))
    z, fl = w * x, Q(0) if flushed else cut * x
    numbers = {"z": z, "fl": fl, "e": d.beyond((cut - w) * x), "flushed": flushed}
    return {**numbers, "zeroed": d.beyond(flushed)}, fl - z


def never_nan(d: Draw) -> World:
    """A quotient of two of three kinds of numbers, 1 where that is NaN, and whether it may be."""
    kinds = ("zero", "finite", "infinite")
    a, b = d.choice(kinds), d.choice(kinds)
    nan = Q(int(a == b and a != "finite"))
    return {"nans": nan, "possible": d.beyond(nan)}, nan


WORLDS: dict[str, Callable[[Draw], World]] = {
    "defined-quotient": defined_quotient,
    "defined-above-zero": defined_above_zero,
    "defined-from-zero": defined_from_zero,
    "defined-where-finite": defined_where_finite,
    "defined-within": defined_within,
    "integers-fit": integers_fit,
    "factors-kept": factors_kept,
    "never-nan": never_nan,
}


@pytest.mark.parametrize("lemma", domains.LEMMAS, ids=lambda m: m.name)
def test_operations_are_defined_where_these_lemmas_say(lemma: Lemma) -> None:
    assert_met(lemma.name, WORLDS[lemma.name])
