"""Errors of outputs where roundings are affine in what is summed (encoders/rounding/lines.py).

Lines touch what roundings cost at a point of reference: at the middle of the inputs, and at points
between there and where an output was found loudest (Frank & Wolfe 1956), which are looked for as
long as that pays.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from encoders.contract.contract import AnyOrder, BiasPlacement, Contraction, RuntimeContract
from encoders.contract.orders import AlignedSteps, is_one_chain
from encoders.lemmas.differences import PULLED_BACK
from encoders.lemmas.kernel import apply
from encoders.numbers.enclosure import BoolArray, FloatArray, Interval
from encoders.operator import Site, is_affine, remembered
from encoders.program import Step
from encoders.registry import operators
from encoders.rounding.lines import RoundingLines, Summed, rounding_lines
from encoders.rounding.rounding_bounds import rounder, stored_loss
from encoders.scheduling import contract_at
from onnx_import.graph import DType
from refine.bounds.alpha import Branching, evaluated
from refine.bounds.backward import Maps, Pulled, pull_back, unit_functionals
from refine.bounds.optimising import chunks
from refine.bounds.pruning import Rows

_MOST = 2**18  # weights of a step, zeros among them, beyond which it has no lines
_ROUNDS = 4
_TELLING = 0.01  # of a bound: the roundings of a step that are worth lines
_GAIN = 0.995  # of a bound: what the next has to be at most for a further one

Input = Mapping[str, FloatArray]
"""Per input of the network, a number for each of its elements."""


@dataclass(frozen=True)
class Loud:
    """The lines of a pass under way, which are entered into its maps."""

    contract: RuntimeContract
    branching: Branching
    tick: Callable[[], None]

    def bound(self, maps: Maps, output: str, rows: Rows, pulled: Pulled, most: int | None) -> None:
        """Better errors of an output's elements, with lines that are moved to where the largest was
        found; `pulled` says which roundings they come from."""
        if self.branching.late or not len(rows):
            return
        before, here = np.inf, _middle(maps)
        self._enter(maps, here, _telling(maps, pulled))
        for i in range(_ROUNDS if maps.lines else 0):
            now, corner = _bounded(maps, output, rows, self.tick, most)
            if now > _GAIN * before or self.branching.late:
                break
            before = now
            here = {t: x + 2.0 / (i + 3.0) * (corner[t] - x) for t, x in here.items()}
            self.reline(maps, here)

    def reline(self, maps: Maps, there: Input) -> None:
        """Has all lines touch at an input."""
        self._enter(maps, there, [s for s in maps.program.steps if s.name in maps.lines])

    def _enter(self, maps: Maps, there: Input, steps: Sequence[Step]) -> None:
        point = {name: x[None] for name, x in there.items()}
        for step in steps:
            found = lines_of(maps, step, self.contract, point)
            if found is not None:
                maps.lines[step.name] = found


def _telling(maps: Maps, pulled: Pulled) -> list[Step]:
    """The steps of whose roundings much of the largest bound comes."""
    row = int(np.argmax(pulled.upper))
    least = _TELLING * float(pulled.upper[row])
    costs = {name: float(cost[row]) for name, cost in pulled.roundings.items()}
    return [s for s in maps.program.steps if s.name in costs and costs[s.name] >= least]


def _middle(maps: Maps) -> dict[str, FloatArray]:
    ends = {name: maps.values[name] for name in maps.graph.inputs}
    return {name: 0.5 * x.lo + 0.5 * x.hi for name, x in ends.items()}


def _at(maps: Maps, tensor: str, point: dict[str, FloatArray]) -> FloatArray:
    """The real value of a tensor, about."""
    for step in maps.program.steps:
        if tensor in point:
            break
        if step.output not in point:
            point[step.output] = np.asarray(evaluated(step, point), np.float64)
    return np.asarray(point[tensor][0])


def lines_of(
    maps: Maps, step: Step, contract: RuntimeContract, point: dict[str, FloatArray]
) -> RoundingLines | None:
    """Lines over the roundings of sums of products with stored weights, touching at a point; None
    where they are no such sums, or computed in a way that is not known here, or where lines are no
    better there than what is known."""
    local, sums = maps.local[step.name], step.operator.sums
    if maps.kept or len(step.reads) != 1 or sums is None or not sums.products:
        return None
    (tensor,) = step.reads
    x, off, here = maps.values[tensor], maps.errors[tensor], contract_at(step.running, contract)
    if local.bound.size * x.lo.size > _MOST or not _plain(step, here):
        return None
    known = (x.lo, x.hi, off, local.bound)
    held = _held(step.site)
    if held is None or not all(np.all(np.isfinite(v)) for v in known):
        return None
    r = rounder(step.site, here)
    if np.any(stored_loss(r, held.weights).bound) or np.any(stored_loss(r, held.bias).bound):
        return None
    flat, there = Interval(x.lo.reshape(-1), x.hi.reshape(-1)), _at(maps, tensor, point)
    s = Summed(held.weights, flat, off.reshape(-1), held.bias, local, there.reshape(-1))
    parts, ends = maps.part_sums.get(step.name), (BiasPlacement.FIRST, BiasPlacement.LAST)
    chained = here.bias in ends and is_one_chain(here.order, sums.extent(step.site).terms)
    with np.errstate(all="ignore"):
        found = rounding_lines(
            r,
            s,
            chained=chained and held.in_order,
            fused=here.contraction is Contraction.ALWAYS,
            bias_first=here.bias is BiasPlacement.FIRST,
            prefixes=None if parts is None else parts.prefixes,
            sides=None if parts is None else (parts.above.reshape(-1), parts.below.reshape(-1)),
        )
    return None if found is None else replace(found, size=x.magnitude)


def _plain(step: Step, contract: RuntimeContract) -> bool:
    """Are its operations additions and products of numbers of the tensor's own format, as they are,
    in any order or one after the other?"""
    attributes = step.node.attributes
    scaled = any(attributes.get(name, 1.0) != 1.0 for name in ("alpha", "beta"))
    formats = (contract.compute_format, contract.stored_format, contract.narrow)
    wide = (contract.accumulation, contract.factor_format, *formats)
    aligned = isinstance(contract.order, AlignedSteps) or (
        isinstance(contract.order, AnyOrder) and contract.order.alignment is not None
    )
    typed = step.site.outputs[0].dtype is DType.FLOAT32
    return typed and not (scaled or contract.exact or aligned or any(f is not None for f in wide))


@dataclass(frozen=True)
class _Held:
    """The stored weights (elements, numbers) of sums, and what is added, (elements,); `in_order`
    says that their terms are in the order of the numbers."""

    weights: FloatArray
    bias: FloatArray
    in_order: bool


@remembered
def _held(site: Site) -> _Held | None:
    operator = operators()[site.node.op]
    sums, (position,) = operator.sums, site.variable
    if sums is None or not is_affine(operator, site):
        return None
    shape, size = site.outputs[0].shape, site.type_of(position).size
    zeros = np.zeros(site.type_of(position).shape)

    def weights_of(at: Site) -> tuple[FloatArray, FloatArray] | None:
        carry = operator.values(at, [Interval(zeros, zeros)]).carry
        if carry is None or np.any(carry().around) or carry().above is not None:
            return None
        (w,) = carry().coefficients(unit_functionals(shape, np.arange(site.outputs[0].size)))
        exact = carry().exact
        bias = np.broadcast_to(0.0 if exact is None else exact, shape)
        return w.reshape(-1, size), bias.reshape(-1)

    whole = weights_of(site)
    if whole is None:
        return None
    terms, in_order = sums.extent(site).terms, sums.first is not None
    for many in (terms // 3, terms // 2, terms - 1):
        first = None if sums.first is None else weights_of(sums.first(site, many))
        in_order &= first is not None and _leads(first[0] != 0, whole[0] != 0)
    return _Held(*whole, in_order)


def _leads(first: BoolArray, every: BoolArray) -> bool:
    """Row by row, are the first ones before the others?"""
    places = np.arange(every.shape[1])
    last = np.max(np.where(first, places, -1), axis=1)
    others = np.min(np.where(every & ~first, places, every.shape[1]), axis=1)
    return bool(np.all(last < others))


def _bounded(
    maps: Maps, output: str, rows: Rows, tick: Callable[[], None], most: int | None
) -> tuple[float, dict[str, FloatArray]]:
    """Better errors of these elements; the largest, and where it is attained."""
    shape = maps.errors[output].shape
    found, worst = np.full(maps.errors[output].size, np.inf), -np.inf
    corner = _middle(maps)
    for chunk in chunks(maps.graph, rows, copies=2):
        pulled = pull_back(
            maps, {}, {output: unit_functionals(shape, chunk)}, tick, most=most, lined=True
        )
        found[chunk] = np.maximum(pulled.upper, 0.0)
        at = int(np.argmax(pulled.upper))
        if pulled.upper[at] > worst:
            worst, corner = float(pulled.upper[at]), _corner(maps, pulled, at)
    limit = apply(PULLED_BACK, U=found.reshape(shape))
    maps.err_by(output, maps.radii[output].and_also(limit))
    return worst, corner


def _corner(maps: Maps, pulled: Pulled, at: int) -> dict[str, FloatArray]:
    found = _middle(maps)
    for name, c in pulled.on_inputs.items():
        x = maps.values[name]
        found[name] = np.where(c[at] > 0, x.hi, np.where(c[at] < 0, x.lo, found[name]))
    return found
