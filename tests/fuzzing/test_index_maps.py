"""What an operator reads where is worked out once for a node, whatever asks for it how often."""

from __future__ import annotations

import cProfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import onnx
import pytest
from graphs import RECIPES, one_operator

from encoders.arithmetic.approximate_field import ApproximateReals
from encoders.contract.contract import OpenSchedule
from encoders.contract.presets import SEQUENTIAL
from encoders.families.movement import indices
from encoders.numbers.enclosure import Interval
from gpu_check.emulator.emulator import emulate
from gpu_check.emulator.exact import evaluate_real
from onnx_import import load
from onnx_import.graph import Graph
from refine.bounds.network import InputBox, network_bounds

UNREAD = {"HardSigmoid"}  # its recipe's attributes are refused


def used(graph: Graph) -> None:
    """Every semantics of every node: emulated, over the reals, and bounded."""
    shapes = {name: graph.types[name].shape for name in graph.inputs}
    ones = {n: np.ones((1, *s), graph.types[n].dtype.numpy) for n, s in shapes.items()}
    low = {n: Interval(np.full(s, 0.5), np.ones(s)) for n, s in shapes.items()}
    box = InputBox(low, {n: np.zeros(s) for n, s in shapes.items()})
    with np.errstate(all="ignore"):
        with suppress(OpenSchedule):
            emulate(graph, ones, SEQUENTIAL)
        evaluate_real(graph, {n: v.astype(float) for n, v in ones.items()}, ApproximateReals())
        network_bounds(graph, box, SEQUENTIAL)


def index_maps(run: Callable[[], None]) -> int:
    """How many are made: every one of them starts with `indices`."""
    profile = cProfile.Profile()
    profile.runcall(run)
    profile.create_stats()
    made = indices.__code__
    place = (made.co_filename, made.co_firstlineno, made.co_name)
    return sum(calls for where, (_, calls, *_) in profile.stats.items() if where == place)


@pytest.mark.parametrize("name", sorted(set(RECIPES) - UNREAD))
def test_no_index_map_is_made_again(name: str, tmp_path: Path) -> None:
    model = one_operator(np.random.default_rng(0), name)
    onnx.save(model, tmp_path / "m.onnx")
    graph = load(tmp_path / "m.onnx")
    used(graph)
    assert index_maps(lambda: used(graph)) == 0


def test_the_count_sees_what_is_made(tmp_path: Path) -> None:
    onnx.save(one_operator(np.random.default_rng(0), "Slice"), tmp_path / "m.onnx")
    graph = load(tmp_path / "m.onnx")
    assert index_maps(lambda: used(graph)) == 1
