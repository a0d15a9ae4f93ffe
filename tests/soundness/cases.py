"""Toy networks with small domains, whose every execution can be listed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from text_networks import NodeText, network, node, numbers

from encoders.numbers.formats import FloatFormat, small_format
from onnx_import.graph import Graph

E2P3, E3P3, E4P3, E3P4, E4P4, E3P5, E4P5 = (
    small_format(e, p) for e, p in ((2, 3), (3, 3), (4, 3), (3, 4), (4, 4), (3, 5), (4, 5))
)


@dataclass(frozen=True)
class Case:
    """A network in a toy format on a box; `overflows` where an execution can reach infinity."""

    name: str
    format: FloatFormat
    lo: Any
    hi: Any
    build: Callable[[], Graph]
    overflows: bool = False


def case(
    name: str,
    fmt: FloatFormat,
    lo: Any,
    hi: Any,
    nodes: Sequence[NodeText],
    inputs: dict[str, tuple[int, ...]],
    overflows: bool = False,
    **constants: Any,
) -> Case:
    stored = {name: numbers(value) for name, value in constants.items()}
    stored["shape"] = np.array([2, -1], np.int64)
    return Case(name, fmt, lo, hi, lambda: network(nodes, inputs, stored), overflows)


DENSE = (
    node("MatMul", "x W", "p"),
    node("Add", "p b", "z"),
    node("Relu", "z", "a"),
    node("MatMul", "a V", "q"),
    node("Add", "q c", "y"),
)

CASES = (
    case(
        "dense representable", E4P3, 0.5, 1.25, DENSE, {"x": (1, 2)},
        W=[[1.25, -0.75], [0.625, 1.0]], b=[0.375, -0.25], V=[[1.5], [-0.875]], c=[0.125],
    ),
    case(
        "dense not representable", E4P4, 0.5, 1, DENSE, {"x": (1, 2)},
        W=[[1.3, -0.7], [0.6, 0.9]], b=[0.3, -0.26], V=[[1.45], [-0.85]], c=[0.13],
    ),
    case(
        "dense with underflow everywhere", E4P3, -0.015625, 0.015625, DENSE, {"x": (1, 2)},
        W=[[0.25, -0.5], [0.75, 0.375]], b=[0.0078125, -0.00390625], V=[[0.75], [-0.5]], c=[0.0],
    ),
    case(
        "one product", E3P4, 0.25, 3, (node("MatMul", "x W", "y"),), {"x": (1, 1)},
        W=[[1.3, 0.7, -1.19, 0.57, 1.07, 0.9, 1.04, 1.16, -0.66, 0.3]],
    ),
    case(
        "one product in five bits", E3P5, 1, 4, (node("MatMul", "x W", "y"),), {"x": (1, 1)},
        W=[[1.1, 1.04, 1.45, 1.33, -1.72, 1.53, 0.78, 1.41, 1.16, 1.91]],
    ),
    case(
        "subnormal weight", E4P5, 224, 224, (node("MatMul", "x W", "y"),), {"x": (1, 1)},
        W=[[4.501 * 2**-10, -4.501 * 2**-10, 6.51 * 2**-10]],
    ),
    case(
        "cancellation", E3P3, 0.5, 1, (node("MatMul", "x W", "y"),), {"x": (1, 4)},
        W=[[1.0, 1.25], [-1.0, -1.25], [1.25, 1.0], [-1.25, -0.875]],
    ),
    case(
        "powers of two and zeros", E3P3, -0.0625, 0.125, (
            node("Gemm", "x W b", "y"),
        ), {"x": (1, 4)}, W=[[0.5, 0, 0], [-2, 0, 0.125], [0, 1, 0], [0.75, 0, 1.25]],
        b=[0.0625, 0.0, 0.75],
    ),
    case(
        "tiny bias alone", E3P3, -0.25, 0.25, (node("Gemm", "x W b", "y"),), {"x": (1, 2)},
        W=[[0, 1, 0], [0, 0, 0.25]], b=[0.0625, 0.125, 0.0],
    ),
    case(
        "gemm alpha beta transB", E3P3, 0.25, 0.625, (
            node("Gemm", "x W b", "y", alpha=0.7, beta=1.3, transB=1),
        ), {"x": (1, 3)}, W=[[1.25, 0.6, -0.5], [0.7, -0.3, 0.9]], b=[0.4, -0.75],
    ),
    case(
        "gemm beta and a large bias", E3P4, 0.75, 1, (
            node("Gemm", "x W b", "y", beta=0.5),
        ), {"x": (1, 3)}, W=[[0.3, 0.25], [0.2, 0.25], [0.26, -0.5]], b=[9.0, 8.0],
    ),
    case(
        "gemm with alpha and a bias that is rounded", E3P4, 1, 1.5, (
            node("Gemm", "x W b", "y", alpha=0.5),
        ), {"x": (1, 1)}, W=[[1.0, 0.5, 2.0, 1.0]], b=[0.6, 0.3, 0.7, 0.57],
    ),
    case(
        "gemm transA constant on the left", E3P3, 0.25, 1, (
            node("Gemm", "W x b", "y", transA=1, alpha=0.5),
        ), {"x": (2, 1)}, W=[[0.7, -1.3], [0.35, 1.0]], b=[[0.3]],
    ),
    case(
        "gemm with a computed bias", E3P3, -0.25, 0.25, (
            node("MatMul", "x V", "c"), node("Gemm", "x W c", "y"),
        ), {"x": (1, 2)}, V=[[1.25, 0.7], [-0.6, 0.5]], W=[[0.8, 1.0], [0.4, -1.3]],
    ),
    case(
        "conv padding and stride", E3P3, 0.5, 0.75, (
            node("Conv", "x W b", "z", kernel_shape=[3], pads=[1, 1], strides=[2]),
            node("Relu", "z", "y"),
        ), {"x": (1, 1, 4)}, W=[[[0.7, -1.25, 0.5]], [[0.3, 0.6, -0.9]]], b=[0.3, -0.1],
    ),
    case(
        "conv groups", E3P3, -0.125, 0.0625, (
            node("Conv", "x W", "z", kernel_shape=[2, 1], group=2),
            node("Flatten", "z", "f"), node("MatMul", "f V", "y"),
        ), {"x": (1, 2, 2, 1)}, W=[[[[0.75], [-0.6]]], [[[1.25], [0.5]]]], V=[[0.7], [-1.1]],
    ),
    case(
        "residual", E3P3, -0.25, 0.3125, (
            node("MatMul", "x W", "z"), node("Relu", "z", "a"), node("Add", "a x", "s"),
            node("Sub", "s z", "y"),
        ), {"x": (1, 2)}, W=[[0.75, -0.6], [0.4, 1.25]],
    ),
    case(
        "same tensor twice", E3P3, -3, 3, (
            node("Mul", "x w", "z"), node("Add", "z x", "s"), node("Sub", "s z", "t"),
            node("Sub", "t x", "y"),
        ), {"x": (1, 1)}, w=[[0.35]],
    ),
    case(
        "batch normalization", E4P4, 0.5, 1.5, (
            node("BatchNormalization", "x g b m v", "z", epsilon=0.25), node("Relu", "z", "y"),
        ), {"x": (1, 2)}, g=[0.7, -1.25], b=[0.3, 0.5], m=[0.4, -0.75], v=[1.47265625, 0.3125],
    ),
    case(
        "batch normalization of a point", E4P3, 1.25, 1.25, (
            node("BatchNormalization", "x g b m v", "y", epsilon=0.25),
        ), {"x": (1, 31)}, g=[1.0] * 31, b=[0.0] * 31, m=[0.0] * 31,
        v=[(k / 32) ** 2 - 0.25 for k in range(33, 64)],
    ),
    case(
        "constants on both sides", E3P4, -1.5, 1.5, (
            node("Sub", "k x", "a"), node("Mul", "a m", "b"), node("Div", "b d", "c"),
            node("Add", "c k", "e"), node("Sub", "e h", "y"),
        ), {"x": (1, 1)}, k=[[0.7, 0.0, -1.0]], m=[[1.0, 0.5, 0.6]], d=[[3.0, -4.0, 0.7]],
        h=[[0.0, 0.25, 0.3]],
    ),
    case(
        "movement", E3P3, -0.25, 0.375, (
            node("Mul", "x w", "m"), node("Concat", "m k x", "j", axis=1),
            node("Transpose", "j", "t", perm=[1, 0]), node("Reshape", "t shape", "r"),
            node("Relu", "r", "a"), node("Flatten", "a", "f", axis=0), node("MatMul", "f V", "y"),
        ), {"x": (1, 2)}, w=[[0.7, -1.3]], k=[[0.3, -0.6]],
        V=[[0.5], [1.0], [0.8], [1.0], [-0.7], [0.0]],
    ),
    case(
        "broadcast constant and input", E3P3, -0.25, 0.25, (
            node("Add", "x k", "a"), node("Mul", "a k", "y"),
        ), {"x": (1, 2)}, k=[[0.3], [-1.25]],
    ),
    case(
        "nothing varies", E3P4, 0.75, 0.75, DENSE, {"x": (1, 2)},
        W=[[1.3, -0.7], [0.6, 0.9]], b=[0.3, -0.26], V=[[1.45], [-0.85]], c=[0.13],
    ),
    case(
        "overflow", E2P3, 2, 3.5, DENSE, {"x": (1, 2)}, overflows=True,
        W=[[1.25, -0.75], [0.625, 1.0]], b=[0.375, -0.25], V=[[1.5], [-0.875]], c=[0.125],
    ),
    case(
        "zero times a stored infinity", E3P3, 0, 0, (node("MatMul", "x W", "y"),),
        {"x": (1, 2)}, overflows=True, W=[[100.0], [1.0]],
    ),
    case(
        "overflow hidden by a zero", E2P3, 1, 3, (
            node("MatMul", "x W", "z"), node("MatMul", "z V", "y"),
        ), {"x": (1, 2)}, overflows=True, W=[[1.5, 0.25], [1.5, 0.25]], V=[[0.0], [1.0]],
    ),
)  # fmt: skip
