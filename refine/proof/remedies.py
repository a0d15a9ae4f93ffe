"""Which part of a bound each node is to blame for, and what would make it smaller.

A pull-back adds up what the nodes' roundings and relaxations cost in the largest bound. Where a
node rounds less, the same coefficients, and so the same sum, bound the error; so that one bound per
change needs no other pass.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from encoders.contract.contract import AnyOrder, Pairwise, RuntimeContract
from encoders.contract.functions import CORRECTLY_ROUNDED
from encoders.numbers.enclosure import FloatArray
from encoders.numbers.formats import BINARY32, BINARY64, FloatFormat
from encoders.scheduling import contract_at
from refine.bounds.network import NetworkBounds, NodeBounds
from refine.results.remedy import Remedy, RemedyKind

_NODES = 3
_LOOKED_AT = 8  # the dearest nodes
_WORTHWHILE = 0.99
_MOST_ADDED = 2**22
_NOISE = 1e-9


@dataclass(frozen=True)
class Share:
    """A node's part of a bound, between 0 and 1, and what of it is its own rounding."""

    whole: float
    rounding: float


NO_SHARE = Share(0.0, 0.0)


def shares_of(bounds: NetworkBounds) -> Mapping[str, Share]:
    """Each node's part of the sum of all; infinite costs share it among themselves."""
    costs, roundings = bounds.costs, bounds.roundings
    infinite = {name for name, cost in costs.items() if not math.isfinite(cost)}
    if infinite:
        one = 1.0 / len(infinite)
        return {
            name: Share(one, 0.0 if math.isfinite(roundings.get(name, 0.0)) else one)
            for name in infinite
        }
    total = sum(costs.values()) or 1.0
    return {
        name: Share(cost / total, _of_rounding(cost, roundings.get(name, 0.0)) / total)
        for name, cost in costs.items()
    }


def _of_rounding(cost: float, rounding: float) -> float:
    """What float64 adds to a sum of costs is nobody's relaxation."""
    return cost if rounding >= cost * (1.0 - _NOISE) else rounding


def remedies_of(bounds: Sequence[NetworkBounds], bound: float) -> tuple[Remedy, ...]:
    """The best change to each of the three nodes whose change buys most."""
    worst = max(bounds, key=lambda b: b.largest)
    if not math.isfinite(bound) or bound == 0.0:
        return ()
    shares = shares_of(worst)
    dearest = sorted(worst.nodes, key=lambda n: -shares.get(n.step.name, NO_SHARE).whole)
    best = []
    for node in dearest[:_LOOKED_AT]:
        share = shares.get(node.step.name, NO_SHARE)
        every = [
            Remedy(node.step.name, node.node.spelled, kind, change, bound * max(1.0 - saved, 0.0))
            for kind, change, saved in _changes(node, share)
        ]
        useful = [r for r in every if r.bound < _WORTHWHILE * bound]
        if useful:
            best.append(min(useful, key=lambda r: r.bound))
    return tuple(sorted(best, key=lambda r: r.bound)[:_NODES])


def _changes(node: NodeBounds, share: Share) -> Iterator[tuple[RemedyKind, str, float]]:
    """Kind, words, and the part of the bound that it saves."""
    relaxed = share.whole - share.rounding
    if relaxed > 0:
        words = "every element on one side of its bend (a smaller domain, a narrower range)"
        yield RemedyKind.RANGE, words, relaxed
    if share.rounding <= 0 or node.run.contract.exact:
        return
    for kind, words, contract in _contracts(node):
        left = _left(node, contract)
        yield kind, words, share.rounding * (1.0 - left)


def _contracts(node: NodeBounds) -> Iterator[tuple[RemedyKind, str, RuntimeContract]]:
    """Contracts for this node alone that allow less."""
    step, here = node.run.step, contract_at(node.run.step.running, node.run.contract)
    dtype = step.site.outputs[0].dtype
    if not dtype.is_float:
        return
    wide = _wider(here.format_of(dtype))
    if wide is not None and here.wider_than(dtype) is None:
        said = f"computed in {wide.name}, its result rounded once"
        yield RemedyKind.PRECISION, said, replace(here, accumulation=wide)
    small = step.work <= _MOST_ADDED  # a pinned order is followed addition by addition
    if step.operator.sums is not None and isinstance(here.order, AnyOrder) and small:
        yield RemedyKind.ORDER, "its sums pairwise", replace(here, order=Pairwise())
    if step.operator.functions:
        said = "its functions rounded correctly"
        yield RemedyKind.PRECISION, said, replace(here, functions=CORRECTLY_ROUNDED)


def _wider(fmt: FloatFormat) -> FloatFormat | None:
    return next((w for w in (BINARY32, BINARY64) if w.holds(fmt) and w != fmt), None)


def _left(node: NodeBounds, contract: RuntimeContract) -> float:
    """At most which part of its rounding a node keeps under another contract."""
    step, held = node.run.step, node.run.held
    reads = [node.assumed[t] for t in node.step.reads] if held is None else list(held)
    result = node.values.inflate(node.errors)
    here = contract_at(step.running, contract)
    with np.errstate(all="ignore"):  # infinities and NaN mean that nothing is known
        found: FloatArray = step.operator.rounding(step.site, reads, result, here).radius.bound
    change = np.abs(node.run.change)
    before: FloatArray = node.rounding.radius.bound + change
    found, before = np.broadcast_arrays(found + change, before)
    charged = before > 0
    if not np.any(charged) or np.any(found[~charged] > 0):
        return 1.0
    with np.errstate(invalid="ignore", over="ignore"):
        left = float(np.max(found[charged] / before[charged]))
    return left if left < 1.0 else 1.0
