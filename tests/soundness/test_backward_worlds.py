"""What lemmas on backward errors assume is true of computations, too."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction as Q

import pytest
from test_lemma_worlds import Draw, World, assert_met

from encoders.lemmas.backward import paths, rows


def unit(d: Draw) -> Q:
    return Q(1, 2 ** d.randint(1, 8))


def between(d: Draw, low: Q, high: Q) -> Q:
    return low + (high - low) * Q(d.randint(0, 8), 8)


def logarithm(d: Draw, delta: Q) -> Q:
    """A number that may be ln(1 + δ), for all that is used of it."""
    return between(d, delta / (1 + delta), delta)


def log_rounding(d: Draw) -> World:
    u = unit(d)
    delta = between(d, -u / (1 + u), u / (1 + u))
    found = logarithm(d, delta)
    return {"u": u, "delta": delta, "L": found}, found


def perturbed_path(d: Draw) -> World:
    u, i, share = unit(d), Q(d.randint(0, 5)), d.choice([Q(1), Q(1, 2), Q(0)])
    theta, rounding = between(d, -i * u, i * u), between(d, -u, u)
    k = d.beyond(share * (i + 1))
    numbers = {"u": u, "i": i, "c": share, "theta": theta, "L": rounding, "k": k}
    return numbers, share * (theta + rounding)


def _exponential(d: Draw) -> tuple[Q, Q, Q]:
    """g < 1, θ within it, and a number that may be exp(θ)."""
    g = Q(d.randint(0, 7), 8)
    theta = between(d, -g, g)
    return g, theta, between(d, 1 + theta, 1 / (1 - theta))


def relative_of_log(d: Draw) -> World:
    g, theta, phi = _exponential(d)
    return {"g": g, "theta": theta, "phi": phi}, phi - 1


def grown_besides(d: Draw) -> World:
    g, theta, phi = _exponential(d)
    nu = d.real()
    return {"g": g, "theta": theta, "phi": phi, "nu": nu, "A": d.beyond(nu)}, phi * nu


def row_share(d: Draw) -> World:
    u, m, n = unit(d), Q(d.randint(0, 4)), Q(d.randint(1, 4))
    v = u / (1 + u)
    h, lost, x = (d.choice([Q(0), abs(d.real(1))]) for _ in range(3))
    most = abs(d.real())
    part = between(d, Q(0), most)
    besides = n * h + m * (h + lost * (1 + 4 * v)) + x
    off = between(d, Q(0), v * part + besides)
    reach = off + m * v * (most + off)
    e = between(d, -reach, reach)
    numbers = {"u": u, "m": m, "n": n, "h": h, "lost": lost, "X": x, "S": most, "P": part}
    return {**numbers, "off": off, "e": e}, max(Q(0), abs(e) - (m + 1) * u * most)


def row_perturbed(d: Draw) -> World:
    w, x, omega = d.real(), d.real(), d.real(1)
    sign = Q(1) if w * x >= 0 else Q(-1)
    moved = w * (1 + omega * sign)
    total, sizes = d.real(), abs(d.real())
    numbers = {"w": w, "x": x, "omega": omega, "sign": sign, "w_moved": moved, "T": total}
    every = {**numbers, "A_total": sizes, "T_moved": total + omega * sizes}
    found = (total + omega * sizes + moved * x) - (total + w * x + omega * (sizes + abs(w * x)))
    return {**every, "z": w * x, "z_moved": moved * x}, found


def row_ratio(d: Draw) -> World:
    u, m, size = unit(d), Q(d.randint(0, 4)), Q(1, 8) + abs(d.real())
    reach = (m + 1) * u * size
    e = between(d, -reach, reach)
    return {"u": u, "m": m, "S": size, "e": e, "omega": e / size}, e / size


WORLDS: dict[str, Callable[[Draw], World]] = {
    "log-rounding": log_rounding,
    "perturbed-path": perturbed_path,
    "relative-of-log": relative_of_log,
    "grown-besides": grown_besides,
    "row-share": row_share,
    "row-perturbed": row_perturbed,
    "row-ratio": row_ratio,
}


def test_every_lemma_on_backward_errors_is_among_them() -> None:
    assert WORLDS.keys() == {lemma.name for lemma in (*paths.LEMMAS, *rows.LEMMAS)}


@pytest.mark.parametrize("name", WORLDS)
def test_what_a_lemma_assumes_is_true_and_what_it_bounds_is_meant(name: str) -> None:
    assert_met(name, WORLDS[name])
