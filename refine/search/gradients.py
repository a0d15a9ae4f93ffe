"""The derivative of a network at one point, in float64: where a small change would go.

Unproved, for guiding a search only: slopes are those of the operators' `differences` on ranges
that are a single point. Where an operator has no slope, nothing is passed on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from encoders.lemmas.differences import GIVEN_ERROR
from encoders.lemmas.kernel import apply
from encoders.numbers.enclosure import FloatArray, point
from encoders.operator import DifferenceMap
from encoders.program import Program, Step, backward, program_of
from onnx_import.graph import Graph

_NEARBY = 2.0**-40  # a secant over no distance at all could have any slope


def adjoint(
    graph: Graph, values: Mapping[str, FloatArray], start: Mapping[str, FloatArray]
) -> Mapping[str, FloatArray]:
    """What functionals become on every tensor before them, as `adjoint_of` has it."""
    return adjoint_of(program_of(graph), values, start)


def adjoint_of(
    program: Program, values: Mapping[str, FloatArray], start: Mapping[str, FloatArray]
) -> Mapping[str, FloatArray]:
    """What functionals become on every tensor of a program before them.

    `values` holds every tensor's value at the point, of the tensor's shape; `start` coefficients
    (k, *shape) on some tensors. The result has coefficients (k, *shape) for each tensor that they
    reach, those in `start` included; what is not finite becomes 0.
    """
    reached = {tensor: np.asarray(c, np.float64) for tensor, c in start.items()}
    backward(program, _Derivative(values, reached))
    return reached


@dataclass(frozen=True)
class _Derivative:
    """Functionals on the way back along the derivative at a point; what arrives stays on record."""

    values: Mapping[str, FloatArray]
    reached: dict[str, FloatArray]

    def arrived(self, step: Step) -> FloatArray | None:
        return self.reached.get(step.output)

    def carry(self, step: Step, arrived: FloatArray) -> None:
        pulled = slopes_at(step, self.values).backward(arrived)
        for tensor, more in zip(step.reads, pulled.coefficients, strict=True):
            if more is not None:
                finite = np.nan_to_num(more, nan=0.0, posinf=0.0, neginf=0.0)
                before = self.reached.get(tensor)
                self.reached[tensor] = finite if before is None else before + finite


def slopes_at(step: Step, values: Mapping[str, FloatArray]) -> DifferenceMap:
    """The node's own derivative at the point."""
    ranges = [point(values[t]) for t in step.reads]
    nearly = [_NEARBY * (1.0 + np.abs(values[t])) for t in step.reads]
    with np.errstate(all="ignore"):
        errors = [apply(GIVEN_ERROR, U=e) for e in nearly]
        return step.operator.differences(step.site, ranges, errors)


def values_at(every: Mapping[str, FloatArray], sample: int) -> dict[str, FloatArray]:
    """One sample of a batch of tensors of shape (samples, *shape)."""
    return {t: np.asarray(v[min(sample, v.shape[0] - 1)], np.float64) for t, v in every.items()}
