"""Small random networks in float32, and the copies that onnxruntime's quantiser makes of them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)

from encoders.arithmetic.approximate_field import ApproximateReals
from gpu_check.emulator.exact import evaluate_real
from onnx_import import load
from onnx_import.graph import Graph

Array = npt.NDArray[np.float32]
OPSET = 17
KEPT = ["at_probabilities"]  # a transformer's Softmax, whose form in integers is not read


class Form(Enum):
    """How the quantiser writes a copy."""

    QDQ = "QDQ"
    OPERATORS = "QOperator"
    DYNAMIC = "dynamic"


@dataclass(frozen=True)
class Network:
    """A model and the shape of its only input, x."""

    model: onnx.ModelProto
    shape: tuple[int, ...]


def network(
    nodes: list[onnx.NodeProto],
    shape: tuple[int, ...],
    result: tuple[int, ...],
    weights: Mapping[str, npt.NDArray[Any]],
) -> Network:
    """A model from x to y."""
    held = [numpy_helper.from_array(v, name) for name, v in weights.items()]
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, result)],
        held,
    )
    opset = [helper.make_opsetid("", OPSET)]
    return Network(helper.make_model(graph, opset_imports=opset, ir_version=8), shape)


def _normal(rng: np.random.Generator, *shape: int, scale: float = 1.0) -> Array:
    fan = int(np.prod(shape[:-1])) or 1
    return (rng.normal(0, scale / np.sqrt(fan), shape)).astype(np.float32)


def mlp(seed: int, widths: tuple[int, ...] = (8, 16, 12, 4), bend: str = "Relu") -> Network:
    """Gemm, with weights as they are multiplied, and one nonlinear layer between each two."""
    rng = np.random.default_rng(seed)
    nodes: list[onnx.NodeProto] = []
    weights: dict[str, npt.NDArray[Any]] = {}
    x = "x"
    for i, (n, m) in enumerate(pairwise(widths)):
        weights |= {f"w{i}": _normal(rng, n, m, scale=1.5), f"b{i}": _normal(rng, m, scale=0.3)}
        last = i == len(widths) - 2
        out = "y" if last else f"h{i}"
        nodes.append(helper.make_node("Gemm", [x, f"w{i}", f"b{i}"], [out], f"gemm{i}"))
        if not last:
            nodes.append(helper.make_node(bend, [out], [f"r{i}"], f"bend{i}"))
            x = f"r{i}"
    return network(nodes, (1, widths[0]), (1, widths[-1]), weights)


def cnn(
    seed: int, size: int = 8, channels: tuple[int, int] = (4, 6), residual: bool = False
) -> Network:
    """Conv, Relu, Conv, Relu (and a sum with what came before), a pool and Gemm."""
    rng = np.random.default_rng(seed)
    a, b = channels
    weights: dict[str, npt.NDArray[Any]] = {
        "w0": _conv(rng, a, 2, 3), "b0": _normal(rng, a, scale=0.2),
        "w1": _conv(rng, b, a, 3), "b1": _normal(rng, b, scale=0.2),
        "w3": _normal(rng, b * (size // 2) ** 2, 4), "b3": _normal(rng, 4, scale=0.2),
    }  # fmt: skip
    nodes = [
        helper.make_node("Conv", ["x", "w0", "b0"], ["c0"], "conv0", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c0"], ["r0"], "relu0"),
        helper.make_node("Conv", ["r0", "w1", "b1"], ["c1"], "conv1", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"], "relu1"),
    ]
    last = "r1"
    if residual:
        weights |= {"w2": _conv(rng, b, b, 3), "b2": _normal(rng, b, scale=0.2)}
        nodes += [
            helper.make_node("Conv", ["r1", "w2", "b2"], ["c2"], "conv2", pads=[1, 1, 1, 1]),
            helper.make_node("Add", ["c2", "r1"], ["s"], "sum"),
            helper.make_node("Relu", ["s"], ["r2"], "relu2"),
        ]
        last = "r2"
    nodes += [
        helper.make_node("MaxPool", [last], ["p"], "pool", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Flatten", ["p"], ["f"], "flat"),
        helper.make_node("Gemm", ["f", "w3", "b3"], ["y"], "gemm"),
    ]
    return network(nodes, (1, 2, size, size), (1, 4), weights)


def _conv(rng: np.random.Generator, out: int, channels: int, size: int) -> Array:
    scale = 1.5 / np.sqrt(channels * size * size)
    return rng.normal(0, scale, (out, channels, size, size)).astype(np.float32)


def transformer(seed: int, tokens: int = 4, width: int = 8) -> Network:
    """Attention of one head and a layer of Gelu, both added to what they read and normalised."""
    rng = np.random.default_rng(seed)
    weights: dict[str, npt.NDArray[Any]] = {}
    nodes: list[onnx.NodeProto] = []

    def put(op: str, inputs: list[str], out: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(op, inputs, [out], f"at_{out}", **attributes))
        return out

    def dense(x: str, out: str, n: int, m: int) -> str:
        weights[f"w_{out}"] = _normal(rng, n, m)
        weights[f"b_{out}"] = _normal(rng, m, scale=0.2)
        return put("Add", [put("MatMul", [x, f"w_{out}"], f"m_{out}"), f"b_{out}"], out)

    def normalised(x: str, out: str) -> str:
        weights[f"g_{out}"] = (1 + rng.normal(0, 0.1, width)).astype(np.float32)
        weights[f"z_{out}"] = rng.normal(0, 0.1, width).astype(np.float32)
        return put("LayerNormalization", [x, f"g_{out}", f"z_{out}"], out, axis=-1)

    for name, value in (("scale", width**-0.5), ("half", 0.5), ("one", 1.0), ("root", 2**-0.5)):
        weights[name] = np.array(value, np.float32)
    q, k, v = (dense("x", name, width, width) for name in ("q", "k", "v"))
    k = put("Transpose", [k], "kt", perm=[0, 2, 1])
    scores = put("Mul", [put("MatMul", [q, k], "qk"), "scale"], "scores")
    mixed = put("MatMul", [put("Softmax", [scores], "probabilities", axis=-1), v], "mixed")
    first = put("Add", ["x", dense(mixed, "attended", width, width)], "first")
    first = normalised(first, "n1")
    hidden = dense(first, "hidden", width, 2 * width)
    bent = put("Erf", [put("Mul", [hidden, "root"], "scaled")], "bent")
    gelu = put(
        "Mul", [put("Mul", [hidden, put("Add", [bent, "one"], "up")], "up2"), "half"], "gelu"
    )
    second = put("Add", [first, dense(gelu, "down", 2 * width, width)], "second")
    weights["w_y"], weights["b_y"] = _normal(rng, width, 3), _normal(rng, 3, scale=0.2)
    last = normalised(second, "n2")
    put("Add", [put("MatMul", [last, "w_y"], "m_y"), "b_y"], "y")
    return network(nodes, (1, tokens, width), (1, tokens, 3), weights)


class Samples(CalibrationDataReader):
    """Random points of [−1, 1]."""

    def __init__(self, shape: tuple[int, ...], count: int = 24) -> None:
        rng = np.random.default_rng(3)
        self.left = [{"x": rng.uniform(-1, 1, shape).astype(np.float32)} for _ in range(count)]

    def get_next(self) -> Any:
        return self.left.pop() if self.left else None


def files(folder: Path, name: str, net: Network, form: Form, **options: Any) -> tuple[Path, Path]:
    """The network and its copy, written."""
    source, target = folder / f"{name}.onnx", folder / f"{name}_{form.value}.onnx"
    onnx.save(onnx.shape_inference.infer_shapes(net.model), source)
    logging.getLogger().setLevel(logging.ERROR)  # it asks for a preparation that changes nothing
    if form is Form.DYNAMIC:
        quantize_dynamic(source, target, weight_type=QuantType.QInt8, **options)
    else:
        chosen = QuantFormat.QDQ if form is Form.QDQ else QuantFormat.QOperator
        quantize_static(source, target, Samples(net.shape), quant_format=chosen, **options)
    return source, target


@dataclass(frozen=True)
class Beside:
    """An original over the reals, and its copy as onnxruntime runs it."""

    original: Graph
    session: onnxruntime.InferenceSession
    specified: onnxruntime.InferenceSession

    def about(self, x: Array) -> npt.NDArray[np.float64]:
        """Differences of all outputs, the original as onnxruntime runs it: quick, to climb by."""
        runs = [np.asarray(s.run(None, {"x": x})[0], np.float64) for s in self._sessions]
        return (runs[0] - runs[1]).reshape(-1)

    @property
    def _sessions(self) -> tuple[onnxruntime.InferenceSession, ...]:
        return self.session, self.specified

    def apart(self, x: Array) -> float:
        """The largest difference of an output at a point."""
        run = np.asarray(self.session.run(None, {"x": x})[0], np.float64)
        field = ApproximateReals()
        (real,) = evaluate_real(self.original, {"x": field.constant(x)}, field).values()
        return float(np.max(np.abs(run - np.asarray(real[0], np.float64))))


def beside(source: Path, target: Path) -> Beside:
    """Both files of a pair, without graph optimisations."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    copy, original = (onnxruntime.InferenceSession(str(p), options) for p in (target, source))
    return Beside(load(source), copy, original)
