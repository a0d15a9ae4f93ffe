"""Backward substitution: linear functionals of a tensor carried back to the network's input.

A functional lives on real values x and on differences d = x̂ − x of tensors at once. Walking the
DAG from the target to the inputs, every node replaces its output's coefficients by its inputs'
and adds what that costs (CROWN, Zhang et al. 2018; DeepPoly, Singh et al. 2019; here applied to
differences too). Branches meet by adding coefficients, so that what they share cancels.

Rounding: each map charges its own float64 error (`encoders.numbers.enclosure`); adding two
coefficient arrays errs by at most U per element, charged here at the largest |x| or |d|; sums of
costs are rounded up exactly.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from encoders.families.part_sums import PartSums
from encoders.lemmas.kernel import Radius, carried_back
from encoders.lemmas.ranges.range import Range
from encoders.numbers.enclosure import (
    UNIT,
    FloatArray,
    Interval,
    add_up,
    dot_up,
    inner_up,
    midpoint_radius,
)
from encoders.numbers.forms import Formed, Forms, forms_in
from encoders.numbers.leaning import Lean
from encoders.operator import DifferenceMap, Scaled, SlopeChoice, ValueMap
from encoders.program import Program, Step, backward
from encoders.relaxations.probabilities.mixtures import Mix, Mixing
from encoders.rounding.lines import RoundingLines
from onnx_import.errors import UnsupportedModel
from onnx_import.graph import Graph
from refine.bounds.ellipsoids.errors import Apart, Ellipsoid, charged_within
from refine.bounds.ellipsoids.own import charged_each

_TELLING = 0.02  # of what was charged: less is not worth an ellipsoid of its own


@dataclass(frozen=True)
class Maps:
    """What is known of every tensor and node so far: the facts a pull-back rests on.

    `radii` are the bounds that the kernel gives and `errors` their numbers; `local` are those of a
    node's own rounding. `flaws` names
    the nodes of which a bound was negative before it passed the gate. Along the first `kept` axes
    of every tensor lie boxes that know nothing of each other (refine/bounds/widened.py):
    functionals (k, *shape) are then k of each box, and bounds of them (k, boxes). `held` are ranges
    of run-time numbers, where somebody asked for them (refine/bounds/local/held.py). `ends` are the
    tensors whose errors are those of the only execution: no functional is carried on from there.
    `together` is what bounds a node's differences by those of nodes before it
    (refine/bounds/local/roots.py), `ellipsoids` how large the errors of what a node reads can be at
    once, and `leans` how far rows that it normalises lean in a direction. `mixes` are what weights
    that a node mixes with, probabilities, are off by: their sums, and their scores. `forms` are
    those of what a node reads, that bends where these numbers go together.
    """

    program: Program
    values: dict[str, Range] = field(default_factory=dict)
    errors: dict[str, FloatArray] = field(default_factory=dict)
    value_maps: dict[str, ValueMap] = field(default_factory=dict)
    difference_maps: dict[str, DifferenceMap] = field(default_factory=dict)
    local: dict[str, Radius] = field(default_factory=dict)
    flaws: set[str] = field(default_factory=set)
    radii: dict[str, Radius] = field(default_factory=dict)
    kept: int = 0
    held: dict[str, Interval] = field(default_factory=dict)
    ends: set[str] = field(default_factory=set)
    together: dict[str, Radius] = field(default_factory=dict)
    ellipsoids: dict[str, Ellipsoid] = field(default_factory=dict)
    leans: dict[str, Lean] = field(default_factory=dict)
    mixes: dict[str, Mix] = field(default_factory=dict)
    part_sums: dict[str, PartSums] = field(default_factory=dict)
    forms: dict[str, tuple[Forms | None, ...]] = field(default_factory=dict)
    lines: dict[str, RoundingLines] = field(default_factory=dict)

    @property
    def graph(self) -> Graph:
        """The graph whose steps these are."""
        return self.program.graph

    def ranges(self, step: Step) -> list[Interval]:
        """The real ranges of what a step reads, with what else is known of its rows."""
        ranges: list[Interval] = [self.values[t] for t in step.reads]
        for at, forms in enumerate(self.forms.get(step.name, ())):
            ranges[at] = Formed(ranges[at].lo, ranges[at].hi, forms=forms)
        if step.name in self.leans:
            ranges[0] = self.leans[step.name].of(ranges[0])
        if step.name in self.part_sums:
            ranges[0] = self.part_sums[step.name].of(ranges[0])
        if step.name in self.mixes:
            mix, held = self.mixes[step.name], self.values[step.reads[0]]
            told = (mix.off, mix.scores, held, mix.near)
            ranges[0] = Mixing(held.lo, held.hi, *told, forms=forms_in(ranges[0]))
        return ranges

    def err_by(self, tensor: str, radius: Radius) -> None:
        """What a tensor's run-time value is off by."""
        self.radii[tensor], self.errors[tensor] = radius, radius.bound


Lines: TypeAlias = FloatArray
"""Which lines bound a node's function, per functional: (k, *shape), as of `FreeLines.backward`."""


@dataclass(frozen=True)
class FixedSlopes:
    """Secant slopes (0 or 1) of a node's differences, per functional, where `at`; (k, *shape)."""

    slope: FloatArray
    at: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Pulled:
    """Upper bounds (k,) of k functionals, and what each node's differences cost in them.

    `moved` bounds those of differences alone, in magnitude, where there are any. `roundings` is the
    part of these `costs` that the nodes' own roundings are; the rest is lost in relaxations.
    `on_inputs` holds the coefficients (k, *shape) that reached the network's inputs: of functionals
    of values alone, they and `beside` (k,) are an upper bound on all of the inputs' ranges.
    """

    upper: FloatArray
    costs: Mapping[str, FloatArray]
    roundings: Mapping[str, FloatArray] = field(default_factory=dict)
    moved: Radius | None = None
    on_inputs: Mapping[str, FloatArray] = field(default_factory=dict)
    beside: FloatArray | None = None

    def joined(self, other: Pulled) -> Pulled:
        """These functionals and others; a node that only some reach costs the others nothing."""
        none, nothing = np.zeros(len(self.upper)), np.zeros(len(other.upper))
        costs, roundings = (
            {
                name: np.concatenate([ours.get(name, none), theirs.get(name, nothing)])
                for name in {**ours, **theirs}
            }
            for ours, theirs in ((self.costs, other.costs), (self.roundings, other.roundings))
        )
        return Pulled(np.concatenate([self.upper, other.upper]), costs, roundings)


@dataclass
class _Pending:
    """Coefficients still to be pulled back, per tensor, on values or on differences."""

    coefficients: dict[str, FloatArray]

    def put(self, tensor: str, c: FloatArray | None) -> FloatArray | None:
        """Add coefficients on a tensor; returns their sum if float64 may have rounded it."""
        if c is None:
            return None
        if tensor not in self.coefficients:
            self.coefficients[tensor] = c
            return None
        total = self.coefficients[tensor] + c
        self.coefficients[tensor] = total
        return total


def pull_back(
    maps: Maps,
    on_values: Mapping[str, FloatArray],
    on_differences: Mapping[str, FloatArray],
    tick: Callable[[], None] = lambda: None,
    choices: Mapping[str, SlopeChoice] | None = None,
    seen: dict[str, FloatArray] | None = None,
    fixed: Mapping[str, FixedSlopes] | None = None,
    most: int | None = None,
    lines: Mapping[str, Lines] | None = None,
    arriving: dict[str, FloatArray] | None = None,
    apart: list[Apart] | None = None,
    late: Callable[[], bool] | None = None,
    lined: bool = False,
) -> Pulled:
    """Upper bounds of functionals given by coefficients (k, *shape) on some tensors.

    `tick` is called once per node and may raise to stop the work. `choices` says, per node whose
    relaxation leaves one, what to do there; `seen`, if given, is
    filled with the coefficients on values that arrived at such nodes. `fixed` gives, per node,
    secant slopes of differences to be taken as exact; with it, `seen` collects the coefficients on
    differences at nodes where such slopes are free, unless it is `lined`. After `most` nodes, if
    that is said, what is known of the tensors reached so far takes the place of what would be known
    of the inputs.
    `lines` says, per node that leaves lines to choose from, which to take; `seen` has their
    coefficients. `arriving`, if given, is filled with the coefficients on differences that arrived
    at each node: what its rounding errors count for. `apart`, if given, is filled with what is the
    same for all functionals, which is then not charged. Where it is said when it is `late`, each
    functional of differences gets ellipsoids of its own until then. Where it is `lined`, rounding
    errors are what lines over real numbers say, where there are any: `upper` bounds functionals of
    differences then, and `moved` is none.
    """
    first, kept = next(iter((*on_values.values(), *on_differences.values()))), maps.kept
    through = all(t in maps.ends for t in on_differences)  # only to say what their errors come from
    semantics = _Substitution(
        maps,
        tick,
        ends=frozenset() if through else frozenset(maps.ends),
        choices={} if choices is None else choices,
        lines={} if lines is None else lines,
        seen=seen,
        fixed=fixed,
        values=_Pending(dict(on_values)),
        differences=_Pending(dict(on_differences)),
        total=np.zeros(first.shape[: 1 + kept]),
        left=len(maps.program.steps) if most is None else most,
        arriving=arriving,
        apart=apart,
        late=late,
        lined=lined,
    )
    backward(maps.program, semantics)
    return semantics.finished()


_Both = tuple[FloatArray | None, FloatArray | None]


@dataclass
class _Substitution:
    """A pull-back under way: what functionals of real values and of differences have become so far,
    and what that has cost, in all and per node."""

    maps: Maps
    tick: Callable[[], None]
    ends: frozenset[str]
    choices: Mapping[str, SlopeChoice]
    lines: Mapping[str, Lines]
    seen: dict[str, FloatArray] | None
    fixed: Mapping[str, FixedSlopes] | None
    values: _Pending
    differences: _Pending
    total: FloatArray
    left: int
    costs: dict[str, FloatArray] = field(default_factory=dict)
    roundings: dict[str, FloatArray] = field(default_factory=dict)
    moved: list[Radius] = field(default_factory=list)
    arriving: dict[str, FloatArray] | None = None
    apart: list[Apart] | None = None
    late: Callable[[], bool] | None = None
    lined: bool = False

    def arrived(self, step: Step) -> _Both | None:
        """Coefficients (k, *shape) on the step's output, on its values and on its differences."""
        if not self.left:
            return None
        c = self.values.coefficients.pop(step.output, None)
        d = self.differences.coefficients.pop(step.output, None)
        return None if c is None and d is None else (c, d)

    def carry(self, step: Step, arrived: _Both) -> None:
        c, d = arrived
        self.tick()
        self.left -= 1
        if d is not None:
            self._substitute_difference(step, d)
        if c is not None:
            self._substitute_value(step, c)

    def _substitute_difference(self, step: Step, d: FloatArray) -> None:
        kept = self.maps.kept
        if step.output in self.ends:
            self._spend(step.name, [self.maps.radii[step.output].weighed(d, kept)])
            return
        if self.arriving is not None:
            self.arriving[step.name] = d
        between, free = self.maps.difference_maps[step.name], d
        if self.fixed is not None and between.fixed is not None:
            if self.seen is not None and not self.lined:
                self.seen[step.name] = d
            chosen = self.fixed[step.name]
            pulled = between.fixed(d, chosen.slope, chosen.at)
            free = np.where(chosen.at, 0.0, d)
        elif kept:
            if between.carry is None:
                raise one_box_alone(step)
            pulled = between.carry()(d, kept)
        else:
            pulled = between.backward(d)
        if self.apart is not None:
            costs = self._set_apart(self.apart, step, d, pulled.cost)
        else:
            own, cost = self._own(step, d), pulled.cost
            if between.scaled is not None:
                cost = self._together(step, between.scaled(), free, cost)
            self.roundings[step.name] = own.bound
            costs = [own, cost]
        for tensor, coefficients in zip(step.reads, pulled.coefficients, strict=True):
            total = self.differences.put(tensor, coefficients)
            if total is not None:
                # each sum is off by at most U of itself
                costs.append(self.maps.radii[tensor].weighed(total, kept).times(2 * UNIT))
        self._spend(step.name, costs)

    def _own(self, step: Step, d: FloatArray) -> Radius:
        """What a step's own roundings cost, besides what is carried on with real values."""
        lines = self.maps.lines.get(step.name) if self.lined else None
        if lines is None:
            return self.maps.local[step.name].weighed(d, self.maps.kept)
        own, c, beside = lines.carried(d)
        self.total = add_up(self.total, beside)
        self._put_value(step.reads[0], c)
        return own

    def _put_value(self, tensor: str, c: FloatArray | None) -> None:
        total = self.values.put(tensor, c)
        if total is not None:
            size = _finite(self.maps.values[tensor].magnitude)
            rounded = dot_up(total, size, self.maps.kept) * (2 * UNIT)
            self.total = add_up(self.total, rounded)

    def _together(self, step: Step, left: Scaled, c: FloatArray, cost: Radius) -> Radius:
        """What a relaxation costs, where it is known how large errors can be at once."""
        held = self.maps.ellipsoids.get(step.name)
        if held is None:
            return cost
        cost = cost.and_also(charged_within(left, held, c))
        if self.late is None or held.sources is None:
            return cost
        before = sum((radius.bound for radius in self.moved), np.zeros(len(c)))
        worth = (cost.bound > _TELLING * before) & np.isfinite(cost.bound)
        own = charged_each(left, held.sources, c, known=cost.bound, worth=worth, late=self.late)
        return cost.and_also(own)

    def _set_apart(
        self, apart: list[Apart], step: Step, d: FloatArray, cost: Radius
    ) -> list[Radius]:
        """What is the same for all functionals is left to `apart`; returns what else they cost."""
        apart.append(Apart(d, self.maps.local[step.name].bound))
        scaled = self.maps.difference_maps[step.name].scaled
        if scaled is None:
            return [cost]
        left, held = scaled(), self.maps.ellipsoids.get(step.name)
        apart.append(Apart(d, left.remainder.bound, left, held))
        return [left.rest.weighed(d)]

    def _spend(self, place: str, costs: Sequence[Radius]) -> None:
        """What carrying functionals of differences through a place costs."""
        cost = carried_back(costs)
        self.moved.append(cost)
        before = self.costs.get(place)
        self.costs[place] = cost.bound if before is None else add_up(before, cost.bound)

    def _substitute_value(self, step: Step, c: FloatArray) -> None:
        mapped = self.maps.value_maps[step.name]
        if self.seen is not None and mapped.choice is not None:
            self.seen[step.name] = c
        if mapped.lines is not None and step.name in self.lines:
            if self.seen is not None:
                self.seen[step.name] = c
            pulled = mapped.lines().backward(c, self.lines[step.name])
        elif mapped.choice is not None and step.name in self.choices:
            pulled = mapped.choice.backward(c, self.choices[step.name])
        elif self.maps.kept:
            if mapped.carry is None:
                raise one_box_alone(step)
            pulled = mapped.carry()(c, self.maps.kept)
        else:
            pulled = mapped.backward(c)
        self.total = add_up(self.total, pulled.constant)
        for tensor, coefficients in zip(step.reads, pulled.coefficients, strict=True):
            self._put_value(tensor, coefficients)

    def finished(self) -> Pulled:
        """The bounds, of what has reached the inputs or has been left on the way."""
        total, writers, kept = self.total, self.maps.program.writers, self.maps.kept
        beside = total
        for tensor, c in sorted(
            self.values.coefficients.items(), key=lambda held: held[0] not in writers
        ):
            mid, radius = midpoint_radius(self.maps.values[tensor])
            total = add_up(total, add_up(inner_up(c, mid, kept), dot_up(c, radius, kept)))
            beside = total if tensor in writers else beside
        for tensor, d in self.differences.coefficients.items():
            place = writers[tensor].name if tensor in writers else tensor
            self._spend(place, [self.maps.radii[tensor].weighed(d, kept)])
        moved = carried_back(self.moved) if self.moved else None
        if moved is not None:
            total = add_up(total, moved.bound)
        upper = np.where(np.isnan(total), np.inf, total)
        inputs = {t: c for t, c in self.values.coefficients.items() if t not in writers}
        moved = None if self.lined else moved
        return Pulled(upper, self.costs, self.roundings, moved, inputs, beside)


def one_box_alone(step: Step) -> UnsupportedModel:
    """What is raised, naming the node, where functionals of many boxes cannot be carried."""
    return step.site.unsupported("it takes the functionals of one box at a time")


def unit_functionals(shape: tuple[int, ...], rows: npt.NDArray[np.intp]) -> FloatArray:
    """(k, *shape) coefficients that pick the flat elements `rows`."""
    size = math.prod(shape)
    c = np.zeros((len(rows), size))
    c[np.arange(len(rows)), rows] = 1.0
    return c.reshape(len(rows), *shape)


def _finite(x: FloatArray) -> FloatArray:
    return np.where(np.isfinite(x), x, np.finfo(np.float64).max)
