"""Leaving dead neurons out of pull-backs: smaller networks, the same bounds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import small_models
from onnx import NodeProto, helper

from encoders.contract.presets import SEQUENTIAL
from encoders.numbers.enclosure import Interval
from onnx_import import load
from onnx_import.graph import Graph
from refine.bounds.backward import pull_back, unit_functionals
from refine.bounds.compact import compacted
from refine.bounds.network import InputBox, network_bounds

WIDTH = 24


def network(path: Path, kind: str) -> Graph:
    """Three layers of neurons most of which are dead near zero, written in one of several ways."""
    rng = np.random.default_rng(3)
    nodes: list[NodeProto] = []
    weights: dict[str, np.ndarray] = {}
    tensor, size = "x", 4
    for k in range(1, 4):
        matrix = rng.normal(size=(size, WIDTH)).astype(np.float32)
        bias = rng.normal(-0.5, 1.0, size=WIDTH).astype(np.float32)
        weights |= {f"w{k}": matrix.T.copy() if kind == "transposed" else matrix, f"b{k}": bias}
        if kind == "product":
            nodes.append(helper.make_node("MatMul", [tensor, f"w{k}"], [f"m{k}"]))
            nodes.append(helper.make_node("Add", [f"b{k}", f"m{k}"], [f"z{k}"]))
        else:
            turned = int(kind == "transposed")
            read = [tensor, f"w{k}", f"b{k}"]
            nodes.append(helper.make_node("Gemm", read, [f"z{k}"], transB=turned))
        if kind == "residual" and k == 2:
            nodes.append(helper.make_node("Add", ["z2", "h1"], ["s2"]))
        nodes.append(helper.make_node("Relu", ["s2" if kind == "residual" and k == 2 else f"z{k}"],
                                      [f"h{k}"]))  # fmt: skip
        tensor, size = f"h{k}", WIDTH
    weights["last"] = rng.normal(size=(WIDTH, 2)).astype(np.float32)
    nodes.append(helper.make_node("MatMul", [tensor, "last"], ["y"]))
    return load(small_models.save(path, nodes, {"x": [1, 4]}, {"y": [1, 2]}, weights))


@pytest.mark.parametrize("kind", ["plain", "transposed", "product", "residual"])
def test_without_dead_neurons_functionals_have_the_same_bounds(tmp_path: Path, kind: str) -> None:
    graph = network(tmp_path / "net.onnx", kind)
    zero = np.zeros((1, 4))
    box = InputBox({"x": Interval(zero - 0.1, zero + 0.1)}, {"x": zero + 1e-6})
    maps = network_bounds(graph, box, SEQUENTIAL).maps
    for target in ("z2", "z3", "y"):
        small = compacted(maps, target)
        assert small.values[target].shape == maps.values[target].shape
        hidden = [t for t in ("h1", "h2", "h3") if t in small.values and t < "h" + target[-1]]
        cut = {t for t in hidden if small.values[t].shape[-1] < WIDTH}
        whole = {"h1", "h2"} if kind == "residual" and target != "z2" else set()
        assert cut == set(hidden) - whole  # what meets in a sum of two tensors stays whole
        unit = unit_functionals(maps.values[target].shape, np.arange(2))
        c = np.concatenate([unit, -unit])
        for on_values, on_differences in (({target: c}, {}), ({}, {target: c})):
            all_of_it = pull_back(maps, on_values, on_differences).upper
            without = pull_back(small, on_values, on_differences).upper
            np.testing.assert_allclose(without, all_of_it, rtol=1e-9)
            assert np.all(np.isfinite(all_of_it))


def test_neurons_that_may_be_other_than_zero_at_run_time_are_kept(tmp_path: Path) -> None:
    graph = network(tmp_path / "net.onnx", "plain")
    zero = np.zeros((1, 4))
    sure = InputBox({"x": Interval(zero, zero)}, {"x": zero})
    unsure = InputBox({"x": Interval(zero, zero)}, {"x": zero + 1.0})
    widths = [
        compacted(network_bounds(graph, box, SEQUENTIAL).maps, "y").values["h1"].shape[-1]
        for box in (sure, unsure)
    ]
    assert widths[0] < widths[1]
