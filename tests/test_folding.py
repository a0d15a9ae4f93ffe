"""Layers with a normalisation in their weights, against the layer and the normalisation apart."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper
from small_models import save

from encoders.arithmetic.exact_fields import Balls, ObjectArray
from gpu_check.emulator.exact import evaluate_exact
from gpu_check.runtimes.runtimes import OnnxRuntime, OnnxRuntimeOptions
from onnx_import import load
from onnx_import.graph import Array
from refine.api import diff_models
from refine.claims.options import Options
from refine.lemmas.cache import default_directory
from refine.options.optimised import as_optimised
from refine.results.compared import Relation
from refine.results.verdict import Result

INPUTS = {"Conv": (1, 4, 5, 5), "ConvTranspose": (1, 4, 3, 3), "Gemm": (2, 4)}
LAYERS: tuple[tuple[str, tuple[int, ...], dict[str, Any]], ...] = (
    ("Conv", (6, 4, 3, 3), {"pads": [1, 1, 1, 1]}),
    ("Conv", (6, 2, 3, 3), {"group": 2}),
    ("ConvTranspose", (4, 3, 2, 2), {"strides": [2, 2]}),
    ("ConvTranspose", (4, 3, 2, 2), {"group": 2}),
    ("Gemm", (4, 3), {}),
    ("Gemm", (3, 4), {"transB": 1}),
)


def channels(op: str, shape: tuple[int, ...], attributes: dict[str, Any]) -> int:
    if op == "Conv" or attributes.get("transB"):
        return shape[0]
    return shape[1] * int(attributes.get("group", 1))


def spec_of(path: Path, op: str, shape: tuple[int, ...], attributes: dict[str, Any]) -> Path:
    """The layer, BatchNormalization, Relu."""
    rng = np.random.default_rng(len(shape) + shape[0])
    n = channels(op, shape, attributes)
    weights = {
        "w": rng.normal(size=shape),
        "b": rng.normal(size=n),
        "gamma": rng.normal(size=n),
        "beta": rng.normal(size=n),
        "mean": rng.normal(size=n),
        "variance": rng.uniform(0.1, 2, n),
    }
    nodes = [
        helper.make_node(op, ["x", "w", "b"], ["h"], "layer", **attributes),
        helper.make_node(
            "BatchNormalization", ["h", "gamma", "beta", "mean", "variance"], ["n"], "norm"
        ),
        helper.make_node("Relu", ["n"], ["y"], "act"),
    ]
    held = {k: v.astype(np.float32) for k, v in weights.items()}
    return save(path, nodes, {"x": INPUTS[op]}, {"y": None}, held)


def folded(path: Path, spec: Path, by: float) -> Path:
    """With the normalisation in the weights, one of which is then moved."""
    graph = load(spec)
    layer, norm, _ = graph.order
    c = {t: np.asarray(graph.constants[t], np.float64) for n in (layer, norm) for t in n.inputs[1:]}
    epsilon = 1e-5
    scale = c["gamma"] / np.sqrt(c["variance"] + epsilon)
    w = c["w"]
    if layer.op == "Conv" or layer.attributes.get("transB"):
        w = w * scale.reshape(-1, *(1,) * (w.ndim - 1))
    elif layer.op == "Gemm":
        w = w * scale
    else:
        groups = layer.attributes.get("group", 1)
        assert isinstance(groups, int)
        parts = np.split(w, groups), np.split(scale, groups)
        w = np.concatenate([a * s.reshape(1, -1, 1, 1) for a, s in zip(*parts, strict=True)])
    w.flat[1] += by
    weights = {"w": w, "b": (c["b"] - c["mean"]) * scale + c["beta"]}
    attributes: Mapping[str, Any] = layer.attributes
    nodes = [
        helper.make_node(layer.op, ["x", "w", "b"], ["n"], "layer", **attributes),
        helper.make_node("Relu", ["n"], ["y"], "act"),
    ]
    held = {k: v.astype(np.float32) for k, v in weights.items()}
    return save(path, nodes, {"x": graph.types["x"].shape}, {"y": None}, held)


def differing(spec: Path, impl: Path, contract: str = "exact") -> Result:
    options = Options(None, default_directory(), search=False)
    return diff_models(spec, impl, domain="-1..1", eps=None, contract=contract, options=options)


def exact(path: Path, x: Array) -> ObjectArray:
    return np.asarray(evaluate_exact(load(path), {"x": x.astype(np.float64)}, Balls(200))["y"])


@pytest.mark.parametrize(("op", "shape", "attributes"), LAYERS, ids=lambda v: str(v))
@pytest.mark.parametrize("by", [0.0, 0.25])
def test_a_folded_normalisation_differs_by_no_more_than_bounded(
    op: str, shape: tuple[int, ...], attributes: dict[str, Any], by: float, tmp_path: Path
) -> None:
    spec = spec_of(tmp_path / "spec.onnx", op, shape, attributes)
    impl = folded(tmp_path / "impl.onnx", spec, by)
    result = differing(spec, impl)
    assert ", then n = BatchNormalization" in " ".join(result.notes)
    rng = np.random.default_rng(0)
    found = 0.0
    for _ in range(10):
        x = np.sign(rng.uniform(-1, 1, INPUTS[op])).astype(np.float32)
        gap = np.abs(exact(impl, x) - exact(spec, x))
        found = max(found, *(float(v.upper()) for v in gap.reshape(-1)))
    assert found <= result.bound
    assert result.bound <= (1e-5 if by == 0.0 else 10 * found)


def folded_by_nodes(path: Path, spec: Path, epsilon: float = 1e-5, mean: str = "Sub") -> Path:
    """With nodes that compute the weights of what is stored, as onnxoptimizer leaves them."""
    graph = load(spec)
    layer, norm, _ = graph.order
    attributes: Mapping[str, Any] = layer.attributes
    held = {t: np.asarray(graph.constants[t]) for n in (layer, norm) for t in n.inputs[1:]}
    shape, n = held["w"].shape, held["gamma"].size
    shapes: tuple[tuple[int, ...], ...] = ((n, *(1,) * (len(shape) - 1)),)
    if layer.op == "Gemm":
        shapes = ((n, 1) if layer.attributes.get("transB") else (1, n),)
    elif layer.op == "ConvTranspose":
        groups = n // shape[1]
        wide = (groups, shape[0] // groups, shape[1])
        shapes = (groups, 1, shape[1]), wide, (*shape[:2], 1, 1)
    sizes = {f"shape{i}": np.array(v) for i, v in enumerate(shapes)}
    spread = ["Reshape", "Expand", "Reshape"][: len(shapes)]
    steps = [
        ("Add", "variance epsilon", "added"),
        ("Sqrt", "added", "deviation"),
        ("Div", "gamma deviation", "scale0"),
        *((op, f"scale{i} shape{i}", f"scale{i + 1}") for i, op in enumerate(spread)),
        ("Mul", f"w scale{len(spread)}", "weights"),
        (mean, "b mean", "centred"),
        ("Mul", "centred scale0", "moved"),
        ("Add", "moved beta", "bias"),
    ]
    nodes = [helper.make_node(op, reads.split(), [out]) for op, reads, out in steps]
    nodes += [
        helper.make_node(layer.op, ["x", "weights", "bias"], ["n"], "layer", **attributes),
        helper.make_node("Relu", ["n"], ["y"], "act"),
    ]
    more = {"epsilon": np.array(epsilon, np.float32), **sizes}
    return save(path, nodes, {"x": graph.types["x"].shape}, {"y": None}, {**held, **more})


@pytest.mark.parametrize(("op", "shape", "attributes"), LAYERS, ids=lambda v: str(v))
def test_weights_that_nodes_compute_are_those_of_the_normalisation(
    op: str, shape: tuple[int, ...], attributes: dict[str, Any], tmp_path: Path
) -> None:
    spec = spec_of(tmp_path / "spec.onnx", op, shape, attributes)
    impl = folded_by_nodes(tmp_path / "impl.onnx", spec)
    result = differing(spec, impl, "ieee-any")
    assert result.compared is not None
    assert result.compared.relation is Relation.EQUAL
    assert result.bound < 1e-4
    rng = np.random.default_rng(0)
    for level in ("none", "all"):
        session = OnnxRuntime(impl, OnnxRuntimeOptions(optimization=level))
        for _ in range(5):
            x = rng.uniform(-1, 1, INPUTS[op]).astype(np.float32)
            ran = session.run({"x": x})["y"]
            meant = exact(spec, x).reshape(ran.shape)
            gap = np.abs(meant - np.asarray(ran, np.float64)).reshape(-1)
            assert max(float(v.upper()) for v in gap.tolist()) <= result.bound


@pytest.mark.parametrize(("epsilon", "mean"), [(1e-3, "Sub"), (1e-5, "Add")])
def test_nodes_that_compute_other_weights_are_told(
    epsilon: float, mean: str, tmp_path: Path
) -> None:
    op, shape, attributes = LAYERS[0]
    spec = spec_of(tmp_path / "spec.onnx", op, shape, attributes)
    impl = folded_by_nodes(tmp_path / "impl.onnx", spec, epsilon, mean)
    result = differing(spec, impl)
    assert result.compared is not None
    assert result.compared.relation is not Relation.EQUAL
    x = np.random.default_rng(0).uniform(-1, 1, INPUTS[op]).astype(np.float32)
    gap = np.abs(exact(impl, x) - exact(spec, x)).reshape(-1)
    assert max(float(v.upper()) for v in gap.tolist()) <= result.bound


@pytest.mark.parametrize("ours", [(3,), (1, 3), (3, 1)])
@pytest.mark.parametrize("theirs", [None, (3,), (1, 3), (3, 1)])
def test_a_bias_of_a_number_per_row_is_none_of_the_channels(
    ours: tuple[int, ...], theirs: tuple[int, ...] | None, tmp_path: Path
) -> None:
    """As many rows as columns, so that the sizes of all biases agree; only broadcasting differs."""
    rng = np.random.default_rng(0)
    w, scale = rng.normal(size=(4, 3)), np.array([1.0, 2.0, 4.0])
    bias, shift = np.array([1.0, 2.0, 3.0]), np.array([0.0, 1.0, 5.0])
    norm = {"gamma": scale, "beta": shift, "mean": np.zeros(3), "variance": np.ones(3)}
    given = {} if theirs is None else {"b": bias.reshape(theirs)}
    nodes = [
        helper.make_node("Gemm", ["x", "w", *given], ["h"], "layer"),
        helper.make_node("BatchNormalization", ["h", *norm], ["y"], "norm", epsilon=0.0),
    ]
    merged = {"w": w * scale, "b": (shift + (bias * scale if given else 0.0)).reshape(ours)}
    folded = [helper.make_node("Gemm", ["x", "w", "b"], ["y"], "layer")]
    paths = [
        save(tmp_path / name, made, {"x": [3, 4]}, {"y": [3, 3]},
             {k: v.astype(np.float32) for k, v in stored.items()})
        for name, made, stored in (
            ("spec.onnx", nodes, {"w": w, **given, **norm}), ("impl.onnx", folded, merged))
    ]  # fmt: skip
    x = rng.uniform(-1, 1, (3, 4)).astype(np.float32)
    y, z = (OnnxRuntime(path).run({"x": x})["y"].astype(np.float64) for path in paths)
    apart = float(np.max(abs(y - z)))
    agree = ours[-1] == 3 and (theirs is None or theirs[-1] == 3)
    assert (apart < 1e-4) is agree
    spec, impl = paths
    bound = differing(spec, impl).bound
    assert apart - 1e-4 <= bound
    assert not agree or bound < 1e-4


def test_onnxruntimes_own_folding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it saves corresponds to the original, and its results are as near as proved."""
    monkeypatch.chdir(tmp_path)
    spec = spec_of(tmp_path / "spec.onnx", *LAYERS[0])
    impl = as_optimised(spec, "extended")
    result = differing(spec, impl, "ort-cpu")
    assert "correspond node by node" in " ".join(result.notes)
    run = OnnxRuntime(impl)
    rng = np.random.default_rng(1)
    for _ in range(10):
        x = rng.uniform(-1, 1, INPUTS["Conv"]).astype(np.float32)
        gap = abs(np.vectorize(float)(exact(spec, x)) - run.run({"x": x})["y"].astype(np.float64))
        assert np.all(gap <= result.bound)
    assert result.bound < 1e-4
