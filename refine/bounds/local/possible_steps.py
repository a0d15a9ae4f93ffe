"""What a step gives of what each element of its operands may be, under a contract."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from encoders.arithmetic.number_path import stored
from encoders.arithmetic.possible import Possible
from encoders.arithmetic.values import Inputs
from encoders.contract.contract import AnyOrder, Normalization, RoundingMode, RuntimeContract
from encoders.contract.orders import AlignedSteps, Sequential
from encoders.functions.accuracy import Transcendental
from encoders.operator import RuntimeSemantics
from encoders.program import Step
from encoders.rounding.possible_arithmetic import PossibleArithmetic
from encoders.scheduling import contract_at
from encoders.traits import Absorption
from onnx_import.errors import UnsupportedModel
from onnx_import.graph import Array, DType, TensorType
from onnx_import.tensors import integer_limits

PossibleTensors: TypeAlias = Mapping[str, Possible]


def covers(contract: RuntimeContract) -> bool:
    """Does every operation round to nearest, and nothing else?"""
    orders = [contract.order, *(r.schedule.order for r in contract.rules)]
    steps = any(
        isinstance(o, AlignedSteps) or (isinstance(o, AnyOrder) and o.alignment is not None)
        for o in orders
    )
    plain = contract.factor_format is None and contract.rounding is RoundingMode.NEAREST
    return plain and not steps and not contract.exact


@dataclass(frozen=True)
class PossibleSteps:
    """Steps in whatever order sums may go, each of operands that are independent of each other."""

    contract: RuntimeContract

    def of(self, step: Step, reads: PossibleTensors) -> Iterable[Possible]:
        """What the outputs may be."""
        kinds = step.site.outputs
        if any(kind.dtype.is_narrow for kind in kinds):
            return [_unknown(kind) for kind in kinds]
        forms = _forms(step)
        if forms is None:
            return [_unknown(kind) for kind in kinds]
        here = contract_at(step.site, self.contract)
        ways = [here]
        if here.normalization is Normalization.EITHER:
            every = (Normalization.FOLDED, Normalization.RECIPROCAL, Normalization.DIRECT)
            ways = [replace(here, normalization=n) for n in every]
        found: list[Possible] | None = None
        for way in ways:
            pinned = replace(way, order=Sequential())
            for form in forms:
                try:
                    made = self._formula(step, form, reads, pinned)
                except (UnsupportedModel, Transcendental, ValueError, AssertionError, KeyError):
                    return [_unknown(kind) for kind in kinds]
                if made and found is not None:
                    made = [a.either(b) for a, b in zip(found, made, strict=True)]
                found = made or found  # a formula that does not apply here gives nothing
        assert found is not None
        return [_typed(step, p, kind) for p, kind in zip(found, kinds, strict=True)]

    def held(self, held: Array, kind: TensorType, step: Step) -> Possible:
        """What a stored operand of a step is, in one sample."""
        here = contract_at(step.site, self.contract)
        if not kind.dtype.is_float:
            exact = np.asarray(held).astype(np.float64)[np.newaxis]
            return Possible.within(exact, exact, 1.0)
        arithmetic = PossibleArithmetic(here.format_of(kind.dtype), here)
        found: Possible = stored(arithmetic, held, here, kind.dtype)
        return found

    def _formula(
        self, step: Step, form: RuntimeSemantics, reads: PossibleTensors, contract: RuntimeContract
    ) -> list[Possible]:
        arithmetic = PossibleArithmetic(contract.format_of(_dtype_of(step)), contract)
        given: Inputs[Possible] = step.site.arguments(
            (reads[t] for t in step.reads), lambda held, kind: self.held(held, kind, step)
        )
        return list(form(step.site, given, arithmetic, contract))


def _forms(step: Step) -> tuple[RuntimeSemantics, ...] | None:
    """The formulas by which runtimes compute the node; None where not all are known."""
    operator = step.operator
    forms = tuple(dict.fromkeys((operator.runtime, *operator.followed)))
    every = operator.formulas <= len(forms) and operator.follows(step.site)
    return forms if every else None


def _dtype_of(step: Step) -> DType:
    """As the emulator has it: the first floating-point type of what is written, else read."""
    kinds = (*step.site.outputs, *(kind for kind in step.site.inputs if kind is not None))
    return next((kind.dtype for kind in kinds if kind.dtype.is_float), DType.FLOAT32)


def _unknown(kind: TensorType) -> Possible:
    return Possible.anything((1, *kind.shape), nan=kind.dtype.is_float)


def _typed(step: Step, found: Possible, kind: TensorType) -> Possible:
    """Integers are never NaN, and may wrap, but for those that are stored clamped to their type,
    moved about, or chosen among others of a byte."""
    known = kind.dtype.is_float or kind.dtype is DType.BOOL
    if not known and not np.any(found.nan):
        meaning = step.operator.meant(step.site)
        known = (meaning is not None and meaning.written is not None) or step.operator.movement
        known = known or (_chooses(step) and _in_a_byte(found, kind))
    if known:
        return found.moved(lambda array: np.broadcast_to(array, (array.shape[0], *kind.shape)))
    return Possible.anything((1, *kind.shape), nan=False)


def _chooses(step: Step) -> bool:
    absorbs = step.operator.absorbs
    return absorbs is not None and absorbs.by is Absorption.ALIKE


def _in_a_byte(found: Possible, kind: TensorType) -> bool:
    if kind.dtype not in (DType.INT8, DType.UINT8):
        return False
    least, most = integer_limits(kind.dtype.value)
    return bool(np.all(found.lo >= least) and np.all(found.hi <= most))
