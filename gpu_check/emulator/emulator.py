"""Runs a graph under a pinned contract, bit for bit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np

from encoders.arithmetic.number_path import stored
from encoders.arithmetic.numpy_arithmetic import Carrier, NumpyArithmetic
from encoders.contract.contract import OpenSchedule, RoundingMode, RuntimeContract
from encoders.contract.functions import CORRECTLY_ROUNDED
from encoders.numbers.formats import BINARY32, FloatFormat
from encoders.operator import Site
from encoders.program import Step, arguments, forward, program_of
from encoders.scheduling import contract_at
from gpu_check.emulator.compiled import quickest_arithmetic
from onnx_import.graph import Array, DType, Graph, TensorType

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
    drawn = contract.rounding is RoundingMode.STOCHASTIC and arithmetic is not None
    if not contract.pinned and not contract.rules and not drawn:
        raise ValueError(f"contract '{contract.name}' allows more than one execution")
    given = {name: checked_input(graph, name, inputs, contract) for name in graph.inputs}
    values = forward(
        program_of(graph), given, lambda step, v: emulate_step(step, v, contract, arithmetic)
    )
    samples = max((v.shape[0] for v in values.values()), default=1)

    def found(tensor: str) -> Carrier:
        if tensor in values:
            return values[tensor]
        return _stored(graph.constants[tensor], graph.types[tensor], contract)

    wanted = values if every_tensor else graph.outputs
    return {t: _returned(graph.types[t].dtype, found(t), samples, contract) for t in wanted}


def emulate_step(
    step: Step,
    values: Mapping[str, Carrier],
    contract: RuntimeContract,
    arithmetic: Numbers | None = None,
) -> tuple[Carrier, ...]:
    """What one node writes, given what it reads: carriers of the formats the contract names.

    Raises OpenSchedule, naming the node, where the contract leaves open how it is computed.
    """
    here = contract_at(step.site, contract)
    if here.rounding is RoundingMode.STOCHASTIC and arithmetic is None:
        raise OpenSchedule(f"{step.node.describe()}: its roundings are drawn at random")
    make = quickest_arithmetic() if arithmetic is None else arithmetic
    numbers = make(here.format_of(_dtype_of(step.site)), here)
    given = arguments(step, values, lambda stored, kind: _stored(stored, kind, here))
    try:
        return step.operator.runtime(step.site, given, numbers, here)
    except OpenSchedule as error:
        raise OpenSchedule(f"{step.node.describe()}: {error}") from error


def truncates_constants(
    step: Step, values: Mapping[str, Carrier], contract: RuntimeContract
) -> bool:
    """Does the node compute, in a format with less than float32, with numbers of a formula or an
    attribute that this format does not hold? A runtime may then have them in float32 as well
    (`encoders.arithmetic.number_path`), which the emulator never has.

    Raises OpenSchedule where the contract leaves open how the node is computed.
    """
    return emulate_watched(step, values, contract)[1]


def emulate_watched(
    step: Step, values: Mapping[str, Carrier], contract: RuntimeContract
) -> tuple[tuple[Carrier, ...], bool]:
    """What `emulate_step` gives, and what `truncates_constants` says of it, worked out at once."""
    truncated_operands: list[bool] = []

    class Watching(NumpyArithmetic):
        def constant(self, values: Array) -> Carrier:
            held = super().constant(values)
            if not self.format.holds(BINARY32):
                exact, near = (np.asarray(v).astype(np.float64) for v in (values, held[0]))
                truncated_operands.append(not np.array_equal(exact, near, equal_nan=True))
            return held

    computed = emulate_step(step, values, contract, Watching)
    return computed, any(truncated_operands)


def leaves_no_choice(step: Step, contract: RuntimeContract) -> bool:
    """True if the bits that a node writes follow, under the contract, from those that it reads.

    Where the contract at this node is not pinned, the node is tried: what is open is refused by the
    emulator as soon as the node's computation comes to it.
    """
    here = contract_at(step.site, contract)
    inexact = here.functions != CORRECTLY_ROUNDED
    if here.exact or (inexact and step.operator.functions):
        return False
    if here.pinned:
        return True
    if here.factor_format is not None:
        return False
    kinds = {t: step.site.type_of(i) for t, i in zip(step.reads, step.site.variable, strict=True)}
    try:
        values = {t: _half(kind, here) for t, kind in kinds.items()}
        with np.errstate(all="ignore"):
            emulate_step(step, values, contract)
    except (OpenSchedule, ValueError):
        return False
    return True


def _half(kind: TensorType, contract: RuntimeContract) -> Carrier:
    values = np.full((1, *kind.shape), 0.5).astype(kind.dtype.numpy)
    if not kind.dtype.is_float:
        return values
    return NumpyArithmetic(contract.format_of(kind.dtype), contract).rounded(values)


def _stored(values: Array, kind: TensorType, contract: RuntimeContract) -> Carrier:
    if not kind.dtype.is_float:
        return values[np.newaxis]
    arithmetic = NumpyArithmetic(contract.format_of(kind.dtype), contract)
    held: Carrier = stored(arithmetic, values, contract, kind.dtype)
    return held


def checked_input(
    graph: Graph,
    name: str,
    inputs: Mapping[str, Carrier],
    contract: RuntimeContract,
) -> Carrier:
    """The numbers of an input as a node reads them: (samples, *tensor shape).

    Raises ValueError for one that is missing, misshapen or not of the format.
    """
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


def _dtype_of(site: Site) -> DType:
    """The floating-point type that a node computes in: its first output's, else an input's."""
    kinds = (*site.outputs, *(kind for kind in site.inputs if kind is not None))
    return next((kind.dtype for kind in kinds if kind.dtype.is_float), DType.FLOAT32)


def _returned(dtype: DType, values: Carrier, samples: int, contract: RuntimeContract) -> Carrier:
    every = np.broadcast_to(values, (samples, *values.shape[1:]))
    if contract.compute_format is not None and dtype.is_float:
        return every
    typed: Carrier = every.astype(dtype.numpy)
    return typed
