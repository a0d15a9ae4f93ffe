"""The search beside the points at which an input's integers change."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import helper
from small_models import save

from encoders.contract.presets import EXACT, IEEE_ANY
from onnx_import import load
from refine.claims.pair_quarry import pair_quarry
from refine.domain.domain import DomainOptions, read_domain
from refine.pair.pair import Pair, pair_of
from refine.pair.quantised.cells import input_grids
from refine.results.verdict import Side, Tolerance
from refine.search.evaluation import Hunt
from refine.search.grid_steps import climbed

_N = helper.make_node
_F = np.float32
_INPUTS, _SCALE = 60, _F(0.0131)


def _pair(folder: Path, weights: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> Pair:
    spec = [_N("MatMul", ["x", "w"], ["y"])]
    impl = [
        _N("QuantizeLinear", ["x", "s", "z"], ["q"]),
        _N("DequantizeLinear", ["q", "s", "z"], ["d"]),
        _N("MatMul", ["d", "w"], ["y"]),
    ]
    held = {"w": weights, "s": _SCALE.reshape(()), "z": np.array(7, np.int8)}
    inputs, outputs = {"x": (1, _INPUTS)}, {"y": (1, 1)}
    first = save(folder / "spec.onnx", spec, inputs, outputs, {"w": weights})
    second = save(folder / "impl.onnx", impl, inputs, outputs, held)
    return pair_of(Side(load(first), EXACT), Side(load(second), IEEE_ANY))


def _hunt(pair: Pair, radius: float) -> Hunt:
    graph = pair.impl.graph
    options = DomainOptions(inputs=(f"{0.3 - radius}..{0.3 + radius}",))
    (box,) = read_domain(graph, options, IEEE_ANY.format_of).boxes
    quarry = pair_quarry(pair)
    assert quarry is not None
    (meant,) = quarry.references
    return Hunt(graph, box, IEEE_ANY, Tolerance(), meant)


@pytest.mark.parametrize("radius", [0.02, 0.2])
def test_half_a_step_of_every_input_is_found(tmp_path: Path, radius: float) -> None:
    weights = np.random.default_rng(3).normal(size=(_INPUTS, 1)).astype(_F)
    most = float(_SCALE) / 2 * float(np.sum(np.abs(weights)))
    hunt = _hunt(_pair(tmp_path, weights), radius)
    found = list(climbed(hunt, 5, lambda: False))
    best = max(c.excess for c in found)
    assert 0.9 * most < best < 1.001 * most
    again = list(climbed(hunt, 5, lambda: False))
    assert [c.excess for c in again] == [c.excess for c in found]
    for each in found:
        assert hunt.box.contains(each.inputs)


def test_where_time_is_up_nothing_is_begun(tmp_path: Path) -> None:
    hunt = _hunt(_pair(tmp_path, np.ones((_INPUTS, 1), _F)), 0.02)
    assert not list(climbed(hunt, 5, lambda: True))


def test_plain_networks_are_left_alone(tmp_path: Path) -> None:
    pair = _pair(tmp_path, np.ones((_INPUTS, 1), _F))
    assert set(input_grids(pair.impl.graph)) == {"x"}
    assert not input_grids(pair.spec.graph)
    hunt = _hunt(pair, 0.02)
    plain = Hunt(pair.spec.graph, hunt.box, IEEE_ANY, Tolerance())
    assert not list(climbed(plain, 5, lambda: False))
