"""What lemmas on normalised rows assume is true of computations, too."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction as Q
from math import ceil, floor, isqrt

import pytest
from test_exponential_worlds import between
from test_lemma_worlds import Draw, World, assert_met, half_ulp, nearest

from encoders.lemmas import normalizing
from encoders.lemmas.lemma import Lemma


def roots_apart(d: Draw) -> World:
    root, there = abs(d.real()) + 1, abs(d.real()) + 1
    if d.random() < 0.7:
        there = root + d.real(1) / 4
    e, low = d.beyond(there**2 - root**2), root**2 - d.choice([Q(0), Q(1, 8)])
    rho = Q(isqrt(max(floor((low - e) * 2**20), 0)), 2**10)
    numbers = {"root": root, "root_hat": there, "e": e, "low": low, "rho": rho}
    return numbers, there - root


def reciprocal(d: Draw) -> World:
    low, k, u = Q(d.randint(1, 16), 8), Q(3), Q(1, 64)
    sigma, f = low + d.choice([Q(0), Q(1)]), low * Q(d.randint(0, 5), 8)
    there = sigma + between(d, -f, f)
    slack = k * u * (1 + 16 * u)
    ratio, delta = sigma / there, between(d, -slack, slack)
    numbers = {"sigma": sigma, "sigma_hat": there, "kappa": ratio, "delta": delta, "f": f}
    numbers |= {"low": low, "top": sigma + d.choice([Q(0), Q(64)]), "least": Q(1, 64)}
    return {**numbers, "k": k, "u": u}, ratio * (1 + delta) - 1


def shifted_norm(d: Draw) -> World:
    """Deviations of which a share is taken away: sides of right triangles."""
    a, b, c = d.choice([(3, 4, 5), (4, 3, 5), (5, 12, 13), (12, 5, 13), (0, 1, 1), (20, 99, 101)])
    size = abs(d.real()) + Q(1, 8)
    shift, sigma, wide = a * size, b * size, c * size
    low = sigma * d.choice([Q(1), Q(1), Q(1, 2)])
    largest = d.beyond(shift)
    part = largest**2 / (2 * low**2)
    numbers = {"sigma": sigma, "w": wide, "m": shift, "omega": wide / sigma, "M": largest}
    return {**numbers, "a": part, "low": low}, wide / sigma - 1


def running_mean(d: Draw) -> World:
    """One step of it, with roundings that are as large as they may be."""
    k, u, h = Q(d.randint(1, 6)), Q(1, 64), d.choice([Q(0), Q(1, 128)])
    size, reach, given = abs(d.real()), abs(d.real()), d.choice([Q(0), Q(1, 8)])
    last, step = d.choice([Q(0), Q(1, 16)]), 3 * u * (1 + 2 * u)
    whole = (k - 1) * last + step * reach + (1 + 4 * u) * given + k * (u * size + h)
    most = max(whole / (k - step - 2 * k * u), last) * d.choice([Q(1), Q(1), Q(2)])
    each = step * (reach + most) + (1 + 4 * u) * given
    rounded = u * (size + 2 * most) + h
    b, o, q = (between(d, -v, v) for v in (last, each, rounded))
    after = ((k - 1) * b + o + k * q) / k
    numbers = {"k": k, "L": last, "A": each, "R": rounded, "b": b, "b_next": after, "o": o, "q": q}
    numbers |= {"B": most, "P": reach, "X": size, "E": given, "h": h, "u": u}
    return numbers, after


def running_variance(d: Draw) -> World:
    """Rows of numbers ±t around one, in any order, whose means so far are off."""
    a, b, c = d.choice([(3, 4, 5), (4, 3, 5), (5, 12, 13), (12, 5, 13), (1, 0, 1), (20, 99, 101)])
    size, n = abs(d.real()) + Q(1, 8), 2 * d.randint(1, 4)
    root, sigma, floor_ = a * size, c * size, (b * size) ** 2
    signs = d.sample([1, -1] * (n // 2), n)
    row, off = [root * s for s in signs], d.choice([Q(0), Q(1, 16), Q(1, 2)])
    exact, there, total = Q(0), Q(0), Q(0)
    for k, x in enumerate(row, 1):
        mean = exact + (x - exact) / k
        apart = Q(0) if k == 1 else between(d, -off, off)
        total += (x - there) * (x - mean - apart)
        exact, there = mean, mean + apart
    square, g = total / n, d.choice([Q(0), Q(1, 8)])
    share = root * root + 3 * off * root + off * off + floor_
    computed = square + floor_ + between(d, -g * share, g * share)
    low = sigma * d.choice([Q(1), Q(1), Q(1, 2)])
    numbers = {"sigma": sigma, "s_var": root, "v": square, "v_hat": computed, "eps_hat": floor_}
    numbers |= {"omega": computed / sigma**2, "M": off, "low": low, "g": g}
    return {**numbers, "a": off * (3 * low + off) / low**2}, computed / sigma**2 - 1


def relatively_rounded(d: Draw) -> World:
    e, u = Q(d.randint(0, 8), 8), Q(1, 64)
    alpha, delta = between(d, -e, e), between(d, -u, u)
    return {"alpha": alpha, "delta": delta, "e": e, "u": u}, (1 + alpha) * (1 + delta) - 1


def over_sigma(d: Draw) -> World:
    low, off = Q(d.randint(0, 16), 8), d.real()
    sigma = low + d.choice([Q(0), Q(1)]) if low else Q(1)
    numbers = {"sigma": sigma, "low": low, "dc": off, "d": off / sigma, "e": d.beyond(off)}
    return numbers, off / sigma


def normalized(d: Draw) -> World:
    z, off, apart, h = d.real(), d.real(1), Q(d.randint(0, 8), 8), Q(1, 32)
    lost, factor = d.choice([Q(0), Q(1, 4)]), 1 + between(d, -apart, apart)
    fl = (z + off) * factor + between(d, -(2 * h + lost), 2 * h + lost)
    numbers = {"z": z, "d": off, "k": factor, "fl": fl, "e": d.beyond(off), "Z": d.beyond(z)}
    return {**numbers, "F": apart, "h": h, "lost": lost}, fl - z


def folded_scale(d: Draw) -> World:
    low, scale = Q(d.randint(1, 16), 8), d.real()
    sigma, apart, u = low + d.choice([Q(0), Q(1)]), Q(d.randint(0, 8), 8), Q(1, 64)
    s, o = scale / sigma, d.real(1)
    relative = apart + (1 + apart) * 8 * u
    phi, size = between(d, -relative, relative), d.beyond(scale)
    numbers = {"s": s, "o": o, "phi": phi, "c": scale, "sigma": sigma, "S": size, "low": low}
    numbers |= {"P": size / low, "e": d.beyond(o), "F": apart, "u": u}
    return numbers, (s + o) * (1 + phi) - s


def folded(d: Draw) -> World:
    """The affine map of a row, with its numbers a little off and what is made 0 left out."""
    x, mu, s, b = d.real(), d.real(), d.real(), d.real()
    of_mu, of_s, of_b, h = d.real(1), d.real(1), d.real(1), d.choice([Q(0), Q(1, 64)])
    a = x - (mu + of_mu)
    bounds = {"X": d.beyond(x), "M": d.beyond(mu), "em": d.beyond(of_mu), "P": d.beyond(s)}
    bounds |= {"es": d.beyond(of_s), "eb": d.beyond(of_b), "h": h}
    gone = (bounds["X"] + bounds["M"] + bounds["em"] + bounds["P"] + bounds["es"] + 2) * h
    fl = x * (s + of_s) + ((b + of_b) - (mu + of_mu) * (s + of_s)) + between(d, -gone, gone)
    numbers = {"x": x, "mu": mu, "dmu": of_mu, "s": s, "ds": of_s, "b": b, "b_hat": b + of_b}
    return {**numbers, **bounds, "a": a, "fl": fl}, fl - ((x - mu) * s + b)


def rounded_thrice(d: Draw) -> World:
    """A sum of four numbers, of which the last is off."""
    terms = [d.float(1) for _ in range(4)]
    z = sum(terms, Q(0))
    fl = terms[0]
    for term in terms[1:]:
        fl = nearest(fl + term)
    size = Q(d.choice([2, 4, 8]))
    y = z + d.choice([Q(0), Q(1, 8)])
    if sum(map(abs, terms), Q(0)) > size:
        return rounded_thrice(d)
    reach = size * d.choice([Q(1, 2), Q(1), Q(1)])
    numbers = {"y": y, "z": z, "fl": fl, "e": abs(z - y), "M": size}
    return {**numbers, "r": half_ulp(reach), "r_reach": reach}, fl - y


def known_operand(d: Draw) -> World:
    """An operand that is off by more than the limit may be an infinity."""
    f, z = d.choice([Q(1), Q(16)]), d.real()
    fl = nearest(z) if f == 1 else Q(1000)
    return {"z": z, "fl": fl, "f": f, "limit": Q(8), "e": half_ulp(abs(z))}, fl - z


def normalized_row(d: Draw) -> World:
    """Rows at an angle whose chord is rational: of cosine 1 − c²/2, c its chord."""
    s, there = abs(d.real()) + Q(1, 8), abs(d.real()) + Q(1, 8)
    chord = d.choice([Q(0), Q(6, 5), Q(8, 5), Q(2)])
    root = d.choice([1, 2])
    inner = s * there * (1 - chord * chord / 2)
    square = s * s + there * there - 2 * inner
    e = Q(isqrt(ceil(root * root * square * 2**20)) + 1, 2**10)
    low = min(s, there) - d.choice([Q(0), Q(0), min(s, there)])
    numbers = {"s": s, "s_hat": there, "i": inner, "N": root * chord, "q": square, "e": e}
    return {**numbers, "n": Q(root * root), "low": low, "Y": Q(root)}, root * chord


@dataclass(frozen=True)
class Rows:
    """Two rows of two numbers, the roots of whose mean squares are rational, and functionals."""

    c: list[Q]
    other: list[Q]
    sigma: Q
    there: Q
    v: list[Q]
    u: list[Q]


def _dot(a: list[Q], b: list[Q]) -> Q:
    return a[0] * b[0] + a[1] * b[1]


def _rows(d: Draw) -> Rows:
    rows = (((1, 7), 5), ((7, 1), 5), ((-1, 7), 5), ((7, 17), 13), ((-7, -17), 13), ((1, 1), 1))
    drawn = [(abs(d.real()) + Q(1, 8), *d.choice(rows)) for _ in range(2)]
    c, other = ([times * x for x in row] for times, row, _ in drawn)
    sigma, there = (times * root for times, _, root in drawn)
    assert 2 * sigma * sigma == _dot(c, c)
    v, u = ([d.real(), d.real()] for _ in range(2))
    return Rows(c, other, sigma, there, v, u)


def relative_depth(d: Draw) -> World:
    """Of two rows, and a functional of what they are apart."""
    at, g = _rows(d), abs(d.real())
    depth = at.there - at.sigma
    p = _dot(at.u, at.other) - _dot(at.u, at.c)
    numbers = {"kappa": 1 / at.there, "delta": depth, "p": p, "g": g}
    bounds = {"rho": d.beyond(1 / at.there - g), "D": d.beyond(depth), "E": d.beyond(depth - p)}
    return {**numbers, **bounds}, 1 - at.sigma / at.there - g * p


def functional_of_row(d: Draw) -> World:
    """Of two rows, and a functional of what they are when normalised."""
    at, g, w = _rows(d), abs(d.real()), d.real()
    moved = [b - a for a, b in zip(at.c, at.other, strict=True)]
    t, q, on = _dot(at.v, moved), g * _dot(at.u, moved), _dot(at.v, at.c) / at.sigma
    r = 1 - at.sigma / at.there
    numbers = {"t": t, "q": q, "zeta": on, "r": r, "kappa": 1 / at.there, "g": g, "w": w}
    bounds = {"S": d.beyond(t), "Q": d.beyond(r - q), "V": d.beyond(q), "Y": d.beyond(on - w)}
    bounds |= {"rho": d.beyond(1 / at.there - g), "W": d.beyond(w)}
    result = _dot(at.v, at.other) / at.there - _dot(at.v, at.c) / at.sigma
    return {**numbers, **bounds}, result - (g * t - w * q)


WORLDS: dict[str, Callable[[Draw], World]] = {
    "roots-apart": roots_apart,
    "reciprocal-root": reciprocal,
    "shifted-norm": shifted_norm,
    "running-mean": running_mean,
    "running-variance": running_variance,
    "relatively-rounded": relatively_rounded,
    "over-sigma": over_sigma,
    "normalized": normalized,
    "folded-scale": folded_scale,
    "folded": folded,
    "rounded-thrice": rounded_thrice,
    "normalized-row": normalized_row,
    "relative-depth": relative_depth,
    "functional-of-row": functional_of_row,
    "known-operand": known_operand,
}


@pytest.mark.parametrize("lemma", normalizing.LEMMAS, ids=lambda m: m.name)
def test_computations_are_as_these_lemmas_assume(lemma: Lemma) -> None:
    assert_met(lemma.name, WORLDS[lemma.name])
