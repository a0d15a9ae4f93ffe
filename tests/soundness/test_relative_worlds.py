"""What lemmas on relative precision assume is true of computations, too."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction as Q
from math import isqrt, log

import pytest
from test_lemma_worlds import LEAST, SPACING, Draw, U, World, assert_met, nearest

from encoders.lemmas.ways import relative


def ln(q: Q) -> Q:
    """To seventeen digits; 0 of 1 exactly."""
    return Q(log(q)) if q != 1 else Q(0)


def factor(d: Draw) -> Q:
    """A number near 1, often 1."""
    return d.choice([Q(1), 1 + Q(d.randint(-12, 24), 64), 1 / (1 + Q(d.randint(0, 24), 64))])


def some(d: Draw) -> Q:
    return d.choice([-1, 1]) * (Q(1, 4) + abs(d.real()))


def absorbed(d: Draw) -> World:
    real, f = some(d), factor(d)
    x = real * f
    moved = d.choice([Q(0), x * Q(d.randint(-10, 10), 64)])
    q = (x + moved) / x
    g = d.beyond(ln(f)) if d.random() < 0.3 else abs(ln(f)) + Q(1, 10**9)
    numbers = {"real": real, "x": x, "x_hat": x + moved, "q": q, "la": ln(f), "l": ln(q)}
    low = abs(real) - d.choice([Q(0), Q(1, 16)])
    return {**numbers, "g": g, "h": d.choice([abs(moved), d.beyond(moved)]), "low": low}, ln(
        f
    ) + ln(q)


def to_error(d: Draw) -> World:
    q = factor(d)
    return {"q": q, "l": ln(q), "g": d.choice([abs(ln(q)), d.beyond(ln(q))])}, q - 1


def off(d: Draw) -> World:
    x, q, moved = d.choice([Q(0), d.real()]), factor(d), d.choice([Q(0), d.real(1)])
    numbers = {"x": x, "q": q, "l": ln(q), "g": abs(ln(q)), "size": d.beyond(x)}
    return {**numbers, "x_hat": q * x + moved, "h": d.beyond(moved)}, (q - 1) * x + moved


def rounded(d: Draw) -> World:
    z = some(d)
    w = Q(d.choice([0, 1, 1]))
    q = nearest(z) / z if w else Q(1)
    return {"q": q, "l": ln(q), "u": U, "w": w}, ln(q)


def in_ulps(d: Draw) -> World:
    q = factor(d)
    return {"q": q, "l": ln(q), "D": d.choice([abs(q - 1), d.beyond(q - 1)])}, ln(q)


def lost_step(d: Draw) -> World:
    x, f = d.choice([Q(0), some(d), d.real(1)]), factor(d)
    y = x * f
    moved = d.choice([Q(0), Q(0), Q(d.randint(-4, 4), 64)])
    z = y + moved
    fl = nearest(z)
    normal = abs(z) >= LEAST
    q = fl / z if normal else Q(1)
    numbers = {"x": x, "y": y, "z": z, "fl": fl, "q": q, "eta": Q(0) if normal else fl - z}
    numbers |= {"d": U, "E": SPACING / 2, "least": LEAST, "g": abs(ln(f)) + Q(1, 10**9)}
    numbers |= {"h": d.choice([abs(moved), d.beyond(moved)]), "size": d.beyond(x)}
    numbers["low"] = max(abs(x) - d.choice([Q(0), Q(1, 8)]), Q(0))
    return numbers, fl - y * q


def product(d: Draw) -> World:
    a, b, zero = d.real(1), d.real(1), Q(d.choice([0, 0, 0, 1]))
    x = Q(0) if zero else d.choice([a + b, a - b])
    return {"la": a, "lb": b, "l": x, "g": d.beyond(a), "h": d.beyond(b), "zero": zero}, x


def lost_product(d: Draw) -> World:
    x, y, a, b = d.real(), d.real(), d.real(1), d.real(1)
    a, b = d.choice([(a, b), (Q(0), Q(0))])
    g, h = Q(d.randint(0, 32), 64), Q(d.randint(0, 32), 64)
    numbers = {"x": x, "y": y, "x_hat": x + a, "y_hat": y + b, "e": d.beyond(a), "f": d.beyond(b)}
    numbers |= {"g": g, "h": h, "X": d.beyond(x * (1 - g)), "Y": d.beyond(y * (1 - h))}
    numbers |= {"P": d.beyond(numbers["X"] / (1 - g)), "Q": d.beyond(numbers["Y"] / (1 - h))}
    return numbers, (x + a) * (y + b) - x * y


def lost_quotient(d: Draw) -> World:
    x, a, y, g = d.real(), d.choice([Q(0), d.real(1)]), some(d), Q(d.randint(0, 32), 64)
    low = (abs(y) - d.choice([Q(0), Q(1, 8)])) / (1 - g)
    numbers = {"x": x, "x_hat": x + a, "y_hat": y, "z": x / y, "z_hat": (x + a) / y}
    return {**numbers, "e": d.choice([abs(a), d.beyond(a)]), "g": g, "low": low}, a / y


def lost_root(d: Draw) -> World:
    x = d.choice([Q(0), abs(d.real(1))])
    y = x + abs(d.real(1)) * d.choice([Q(1), Q(1, 8)])
    x, y = d.choice([(x, y), (y, x)])
    e = d.choice([Q(1), Q(1), Q(5, 4)]) * abs(x * x - y * y)
    r = Q(isqrt(int(e * 10**12)) + 1, 10**6)
    return {"x": x, "x_hat": y, "e": e, "R": d.choice([r, d.beyond(r)])}, y - x


def root(d: Draw) -> World:
    a = d.real(1)
    x = d.choice([a / 2, Q(0)])
    return {"la": a, "l": x, "g": d.beyond(a)}, x


def power(d: Draw) -> World:
    a, k = d.real(1), Q(d.randint(-3, 3), d.choice([1, 2]))
    x = d.choice([k * a, k * a, Q(0)])
    return {"la": a, "k": k, "l": x, "g": d.beyond(a), "N": d.beyond(k)}, x


def pair(d: Draw, x: Q, y: Q) -> dict[str, Q]:
    f, g = factor(d), factor(d)
    most = max(f, 1 / f, g, 1 / g)
    near = {"g": d.choice([abs(ln(f)), abs(ln(f)) + 1]), "h": abs(ln(g)), "A": most}
    return {"x": x, "y": y, "x_hat": x * f, "y_hat": y * g, **near}


def logarithm(computed: Q, real: Q) -> Q:
    return ln(computed / real) if real else Q(0)


def total(d: Draw) -> World:
    sign = d.choice([-1, 1])
    x, y = sign * abs(d.real()), sign * abs(d.real())
    numbers = pair(d, x, y)
    for ends, v in ((("lo", "hi"), x), (("lo2", "hi2"), y)):
        far = d.choice([Q(0), Q(1)])
        low, high = (v * d.choice([0, 1]), v + far) if v >= 0 else (v - far, Q(0))
        numbers |= {ends[0]: low, ends[1]: high}
    found = logarithm(numbers["x_hat"] + numbers["y_hat"], x + y)
    return {**numbers, "l": found}, found


def sum_of_exact(d: Draw) -> World:
    free = Q(d.choice([0, 0, 1]), 8)
    return {"la": free, "lb": Q(0), "l": free, "g": free, "h": Q(0)}, free


def any_order(d: Draw) -> World:
    i, j, g, r = d.randint(0, 4), d.randint(0, 4), abs(d.real(1)), abs(d.real(1))
    moved, own = max(i, j) * r + g, r
    moved, own = moved * d.choice([-1, 1]), own * d.choice([-1, 1])
    numbers = {"i": Q(i), "j": Q(j), "m": Q(i + j + 1 + d.randint(0, 2)), "g": g, "r": r}
    return {**numbers, "l": moved + own, "lr": own}, moved + own


def share(d: Draw) -> World:
    k, u = abs(d.real()), abs(d.real(1))
    error = max((1 + u) * (1 - (k + 1) * u) - (1 - k * u), Q(0))
    return {"k": k, "u": u}, error


def lost_sum(d: Draw) -> World:
    k, u, h, loses = d.randint(0, 4), Q(d.randint(0, 8), 128), abs(d.real(1)), abs(d.real(1))
    m = k + 1 + d.randint(0, 2)
    c, c2 = 1 - k * u, 1 - (k + 1) * u
    z = (h + k * loses) / c * d.choice([Q(1), Q(1, 2)])
    y, q = z * d.choice([-1, 1]), 1 + u * d.choice([-1, 0, 1])
    eta = loses * d.choice([-1, 0, 1])
    numbers = {"k": Q(k), "m": Q(m), "u": u, "h": h, "E": loses, "c": c, "c2": c2, "z": z}
    return {**numbers, "y": y, "q": q, "eta": eta}, y * q + eta


def extreme(d: Draw) -> World:
    x, y = d.real(), d.real()
    numbers = pair(d, x, y)
    choose = d.choice([max, min])
    z, z_hat = choose(x, y), choose(numbers["x_hat"], numbers["y_hat"])
    return {**numbers, "z": z, "z_hat": z_hat, "l": logarithm(z_hat, z)}, logarithm(z_hat, z)


def exponential(d: Draw) -> World:
    x, moved = d.real(), d.real(1)
    found = moved * d.choice([Q(1), Q(1, 2), Q(-1)])
    return {"x": x, "x_hat": x + moved, "e": d.beyond(moved), "l": found}, found


WORLDS: dict[str, Callable[[Draw], World]] = {
    "relative-absorbed": absorbed,
    "relative-error-of-precision": to_error,
    "relative-off": off,
    "relative-rounding": rounded,
    "relative-ulps": in_ulps,
    "relative-lost-step": lost_step,
    "relative-product": product,
    "relative-lost-product": lost_product,
    "relative-lost-quotient": lost_quotient,
    "relative-lost-root": lost_root,
    "relative-root": root,
    "relative-power": power,
    "relative-sum": total,
    "relative-sum-of-exact": sum_of_exact,
    "relative-sum-any-order": any_order,
    "relative-lost-share": share,
    "relative-lost-sum": lost_sum,
    "relative-extreme": extreme,
    "relative-exponential": exponential,
}


@pytest.mark.parametrize("name", WORLDS)
def test_lemmas_on_relative_precision(name: str) -> None:
    assert_met(name, WORLDS[name])


def test_no_lemma_is_left_out() -> None:
    assert WORLDS.keys() == {lemma.name for lemma in relative.LEMMAS}
