"""An ellipsoid for each functional: held against every corner of what moves a few errors."""

from __future__ import annotations

import itertools
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from test_ellipsoids import KINDS, bounds_of, exact_square, with_and_without
from test_free_lines import network

from encoders.lemmas.differences import GIVEN_ERROR
from encoders.lemmas.kernel import apply
from encoders.numbers.enclosure import FloatArray
from encoders.operator import Scaled
from refine.bounds.ellipsoids.errors import Apart, Sources, ellipsoid_of
from refine.bounds.ellipsoids.norms import gram_up
from refine.bounds.ellipsoids.own import best_weights, charged_each

KRIVINE = 1.7823
SIZES = [(2, 3), (4, 4), (5, 9), (9, 5), (6, 6)]


def scaled(share: FloatArray, errors: FloatArray) -> Scaled:
    nothing = apply(GIVEN_ERROR, U=np.zeros_like(share))
    return Scaled(share, apply(GIVEN_ERROR, U=share * errors), nothing)


def largest(w: FloatArray, matrix: FloatArray) -> Fraction:
    """The largest Σ w·|M·τ| over the corners of |τ| ≤ 1, exactly."""
    exact = [[Fraction(float(x)) for x in row] for row in matrix]
    weights = [Fraction(float(x)) for x in w]
    most = Fraction(0)
    for signs in itertools.product((Fraction(-1), Fraction(1)), repeat=matrix.shape[1] - 1):
        at = (Fraction(1), *signs)
        total = Fraction(0)
        for weight, row in zip(weights, exact, strict=True):
            total += weight * abs(sum((s * m for s, m in zip(at, row, strict=True)), Fraction(0)))
        most = max(most, total)
    return most


def cases(size: tuple[int, int]) -> list[FloatArray]:
    """Full, of one dimension, with equal parts, scaled badly, with zeros."""
    rng = np.random.default_rng(size[0])
    full = rng.normal(size=size)
    one = np.outer(rng.normal(size=size[0]), rng.normal(size=size[1]))
    bad = full * np.geomspace(1e-9, 1e6, size[0])[:, None] * np.geomspace(1e5, 1e-7, size[1])
    sparse = np.where(rng.random(size) < 0.4, full, 0.0)
    return [full, one, np.ones(size), bad, sparse, full * 1e-150]


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_no_corner_exceeds_what_a_functional_is_charged(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(size[1])
    for place, matrix in enumerate(cases(size)):
        share = rng.uniform(0.1, 0.5, size[0])
        c = rng.normal(size=(4, size[0])) * np.where(rng.random((4, size[0])) < 0.8, 1.0, 0.0)
        c[0] = np.geomspace(1e-6, 1e4, size[0])
        errors = np.sum(np.abs(matrix), axis=1) * (1 + 1e-12)
        left, sources = scaled(share, errors), Sources(np.arange(size[0]), matrix)
        box = left.remainder.weighed(c).bound
        every = np.ones(len(c), bool)
        found = charged_each(left, sources, c, known=box, worth=every, late=lambda: False).bound
        for row, functional in enumerate(c):
            w = np.abs(functional) * share
            reached = largest(w, matrix)
            assert reached <= Fraction(float(found[row])) * (1 + Fraction(2) ** -50)
            assert float(found[row]) <= float(box[row]) * (1 + 1e-9)
            if place != 3 and reached > 0 and row:
                assert float(found[row]) <= 1.1 * KRIVINE * float(reached) + 1e-300


def test_weights_about_the_best_are_found() -> None:
    rng = np.random.default_rng(1)
    matrix, w = rng.normal(size=(40, 90)), np.ones((1, 40))
    (alpha,), (beta,) = best_weights(w, matrix)
    norm = np.linalg.norm(matrix / np.sqrt(alpha)[:, None] / np.sqrt(beta), 2)
    value = norm * np.sqrt(np.sum(alpha) * np.sum(beta))
    signs, most = rng.choice([-1.0, 1.0], 40), 0.0
    for _ in range(30):
        signs = np.sign(matrix @ np.sign(signs @ matrix))
        most = float(np.sum(np.abs(signs @ matrix)))
    assert most <= value * (1 + 1e-12)
    assert value < 0.5 * np.sum(np.abs(matrix))
    assert value < 1.6 * most


@pytest.mark.parametrize("size", [(3, 50), (7, 7), (20, 4)], ids=str)
def test_norms_by_products_are_bounds_and_near(size: tuple[int, int]) -> None:
    for matrix in cases(size):
        found = Fraction(gram_up(matrix)) ** 2
        _, sizes, turns = np.linalg.svd(matrix, full_matrices=False)
        rows = [[Fraction(float(x)) for x in row] for row in matrix]
        by = [Fraction(float(x)) for x in turns[0]]
        products = (sum(a * b for a, b in zip(row, by, strict=True)) for row in rows)
        assert sum(p * p for p in products) <= found * exact_square(turns[0])
        assert gram_up(matrix) <= float(sizes[0]) * (1 + 1e-6) + 1e-70
        assert gram_up(matrix, 2.0**-10) >= float(np.linalg.norm(matrix)) * 2.0**-10


def test_sources_that_are_next_to_nothing_stay_charged() -> None:
    rng = np.random.default_rng(2)
    m = np.concatenate([rng.normal(size=(9, 12)), 1e-5 * rng.normal(size=(9, 300))], axis=1)
    share, others = np.full(9, 0.5), rng.uniform(0, 1e-3, 9)
    left = scaled(share, np.sum(np.abs(m), axis=1) + others)
    found = ellipsoid_of(left, np.arange(9), [Apart(m, np.ones(312))], others)
    assert found is not None
    assert found.sources is not None
    kept = found.sources.matrix
    assert kept.shape[1] < 40
    exact = [sum(Fraction(abs(float(x))) for x in row) for row in kept]
    for row, other, total in zip(m, others, exact, strict=True):
        every = (Fraction(abs(float(x))) for x in (*row, other))
        assert total >= sum(every, Fraction(0))


def test_nothing_is_asked_when_it_is_late_or_not_worth_it() -> None:
    rng = np.random.default_rng(4)
    m, c, share = rng.normal(size=(9, 12)), rng.normal(size=(3, 9)), np.full(9, 0.5)
    left, sources = scaled(share, np.sum(np.abs(m), axis=1)), Sources(np.arange(9), m)
    box, every = left.remainder.weighed(c).bound, np.ones(3, bool)
    late = charged_each(left, sources, c, known=box, worth=every, late=lambda: True).bound
    assert np.allclose(late, box, rtol=1e-9)
    some = charged_each(left, sources, c, known=box, worth=~every, late=lambda: False).bound
    assert np.allclose(some, box, rtol=1e-9)


@pytest.mark.parametrize("kinds", KINDS, ids=lambda kinds: "-".join(kinds))
def test_bounds_get_better_by_them_and_never_worse(
    kinds: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    part = "refine.bounds.network.when_late"
    with_them, without = with_and_without(kinds, monkeypatch, part)
    if kinds != ["Sigmoid"] * 5:  # its last rounding is nearly all of the bound
        assert with_them.largest < 0.99 * without.largest


def loudest(
    weights: list[FloatArray], local: list[FloatArray], free: list[Any], row: int, rng: Any
) -> float:
    """How far roundings and slopes in 0..1, both free, were seen to move an element: each in turn
    takes the sign, or the end, that moves it most."""
    most = 0.0
    for _ in range(6):
        slopes = [np.where(u, rng.integers(0, 2, len(u)), a).astype(float) for u, a in free]
        value = -1.0
        while True:
            pulls = [np.eye(weights[-1].shape[1])[row]]
            for w, s in zip(weights[:0:-1], slopes[::-1], strict=True):
                pulls.insert(0, (w @ pulls[0]) * s)
            reached = sum(float(np.abs(p) @ e) for p, e in zip(pulls, local, strict=True))
            if reached <= value * (1 + 1e-9):
                break
            value, d = reached, np.sign(pulls[0]) * local[0]
            for k, (u, a) in enumerate(free):
                slopes[k] = np.where(u, (weights[k + 1] @ pulls[k + 1]) * d > 0, a).astype(float)
                d = (slopes[k] * d) @ weights[k + 1] + np.sign(pulls[k + 1]) * local[k + 1]
        most = max(most, value)
    return most


@pytest.mark.parametrize("seed", range(3))
def test_no_signs_and_slopes_go_beyond_the_bounds(seed: int) -> None:
    rng = np.random.default_rng(seed)
    graph, _ = network(["Relu"] * 4, rng, width=24)
    bounds = bounds_of(graph, rng.normal(0, 1, (1, 6)))
    maps, weights, local, free = bounds.maps, [], [], []
    nearest = 0.0
    for step in maps.program.steps:
        if step.node.op == "Relu":
            x, e = maps.values[step.reads[0]], maps.errors[step.reads[0]]
            free.append((((x.lo < e) & (x.hi > -e))[0], (x.lo >= e)[0]))
            continue
        weights.append(np.asarray(graph.constants[step.node.inputs[1]], np.float64))
        local.append(maps.local[step.name].bound[0])
        error = maps.errors[step.output][0]
        for row in range(0, len(error), 5):
            reached = loudest(weights, local, free, row, rng)
            assert reached <= error[row] * (1 + 1e-9), (step.name, row)
            nearest = max(nearest, reached / error[row] if len(free) > 1 else 0.0)
    assert nearest > 0.4, "what was tried comes nowhere near"
