"""Clip, PRelu, Pad and normalisations whose parameters are computed: read as other operators, they
compute what onnxruntime does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from encoders.arithmetic.approximate_field import ApproximateReals
from encoders.contract.presets import ORT_CPU, SEQUENTIAL
from encoders.numbers.enclosure import Interval
from gpu_check.emulator.emulator import emulate
from gpu_check.emulator.exact import evaluate_real
from onnx_import import load
from onnx_import.graph import Graph
from refine.bounds.network import InputBox, network_bounds

Numbers = npt.NDArray[np.float32]
Shapes = dict[str, tuple[int, ...]]
Case = tuple[list[str], Shapes, dict[str, list[int]], int]
ROW: Shapes = {"x": (2, 3, 4), "s": (4,), "b": (4,)}
EXACT: dict[str, Case] = {
    "Clip": (["x", "a", "b"], {"x": (2, 5), "a": (), "b": ()}, {}, 17),
    "Clip-upper": (["x", "", "b"], {"x": (2, 5), "b": (1,)}, {}, 13),
    "Clip-lower": (["x", "a"], {"x": (), "a": ()}, {}, 13),
    "PRelu": (["x", "a"], {"x": (2, 3, 4), "a": (3, 1)}, {}, 16),
    "Pad": (["x", "pads", "a"], {"x": (2, 3), "a": ()}, {"pads": [1, -1, 0, 2]}, 18),
    "Pad-axes": (["x", "pads", "a", "axes"], {"x": (2, 3), "a": (1,)},
                 {"pads": [2, 1], "axes": [-1]}, 18),
}  # fmt: skip
ROUNDED: dict[str, Case] = {
    "LayerNormalization": (["x", "s", "b"], ROW, {}, 17),
    "LayerNormalization-bias": (["x", "ones", "b"], {"x": (2, 3, 4), "b": (4,)}, {}, 17),
    "LayerNormalization-scale": (["x", "s"], {"x": (3, 4), "s": (3, 4)}, {}, 17),
}


def model(
    name: str, inputs: list[str], shapes: Shapes, held: dict[str, list[int]], opset: int
) -> onnx.ModelProto:
    op = name.partition("-")[0]
    node = helper.make_node(op, inputs, ["y"], "it")
    if shapes.get("s", ())[:1] == (3,):
        node.attribute.append(helper.make_attribute("axis", -2))
    stored = [numpy_helper.from_array(np.array(v, np.int64), k) for k, v in held.items()]
    if "ones" in inputs:
        stored.append(numpy_helper.from_array(np.linspace(0.5, 1.5, 4, dtype=np.float32), "ones"))
    given = [helper.make_tensor_value_info(k, TensorProto.FLOAT, s) for k, s in shapes.items()]
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph([node], "g", given, [result], stored)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    return onnx.shape_inference.infer_shapes(made)


def read(folder: Path, made: onnx.ModelProto) -> tuple[Graph, onnxruntime.InferenceSession]:
    path = folder / "m.onnx"
    onnx.save(made, path)
    return load(path), onnxruntime.InferenceSession(path)


def drawn(rng: np.random.Generator, shapes: Shapes) -> dict[str, Numbers]:
    def one(shape: tuple[int, ...]) -> Numbers:
        return np.asarray(rng.normal(size=shape) * (rng.random(shape) < 0.9), np.float32)

    return {k: one(s) for k, s in shapes.items()}


@pytest.mark.parametrize("name", EXACT)
def test_the_same_bits(tmp_path: Path, name: str) -> None:
    inputs, shapes, held, opset = EXACT[name]
    graph, session = read(tmp_path, model(name, inputs, shapes, held, opset))
    rng = np.random.default_rng(0)
    for _ in range(30):
        x = drawn(rng, shapes)
        (run,) = session.run(None, x)
        ours = emulate(graph, {k: v[None] for k, v in x.items()}, SEQUENTIAL)["y"]
        assert np.array_equal(np.asarray(run), np.asarray(ours)[0])


@pytest.mark.parametrize("name", [*EXACT, *ROUNDED])
def test_no_run_is_beyond_the_bound(tmp_path: Path, name: str) -> None:
    inputs, shapes, held, opset = {**EXACT, **ROUNDED}[name]
    graph, session = read(tmp_path, model(name, inputs, shapes, held, opset))
    ends = {k: Interval(np.full(s, -2.0), np.full(s, 2.0)) for k, s in shapes.items()}
    none = {k: np.zeros(s) for k, s in shapes.items()}
    bounds = network_bounds(graph, InputBox(ends, none), contract=ORT_CPU)
    real = bounds.maps.values["y"]
    rng = np.random.default_rng(1)
    field = ApproximateReals(wide=True)
    for _ in range(40):
        x = {k: np.asarray(np.clip(v, -2, 2)) for k, v in drawn(rng, shapes).items()}
        run = np.asarray(session.run(None, x)[0], np.float64)
        samples = {k: field.constant(v) for k, v in x.items()}
        exact = np.asarray(evaluate_real(graph, samples, field)["y"][0], np.float64)
        assert np.all(np.abs(run - exact) <= bounds.errors["y"] + 1e-14)
        assert np.all((real.lo - 1e-12 <= exact) & (exact <= real.hi + 1e-12))


@pytest.mark.parametrize("name", ROUNDED)
def test_rows_are_normalised_as_numpy_does(tmp_path: Path, name: str) -> None:
    inputs, shapes, held, opset = ROUNDED[name]
    graph, _ = read(tmp_path, model(name, inputs, shapes, held, opset))
    x = {k: v.astype(np.float64) for k, v in drawn(np.random.default_rng(2), shapes).items()}
    axes = (-2, -1) if shapes["x"] == (3, 4) else (-1,)
    off = x["x"] - x["x"].mean(axis=axes, keepdims=True)
    z = off / np.sqrt((off**2).mean(axis=axes, keepdims=True) + 1e-5)
    scale = np.linspace(0.5, 1.5, 4, dtype=np.float32) if "ones" in inputs else x["s"]
    wanted = z * scale + x.get("b", 0.0)
    field = ApproximateReals()
    (found,) = evaluate_real(graph, {k: field.constant(v) for k, v in x.items()}, field).values()
    assert np.allclose(np.asarray(found[0], np.float64), wanted, rtol=1e-7, atol=1e-9)
