"""Small networks that together use every operator of the checker's language."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper


@dataclass(frozen=True)
class Example:
    """A network and a range for all elements of its inputs."""

    name: str
    model: onnx.ModelProto
    domain: tuple[float, float]
    contract: str = "ieee-any"

    def written(self, folder: Path) -> Path:
        path = folder / f"{self.name}.onnx"
        onnx.save(self.model, path)
        return path


def examples() -> list[Example]:
    return [
        Example("dense", _dense(np.float32), (-1.0, 1.0)),
        Example("dense64", _dense(np.float64), (-1.0, 1.0)),
        Example("dense16", _dense(np.float16), (-0.5, 0.5)),
        Example("kept", _dense(np.float32), (0.1, 0.4), "cuda-fp32"),
        Example("image", _image(), (0.0, 1.0)),
        Example("moved", _moved(), (-1.0, 1.0)),
        Example("pools", _pools(), (-1.0, 1.0)),
    ]


class _Body:
    def __init__(self, kind: Any = np.float32, seed: int = 0) -> None:
        self.rng, self.kind = np.random.default_rng(seed), kind
        self.nodes: list[onnx.NodeProto] = []
        self.stored: list[onnx.TensorProto] = []

    def number(self, *shape: int, scale: float = 0.5) -> str:
        return self.keep(self.rng.uniform(-scale, scale, shape).astype(self.kind))

    def keep(self, value: Any) -> str:
        name = f"c{len(self.stored)}"
        self.stored.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def add(self, op: str, *inputs: str, **attributes: Any) -> str:
        name = f"t{len(self.nodes)}"
        self.nodes.append(
            helper.make_node(op, inputs, [name], f"{op}{len(self.nodes)}", **attributes)
        )
        return name

    def model(
        self, inputs: Mapping[str, tuple[int, ...]], output: str, opset: int = 13
    ) -> onnx.ModelProto:
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(self.kind))
        given = [helper.make_tensor_value_info(n, kind, s) for n, s in inputs.items()]
        last = helper.make_tensor_value_info(output, kind, None)
        graph = helper.make_graph(self.nodes, "g", given, [last], self.stored)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
        model.ir_version = 8
        return onnx.shape_inference.infer_shapes(model)


def _dense(kind: Any) -> onnx.ModelProto:
    body = _Body(kind)
    hidden = body.add("Gemm", "x", body.number(6, 4), body.number(6), transB=1)
    hidden = body.add("Relu", hidden)
    hidden = body.add("MatMul", hidden, body.number(6, 5))
    hidden = body.add("Add", hidden, body.number(5))
    if kind is np.float32:
        hidden = body.add("LeakyRelu", hidden, alpha=0.25)
    hidden = body.add("Sub", body.number(5), hidden)
    hidden = body.add("Mul", hidden, body.keep(np.array([0.5, 1.5, -1.25, 3.0, 0.0], kind)))
    hidden = body.add("Div", hidden, body.keep(np.array([3.0], kind)))
    hidden = body.add("Relu", hidden)
    return body.model({"x": (2, 4)}, body.add("Gemm", hidden, body.number(5, 3), body.number(3)))


def _image() -> onnx.ModelProto:
    body = _Body(seed=1)
    hidden = body.add(
        "Conv", "x", body.number(4, 1, 3, 2), body.number(4), group=2, strides=[2, 1],
        pads=[1, 0, 2, 1], dilations=[1, 2],
    )  # fmt: skip
    parameters = [
        np.array([1.5, -0.75, 2.0, 0.5], np.float32),
        np.array([0.1, 0.0, -0.2, 0.3], np.float32),
    ]
    parameters += [
        np.array([0.2, -0.1, 0.0, 0.4], np.float32),
        np.array([0.5, 1.0, 2.0, 0.25], np.float32),
    ]
    hidden = body.add("BatchNormalization", hidden, *map(body.keep, parameters), epsilon=1e-3)
    hidden = body.add("Relu", hidden)
    hidden = body.add("Conv", hidden, body.number(3, 4, 2, 2), kernel_shape=[2, 2])
    hidden = body.add("Flatten", hidden, axis=1)
    hidden = body.add("Relu", hidden)
    return body.model({"x": (1, 2, 6, 5)}, body.add("MatMul", hidden, body.number(27, 2)))


def _moved() -> onnx.ModelProto:
    body = _Body(seed=2)
    first = body.add("Transpose", "x", perm=[1, 0])
    first = body.add("Slice", first, *(body.keep(np.array(v)) for v in ([1], [4], [0], [2])))
    second = body.add("Gather", "x", body.keep(np.array([0, -1, 0])), axis=0)
    second = body.add("Gather", second, body.keep(np.array([3, 1])), axis=1)
    second = body.add("Transpose", body.add("Identity", second))
    first = body.add("Pad", first, body.keep(np.array([0, 1, 0, 0])))
    both = body.add(
        "Concat", first, second, body.keep(np.array([[0.5, -0.5, 0.25]], np.float32)), axis=0
    )
    row = body.add("Squeeze", body.number(3, 1), body.keep(np.array([1])))
    total = body.add("Add", both, body.add("Unsqueeze", row, body.keep(np.array([0]))))
    total = body.add("Relu", total)
    whole = body.add("Sub", total, body.add("Mul", total, body.keep(np.float32(0.75))))
    flat = body.add("Reshape", whole, body.keep(np.array([1, -1])))
    flat = body.add("Dropout", flat)
    return body.model({"x": (2, 5)}, body.add("Gemm", flat, body.number(15, 2), body.number(2)))


def _pools() -> onnx.ModelProto:
    body = _Body(seed=3)
    hidden = body.add("Conv", "x", body.number(2, 1, 2, 2), body.number(2), pads=[1, 1, 0, 0])
    hidden = body.add("MaxPool", hidden, kernel_shape=[2, 2], pads=[0, 1, 1, 0])
    hidden = body.add("Add", hidden, body.number(1, 2, 1, 1))
    hidden = body.add("AveragePool", hidden, kernel_shape=[3, 2], strides=[1, 2], pads=[1, 0, 1, 0])
    hidden = body.add("Relu", hidden)
    hidden = body.add(
        "AveragePool", hidden, kernel_shape=[2, 1], count_include_pad=1, pads=[1, 0, 0, 0]
    )
    return body.model({"x": (1, 1, 4, 4)}, body.add("Flatten", hidden))
