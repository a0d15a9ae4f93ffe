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
    `errors`, x̂ in `held`; `meant` is the range of its own real values.

    f̂(x̂) − f(x) is f̂(x̂) − f̂(x), a difference of one function, and f̂(x) − f(x), of real values.
    """
    like, same = step.operator.likeness, _same_but_for_constants(step, copy)
    # z·scale + bias is linear in both together, whatever z
    linear = like.linear_in_constants or step.operator.normalizes is not None
    if same and linear and _shapes(step) == _shapes(copy):
        moved = copy.operator.differences(copy.site, real, errors)
        return replace(_other_weights(step, copy, real), moved=moved)
    if same and like.commuting is Commuting.SUM and len(step.site.constants) == 2:
        at = next(i for i, c in enumerate(step.site.constants) if c is not None)
        a, b = (np.asarray(s.site.constants[at], np.float64) for s in (copy, step))
        shape = step.site.outputs[0].shape
        lo, hi = (np.broadcast_to(v, shape) for v in (add_down(a, -b), add_up(a, -b)))
        moved = step.operator.differences(step.site, real, errors)
        return Through(moved=moved, range=Interval(lo, hi))
    after = copy.operator.values(copy.site, held).range
    return Through(range=minus(known(after), meant))


def _same_but_for_constants(step: Step, copy: Step) -> bool:
    """Is it one operator of one other input, the first or the second, with constants in the same
    places?"""
    if step.node.op != copy.node.op or attributes_of(step, False) != attributes_of(copy, False):
        return False
    stored, other = ([c is not None for c in s.site.constants] for s in (step, copy))
    places = step.site.variable
    return stored == other and any(stored) and len(places) == 1 and places[0] < 2


def _shapes(step: Step) -> list[tuple[int, ...] | None]:
    return [None if c is None else c.shape for c in step.site.constants]


def _other_weights(step: Step, copy: Step, real: Sequence[Interval]) -> Through:
    """What the copy's constants in place of a layer's add, where the layer is linear in all of them
    together: a functional of the real values."""
    less: list[FloatArray | None] = []
    missed: list[FloatArray | None] = []
    for a, b in zip(copy.site.constants, step.site.constants, strict=True):
        if a is None or b is None:
            less.append(None)
            missed.append(None)
            continue
        mine, own = (np.asarray(v, np.float64) for v in (a, b))
        apart: FloatArray = np.asarray(mine - own)
        less.append(apart)
        missed.append(np.abs(np.asarray(two_sum_error(mine, -own, apart), np.float64)))
    shift = step.operator.values(_with(step, less), real)
    if not any(m is not None and np.any(m) for m in missed):
        return Through(shift=shift)
    wide = [Interval(-x.magnitude, x.magnitude) for x in real]
    off = step.operator.values(_with(step, missed), wide).range.magnitude
    return Through(shift=shift, range=Interval(-off, off))


def _with(step: Step, values: Sequence[FloatArray | None]) -> Site:
    kinds = [
        kind if v is None else TensorType(DType.FLOAT64, v.shape)
        for kind, v in zip(step.site.inputs, values, strict=True)
    ]
    return replace(step.site, constants=tuple(values), inputs=tuple(kinds))
