"""Relative precision of a whole network: |ln(x̂/x)| of every tensor's elements over a box.

Two proofs, of which the smaller counts element by element. Relative precisions flow forward through
the run-time semantics of each operator (encoders/rounding/relative_arithmetic.py), and what is
known absolutely of a tensor, pulled back to the inputs where that was done, is a relative precision
where its real values stay away from 0. So a tensor that is only known absolutely, such as scores of
both signs, can start the flow anew behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from encoders.arithmetic.values import Inputs
from encoders.contract.contract import (
    AnyOrder,
    BiasPlacement,
    Contraction,
    OpenSchedule,
    RuntimeContract,
)
from encoders.contract.orders import AlignedSteps, Sequential, alignment_of
from encoders.functions.accuracy import Transcendental
from encoders.lemmas.kernel import Radius, apply
from encoders.lemmas.ways.relative import TO_ERROR
from encoders.numbers.enclosure import Interval, point
from encoders.operator import RuntimeSemantics
from encoders.program import Step, program_of
from encoders.rounding.error_arithmetic import ErrorArithmetic
from encoders.rounding.proportions import Proportion
from encoders.rounding.relative_arithmetic import RelativeArithmetic
from encoders.rounding.rounding_bounds import rounder
from encoders.rounding.tracked import tracked
from encoders.scheduling import contract_at
from onnx_import.graph import Graph
from refine.bounds.alpha import Branching
from refine.bounds.network import InputBox, Known, NetworkBounds, network_bounds

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
        flowed = None
        if backward and self._coefficients > _CHEAP:
            found = self._bounded(box, False, tick, known, None)
            flowed = self._relative(found)
            if all(r.largest < np.inf for r in flowed.radii.values()):
                return flowed
        found = self._relative(self._bounded(box, backward, tick, known, branching))
        if flowed is None:
            return found
        radii = {t: r.and_also(flowed.radii[t]) for t, r in found.radii.items()}
        return replace(found, radii=radii)

    def _bounded(
        self,
        box: InputBox,
        backward: bool,
        tick: Callable[[], None],
        known: Known | None,
        branching: Branching | None,
    ) -> NetworkBounds:
        return network_bounds(
            self.graph,
            box,
            contract=self.contract,
            backward=backward,
            tick=tick,
            known=known,
            branching=branching,
            spread=frozenset(self.graph.outputs),
        )

    @property
    def _coefficients(self) -> int:
        """How many a pull-back of the outputs has, at most."""
        types = self.graph.types
        program = program_of(self.graph)
        largest = max((types[t].size for s in program.steps for t in s.reads), default=1)
        return largest * max((types[t].size for t in self.graph.outputs), default=1)

    def _relative(self, bounds: NetworkBounds) -> NetworkBounds:
        with np.errstate(all="ignore"):  # infinities and NaN mean that nothing is known
            found = output_precisions(self.graph, bounds, self.contract)
            radii = {t: apply(TO_ERROR, g=p.absorbed) for t, p in found.items()}
        return replace(bounds, radii=radii, costs={}, roundings={})


def output_precisions(
    graph: Graph, bounds: NetworkBounds, contract: RuntimeContract
) -> dict[str, Proportion]:
    """The outputs' elements, with their relative precision, from a network's bounds over a box."""
    known = proportions(graph, bounds, contract)
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
        output = step.output
        real, error = maps.values[output], maps.radii[output]
        flowed = None
        if step.site.outputs[0].dtype.is_float:
            flowed = followed(step, held, contract, normal=normal)
        if flowed is None:
            held[output] = _absolutely(real, error)
        else:
            held[output] = flowed.beside(real, error)
    return held


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
    elif not forms or not _is_plain(step, here):
        return None
    here = here if operator.factors else here.for_sums()
    found: Proportion | None = None
    for form in forms:
        out = _by(form, step, held, here, normal)
        if out is None:
            return None
        found = out if found is None else found.or_else(out)
    return found


def _is_plain(step: Step, contract: RuntimeContract) -> bool:
    """Does a node compute in the format of its tensors, and a product of all of its factors?"""
    dtype = step.site.outputs[0].dtype
    if contract.wider_than(dtype) is not None or contract.narrow is not None:
        return False
    if not step.operator.factors:
        return True
    return contract.shorter_than(dtype) is None and alignment_of(contract.order) is None


def _by(
    form: RuntimeSemantics,
    step: Step,
    held: Mapping[str, Proportion],
    contract: RuntimeContract,
    normal: bool,
) -> Proportion | None:
    pinned = not isinstance(contract.order, AnyOrder) and contract.bias is not BiasPlacement.ANY
    if pinned:
        try:
            return _computed(form, step, held, _arithmetic(step, contract, False, normal), contract)
        except Transcendental:
            return None
        except OpenSchedule:
            if isinstance(contract.order, AlignedSteps):
                return None
    runs = replace(
        contract, order=Sequential(), bias=BiasPlacement.LAST, contraction=Contraction.NEVER
    )
    try:
        return _computed(form, step, held, _arithmetic(step, contract, True, normal), runs)
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
) -> Proportion:
    """What a step writes by one formula."""
    once: dict[str, Proportion] = {}
    operands: list[Proportion | None] = []
    names = iter(step.reads)
    for kind, constant in zip(step.site.inputs, step.site.constants, strict=True):
        if kind is None:
            operands.append(None)
        elif constant is not None:
            operands.append(arithmetic.stored(constant))
        else:
            tensor = next(names)
            if tensor not in once:
                once[tensor] = held[tensor].moved(lambda v: v[None])
            operands.append(once[tensor])
    (out,) = form(step.site, Inputs(operands), arithmetic, contract)
    shape = step.site.outputs[0].shape
    return out.moved(lambda v: np.broadcast_to(v[0], shape))
