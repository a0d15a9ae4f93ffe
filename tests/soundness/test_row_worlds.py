"""What lemmas on steps, choices and whole rows assume is true of computations, too."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction as Q
from math import floor, isqrt

import pytest
from test_lemma_worlds import Draw, U, World, assert_met, half_ulp, nearest

from encoders.lemmas import choices, rows
from encoders.lemmas.lemma import Lemma


def step(d: Draw) -> World:
    x = d.real()
    e = d.choice([Q(0), abs(d.real())])
    moved = e * d.choice([-1, 0, 1])
    f, f_hat = Q(floor(x)), Q(floor(x + moved))
    ends = {"F": Q(floor(x - e)), "F_hi": Q(floor(x + e))}
    return {"d": moved, "f_x": f, "f_hat": f_hat, "e": e, "A": Q(1), **ends}, f_hat - f


def pieces(d: Draw) -> World:
    """x up to 1, then three times as steep."""
    x, moved = d.real(), d.real()

    def f(v: Q) -> Q:
        return v + 2 * max(v - 1, Q(0))

    change = f(x + moved) - f(x)
    lo, hi = sorted((f(x), f(x + moved)))
    numbers = {"d": moved, "e": d.beyond(moved), "s": change / moved if moved else Q(0)}
    numbers |= {"K": Q(3), "F": lo, "F_hi": hi + d.choice([Q(0), Q(4)])}
    return {**numbers, "f_x": f(x), "f_hat": f(x + moved)}, change


def clamped(d: Draw) -> World:
    x, moved, b, off = d.real(), d.real(1), d.real(), d.real(1)
    _, hi = d.around(x)
    numbers = {"x": x, "x_hat": x + moved, "hi": hi, "e": d.beyond(moved)}
    numbers |= {"b": b, "b_hat": b + off, "f": d.beyond(off)}
    return numbers, min(x + moved, b + off) - min(x, b)


def extreme(d: Draw) -> World:
    x, moved = d.real(), d.real(1)
    low = min(x, x + moved) - d.choice([Q(0), Q(1)])
    rival = low - d.choice([Q(0), Q(1)])
    e = d.beyond(moved)
    y, off = d.real(), d.real(1)
    if d.random() < 0.5 or abs(off) > e:
        y, off = rival - abs(y), Q(0)
    numbers = {"x": x, "x_hat": x + moved, "y": y, "y_hat": y + off}
    error = max(x + moved, y + off) - max(x, y)
    return {**numbers, "e": e, "rival": rival, "low": low}, error


def by_sign(d: Draw) -> World:
    """A positive number is rounded, and what becomes of others is another matter."""
    x = d.real()
    fl = nearest(x) if x >= 0 else x + Q(1, 2)
    lo, hi = d.around(x)
    numbers = {"x": x, "z": x, "fl": fl, "lo": lo, "hi": hi}
    return {**numbers, "above": half_ulp(abs(x)), "below": Q(1, 2)}, fl - x


def same_range(d: Draw) -> World:
    x, y = d.real(), d.real()
    lo, hi = sorted((x, y))
    return {"f_x": x, "f_hat": y, "lo": lo, "hi": hi + d.choice([Q(0), Q(1)])}, y - x


def mean_value(d: Draw) -> World:
    """x·y, whose slopes at the middle are what it moves by."""
    x, y, dx, dy = d.real(), d.real(), d.real(1), d.real(1)
    change = (x + dx) * (y + dy) - x * y
    carried = (y + dy / 2) * dx + (x + dx / 2) * dy
    steep = abs(y + dy / 2) * abs(dx) + abs(x + dx / 2) * abs(dy)
    numbers = {"f_x": x * y, "f_hat": x * y + change, "j": carried, "s": steep}
    return {**numbers, "limit": d.beyond(change)}, change


def weighted_mean(d: Draw) -> World:
    e, before, p = abs(d.real()), Q(d.randint(0, 4), 8), Q(d.randint(0, 4), 8)
    total, last = before * e * d.choice([-1, 1]), e * d.choice([-1, 1])
    return {"A": total, "P": before, "p": p, "d": last, "e": e}, total + p * last


def norm(d: Draw) -> World:
    """Coordinates of triples such as 3, 4, 5, so that norms are rational."""

    def triple() -> tuple[Q, Q, Q]:
        a, x, n = d.choice([(3, 4, 5), (4, 3, 5), (5, 12, 13), (0, 1, 1), (1, 0, 1), (8, 15, 17)])
        scale = abs(d.real())
        return scale * a, scale * x * d.choice([-1, 1]), scale * n

    (a, x, n), (a_hat, x_hat, n_hat) = triple(), triple()
    apart = abs(a_hat - a) + abs(x_hat - x)
    square = (a_hat - a) ** 2 + (x_hat - x) ** 2
    numbers = {"a": a, "x": x, "n": n, "a_hat": a_hat, "x_hat": x_hat, "n_hat": n_hat}
    numbers |= {"D": (a_hat - a) ** 2, "q": square, "R": d.choice([apart, apart * Q(3, 4)])}
    return numbers, n_hat - n


def root_of_squares(d: Draw) -> World:
    """Two roundings by an eighth at most."""
    root = abs(d.real())
    there = root * (1 + Q(d.randint(-10, 9), 64)) + Q(d.randint(0, 4), 32)
    k, grown = Q(2), d.choice([Q(1, 3), Q(1, 4)])
    off = max(abs(there**2 - root**2) - grown * root**2, Q(0))
    tiny = off / (2 * k * (1 + grown))
    needed = 2 * k * tiny * Q(4, 3)
    numbers = {"root": root, "root_hat": there, "G": grown, "t": off, "k": k, "u": U}
    numbers |= {"tiny": tiny, "B": Q(1, 3), "C": Q(1, 5), "N": d.beyond(root)}
    return {**numbers, "T": Q(isqrt(floor(needed * 2**20)) + 1, 2**10)}, there - root


def p_norm(d: Draw) -> World:
    """The largest coordinate, and moves along the sides of a right triangle."""
    x, y, t = d.real(), d.real(), d.real(1)
    dx, dy = d.choice([(3 * t, 4 * t), (-3 * t, 4 * t), (4 * t, -3 * t)])
    n, n_hat = max(abs(x), abs(y)), max(abs(x + dx), abs(y + dy))
    numbers = {"n": n, "n_hat": n_hat, "d_p": max(abs(dx), abs(dy)), "d_2": 5 * abs(t)}
    return {**numbers, "e": d.beyond(5 * t)}, n_hat - n


def root_of_powers(d: Draw) -> World:
    """Cubes, two roundings by an eighth at most."""
    root, phi = abs(d.real()), d.choice([Q(-1, 8), Q(0), Q(1, 16), Q(1, 10)])
    lost = abs(d.real(1))
    there = root * (1 + phi) + d.choice([-1, 0, 1]) * lost
    numbers = {"root": root, "root_hat": there, "phi": phi, "G": abs((1 + phi) ** 3 - 1)}
    numbers |= {"p": Q(3), "k": Q(2), "u": U, "B": Q(1, 3), "C": Q(1, 6)}
    return {**numbers, "N": d.beyond(root), "T": d.beyond(lost)}, there - root


def product_of_pivots(d: Draw) -> World:
    """Three pivots, two products rounded by an eighth at most."""
    det, moved, lost = d.real(), d.real(1), abs(d.real(1))
    first, second = (Q(d.randint(-8, 8), 64) for _ in range(2))
    found = (det + moved) * (1 + first) * (1 + second) + d.choice([-1, 0, 1]) * lost
    numbers = {"d": det, "d_e": det + moved, "d_hat": found, "k": Q(2), "u": U, "B": Q(1, 3)}
    numbers |= {"G": abs((1 + first) * (1 + second) - 1), "D": d.beyond(det), "t": lost}
    return {**numbers, "e": d.beyond(moved)}, found - det


def probability(d: Draw) -> World:
    """Two scores, of which the first moves by a against the other: odds change by at most e^a."""
    other, a = Q(d.randint(1, 8), 4), Q(d.randint(0, 6), 4)
    odds = 1 + a + a * a / 2  # at most e^a
    y, y_hat = 1 / (1 + other), odds / (odds + other)
    g = odds - 1
    numbers = {"y": y, "y_hat": y_hat, "g": g, "e": a, "Y": d.beyond(y)}
    lo, hi = d.choice([(Q(0), Q(1)), (y, y_hat)])
    return {**numbers, "lo": lo, "hi": hi}, y_hat - y


def mixture(d: Draw) -> World:
    """Two scores under two probabilities."""
    q, delta, w = Q(d.randint(0, 8), 8), (d.real(1), d.real(1)), (d.real(), d.real())

    def mean(x: Q, y: Q) -> Q:
        return q * x + (1 - q) * y

    products = mean(*(a * b for a, b in zip(delta, w, strict=True)))
    error = products - mean(*delta) * mean(*w)
    numbers = {"C": error, "A_d": mean(*(v * v for v in delta)), "B_w": mean(*(v * v for v in w))}
    return {**numbers, "e": max(map(abs, delta)), "R": d.beyond(max(map(abs, w)))}, error


def shifted_mixture(d: Draw) -> World:
    off, total, m = d.real(1), 1 + d.real(1), d.real()
    numbers = {"off": off, "P_hat": total, "m": m, "e": d.beyond(off)}
    return {**numbers, "T": d.beyond(total - 1), "M": d.beyond(m)}, off + (total - 1) * m


def along_row(d: Draw) -> World:
    """Rows of two numbers whose norms are rational."""
    a, b = d.choice([(3, 4), (4, 3), (0, 5), (5, 0)]), d.choice([(3, 4), (-4, 3), (5, 0)])
    s, t = abs(d.real()), abs(d.real())
    error = s * t * (a[0] * b[0] + a[1] * b[1])
    numbers = {"f": error, "c": 5 * s, "r": 5 * t}
    return {**numbers, "C": d.beyond(5 * s), "e": d.beyond(5 * t)}, error


WORLDS: dict[str, Callable[[Draw], World]] = {
    "step-follows": step,
    "pieces": pieces,
    "clamped": clamped,
    "extreme": extreme,
    "by-sign": by_sign,
    "same-range": same_range,
    "mean-value": mean_value,
    "weighted-mean": weighted_mean,
    "norm-moves": norm,
    "root-of-squares": root_of_squares,
    "p-norm-moves": p_norm,
    "root-of-powers": root_of_powers,
    "product-of-pivots": product_of_pivots,
    "probability-moves": probability,
    "mixture-moves": mixture,
    "shifted-mixture": shifted_mixture,
    "along-row": along_row,
}


@pytest.mark.parametrize("lemma", [*choices.LEMMAS, *rows.LEMMAS], ids=lambda m: m.name)
def test_computations_are_as_these_lemmas_assume(lemma: Lemma) -> None:
    assert_met(lemma.name, WORLDS[lemma.name])
