"""Slopes of functionals of normalised rows, against balls of 300 bits."""

from __future__ import annotations

import flint
import numpy as np
import numpy.typing as npt
import pytest

from encoders.families.rows.normalization import normalized
from encoders.numbers.enclosure import Interval, add_down, add_up
from encoders.numbers.row_forms import RowForms
from encoders.relaxations.row_slopes import own_slopes, way_of
from encoders.relaxations.tangent_rows import tangents

Array = npt.NDArray[np.float64]


def exact(x: Array, v: Array, epsilon: float, *, centred: bool) -> list[flint.arb]:
    """The slopes of v·z in the numbers of one row."""
    n = len(x)
    a = [flint.arb(float(e)) for e in x]
    w = [flint.arb(float(e)) for e in v]
    if centred:
        a = [e - sum(a, flint.arb(0)) / n for e in a]
        w = [e - sum(w, flint.arb(0)) / n for e in w]
    sigma = (sum((e * e for e in a), flint.arb(0)) / n + flint.arb(epsilon)).sqrt()
    z = [e / sigma for e in a]
    along = sum((p * q for p, q in zip(w, z, strict=True)), flint.arb(0)) / n
    return [(p - q * along) / sigma for p, q in zip(w, z, strict=True)]


@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("reach", [0.0, 1e-13, 1e-6, 0.05, 0.4, 2.0])
@pytest.mark.parametrize("seed", range(5))
def test_slopes_are_as_near_as_is_said(seed: int, reach: float, centred: bool) -> None:
    rng = np.random.default_rng(seed)
    rows, n, m, epsilon = 2, int(rng.integers(2, 7)), 4, float(rng.choice([1e-5, 0.1]))
    middle = rng.uniform(-2, 2, (rows, n))
    moves = reach / m * rng.uniform(-1, 1, (rows, n, m))
    wide = np.abs(moves).sum(axis=2) * (1 + 1e-12)
    x = Interval(add_down(middle, -wide), add_up(middle, wide))
    forms = None
    if seed % 2:
        less = moves - moves.mean(axis=1, keepdims=True) if centred else moves
        at = middle - middle.mean(axis=1, keepdims=True) if centred else middle
        forms = RowForms(at, less, np.full((rows, n), 1e-13 * (1.0 + reach)))
    found = normalized(x, epsilon, centred=centred, forms=forms)
    around = tangents(
        x, found.deviation, sigma=found.sigma, epsilon=epsilon, centred=centred, forms=forms
    )
    v = rng.uniform(-1, 1, (4, rows, n)) + np.array([0.0, 0.0, 1e3, 1e14])[:, None, None]
    v = v - v.mean(axis=2, keepdims=True) if centred else v
    slopes, rest = own_slopes(way_of(found.z, found.sigma, around, centred=centred), v)
    flint.ctx.prec = 300
    signs = np.sign(np.einsum("krn,rnm->krm", v, moves))
    for k in range(len(v)):
        for r in range(rows):
            ts = [signs[k, r], -signs[k, r], np.zeros(m), *rng.choice([-1.0, 1.0], (4, m))]
            for t in ts:
                point = np.clip(middle[r] + moves[r] @ t, x.lo[r], x.hi[r])
                for j, g in enumerate(exact(point, v[k, r], epsilon, centred=centred)):
                    if np.isfinite(rest[k, r, j]):
                        off = abs(g - flint.arb(float(slopes[k, r, j])))
                        assert not off > flint.arb(float(rest[k, r, j]))


def test_a_dense_functional_is_known_better_than_its_numbers() -> None:
    """Of 16 numbers that vary by a third: the slopes of each, added up, say less."""
    rng = np.random.default_rng(0)
    middle = rng.uniform(-1, 1, (1, 16))
    x = Interval(middle - 0.15, middle + 0.15)
    found = normalized(x, 1e-5, centred=True)
    v = rng.choice([-1.0, 1.0], (1, 1, 16))
    v = v - v.mean(axis=2, keepdims=True)
    way = way_of(found.z, found.sigma, None, centred=True)
    _, whole = own_slopes(way, v)
    each = sum(
        own_slopes(way, np.abs(v[0, 0, i]) * np.eye(16)[None, i : i + 1])[1] for i in range(16)
    )
    assert np.sum(whole) < 0.75 * np.sum(each)
