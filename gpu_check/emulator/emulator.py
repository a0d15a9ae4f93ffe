"""Runs a graph under a pinned contract, bit for bit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np

from encoders.arithmetic.number_path import stored
from encoders.arithmetic.numpy_arithmetic import Carrier, NumpyArithmetic
from encoders.contract.contract import OpenSchedule, RuntimeContract
from encoders.contract.functions import CORRECTLY_ROUNDED
from encoders.families.scheduling import contract_at
from encoders.numbers.formats import FloatFormat
from encoders.operator import site_of
from encoders.registry import lookup
from gpu_check.emulator.compiled import quickest_arithmetic
from onnx_import.graph import Array, DType, Graph, Node

Numbers: TypeAlias = Callable[[FloatFormat, RuntimeContract], NumpyArithmetic]


def emulate(
    graph: Graph,
    inputs: Mapping[str, Carrier],
    contract: RuntimeContract,
    every_tensor: bool = False,
    arithmetic: Numbers | None = None,
) -> Mapping[str, Carrier]:
    """What a runtime that obeys `contract` computes, for many samples at once.

    `inputs` has an array of shape (samples, *tensor shape) for every graph input. The result has
    such an array for every graph output, or for every tensor that is not constant; with
    `compute_format` unset it is of the tensor's own dtype, else of the format's carrier. Another
    `arithmetic` than the quickest bit-exact one is for trying things out
    (gpu_check/emulator/screening.py).

    Raises ValueError for a contract that is not pinned where the graph needs it, for a missing or
    misshapen input and for an input that is not representable in the format in which the contract
    stores it; UnsupportedModel for an operator without a meaning.
    """
    if not contract.pinned and not contract.rules:
        raise ValueError(f"contract '{contract.name}' allows more than one execution")
    values: dict[str, Carrier] = {}
    for name in graph.inputs:
        values[name] = _checked(graph, name, inputs, contract)
    for node in graph.order:
        values.update(emulate_node(graph, node, values, contract, arithmetic))
    samples = max((v.shape[0] for v in values.values()), default=1)
    wanted = values if every_tensor else graph.outputs
    return {
        t: _returned(
            graph, t, values[t] if t in values else _stored(graph, t, contract), samples, contract
        )
        for t in wanted
    }


def emulate_node(
    graph: Graph,
    node: Node,
    values: Mapping[str, Carrier],
    contract: RuntimeContract,
    arithmetic: Numbers | None = None,
) -> Mapping[str, Carrier]:
    """What one node writes, given what it reads: carriers of the formats the contract names.

    Raises OpenSchedule, naming the node, where the contract leaves open how it is computed.
    """
    site = site_of(graph, node)
    here = contract_at(site, contract)
    arguments = [
        None if not t else _stored(graph, t, here) if graph.is_constant(t) else values[t]
        for t in node.inputs
    ]
    make = quickest_arithmetic() if arithmetic is None else arithmetic
    numbers = make(here.format_of(_dtype_of(graph, node)), here)
    try:
        results = lookup(node).runtime(site, arguments, numbers, here)
    except OpenSchedule as error:
        raise OpenSchedule(f"{node.describe()}: {error}") from error
    return dict(zip((t for t in node.outputs if t), results, strict=True))


def leaves_no_choice(graph: Graph, node: Node, contract: RuntimeContract) -> bool:
    """True if the bits that the node writes follow, under the contract, from those that it reads.

    Where the contract at this node is not pinned, the node is tried: what is open is refused by the
    emulator as soon as the node's computation comes to it.
    """
    here = contract_at(site_of(graph, node), contract)
    inexact = here.functions != CORRECTLY_ROUNDED
    if here.exact or (inexact and lookup(node).functions):
        return False
    if here.pinned:
        return True
    if here.factor_format is not None:
        return False
    halves = {
        t: np.full((1, *graph.types[t].shape), 0.5).astype(graph.types[t].dtype.numpy)
        for t in node.inputs
        if t and not graph.is_constant(t)
    }
    try:
        values = {t: _held(graph, t, v, here) for t, v in halves.items()}
        with np.errstate(all="ignore"):
            emulate_node(graph, node, values, contract)
    except (OpenSchedule, ValueError):
        return False
    return True


def _held(graph: Graph, tensor: str, values: Array, contract: RuntimeContract) -> Carrier:
    dtype = graph.types[tensor].dtype
    if not dtype.is_float:
        return values
    return NumpyArithmetic(contract.format_of(dtype), contract).rounded(values)


def _stored(graph: Graph, tensor: str, contract: RuntimeContract) -> Carrier:
    dtype, values = graph.types[tensor].dtype, graph.constants[tensor]
    if not dtype.is_float:
        return values[np.newaxis]
    arithmetic = NumpyArithmetic(contract.format_of(dtype), contract)
    held: Carrier = stored(arithmetic, values, contract, dtype)
    return held


def _checked(
    graph: Graph,
    name: str,
    inputs: Mapping[str, Carrier],
    contract: RuntimeContract,
) -> Carrier:
    expected = graph.types[name]
    if name not in inputs:
        raise ValueError(f"no values for the input '{name}'")
    given = inputs[name]
    if given.shape[1:] != expected.shape:
        raise ValueError(
            f"input '{name}' has shape {given.shape}, not (samples, *{expected.shape})"
        )
    if not expected.dtype.is_float:
        return given.astype(expected.dtype.numpy)
    rounded = NumpyArithmetic(contract.format_of(expected.dtype), contract).rounded(given)
    if not np.array_equal(rounded, given, equal_nan=True):
        raise ValueError(f"input '{name}' has values that its format cannot represent")
    return rounded


def _dtype_of(graph: Graph, node: Node) -> DType:
    """The floating-point type that a node computes in: its first output's, else an input's."""
    tensors = [graph.types[t].dtype for t in (*node.outputs, *node.inputs) if t]
    return next((d for d in tensors if d.is_float), DType.FLOAT32)


def _returned(
    graph: Graph, tensor: str, values: Carrier, samples: int, contract: RuntimeContract
) -> Carrier:
    every = np.broadcast_to(values, (samples, *values.shape[1:]))
    dtype = graph.types[tensor].dtype
    if contract.compute_format is not None and dtype.is_float:
        return every
    typed: Carrier = every.astype(dtype.numpy)
    return typed
