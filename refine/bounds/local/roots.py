"""Roots of sums of squares, taken together: a magnitude moves no more than its coordinates do.

Step by step, a square forgets that it is one: its root near 0 moves by √ε for ε. Where what a root
reads is a sum, or mean, of squares, moves of data in between, the root is a norm of what is
squared, which is 1-Lipschitz, and the roundings on the way are relative.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from encoders.contract.contract import RuntimeContract
from encoders.lemmas.kernel import Radius, apply, known_at
from encoders.lemmas.operations import COMPUTED_ROOT
from encoders.lemmas.rows import NORM
from encoders.numbers.enclosure import BoolArray, FloatArray, add_down, add_up
from encoders.operator import DifferenceMap, Moved
from encoders.program import Step, on_demand
from encoders.relaxing import DifferenceCarry
from encoders.rounding.norms import root_of_squares
from encoders.rounding.rounding_bounds import Rounder, rounder
from encoders.scheduling import contract_at
from encoders.traits import Absorption
from refine.bounds.backward import Maps

_BETTER = 0.5


@dataclass(frozen=True)
class _Squares:
    """A tensor that is a sum of squares: the sum of squares of what their roots are off by, and
    what roundings of the squares and of the sum are off by in all.

    Each square goes through at most `times` roundings, of `operations` per element, all of `r`;
    +∞ where that is not known, or more than can be counted.
    """

    moved: Radius
    rounded: Radius
    times: float
    operations: float
    r: Rounder


def with_norm(
    maps: Maps, step: Step, mapped: DifferenceMap, contract: RuntimeContract
) -> DifferenceMap:
    """The differences of a root, and where those of a norm are much less, those."""
    absorbs = step.operator.absorbs
    if absorbs is None or absorbs.by is not Absorption.ROOT:
        return mapped
    known: dict[str, _Squares | None] = {}

    def made(tensor: str, writer: Step | None) -> _Squares | None:
        return _squares_of(maps, tensor, writer, known, contract)

    found = on_demand(maps.program, step.reads[0], known, parts=_added_up, made=made)
    if found is None:
        return mapped
    maps.together[step.name] = _norm(maps, step.reads[0], found)
    return _where_better(mapped, maps.together[step.name])


def _norm(maps: Maps, tensor: str, found: _Squares) -> Radius:
    """|√ŝ − √s| of s = Σx²: the norm of what x is off by, and that of the roundings."""
    total = maps.values[tensor]
    moved = apply(NORM, q=found.moved, R=_root_up(found.moved.bound))
    least = np.sqrt(np.maximum(total.lo, 0.0)) * (1.0 - 2.0**-50)
    near = _root_up(found.rounded.bound)
    rounded = apply(
        COMPUTED_ROOT,
        e=found.rounded,
        near=near,
        low=np.maximum(add_down(least, -moved.bound), 0.0),
        floor=np.zeros(near.shape),
    )
    if max(found.times, found.operations) < np.inf and not found.r.exact:
        most = add_up(_root_up(total.hi), moved.bound)
        times, operations = int(found.times), int(found.operations)
        rounded = rounded.and_also(root_of_squares(found.r, times, most, operations=operations))
    return moved + rounded


def _squares_of(
    maps: Maps,
    tensor: str,
    step: Step | None,
    known: Mapping[str, _Squares | None],
    contract: RuntimeContract,
) -> _Squares | None:
    """What is known of a tensor, which a step writes, as a sum of squares, of which none comes out
    negative."""
    if step is None or step.name not in maps.local or tensor != step.output:
        return None
    here = contract_at(step.running, contract)
    r, local = rounder(step.site, here), maps.local[step.name]
    if step.operator.squares is not None:
        times = step.operator.squares(step.site, here)
        if times is None or not _not_negative(maps, step, here):
            return None
        given = maps.radii[step.reads[0]]
        return _Squares(given.times(given.bound), local, times, 1.0, r)
    parts = [part for t in _added_up(step) if (part := known[t]) is not None]
    if not parts or len(parts) < len(step.reads) or _below_zero(step):
        return None
    moved, rounded = (_through(maps, step, radii) for radii in zip(*_both(parts), strict=True))
    summands = step.operator.summands
    terms = summands(step.site) if summands else 0
    return _counted(_Squares(moved, rounded + local, 0.0, 0.0, r), step, parts, here, terms=terms)


def _added_up(step: Step) -> Sequence[str]:
    """What a step adds up, or moves, if that is all that it does."""
    operator = step.operator
    sums = operator.squares is None and (operator.summands or operator.movement)
    return step.reads if sums else ()


def _both(parts: Sequence[_Squares]) -> list[tuple[Radius, Radius]]:
    return [(part.moved, part.rounded) for part in parts]


def _through(maps: Maps, step: Step, radii: Sequence[Radius]) -> Radius:
    """Sums of these through a step whose weights are not negative."""
    ranges = [maps.values[t] for t in step.reads]
    return step.operator.differences(step.site, ranges, radii).radius


def _counted(
    found: _Squares, step: Step, parts: Sequence[_Squares], contract: RuntimeContract, *, terms: int
) -> _Squares:
    """With its numbers of roundings, where all are of one kind; `terms` of them are added up."""
    times = max(part.times for part in parts)
    operations = sum(part.operations for part in parts)
    if terms:
        steps = float(terms + 2)
        each = 1.0 if terms == len(parts) else steps  # of each tensor there is one term then
        times, operations = times + steps, operations * each + steps
    others = (contract.accumulation, contract.narrow, contract.stored_format)
    plain = all(fmt is None for fmt in others)
    alike = all(part.r == found.r for part in parts)
    if not (plain and alike):
        times = np.inf
    return replace(found, times=times, operations=operations)


def _not_negative(maps: Maps, step: Step, contract: RuntimeContract) -> bool:
    ranges = [maps.values[t].inflate(maps.errors[t]) for t in step.reads]
    keeps = step.operator.keeps
    kept = None if keeps is None else keeps(step.site, ranges, contract)
    return kept is not None and bool(np.all(kept.lo >= 0.0))


def _below_zero(step: Step) -> bool:
    """Is one of the numbers that the step has stored negative?"""
    stored = [c for c in step.site.constants if c is not None and c.dtype.kind not in "iub"]
    return any(bool(np.any(c.astype(np.float64) < 0.0)) for c in stored)


def _root_up(x: FloatArray) -> FloatArray:
    """At least the root, and 0 of 0."""
    root = np.sqrt(np.maximum(x, 0.0)) * (1.0 + 2.0**-50)
    return np.asarray(np.where(root > 0.0, np.maximum(root, 2.0**-510), root))


def _where_better(mapped: DifferenceMap, other: Radius) -> DifferenceMap:
    """The same differences, of which the elements that are off by much less than the map knows are
    charged with that, and lead no further."""
    carried = mapped.carry
    if carried is None or mapped.fixed is not None:
        return mapped
    at = np.asarray(other.bound < _BETTER * mapped.radius.bound)
    if not at.any():
        return mapped

    @cache
    def carry() -> DifferenceCarry:
        assert carried is not None
        inner = carried()
        around = _either(at, other, inner.around)
        return DifferenceCarry(
            lambda c: inner.coefficients(np.where(at, 0.0, c)), around, inner.least
        )

    def backward(c: FloatArray) -> Moved:
        return carry()(c)

    return DifferenceMap(mapped.radius.and_also(other), backward, carry=carry)


def _either(first: BoolArray, one: Radius, other: Radius) -> Radius:
    places, rest = np.flatnonzero(first), np.flatnonzero(~first)
    parts = [(places, one.taken(places)), (rest, other.taken(rest))]
    return known_at(first.shape, [part for part in parts if len(part[0])])
