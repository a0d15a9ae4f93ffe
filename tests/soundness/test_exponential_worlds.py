"""What lemmas on exponentials, their sum and quotients assume is true of computations in three
bits, too."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction as Q

import pytest
from test_lemma_worlds import LEAST, Draw, U, World, assert_met, nearest

from encoders.lemmas import exponentials
from encoders.lemmas.lemma import Lemma


def between(d: Draw, low: Q, high: Q) -> Q:
    """Often an end."""
    return low + (high - low) * d.choice([Q(0), Q(1), Q(1, 2)])


def factor(d: Draw) -> World:
    """e^o − 1 for an o of at most e is between −e and e + e²."""
    e, eps = Q(d.randint(0, 10), 8), Q(d.randint(0, 3), 16)
    g, eta = between(d, -e, e + e * e), between(d, -eps, eps)
    return {"e": e, "eps": eps, "g": g, "eta": eta}, (1 + g) * (1 + eta) - 1


def far_below(d: Draw) -> World:
    most, eps = abs(d.real()), Q(d.randint(0, 3), 16)
    p, q, eta = between(d, Q(0), most), between(d, Q(0), most), between(d, -eps, eps)
    numbers = {"p": p, "q": q, "eta": eta, "E": most, "eps": eps}
    return numbers, q * (1 + eta) - p


def steady(d: Draw) -> World:
    e, eps, u = Q(d.randint(0, 9), 64), Q(d.randint(0, 3), 16), Q(1, d.choice([16, 64]))
    once = Q("0.36788") * u / (1 - u)
    p = between(d, Q(0), Q(1, 2))
    m = p + between(d, Q(-3, 2) * e, Q(3, 2) * e)
    q, eta = m + between(d, -once, once), between(d, -eps, eps)
    numbers = {"p": p, "m": m, "q": q, "eta": eta, "e": e, "eps": eps, "u": u, "once": once}
    numbers["c"] = d.choice([once, once + Q(1, 64)])
    return numbers, q * (1 + eta) - p


def summed(d: Draw) -> World:
    """A running sum of numbers near exact ones, of which one is 1."""
    exact = [Q(1), *(abs(d.real(1)) for _ in range(d.randint(1, 4)))]
    tau, w = d.choice([Q(0), Q(1, 32)]), Q(1, 8)
    held = [p * (1 + between(d, -w, w)) + between(d, -tau, tau) for p in exact]
    shift = [nearest(p) - p for p in held]  # what is added are floats
    tau += max(map(abs, shift))
    computed = nearest(held[0])
    for p in held[1:]:
        computed = nearest(computed + nearest(p))
    s, m = sum(exact, Q(0)), Q(len(exact) - 1)
    grown = m * U / (1 - m * U)
    total = {"held": sum(map(nearest, held), Q(0)) / s, "total": computed / s, "G": grown}
    given = {"w": w, "n": m + 1, "tau": tau, "m": m, "u": U, "lost": Q(0)}
    rho = grown + d.choice([Q(0), Q(1, 16)])
    return {**total, **given, "rho": rho}, computed / s - 1


def quotient(d: Draw) -> World:
    y, w, apart = abs(d.real(1)), Q(d.randint(0, 8), 8), Q(d.randint(0, 4), 8)
    far, tau = d.choice([y * w, y * w / 2, Q(2)]), d.choice([Q(0), Q(1, 16)])
    off = min(y * w, far)
    b = y + between(d, -off, off)
    a, total = b + between(d, -tau, tau), 1 + between(d, -apart, apart)
    numbers = {"y": y, "Y": d.beyond(y), "w": w, "far": far, "W": apart, "tau": tau}
    return {**numbers, "a": a, "b": b, "total": total, "z": a / total}, a / total - y


def rounded_twice(d: Draw) -> World:
    """A division, or a product with a reciprocal, in three bits."""
    a, b = abs(d.float()), nearest(abs(d.real()) + 1)
    z = a / b
    fl = nearest(z) if d.random() < 0.5 else nearest(a * nearest(1 / b))
    y = z + d.choice([Q(0), Q(1, 8), Q(-1, 8)])
    numbers = {"y": y, "z": z, "fl": fl, "Y": d.beyond(y), "e": abs(z - y), "u": U}
    return {**numbers, "h": U * LEAST, "lost": Q(0)}, fl - y


def any_probability(d: Draw) -> World:
    u = Q(1, 2 ** d.randint(3, 6))
    over = Q(1, 256) + 16 * u
    y, fl = between(d, Q(0), Q(1)), between(d, -over, 1 + over)
    least = u * Q(d.randint(0, 2), 2**6)
    return {"y": y, "fl": fl, "u": u, "ulps": Q(1), "n": Q(4), "least": least}, fl - y


def logarithm(d: Draw) -> World:
    """log(1 + δ) is between δ/(1 + δ) and δ."""
    most = Q(d.randint(0, 10), 16)
    delta = between(d, -most, most)
    log = between(d, delta / (1 + delta), delta)
    return {"delta": delta, "log": log, "W": most}, log


def some_score(d: Draw) -> World:
    """Without a score the result is anything."""
    some, y = Q(d.randint(0, 3)), d.real()
    fl = nearest(y) if some else Q(1000)
    return {"some": some, "fl": fl, "y": y, "e": abs(nearest(y) - y)}, fl - y


WORLDS: dict[str, Callable[[Draw], World]] = {
    "exponential-factor": factor,
    "exponential-far-below": far_below,
    "exponential-steady": steady,
    "sum-of-exponentials": summed,
    "quotient-of-exponentials": quotient,
    "rounded-twice": rounded_twice,
    "any-probability": any_probability,
    "logarithm-moves": logarithm,
    "some-score": some_score,
}


@pytest.mark.parametrize("lemma", exponentials.LEMMAS, ids=lambda m: m.name)
def test_computations_are_as_these_lemmas_assume(lemma: Lemma) -> None:
    assert_met(lemma.name, WORLDS[lemma.name])
