"""Operators that only move data: exact in both semantics, 1-to-1 on differences."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from encoders.arithmetic.exact_fields import ObjectArray
from encoders.arithmetic.runtime import Arithmetic, moved
from encoders.arithmetic.values import Inputs, Movement, V
from encoders.contract.contract import RuntimeContract
from encoders.gradients.rule import Gradient
from encoders.lemmas.kernel import Radius
from encoders.numbers.enclosure import FloatArray, Interval
from encoders.operator import DifferenceMap, Field, Operator, RoundingBound, Site, ValueMap
from encoders.relaxations.affine import (
    AffineMap,
    affine_differences,
    affine_map,
    affine_values,
    moved_part,
)
from encoders.rounding.rounding_bounds import no_rounding, rounder, stored_loss
from encoders.traits import Likeness
from onnx_import.graph import COMPUTED


def movement_operator(
    name: str,
    since: int,
    forward: Callable[[Site], Movement],
    backward: Callable[[Site], Movement],
    check: Callable[[Site], None],
) -> Operator:
    """An operator on its first input (others are constants that say how).

    `forward(site)` maps (k, *in) → (k, *out), `backward(site)` is its transpose.
    """

    def real(site: Site, inputs: Inputs[ObjectArray], field: Field) -> tuple[ObjectArray, ...]:
        return (forward(site)(inputs[0]),)

    def runtime(
        site: Site, inputs: Inputs[V], arithmetic: Arithmetic[V], contract: RuntimeContract
    ) -> tuple[V, ...]:
        return (moved(inputs[0], forward(site)),)

    def affine(site: Site) -> AffineMap:
        if not site.variable:
            return affine_map((), site.outputs[0].shape, stored(site))
        part = moved_part(forward(site), backward(site))
        return affine_map((part,), site.outputs[0].shape)

    def stored(site: Site) -> FloatArray:
        return np.asarray(forward(site)(np.asarray(site.constants[0], np.float64)[None])[0])

    def values(site: Site, ranges: Sequence[Interval]) -> ValueMap:
        return affine_values(affine(site), ranges)

    def differences(
        site: Site, ranges: Sequence[Interval], errors: Sequence[Radius]
    ) -> DifferenceMap:
        return affine_differences(affine(site), errors)

    def rounding(
        site: Site, inputs: Sequence[Interval], result: Interval, contract: RuntimeContract
    ) -> RoundingBound:
        if site.variable or not site.outputs[0].dtype.is_float:
            return no_rounding(site)
        return RoundingBound(stored_loss(rounder(site, contract), stored(site)))

    return Operator(
        name,
        since,
        check=check,
        real=real,
        runtime=runtime,
        values=values,
        differences=differences,
        rounding=rounding,
        movement=True,
        affine=True,
        dtypes=COMPUTED,
    )


RESHAPED = Likeness(reshapes=True)
_RESHAPED = Gradient(rule=lambda r: {0: r.up.reshaped(r.x.shape)})


def reshaping_operator(
    name: str,
    since: int,
    parameters: Sequence[int] = (),
    likeness: Likeness = RESHAPED,
) -> Operator:
    """An operator whose output is its first input in row-major order under the inferred shape.

    `parameters` are the positions of inputs that must be constants.
    """

    def check(site: Site) -> None:
        require_constants(site, parameters)
        given, made = site.type_of(0), site.outputs[0]
        if given.size != made.size:
            raise site.unsupported(
                f"its input of shape {list(given.shape)} has no {made.size} elements, which the "
                f"shape {list(made.shape)} takes"
            )

    def forward(site: Site) -> Movement:
        shape = site.outputs[0].shape
        return lambda v: v.reshape(v.shape[0], *shape)

    def backward(site: Site) -> Movement:
        shape = site.type_of(0).shape
        return lambda v: v.reshape(v.shape[0], *shape)

    made = movement_operator(name, since, forward, backward, check).derived(_RESHAPED)
    return replace(made, likeness=likeness, rowwise=lambda site: site.variable == (0,))


def require_constants(site: Site, positions: Sequence[int]) -> None:
    """Raises UnsupportedModel if one of these inputs is computed from the network's input."""
    for position in positions:
        if position in site.variable:
            raise site.unsupported(f"input {position} must be a constant")


def indices(shape: tuple[int, ...]) -> np.ndarray[tuple[int, ...], np.dtype[np.intp]]:
    """Flat row-major positions of a tensor's elements, in its own shape."""
    return np.arange(math.prod(shape), dtype=np.intp).reshape(shape)
