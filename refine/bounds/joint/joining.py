"""One step in place of the nodes that spell out a formula, or a normalisation of rows: its curve,
or that operator, and what running all of them is off by.

With x the real and x̂ the run-time value of the one tensor that it hangs on,

    ŷ − f(x) = (f(x̂) − f(x)) + (ŷ − f(x̂)).

The first part is the curve's, the second what the nodes round when they are run on x̂
(refine/bounds/joint/running.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TypeAlias

import numpy as np

from encoders.arithmetic.approximate_field import ApproximateReals
from encoders.arithmetic.exact_fields import ObjectArray
from encoders.arithmetic.runtime import Arithmetic
from encoders.arithmetic.values import V
from encoders.contract.contract import RuntimeContract
from encoders.curves.certified import certified_curve
from encoders.curves.curves import range_of, slope_range
from encoders.families.rows.spelled import spelled_normalization
from encoders.families.smooth import smooth_operator
from encoders.functions.curve import Curve, Number, Reals
from encoders.lemmas.kernel import Places
from encoders.lemmas.ranges.making import hull_of
from encoders.numbers.enclosure import FloatArray, Interval
from encoders.operator import Field, Operator, RoundingBound, Site
from encoders.program import Program, Step
from encoders.rounding.tracked_functions import moved_along
from encoders.scheduling import contract_at
from onnx_import.graph import Graph
from refine.bounds.backward import Maps
from refine.bounds.joint.expanding import Way, expanded
from refine.bounds.joint.finding import Body, Formula, body_of, formulas_of
from refine.bounds.joint.rows import SpelledRows, nodes_alone, rows_of
from refine.bounds.joint.running import rounding_of, rounding_of_nodes
from refine.bounds.local.errors import Run, Runs
from refine.bounds.local.held import OUTGROWN, outgrown

_WIDEST = 2.0**20
_NAME = "Formula"
_MOST_ROUNDINGS = 64  # of a square
_SAMPLES = 9  # of an argument's range
_FEW = 64  # elements that a choice is proved of


@dataclass(frozen=True)
class Ran:
    """What runs in place of steps: steps of a graph, of the same meaning, under a contract."""

    graph: Graph
    steps: tuple[Step, ...]
    contract: RuntimeContract


Runner: TypeAlias = Callable[[tuple[Step, ...]], Ran | None]
"""What runs in place of steps; None where something else does, or not under one contract."""


def as_it_is(graph: Graph, contract: RuntimeContract) -> Runner:
    """Of a network that runs under this contract, all of it."""
    return lambda steps: Ran(graph, steps, contract)


@dataclass
class Joining:
    """What is taken together as a program is walked, by the node at which each begins.

    `joined` are the steps that stand for it, and `inside` the nodes before these which then lead
    nowhere: they are bounded, and no functional reaches them. `owners` are the nodes of the file
    that steps stand for which no file has, and `chosen` those that another way bounds better.
    """

    formulas: Mapping[str, Sequence[Formula]]
    rows: Mapping[str, Sequence[SpelledRows]]
    runner: Runner
    tried: bool = True
    joined: dict[str, Step] = field(default_factory=dict)
    inside: set[str] = field(default_factory=set)
    owners: dict[str, str] = field(default_factory=dict)
    chosen: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, program: Program, runner: Runner | None, *, ways: bool = True) -> Joining:
        """Of a program's formulas and normalisations, of these with other `ways` to bound them; of
        none, where it is not said what runs."""
        if runner is None:
            return cls({}, {}, lambda steps: None, tried=False)
        return cls(formulas_of(program), rows_of(program), runner, tried=ways)

    def at(self, step: Step, maps: Maps) -> tuple[Maps, Step]:
        """The maps of the program in which what begins here is one step each, where it can be; and
        what stands in place of the step."""
        for formula in self.formulas.get(step.name, ()):
            made = joined_formula(formula, self.runner(formula.steps), maps)
            maps = self._with(made, formula.inside, maps)
        return maps, self.joined.get(step.name, step)

    def runs(self, step: Step, runs: Runs | None, contract: RuntimeContract) -> Runs | None:
        """What executes in place of a step: of one that is joined itself: it says what runs."""
        return _as_it_stands(runs, contract) if step.name in self.joined else runs

    def ways(
        self, step: Step, maps: Maps, runs: Runs | None, contract: RuntimeContract
    ) -> Iterator[Way]:
        """Other ways to bound a step: what normalises as nodes, and nodes as what normalises."""
        for rows in self.rows.get(step.name, ()) if self.tried else ():
            made = joined_rows(rows, self.runner(rows.steps), maps)
            if made is not None:
                yield Way(_standing(maps, made), (), made, _as_it_stands(runs, contract))
        ran = self.runner((step,)) if self.tried else None
        if step.operator.normalizes is not None and ran is not None and ran.steps == (step,):
            way = expanded(maps, step, ran.contract)
            if way is not None:
                yield way

    def of_owners(self, spent: Mapping[str, float]) -> dict[str, float]:
        """What nodes cost, those that no file has added to the one that they stand for."""
        found: dict[str, float] = {}
        for name, cost in spent.items():
            owner = self.owners.get(name, name)
            found[owner] = found.get(owner, 0.0) + cost
        return found

    def _with(self, made: Step | None, inside: frozenset[str], maps: Maps) -> Maps:
        if made is None:
            return maps
        self.joined[made.name] = made
        self.inside |= inside
        return _standing(maps, made)


def _as_it_stands(runs: Runs | None, contract: RuntimeContract) -> Runs | None:
    """What executes in place of a step that says itself what runs: the step. Where others run in
    place of those before it, that has to be said: of run-time numbers is then no more taken for
    known than what their errors say."""
    if runs is None:
        return None
    return lambda step, held: Run(step, np.zeros(step.site.outputs[0].shape), contract)


def _standing(maps: Maps, made: Step) -> Maps:
    """The maps of the program in which this step stands where the one of its name stood."""
    program = maps.program
    steps = tuple(made if step.name == made.name else step for step in program.steps)
    return replace(maps, program=replace(program, steps=steps))


def joined_formula(formula: Formula, ran: Ran | None, maps: Maps) -> Step | None:
    """The step that bounds a formula's result by the one tensor that it hangs on; None where no
    curve is found, and where errors have outgrown it."""
    if ran is None:
        return None
    result = formula.end.output
    body = formula.body if ran.steps is formula.steps else body_of(ran.graph, ran.steps, result)
    curve = None if body is None else _curve_over(formula, maps)
    if body is None or curve is None:
        return None
    step, source = formula.end, formula.source
    node = replace(step.node, inputs=(source,))
    kind = replace(step.site.outputs[0], dtype=maps.graph.types[source].dtype)
    site = Site(node, (kind,), step.site.outputs, (None,))
    operator = _curved(body, curve, ran.contract)
    if _outgrown(operator, curve, site, maps, source, ran.contract):
        return None
    return Step(node, operator, site, (source,), step.writes)


def _outgrown(
    operator: Operator,
    curve: Curve,
    site: Site,
    maps: Maps,
    source: str,
    contract: RuntimeContract,
) -> bool:
    """Are errors behind a formula as large as its numbers, or is nothing known of what its nodes
    round? Node by node it is then known what run-time numbers keep to, which is worth more.

    It is a choice, and proves nothing: floats tell, where they leave no doubt, and else what is
    proved of the elements that they find to move most, and to be largest.
    """
    x, error = maps.values[source], maps.radii[source]
    moved, size = _about(curve, x, error.bound)
    most, largest = (float(np.max(v, initial=0.0)) for v in (moved, size))
    if most > 2.0 * OUTGROWN * largest:
        return True
    if not most < 0.5 * OUTGROWN * largest:
        movers, large = _foremost(moved), _foremost(size)
        given = error.taken(movers)
        hull = hull_of(_at(x, movers), given)
        moves = moved_along(given, slope_range(curve, hull), range_of(curve, hull))
        if outgrown(range_of(curve, _at(x, large)), moves):
            return True
    run = x.inflate(error.bound)
    return not np.isfinite(operator.rounding(site, [run], run, contract).radius.largest)


def _foremost(measure: FloatArray) -> Places:
    """The flat places of the few elements that measure most; unknown ones count as such."""
    flat = np.nan_to_num(measure.reshape(-1), nan=np.inf)
    return np.argsort(-flat, kind="stable")[:_FEW]


def _at(x: Interval, places: Places) -> Interval:
    return Interval(x.lo.reshape(-1)[places], x.hi.reshape(-1)[places])


def _about(curve: Curve, x: Interval, error: FloatArray) -> tuple[FloatArray, FloatArray]:
    """About how far a curve moves at most where its arguments do, and how large it is, element by
    element, in floats; NaN where that is not known."""
    moved, size = np.zeros(x.lo.shape), np.zeros(x.lo.shape)
    with np.errstate(all="ignore"):
        for share in np.linspace(0.0, 1.0, _SAMPLES):
            at = x.lo + (x.hi - x.lo) * share
            run = np.stack([at - error, at, at + error])  # where it is steep, errors alone see it
            found = np.asarray(curve.pieces[0].value(ApproximateReals(), run), np.float64)
            if found.size != run.size:  # as of what hangs on no number of it
                found = np.full(run.shape, np.nan)
            found = found.reshape(run.shape)
            moved = np.maximum(moved, np.max(np.abs(found - found[1]), axis=0))
            size = np.maximum(size, np.max(np.abs(found), axis=0))
    return np.where(error > 0.0, moved, 0.0), size


def joined_rows(rows: SpelledRows, ran: Ran | None, maps: Maps) -> Step | None:
    """The step that bounds normalised rows by the rows themselves; None where the nodes run in
    several formats, or a square is not known to be off relatively."""
    if ran is None or _at_a_point(maps.values[rows.source]):
        return None
    contract = ran.contract
    kinds = {step.site.outputs[0].dtype for step in (*rows.steps, *ran.steps)}
    others = (contract.accumulation, contract.narrow, contract.stored_format)
    square = ran.steps[rows.steps.index(rows.square)]
    squares = square.operator.squares
    if len(kinds) != 1 or any(other is not None for other in others) or squares is None:
        return None
    times = squares(square.site, contract_at(square.running, contract))
    if times is None or not times < _MOST_ROUNDINGS:
        return None
    operator = spelled_normalization(rows.axes, centred=rows.centred, squaring=int(np.ceil(times)))
    site = rows.site(rows.end.site.outputs[0])
    nodes = nodes_alone(ran.graph, ran.steps, rows.source)

    def rounding(
        site: Site, inputs: Sequence[Interval], result: Interval, here: RuntimeContract
    ) -> RoundingBound:
        known = operator.rounding(site, inputs, result, contract_at(site, contract))
        run = rounding_of_nodes(nodes, inputs[0], contract)
        return replace(known, radius=known.radius.and_also(run))

    bounded = replace(operator, rounding=rounding)
    return Step(site.node, bounded, site, (rows.source,), rows.end.writes)


def _at_a_point(x: Interval) -> bool:
    """Is it one number each? Runs are followed node by node from there."""
    return np.array_equal(x.lo, x.hi)


def _curve_over(formula: Formula, maps: Maps) -> Curve | None:
    """The curve over all numbers that the formula may be run on, and somewhat around; None where
    none is found, and at a point."""
    real = maps.values[formula.source]
    if _at_a_point(real):
        return None
    x = real.inflate(maps.errors[formula.source])
    low, high = float(np.min(x.lo, initial=np.inf)), float(np.max(x.hi, initial=-np.inf))
    if not (low <= high and max(-low, high) <= _WIDEST):
        return None
    return _curve(formula.body, -_beyond(-low), _beyond(high))


def _beyond(x: float) -> float:
    """A number of two digits that is not below x, so that near ranges share a curve."""
    if x == 0.0:
        return 0.0
    part, exponent = np.frexp(x)
    return float(np.ldexp(np.ceil(part * 4.0), int(exponent) - 2))


@lru_cache(maxsize=64)
def _curve(body: Body, low: float, high: float) -> Curve | None:
    def value(field: Reals, x: Number) -> Number:
        return body.real(field, x)

    return certified_curve(value, low, high)


def _curved(body: Body, curve: Curve, contract: RuntimeContract) -> Operator:
    known: dict[bytes, RoundingBound] = {}  # of ranges that it was asked of

    def real(site: Site, x: ObjectArray, field: Field) -> ObjectArray:
        return np.asarray(body.real(field, x))

    def runtime(site: Site, x: V, arithmetic: Arithmetic[V]) -> V:
        raise site.unsupported("nodes are run one by one, not as the formula that they spell out")

    def rounding(
        site: Site, inputs: Sequence[Interval], result: Interval, here: RuntimeContract
    ) -> RoundingBound:
        (x,) = inputs
        key = x.lo.tobytes() + x.hi.tobytes()
        if key not in known:
            known[key] = rounding_of(body, x, contract)
        return known[key]

    smooth = smooth_operator(_NAME, 1, lambda site: curve, real=real, runtime=runtime)
    return replace(smooth, rounding=rounding, followed=())
