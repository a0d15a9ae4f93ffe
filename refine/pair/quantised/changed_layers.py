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
    places = [i for i, c in enumerate(step.site.constants) if c is None]
    plain = len(places) == 1 and step.node.op == copy.node.op
    weights = [i for i, c in enumerate(step.site.constants) if c is not None]
    same = attributes_of(step, False) == attributes_of(copy, False)
    plain = plain and same
    if plain and step.operator.likeness.linear_in_constants and len(weights) == 1:
        (at,) = weights
        a = np.asarray(copy.site.constants[at], np.float64)
        b = np.asarray(step.site.constants[at], np.float64)
        if a.shape == b.shape:
            moved = copy.operator.differences(copy.site, real, errors)
            less = np.asarray(a - b)
            missed = np.abs(np.asarray(two_sum_error(a, -b, less), np.float64))
            shift = step.operator.values(_with(step, at, less), real)
            range_ = None
            if np.any(missed):
                wide = [Interval(-x.magnitude, x.magnitude) for x in real]
                off = step.operator.values(_with(step, at, missed), wide).range.magnitude
                range_ = Interval(-off, off)
            return Through(moved=moved, shift=shift, range=range_)
    if plain and step.operator.likeness.commuting is Commuting.SUM and len(weights) == 1:
        (at,) = weights
        a, b = (np.asarray(s.site.constants[at], np.float64) for s in (copy, step))
        shape = step.site.outputs[0].shape
        lo, hi = (np.broadcast_to(v, shape) for v in (add_down(a, -b), add_up(a, -b)))
        moved = step.operator.differences(step.site, real, errors)
        return Through(moved=moved, range=Interval(lo, hi))
    after = copy.operator.values(copy.site, held).range
    return Through(range=minus(known(after), meant))


def _with(step: Step, at: int, values: FloatArray) -> Site:
    constants = list(step.site.constants)
    constants[at] = values
    kinds = list(step.site.inputs)
    kinds[at] = TensorType(DType.FLOAT64, values.shape)
    return replace(step.site, constants=tuple(constants), inputs=tuple(kinds))
