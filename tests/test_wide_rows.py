"""Jacobians of long rows as a diagonal and outer products: against dense ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import pytest
from given_radii import off_by

from encoders.families.rows import normalization, softmax_bounds
from encoders.families.rows.normalization import jacobian, normalized
from encoders.families.rows.softmax_bounds import (
    log_softmax_jacobian,
    softmax_jacobian,
    softmax_range,
)
from encoders.lemmas.ranges.placing import range_of
from encoders.numbers.enclosure import FloatArray, Interval
from encoders.operator import Moved
from encoders.relaxations.low_rank import LowRank
from encoders.relaxations.row_maps import row_differences, row_values
from encoders.relaxations.rows import rows_along

Given: TypeAlias = tuple[Interval, FloatArray]
Slopes: TypeAlias = Callable[[Interval], Interval | LowRank]

KINDS: dict[str, Slopes] = {
    "softmax": lambda x: softmax_jacobian(softmax_range(x)),
    "log-softmax": lambda x: log_softmax_jacobian(softmax_range(x)),
    "centred": lambda x: jacobian(normalized(x, 1e-5, centred=True), True),
    "root-mean-square": lambda x: jacobian(normalized(x, 1e-5, centred=False), False),
}
LOSS = {"softmax": 1.0, "log-softmax": 1.0, "centred": 1.6, "root-mean-square": 1.4}


def _true(kind: str, x: FloatArray) -> FloatArray:
    """The Jacobian at a point, (rows, n, n), up to float64 rounding."""
    n = x.shape[1]
    if kind in ("softmax", "log-softmax"):
        p = np.exp(x - np.max(x, axis=1, keepdims=True))
        p = p / np.sum(p, axis=1, keepdims=True)
        inner = np.eye(n) - p[:, None, :]
        return np.asarray(inner if kind == "log-softmax" else p[:, :, None] * inner)
    centred = kind == "centred"
    c = x - np.mean(x, axis=1, keepdims=True) if centred else x
    sigma = np.sqrt(np.mean(c * c, axis=1, keepdims=True) + 1e-5)
    z = c / sigma
    shares = np.eye(n) - (1.0 / n if centred else 0.0) - z[:, :, None] * z[:, None, :] / n
    return np.asarray(shares / sigma[:, :, None])


def _function(kind: str, x: FloatArray) -> FloatArray:
    if kind in ("softmax", "log-softmax"):
        shifted = x - np.max(x, axis=1, keepdims=True)
        result = shifted - np.log(np.sum(np.exp(shifted), axis=1, keepdims=True))
        return np.asarray(result if kind == "log-softmax" else np.exp(result))
    c = x - np.mean(x, axis=1, keepdims=True) if kind == "centred" else x
    return np.asarray(c / np.sqrt(np.mean(c * c, axis=1, keepdims=True) + 1e-5))


def _sampled(seed: int) -> Given:
    rng = np.random.default_rng(seed)
    shape = int(rng.integers(1, 4)), int(rng.integers(2, 30))
    centre = rng.normal(size=shape) * 10.0 ** rng.uniform(-1, 1)
    width = 10.0 ** rng.uniform(-5, 0.5) * rng.random(shape) * (rng.random(shape) < 0.8)
    return Interval(centre - width, centre + width), width + 1e-6 * rng.random(shape)


def _reached(pulled: Moved, error: FloatArray) -> FloatArray:
    """What functionals of differences come to, the input's being at most `error`."""
    c = pulled.coefficients[0]
    assert c is not None
    return np.asarray(np.sum(np.abs(c) * error, axis=(1, 2)) + pulled.constant)


def _structured(monkeypatch: pytest.MonkeyPatch, slopes: Slopes, x: Interval) -> LowRank:
    for module in (softmax_bounds, normalization):
        monkeypatch.setattr(module, "MOST_ENTRIES", 0)
    found = slopes(x)
    monkeypatch.undo()
    assert isinstance(found, LowRank)
    return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(12))
def test_structured_jacobians_hold_the_true_ones(
    kind: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, _ = _sampled(seed)
    found = _structured(monkeypatch, KINDS[kind], x)
    rows, n = x.shape
    at = np.arange(n)
    middle, spread = np.zeros((2, rows, n, n))
    for left, right in found.pairs:
        middle += left[:, :, None] * right[:, None, :]
    for a, b in found.loose:
        spread += a[:, :, None] * b[:, None, :]
    middle[:, at, at] += found.diagonal
    spread[:, at, at] = found.own_spread
    rng = np.random.default_rng(seed)
    for place in (0.0, 1.0, *rng.random((6, rows, n))):
        true = _true(kind, x.lo + (x.hi - x.lo) * place)
        assert np.all(np.abs(true - middle) <= spread + 1e-11 * (1.0 + np.max(np.abs(true))))
        assert np.all(np.abs(true[:, at, at]) <= found.own * (1.0 + 1e-9) + 1e-12)
    c, v = rng.normal(size=(5, rows, n)), rng.normal(size=(rows, n))
    assert np.allclose(found.pulled(c), np.einsum("kri,rij->krj", c, middle), 1e-9, 1e-9)
    assert np.allclose(found.times(v), np.einsum("rij,rj->ri", middle, v), 1e-9, 1e-9)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(12))
def test_structure_costs_softmax_nothing_and_normalisation_little(
    kind: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, error = _sampled(seed)
    error *= 10.0 ** -float(seed % 6)
    rows = rows_along(x.shape, (1,))
    limit = np.full(x.shape, np.inf)
    exact = KINDS[kind](x)
    structured = _structured(monkeypatch, KINDS[kind], x)
    c = np.random.default_rng(seed).normal(size=(20, *x.shape))
    maps = [
        row_differences(rows, rows, j, off_by(error), off_by(limit)) for j in (exact, structured)
    ]
    bounds = [_reached(m.backward(c), error) for m in maps]
    assert np.all(bounds[1] <= LOSS[kind] * bounds[0] * (1.0 + 1e-6))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(6))
def test_values_pulled_back_through_the_structure_are_bounds(
    kind: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, _ = _sampled(seed)
    rows = rows_along(x.shape, (1,))
    structured = _structured(monkeypatch, KINDS[kind], x)
    range_ = range_of(Interval(np.full(x.shape, -100.0), np.full(x.shape, 100.0)))
    middle = _function(kind, 0.5 * x.lo + 0.5 * x.hi)
    near = Interval(middle - 1e-12, middle + 1e-12)
    mapped = row_values(rows, rows, x=x, range_=range_, at_middle=near, jacobian=structured)
    rng = np.random.default_rng(seed)
    c = rng.normal(size=(10, *x.shape))
    pulled = mapped.backward(c)
    coefficients = pulled.coefficients[0]
    assert coefficients is not None
    for place in (0.0, 1.0, *rng.random((6, *x.shape))):
        at = x.lo + (x.hi - x.lo) * place
        bound = np.sum(coefficients * at, axis=(1, 2)) + pulled.constant
        assert np.all(np.sum(c * _function(kind, at), axis=(1, 2)) <= bound + 1e-9)


def test_an_unbounded_slope_leaves_the_direct_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    x = Interval(np.full((1, 6), -1.0), np.full((1, 6), 1.0))
    found = _structured(monkeypatch, lambda v: jacobian(normalized(v, 0.0, centred=True), True), x)
    rows = rows_along(x.shape, (1,))
    limit = np.full(x.shape, 4.0)
    with np.errstate(invalid="ignore"):
        error = np.full(x.shape, 1e-3)
        mapped = row_differences(rows, rows, found, off_by(error), off_by(limit))
    assert np.array_equal(mapped.radius.bound, limit)
    pulled = mapped.backward(np.eye(6)[:, None, :])
    coefficients = pulled.coefficients[0]
    assert coefficients is not None
    assert not np.any(coefficients)
    assert np.all(pulled.constant >= 4.0)
