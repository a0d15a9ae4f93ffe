"""Attributes and stored numbers at either end of a format: what they give each other on the way may
overflow, vanish or lose bits where no input and no result does. onnxruntime is within each bound
that is finite."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from encoders.contract.presets import IEEE_ANY, ORT_CPU
from encoders.numbers.enclosure import Interval
from onnx_import import load
from onnx_import.errors import ModelError
from onnx_import.graph import Graph
from refine.bounds.network import InputBox, network_bounds
from refine.witness.witness import error_between, real_outputs

Array = Any
_MILD = (1.0, 0.3, 2.0, -0.5)
_ENDS = {
    np.float32: (3e38, -3e38, 1e30, 1e19, 1e-19, 1e-38, 1e-42, 1e-45, 0.0, -1.0),
    np.float16: (6e4, -6e4, 3e38, 250.0, 1e-3, 6e-5, 6e-8, 1e-45, 0.0, -1.0),
}
_BOXES = {
    np.float32: (0.5, 4.0, 80.0, 1e-3, 1e19, 1e38, 1e-20, 1e-38, 1e-42),
    np.float16: (0.5, 4.0, 30.0, 1e-3, 200.0, 6e4, 1e-4, 1e-5, 1e-7),
}


@dataclass(frozen=True)
class Recipe:
    """A node: attributes that are drawn, those that are not, and stored tensors, which are drawn;
    those named in `positive` without a sign."""

    op: str
    drawn: Sequence[str] = ()
    stored: Sequence[tuple[int, ...]] = ()
    shape: tuple[int, ...] = (1, 4)
    opset: int = 17
    domain: str = ""
    kept: Mapping[str, Any] = field(default_factory=dict)
    half: bool = True
    positive: str = ""


_MATRIX = ((4, 3), (3,))
_SCALES = ((3,), (3,), (3,), (3,))
_MS, _ML = "com.microsoft", "ai.onnx.ml"
RECIPES = {
    "Elu": Recipe("Elu", ["alpha"]),
    "Selu": Recipe("Selu", ["gamma", "alpha"], positive="gamma"),
    "Celu": Recipe("Celu", ["alpha"], half=False, positive="alpha"),
    "ThresholdedRelu": Recipe("ThresholdedRelu", ["alpha"]),
    "HardSigmoid": Recipe("HardSigmoid", ["alpha", "beta"]),
    "LeakyRelu": Recipe("LeakyRelu", ["alpha"]),
    "Swish": Recipe("Swish", ["alpha"], opset=24, positive="alpha"),
    "QuickGelu": Recipe("QuickGelu", ["alpha"], domain=_MS),
    "Shrink": Recipe("Shrink", ["bias", "lambd"], positive="lambd"),
    "Gemm": Recipe("Gemm", ["alpha", "beta"], _MATRIX),
    "Gemm of rows": Recipe("Gemm", ["alpha", "beta"], _MATRIX, shape=(2, 4)),
    "Gemm without bias": Recipe("Gemm", ["alpha"], _MATRIX[:1]),
    "FusedGemm": Recipe(
        "FusedGemm", ["alpha", "activation_alpha"], _MATRIX, domain=_MS,
        kept={"activation": "LeakyRelu"}, half=False,
    ),
    "FusedMatMul": Recipe("FusedMatMul", ["alpha"], _MATRIX[:1], domain=_MS),
    "LRN": Recipe(
        "LRN", ["alpha", "bias"], shape=(1, 5, 1, 2), kept={"size": 5, "beta": 0.75}, half=False
    ),
    "BatchNormalization": Recipe(
        "BatchNormalization", ["epsilon"], _SCALES, shape=(1, 3, 2), opset=15
    ),
    "LayerNormalization": Recipe("LayerNormalization", ["epsilon"], [(4,), (4,)]),
    "InstanceNormalization": Recipe(
        "InstanceNormalization", ["epsilon"], [(2,), (2,)], shape=(1, 2, 4)
    ),
    "FastGelu": Recipe("FastGelu", (), [(4,)], domain=_MS),
    "Conv": Recipe("Conv", (), [(2, 2, 2), (2,)], shape=(1, 2, 3)),
    "Mul": Recipe("Mul", (), [(4,)]),
    "Div": Recipe("Div", (), [(4,)]),
    "PRelu": Recipe("PRelu", (), [(4,)]),
    "Scaler": Recipe("Scaler", ["scale", "offset"], domain=_ML, half=False),
    "Resize": Recipe(
        "Resize", ["cubic_coeff_a"], [(0,), (4,)], shape=(1, 1, 4, 4), kept={"mode": "cubic"},
        half=False,
    ),
}  # fmt: skip


def drawn(recipe: Recipe, kind: Any, rng: Any) -> tuple[dict[str, Any], dict[str, Array]]:
    """Attributes and stored tensors, each of mild numbers or of those at either end."""

    def number() -> float:
        return float(rng.choice(_ENDS[kind] if rng.random() < 0.6 else _MILD))

    given: dict[str, Any] = dict(recipe.kept)
    for name in recipe.drawn:
        value = number()
        given[name] = abs(value) if name in (recipe.positive, "epsilon") else value
        if recipe.op == "Scaler":
            given[name] = [number() for _ in range(4)]
    held = {}
    for k, shape in enumerate(recipe.stored):
        with np.errstate(over="ignore"):
            values = np.array([number() for _ in range(int(np.prod(shape)))]).astype(kind)
        values = np.where(np.isfinite(values), values, kind(1)).reshape(shape)
        held[f"c{k}"] = np.abs(values) if recipe.op == "BatchNormalization" and k == 3 else values
    if recipe.op == "Resize":
        held["c1"] = np.array([1, 1, 2, 1.5], np.float32)
    return given, held


def saved(
    recipe: Recipe, kind: Any, given: Mapping[str, Any], held: Mapping[str, Array], path: Path
) -> Path:
    number = TensorProto.FLOAT16 if kind is np.float16 else TensorProto.FLOAT
    node = helper.make_node(recipe.op, ["x", *held], ["y"], domain=recipe.domain, **given)
    ends = [
        helper.make_tensor_value_info(n, number, s) for n, s in (("x", recipe.shape), ("y", None))
    ]
    stored = [numpy_helper.from_array(v, n) for n, v in held.items()]
    graph = helper.make_graph([node], "g", ends[:1], ends[1:], stored)
    opsets = [helper.make_opsetid(d, n) for d, n in {recipe.domain: 1, "": recipe.opset}.items()]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), path)
    return path


def started(path: Path) -> ort.InferenceSession | None:
    """None where onnxruntime refuses these attributes, or has no kernel for the type."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    try:
        return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception:
        return None


def boxes(kind: Any, rng: Any) -> Iterator[tuple[float, float]]:
    sizes = rng.choice(_BOXES[kind], 2, replace=False)
    for size, (low, high) in zip(sizes, ((-1.0, 0.5), (0.5, 1.0)), strict=True):
        yield float(kind(low * size)), float(kind(high * size))


def check_within(graph: Graph, runtime: Any, points: Sequence[Array], bound: Array) -> int:
    """Of how many results the bound is finite; each of them is within it."""
    finite = np.isfinite(bound).ravel()
    for x in points if finite.any() else ():
        run = np.ravel(runtime.run(None, {"x": x})[0])
        reals = real_outputs(graph, {"x": x})["y"]
        for k in np.flatnonzero(finite):
            error = error_between(float(run[k]), reals[k])
            assert error.finite, (x, run[k])
            assert float(error.lo) <= np.ravel(bound)[k], (x, run[k], reals[k])
    return int(finite.sum())


def check_case(
    recipe: Recipe,
    kind: Any,
    given: Mapping[str, Any],
    held: Mapping[str, Array],
    rng: Any,
    within: Sequence[tuple[float, float]],
    path: Path,
) -> int:
    """Of how many results the bound is finite; 0 where refine or onnxruntime refuses the case."""
    runtime, found = started(saved(recipe, kind, given, held, path)), 0
    try:
        graph = load(path)
    except ModelError:
        return 0
    for low, high in within if runtime else ():
        parts = [0.0, 1.0, rng.choice([0.0, 1.0, 0.5], recipe.shape), rng.random(recipe.shape)]
        points = [np.broadcast_to(low + (high - low) * p, recipe.shape) for p in parts]
        inside = [np.clip(p.astype(kind), low, high).astype(kind) for p in points]
        sides = (np.full(recipe.shape, v) for v in (low, high))
        box = InputBox({"x": Interval(*sides)}, {"x": np.zeros(recipe.shape)})
        for contract in (IEEE_ANY, ORT_CPU):
            try:
                errors = network_bounds(graph, box, contract).maps.errors["y"]
            except ModelError:
                continue
            bound = np.broadcast_to(errors, graph.types["y"].shape)
            found += check_within(graph, runtime, inside, bound)
    return found


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", RECIPES)
def test_finite_bounds_hold_with_numbers_at_the_ends_of_a_format(name: str, tmp_path: Path) -> None:
    recipe, found = RECIPES[name], 0
    kinds = (np.float32, np.float16) if recipe.half else (np.float32,)
    for seed, kind in itertools.product(range(5), kinds):
        rng = np.random.default_rng(seed)
        given, held = drawn(recipe, kind, rng)
        within = tuple(boxes(kind, rng))
        found += check_case(recipe, kind, given, held, rng, within, tmp_path / "m.onnx")
    assert found or name in ("HardSigmoid", "LRN")  # refused at most ends; others are pairs below


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", [n for n, r in RECIPES.items() if r.drawn and r.op != "Scaler"])
def test_finite_bounds_hold_for_every_pair_of_attributes(name: str, tmp_path: Path) -> None:
    recipe, found = RECIPES[name], 0
    rng = np.random.default_rng(0)
    held = {f"c{k}": np.full(s, 0.75, np.float32) for k, s in enumerate(recipe.stored)}
    if recipe.op == "Resize":
        held["c1"] = np.array([1, 1, 2, 1.5], np.float32)
    within = ((-0.0625, -0.03125), (0.5, 4.0))
    for values in itertools.product((3e38, 1e-42, 0.3, 2.0), repeat=len(recipe.drawn)):
        given = {**recipe.kept, **dict(zip(recipe.drawn, values, strict=True))}
        path = tmp_path / "m.onnx"
        found += check_case(recipe, np.float32, given, held, rng, within, path)
    assert found


@pytest.mark.parametrize(("kind", "gamma"), [(np.float32, 3e38), (np.float16, 6e4)])
def test_a_product_of_attributes_that_overflows_has_no_bound(
    kind: Any, gamma: float, tmp_path: Path
) -> None:
    """γ·α is an infinity, and what it multiplies next is small."""
    recipe, path = RECIPES["Selu"], tmp_path / "m.onnx"
    x = np.full(recipe.shape, -0.03125, kind)
    box = InputBox({"x": Interval(*[x.astype(np.float64)] * 2)}, {"x": np.zeros(x.shape)})
    for factor, bounded in ((1.0, False), (0.5, True)):
        graph = load(saved(recipe, kind, {"gamma": gamma * factor}, {}, path))
        bound = network_bounds(graph, box, IEEE_ANY).maps.errors["y"]
        assert np.all(np.isfinite(bound)) == bounded


@pytest.mark.parametrize("halves", ["half_pixel", "output_half_pixel"])
@pytest.mark.parametrize("scale", [3e38, -3e38, 1e30, 1e19, 1e-19, 1e-42, 0.5])
def test_regions_are_read_where_onnxruntime_reads_them_or_refused(
    scale: float, halves: str, tmp_path: Path
) -> None:
    """Where edges overflow their length is a NaN, and so is what is read, which lies nowhere."""
    path, rng = tmp_path / "m.onnx", np.random.default_rng(2)
    x = rng.normal(0, 1, (1, 2, 3, 4)).astype(np.float32)
    for size, mode, ratio in itertools.product((1.0, 3e37, 1e-38), ("avg", "max"), (1, 2)):
        rois = (size * np.array([[0.1, 0.2, 0.9, 1.0], [0.7, -0.3, 0.75, 0.8]])).astype(np.float32)
        held: dict[str, Array] = {"r": rois, "b": np.zeros(2, np.int64)}
        node = helper.make_node(
            "RoiAlign", ["x", *held], ["y"], spatial_scale=scale, mode=mode, output_width=2,
            sampling_ratio=ratio, coordinate_transformation_mode=halves,
        )  # fmt: skip
        ends = [helper.make_tensor_value_info(n, 1, s) for n, s in (("x", x.shape), ("y", None))]
        stored = [numpy_helper.from_array(v, n) for n, v in held.items()]
        graph = helper.make_graph([node], "g", ends[:1], ends[1:], stored)
        opset = [helper.make_opsetid("", 17)]
        onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)
        runtime = started(path)
        box = InputBox({"x": Interval(*[x.astype(np.float64)] * 2)}, {"x": np.zeros(x.shape)})
        for contract in (IEEE_ANY, ORT_CPU):
            try:
                read = load(path)
                errors = network_bounds(read, box, contract).maps.errors["y"]
            except ModelError:
                assert size * scale != 0.5
                continue
            check_within(read, runtime, [x], np.broadcast_to(errors, read.types["y"].shape))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("op", ["InstanceNormalization", "BatchNormalization"])
@pytest.mark.parametrize("size", [1e-44, 1e-38, 1e-22, 1e-10])
def test_a_slope_that_overflows_has_no_bound(op: str, size: float, tmp_path: Path) -> None:
    """scale/σ is an infinity where what it multiplies is small, as σ is."""
    path, shape, found = tmp_path / "m.onnx", (1, 2, 3), 0
    rng = np.random.default_rng(1)
    for scale, epsilon in itertools.product((1e18, 1e20, 3e38), (1e-45, 1e-42, 1e-38)):
        rows = 4 if op == "BatchNormalization" else 2
        recipe = Recipe(op, stored=[(2,)] * rows, shape=shape)
        held = {f"c{k}": np.full(2, v, np.float32) for k, v in enumerate((scale, 1.0, 0.0, 0.0))}
        x = rng.normal(0, size, shape).astype(np.float32)
        saved(recipe, np.float32, {"epsilon": epsilon}, dict(list(held.items())[:rows]), path)
        graph, runtime = load(path), started(path)
        box = InputBox({"x": Interval(*[x.astype(np.float64)] * 2)}, {"x": np.zeros(shape)})
        for contract in (IEEE_ANY, ORT_CPU):
            errors = network_bounds(graph, box, contract).maps.errors["y"]
            found += check_within(graph, runtime, [x], np.broadcast_to(errors, shape))
    assert found or size < 1e-30 or op == "BatchNormalization"
