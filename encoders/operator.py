"""What an operator is: one frozen record of all its semantics, filled in by one file each.

The real semantics (`real`) and the run-time semantics (`runtime`) are separate functions written
against different interfaces, so that one slip cannot hide in both. The three abstractions
(`values`, `differences`, `rounding`) are what bounds are computed from.

Conventions. Every array that these receive has a leading sample axis (constants: length 1), and
every coefficient array a leading axis of functionals. With x the real and x̂ the run-time value of
a tensor, d = x̂ − x. A node computes d_out = f(x̂_in) − f(x_in) + η with |η| ≤ its rounding error.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from encoders.arithmetic.exact_fields import ObjectArray
from encoders.arithmetic.runtime import Arithmetic, Relation
from encoders.arithmetic.values import Inputs, V
from encoders.contract.contract import RuntimeContract
from encoders.functions.curve import Number
from encoders.functions.function import Function
from encoders.gradients.rule import Gradient
from encoders.lemmas.kernel import Radius, apply, carried_back
from encoders.lemmas.lemma import Lemma
from encoders.lemmas.terms import Formula, bound, term
from encoders.numbers.enclosure import Interval, add_up, dot_up, inner_up, lowest, some
from encoders.numbers.formats import FloatFormat
from encoders.quantizing import Meaning
from encoders.site import Element
from encoders.site import Site as Site
from encoders.site import remembered as remembered
from encoders.traits import (
    NOWHERE,
    UNLIKE,
    Absorbing,
    Breaks,
    Discontinuity,
    Likeness,
    Sums,
)
from onnx_import.graph import Array, DType, Graph, Node

FLOATS = (DType.FLOAT32, DType.FLOAT16, DType.BFLOAT16, DType.FLOAT64)
FloatArray = npt.NDArray[np.float64]
T = TypeVar("T")


class Field(Protocol):
    """Exact numbers in numpy object arrays: rationals, balls, or Z3 real terms.

    The numbers themselves support + − × ÷ with each other; what else a real semantics needs is
    here.
    """

    def constant(self, values: Array) -> ObjectArray:
        """The exact values of stored numbers, with a sample axis of length 1 put in front."""

    def number(self, value: Fraction) -> Number:
        """A rational number, exactly."""

    def maximum(self, a: ObjectArray, b: ObjectArray) -> ObjectArray:
        """The larger number, element by element."""

    def sqrt(self, a: ObjectArray) -> ObjectArray:
        """The square root. Raises `Transcendental` where these numbers have none."""

    def floor(self, a: ObjectArray) -> ObjectArray:
        """The largest integer that is not above a."""

    def nearest(self, a: ObjectArray) -> ObjectArray:
        """The nearest integers, ties to even."""

    def compare(self, relation: Relation, a: ObjectArray, b: ObjectArray) -> ObjectArray:
        """1 where a stands in this relation to b, else 0."""

    def select(self, condition: ObjectArray, a: ObjectArray, b: ObjectArray) -> ObjectArray:
        """a where the condition is not 0, else b."""

    def pi(self) -> Number:
        """π. Raises `Transcendental` where these numbers do not have it."""

    def function(self, f: Function, a: ObjectArray) -> ObjectArray:
        """An elementary function of one variable, element by element.

        Raises `Transcendental` where these numbers have no such function.
        """

    def matmul(self, a: ObjectArray, b: ObjectArray) -> ObjectArray:
        """Matrix product over the last two axes, broadcasting the others."""


@dataclass(frozen=True)
class Contribution:
    """What a linear functional of a node's output becomes on the node's inputs.

    For k functionals c: sup c·out ≤ Σ_i coefficients[i]·in_i + constant, where `coefficients` has
    one entry per variable input, of shape (k, *input shape) or None for zero, and `constant` (k,)
    is rounded up.
    """

    coefficients: tuple[FloatArray | None, ...]
    constant: FloatArray


@dataclass(frozen=True)
class Moved:
    """What a linear functional of a node's difference becomes on those of its inputs.

    For k functionals c: c·d is Σ_i coefficients[i]·d_i up to `cost`, a radius of each, with
    coefficients as in `Contribution`.
    """

    coefficients: tuple[FloatArray | None, ...]
    cost: Radius

    @property
    def constant(self) -> FloatArray:
        """The numbers of the radius."""
        return self.cost.bound


@dataclass(frozen=True)
class Carry:
    """How functionals c of a node's output are carried to its inputs, and what that costs.

    `coefficients(c)` are those on the variable inputs; c·out is at most what these give, plus
    c·exact + max(c, 0)·above + min(c, 0)·below + |c|·around + least, arrays of the output's shape.
    """

    coefficients: Callable[[FloatArray], tuple[FloatArray, ...]]
    around: FloatArray
    exact: FloatArray | None = None
    above: FloatArray | None = None
    below: FloatArray | None = None
    least: float | None = None

    def __call__(self, c: FloatArray, kept: int = 0) -> Contribution:
        """Functionals (k, *output shape) carried; over the first `kept` axes of the output costs
        are not summed (`dot_up`): positions there belong to different functionals."""
        if kept:
            return Contribution(self.coefficients(c), self._cost_apart(c, kept))
        cost = dot_up(c, self.around)
        if self.exact is not None:
            cost = add_up(inner_up(c, self.exact), cost)
        if self.above is not None and self.below is not None:
            high = inner_up(np.maximum(c, 0.0), self.above)
            cost = add_up(add_up(high, inner_up(np.minimum(c, 0.0), self.below)), cost)
        if self.least is not None:
            cost = add_up(cost, self.least)
        return Contribution(self.coefficients(c), cost)

    def _cost_apart(self, c: FloatArray, kept: int) -> FloatArray:
        """The same cost of many boxes, whose arrays are long: what is zero is left out."""
        cost = dot_up(c, self.around, kept)
        if self.exact is not None and some(self.exact):
            cost = add_up(inner_up(c, self.exact, kept), cost)
        if self.above is not None and some(self.above):
            up = dot_up if lowest(self.above) >= 0.0 else inner_up
            cost = add_up(up(np.maximum(c, 0.0), self.above, kept), cost)
        if self.below is not None and some(self.below):
            cost = add_up(inner_up(np.minimum(c, 0.0), self.below, kept), cost)
        return cost if self.least is None else add_up(cost, self.least)


@dataclass(frozen=True)
class DifferenceCarry:
    """How functionals c of a node's difference are carried to those of its inputs.

    `coefficients(c)` are those on the variable inputs; c·d is what these give up to |c|·around, a
    radius of the output's shape, and `least`, one number.
    """

    coefficients: Callable[[FloatArray], tuple[FloatArray | None, ...]]
    around: Radius
    least: Radius | None = None

    def __call__(self, c: FloatArray, kept: int = 0) -> Moved:
        """As `Carry`."""
        cost = self.around.weighed(c, kept)
        if self.least is not None:
            cost = carried_back((cost, self.least.on(cost.shape)))
        return Moved(self.coefficients(c), cost)


@dataclass(frozen=True)
class SlopeChoice:
    """What a pull-back does at one node, per functional; arrays (k, *shape).

    `low_slope` is the lower slope of unstable elements. `phase` restricts the claim to inputs where
    the element is ≥ −slack (1), ≤ slack (-1) or anything (0); `multiplier` ≥ 0 weighs that
    restriction (β-CROWN, Wang et al. 2021): any value is sound. `slack` ≥ 0 has the shape of the
    tensor, or is zero.
    """

    low_slope: FloatArray
    phase: npt.NDArray[np.int8]
    multiplier: FloatArray
    slack: FloatArray | float = 0.0


@dataclass(frozen=True)
class LinearBounds:
    """Element by element `low_slope`·x + `low` ≤ f(x) ≤ `high_slope`·x + `high` over a range.

    The inequalities hold for these float64 numbers read as exact reals.
    """

    low_slope: FloatArray
    low: FloatArray
    high_slope: FloatArray
    high: FloatArray


@dataclass(frozen=True)
class FreeSlopes:
    """An elementwise relaxation whose lower slope may be any number in [`below`, 1] where `free`.

    `bounds()` are what `ValueMap.backward` uses; `below` is the slope of the function where its
    argument is negative, 1 that elsewhere.
    `backward(c, choice)` bounds functionals over the inputs that the choice's phases allow.
    """

    free: npt.NDArray[np.bool_]
    bounds: Callable[[], LinearBounds]
    below: FloatArray
    backward: Callable[[FloatArray, SlopeChoice], Contribution]


@dataclass(frozen=True)
class FreeLines:
    """An elementwise relaxation with several linear `bounds`, ordered as they lean along the range.

    `backward(c, over, under)` bounds functionals by means of two neighbouring lines, above and
    below: arrays (k, *shape) of numbers from 0 to len(bounds) − 1 say which.
    """

    bounds: tuple[LinearBounds, ...]
    backward: Callable[[FloatArray, FloatArray, FloatArray], Contribution]


@dataclass(frozen=True)
class ValueMap:
    """Real values through a node: their range, and functionals pulled back.

    `backward(c)` takes (k, *output shape) and bounds c·f(x) from above over the input ranges.
    `choice` is filled where the relaxation leaves slopes to choose, `lines` where it leaves lines;
    `carry` where what `backward` does is no more than a `Carry`.
    """

    range: Interval
    backward: Callable[[FloatArray], Contribution]
    choice: FreeSlopes | None = None
    carry: Callable[[], Carry] | None = None
    lines: Callable[[], FreeLines] | None = None


@dataclass(frozen=True)
class DifferenceMap:
    """Differences through a node, its own rounding error left out.

    `radius` bounds |f(x̂) − f(x)| element by element; `backward(c)` bounds how far c·(f(x̂) − f(x))
    is from a functional of what is read.

    Where f(x̂) − f(x) = s·d for some s between b and 1 and nothing more is known (`unstable`), the
    bound of a functional that is affine in s is the larger of those for s = b and s = 1: `fixed(c,
    share, at)` is `backward` with the secant slope b + share·(1 − b) where `at`. `radius` must then
    be |slope|·error + remainder (refine/bounds/secant_branching.py says why).
    """

    radius: Radius
    backward: Callable[[FloatArray], Moved]
    unstable: npt.NDArray[np.bool_] | None = None
    fixed: Callable[[FloatArray, FloatArray, npt.NDArray[np.bool_]], Moved] | None = None
    carry: Callable[[], DifferenceCarry] | None = None

    @property
    def flawed(self) -> bool:
        """Was a radius negative before the kernel made it infinite: a bug of ours?"""
        return self.radius.record.flawed


@dataclass(frozen=True)
class Precondition:
    """A condition under which the node's rounding bound holds: the hypotheses of a lemma that the
    bound was made by.

    `statement` is for people; `failed` is the hypothesis that the numbers did not meet, None if
    they met all.
    """

    name: str
    statement: str
    failed: Formula | None

    @property
    def holds(self) -> bool:
        """Did the numbers meet every hypothesis?"""
        return self.failed is None

    @classmethod
    def of(cls, name: str, statement: str, radius: Radius) -> Precondition:
        """The hypotheses of the lemma that this radius was made by."""
        return cls(name, statement, radius.record.failed)


NOT_NEGATIVE = Precondition(
    "bound-not-negative",
    "a bound computed here was negative or no number: an internal error, please report it",
    term(0) <= bound("e"),
)


@dataclass(frozen=True)
class RoundingBound:
    """A node's own rounding error |η| per output element, with what it rests on.

    Where a precondition fails `radius` is infinite. One that was negative before the kernel made it
    infinite fails `NOT_NEGATIVE`. `besides` names lemmas that the node's values and differences
    rest on; `lemmas` are these and those that the radius was made by.
    `row(i)` gives the data of flat output element i as exact numbers for a cross-check by Z3, or
    None if the operator offers none.
    """

    radius: Radius
    preconditions: tuple[Precondition, ...] = ()
    besides: tuple[str, ...] = ()
    row: Callable[[int], RowFacts] | None = None

    def __post_init__(self) -> None:
        if NOT_NEGATIVE not in self.preconditions and self.radius.record.flawed:
            object.__setattr__(self, "preconditions", (*self.preconditions, NOT_NEGATIVE))

    @property
    def lemmas(self) -> tuple[str, ...]:
        """Names of the schema lemmas that the bound rests on, from the record of applications."""
        return tuple(dict.fromkeys((*self.radius.record.lemmas, *self.besides)))

    def flawed(self) -> RoundingBound:
        """The same at a node of which another bound was negative."""
        return replace(self, preconditions=(*self.preconditions, NOT_NEGATIVE))

    def given(
        self, name: str, statement: str, lemma: Lemma, **numbers: FloatArray | float
    ) -> RoundingBound:
        """The bound where a lemma, which takes it as e, finds that these numbers meet what it
        asks, and +∞ elsewhere: a precondition of this name."""
        radius = apply(lemma, e=self.radius, **numbers)
        condition = Precondition.of(name, statement, radius)
        return replace(self, radius=radius, preconditions=(*self.preconditions, condition))

    def using(self, *lemmas: str) -> RoundingBound:
        """The same bound at a node whose values and differences rest on these lemmas."""
        return replace(self, besides=tuple(dict.fromkeys((*self.besides, *lemmas))))


@dataclass(frozen=True)
class RowFacts:
    """One output element as a sum of products, for an independent check of its rounding bound.

    The terms are `weights`[k]·x_k with x_k in [`lows`[k], `highs`[k]] and a bias in its range.
    Claimed: every partial sum is within `partial_bound` and Σ|term| within `total_bound`, and
    E = `error_bound` satisfies E ≥ `products` + `additions`·(r(partial_bound + E) +
    `lost_operands`), r the rounding error of `format` with at least `underflow` where results may
    be flushed, or what lemma `any-order-linear` asks of it.
    """

    weights: tuple[Fraction, ...]
    lows: tuple[Fraction, ...]
    highs: tuple[Fraction, ...]
    bias_low: Fraction
    bias_high: Fraction
    partial_bound: Fraction
    error_bound: Fraction
    products: Fraction
    additions: int
    format: FloatFormat
    underflow: Fraction
    lost_operands: Fraction
    total_bound: Fraction


class RealSemantics(Protocol):
    """The real meaning: exact numbers of every input, by position, to those of the outputs."""

    def __call__(
        self, site: Site, inputs: Inputs[ObjectArray], field: Field, /
    ) -> tuple[ObjectArray, ...]: ...


class RuntimeSemantics(Protocol):
    """The run-time meaning, the same over whatever values an arithmetic computes with."""

    def __call__(
        self,
        site: Site,
        inputs: Inputs[V],
        arithmetic: Arithmetic[V],
        contract: RuntimeContract,
        /,
    ) -> tuple[V, ...]: ...


@dataclass(frozen=True)
class Operator:
    """All semantics of one ONNX operator (or of one name in a family that shares a file).

    `check` raises UnsupportedModel, naming node and attribute, for a use without a meaning. `real`
    and `runtime` map arrays for every input position (None where omitted) to outputs. `values(site,
    ranges)` abstracts real values; `differences(site, ranges, errors)` abstracts differences given
    real ranges and |d| of the variable inputs; `rounding(site, ranges, result, contract)` bounds
    the node's own rounding error, given the run-time ranges of the variable inputs and an enclosure
    of f(x̂) before rounding. `movement` marks operators that only move data: bit-exact, no
    rounding, foldable on constants; `affine` operators lose nothing when functionals are pulled
    back through them; `branches` says that `differences` fills `DifferenceMap.fixed` and meets the
    condition on its radius. `work` estimates multiply-adds per execution. `element` cuts out one
    output element (`encoders.relaxations.elements`) where the operator is a scalar formula per
    element; `per_element` says no more than that it is one, so that boxes can be stacked along a
    new axis. `functions` are the elementary functions whose accuracy it rests on. `positive_part`
    operators give zero, and no slope, below zero. `affine_where` says of an affine operator where
    it is one: a product is, while only one factor varies. `attributes` names every attribute that
    the operator understands: a node with another one is refused. `factors` are the positions of the
    two factors of a matrix product, linear in each. `converts` marks conversions between types,
    which a contract's accumulation format leaves alone. `narrowed(site, read, written)` gives the
    constants of the node with only these columns of what it reads and writes, None where it cannot
    be cut down (`encoders.relaxations.narrowing`). `dtypes` are the types of its numbers (of a
    condition's, those that are compared or chosen). `exact_integer_sums` says that it takes sums of
    products of integers to be exact. `rowwise(site)`: where all that varies has a first axis of
    length 1 and gets more rows along it, each row of the result comes of the same row alone, as it
    did before; a scalar formula per element need not say so (refine/bounds/widened.py). `formulas`
    counts the formulas by which runtimes compute it: the rounding bound covers all, and `runtime`
    is one of them; `followed` are all of them, the order of sums apart, where relative precisions
    can follow them. `notes(site)` says where runtimes are known to part from the specification.
    `meant(site)` says what a node with quantised tensors computes of the real numbers that these
    stand for (`encoders.quantizing`), None where it says nothing.
    What searches, comparisons and schedules may know of it is in `breaks`, `jump`, `likeness` and
    `sums` (`encoders.traits`), what backward errors may, in `absorbs`. `gradient` is how it is
    differentiated, None where nothing is known of that.
    """

    name: str
    since: int
    check: Callable[[Site], None]
    real: RealSemantics
    runtime: RuntimeSemantics
    values: Callable[[Site, Sequence[Interval]], ValueMap]
    differences: Callable[[Site, Sequence[Interval], Sequence[Radius]], DifferenceMap]
    rounding: Callable[[Site, Sequence[Interval], Interval, RuntimeContract], RoundingBound]
    movement: bool = False
    affine: bool = False
    branches: bool = False
    element: Callable[[Site, int], Element] | None = None
    work: Callable[[Site], int] = field(default=lambda site: site.outputs[0].size)
    functions: tuple[Function, ...] = ()
    positive_part: bool = False
    affine_where: Callable[[Site], bool] | None = None
    per_element: bool = False
    converts: bool = False
    factors: tuple[int, ...] = ()
    dtypes: tuple[DType, ...] = FLOATS
    attributes: frozenset[str] = frozenset()
    narrowed: (
        Callable[
            [Site, npt.NDArray[np.intp], npt.NDArray[np.intp]], tuple[Array | None, ...] | None
        ]
        | None
    ) = None
    exact_integer_sums: bool = False
    rowwise: Callable[[Site], bool] = field(default=lambda site: False)
    formulas: int = 1
    notes: Callable[[Site], tuple[str, ...]] = field(default=lambda site: ())
    breaks: Breaks = NOWHERE
    jump: Discontinuity | None = None
    likeness: Likeness = UNLIKE
    sums: Sums | None = None
    gradient: Gradient | None = None
    absorbs: Absorbing | None = None
    meant: Callable[[Site], Meaning | None] = field(default=lambda site: None)
    followed: tuple[RuntimeSemantics, ...] = ()

    def reading(self, *attributes: str) -> Operator:
        """The same operator, which understands these attributes."""
        return replace(self, attributes=self.attributes.union(attributes))

    def derived(self, gradient: Gradient) -> Operator:
        """The same operator, which is differentiated so."""
        return replace(self, gradient=gradient)

    def by_version(self) -> Operator:
        """The same operator, of which it is said that its semantics ask for the version."""
        return replace(self, likeness=replace(self.likeness, by_version=True))


def is_affine(operator: Operator, site: Site) -> bool:
    """Does nothing get lost when functionals are pulled back through the operator here?"""
    return operator.affine and (operator.affine_where is None or operator.affine_where(site))


def site_of(graph: Graph, node: Node) -> Site:
    """The node's surroundings in its graph."""
    return Site(
        node,
        tuple(graph.types[t] if t else None for t in node.inputs),
        tuple(graph.types[t] for t in node.outputs if t),
        tuple(graph.constants.get(t) if t else None for t in node.inputs),
    )
