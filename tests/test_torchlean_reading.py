"""Random TorchLean graphs against a second reading of the same JSON, written apart, in numpy."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from encoders.arithmetic.exact_fields import Balls
from gpu_check.emulator.exact import evaluate_exact
from onnx_import import load
from onnx_import.errors import ModelError
from onnx_import.graph import Graph

Item = dict[str, Any]
Tensors = dict[str, np.ndarray]


def second_reading(graph: Item, weights: dict[str, Any], modules: dict[int, str], x: Any) -> Any:
    """The last node's value in float64. `modules` says whose tensors each node's are."""
    values: dict[int, Any] = {}
    for item in graph["nodes"]:
        read = [values[p] for p in item["parents"]]
        name = modules.get(item["id"], "")
        held = {k: np.asarray(weights[f"{name}.{k}"]) for k in PARTS if f"{name}.{k}" in weights}
        match item["kind"]:
            case "input":
                y = x
            case "linear":
                y = read[0] @ held["weight"].T + held["bias"]
            case "relu":
                y = np.maximum(read[0], 0)
            case "tanh":
                y = np.tanh(read[0])
            case "add":
                y = read[0] + read[1]
            case "layernorm":
                axes = tuple(range(item["axis"], read[0].ndim))
                centred = read[0] - read[0].mean(axes, keepdims=True)
                spread = np.sqrt((centred**2).mean(axes, keepdims=True) + item["eps"])
                y = centred / spread * held["weight"] + held["bias"]
            case "batch_norm2d_nchw_eval":
                m, v, g, b = (
                    held[k][:, None, None]
                    for k in ("running_mean", "running_var", "weight", "bias")
                )
                y = (read[0] - m) / np.sqrt(v + item["eps"]) * g + b
            case kind:
                raise AssertionError(kind)
        assert list(y.shape) == item["shape"]
        values[item["id"]] = y
    return values[len(values) - 1]


PARTS = ("weight", "bias", "running_mean", "running_var")
MORE = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "variance"}


def sampled(seed: int) -> tuple[Item, Tensors, dict[int, str], Any]:
    """A chain of layers, every pair of layers with weights apart in kind or in shape."""
    rng = np.random.default_rng(seed)

    def numbers(*shape: int) -> Any:
        return rng.normal(size=shape).astype(np.float32).astype(np.float64)

    picture = bool(rng.integers(2))
    shape = [1, 3, 2, 2] if picture else [1, 4]
    x = numbers(*shape)
    nodes: list[Item] = [{"id": 0, "kind": "input", "parents": [], "shape": shape}]
    weights: Tensors = {}
    modules: dict[int, str] = {}
    widths = list(rng.permutation([2, 3, 5, 6, 7]))
    used: set[Any] = set()
    while len(nodes) < 8:
        at, width = len(nodes), shape[-1]
        kind = rng.choice(["relu", "tanh", "add", "weighted"])
        item: Item = {"id": at, "kind": str(kind), "parents": [at - 1], "shape": shape}
        name = f"{rng.choice(['z', 'a', 'm'])}{at}"
        if kind == "add":
            same = [n["id"] for n in nodes if n["shape"] == shape]
            item["parents"] = [at - 1, int(rng.choice(same))]
        if kind == "weighted":
            if picture:
                if "batch" in used:
                    continue
                used.add("batch")
                item |= {"kind": "batch_norm2d_nchw_eval", "channels": 3}
                item["eps"] = float(rng.uniform(1e-6, 1e-2))
                made = {p: numbers(3) for p in PARTS}
                made["running_var"] = np.abs(made["running_var"]) / 1024
            elif rng.integers(2) and ("norm", width) not in used:
                used.add(("norm", width))
                item |= {"kind": "layernorm", "axis": 1, "eps": float(rng.uniform(1e-6, 1e-2))}
                made = {"weight": numbers(width), "bias": numbers(width)}
            else:
                outer = int(widths.pop())
                shape = [1, outer]
                item |= {"kind": "linear", "shape": shape}
                made = {"weight": numbers(outer, width), "bias": numbers(outer)}
            weights |= {f"{name}.{part}": v for part, v in made.items()}
            modules[at] = name
        nodes.append(item)
    return {"input_id": 0, "output_id": len(nodes) - 1, "nodes": nodes}, weights, modules, x


def read(folder: Path, graph: Item, weights: dict[str, Any], bits: bool = False) -> Graph:
    path = folder / "graph.json"
    path.write_text(json.dumps(graph))
    beside = folder / "graph.weights.json"
    stored: Item = {"params": {k: np.asarray(v).tolist() for k, v in weights.items()}}
    if bits:
        every = [np.ascontiguousarray(v, np.float64) for v in weights.values()]
        stored = {
            "format": "torchlean_paramlist_bits_v1",
            "params": [
                {"shape": list(v.shape), "values": v.reshape(-1).view(np.uint64).tolist()}
                for v in every
            ],
        }
    beside.write_text(json.dumps(stored))
    return load(path)


def orders(weights: Tensors, rng: np.random.Generator) -> dict[str, list[str]]:
    """Ways in which a state dict may list its keys."""
    names = list(weights)
    return {
        "as made": names,
        "sorted": sorted(names),
        "reversed": names[::-1],
        "shuffled": [names[i] for i in rng.permutation(len(names))],
    }


def given(graph: Graph, x: Any) -> Any:
    found = evaluate(graph, x)
    return np.array([float(v) for v in found.reshape(-1)]).reshape(found.shape)


def evaluate(graph: Graph, x: Any) -> Any:
    """In numbers much more exact than float64."""
    (output,) = graph.outputs
    return np.asarray(evaluate_exact(graph, {graph.inputs[0]: x}, Balls(200))[output])


@pytest.mark.parametrize("seed", range(30))
def test_the_order_of_a_state_dict_does_not_matter(tmp_path: Path, seed: int) -> None:
    graph, weights, modules, x = sampled(seed)
    expected = second_reading(graph, weights, modules, x)
    rng = np.random.default_rng(seed)
    for names in orders(weights, rng).values():
        found = read(tmp_path, graph, {n: weights[n] for n in names})
        np.testing.assert_allclose(given(found, x), expected, rtol=1e-9, atol=1e-12)
    split = {k: k.rpartition(".") for k in weights}
    other = {f"{split[k][0]}.{MORE[split[k][2]]}": v for k, v in weights.items()}
    found = read(tmp_path, graph, dict(sorted(other.items())))
    np.testing.assert_allclose(given(found, x), expected, rtol=1e-9, atol=1e-12)


LAYERS: dict[str, tuple[Item, list[int], Tensors]] = {
    "batch_norm2d_nchw_eval": (
        {"kind": "batch_norm2d_nchw_eval", "channels": 2},
        [1, 2, 1, 1],
        {
            "weight": np.ones(2),
            "bias": np.zeros(2),
            "running_mean": np.zeros(2),
            "running_var": np.zeros(2),
        },
    ),
    "layernorm": (
        {"kind": "layernorm", "axis": 1},
        [1, 2],
        {"weight": np.ones(2), "bias": np.zeros(2)},
    ),
}


@pytest.mark.parametrize("eps", [1e-5, 0.1, 1 / 3, 1e-12])
@pytest.mark.parametrize("bits", [False, True], ids=["decimals", "bits"])
@pytest.mark.parametrize("kind", LAYERS)
def test_numbers_in_a_node_keep_their_64_bits(
    tmp_path: Path, kind: str, bits: bool, eps: float
) -> None:
    """With hardly any variance, ε alone decides the result."""
    fields, shape, held = LAYERS[kind]
    nodes = [
        {"id": 0, "kind": "input", "parents": [], "shape": shape},
        {"id": 1, "parents": [0], "shape": shape, "eps": eps, **fields},
    ]
    graph = {"input_id": 0, "output_id": 1, "nodes": nodes}
    weights = {f"n.{k}": v + (0.0 if k != "bias" else 0.1 * bits) for k, v in held.items()}
    x = np.array([1.0, -1.0]).reshape(shape) * 2.0**-40
    found = read(tmp_path, graph, weights, bits)
    expected = second_reading(graph, weights, {1: "n"}, x)
    np.testing.assert_allclose(given(found, x), expected, rtol=1e-13, atol=0)
    (number,) = {n.attributes["epsilon"] for n in found.order if "epsilon" in n.attributes}
    assert isinstance(number, float)
    assert Fraction(number) == Fraction(eps)


def two(order: tuple[str, str]) -> tuple[Item, dict[str, Any], dict[int, str]]:
    """Two linear layers of one shape, listed in the given order."""
    rng = np.random.default_rng(3)
    nodes = [
        {"id": 0, "kind": "input", "parents": [], "shape": [2]},
        {"id": 1, "kind": "linear", "parents": [0], "shape": [2]},
        {"id": 2, "kind": "linear", "parents": [1], "shape": [2]},
    ]
    weights = {}
    for name in order:
        weights[f"{name}.weight"] = rng.integers(-4, 4, (2, 2)).astype(float)
        weights[f"{name}.bias"] = rng.integers(-4, 4, 2).astype(float)
    graph = {"input_id": 0, "output_id": 2, "nodes": nodes}
    return graph, weights, {1: order[0], 2: order[1]}


def test_what_only_the_order_decides_is_said(tmp_path: Path) -> None:
    graph, weights, modules = two(("enter", "begin"))
    found = read(tmp_path, graph, weights)
    assert any("enter → node 1 (linear), begin → node 2" in note for note in found.notes)
    x = np.array([1.0, 2.0])
    assert np.array_equal(given(found, x), second_reading(graph, weights, modules, x))


@pytest.mark.parametrize("order", [("layers.10", "layers.2"), ("fc2", "fc1")])
def test_an_order_that_the_numbers_in_names_contradict_is_refused(
    tmp_path: Path, order: tuple[str, str]
) -> None:
    graph, weights, _ = two(order)
    with pytest.raises(ModelError, match="debug_target"):
        read(tmp_path, graph, weights)
    for item, name in zip(graph["nodes"][1:], order[::-1], strict=True):
        item["debug_target"] = name
    x = np.array([1.0, 2.0])
    expected = second_reading(graph, weights, {1: order[1], 2: order[0]}, x)
    assert np.array_equal(given(read(tmp_path, graph, weights), x), expected)


def test_two_tensors_that_are_one_parameter_are_refused(tmp_path: Path) -> None:
    graph, weights, _ = two(("a", "b"))
    weights["a.gamma"] = weights.pop("b.bias")
    with pytest.raises(ModelError, match="two tensors"):
        read(tmp_path, graph, weights)


def test_a_module_too_many_is_refused(tmp_path: Path) -> None:
    graph, weights, _ = two(("a", "b"))
    with pytest.raises(ModelError, match="debug_target"):
        read(tmp_path, graph, {**weights, "c.weight": np.eye(2), "c.bias": np.zeros(2)})
