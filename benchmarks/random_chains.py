"""Random chains of dense layers, and every way of running them, for backward errors."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from encoders.contract.contract import (
    BiasPlacement,
    Contraction,
    RuntimeContract,
    Schedule,
    ScheduleRule,
    Subnormals,
)
from encoders.contract.orders import Tree
from encoders.contract.presets import IEEE_ANY, PAIRWISE, SEQUENTIAL, SEQUENTIAL_FMA
from encoders.numbers.formats import FloatFormat, round_array
from onnx_import.graph import Array, DType, Graph, Node, TensorType, build_graph

LEAKY = "LeakyRelu"
ACTIVATIONS = ("Relu", LEAKY, "Identity")


def chain(
    rng: np.random.Generator,
    *,
    dtype: DType = DType.FLOAT32,
    tiny: bool = False,
    fmt: FloatFormat | None = None,
) -> Graph:
    """Two to four layers of 1 to 9 units: Gemm, or MatMul with or without an Add; numbers that make
    products underflow where `tiny`, and of a given format where there is one."""
    widths = rng.integers(1, 10, rng.integers(3, 6)).tolist()
    nodes: list[Node] = []
    types = {"x": TensorType(dtype, (1, widths[0]))}
    constants: dict[str, Array] = {}
    at = "x"

    def stored(name: str, shape: tuple[int, ...], scale: float) -> str:
        values = rng.normal(size=shape) * scale
        values[rng.random(shape) < 0.1] = 0.0
        if fmt is not None:
            values = round_array(values, fmt)
        constants[name] = values.astype(dtype.numpy)
        types[name] = TensorType(dtype, shape)
        return name

    def node(op: str, *inputs: str, shape: tuple[int, ...], **attributes: float) -> str:
        name = f"{op}{len(nodes)}"
        nodes.append(Node(name, op, inputs, (f"t{len(nodes)}",), attributes, 17))
        types[nodes[-1].outputs[0]] = TensorType(dtype, shape)
        return nodes[-1].outputs[0]

    last = len(widths) - 2
    for k, (n, m) in enumerate(itertools.pairwise(widths)):
        scale = float(10.0 ** rng.uniform(-24, -18)) if tiny and k == 0 else 1.0
        kind = rng.integers(0, 3)
        if kind == 0:
            turned = int(rng.integers(0, 2))
            weights = stored(f"w{k}", (m, n) if turned else (n, m), scale)
            bias = stored(f"b{k}", (m,), scale if rng.random() < 0.5 else 0.0)
            at = node("Gemm", at, weights, bias, shape=(1, m), transB=turned)
        else:
            at = node("MatMul", at, stored(f"w{k}", (n, m), scale), shape=(1, m))
            if kind == 1:
                at = node("Add", at, stored(f"b{k}", (m,), scale), shape=(1, m))
        if k < last:
            op = str(rng.choice(ACTIVATIONS))
            attributes = {"alpha": 0.25 if fmt is not None else 0.01} if op == LEAKY else {}
            at = node(op, at, shape=(1, m), **attributes)
    return build_graph(
        tuple(nodes), types, constants=constants, inputs=("x",), outputs=(at,), notes=()
    )


def inputs_of(
    rng: np.random.Generator,
    graph: Graph,
    samples: int,
    *,
    tiny: bool = False,
    fmt: FloatFormat | None = None,
) -> Array:
    """Samples of the input, with zeros; small ones where `tiny`."""
    kind = graph.types["x"]
    x = rng.normal(size=(samples, *kind.shape)) * (10.0 ** rng.uniform(-24, -18) if tiny else 1.0)
    x[rng.random(x.shape) < 0.1] = 0.0
    if fmt is not None:
        x = round_array(x, fmt)
    return x.astype(kind.dtype.numpy)


def executions(rng: np.random.Generator, graph: Graph) -> Iterator[tuple[str, RuntimeContract]]:
    """Sequential, fused and pairwise; and one execution of any order, each node by a tree of its
    own, fused or not, its bias anywhere, subnormal numbers kept or flushed."""
    yield "sequential", SEQUENTIAL
    yield "fused", SEQUENTIAL_FMA
    yield "pairwise", PAIRWISE
    rules = []
    for node in graph.order:
        held = graph.types[node.inputs[0]].shape
        schedule = Schedule(
            Tree(_tree(rng, held[-1])),
            rng.choice(np.array([Contraction.NEVER, Contraction.ALWAYS])),
            rng.choice(np.array([BiasPlacement.FIRST, BiasPlacement.LAST])),
        )
        rules.append(ScheduleRule(schedule, node=node.name))
    flush = rng.choice(np.array([Subnormals.KEEP, Subnormals.FLUSH]), 2)
    yield (
        "any order",
        replace(
            IEEE_ANY,
            order=SEQUENTIAL.order,
            contraction=Contraction.NEVER,
            bias=BiasPlacement.LAST,
            results=flush[0],
            operands=flush[1],
            normalization=SEQUENTIAL.normalization,
            rules=tuple(rules),
        ),
    )


def _tree(rng: np.random.Generator, terms: int) -> tuple[tuple[int, int], ...]:
    """A random tree of additions."""
    left = list(range(terms))
    merges = []
    while len(left) > 1:
        a = left.pop(int(rng.integers(len(left))))
        b = left.pop(int(rng.integers(len(left))))
        merges.append((a, b))
        left.append(terms + len(merges) - 1)
    return tuple(merges)
