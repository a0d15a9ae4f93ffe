"""How far an execution is from the real network, for many inputs at once, in float64.

Good enough to guide a search (`ApproximateReals`); `refine.witness.witness` decides exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

import numpy as np
import numpy.typing as npt

from encoders.arithmetic.approximate_field import ApproximateReals
from encoders.contract.contract import RuntimeContract
from encoders.numbers.enclosure import FloatArray
from gpu_check.emulator.emulator import emulate
from gpu_check.emulator.exact import evaluate_real
from onnx_import.graph import Array, DType, Graph
from refine.common.rounding import float_down
from refine.domain.box import Box
from refine.results.verdict import Tolerance

Points = Mapping[str, FloatArray]
Run = Callable[[Graph, Mapping[str, Array], RuntimeContract], Mapping[str, Array]]


@dataclass(frozen=True)
class Candidate:
    """An input (arrays of the tensors' shapes), an execution, and about how large its error is.

    The runtime receives `inputs`, the real network `real_inputs` (the same, unless the domain is
    one of real numbers that the runtime receives rounded: then float64 numbers, or rationals in an
    array of objects).
    `excess` is the error divided by ε where there is one, else the error itself; an infinite or
    NaN output counts as infinite. `against` is the pinned contract under which another graph ran
    that the outputs were held against; None where they were held against the graph's real values.
    """

    inputs: Mapping[str, Array]
    real_inputs: Mapping[str, Array]
    execution: RuntimeContract
    output: str
    index: tuple[int, ...]
    excess: float
    against: RuntimeContract | None = None


class Reference(Protocol):
    """What outputs are held against at points of a box: (samples, *shape) of each output."""

    @property
    def execution(self) -> RuntimeContract:
        """The pinned contract under which it is computed; `exact` over the reals."""
        ...

    def __call__(self, hunt: Hunt, points: Points) -> Mapping[str, FloatArray]: ...


@dataclass(frozen=True)
class Hunt:
    """What is searched: the network, one box of its domain, the allowed executions, and ε.

    `meant` gives what the outputs are compared with, by default their real values. `relative`: in
    parts of these.
    """

    graph: Graph
    box: Box
    contract: RuntimeContract
    tolerance: Tolerance
    meant: Reference | None = None
    relative: bool = False

    def real(self, points: Points) -> dict[str, FloatArray]:
        """The inputs of the real network that the runtime receives as `points`, to float64."""
        box = self.box
        return {n: np.clip(v, box.real_lo[n], box.real_hi[n]) for n, v in points.items()}

    @property
    def reals(self) -> ApproximateReals:
        """Numbers with room for the errors of float64 networks."""
        return ApproximateReals(any(t.dtype is DType.FLOAT64 for t in self.graph.types.values()))

    def real_outputs(self, points: Points) -> Mapping[str, FloatArray]:
        """The outputs of the real network, (samples, *shape) each, as precise as is needed."""
        return real_outputs(self.graph, self.real(points), self.reals)

    def real_values(self, points: Points) -> Mapping[str, FloatArray]:
        """Every tensor of the real network, (samples, *shape) each, in float64."""
        return evaluate_real(self.graph, self.real(points), ApproximateReals(), every_tensor=True)


@dataclass(frozen=True)
class Scores:
    """Per sample: the largest excess over all output elements, and the element that has it.

    `place` counts the elements of all outputs in order.
    """

    excess: FloatArray
    place: npt.NDArray[np.intp]


def score(hunt: Hunt, points: Points, execution: RuntimeContract, run: Run = emulate) -> Scores:
    """Run points of the box, of shape (samples, *shape) per input, and compare the outputs."""
    graph = hunt.graph
    samples = len(next(iter(points.values())))
    with np.errstate(all="ignore"):
        computed = (
            hunt.real_outputs(points)
            if execution.exact
            else run(graph, received(hunt, points, execution), execution)
        )
        exact = hunt.real_outputs(points) if hunt.meant is None else hunt.meant(hunt, points)
        columns = [
            _excess(computed[t], exact[t], samples, hunt.relative) * _scale(hunt.tolerance.of(t))
            for t in graph.outputs
        ]
    excess = np.concatenate(columns, axis=1)
    if not excess.shape[1]:
        return Scores(np.zeros(samples), np.zeros(samples, np.intp))
    place = np.argmax(excess, axis=1)
    return Scores(excess[np.arange(samples), place], place)


def real_outputs(graph: Graph, points: Points, field: ApproximateReals) -> Mapping[str, FloatArray]:
    """The outputs of a real network at points of shape (samples, *shape)."""
    found = evaluate_real(graph, {n: v.astype(field.dtype) for n, v in points.items()}, field)
    return {t: np.asarray(v, field.dtype) for t, v in found.items()}


def received(hunt: Hunt, points: Points, execution: RuntimeContract) -> dict[str, Array]:
    """Points in the types in which the emulator takes them."""
    if execution.compute_format is not None:
        return dict(points)
    types = hunt.graph.types
    return {name: v.astype(types[name].dtype.numpy) for name, v in points.items()}


def _excess(computed: Array, exact: FloatArray, samples: int, relative: bool) -> FloatArray:
    """|computed − exact|, or that in parts of |exact|; infinite where the runtime's value is no
    number, 0 where only the real one is none: nothing can be shown there."""
    value: FloatArray = np.asarray(computed, np.promote_types(computed.dtype, np.float64))
    value = value.reshape(len(computed), -1)
    meant = np.asarray(exact).reshape(len(exact), -1)
    error = np.abs(value - meant)
    if relative:
        error = np.where(error == 0, 0.0, error / np.abs(meant))
    error = error.astype(np.float64)
    error = np.where(np.isfinite(value), np.where(np.isnan(error), 0.0, error), np.inf)
    return np.broadcast_to(error, (samples, error.shape[1]))


def candidate(
    hunt: Hunt, points: Points, sample: int, scores: Scores, execution: RuntimeContract
) -> Candidate:
    """One scored sample as a candidate."""
    output, flat = element_at(hunt.graph, int(scores.place[sample]))
    shape = hunt.graph.types[output].shape
    point = {name: v[sample] for name, v in points.items()}
    return Candidate(
        point,
        hunt.box.real_point(point),
        execution=execution,
        output=output,
        index=tuple(int(i) for i in np.unravel_index(flat, shape)),
        excess=float(scores.excess[sample]),
        against=None if hunt.meant is None else hunt.meant.execution,
    )


def element_at(graph: Graph, place: int) -> tuple[str, int]:
    """The output, and the flat element of it, that `Scores.place` means."""
    for output in graph.outputs:
        if place < graph.types[output].size:
            return output, place
        place -= graph.types[output].size
    raise ValueError("there are not so many output elements")


def _scale(epsilon: Fraction | None) -> float:
    return 1.0 if epsilon is None else 1.0 / max(float_down(epsilon), 2.0**-1000)
