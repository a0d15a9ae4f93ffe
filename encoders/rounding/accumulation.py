"""Nodes that compute in a wider format than their tensors have, and round once at the end.

Where a contract names an accumulation format, an operator reads its operands into it (which is
exact, but that a runtime which flushes operands takes a subnormal number of the tensor's format for
zero, as it does when a Cast converts one), does all that its run-time semantics says there, and
rounds the result to the tensor's own format. What only moves data, or converts it, has nothing to
accumulate. A single + − × ÷ or √ gives the bits of the narrow format: with 2p + 2 digits, which
binary32 has for binary16 and bfloat16, and binary64 for binary32, rounding twice is innocuous
(Figueroa 1995, see `NumpyArithmetic`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from encoders.arithmetic.number_path import back, carried, flushed_below, into
from encoders.arithmetic.runtime import Arithmetic, mixes_formats
from encoders.arithmetic.values import Inputs, V
from encoders.contract.contract import RuntimeContract, Subnormals
from encoders.lemmas.combining import EXACT
from encoders.lemmas.kernel import Radius, apply, exactly_zero
from encoders.lemmas.operations import HELD_ALREADY
from encoders.numbers.enclosure import Interval, add_up, with_zero
from encoders.numbers.formats import FloatFormat
from encoders.operator import Operator, RoundingBound, Site
from encoders.rounding.rounding_bounds import below, conversion_error, no_overflow, rounder
from onnx_import.graph import TensorType

ACCUMULATED = "accumulated-rounding"


def accumulating(operator: Operator) -> Operator:
    """The operator as a contract with an accumulation format computes it; else as it is."""
    if operator.movement or operator.converts:
        return operator

    def runtime(
        site: Site, inputs: Inputs[V], arithmetic: Arithmetic[V], contract: RuntimeContract
    ) -> tuple[V, ...]:
        wide = _wide(site, contract)
        if wide is None:
            return operator.runtime(site, inputs, arithmetic, contract)
        assert mixes_formats(arithmetic)
        within = arithmetic.in_format(wide)

        def read(v: V | None, kind: TensorType | None) -> V | None:
            if v is None or kind is None or not kind.dtype.is_float:
                return v
            return carried(within, v, (into(wide, contract.format_of(kind.dtype)),))

        operands = Inputs(map(read, inputs.given, site.inputs))
        results = operator.runtime(site, operands, within, _within(site, contract, wide))
        way = (back(contract.format_of(site.outputs[0].dtype)),)
        return tuple(carried(arithmetic, v, way) for v in results)

    def rounding(
        site: Site, inputs: Sequence[Interval], result: Interval, contract: RuntimeContract
    ) -> RoundingBound:
        wide = _wide(site, contract)
        if wide is None:
            return operator.rounding(site, inputs, result, contract)
        inputs, change = _read(operator, site, inputs, contract, wide)
        result = result.inflate(change.bound)
        inner = operator.rounding(site, inputs, result, _within(site, contract, wide))
        radius = inner.radius + change
        r, reached = rounder(site, contract), result.inflate(radius.bound)
        back = conversion_error(r, wide, reached)
        if np.any(radius.bound == 0):
            # computed in the narrow format without an error, f(x̂) is a number of that format,
            # which may still be flushed when it is converted
            narrow = operator.rounding(site, inputs, result, contract).radius
            copied = conversion_error(r, r.format, reached)
            back = apply(HELD_ALREADY, e=back, f=copied, wide=radius, narrow=narrow)
        moved = replace(inner, radius=radius + back)
        found = no_overflow(moved, r, add_up(reached.magnitude, back.bound))
        return found.using(ACCUMULATED)

    return replace(operator, runtime=runtime, rounding=rounding)


def _read(
    operator: Operator,
    site: Site,
    inputs: Sequence[Interval],
    contract: RuntimeContract,
    wide: FloatFormat,
) -> tuple[Sequence[Interval], Radius]:
    """The inputs as they may be read into the wide format, and how far that moves f of them.

    Where operands are flushed, numbers that are subnormal in the wide format, too, are so operation
    by operation; stored ones are accounted for on their own path (`stored_loss`).
    """
    unmoved = exactly_zero(EXACT, site.outputs[0].shape)
    operands, results = (s is not Subnormals.KEEP for s in (contract.operands, contract.results))
    if not operands and not results:
        return inputs, unmoved
    lost = []
    for position, x in zip(site.variable, inputs, strict=True):
        dtype = site.type_of(position).dtype
        loss = exactly_zero(EXACT, x.shape)
        if dtype.is_float:
            tiny = flushed_below(into(wide, contract.format_of(dtype)), operands, results)
            if not operands or tiny > 2.0**wide.emin:
                loss = below(x, tiny)
        lost.append(loss)
    if not any(np.any(loss.bound) for loss in lost):
        return inputs, unmoved
    moved = [with_zero(x, loss.bound > 0) for x, loss in zip(inputs, lost, strict=True)]
    return moved, operator.differences(site, inputs, lost).radius


def _wide(site: Site, contract: RuntimeContract) -> FloatFormat | None:
    dtype = site.outputs[0].dtype
    return contract.wider_than(dtype) if dtype.is_float else None


def _within(site: Site, contract: RuntimeContract, wide: FloatFormat) -> RuntimeContract:
    return contract.within(wide, contract.format_of(site.outputs[0].dtype))
