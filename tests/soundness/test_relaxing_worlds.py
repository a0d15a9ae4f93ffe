"""Lemmas on linear bounds in the worlds of `test_lemma_worlds.py`."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction as Q

import pytest
from test_lemma_worlds import Draw, World, assert_met


def hinge_lines(d: Draw) -> World:
    """Chords and lines of other slopes, some of them too low by a little; what crosses is met."""
    b = d.choice([Q(0), Q(1, 4), Q(1), Q(-1, 2)])
    x = d.real()
    lo, hi = d.around(x)

    def hinge(at: Q) -> Q:
        return at if at >= 0 else b * at

    chord = (hinge(hi) - hinge(lo)) / (hi - lo) if lo < hi else d.choice([b, Q(1)])
    s = d.choice([chord, chord, b, Q(1), (1 + b) / 2])
    over = max(hinge(p) - s * p for p in (lo, hi, min(max(Q(0), lo), hi)))
    t = over + d.choice([Q(0), Q(0), Q(1, 8), Q(-1, 8)])
    low = d.choice([b, Q(1), (1 + b) / 2, Q(2)])
    error = max(Q(0), hinge(x) - (s * x + t)) + max(Q(0), low * x - hinge(x))
    return {"x": x, "X": lo, "X_hi": hi, "b": b, "s": s, "t": t, "l": low}, error


def convex_piece(d: Draw) -> World:
    """The square minus m·x, whose tangent touches it about where its slope is that."""
    a = d.real(1)
    b = a + d.choice([Q(0), Q(1, 2), Q(2)])
    m = d.real()
    x = a + (b - a) * Q(d.randint(0, 8), 8)
    at = min(max(m / 2 + d.choice([Q(0), Q(1, 16)]), a), b) + d.choice([Q(0), Q(0), Q(1)])

    def g(p: Q) -> Q:
        return p * p - m * p

    tau = 2 * at - m
    low = g(at) + d.choice([Q(0), Q(0), Q(-1, 16)])
    top = max(g(a), g(b))
    steep = dict(zip(("tau_lo", "tau_hi"), d.around(tau), strict=True))
    numbers = {"x": x, "g": g(x), "a": a, "z": b, "at": at, "low": low, "top": top, **steep}
    numbers |= {"g_t": g(at), "g_a": g(a), "g_b": g(b), "tau": tau}
    return numbers, max(Q(0), low - g(x)) + max(Q(0), g(x) - top)


WORLDS: dict[str, Callable[[Draw], World]] = {
    "hinge-lines": hinge_lines,
    "convex-piece": convex_piece,
}


@pytest.mark.parametrize("name", WORLDS)
def test_lines_are_as_these_lemmas_say(name: str) -> None:
    assert_met(name, WORLDS[name])
