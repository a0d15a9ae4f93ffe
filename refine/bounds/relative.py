"""Relative precision of a whole network: |ln(x̂/x)| of every tensor's elements over a box.

Two proofs, of which the smaller counts element by element. Relative precisions flow forward through
the run-time semantics of each operator (encoders/rounding/relative_arithmetic.py), and what is
known absolutely of a tensor, pulled back to the inputs where that was done, is a relative precision
where its real values stay away from 0. So a tensor that is only known absolutely, such as scores of
both signs, can start the flow anew behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from encoders.contract.contract import (
    AnyOrder,
    BiasPlacement,
    Contraction,
    OpenSchedule,
    RuntimeContract,
    Subnormals,
)
from encoders.contract.orders import AlignedSteps, Sequential, alignment_of
from encoders.functions.accuracy import Transcendental
from encoders.lemmas.combining import EXACT
from encoders.lemmas.differences import GIVEN_ERROR
from encoders.lemmas.kernel import Radius, apply, exactly_zero, nothing_known
from encoders.lemmas.ranges.making import given_ranges
from encoders.lemmas.ways.relative import TO_ERROR
from encoders.numbers.enclosure import Interval, add_up, anywhere, multiply_up, point
from encoders.operator import RuntimeSemantics
from encoders.program import Step, arguments, program_of
from encoders.rounding.error_arithmetic import ErrorArithmetic
from encoders.rounding.proportions import Proportion
from encoders.rounding.relative_arithmetic import RelativeArithmetic
from encoders.rounding.rounding_bounds import rounder, rounder_of, stored_loss
from encoders.rounding.tracked import tracked
from encoders.scheduling import contract_at
from onnx_import.graph import Graph
from refine.bounds.alpha import Branching
from refine.bounds.backward import Maps
from refine.bounds.local.errors import Run, bound_errors
from refine.bounds.local.values import bound_values
from refine.bounds.network import InputBox, Known, NetworkBounds, NodeBounds, network_bounds

_CHEAP = 2**22  # coefficients of a pull-back that is done although precisions are known without


@dataclass(frozen=True)
class RelativeErrors:
    """The problem of the relative error of a network: `radii` bound |x̂ − x|/|x| of the outputs'
    elements, and say that x̂ is 0 where x is."""

    graph: Graph
    contract: RuntimeContract
    single: bool = False

    def bounds(
        self,
        box: InputBox,
        backward: bool = True,
        tick: Callable[[], None] = lambda: None,
        known: Known | None = None,
        branching: Branching | None = None,
    ) -> NetworkBounds:
        """As `network_bounds`. Functionals are pulled back where precisions that flow forward do
        not reach an output, or where that costs little."""
        with np.errstate(all="ignore"):  # infinities and NaN mean that nothing is known
            flow = flowed(self.graph, box, self.contract, tick)
            found = self._relative(flow.bounds, flow.held)
            reached = all(r.largest < np.inf for r in found.radii.values())
            if not backward or (reached and self._coefficients > _CHEAP):
                return found
            pulled = network_bounds(
                self.graph,
                box,
                contract=self.contract,
                tick=tick,
                known=flow.known(known),
                branching=branching,
                runs=flow.run,
                spread=frozenset(self.graph.outputs),
            )
            nodes = tuple(replace(n, assumed=flow.assumed(n)) for n in pulled.nodes)
            running = flow.bounds.running
            better = self._relative(replace(pulled, nodes=nodes, running=running))
            radii = {t: r.and_also(found.radii[t]) for t, r in better.radii.items()}
        return replace(better, radii=radii)

    @property
    def _coefficients(self) -> int:
        """How many a pull-back of the outputs has, at most."""
        types = self.graph.types
        program = program_of(self.graph)
        largest = max((types[t].size for s in program.steps for t in s.reads), default=1)
        return largest * max((types[t].size for t in self.graph.outputs), default=1)

    def _relative(
        self, bounds: NetworkBounds, known: Mapping[str, Proportion] | None = None
    ) -> NetworkBounds:
        found = output_precisions(self.graph, bounds, self.contract, known)
        radii = {t: apply(TO_ERROR, g=p.absorbed) for t, p in found.items()}
        return replace(bounds, radii=radii, costs={}, roundings={})


@dataclass(frozen=True)
class Flow:
    """A network's bounds over a box by forward composition, in which what a precision says of a
    tensor is known absolutely too: how far it is off, and in which range it runs."""

    bounds: NetworkBounds
    contract: RuntimeContract
    held: Mapping[str, Proportion]

    def run(self, step: Step, ranges: Sequence[Interval]) -> Run:
        """The step itself, on run-time ranges that precisions narrow down."""
        known = (run_time_range(self.held[t]) for t in step.reads)
        both = tuple(x.intersect(y) for x, y in zip(ranges, known, strict=True))
        return Run(step, np.zeros(()), self.contract, both)

    def assumed(self, node: NodeBounds) -> Mapping[str, Interval]:
        """The run-time ranges that the rounding bound of a node rests on."""
        held = node.run.held
        return node.assumed if held is None else dict(zip(node.step.reads, held, strict=True))

    def known(self, before: Known | None) -> Known:
        """What is known of tensors by now, and was before."""
        maps = self.bounds.maps
        radii, values = dict(maps.radii), dict[str, Interval](maps.values)
        if before is not None:
            for t, x in before.values.items():
                values[t] = values[t].intersect(x) if t in values else x
            for t, r in before.radii.items():
                radii[t] = radii[t].and_also(r) if t in radii else r
        return Known(values, radii)


def flowed(
    graph: Graph, box: InputBox, contract: RuntimeContract, tick: Callable[[], None]
) -> Flow:
    """The forward composition of a network over a box, with relative precisions."""
    program = program_of(graph).checked
    maps = Maps(program, given_ranges(box.values))
    held: dict[str, Proportion] = {}
    for tensor, error in box.errors.items():
        maps.err_by(tensor, apply(GIVEN_ERROR, U=error))
        held[tensor] = _absolutely(maps.values[tensor], maps.radii[tensor])
    flow = Flow(NetworkBounds(maps, (), {}, {}, {}), contract, held)
    nodes = []
    for step in program.steps:
        tick()
        bound_values(maps, step)
        rounding, _, run = bound_errors(maps, step, contract, flow.run)
        if step.name in maps.flaws:
            rounding = rounding.flawed()
        output = step.output
        value = _known_after(step, maps, held, contract)
        maps.err_by(output, maps.radii[output].and_also(value.off))
        held[output] = value
        real, error = maps.values[output], maps.errors[output]
        node = NodeBounds(step, real, errors=error, rounding=rounding, assumed={}, run=run)
        nodes.append(replace(node, assumed=flow.assumed(node)))
    radii = {
        t: maps.radii[t] if t in maps.radii else _stored(graph, t, contract) for t in graph.outputs
    }
    running = {tensor: run_time_range(value) for tensor, value in held.items()}
    found = NetworkBounds(maps, tuple(nodes), radii, {}, {}, running=running)
    return replace(flow, bounds=found)


def while_normal(graph: Graph, box: InputBox, contract: RuntimeContract) -> dict[str, Radius]:
    """By output, the precision in every execution that overflows nowhere and has no subnormal
    result or operand: by signs alone, whatever the ranges are. The real values of inputs are
    taken from the box; of operators that are not followed nothing is known."""
    held = {
        t: _absolutely(box.values[t], apply(GIVEN_ERROR, U=error))
        for t, error in box.errors.items()
    }
    with np.errstate(all="ignore"):
        for step in program_of(graph).checked.steps:
            kind = step.site.outputs[0]
            found = followed(step, held, contract, normal=True) if kind.dtype.is_float else None
            held[step.output] = _anything(kind.shape) if found is None else found
    return {t: held[t].absorbed for t in graph.outputs if t in held}


def _anything(shape: tuple[int, ...]) -> Proportion:
    return _absolutely(anywhere(shape), nothing_known(shape))


def run_time_range(value: Proportion) -> Interval:
    """Where what is computed lies, by its precision and by what it is off by."""
    g, x, lost = value.precision.bound, value.ideal, value.lost.bound
    with np.errstate(all="ignore"):
        grown = np.where(g < 1.0, (1.0 + 2.0**-50) / (1.0 - g), np.inf)
        shrunk = np.where(g < 1.0, (1.0 - g) * (1.0 - 2.0**-50), 0.0)
        ends = []
        for end in (-x.lo, x.hi):  # the lower end is the upper one of what is negated
            least = np.where(end >= -(2.0**-1000), 0.0, end * shrunk)
            ends.append(np.where(end > 0, multiply_up(end, grown), least))
        low, high = -add_up(ends[0], lost), add_up(ends[1], lost)
    unknown = ~np.isfinite(g)  # nothing at all, then, not even of the sign
    low = np.where(unknown | np.isnan(low), -np.inf, low)
    high = np.where(unknown | np.isnan(high), np.inf, high)
    return value.tracked.computed.intersect(Interval(low, high))


def _stored(graph: Graph, tensor: str, contract: RuntimeContract) -> Radius:
    """A constant output: what storing it in the compute format changes."""
    if not graph.types[tensor].dtype.is_float:
        return exactly_zero(EXACT, graph.types[tensor].shape)
    r = rounder_of(graph.types[tensor].dtype, contract)
    return stored_loss(r, np.asarray(graph.constants[tensor], np.float64))


def output_precisions(
    graph: Graph,
    bounds: NetworkBounds,
    contract: RuntimeContract,
    known: Mapping[str, Proportion] | None = None,
) -> dict[str, Proportion]:
    """The outputs' elements, with their relative precision, from a network's bounds over a box;
    `known` is that of its tensors, if it has been found by now."""
    known = proportions(graph, bounds, contract) if known is None else known
    return {
        t: known[t]
        if t in known
        else _absolutely(point(np.asarray(graph.constants[t], np.float64)), bounds.radii[t])
        for t in graph.outputs
    }


def proportions(
    graph: Graph, bounds: NetworkBounds, contract: RuntimeContract, *, normal: bool = False
) -> Mapping[str, Proportion]:
    """Every tensor that varies, with its relative precision; arrays of the tensors' shapes."""
    maps, program = bounds.maps, program_of(graph)
    held: dict[str, Proportion] = {}
    for tensor in graph.inputs:
        if tensor in maps.values and tensor in maps.radii:
            held[tensor] = _absolutely(maps.values[tensor], maps.radii[tensor])
    for step in program.steps:
        held[step.output] = _known_after(step, maps, held, contract, normal=normal)
    return held


def _known_after(
    step: Step,
    maps: Maps,
    held: Mapping[str, Proportion],
    contract: RuntimeContract,
    *,
    normal: bool = False,
) -> Proportion:
    """What a step writes, by the flow and by what is known absolutely; no flow passes where a
    rounding has no bound, as where it may overflow."""
    real, error = maps.values[step.output], maps.radii[step.output]
    flow = None
    if step.site.outputs[0].dtype.is_float and maps.local[step.name].largest < np.inf:
        flow = followed(step, held, contract, normal=normal)
    return _absolutely(real, error) if flow is None else flow.beside(real, error)


def _absolutely(real: Interval, error: Radius) -> Proportion:
    """What an absolute error says of a tensor."""
    return Proportion.absolutely(tracked(real, error)).moved(lambda v: v[0])


def followed(
    step: Step, held: Mapping[str, Proportion], contract: RuntimeContract, *, normal: bool = False
) -> Proportion | None:
    """What a step writes, by any of the formulas that a runtime may take for it; None where there
    is no following it. `normal` as in `RelativeArithmetic`."""
    operator, site = step.operator, step.running
    here = contract_at(site, contract)
    forms: tuple[RuntimeSemantics, ...] = operator.followed
    if operator.movement:
        forms = (operator.runtime,)
    elif not forms or not operator.follows(site) or not _is_plain(step, here):
        return None
    here = here if operator.factors else here.for_sums()
    wide = None if operator.movement else here.wider_than(site.outputs[0].dtype)
    narrow = None
    if wide is not None:
        narrow = _arithmetic(step, here, False, normal)
        here = here.within(wide, here.format_of(site.outputs[0].dtype))
    found: Proportion | None = None
    for form in forms:
        outs = _by(form, step, held, here, normal=normal, narrow=narrow)
        if outs is None:
            return None
        for out in outs:
            found = out if found is None else found.or_else(out)
    return found


def _is_plain(step: Step, contract: RuntimeContract) -> bool:
    """Does a node compute by its formulas: a product of all of its factors, and what accumulates in
    a wider format without flushing anything?"""
    wide = contract.wider_than(step.site.outputs[0].dtype)
    keeps = contract.results is Subnormals.KEEP and contract.operands is Subnormals.KEEP
    if contract.narrow is not None or (wide is not None and not keeps):
        return False
    if not step.operator.factors:
        return True
    dtype = step.site.outputs[0].dtype
    return contract.shorter_than(dtype) is None and alignment_of(contract.order) is None


def _by(
    form: RuntimeSemantics,
    step: Step,
    held: Mapping[str, Proportion],
    contract: RuntimeContract,
    *,
    normal: bool,
    narrow: RelativeArithmetic | None,
) -> tuple[Proportion, ...] | None:
    """What a step writes by one formula, converted to a `narrow` format at the end where there is
    one; nothing where that is no formula here, None where it cannot be followed."""
    pinned = not isinstance(contract.order, AnyOrder) and contract.bias is not BiasPlacement.ANY
    if pinned:
        try:
            arithmetic = _arithmetic(step, contract, False, normal)
            return _computed(form, step, held, arithmetic, contract, narrow)
        except Transcendental:
            return None
        except OpenSchedule:
            if isinstance(contract.order, AlignedSteps):
                return None
    runs = replace(
        contract, order=Sequential(), bias=BiasPlacement.LAST, contraction=Contraction.NEVER
    )
    try:
        return _computed(form, step, held, _arithmetic(step, contract, True, normal), runs, narrow)
    except (Transcendental, OpenSchedule):
        return None


def _arithmetic(
    step: Step, contract: RuntimeContract, any_order: bool, normal: bool
) -> RelativeArithmetic:
    errors = ErrorArithmetic(rounder(step.running, contract), contract)
    return RelativeArithmetic(errors, any_order, normal)


def _computed(
    form: RuntimeSemantics,
    step: Step,
    held: Mapping[str, Proportion],
    arithmetic: RelativeArithmetic,
    contract: RuntimeContract,
    narrow: RelativeArithmetic | None,
) -> tuple[Proportion, ...]:
    read = {tensor: held[tensor].moved(lambda v: v[None]) for tensor in step.reads}
    given = arguments(step, read, lambda constant, _: arithmetic.stored(constant))
    outs = form(step.site, given, arithmetic, contract)
    outs = tuple(out if narrow is None else narrow.converted(out) for out in outs)
    shape = step.site.outputs[0].shape
    return tuple(out.moved(lambda v: np.broadcast_to(v[0], shape)) for out in outs)
