"""Three small networks of the usual kinds, and random single edits of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper
from small_models import mlp, save

node = helper.make_node


def dense(path: Path) -> Path:
    return mlp(path, (3, 6, 6, 2), seed=4, scale=0.6)


def convolutional(path: Path) -> Path:
    rng = np.random.default_rng(1)
    weights = {
        "k1": rng.normal(size=(3, 1, 3, 3)) * 0.5,
        "c1": rng.normal(size=3),
        "gamma": rng.uniform(0.5, 2, 3),
        "beta": rng.normal(size=3),
        "mean": rng.normal(size=3),
        "variance": rng.uniform(0.01, 0.1, 3),
        "k2": rng.normal(size=(3, 3, 3, 3)) * 0.3,
        "w": rng.normal(size=(12, 2)),
        "b": rng.normal(size=2),
    }
    nodes = [
        node("Conv", ["x", "k1", "c1"], ["h1"], "conv1", pads=[1, 1, 1, 1], strides=[2, 2]),
        node(
            "BatchNormalization",
            ["h1", "gamma", "beta", "mean", "variance"],
            ["h2"],
            "norm",
            epsilon=1e-3,
        ),
        node("Relu", ["h2"], ["h3"], "act1"),
        node("Conv", ["h3", "k2"], ["h4"], "conv2", pads=[1, 1, 1, 1]),
        node(
            "AveragePool",
            ["h4"],
            ["h5"],
            "pool",
            kernel_shape=[2, 2],
            pads=[1, 1, 0, 0],
            strides=[1, 1],
        ),
        node(
            "MaxPool",
            ["h5"],
            ["h6"],
            "largest",
            kernel_shape=[2, 2],
            strides=[2, 2],
            pads=[0, 0, 1, 1],
        ),
        node("Flatten", ["h6"], ["h7"], "flat"),
        node("Gemm", ["h7", "w", "b"], ["y"], "head"),
    ]
    held = {n: v.astype(np.float32) for n, v in weights.items()}
    return save(path, nodes, {"x": (1, 1, 6, 6)}, {"y": (1, 2)}, held)


def normalized(path: Path) -> Path:
    rng = np.random.default_rng(2)
    weights = {
        "q": rng.normal(size=(4, 4)),
        "k": rng.normal(size=(4, 4)),
        "v": rng.normal(size=(4, 4)),
        "gain": rng.uniform(0.5, 2, 4),
        "shift": rng.normal(size=4),
        "half": np.array(0.5),
    }
    nodes = [
        node("LayerNormalization", ["x", "gain", "shift"], ["n"], "norm", axis=-1, epsilon=1e-2),
        node("MatMul", ["n", "q"], ["nq"], "query"),
        node("MatMul", ["n", "k"], ["nk"], "key"),
        node("MatMul", ["n", "v"], ["nv"], "value"),
        node("Transpose", ["nk"], ["nkt"], "turn", perm=[1, 0]),
        node("MatMul", ["nq", "nkt"], ["s"], "scores"),
        node("Mul", ["s", "half"], ["t"], "scale"),
        node("Softmax", ["t"], ["p"], "weights", axis=-1),
        node("MatMul", ["p", "nv"], ["a"], "mix"),
        node("Add", ["a", "x"], ["r"], "residual"),
        node("Tanh", ["r"], ["y"], "act1"),
    ]
    held = {n: v.astype(np.float32) for n, v in weights.items()}
    return save(path, nodes, {"x": (4, 4)}, {"y": (4, 4)}, held)


NETWORKS: Mapping[str, Callable[[Path], Path]] = {
    "dense": dense,
    "convolutional": convolutional,
    "normalised": normalized,
}


@dataclass(frozen=True)
class Edit:
    """What was changed, in words, and the model after it."""

    text: str
    model: onnx.ModelProto


def edited(path: Path, rng: np.random.Generator) -> Edit:
    """One random edit: a weight's sign or size, two weights or nodes swapped, an attribute or an
    activation changed. Draws again where an edit is not possible."""
    for _ in range(1000):
        model = onnx.load(path)
        kind = _KINDS[int(rng.integers(len(_KINDS)))]
        text = kind(model, rng)
        if text is not None:
            try:
                onnx.checker.check_model(model)
                onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
            except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError):
                continue
            return Edit(text, model)
    raise AssertionError(f"no edit of {path} is a valid model")


def _tensors(model: onnx.ModelProto) -> list[onnx.TensorProto]:
    return list(model.graph.initializer)


def _store(tensor: onnx.TensorProto, values: np.ndarray) -> None:
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values), tensor.name))


def _sign(model: onnx.ModelProto, rng: np.random.Generator) -> str | None:
    tensor = _tensors(model)[int(rng.integers(len(_tensors(model))))]
    values = numpy_helper.to_array(tensor).copy()
    place = int(rng.integers(values.size))
    if tensor.name == "variance":
        return None
    values.reshape(-1)[place] *= -1
    _store(tensor, values)
    return f"the sign of {tensor.name}[{place}]"


def _size(model: onnx.ModelProto, rng: np.random.Generator) -> str | None:
    tensor = _tensors(model)[int(rng.integers(len(_tensors(model))))]
    values = numpy_helper.to_array(tensor).copy()
    place, factor = int(rng.integers(values.size)), float(rng.choice([0.0, 0.5, 1.001, 2.0]))
    if tensor.name == "variance" and factor == 0.0:
        return None
    values.reshape(-1)[place] *= np.float32(factor)
    _store(tensor, values)
    return f"{tensor.name}[{place}] times {factor}"


def _swapped(model: onnx.ModelProto, rng: np.random.Generator) -> str | None:
    a, b = (int(i) for i in rng.choice(len(_tensors(model)), 2, replace=False))
    first, second = _tensors(model)[a], _tensors(model)[b]
    if first.dims != second.dims:
        return None
    values = numpy_helper.to_array(first).copy()
    _store(first, numpy_helper.to_array(second))
    _store(second, values)
    return f"{first.name} and {second.name} swapped"


def _transposed(model: onnx.ModelProto, rng: np.random.Generator) -> str | None:
    square = [t for t in _tensors(model) if len(t.dims) == 2 and t.dims[0] == t.dims[1]]
    if not square:
        return None
    tensor = square[int(rng.integers(len(square)))]
    _store(tensor, numpy_helper.to_array(tensor).T)
    return f"{tensor.name} transposed"


def _epsilon(model: onnx.ModelProto, rng: np.random.Generator) -> str | None:
    for n in model.graph.node:
        for a in n.attribute:
            if a.name == "epsilon":
                a.f *= float(rng.choice([0.1, 10.0]))
                return f"epsilon of {n.name}"
    return None


def _attribute(model: onnx.ModelProto, rng: np.random.Generator) -> str | None:
    n = model.graph.node[int(rng.integers(len(model.graph.node)))]
    if n.op_type == "AveragePool":
        n.attribute.append(helper.make_attribute("count_include_pad", 1))
        return "padding counted in the mean"
    for a in n.attribute:
        if n.op_type == "Softmax" and a.name == "axis":
            a.i = 0
            return "axis of the softmax"
        if n.op_type == "Conv" and a.name == "pads":
            before = [0, 2, 2, 0] if rng.random() < 0.5 else [2, 0, 0, 2]
            a.ints[:] = before
            return f"pads of {n.name}"
        if n.op_type == "Transpose" and a.name == "perm":
            a.ints[:] = [0, 1]
            return "no transposition"
    if n.op_type == "Gemm":
        n.attribute.append(helper.make_attribute("alpha", 1.5))
        return f"alpha of {n.name}"
    return None


def _activation(model: onnx.ModelProto, rng: np.random.Generator) -> str | None:
    others = ("Relu", "Tanh", "Sigmoid", "LeakyRelu", "Elu", "Softplus", "Abs", "Identity")
    found = [n for n in model.graph.node if n.op_type in others]
    n = found[int(rng.integers(len(found)))]
    before, n.op_type = n.op_type, str(rng.choice([o for o in others if o != n.op_type]))
    return f"{before} of {n.name} is {n.op_type}"


def _operands(model: onnx.ModelProto, rng: np.random.Generator) -> str | None:
    """The inputs of two nodes of the same kind exchanged."""
    nodes = [n for n in model.graph.node if n.op_type in ("MatMul", "Add", "Mul")]
    if len(nodes) < 2:
        return None
    n = nodes[int(rng.integers(len(nodes)))]
    a, b = n.input[0], n.input[1]
    n.input[0], n.input[1] = b, a
    return f"operands of {n.name} exchanged"


_KINDS = (_sign, _size, _swapped, _transposed, _epsilon, _attribute, _activation, _operands)
