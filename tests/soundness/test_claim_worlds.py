"""Lemmas on boxes, tolerances and unsafe sets in the worlds of `test_lemma_worlds.py`."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction as Q

import pytest
from test_lemma_worlds import Draw, World, assert_met

from encoders.lemmas import claims
from encoders.lemmas.functions import CONVEX_PIECE, HINGE_LINES
from encoders.lemmas.reading.exact import Exact


def within_part(d: Draw) -> World:
    x, off = d.real(), d.choice([Q(0), d.real(1)])
    lo, hi = d.around(x)
    a, b = lo - d.choice([Q(0), Q(1)]), hi + d.choice([Q(0), Q(1)])
    given = d.beyond(off)
    allowed = given + d.choice([Q(0), Q(1)])
    ends = {"x": x, "lo": lo, "hi": hi, "a": a, "b": b}
    return {**ends, "off": off, "given": given, "allowed": allowed}, Q(0)


def of_part(d: Draw) -> World:
    found = d.real()
    return {"gap": Q(0), "z": Q(0), "d": found, "e": d.beyond(found)}, found


def cut(d: Draw) -> World:
    x, found = d.real(), d.real()
    s = x + d.choice([Q(-1), Q(0), Q(1)])
    t = s - d.choice([Q(0), Q(0), Q(1)])
    e = d.beyond(found) if x <= s else Q(0)
    f = d.beyond(found) if t <= x else Q(0)
    return {"x": x, "s": s, "t": t, "d": found, "e": e, "f": f}, found


def within_tolerance(d: Draw) -> World:
    found = d.real()
    e = d.beyond(found)
    return {"d": found, "e": e, "eps": e + d.choice([Q(0), Q(1)])}, found


def row(d: Draw, strict: bool) -> World:
    left = d.real()
    most = left + d.choice([Q(-1), Q(0), Q(1)])
    floor, lack = left - d.choice([Q(0), Q(1)]), abs(d.real())
    met = left < most if strict else left <= most
    numbers = {"left": left, "floor": floor, "most": most, "lack": lack}
    return numbers, lack if met else Q(0)


def out_of_reach(d: Draw) -> World:
    return row(d, strict=False)


def strictly_out_of_reach(d: Draw) -> World:
    return row(d, strict=True)


def sum_out_of_reach(d: Draw) -> World:
    numbers, _ = row(d, strict=False)
    holds = numbers["left"] <= numbers["most"] and d.random() < 0.8
    slack = d.choice([Q(0), Q(-1)]) if holds else Q(1)
    return {**numbers, "slack": slack}, numbers["lack"] if holds else Q(0)


def trusted_margin(d: Draw) -> World:
    above, down = abs(d.real()), d.real()
    margin, taken = above - d.choice([Q(0), Q(1, 8)]), d.beyond(down)
    numbers = {"above": above, "down": down, "margin": max(margin, Q(0)), "e": taken}
    lacking = d.real()
    return {**numbers, "lacking": lacking}, lacking if above <= down else Q(0)


def unmet(d: Draw) -> World:
    x, least = d.real(), d.real()
    upto = least + d.choice([Q(-2), Q(-1), Q(0), Q(1)])
    strict = Q(d.choice([0, 1]))
    met = least <= x <= upto and (not strict or least < x or x < upto)
    moved = d.real() if met else Q(0)
    return {"x": x, "least": least, "upto": upto, "open": strict, "d": moved}, moved


def nothing_unsafe(d: Draw) -> World:
    return {"d": Q(0)}, Q(0)


def moved_down(d: Draw) -> World:
    moved = d.real()
    return {"d": moved, "e": d.beyond(moved)}, max(moved, Q(0))


def real_gap(d: Draw) -> World:
    gap = d.real()
    lo, hi = d.around(gap)
    return {"d": gap, "lo": lo, "hi": hi}, gap


def largest_found(d: Draw) -> World:
    found = d.real()
    return {"d": found, "U": d.beyond(found)}, found


WORLDS: dict[str, Callable[[Draw], World]] = {
    "within-part": within_part,
    "of-part": of_part,
    "cut": cut,
    "within-tolerance": within_tolerance,
    "out-of-reach": out_of_reach,
    "strictly-out-of-reach": strictly_out_of_reach,
    "sum-out-of-reach": sum_out_of_reach,
    "trusted-margin": trusted_margin,
    "unmet": unmet,
    "nothing-unsafe": nothing_unsafe,
    "moved-down": moved_down,
    "real-gap": real_gap,
    "largest-found": largest_found,
}


@pytest.mark.parametrize("name", WORLDS)
def test_lemmas_that_make_a_claim(name: str) -> None:
    assert_met(name, WORLDS[name])


def test_no_lemma_is_left_out() -> None:
    assert WORLDS.keys() == {lemma.name for lemma in claims.LEMMAS}


# --- what lies between two things is beyond neither -----------------------------------------------


@pytest.mark.parametrize("x", [Q(-3), Q(-1, 2), Q(0), Q(2), Q(5)])
@pytest.mark.parametrize("t", [Q(-2), Q(0), Q(3)])
def test_a_hinge_is_beyond_a_line_by_what_it_is_beyond_it(x: Q, t: Q) -> None:
    """Where it is beyond none the error is 0, which a lemma with one line alone would say too."""
    b, slope, low = Q(-1, 4), Q(1, 2), Q(2)
    exact = Exact({"x": x, "b": b, "s": slope, "t": t, "l": low})
    hinge = x if x >= 0 else b * x
    beyond = max(hinge - (slope * x + t), Q(0)) + max(low * x - hinge, Q(0))
    assert exact.of(HINGE_LINES.error) == beyond


@pytest.mark.parametrize("g", [Q(-3), Q(0), Q(1, 2), Q(4)])
def test_a_convex_function_is_beyond_either_end(g: Q) -> None:
    exact = Exact({"g": g, "low": Q(0), "top": Q(1)})
    assert exact.of(CONVEX_PIECE.error) == max(-g, g - 1, Q(0))
