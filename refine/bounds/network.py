"""Real ranges and error budgets of every tensor: forward intervals, then backward substitution.

For each tensor t: x_t ∈ `values[t]` over the reals, and |x̂_t − x_t| ≤ `errors[t]` for every
execution the contract allows. Tensors are treated in topological order, so whatever a step rests
on has been proved before. Forward composition alone is hopeless with depth; tensors that feed a
nonlinear operator, and the outputs, are therefore bounded again by pulling unit functionals back
to the input, in both semantics, and the better bound is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from encoders.contract.contract import RuntimeContract
from encoders.lemmas.combining import EXACT
from encoders.lemmas.differences import GIVEN_ERROR
from encoders.lemmas.kernel import Radius, apply, exactly_zero
from encoders.lemmas.ranges.making import both_ranges, given_ranges
from encoders.numbers.enclosure import FloatArray, Interval
from encoders.operator import RoundingBound
from encoders.program import Step, forward, program_of
from encoders.relaxations.probabilities.mixtures import Mix
from encoders.rounding.rounding_bounds import rounder_of, stored_loss
from onnx_import.graph import Graph, Node
from refine.bounds.alpha import Branching
from refine.bounds.backward import Maps, Pulled
from refine.bounds.cases.secant_branching import can_branch
from refine.bounds.ellipsoids.taking import take_ellipsoid, when_late
from refine.bounds.evaluated import errors_at, values_at
from refine.bounds.influence import costs_of_worst, influence_of
from refine.bounds.joint.entry import Entry
from refine.bounds.joint.expanding import Way
from refine.bounds.joint.joining import Joining, Runner
from refine.bounds.local.allowance import ERRORS, VALUES, Allowance
from refine.bounds.local.bending import forms_of_read
from refine.bounds.local.errors import Run, Runs, bound_errors
from refine.bounds.local.leaning import lean
from refine.bounds.local.loud import Loud
from refine.bounds.local.mixing import forms_of_mixed, mixing
from refine.bounds.local.part_sums import part_sums
from refine.bounds.local.refining import branched_errors, refined_errors, refined_values
from refine.bounds.local.values import bound_values
from refine.bounds.optimising import optimise_values
from refine.bounds.pruning import (
    Effort,
    Rows,
    errors_worth_refining,
    feeds_nonlinear,
    gained,
    gains,
    in_parts,
    values_worth_refining,
    widths,
)
from refine.common.clock import ShortOfTime

_MUCH = 0.5  # of a bound, lost in relaxations
_MOST_LEANING = 4 * 10**9  # multiply-adds of the pull-backs that say how far rows lean
_MOST_SUMMED = 4 * 10**9  # of those that say how large partial sums are
_MOST_MIXED = 10**9  # of those that say how what is mixed moves


@dataclass(frozen=True)
class NodeBounds:
    """What was shown of one node: real range, error after it, and its own rounding error.

    `assumed` are the run-time ranges of its inputs that the rounding bound rests on; `run` is what
    executes in its place.
    """

    step: Step
    values: Interval
    errors: FloatArray
    rounding: RoundingBound
    assumed: Mapping[str, Interval]
    run: Run

    @property
    def node(self) -> Node:
        """The node of the step."""
        return self.step.node


@dataclass(frozen=True)
class Margin:
    """By how much the best row of one conjunction of an unsafe set stays out of reach over a box,
    at least.

    `run` is proved of every allowed execution, `real` of the real network; a negative one says that
    the row may hold. `row` is its place in the conjunction; behind all rows, that of a sum of
    them with factors of which the sum is 1. `lacks` is by how much it may be reached, where that is
    kept.
    """

    conjunction: int
    row: int
    run: float
    real: float
    safe: bool
    lacks: Radius | None = None


@dataclass(frozen=True)
class NetworkBounds:
    """Bounds of a whole network on one box.

    `radii` maps each graph output to |x̂ − x| per element; `costs` says, for the output element
    with the largest bound, how much of it each node's rounding and relaxation is responsible for,
    and `roundings` how much its rounding alone.
    `influence` says, per graph input element, how much of that is tied to its width: a guide for
    splitting the box, no more. `margins` are those of a property, where one is claimed
    (refine/bounds/properties/margins.py). `running` has ranges at run time that are proved to be
    narrower than values and errors say. `cut_short` are the tensors whose functionals the work
    that a pass may do did not suffice for, and `hurried` says that time did not: what then was
    not pulled back was composed forward. `rewritten` says that normalisations were bounded in
    another way than as what the graph has.
    """

    maps: Maps
    nodes: tuple[NodeBounds, ...]
    radii: Mapping[str, Radius]
    costs: Mapping[str, float]
    influence: Mapping[str, FloatArray]
    margins: tuple[Margin, ...] = ()
    roundings: Mapping[str, float] = field(default_factory=dict)
    running: Mapping[str, Interval] = field(default_factory=dict)
    cut_short: frozenset[str] = frozenset()
    hurried: bool = False
    rewritten: bool = False

    @property
    def lost(self) -> float:
        """How much of the largest bound relaxations lose, of 1."""
        whole = sum(self.costs.values())
        return 1.0 - sum(self.roundings.values()) / whole if 0.0 < whole < np.inf else 1.0

    @property
    def errors(self) -> Mapping[str, FloatArray]:
        """The numbers of the radii."""
        return {t: radius.bound for t, radius in self.radii.items()}

    @property
    def flawed(self) -> frozenset[str]:
        """Outputs whose bound was negative on the way to what it is: a bug of ours."""
        return frozenset(t for t, radius in self.radii.items() if radius.record.flawed)

    @property
    def largest(self) -> float:
        """The largest bound of all output elements; +∞ where nothing is known of one."""
        return max((radius.largest for radius in self.radii.values()), default=0.0)


@dataclass(frozen=True)
class InputBox:
    """Per graph input: its real range, and how far the runtime's copy may be from it."""

    values: Mapping[str, Interval]
    errors: Mapping[str, FloatArray]


@dataclass(frozen=True)
class Known:
    """Bounds of tensors, proved over a larger box or known otherwise. Of those that are `followed`
    through the only execution nothing better can be known."""

    values: Mapping[str, Interval]
    radii: Mapping[str, Radius]
    followed: frozenset[str] = frozenset()


def network_bounds(
    graph: Graph,
    box: InputBox,
    contract: RuntimeContract,
    *,
    backward: bool = True,
    tick: Callable[[], None] = lambda: None,
    known: Known | None = None,
    branching: Branching | None = None,
    runs: Runs | None = None,
    spread: frozenset[str] = frozenset(),
    together: Runner | None = None,
) -> NetworkBounds:
    """Bound every tensor of a network over one box.

    `backward` False composes forward only: quick, and far too pessimistic for deep networks.
    `known` are bounds proved over a box that contains this one; they are never worsened.
    `branching` says how hard to try to decide the signs of unstable elements.
    `runs` says what executes in place of each node, where that is another operator or has other
    weights; errors are then from this graph's real values to that execution.
    `spread` names the outputs whose real ranges are wanted as tight as their errors.
    `together` says what runs of a formula of one number that nodes spell out: these are then taken
    together, what is said of the last of them is of all, and those before it lead nowhere.
    `tick` is called often and may raise to stop. Raises UnsupportedModel, naming the node, for
    what has no meaning.
    """
    bounded = partial(
        _network_bounds,
        graph,
        box,
        contract=contract,
        backward=backward,
        tick=tick,
        known=known,
        branching=branching,
        runs=runs,
        spread=spread,
    )
    with np.errstate(all="ignore"):  # infinities and NaN mean that nothing is known
        found = bounded(joining=Joining.of(program_of(graph).checked, together))
        if not (backward and found.rewritten and found.lost > _MUCH) or found.hurried:
            return found
        other = bounded(joining=Joining.of(program_of(graph).checked, together, ways=False))
        best, worse = sorted((found, other), key=lambda bounds: bounds.largest)
        radii = {t: radius.and_also(worse.radii[t]) for t, radius in best.radii.items()}
        return replace(best, radii=radii)


def _network_bounds(
    graph: Graph,
    box: InputBox,
    contract: RuntimeContract,
    *,
    backward: bool,
    tick: Callable[[], None],
    known: Known | None,
    branching: Branching | None,
    runs: Runs | None,
    spread: frozenset[str],
    joining: Joining,
) -> NetworkBounds:
    program = program_of(graph).checked
    maps = Maps(program, given_ranges(box.values))
    for tensor, error in box.errors.items():
        maps.err_by(tensor, apply(GIVEN_ERROR, U=error))
    if known is None and backward:
        exact = values_at(graph, box.values)
        same = runs is None and not any(np.any(error) for error in box.errors.values())
        radii = errors_at(graph, box.values, contract, exact) if same else {}
        known = Known(exact, radii, frozenset(radii))
    cases = branching is not None and branching.cases > 0 and can_branch(program)
    passing = _Pass(
        maps,
        contract,
        backward=backward,
        tick=tick,
        known=known,
        branching=branching,
        cases=cases,
        runs=runs,
        spread=spread,
        allowance=Allowance.of(graph, {} if known is None else known.values, spread),
        joining=joining,
        loud=None if branching is None or runs is not None else Loud(contract, branching, tick),
    )
    nodes = tuple(forward(program, {}, passing.bounded).values())
    maps = passing.maps
    radii = {
        t: maps.radii[t] if t in maps.radii else _stored_errors(graph, t, contract)
        for t in graph.outputs
    }
    if known is not None:
        radii = {t: r.and_also(known.radii[t]) if t in known.radii else r for t, r in radii.items()}
    costs, roundings = (
        passing.joining.of_owners(spent)
        for spent in costs_of_worst(radii, passing.pulled, passing.refined)
    )
    influence = influence_of(maps, costs, passing.pushes, spread)
    return NetworkBounds(
        maps,
        nodes,
        radii,
        costs,
        influence,
        roundings=roundings,
        cut_short=frozenset(passing.allowance.cut),
        hurried=passing.hurried,
        rewritten=bool(joining.chosen),
    )


@dataclass
class _Pass:
    """A forward pass under way. Of the tensors refined so far: how their errors were `pulled` back,
    which rows of them, and how their widths hang on the inputs' elements (`pushes`)."""

    maps: Maps
    contract: RuntimeContract
    backward: bool
    tick: Callable[[], None]
    known: Known | None
    branching: Branching | None
    cases: bool
    runs: Runs | None
    spread: frozenset[str]
    allowance: Allowance
    joining: Joining
    loud: Loud | None = None
    hurried: bool = False
    effort: Effort = field(default_factory=Effort)
    pulled: dict[str, Pulled] = field(default_factory=dict)
    refined: dict[str, Rows] = field(default_factory=dict)
    pushes: dict[str, Mapping[str, FloatArray]] = field(default_factory=dict)

    def _in_time(self, pull: Callable[..., object], *given: object) -> None:
        """Pulls back, until time is short: what is left of the pass is composed forward then."""
        try:
            pull(*given)
        except ShortOfTime:
            self.backward, self.hurried, self.tick = False, True, _nothing

    def bounded(self, step: Step, before: Mapping[str, NodeBounds]) -> tuple[NodeBounds]:
        """The bounds of one node, which are entered into the maps too."""
        self._in_time(self.tick)
        self.maps, step = self.joining.at(step, self.maps)
        found = self._bounded(step, self.joining.runs(step, self.runs, self.contract))
        ways = self.joining.ways(step, self.maps, self.runs, self.contract)
        for way in ways if self.backward else ():
            found = self._tried(found, way)
        return (found,)

    def _tried(self, found: NodeBounds, way: Way) -> NodeBounds:
        """A step bounded in another way: both bounds hold, and the better carries functionals."""
        maps, output, before = self.maps, way.last.output, Entry.of(self.maps, way.last)
        held = [d.get(output) for d in self._about_pulls]
        self.maps = way.maps
        for inner in way.inner:
            self._bound_inside(inner, way.runs)
        before.left(maps, way.last)
        second = self._bounded(way.last, way.runs)
        after = Entry.of(self.maps, way.last)
        self.joining.owners.update({step.name: way.last.name for step in way.inner})
        if not after.better_than(before):
            self.maps = maps
            before.entered(maps, way.last)
            for kept, known in zip(self._about_pulls, held, strict=True):
                kept.update({} if known is None else {output: known})
        else:
            self.joining.chosen.add(way.last.name)
            found = found if way.inner else second
        self.maps.values[output] = both_ranges(before.values, after.values)
        self.maps.err_by(output, before.radius.and_also(after.radius))
        return replace(found, values=self.maps.values[output], errors=self.maps.errors[output])

    @property
    def _about_pulls(self) -> tuple[dict[str, Any], ...]:
        """What is kept of how a tensor was pulled back."""
        return self.pulled, self.refined, self.pushes

    def _bound_inside(self, step: Step, runs: Runs | None) -> None:
        """The bounds of a step that no file has, of which all that bends reads is pulled back."""
        maps, output, most = self.maps, step.output, self.allowance.deepest
        bound_values(maps, step)
        every = np.arange(maps.values[output].lo.size)
        bends = feeds_nonlinear(maps.program, output)
        if bends:
            self._in_time(refined_values, maps, output, every, self.tick, most)
        bound_errors(maps, step, self.contract, runs)
        if bends and self.backward:
            pull = partial(refined_errors, maps, output, tick=self.tick, most=most, late=None)
            self._in_time(pull, every)

    def _bounded(self, step: Step, runs: Runs | None) -> NodeBounds:
        maps, program, output = self.maps, self.maps.program, step.output
        self.effort = self.effort.after(step.work, program.graph.types[output].size)
        final = output in program.graph.outputs
        refine = self.backward and (final or feeds_nonlinear(program, output))
        refine = refine and step.name not in self.joining.inside
        if refine and not final and not gains(program, step, self.pushes):
            refine = False
            self.pushes[output] = self.pushes.get(step.reads[0], {})
        if self.backward and step.operator.normalizes is not None:
            self._in_time(self._lean, step, final)
        if self.backward:
            self._in_time(self._enclose_read, step, final)
        mix = mixing(maps, step)
        if mix is not None:
            maps.mixes[step.name] = mix
            if self.backward and mix.near is not None:
                self._in_time(self._enclose_mixed, step, mix, final)
        bound_values(maps, step)
        if self.known is not None and output in self.known.values:
            maps.values[output] = both_ranges(maps.values[output], self.known.values[output])
        if refine:
            self._in_time(self._refine_values, output, final)
        if self.branching is not None and self.backward and self.runs is None:
            self._in_time(self._sum_up, step, final)
        rounding, assumed, run = bound_errors(maps, step, self.contract, runs)
        if self.known is not None and output in self.known.radii and not self.cases:
            maps.err_by(output, maps.radii[output].and_also(self.known.radii[output]))
        followed = self.known is not None and output in self.known.followed
        if followed and not self.cases:
            maps.ends.add(output)
        if refine and self.backward and (final or not followed):
            self._in_time(self._refine_errors, output, final)
        if self.branching is not None and self.backward:
            self._in_time(take_ellipsoid, maps, step, self.tick, self.allowance.deepest)
        if step.name in maps.flaws:
            rounding = rounding.flawed()
        real, error = maps.values[output], maps.errors[output]
        return NodeBounds(step, real, errors=error, rounding=rounding, assumed=assumed, run=run)

    def _lean(self, step: Step, final: bool) -> None:
        """How far the rows that it normalises lean."""
        most = int(_MOST_LEANING // self.effort.times(2).whole)
        found = lean(self.maps, step, self.tick, None if final else self.allowance.deepest, most)
        if found is not None:
            self.maps.leans[step.name] = found

    def _enclose_read(self, step: Step, final: bool) -> None:
        """How what it reads moves with the inputs, where it bends."""
        most = int(_MOST_MIXED // self.effort.times(2).whole)
        deepest = None if final else self.allowance.deepest
        found = forms_of_read(self.maps, step, self.tick, deepest, most)
        if found:
            self.maps.forms[step.name] = found

    def _enclose_mixed(self, step: Step, mix: Mix, final: bool) -> None:
        """How what it mixes moves with the inputs."""
        most = int(_MOST_MIXED // self.effort.times(2).whole)
        deepest = None if final else self.allowance.deepest
        forms = forms_of_mixed(self.maps, step, self.tick, deepest, most)
        self.maps.mixes[step.name] = mix.enclosed(forms)

    def _sum_up(self, step: Step, final: bool) -> None:
        """How large partial sums of its products are."""
        most = int(_MOST_SUMMED // self.effort.times(2).whole)
        deepest = None if final else self.allowance.deepest
        found = part_sums(
            self.maps, step, self.contract, tick=self.tick, most=deepest, affordable=most
        )
        if found is not None:
            self.maps.part_sums[step.name] = found

    def _refine_values(self, output: str, final: bool) -> None:
        values = self.maps.values[output]
        rows = values_worth_refining(self.maps.program, output, values, self.effort.times(2))
        far, wide = None if final else self.allowance.deepest, widths(values)
        granted = self.allowance.granted(output, VALUES, rows, wide, far)
        asked, others = in_parts(granted.rows, wide, granted.each, granted.costly)
        most = granted.nodes
        self.allowance.spend(granted.price(asked))
        pushes = refined_values(self.maps, output, asked, self.tick, most)
        now = widths(self.maps.values[output])
        if len(others) and gained(wide, now, granted.whole, granted.costly):
            self.allowance.spend(granted.price(others))
            more = refined_values(self.maps, output, others, self.tick, most)
            pushes = {t: push + more[t] for t, push in pushes.items()}
        self.pushes[output] = pushes
        wanted = not final or output in self.spread
        if self.branching is not None and not self.branching.late and wanted:
            optimise_values(self.maps, output, final, self.branching, self.tick)

    def _refine_errors(self, output: str, final: bool) -> None:
        errors = self.maps.errors[output]
        values = self.maps.values[output]
        rows = errors_worth_refining(self.maps.program, output, values, errors, self.effort)
        far = None if final else self.allowance.deepest
        granted = self.allowance.granted(output, ERRORS, rows, errors, far)
        asked, others = in_parts(granted.rows, errors, granted.each, granted.costly)
        most = granted.nodes
        self.allowance.spend(granted.price(asked))
        late = when_late(self.branching, len(asked) if final else None)
        pull = partial(refined_errors, self.maps, output, tick=self.tick, most=most, late=late)
        pulled, refined = pull(asked), asked
        now = self.maps.errors[output]
        if len(others) and gained(errors, now, granted.whole, granted.costly):
            self.allowance.spend(granted.price(others))
            pulled = pulled.joined(pull(others))
            refined = np.concatenate([asked, others])
        self.pulled[output], self.refined[output] = pulled, refined
        if self.loud is not None and final:
            self.loud.bound(self.maps, output, refined, pulled, most)
        if self.branching is not None and self.cases and not self.branching.late:
            branched_errors(
                self.maps,
                output,
                rows=rows,
                final=final,
                branching=self.branching,
                tick=self.tick,
                reline=None if self.loud is None else self.loud.reline,
            )


def _nothing() -> None:
    """Time has been asked of."""


def _stored_errors(graph: Graph, tensor: str, contract: RuntimeContract) -> Radius:
    """A constant output: what storing it in the compute format changes."""
    if not graph.types[tensor].dtype.is_float:
        return exactly_zero(EXACT, graph.types[tensor].shape)
    r = rounder_of(graph.types[tensor].dtype, contract)
    return stored_loss(r, np.asarray(graph.constants[tensor], np.float64))
