"""onnxruntime's own quantised layers: bit for bit, over the reals, and within their bounds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from encoders.contract.contract import Contraction
from encoders.contract.presets import IEEE_ANY, ORT_CPU
from encoders.numbers.enclosure import Interval
from encoders.program import program_of
from gpu_check.emulator.emulator import emulate
from onnx_import import load
from onnx_import.errors import UnsupportedModel
from refine.bounds.network import InputBox, network_bounds

FUSED = replace(ORT_CPU, contraction=Contraction.ALWAYS)
SHAPE = (1, 2, 4, 5)
BINARY = ("QLinearAdd", "QLinearMul")
NAMES = (*BINARY, "QLinearMatMul", "QLinearGlobalAveragePool")
Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Layer:
    """A file in which integers that QuantizeLinear makes go through one layer, and its numbers."""

    op: str
    path: Path
    inputs: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    held: dict[str, Array]

    def run(self, given: dict[str, Array]) -> Array:
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = onnxruntime.InferenceSession(str(self.path), options)
        return np.asarray(session.run(None, given)[0])

    def exactly(self, q: list[Array]) -> tuple[Array, Array]:
        """The two integers next to the exact number of steps, which are one but at a tie."""
        h = {name: Fraction(float(v)) for name, v in self.held.items() if v.size == 1}
        numbers = [
            (np.vectorize(lambda v: Fraction(int(v)), otypes=[object])(x) - h[z]) * h[s]
            for x, s, z in zip(q, ("sa", "sb"), ("za", "zb"), strict=False)
        ]
        match self.op:
            case "QLinearAdd":
                y = numbers[0] + numbers[1]
            case "QLinearMul":
                y = numbers[0] * numbers[1]
            case "QLinearMatMul":
                y = np.matmul(numbers[0], numbers[1])
            case _:
                y = numbers[0].mean(axis=tuple(range(2, numbers[0].ndim)), keepdims=True)
        info = np.iinfo(self.held["zy"].dtype)
        ends = []
        for off in (Fraction(-1, 10**6), Fraction(1, 10**6)):
            t = [round(v / h["sy"] + h["zy"] + off) for v in y.reshape(-1)]
            ends.append(np.clip(np.array(t).reshape(y.shape), info.min, info.max))
        return ends[0], ends[1]


def layers(op: str, folder: Path, shape: tuple[int, ...] = SHAPE) -> Iterator[Layer]:
    rng = np.random.default_rng(4)
    for trial in range(6):
        dtype = (np.uint8, np.int8)[trial % 2]
        info = np.iinfo(dtype)
        held: dict[str, Array] = {}
        for s, z in (("sa", "za"), ("sb", "zb"), ("sy", "zy")):
            held[s] = np.array(10 ** rng.uniform(-2.5, -0.5), np.float32)
            held[z] = np.array(rng.integers(info.min, info.max + 1), dtype)
        if trial > 3:  # ties
            held |= {"sa": np.array(0.5, np.float32), "sb": np.array(0.5, np.float32)}
            held["sy"] = np.array(1.0, np.float32)
        pool = op not in (*BINARY, "QLinearMatMul")
        inputs = ("x",) if pool else ("x", "y")
        shapes = (shape,) if pool else (SHAPE, (1, 2, 5, 3) if "Mat" in op else SHAPE)
        out = (1, 2, *(1 for _ in shape[2:])) if pool else (1, 2, 4, 3) if "Mat" in op else SHAPE
        nodes = [
            helper.make_node("QuantizeLinear", [x, s, z], [f"q{x}"])
            for x, s, z in zip(inputs, ("sa", "sb"), ("za", "zb"), strict=False)
        ]
        read = ["qx", "sa", "za", *(() if pool else ("qy", "sb", "zb")), "sy", "zy"]
        domain = "" if "Mat" in op else "com.microsoft"
        nodes.append(helper.make_node(op, read, ["out"], "layer", domain=domain))
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        given = [
            helper.make_tensor_value_info(x, TensorProto.FLOAT, kind_of)
            for x, kind_of in zip(inputs, shapes, strict=True)
        ]
        stored = [numpy_helper.from_array(v, n) for n, v in held.items() if n in read]
        graph = helper.make_graph(
            nodes, "layer", given, [helper.make_tensor_value_info("out", kind, out)], stored
        )
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
        path = folder / f"{op}{trial}.onnx"
        onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
        yield Layer(op, path, inputs, shapes, held)


def points(layer: Layer, count: int) -> Iterator[tuple[dict[str, Array], list[Array]]]:
    """Inputs, in the middle of steps so that nothing is open there, and the integers made of
    them."""
    rng = np.random.default_rng(6)
    for _ in range(count):
        given, whole = {}, []
        for x, shape, s, z in zip(
            layer.inputs, layer.shapes, ("sa", "sb"), ("za", "zb"), strict=False
        ):
            info = np.iinfo(layer.held[z].dtype)
            q = rng.integers(info.min, info.max + 1, shape)
            scale, zero = float(layer.held[s]), int(layer.held[z])
            given[x] = ((q - zero) * scale).astype(np.float32)
            whole.append(q)
        yield given, whole


@pytest.mark.parametrize(
    ("op", "shape"), [*((op, SHAPE) for op in NAMES), ("QLinearGlobalAveragePool", (1, 2, 7))]
)
def test_layers_are_computed_as_onnxruntime_does_and_as_is_meant(
    op: str, shape: tuple[int, ...], tmp_path: Path
) -> None:
    for layer in layers(op, tmp_path, shape):
        graph = load(layer.path)
        for given, whole in points(layer, 3):
            run = layer.run(given)
            batch = {name: v[None] for name, v in given.items()}
            emulated = emulate(graph, batch, FUSED)["out"]
            assert np.array_equal(np.asarray(emulated)[0], run)
            low, high = layer.exactly(whole)
            assert np.all((run >= low) & (run <= high))


@pytest.mark.parametrize("op", NAMES)
def test_bounds_hold_what_layers_give(op: str, tmp_path: Path) -> None:
    for layer in layers(op, tmp_path):
        graph = load(layer.path)
        (centre, _), (other, _) = points(layer, 2)
        box, errors = {}, {}
        for x in layer.inputs:
            ends = [v[x].astype(np.float64) for v in (centre, other)]
            box[x] = Interval(np.minimum(*ends), np.maximum(*ends))
            errors[x] = np.zeros(ends[0].shape)
        found = network_bounds(graph, InputBox(box, errors), IEEE_ANY)
        real, error = found.maps.values["out"], found.radii["out"].bound
        rng = np.random.default_rng(8)
        for _ in range(20):
            share = {x: rng.random(v.shape) ** rng.choice([0.3, 1, 3]) for x, v in centre.items()}
            given = {n: v * share[n] + other[n] * (1 - share[n]) for n, v in centre.items()}
            run = layer.run({n: v.astype(np.float32) for n, v in given.items()}).astype(np.float64)
            assert np.all((run >= real.lo - error) & (run <= real.hi + error))


def test_a_pool_with_channels_last_is_refused(tmp_path: Path) -> None:
    layer = next(layers("QLinearGlobalAveragePool", tmp_path))
    model = onnx.load(layer.path)
    model.graph.node[-1].attribute.append(helper.make_attribute("channels_last", 1))
    onnx.save(model, layer.path)
    with pytest.raises(UnsupportedModel, match="'channels_last' must be 0"):
        _ = program_of(load(layer.path)).checked
