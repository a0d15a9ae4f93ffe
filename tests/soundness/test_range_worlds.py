"""Lemmas on where real values lie in the worlds of `test_lemma_worlds.py`."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction as Q

import pytest
from test_lemma_worlds import Draw, U, World, assert_met, nearest

from encoders.lemmas.lemma import Lemma
from encoders.lemmas.ranges import reals


def between(d: Draw, x: Q, name: str = "X") -> dict[str, Q]:
    lo, hi = d.around(x)
    return {name: lo, f"{name}_hi": hi}


def stated(d: Draw) -> World:
    x = d.real()
    lo, hi = d.around(x)
    return {"x": x, "a": lo, "b": hi}, Q(0)


def moved(d: Draw) -> World:
    x = d.real()
    return {"x": x, "s": Q(d.choice([-1, 0, 1])), **between(d, x)}, Q(0)


def added(d: Draw) -> World:
    x, y = d.real(), d.real()
    return {"x": x, "y": y, **between(d, x), **between(d, y, "Y")}, Q(0)


def shared(d: Draw) -> World:
    x = d.real()
    return {"x": x, **between(d, x), **between(d, x, "Y")}, Q(0)


def pulled(d: Draw) -> World:
    x = d.real()
    lo, hi = d.around(x)
    return {"x": x, **between(d, x), "U": hi, "V": -lo}, Q(0)


def roundings(d: Draw, n: int) -> dict[str, Q]:
    """γ(n), what it is taken for, and how it is computed."""
    gamma = n * U / (1 - n * U)
    return {"n": Q(n), "u": U, "G": gamma, "g": gamma + d.choice([Q(0), Q(1, 16)])}


def around(d: Draw) -> World:
    """Three numbers, added one after the other in three bits."""
    terms = [d.float() for _ in range(3)]
    m = nearest(nearest(terms[0] + terms[1]) + terms[2])
    size = sum((abs(t) for t in terms), Q(0))
    x = sum(terms, Q(0)) + d.choice([Q(0), d.real(1)])
    numbers = {"m": m, "fl": sum(terms, Q(0)), "S": size, "x": x, "e": d.beyond(x - sum(terms))}
    return {**numbers, **roundings(d, 2)}, Q(0)


def relu(d: Draw) -> World:
    x = d.real()
    return {"x": x, **between(d, x)}, Q(0)


def hinge(d: Draw) -> World:
    x = d.real()
    return {"x": x, "b": d.choice([Q(0), Q(1), Q(1, 4), d.real(1)]), **between(d, x)}, Q(0)


def computed_term(d: Draw) -> World:
    """A weight of three bits times a middle, rounded, for the exact weight times a number."""
    w, m = abs(d.real(1)) + Q(1, 2), d.choice([-1, 1]) * nearest(abs(d.real(1)) + 1)
    x = m + d.choice([Q(0), d.real(1)])
    held = nearest(w)
    y = nearest(held * m) / w
    lo, hi = min(m, x), max(m, x)
    numbers = {"x": x, "y": y, "m": m, "X": lo, "X_hi": hi, "r": abs(held - w) / w * (1 + 2 * U)}
    return {**numbers, **roundings(d, 2)}, x - y


def held_number(d: Draw) -> World:
    x = d.real()
    return {"x": x, "y": nearest(x), "U": d.beyond(x - nearest(x))}, x - nearest(x)


WORLDS: dict[str, Callable[[Draw], World]] = {
    "given-range": stated,
    "found-range": stated,
    "moved-range": moved,
    "range-sum": added,
    "both-ranges": shared,
    "pulled-range": pulled,
    "range-around": around,
    "relu-range": relu,
    "hinge-range": hinge,
}
OF_TERMS = {"computed-term": computed_term, "held-number": held_number}
WORLDS |= OF_TERMS


@pytest.mark.parametrize("lemma", reals.LEMMAS, ids=lambda m: m.name)
def test_real_values_lie_where_these_lemmas_say(lemma: Lemma) -> None:
    assert_met(lemma.name, WORLDS[lemma.name])


@pytest.mark.parametrize("name", OF_TERMS)
def test_terms_are_off_by_what_these_lemmas_say(name: str) -> None:
    assert_met(name, WORLDS[name])
