"""Lemmas on carrying differences back in the worlds of `test_lemma_worlds.py`."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction as Q

import pytest
from test_lemma_worlds import Draw, U, World, assert_met, nearest

from encoders.lemmas import carrying
from encoders.lemmas.lemma import Lemma


def square(x: Q) -> Q:
    """A function of which every slope is between those at the ends."""
    return x * x


def secant(d: Draw) -> World:
    x, delta = d.real(), d.choice([Q(0), d.real(1)])
    slope = 2 * x + delta  # of the chord of the square
    low, high = d.around(slope)
    m = d.choice([(low + high) / 2, slope, d.real()])
    sigma = max(high - m, m - low, Q(0)) + d.choice([Q(0), Q(0), Q(-1, 64), Q(1)])
    f = square(x + delta) - square(x)
    numbers = {"f": f, "d": delta, "s": slope, "S": low, "S_hi": high, "m": m}
    return {**numbers, "sigma": sigma, "e": d.beyond(delta)}, f - m * delta


def oscillation(d: Draw) -> World:
    x, delta, m = d.real(), d.real(), d.real(1)
    rest, rest_hat = (abs(v) - m * v for v in (x, x + delta))
    lo, hi = min(rest, rest_hat), max(rest, rest_hat) + d.choice([Q(0), Q(1, 8)])
    f = abs(x + delta) - abs(x)
    numbers = {"f": f, "d": delta, "m": m, "rest": rest, "rest_hat": rest_hat, "F": lo, "F_hi": hi}
    return numbers, f - m * delta


def sloped(d: Draw) -> tuple[Q, Q, Q, dict[str, Q]]:
    """What a function moves by, with a slope and what that leaves."""
    delta, m = d.real(), d.choice([Q(0), Q(1, 2), Q(1), d.real(1)])
    f = m * delta + d.choice([Q(0), d.real(1)])
    numbers = {"f": f, "d": delta, "m": m, "R": d.beyond(f - m * delta), "e": d.beyond(delta)}
    return f, delta, m, numbers


def along_secant(d: Draw) -> World:
    f, _, _, numbers = sloped(d)
    return numbers, f


def held_coefficient(d: Draw) -> World:
    f, delta, m, numbers = sloped(d)
    held = nearest(m)
    return {**numbers, "m_held": held, "k": d.beyond(held - m)}, f - held * delta


def underflown(d: Draw) -> World:
    """Products of small numbers, which three bits do not hold."""
    c, x = d.real(1) / 8, d.real(1)
    lost = nearest(c / 4) * 4 * x - c * x
    return {"d": lost, "U": d.beyond(lost)}, lost


def followed(d: Draw) -> World:
    m, delta = Q(d.choice([0, 1])), d.real()
    f = d.real() if m == 0 else delta + d.real(1)
    numbers = {"f": f, "d": delta, "m": m}
    return {**numbers, "r": d.beyond(f), "q": d.beyond(f - delta)}, f - m * delta


def step_apart(d: Draw) -> World:
    x, delta = d.real(), d.choice([Q(0), d.real(1)])
    f = Q((x + delta) // 1 - x // 1)
    return {"f": f, "d": delta, "e": d.beyond(delta), "A": Q(1)}, f - delta


def leader(d: Draw) -> World:
    x, delta, y, y_hat = (d.real(1) for _ in range(4))
    low = min(x, x + delta) - d.choice([Q(0), Q(1, 8)])
    rival = max(y, y_hat) + d.choice([Q(0), Q(1, 8)])
    error = max(x + delta, y_hat) - max(x, y) - delta
    return {"x": x, "d": delta, "y": y, "y_hat": y_hat, "low": low, "rival": rival}, error


def carried_back(d: Draw) -> World:
    """A functional of a product with a weight, of which the coefficient is rounded."""
    c, w, delta, eta = d.real(1), d.real(1), d.real(), U * d.real(1)
    out, middle = c * w * delta, nearest(c * w) * delta
    numbers = {"out": out, "middle": middle, "eta": c * eta, "r": d.beyond(out - middle)}
    return {**numbers, "before": d.beyond(middle), "own": d.beyond(c * eta)}, out + c * eta


def within_ellipsoid(d: Draw) -> World:
    """Coefficients and remainders of two elements."""
    c, rho, scale = (
        [d.real(1), d.real(1)],
        [d.real(1), d.real(1)],
        [Q(1, 2), d.choice([Q(1), Q(3)])],
    )
    f = sum((a * b for a, b in zip(c, rho, strict=True)), Q(0))
    a = sum((square(v * s) for v, s in zip(c, scale, strict=True)), Q(0))
    b = sum((square(v / s) for v, s in zip(rho, scale, strict=True)), Q(0))
    above, beside = a + d.choice([Q(0), Q(1, 8)]), b + d.choice([Q(0), Q(1, 8)])
    root = abs(f) + d.choice([Q(-1, 8), Q(0), Q(1, 2), Q(2)])
    numbers = {"f": f, "a": a, "b": b, "A": above, "B": beside, "R": max(root, Q(0))}
    return {**numbers, "e": d.beyond(f)}, f


WORLDS: dict[str, Callable[[Draw], World]] = {
    "secant": secant,
    "oscillation": oscillation,
    "along-secant": along_secant,
    "held-coefficient": held_coefficient,
    "underflown": underflown,
    "followed": followed,
    "step-apart": step_apart,
    "leader": leader,
    "carried-back": carried_back,
    "within-ellipsoid": within_ellipsoid,
}


@pytest.mark.parametrize("lemma", carrying.LEMMAS, ids=lambda m: m.name)
def test_what_is_carried_back_is_as_these_lemmas_say(lemma: Lemma) -> None:
    assert_met(lemma.name, WORLDS[lemma.name])
