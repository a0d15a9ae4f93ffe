"""Modes of a runtime that hold for all its operations: subnormal numbers, reduced precision."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from encoders.contract.contract import FactorRounding, Subnormals
from gpu_check.runtimes.kernels import Kernels
from onnx_import.graph import Array, DType, Graph, Node, TensorType, build_graph

_LENGTHS = (1, 19, 64)  # the tail of a vector loop, and its body
_OPSET = 13
_SUBNORMAL = 2.0**-130  # one that formats with fewer digits hold too


@dataclass(frozen=True)
class Flushes:
    """What happens to subnormal results and operands, over every operation tried."""

    results: Subnormals
    operands: Subnormals


def probe_flushes(kernels: Kernels) -> Flushes:
    """Products, sums and matrix products with subnormal results, and with subnormal operands.

    Raises RuntimeUnavailable if the runtime has not even these.
    """
    operands = _said(
        [
            *_outcomes(kernels, "Mul", _SUBNORMAL, 2.0**40),
            *_outcomes(kernels, "MatMul", _SUBNORMAL, 2.0**40),
        ]
    )
    results = [
        *_outcomes(kernels, "Mul", 2.0**-100, 2.0**-40),
        *_outcomes(kernels, "Add", 1.5 * 2.0**-126, -(2.0**-126)),
    ]
    if operands is Subnormals.KEEP:  # else a product may be lost where it is added up
        results += _outcomes(kernels, "MatMul", 2.0**-100, 2.0**-40)
    return Flushes(_said(results), operands)


def product_bits(kernels: Kernels) -> int:
    """How many bits of their significands the factors of a matrix product keep, at most 24."""
    for bits in range(24, 1, -1):
        x = 1.0 + 2.0 ** (1 - bits)
        if all(_outcomes(kernels, "MatMul", x, 1.0, x)):
            return bits
    return 1


def factor_rounding(kernels: Kernels, bits: int) -> FactorRounding:
    """How factors are truncated that keep so many bits; ANY where that differs from case to case,
    or is neither to nearest, ties to even, nor toward zero."""
    ulp = 2.0 ** (1 - bits)
    above, tie, odd_tie = 1.0 + 0.75 * ulp, 1.0 + 0.5 * ulp, 1.0 + 1.5 * ulp
    for rounding, results in (
        (FactorRounding.NEAREST, (1.0 + ulp, 1.0, 1.0 + 2.0 * ulp)),
        (FactorRounding.TRUNCATE, (1.0, 1.0, 1.0 + ulp)),
    ):
        tried = zip((above, tie, odd_tie), results, strict=True)
        if all(all(_outcomes(kernels, "MatMul", x, 1.0, y)) for x, y in tried):
            return rounding
    return FactorRounding.ANY


def _outcomes(
    kernels: Kernels, op: str, x: float, w: float, expected: float | None = None
) -> Iterable[bool]:
    """For every element tried: is it the expected number (None: any but zero)?"""
    for length in _LENGTHS:
        shape = (length, length) if op == "MatMul" else (length,)
        graph, node = _alone(op, shape)
        first = np.zeros(shape, np.float32)
        if op == "MatMul":
            np.fill_diagonal(first, np.float32(x))
        else:
            first[...] = x
        second = np.full(shape, w, np.float32)
        got = kernels.on(graph).kernel(node, {})({"a": first, "b": second})
        yield from _judged(got, expected)


def _judged(got: Array, expected: float | None) -> Iterable[bool]:
    right = got != 0 if expected is None else got == np.float32(expected)
    return [bool(v) for v in right.reshape(-1)]


def _alone(op: str, shape: tuple[int, ...]) -> tuple[Graph, Node]:
    node = Node(op, op, inputs=("a", "b"), outputs=("y",), attributes={}, opset=_OPSET)
    kind = TensorType(DType.FLOAT32, shape)
    return build_graph(
        (node,), dict.fromkeys("aby", kind), {}, inputs=("a", "b"), outputs=("y",)
    ), node


def _said(kept: Iterable[bool]) -> Subnormals:
    seen = set(kept)
    if seen == {True}:
        return Subnormals.KEEP
    return Subnormals.FLUSH if seen == {False} else Subnormals.EITHER
