"""Normalised rows of what is read and of what is meant differ by a matrix that is enclosed."""

from __future__ import annotations

import numpy as np
import pytest

from encoders.families.rows.normalization import closer, jacobian, normalized, secants
from encoders.numbers.enclosure import FloatArray, Interval


def _exactly(x: FloatArray, epsilon: float, *, centred: bool) -> FloatArray:
    x = x.astype(np.longdouble)
    c = x - x.mean(axis=1, keepdims=True) if centred else x
    return np.asarray(c / np.sqrt((c * c).mean(axis=1, keepdims=True) + np.longdouble(epsilon)))


@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("epsilon", [0.0, 1e-5, 0.3])
@pytest.mark.parametrize("width", [0.0, 1e-3, 0.1])
def test_no_difference_is_outside_what_the_secants_make_of_it(
    centred: bool, epsilon: float, width: float
) -> None:
    rng = np.random.default_rng(3)
    least = np.inf
    for trial in range(12):
        n = int(rng.integers(2, 7))
        middle = rng.normal(0.0, 1.0, (3, n)) + rng.choice([0.0, 4.0])
        x = Interval(middle - width, middle + width)
        error = np.abs(rng.normal(0.0, rng.choice([1e-6, 0.05, 0.4]), (3, n)))
        mean, run = x.inflate(0.5 * error), x.inflate(error)
        read, between, there = (normalized(v, epsilon, centred=centred) for v in (x, mean, run))
        slopes = secants(read, between, there, centred)
        assert slopes is not None
        best = closer(jacobian(there, centred), slopes, error)
        assert isinstance(best, Interval)
        for _ in range(12):
            real = middle + width * rng.choice([-1.0, 0.3, 1.0], middle.shape)
            d = error * rng.choice([-1.0, 0.0, 1.0], error.shape)
            moved = _exactly(real + d, epsilon, centred=centred)
            gone = moved - _exactly(real, epsilon, centred=centred)
            for m in (slopes, best):
                known = np.asarray(np.all(np.isfinite(m.magnitude), axis=2))
                ends = [np.where(known[:, :, None], e, 0.0) * d[:, None, :] for e in (m.lo, m.hi)]
                low = np.minimum(*ends).sum(axis=2)
                high = np.maximum(*ends).sum(axis=2)
                slack = 1e-12 * (1.0 + np.abs(np.stack(ends)).sum(axis=(0, 3)))
                inside = (low - slack <= gone) & (gone <= high + slack)
                assert np.all(inside | ~known), trial
        reach = np.abs(slopes.hi - slopes.lo)
        least = min(least, float(np.min(reach)))
    assert least < 1e-3 + width * 10
