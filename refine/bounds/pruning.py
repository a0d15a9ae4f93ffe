"""Which elements of which tensors are worth a pull-back to the network's inputs."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from encoders.numbers.enclosure import FloatArray, Interval
from encoders.program import Program, Step

Rows = npt.NDArray[np.intp]

MOST_SPLIT_INPUTS = 256  # beyond that, splitting inputs is hopeless and not prepared for
_AFFORDABLE = (
    4 * 10**9
)  # multiply-adds of a tensor's pull-backs before only unstable elements get one
_MOST_WORK = 2 * 10**10  # multiply-adds beyond which the elements most in doubt get one
_MOST_FOR_OUTPUTS = 2 * 10**11  # multiply-adds, likewise, of an output's elements
_FEWEST_OUTPUTS = 10  # that get one nevertheless
_MOST_COEFFICIENTS = 4 * 10**9  # of the functionals of an output, beyond which the worst get one
_MOST_HIDDEN = 2**34  # the same, of a tensor inside
_WORST = 2**29  # coefficients of those
_MOST_OF_FEW = 2**26  # coefficients carried past nodes, where most elements get no pull-back
_FEW = 8  # one element in so many
_TOO_FEW = 512  # so few that what reads the tensor would hardly notice
_ASKED_FIRST = 2**26  # coefficients, beyond which a part shows whether any are worth it
_PART = 2**22  # of them
_MOST_VISITS = 2**17  # nodes that all pull-backs together pass, beyond which they pass half that
_NARROW = 2.0**-26  # of its magnitude: a width that says that an element is known
_LARGE = 16  # times an error, that is
_PER_ELEMENT = 8  # multiply-adds that were held to take as long as one coefficient past a node
COSTLY = 4 * 10**10  # multiply-adds and what takes as long, beyond which a part is asked first
_PART_OF_COSTLY = 0.1
_WORTHWHILE = 0.99
_WORTH_MUCH = 0.9
_FEWEST_ASKED = 2  # evenly, and as many where the measure is largest


@dataclass(frozen=True)
class Effort:
    """What one pull-back from here costs: multiply-adds, and coefficients carried past nodes."""

    work: int = 0
    elements: int = 0

    def after(self, work: int, elements: int) -> Effort:
        """The effort of a pull-back that passes one more node first."""
        return Effort(self.work + work, self.elements + elements)

    def times(self, copies: int) -> Effort:
        """The effort of so many functionals."""
        return Effort(copies * self.work, copies * self.elements)

    @property
    def whole(self) -> int:
        """One number for both, in multiply-adds, at least 1."""
        return max(self.work, _PER_ELEMENT * self.elements, 1)


def widths(x: Interval) -> FloatArray:
    """hi − lo, element by element; +∞ where both ends are infinite."""
    with np.errstate(invalid="ignore"):
        return np.nan_to_num(x.hi - x.lo, nan=np.inf)


def worth_refining(
    program: Program, tensor: str, x: Interval, measure: FloatArray, effort: Effort
) -> Rows:
    """Flat positions that get a pull-back of so much effort each.

    Outputs all do, unless they are so large, or the network is, that their functionals alone take
    too long: then a few elements with the largest `measure`, or one where these would be next to
    none. Before operators that read only what is positive, those that may be positive do where that
    is affordable, else the unstable ones, the most doubtful first; before other nonlinear
    operators, as many as are affordable, widest first. Inside a network none do where these would
    be next to none.
    """
    if tensor in program.graph.outputs:
        size = x.lo.size
        most = _few(size, _MOST_FOR_OUTPUTS // max(effort.work, 1), effort)
        most = max(most, _FEWEST_OUTPUTS)
        if size**2 > _MOST_COEFFICIENTS:
            most = min(most, _few(size, _WORST // size, effort))
        if most * _TOO_FEW < size:
            most = 1  # which says what its bound is made of
        return np.arange(size) if most >= size else _most(measure, most)
    if all(step.affine or step.operator.positive_part for step in program.readers(tensor)):
        alive = np.flatnonzero(x.hi > 0)
        small = len(alive) * x.lo.size <= _MOST_HIDDEN
        if small and len(alive) * effort.work <= _AFFORDABLE:
            return alive
        doubt = np.minimum(-x.lo, x.hi).reshape(-1)
        most = _few(x.lo.size, int(_MOST_WORK // max(effort.work, 1)), effort)
        order = _enough(doubt, most if small else min(most, _WORST // x.lo.size))
        return order[doubt[order] > 0]
    return _enough(widths(x), _few(x.lo.size, int(_AFFORDABLE // effort.whole), effort))


def most_worth(program: Program, tensor: str, effort: Effort) -> int:
    """So many elements get a pull-back of so much effort at most, whatever their ranges are."""
    size, work = program.graph.types[tensor].size, max(effort.work, 1)
    if tensor in program.graph.outputs:
        return min(size, max(_MOST_FOR_OUTPUTS // work, _FEWEST_OUTPUTS))
    if all(step.affine or step.operator.positive_part for step in program.readers(tensor)):
        return min(size, _MOST_WORK // work)
    return min(size, max(_AFFORDABLE // effort.whole, 1))


def values_worth_refining(program: Program, tensor: str, x: Interval, effort: Effort) -> Rows:
    """Flat positions whose ranges get pull-backs: no element that is known to many bits."""
    wide = widths(x)
    rows = worth_refining(program, tensor, x, wide, effort)
    return rows[(wide > _NARROW * x.magnitude).reshape(-1)[rows]]


def errors_worth_refining(
    program: Program, tensor: str, x: Interval, errors: FloatArray, effort: Effort
) -> Rows:
    """Flat positions whose errors get pull-backs. What an operator does with an element whose real
    value is known hangs on its error only where that is large beside the value."""
    rows = worth_refining(program, tensor, x.inflate(errors), errors, effort)
    if tensor in program.graph.outputs or not bends_at_zero(program, tensor):
        return rows
    doubtful = (widths(x) > _NARROW * x.magnitude) | (_LARGE * errors > x.magnitude)
    return rows[doubtful.reshape(-1)[rows]]


def bends_at_zero(program: Program, tensor: str) -> bool:
    """Is every step that reads it affine on either side of zero?"""
    return all(
        step.affine or step.operator.positive_part or step.operator.branches
        for step in program.readers(tensor)
    )


def _few(size: int, most: int, effort: Effort) -> int:
    """So many, or fewer where they are few of all: the others keep what they have anyway."""
    return most if _FEW * most >= size else min(most, _MOST_OF_FEW // max(effort.elements, 1))


def in_parts(
    rows: Rows, measure: FloatArray, each: float = 0.0, costly: float = COSTLY
) -> tuple[Rows, Rows]:
    """Flat positions: a part that shows whether the others are worth pull-backs, and the others;
    all of them, and none, where that takes little. What measures 0 is in neither where it does not.

    The part is taken evenly, and where the measure is largest. `each` is what one costs, and
    `costly` what takes more than little, in multiply-adds.
    """
    size, flat = measure.size, measure.reshape(-1)
    if len(rows) * size <= _ASKED_FIRST and len(rows) * each <= costly:
        return rows, rows[:0]
    rows = rows[flat[rows] > 0]
    few = max(_PART // size, 1)
    if each:
        few = min(few, max(int(_PART_OF_COSTLY * costly // each), _FEWEST_ASKED))
    asked = np.zeros(len(rows), np.bool_)
    asked[:: max(len(rows) // few, 1)] = True
    asked[np.argsort(-flat[rows], kind="stable")[:few]] = True
    return rows[asked], rows[~asked]


def _enough(measure: FloatArray, most: int) -> Rows:
    """The largest, so many of them, one at least; none where that is next to nothing of all."""
    return _most(measure, most)[: measure.size if _TOO_FEW * max(most, 1) >= measure.size else 0]


def _most(measure: FloatArray, most: int) -> Rows:
    """Flat positions of the largest, so many of them, one at least; in order."""
    return largest_of(measure.reshape(-1), max(most, 1))


def largest_of(measure: FloatArray, most: int) -> Rows:
    """Positions of the largest, so many of them; in order."""
    return np.sort(np.argsort(-measure, kind="stable")[:most])


def gained(before: FloatArray, after: FloatArray, cost: float, costly: float = COSTLY) -> bool:
    """Did the part that was asked make any of these sizes smaller, to speak of? Where all rows
    cost more than is `costly`, by a tenth."""
    least = _WORTHWHILE if cost <= costly else _WORTH_MUCH
    return bool(np.any(after < least * before))


def deepest(program: Program) -> int | None:
    """How many nodes a pull-back from inside passes at most: any number, None, unless so many
    tensors of so deep a network want one that the time, quadratic in its depth, would be long."""
    places = [i for i, s in enumerate(program.steps) if feeds_nonlinear(program, s.output)]
    return None if sum(places) <= _MOST_VISITS else max(_MOST_VISITS // (2 * len(places)), 1)


def gains(program: Program, step: Step, bounded: Container[str]) -> bool:
    """Can pull-backs bound a node's output better than its own range does?

    Not where it is a scalar formula of a tensor `bounded` as well as they can; nor where it is
    affine in inputs that vary independently (and are too many to be split, which needs to know
    their pull).
    """
    if len(step.reads) != 1:
        return True
    (tensor,) = step.reads
    if _scalar(step) and tensor in bounded:
        return False
    graph = program.graph
    few = any(graph.types[t].size <= MOST_SPLIT_INPUTS for t in graph.inputs)
    return few or not (step.affine and _independent(program, tensor))


def _independent(program: Program, tensor: str) -> bool:
    """Is every element of its own range whatever the others are?"""
    while (writer := program.writers.get(tensor)) is not None:
        kept = _scalar(writer) or writer.operator.movement
        if not kept or len(writer.reads) != 1:
            return False
        (tensor,) = writer.reads
    return True


def _scalar(step: Step) -> bool:
    """Is every output element a formula of the input element in its place?"""
    site = step.site
    same = len(site.variable) == 1 and site.type_of(site.variable[0]).shape == site.outputs[0].shape
    return same and step.operator.element is not None


def feeds_nonlinear(program: Program, tensor: str) -> bool:
    """Does a step read the tensor that is not affine there?"""
    return any(not step.affine for step in program.readers(tensor))
