"""RNN, GRU and LSTM: against their equations in ONNX's text, the reference, and onnxruntime."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from operator_checks import Example
from small_models import save

from encoders.contract.presets import IEEE_ANY, ORT_CPU, SEQUENTIAL
from encoders.functions.sigmoid import SIGMOID
from encoders.functions.tanh import TANH
from encoders.numbers.enclosure import Interval
from gpu_check.emulator.emulator import emulate
from gpu_check.runtimes.runtimes import OnnxRuntime
from onnx_import import load
from onnx_import.errors import ModelError, UnsupportedModel
from onnx_import.graph import Graph
from refine.bounds.network import InputBox, network_bounds
from refine.bounds.point_bounds import bound_at
from refine.witness.witness import error_between, real_outputs

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
USUAL = {"RNN": ["Tanh"], "GRU": ["Sigmoid", "Tanh"], "LSTM": ["Sigmoid", "Tanh", "Tanh"]}
Arrays = Mapping[str, Any]


def _small(op: str, **attributes: Any) -> Example:
    n = GATES[op]
    return Example(
        f"{op} of one number",
        (("Neg", "x", "t", {}), (op, "t w r", "y", {"hidden_size": 1, **attributes})),
        {"x": (1, 2, 1)},
        {"w": np.ones((1, n, 1)), "r": np.zeros((1, n, 1))},
        exact=False,
        rational=False,
    )


# of activations that kernels compute in ways of their own
CASES = (_small("RNN"), _small("GRU", activations=["HardSigmoid", "Sigmoid"]))


@dataclass(frozen=True)
class Layer:
    """A node with its stored inputs; x has shape (4, 3, 2), or with layout 1 (3, 4, 2)."""

    op: str
    attributes: Arrays
    stored: Arrays

    def model(self, kind: Any) -> onnx.ModelProto:
        order = ["w", "r", "b", "lengths", "h", "c", "p"][: 7 if self.op == "LSTM" else 5]
        names = ["x", *(t if t in self.stored else "" for t in order)]
        outputs = ["y", "last", "cell"][: 3 if self.op == "LSTM" else 2]
        code = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
        shape = [3, 4, 2] if self.attributes.get("layout") else [4, 3, 2]
        graph = helper.make_graph(
            [helper.make_node(self.op, names, outputs, **self.attributes)],
            "layer",
            [helper.make_tensor_value_info("x", code, shape)],
            [helper.make_tensor_value_info(t, code, None) for t in outputs],
            [
                numpy_helper.from_array(v.astype(kind) if v.dtype.kind == "f" else v, k)
                for k, v in self.stored.items()
            ],
        )
        opsets = [helper.make_opsetid("", 14)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def made(op: str, seed: int, plain: bool = False) -> Layer:
    """A layer with some of what the operator knows; if plain, with what the reference reads."""
    rng = np.random.default_rng(seed)
    n, gates = 3, GATES[op]
    direction = str(rng.choice(["forward", "reverse", "bidirectional"]))
    d = 2 if direction == "bidirectional" else 1
    given: dict[str, Any] = {"hidden_size": n, "direction": direction}
    stored: dict[str, Any] = {
        "w": rng.uniform(-1, 1, (d, gates * n, 2)),
        "r": rng.uniform(-1, 1, (d, gates * n, n)),
    }
    if rng.random() < 0.8:
        stored["b"] = rng.uniform(-1, 1, (d, 2 * gates * n)) * rng.integers(0, 2, (d, 1))
    given["layout"] = int(plain and rng.integers(0, 2))
    states = (3, d, n) if given["layout"] else (d, 3, n)
    if rng.random() < 0.5:
        stored["h"] = rng.uniform(-1, 1, states)
    if op == "LSTM" and rng.random() < 0.5:
        stored["c"] = rng.uniform(-1, 1, states)
    if op == "LSTM" and rng.random() < 0.5:
        stored["p"] = rng.uniform(-1, 1, (d, 3 * n))
    if op == "GRU":
        given["linear_before_reset"] = int(rng.integers(0, 2))
    if plain:
        return Layer(op, given, stored)
    if op == "LSTM" and rng.random() < 0.3:
        given["input_forget"] = 1
    if rng.random() < 0.4:
        given["clip"] = 0.5
    if rng.random() < 0.4:
        stored["lengths"] = rng.integers(1, 5, 3).astype(np.int32)
    if rng.random() < 0.5:
        words = rng.choice(list(ACTIVATIONS), len(USUAL[op]) * d)
        given["activations"] = [str(w) for w in words]
        for k, name in enumerate(("activation_alpha", "activation_beta")):
            numbers = [float(np.float32(rng.uniform(0.1, 1))) for w in words if TAKES[w] > k]
            given.update({name: numbers} if numbers else {})
    return Layer(op, given, stored)


ACTIVATIONS: Mapping[str, Callable[[Any, float, float], Any]] = {
    "Relu": lambda x, a, b: np.maximum(x, 0),
    "Tanh": lambda x, a, b: np.tanh(x),
    "Sigmoid": lambda x, a, b: 1 / (1 + np.exp(-x)),
    "Affine": lambda x, a, b: a * x + b,
    "LeakyRelu": lambda x, a, b: np.where(x < 0, a * x, x),
    "ThresholdedRelu": lambda x, a, b: np.where(x > a, x, 0),
    "ScaledTanh": lambda x, a, b: a * np.tanh(b * x),
    "HardSigmoid": lambda x, a, b: np.clip(a * x + b, 0, 1),
    "Elu": lambda x, a, b: np.where(x < 0, a * (np.exp(x) - 1), x),
    "Softsign": lambda x, a, b: x / (1 + np.abs(x)),
    "Softplus": lambda x, a, b: np.log(1 + np.exp(x)),
}
TAKES = dict.fromkeys(ACTIVATIONS, 0) | {
    "Affine": 2, "ScaledTanh": 2, "HardSigmoid": 2,
    "LeakyRelu": 1, "ThresholdedRelu": 1, "Elu": 1,
}  # fmt: skip


def equations(layer: Layer, x: Any) -> list[Any]:
    """Every output in float64, row by row of the batch, by ONNX's equations."""
    op, given, stored = layer.op, layer.attributes, layer.stored
    n, gates, reverse = 3, GATES[op], given["direction"] == "reverse"
    d = stored["w"].shape[0]
    words = given.get("activations", USUAL[op] * d)
    alphas, betas = (iter(given.get(f"activation_{k}", ())) for k in ("alpha", "beta"))
    f = []
    for word in words:
        a = next(alphas) if TAKES[word] > 0 else 0.0
        b = next(betas) if TAKES[word] > 1 else 0.0
        f.append(lambda v, word=word, a=a, b=b: ACTIVATIONS[word](v, a, b))
    limit = given.get("clip", np.inf)

    def clip(v: Any) -> Any:
        return np.clip(v, -limit, limit)

    x = x.swapaxes(0, 1) if given.get("layout") else x
    y, last, cells = np.zeros((4, d, 3, n)), np.zeros((d, 3, n)), np.zeros((d, 3, n))
    for k in range(d):
        act = f[k * len(USUAL[op]) : (k + 1) * len(USUAL[op])]
        w = stored["w"][k].reshape(gates, n, 2)
        r = stored["r"][k].reshape(gates, n, n)
        bias = np.zeros((2, gates, n))
        if "b" in stored:
            bias = stored["b"][k].reshape(2, gates, n)
        p = stored["p"][k].reshape(3, n) if "p" in stored else np.zeros((3, n))
        for row in range(3):
            at = (row, k) if given.get("layout") else (k, row)
            h = stored["h"][at] if "h" in stored else np.zeros(n)
            c = stored["c"][at] if "c" in stored else np.zeros(n)
            length = stored["lengths"][row] if "lengths" in stored else 4
            for t in range(length)[:: -1 if reverse or k else 1]:
                v = x[t, row]
                z = [w[g] @ v + r[g] @ h + bias[0, g] + bias[1, g] for g in range(gates)]
                if op == "RNN":
                    h = act[0](clip(z[0]))
                elif op == "GRU":
                    update, reset = act[0](clip(z[0])), act[0](clip(z[1]))
                    if given.get("linear_before_reset"):
                        inner = w[2] @ v + reset * (r[2] @ h + bias[1, 2]) + bias[0, 2]
                    else:
                        inner = w[2] @ v + r[2] @ (reset * h) + bias[1, 2] + bias[0, 2]
                    h = (1 - update) * act[1](clip(inner)) + update * h
                else:
                    i = act[0](clip(z[0] + p[0] * c))
                    forget = act[0](clip(z[2] + p[2] * c))
                    forget = 1 - i if given.get("input_forget") else forget
                    c = forget * c + i * act[1](clip(z[3]))
                    h = act[0](clip(z[1] + p[1] * c)) * act[2](c)
                y[t, k, row] = h
            last[k, row], cells[k, row] = h, c
    if given.get("layout"):
        y, last, cells = y.transpose(2, 0, 1, 3), last.swapaxes(0, 1), cells.swapaxes(0, 1)
    return [y, last, cells][: 3 if op == "LSTM" else 2]


def loaded(layer: Layer, kind: Any, folder: Path) -> Graph:
    onnx.save(layer.model(kind), folder / "layer.onnx")
    return load(folder / "layer.onnx")


def rounded(layer: Layer) -> Layer:
    """The same layer with numbers that float32 has."""
    kept = {k: v.astype(np.float32).astype(v.dtype) for k, v in layer.stored.items()}
    return Layer(layer.op, layer.attributes, kept)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("op", GATES)
def test_a_layer_is_its_equations(op: str, seed: int, tmp_path: Path) -> None:
    layer = rounded(made(op, seed, plain=seed % 4 == 0))
    graph = loaded(layer, np.float64, tmp_path)
    x = np.random.default_rng(seed).uniform(-2, 2, (1, *graph.types["x"].shape))
    found = emulate(graph, {"x": x}, SEQUENTIAL)
    for tensor, want in zip(graph.outputs, equations(layer, x[0]), strict=True):
        np.testing.assert_allclose(found[tensor][0], want, rtol=1e-11, atol=1e-12)
    if seed % 4 == 0:
        reference = ReferenceEvaluator(layer.model(np.float64)).run(None, {"x": x[0]})
        for tensor, want in zip(graph.outputs, reference, strict=True):
            np.testing.assert_allclose(found[tensor][0], want, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("seed", range(101, 106))
@pytest.mark.parametrize("op", GATES)
def test_onnxruntime_is_within_the_bounds(op: str, seed: int, tmp_path: Path) -> None:
    layer = rounded(made(op, seed))
    graph = loaded(layer, np.float32, tmp_path)
    runtime = OnnxRuntime(tmp_path / "layer.onnx")
    steps = "ThresholdedRelu" in layer.attributes.get("activations", ())
    rng = np.random.default_rng(seed)
    centre = rng.uniform(-2, 2, graph.types["x"].shape)
    box = InputBox({"x": Interval(centre - 0.01, centre + 0.01)}, {"x": np.zeros(centre.shape)})
    bounds = network_bounds(graph, box, IEEE_ANY).maps
    for _ in range(20):
        x = np.clip(
            (centre + rng.uniform(-0.01, 0.01, centre.shape)).astype(np.float32),
            (centre - 0.0099).astype(np.float32),
            (centre + 0.0099).astype(np.float32),
        )
        computed = runtime.run({"x": x})
        for tensor, real in zip(graph.outputs, equations(layer, x.astype(float)), strict=True):
            limit = bounds.errors[tensor]
            assert np.all(limit < (1.0 if steps else 1e-4 * (1 + np.max(np.abs(real)))))
            wrong = np.abs(np.asarray(computed[tensor], np.float64) - real)
            assert np.all(wrong <= limit + 1e-12)
            assert np.all(bounds.values[tensor].lo <= real + 1e-12)
            assert np.all(bounds.values[tensor].hi >= real - 1e-12)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"activations": ["Sin", "Tanh", "Tanh"]}, "activation 'Sin' is not supported"),
        ({"activations": ["Affine", "Tanh", "Tanh"]}, "needs attribute 'activation_alpha'"),
        ({"activations": ["Tanh"]}, "names 1; needed are 3"),
        ({"activation_alpha": [0.5]}, "has 1 numbers, and its activations take 0"),
        ({"clip": -1.0}, "must not be negative"),
        ({"direction": "bidirectional"}, "must have the shape [2, 12, 2]"),
    ],
)
def test_what_means_nothing_is_refused(change: Arrays, words: str, tmp_path: Path) -> None:
    stored = {"w": np.ones((1, 12, 2)), "r": np.ones((1, 12, 3))}
    layer = Layer("LSTM", {"hidden_size": 3, **change}, stored)
    with pytest.raises((UnsupportedModel, ModelError)) as caught:
        loaded(layer, np.float32, tmp_path)
    assert words in str(caught.value)


def test_a_length_of_zero_is_refused(tmp_path: Path) -> None:
    stored = {
        "w": np.ones((1, 3, 2)), "r": np.ones((1, 3, 3)), "lengths": np.array([4, 0, 1], np.int32)
    }  # fmt: skip
    with pytest.raises(UnsupportedModel, match="not from 1 to 4"):
        loaded(Layer("RNN", {"hidden_size": 3}, stored), np.float32, tmp_path)


def test_a_gate_whose_argument_is_off_by_more_than_it_is_remains_a_gate(tmp_path: Path) -> None:
    """σ(a)·tanh(b) is within ±1 at run time too, whatever a and b are off by."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"]),
        helper.make_node("Sigmoid", ["a"], ["s"]),
        helper.make_node("Tanh", ["a"], ["t"]),
        helper.make_node("Mul", ["s", "t"], ["y"]),
    ]
    w = np.random.default_rng(3).uniform(-1e12, 1e12, (8, 8)).astype(np.float32)
    path = save(tmp_path / "m.onnx", nodes, {"x": [1, 8]}, {"y": [1, 8]}, {"w": w})
    graph = load(path)
    box = InputBox({"x": Interval(-np.ones((1, 8)), np.ones((1, 8)))}, {"x": np.zeros((1, 8))})
    bounds = network_bounds(graph, box, IEEE_ANY, backward=False)
    assert 1.0 <= bounds.largest <= 2.001


ALONE = [
    *(("RNN", [name]) for name in ACTIVATIONS),
    *(("GRU", [name, "Tanh"]) for name in ACTIVATIONS),
    *(("GRU", ["HardSigmoid", name]) for name in ACTIVATIONS),
    *(("GRU", ["Sigmoid", name]) for name in ("Tanh", "Sigmoid")),
    *(("LSTM", [name, "Tanh", "Tanh"]) for name in ACTIVATIONS),
    *(("LSTM", ["HardSigmoid", name, "Tanh"]) for name in ACTIVATIONS),
    *(("LSTM", ["HardSigmoid", "Relu", name]) for name in ACTIVATIONS),
]


@pytest.mark.parametrize(("op", "words"), ALONE, ids=["-".join([o, *w]) for o, w in ALONE])
def test_activations_of_kernels_are_as_accurate_as_charged(
    op: str, words: list[str], tmp_path: Path
) -> None:
    """Near 0, where a Tanh by 2/(1 + e^-2x) - 1 has no right digit, where functions saturate, and
    where log(1 + e^x) vanishes; a GRU's first gate follows the input, is shut or open."""
    gates = GATES[op]
    sizes = np.exp2(np.linspace(-40, 7, 30))
    points = np.concatenate([[0.0], sizes, -sizes, np.linspace(-20, 20, 60)]).astype(np.float32)
    if "Softplus" in words:
        points = points[points < 88.0]
    x = points.reshape(1, -1, 1)
    taken = [TAKES[w] for w in words]
    given: dict[str, Any] = {"hidden_size": 1, "activations": words}
    for k, (name, value) in enumerate((("activation_alpha", 0.7), ("activation_beta", 0.3))):
        numbers = [value] * sum(n > k for n in taken)
        given.update({name: numbers} if numbers else {})
    for bias in (0.0, -30.0, 30.0) if op == "GRU" else (0.0,):
        w = np.ones((1, gates, 1), np.float32)
        b = np.zeros((1, 2 * gates), np.float32)
        if bias:
            w[0, 0], b[0, 0] = 0.0, bias
        stored = {"w": w, "r": np.zeros((1, gates, 1), np.float32), "b": b}
        tensors = [numpy_helper.from_array(v, k) for k, v in stored.items()]
        graph = helper.make_graph(
            [helper.make_node(op, ["x", *stored], ["y"], **given)],
            "layer",
            [helper.make_tensor_value_info("x", 1, x.shape)],
            [helper.make_tensor_value_info("y", 1, None)],
            tensors,
        )
        opsets = [helper.make_opsetid("", 14)]
        onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), tmp_path / "m.onnx")
        layer = load(tmp_path / "m.onnx")
        bound = bound_at(layer, {"x": x}, IEEE_ANY)["y"].ravel()
        run = OnnxRuntime(tmp_path / "m.onnx").run({"x": x})["y"].ravel()
        reals = real_outputs(layer, {"x": x})["y"]
        for at in np.flatnonzero(np.isfinite(bound)):
            error = error_between(float(run[at]), reals[at])
            assert error.finite, points[at]
            assert float(error.lo) <= bound[at], (points[at], run[at], bound[at])
        assert np.all(np.isfinite(bound))


@pytest.mark.parametrize("op", ["RNN", "GRU"])
def test_activations_by_themselves_are_as_accurate_as_their_table_says(
    op: str, tmp_path: Path
) -> None:
    """With its first gate shut a GRU gives what its second activation does, rounded once more. A
    state of 1, which is kept where that saturates, leaves the gate nothing to hide an error in."""
    gates = GATES[op]
    points = np.concatenate([np.linspace(-30, 30, 20001), np.exp2(np.linspace(-40, 5, 3000))])
    x = points.astype(np.float32).reshape(1, -1, 1)
    w, b = np.zeros((1, gates, 1), np.float32), np.zeros((1, 2 * gates), np.float32)
    w[0, -1], b[0, 0] = 1.0, 0.0 if op == "RNN" else -100.0
    stored = {"w": w, "r": np.zeros((1, gates, 1), np.float32), "b": b}
    stored["h"] = np.ones((1, x.shape[1], 1), np.float32)
    made = {TANH: ("Tanh", "RecurrentTanh"), SIGMOID: ("Sigmoid", "RecurrentSigmoid")}
    for function, names in made.items():
        name = names[0]
        words = [name] if op == "RNN" else ["Sigmoid", name]
        node = helper.make_node(
            op, ["x", "w", "r", "b", "", "h"], ["y"], hidden_size=1, activations=words
        )
        shapes = {"x": list(x.shape)}, {"y": [1, 1, x.shape[1], 1]}
        path = save(tmp_path / f"{name}.onnx", [node], *shapes, stored)
        layer = load(path)
        operators = [n.op for n in layer.order if n.op in names]
        run = OnnxRuntime(path).run({"x": x})["y"].ravel()
        exact = real_outputs(layer, {"x": x})["y"]
        errors = [float(error_between(float(r), e).hi) for r, e in zip(run, exact, strict=True)]
        for contract in (IEEE_ANY, ORT_CPU):
            allowed = contract.functions.at(operators[-1], 24).accuracy(function)
            assert allowed.units is not None
            assert max(errors) <= (allowed.units + 0.5) * 2.0**-24
            assert np.max(np.abs(run)) <= 1.0 + allowed.excess * 2.0**-24
            bound = bound_at(layer, {"x": x}, contract)["y"].ravel()
            assert np.all(np.array(errors) <= bound)


def test_softplus_of_a_layer_overflows(tmp_path: Path) -> None:
    weights = {"w": np.ones((1, 1, 1), np.float32), "r": np.zeros((1, 1, 1), np.float32)}
    node = helper.make_node("RNN", ["x", *weights], ["y"], hidden_size=1, activations=["Softplus"])
    shapes = {"x": [1, 1, 1]}, {"y": [1, 1, 1, 1]}
    path = save(tmp_path / "m.onnx", [node], *shapes, weights)
    for size, bounded in ((80.0, True), (90.0, False)):
        x = {"x": np.full((1, 1, 1), size, np.float32)}
        bound = bound_at(load(path), x, IEEE_ANY)["y"]
        assert np.all(np.isfinite(bound)) == bounded
        assert np.all(np.isfinite(OnnxRuntime(path).run(x)["y"])) == bounded
