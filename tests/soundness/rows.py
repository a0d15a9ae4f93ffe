"""MatMul, Gemm and Conv as rows of coefficients, by the loops of their definitions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from onnx_import.graph import Graph, Node


@dataclass(frozen=True)
class Row:
    """alpha·Σ w·x[i] + beta·bias, terms in their natural order; `bias` is (tensor, flat index)."""

    terms: tuple[tuple[float, int], ...]
    bias: tuple[str, int] | None = None
    alpha: float = 1.0
    beta: float = 1.0


_known: dict[int, tuple[Graph, dict[str, tuple[Row, ...]]]] = {}


def rows_of(graph: Graph, node: Node) -> tuple[Row, ...]:
    """One row per output element, row-major."""
    _, rows = _known.setdefault(id(graph), (graph, {}))
    if node.name not in rows:
        made = {"MatMul": _matmul, "Gemm": _gemm, "Conv": _conv}[node.op](graph, node)
        rows[node.name] = tuple(made)
    return rows[node.name]


def _entries(graph: Graph, tensor: str) -> Any:
    """Pairs (coefficient or None, flat index or None) in the tensor's shape."""
    shape = graph.types[tensor].shape
    entries = np.empty(shape, dtype=object)
    flat = entries.reshape(-1)
    for i in range(flat.size):
        constant = graph.is_constant(tensor)
        flat[i] = float(graph.constants[tensor].ravel()[i]) if constant else i
    return entries


def _matmul(graph: Graph, node: Node) -> Iterator[Row]:
    a, b = (_entries(graph, t) for t in node.inputs)
    a = a[None, :] if a.ndim == 1 else a
    b = b[:, None] if b.ndim == 1 else b
    yield from (Row(t) for t in _products(a, b, graph.is_constant(node.inputs[0])))


def _products(a: Any, b: Any, left: bool) -> Iterator[tuple[tuple[float, int], ...]]:
    lead = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    a = np.broadcast_to(a, (*lead, *a.shape[-2:]))
    b = np.broadcast_to(b, (*lead, *b.shape[-2:]))
    for at in np.ndindex(*lead):
        for i, j in product(range(a.shape[-2]), range(b.shape[-1])):
            pairs = ((a[(*at, i, k)], b[(*at, k, j)]) for k in range(a.shape[-1]))
            yield tuple((p, q) if left else (q, p) for p, q in pairs)


def _gemm(graph: Graph, node: Node) -> Iterator[Row]:
    a, b = (_entries(graph, t) for t in node.inputs[:2])
    a = a.T if node.attributes.get("transA") else a
    b = b.T if node.attributes.get("transB") else b
    shape = graph.types[node.outputs[0]].shape
    tensor = node.inputs[2] if len(node.inputs) > 2 else ""
    alpha, beta = (float(node.attributes.get(n, 1.0)) for n in ("alpha", "beta"))  # type: ignore
    places = None
    if tensor and beta != 0:
        own = graph.types[tensor]
        places = np.broadcast_to(np.arange(own.size).reshape(own.shape), shape).ravel()
    for i, terms in enumerate(_products(a, b, graph.is_constant(node.inputs[0]))):
        yield Row(terms, None if places is None else (tensor, int(places[i])), alpha, beta)


def _conv(graph: Graph, node: Node) -> Iterator[Row]:
    """Products with padding zeros are left out; in an execution they change nothing."""
    weights = graph.constants[node.inputs[1]].astype(np.float64)
    shape = graph.types[node.inputs[0]].shape
    output = graph.types[node.outputs[0]].shape
    rank = len(shape) - 2
    ones = (1,) * rank
    strides: Any = node.attributes.get("strides", ones)
    dilations: Any = node.attributes.get("dilations", ones)
    pads: Any = node.attributes.get("pads", (0,) * (2 * rank))
    per_group = weights.shape[0] // int(node.attributes.get("group", 1))  # type: ignore
    index = np.arange(int(np.prod(shape))).reshape(shape)
    for n, channel, *where in np.ndindex(*output):
        terms = []
        first = channel // per_group * weights.shape[1]
        for c, *offset in np.ndindex(*weights.shape[1:]):
            at = [
                w * s + o * d - p
                for w, s, o, d, p in zip(where, strides, offset, dilations, pads, strict=False)
            ]
            if all(0 <= p < size for p, size in zip(at, shape[2:], strict=True)):
                weight = float(weights[(channel, c, *offset)])
                terms.append((weight, int(index[(n, first + c, *at)])))
        bias = (node.inputs[2], channel) if len(node.inputs) > 2 and node.inputs[2] else None
        yield Row(tuple(terms), bias)
