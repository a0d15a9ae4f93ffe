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
from encoders.lemmas.kernel import Radius, apply
from encoders.lemmas.lemma import Lemma
from encoders.lemmas.terms import Formula, bound, term
from encoders.numbers.enclosure import Interval
from encoders.numbers.formats import FloatFormat
from encoders.quantizing import Meaning
from encoders.relaxing import Carry as Carry
from encoders.relaxing import Contribution as Contribution
from encoders.relaxing import DifferenceCarry as DifferenceCarry
from encoders.relaxing import DifferenceMap as DifferenceMap
from encoders.relaxing import FreeLines as FreeLines
from encoders.relaxing import FreeSlopes as FreeSlopes
from encoders.relaxing import LinearBounds as LinearBounds
from encoders.relaxing import Moved as Moved
from encoders.relaxing import Scaled as Scaled
from encoders.relaxing import SlopeChoice as SlopeChoice
from encoders.relaxing import ValueMap as ValueMap
from encoders.site import Element
from encoders.site import Site as Site
from encoders.site import remembered as remembered
from encoders.traits import (
    NOWHERE,
    UNLIKE,
    Absorbing,
    Breaks,
    Compared,
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
    can follow them, at sites that `follows` holds of. `notes(site)` says where runtimes are known
    to part from the specification.
    `meant(site)` says what a node with quantised tensors computes of the real numbers that these
    stand for (`encoders.quantizing`), None where it says nothing.
    What searches, comparisons and schedules may know of it is in `breaks`, `jump`, `likeness` and
    `sums` (`encoders.traits`), what backward errors may, in `absorbs`. `gradient` is how it is
    differentiated, None where nothing is known of that.
    `keeps(site, ranges, contract)` is a range of what is computed of run-time numbers in these
    ranges, whatever its rounding is (`encoders.rounding.signs`), None where none is known.
    `executed(ranges)`, of an operator that computes something else than its real semantics of what
    it reads, is the range of that; of all others it is the range of `values`.
    `squares(site, contract)`, where a result is the square of the first input, is by how many
    roundings it is off, +∞ where that is not known relatively; None where it is no square.
    `summands(site)`, where a result is a sum, or mean, of what is read, with weights that are not
    negative, is the number of terms, those included that only some runtimes add; where several
    tensors are read, one element of each is a term.
    `normalizes(site)`, of an operator that divides rows of what it reads by their norms, are the
    flat positions (rows, n) of these, and whether their means are taken away first: it takes a
    `Leaning` range as one. `compared` says what truth values say of two operands, `mirrors` that
    a result has the magnitude of the first input.
    `shares(site)` are the flat positions (rows, n) of the result of which each row has a sum of 1
    over the reals, and no negative number; None where there are none. Of the operator that gives
    them, a run errs by its own rounding alone of what is so of the run's scores, its first input.
    `mixes(site)` says that rows of the first input, along the last axis, are weights of what the
    second holds: it takes a `Mixing` range as such. `bends(site, ranges)` is about how much
    of what its numbers vary is not linear, where it takes `Formed` ranges as such; else 0.
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
    follows: Callable[[Site], bool] = field(default=lambda site: True)
    keeps: Callable[[Site, Sequence[Interval], RuntimeContract], Interval | None] | None = None
    executed: Callable[[Sequence[Interval]], Interval] | None = None
    squares: Callable[[Site, RuntimeContract], float | None] | None = None
    summands: Callable[[Site], int] | None = None
    normalizes: Callable[[Site], tuple[npt.NDArray[np.intp], bool]] | None = None
    compared: Compared | None = None
    mirrors: bool = False
    shares: Callable[[Site], npt.NDArray[np.intp] | None] | None = None
    mixes: Callable[[Site], bool] = field(default=lambda site: False)
    bends: Callable[[Site, Sequence[Interval]], float] = field(default=lambda site, ranges: 0.0)

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


def executed_range(operator: Operator, site: Site, ranges: Sequence[Interval]) -> Interval:
    """What a run computes of run-time numbers in these ranges, but for its rounding."""
    if operator.executed is not None:
        return operator.executed(ranges)
    return operator.values(site, ranges).range


def site_of(graph: Graph, node: Node) -> Site:
    """The node's surroundings in its graph."""
    return Site(
        node,
        tuple(graph.types[t] if t else None for t in node.inputs),
        tuple(graph.types[t] for t in node.outputs if t),
        tuple(graph.constants.get(t) if t else None for t in node.inputs),
    )
