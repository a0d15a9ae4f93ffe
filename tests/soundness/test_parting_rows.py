"""Differences of normalised rows hold for rows that part along forms in shared unknowns."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import helper
from small_models import save

from encoders.lemmas.differences import GIVEN_ERROR
from encoders.lemmas.kernel import apply
from encoders.numbers.enclosure import Interval
from encoders.numbers.leaning import Leaning, Parting
from encoders.numbers.row_forms import RowForms
from encoders.program import Step, program_of
from onnx_import import load

ROWS, SAMPLES = 3, 300
Array = np.ndarray


def _step(folder: Path, n: int, rng: np.random.Generator, epsilon: float) -> Step:
    weights = {"g": rng.normal(size=n).astype(np.float32), "b": np.zeros(n, np.float32)}
    node = helper.make_node("LayerNormalization", ["x", "g", "b"], ["y"], axis=-1, epsilon=epsilon)
    path = save(folder / "rows.onnx", [node], {"x": [ROWS, n]}, {"y": [ROWS, n]}, weights)
    (step,) = program_of(load(path)).steps
    return step


def _forms(rng: np.random.Generator, middle: Array, size: float) -> tuple[RowForms, Array]:
    """Forms around a middle without means, and (samples, rows, n) of what they enclose."""
    rows, n = middle.shape
    m = int(rng.integers(1, 6))
    moves = size * rng.normal(size=(rows, n, m)) / m
    middle, moves = (v - v.mean(axis=1, keepdims=True) for v in (middle, moves))
    rest = size * rng.choice([0.0, 0.1]) * rng.uniform(size=(rows, n)) + 1e-15
    ends = rng.choice([-1.0, 1.0], (SAMPLES, rows, m))
    t = np.where(rng.random((SAMPLES, 1, 1)) < 0.7, ends, rng.uniform(-1.0, 1.0, ends.shape))
    off = rng.choice([-1.0, 1.0], (SAMPLES, rows, n)) * rest
    off = 0.5 * (off - off.mean(axis=2, keepdims=True))
    return RowForms(middle, moves, rest), middle + np.einsum("rnm,srm->srn", moves, t) + off


def _around(v: Array) -> Interval:
    slack = 1e-12 * np.max(np.abs(v))
    return Interval(v.min(axis=0) - slack, v.max(axis=0) + slack)


def _normalized(x: Array, epsilon: float, scale: Array) -> Array:
    c = x - x.mean(axis=-1, keepdims=True)
    return np.asarray(c / np.sqrt(np.mean(c * c, axis=-1, keepdims=True) + epsilon) * scale)


@pytest.mark.parametrize("seed", range(150))
def test_no_functional_exceeds_its_line(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, epsilon = int(rng.integers(2, 10)), float(rng.choice([1e-5, 1e-2, 1.0]))
    step = _step(tmp_path, n, rng, epsilon)
    scale = np.asarray(step.site.constant(1), np.float64)
    middle = rng.normal(size=(ROWS, n)) * rng.choice([1e-2, 1.0, 30.0])
    length = float(np.linalg.norm(middle)) / n
    now, c = _forms(rng, middle, length * float(rng.choice([1e-3, 0.1, 0.5])))
    start = rng.normal(size=(ROWS, n)) * length * rng.choice([0.0, 0.2])
    apart, d = _forms(rng, start, length * float(rng.choice([1e-3, 0.1, 0.5])))
    shift, moved = (length * rng.normal(size=(SAMPLES, ROWS, 1)) * s for s in (1.0, 0.1))
    x, d = c + shift, d + moved
    error = apply(GIVEN_ERROR, U=np.max(np.abs(d), axis=0) * (1.0 + 1e-9))
    ranges, run = _around(x), _around(x + d)
    index = np.arange(ROWS * n).reshape(ROWS, n)
    none = np.zeros(ROWS)
    given = Parting(ranges.lo, ranges.hi, index, none, now, run=run, apart=apart)
    way = given.inflate(error.bound)
    assert isinstance(way, Leaning)
    for part in (0.0, 0.3, 1.0):
        assert np.all(way.lo <= x + part * d)
        assert np.all(x + part * d <= way.hi)
    found = step.operator.differences(step.site, [given], [error])
    functionals = rng.normal(size=(20, ROWS, n)) * rng.choice([0.0, 1.0], (20, ROWS, n))
    functionals[:n] = 0.0
    functionals[np.arange(n), 0, np.arange(n)] = 1.0
    pulled = found.backward(functionals)
    (on,) = pulled.coefficients
    assert on is not None
    after = _normalized(x + d, epsilon, scale) - _normalized(x, epsilon, scale)
    assert np.all(np.abs(after) <= found.radius.bound * (1.0 + 1e-12) + 1e-12)
    left = np.einsum("krn,srn->sk", functionals, after) - np.einsum("krn,srn->sk", on, d)
    size = np.einsum("krn,srn->sk", np.abs(functionals), np.abs(after)) + 1e-3
    assert np.all(np.abs(left) <= pulled.cost.bound + 1e-11 * size)


def test_rows_that_vary_and_part_together_are_bounded_by_the_line(tmp_path: Path) -> None:
    """Numbers of a row that grow by one unknown, and part by another, say little one by one."""
    rng = np.random.default_rng(0)
    step = _step(tmp_path, 8, rng, 1e-5)
    middle, across = rng.normal(size=(2, ROWS, 8))
    middle, across = (v - v.mean(axis=1, keepdims=True) for v in (middle, across))
    rest, way, off = np.full((ROWS, 8), 1e-15), 0.2 * middle, 0.05 * across
    now = RowForms(middle, way[:, :, None], rest)
    apart = RowForms(np.zeros((ROWS, 8)), off[:, :, None], rest)
    wide = np.abs(way) + 1e-12
    x, run = (Interval(middle - w, middle + w) for w in (wide, wide + np.abs(off)))
    index = np.arange(ROWS * 8).reshape(ROWS, 8)
    given = Parting(x.lo, x.hi, index, np.zeros(ROWS), now, run=run, apart=apart)
    error = apply(GIVEN_ERROR, U=np.abs(off))
    functionals = np.eye(ROWS * 8).reshape(-1, ROWS, 8)
    costs = []
    for read in (given, x):
        pulled = step.operator.differences(step.site, [read], [error]).backward(functionals)
        (on,) = pulled.coefficients
        straight = 0.0 if on is None else np.abs(np.einsum("krn,rn->k", on, off))
        costs.append(float(np.max(pulled.cost.bound + straight)))
    assert costs[0] < 0.8 * costs[1]
