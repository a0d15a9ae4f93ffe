"""How a difference passes a layer whose constants a quantised copy has changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from encoders.arithmetic.numpy_arithmetic import two_sum_error
from encoders.lemmas.kernel import Radius
from encoders.numbers.enclosure import FloatArray, Interval, add_down, add_up
from encoders.program import Step
from encoders.site import Site
from encoders.traits import Commuting
from onnx_import.graph import DType, TensorType
from refine.pair.quantised.through import Through, known, minus
from refine.pair.sameness import attributes_of


def changed_layer(
    step: Step,
    copy: Step,
    real: Sequence[Interval],
    errors: Sequence[Radius],
    held: Sequence[Interval],
    meant: Interval,
) -> Through:
    """A layer whose constants, or operator, the copy changed: what it reads is in `real`, off by
    `errors`, x̂ in `held`; `meant` is the range of its own real values."""
    at = _changed_constant(step, copy)
    if at is not None:
        like = step.operator.likeness
        a, b = (np.asarray(s.site.constants[at], np.float64) for s in (copy, step))
        if like.linear_in_constants and a.shape == b.shape:
            moved = copy.operator.differences(copy.site, real, errors)
            return replace(_other_weights(step, at, real, a=a, b=b), moved=moved)
        if like.commuting is Commuting.SUM:
            shape = step.site.outputs[0].shape
            lo, hi = (np.broadcast_to(v, shape) for v in (add_down(a, -b), add_up(a, -b)))
            moved = step.operator.differences(step.site, real, errors)
            return Through(moved=moved, range=Interval(lo, hi))
    after = copy.operator.values(copy.site, held).range
    return Through(range=minus(known(after), meant))


def _changed_constant(step: Step, copy: Step) -> int | None:
    """The input at which one operator of one other input has another constant; None where more is
    changed than that."""
    if step.node.op != copy.node.op or attributes_of(step, False) != attributes_of(copy, False):
        return None
    stored = [i for i, c in enumerate(step.site.constants) if c is not None]
    return stored[0] if len(stored) == 1 and len(step.site.constants) == 2 else None


def _other_weights(
    step: Step, at: int, real: Sequence[Interval], *, a: FloatArray, b: FloatArray
) -> Through:
    """What weights a in place of b add, a functional of the real values."""
    less = np.asarray(a - b)
    missed = np.abs(np.asarray(two_sum_error(a, -b, less), np.float64))
    shift = step.operator.values(_with(step, at, less), real)
    if not np.any(missed):
        return Through(shift=shift)
    wide = [Interval(-x.magnitude, x.magnitude) for x in real]
    off = step.operator.values(_with(step, at, missed), wide).range.magnitude
    return Through(shift=shift, range=Interval(-off, off))


def _with(step: Step, at: int, values: FloatArray) -> Site:
    constants = list(step.site.constants)
    constants[at] = values
    kinds = list(step.site.inputs)
    kinds[at] = TensorType(DType.FLOAT64, values.shape)
    return replace(step.site, constants=tuple(constants), inputs=tuple(kinds))
