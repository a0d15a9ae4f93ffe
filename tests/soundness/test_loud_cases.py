"""Errors in cases of slopes, where roundings are as large as the inputs of the case make them."""

from __future__ import annotations

import numpy as np
import pytest
from text_networks import network, node

from encoders.contract.presets import SEQUENTIAL_FMA
from encoders.numbers.enclosure import FloatArray, Interval
from onnx_import.graph import Graph
from refine.bounds.alpha import Branching
from refine.bounds.local.loud import Loud
from refine.bounds.network import InputBox, network_bounds


def random_network(seed: int) -> tuple[Graph, InputBox]:
    rng = np.random.default_rng(seed)
    n, hidden = int(rng.integers(6, 20)), int(rng.integers(3, 8))
    stored = {
        "w": rng.normal(size=(n, hidden)),
        "b": rng.normal(size=hidden),
        "v": rng.normal(size=(hidden, 2)),
        "c": rng.normal(size=2),
    }
    nodes = [
        node("Gemm", "x w b", "h"),
        node("Relu", "h", "r"),
        node("Gemm", "r v c", "y"),
    ]
    centre, wide = rng.normal(size=(1, n)), 0.5 * rng.random((1, n))
    lo, hi = (end.astype(np.float32).astype(np.float64) for end in (centre - wide, centre + wide))
    return network(nodes, {"x": (1, n)}, stored), InputBox(
        {"x": Interval(lo, hi)}, {"x": np.zeros((1, n))}
    )


def loudness(net: Graph, x: FloatArray, element: int) -> FloatArray:
    """Per input, what all roundings of a chain of fused operations come to at half an ulp each, by
    the derivative of the output in each: written out, of this network alone."""
    w, b, v, c = (np.asarray(net.constants[t], np.float64) for t in "wbvc")

    def ulps(s: FloatArray) -> FloatArray:
        return 2.0 ** (np.floor(np.log2(np.maximum(np.abs(s), 2.0**-126))) - 24)

    def chain(read: FloatArray, weights: FloatArray, bias: FloatArray) -> FloatArray:
        sums = np.cumsum(read[:, :, None] * weights, axis=1)
        live = (read != 0)[:, :, None]
        own: FloatArray = np.sum(ulps(sums) * live, axis=1) + ulps(sums[:, -1] + bias)
        return own

    h = x @ w + b
    own = chain(np.maximum(h, 0.0), v, c)[:, element]
    return own + ((h > 0) * chain(x, w, b)) @ np.abs(v[:, element])


def test_no_bound_is_below_what_roundings_come_to_and_some_are_lower_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lower, effort = 0, Branching(steps=6, parts=64, total=256, cases=512)
    for seed in range(12):
        net, box = random_network(seed)
        found = network_bounds(net, box, SEQUENTIAL_FMA, branching=effort).errors["y"][0]
        rng, x = np.random.default_rng(seed), box.values["x"]
        share = rng.integers(0, 2, size=(4000, x.lo.size)) * rng.random((4000, 1)).round()
        points = x.lo + share * (x.hi - x.lo)
        for element in range(2):
            assert np.max(loudness(net, points, element)) <= found[element] * (1 + 1e-4)
        with monkeypatch.context() as patch:
            patch.setattr(Loud, "bound", lambda *given: None)
            plain = network_bounds(net, box, SEQUENTIAL_FMA, branching=effort).errors["y"][0]
        lower += int(np.max(found) < 0.99 * np.max(plain))
        assert np.all(found <= plain * (1.0 + 1e-9))
    assert lower >= 6
