"""Lemmas on ranges of functions, products, choices and rows in the worlds of
`test_lemma_worlds.py`."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction as Q
from math import ceil, floor

import pytest
from test_lemma_worlds import Draw, World, assert_met
from test_range_worlds import between

from encoders.lemmas.lemma import Lemma
from encoders.lemmas.ranges import functions, operations, rows


def both(d: Draw, x: Q, y: Q) -> dict[str, Q]:
    return {"x": x, "y": y, **between(d, x), **between(d, y, "Y")}


def either(d: Draw) -> World:
    x, y = d.real(), d.real()
    found = both(d, x, y)
    return {**found, "x": d.choice([x, y])}, Q(0)


def monotone(d: Draw) -> World:
    """A cube, whose values at the ends are rounded outwards."""
    x = d.real()
    ends = between(d, x)
    low, high = (ends[e] ** 3 for e in ("X", "X_hi"))
    gap = d.choice([Q(0), Q(1, 16)])
    found = {"x": x, "f": x**3, "f_low": low, "f_high": high, "a": low - gap, "b": high + gap}
    return {**found, **ends}, Q(0)


def knots(d: Draw) -> World:
    """A hinge of slopes ½ and 2, on the side of its kink where the argument is."""
    x = d.real()
    ends = between(d, x)
    points = sorted({ends["X"], ends["X_hi"], min(max(Q(0), ends["X"]), ends["X_hi"])})
    p = max(t for t in points if t <= x)
    q = min((t for t in points if t > x), default=p)
    t = (x - p) / (q - p) if q > p else Q(0)
    values = [_hinge(v) for v in points]
    found = {"x": x, "f": _hinge(x), "f_p": _hinge(p), "f_q": _hinge(q), "t": t}
    gap = d.choice([Q(0), Q(1, 16)])
    return {**found, "a": min(values) - gap, "b": max(values) + gap, **ends}, Q(0)


def _hinge(x: Q) -> Q:
    return 2 * x if x >= 0 else x / 2


def convex(d: Draw) -> World:
    """x² from a number to another, cut by a range; its tangent at a number of both."""
    x = d.real()
    ends = between(d, x)
    start, end = d.around(x)
    first, last = max(ends["X"], start), min(ends["X_hi"], end)
    at = d.choice([first, last, x, (first + last) / 2])
    gap = d.choice([Q(0), Q(1, 8)])
    found = {"x": x, "f": x * x, "f_t": at * at, "f_a": first**2, "f_z": last**2, "tau": 2 * at}
    numbers = {"at": at, "low": at * at - gap, "top": max(first**2, last**2) + gap}
    slopes = {"tau_lo": 2 * at - gap, "tau_hi": 2 * at + gap, "start": start, "end": end}
    return {**found, **numbers, **slopes, **ends}, Q(0)


def enclosed(d: Draw) -> World:
    x = d.real()
    lo, hi = d.around(x * x)
    return {"x": x, "f": x * x, "a": lo, "b": hi, **between(d, x)}, Q(0)


def hull(d: Draw) -> World:
    x, moved = d.real(), d.real(1)
    numbers = {"x": x, "d": moved, "e": d.beyond(moved), "t": Q(d.randint(0, 4), 4)}
    return {**numbers, **between(d, x)}, Q(0)


def slopes(d: Draw) -> World:
    """Of the square, between a number and another."""
    x, moved = d.real(), d.real(1)
    ends = between(d, x)
    ends["X"], ends["X_hi"] = min(ends["X"], x + moved), max(ends["X_hi"], x + moved)
    steep = 2 * x + moved
    return {"x": x, "s": steep, "a": 2 * ends["X"], "b": 2 * ends["X_hi"], **ends}, Q(0)


def whole(d: Draw) -> World:
    x = Q(d.randint(-5, 5))
    ends = between(d, x)
    a, b = Q(ceil(ends["X"])), Q(floor(ends["X_hi"]))
    shift = d.choice([Q(0), Q(0), Q(1), Q(1, 2)])
    return {"x": x, "a": a - shift, "b": b + shift, **ends}, Q(0)


def stored(d: Draw) -> World:
    x = d.real()
    return {"x": x, "a": x}, Q(0)


def pair(d: Draw) -> World:
    return both(d, d.real(), d.real()), Q(0)


def quotient(d: Draw) -> World:
    x, y = d.real(), abs(d.real()) + Q(1, 8)
    return {**both(d, x, y), "z": x / y}, Q(0)


def chosen(d: Draw) -> World:
    c = Q(d.choice([0, 1]))
    return {**both(d, d.real(), d.real()), "c": c, **between(d, c, "C")}, Q(0)


def itself(d: Draw) -> World:
    m = Q(d.choice([0, 1]))
    return {"x": d.real(), "m": m, "z": m}, Q(0)


def place(d: Draw) -> World:
    numbers = [d.real() for _ in range(4)]
    ends = [d.around(v) for v in numbers]
    best = max(numbers)
    at = numbers.index(best)
    low, high = max(lo for lo, _ in ends), max(hi for _, hi in ends)
    possible = [i for i, (_, hi) in enumerate(ends) if hi >= low]
    first, last = possible[0], possible[-1]
    beyond = [ends[i][1] for i in range(4) if not first <= i <= last]
    found = {"place": Q(at), "held": numbers[at], "x": best, "X": low, "X_hi": high, "n": Q(4)}
    return {
        **found,
        "first": Q(first),
        "last": Q(last),
        "rival": max(beyond, default=Q(-100)),
    }, Q(0)


def picked(d: Draw) -> World:
    """Of three numbers, by an index that may count from the end."""
    table, at = [d.real() for _ in range(3)], d.randint(-3, 2)
    x = Q(at)
    ends = between(d, x)
    a, b = max(ceil(ends["X"]), -3), min(floor(ends["X_hi"]), 2)
    reached = [table[i] for i in range(a, b + 1)]
    found = {"x": x, "z": table[at], "a": Q(a), "b": Q(b), "n": Q(3)}
    return {**found, "least": min(reached), "most": max(reached), **ends}, Q(0)


def from_middle(d: Draw) -> World:
    x, m = d.real(), d.real()
    return {"x": x, "m": m, **between(d, x)}, x - m


def probability(d: Draw) -> World:
    e, rest = abs(d.real()) + Q(1, 8), abs(d.real())
    return {"e": e, "rest": rest, "p": e / (e + rest)}, Q(0)


def log_probability(d: Draw) -> World:
    """1 − 1/p is at most ln p, and stands for it."""
    p = Q(d.randint(1, 16), 16)
    found = 1 - 1 / p
    return {"l": found, "p": p, **between(d, found)}, Q(0)


def normalized(d: Draw) -> World:
    """A row of three numbers less their mean, of which the squares add up to 3 at most."""
    row = [d.real() for _ in range(3)]
    left = [v - sum(row, Q(0)) / 3 for v in row]
    squares = sum((v * v for v in left), Q(0))
    size = Q(1)
    while size * size * 3 < squares:
        size *= 2
    n = Q(2)
    return {"z": left[0] / size, "n": n, "M": d.choice([Q(3, 2), Q(2)])}, Q(0)


def mixture(d: Draw) -> World:
    share, a, v = Q(d.randint(0, 8), 8), d.real(), d.real()
    numbers = {"A": (1 - share) * a, "P": 1 - share, "q": share, "v": v}
    lo, hi = sorted((a, v))
    return {**numbers, "X": lo, "X_hi": hi + d.choice([Q(0), Q(1)])}, Q(0)


WORLDS: dict[str, Callable[[Draw], World]] = {
    "either-range": either,
    "monotone-range": monotone,
    "between-knots": knots,
    "convex-range": convex,
    "ball-range": enclosed,
    "stated-range": enclosed,
    "hull-range": hull,
    "slope-range": slopes,
    "whole-range": whole,
    "stored-range": stored,
    "product-range": pair,
    "square-range": pair,
    "quotient-range": quotient,
    "magnitude-range": pair,
    "larger-range": pair,
    "smaller-range": pair,
    "chosen-range": chosen,
    "less-range": pair,
    "at-most-range": pair,
    "equal-range": pair,
    "compared-with-itself": itself,
    "place-range": place,
    "picked-range": picked,
    "from-middle": from_middle,
    "probability-range": probability,
    "log-probability-range": log_probability,
    "normalized-range": normalized,
    "mixture-range": mixture,
}


@pytest.mark.parametrize(
    "lemma", [*functions.LEMMAS, *operations.LEMMAS, *rows.LEMMAS], ids=lambda m: m.name
)
def test_functions_of_numbers_in_ranges_lie_where_these_lemmas_say(lemma: Lemma) -> None:
    assert_met(lemma.name, WORLDS[lemma.name])
