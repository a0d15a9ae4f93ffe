"""Maxima of numbers that hang together: what one exceeds another by tells which is the largest."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from onnx import helper
from small_models import save

from encoders.lemmas.differences import GIVEN_ERROR
from encoders.lemmas.kernel import apply
from encoders.numbers.enclosure import Interval
from encoders.numbers.leaning import Ordered
from encoders.program import program_of
from onnx_import import load

Array = npt.NDArray[np.float64]


@pytest.mark.parametrize("op", ["MaxPool", "ReduceMin", "ReduceMax"])
@pytest.mark.parametrize("seed", range(25))
def test_maxima_of_numbers_that_move_together(tmp_path: Path, op: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape, m = (1, 2, 4, 4), 5
    if op == "MaxPool":
        node = helper.make_node(op, ["x"], ["y"], kernel_shape=[3, 3], strides=[1, 1])
        result = [1, 2, 2, 2]
    else:
        node = helper.make_node(op, ["x"], ["y"], axes=[3], keepdims=1)
        result = [1, 2, 4, 1]
    path = save(tmp_path / "m.onnx", [node], {"x": list(shape)}, {"y": result}, opset=13)
    (step,) = program_of(load(path)).steps
    size, n = float(rng.choice([0.05, 0.3, 1.0])), int(np.prod(shape))
    middle, common = rng.normal(size=n), size * rng.normal(size=m)
    moves = common + 0.2 * size * rng.normal(size=(n, m))
    off = 0.1 * size * rng.uniform(size=n)
    x_wide = np.sum(np.abs(moves), axis=1)

    def above(first: npt.NDArray[np.intp], second: npt.NDArray[np.intp]) -> Array:
        together = np.sum(np.abs(moves[first] - moves[second]), axis=1)
        at = middle[first] - middle[second] + together
        return np.asarray(at + off[first] + off[second] + 1e-12)

    wide = Interval(*((middle + s * x_wide).reshape(shape) for s in (-1.0, 1.0)))
    given = apply(GIVEN_ERROR, U=off.reshape(shape))
    plain = step.operator.differences(step.site, [wide], [given])
    told = step.operator.differences(step.site, [Ordered(wide.lo, wide.hi, above)], [given])
    c = rng.normal(size=(8, *result))
    pulled = [each.backward(c) for each in (plain, told)]
    t = rng.choice([-1.0, 1.0, 0.3], (300, m))
    x = middle + t @ moves.T
    d = off * rng.choice([-1.0, 1.0], x.shape)
    apart = _values(op, x + d, shape) - _values(op, x, shape)
    left = c.reshape(8, -1) @ apart.reshape(300, -1).T
    for moved in pulled:
        (on,) = moved.coefficients
        most = moved.cost.bound[:, None]
        if on is not None:
            most = most + on.reshape(8, -1) @ d.T
        assert np.all(left <= most + 1e-9)
    assert np.all(np.abs(apart.reshape(300, *result)) <= told.radius.bound + 1e-12)
    assert np.all(pulled[1].cost.bound <= pulled[0].cost.bound + 1e-12)


def _values(op: str, x: Array, shape: tuple[int, ...]) -> Array:
    whole = x.reshape(len(x), *shape)
    if op == "MaxPool":
        windows = np.lib.stride_tricks.sliding_window_view(whole, (3, 3), axis=(3, 4))
        return np.asarray(windows.max(axis=(-1, -2)))
    return np.asarray((np.min if op == "ReduceMin" else np.max)(whole, axis=4, keepdims=True))
