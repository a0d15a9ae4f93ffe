"""How far apart two graphs can be, as a problem whose bounds can be improved like any other.

Each graph is read over the reals or as its runtime computes it. Where they correspond node by
node, one backward substitution bounds the difference: a weight or an operator that differs is one
more local error, |f_impl − f_spec| over the run-time range of the node's inputs. Where they part
and meet again, a graph holds both, and a change is such an error at the cut. Elsewhere it is the
errors of those that run plus the real range of impl − spec in a graph that holds both. Two
runtimes that must compute the same bits all the way do not differ at all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeAlias

import numpy as np

from encoders.contract.contract import RuntimeContract
from encoders.contract.presets import EXACT
from encoders.lemmas import combining
from encoders.lemmas.claims import REAL_GAP
from encoders.lemmas.differences import TRUTH_VALUES
from encoders.lemmas.kernel import Radius, apply, exactly_zero
from encoders.numbers.enclosure import FloatArray, Interval
from encoders.program import Step, program_of
from onnx_import.graph import DType, Graph
from refine.bounds.alpha import Branching
from refine.bounds.joint.joining import Ran
from refine.bounds.local.errors import Run
from refine.bounds.network import InputBox, Known, NetworkBounds, network_bounds
from refine.common.clock import OutOfTime
from refine.pair.alignment import COPY, Aligned, align
from refine.pair.curves import gap_ranges, has_curves
from refine.pair.cuts import cuts_of
from refine.pair.extremes import with_extremes
from refine.pair.joined import Joined, joined
from refine.pair.pair import Pair
from refine.pair.product import Product, product, with_copy
from refine.pair.quantised.enumerated import Quantised, enumerated_gaps, quantised
from refine.pair.quantised.lockstep import Beside, Lockstep
from refine.pair.quantised.noise import noise_bounds

_Contracts: TypeAlias = tuple[RuntimeContract, RuntimeContract]


@dataclass(frozen=True)
class Total:
    """What one output's difference is at most the sum of: errors of tensors, and real magnitudes
    of others."""

    errors: tuple[str, ...] = ()
    magnitudes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Comparison:
    """A `Problem`: both graphs in one, `aligned`, `joined` at cuts or `joint`, or a quantised copy
    `beside` its original; `placed` says which nodes keep to another contract. `stored` are both
    where the one that runs stores all its inputs as integers."""

    graph: Graph
    contract: RuntimeContract
    placed: Mapping[str, RuntimeContract]
    totals: Mapping[str, Total]
    aligned: Aligned | None
    joint: Product | None = None
    beside: Beside | None = None
    joined: Joined | None = None
    single: bool = False
    stored: Quantised | None = None

    @property
    def lockstep(self) -> Lockstep | None:
        """How a quantised copy corresponds to its original, if that is what is compared."""
        return None if self.beside is None else self.beside.lockstep

    @property
    def identical(self) -> bool:
        """Nothing at all differs, not even a bit."""
        return not any(t.errors or t.magnitudes for t in self.totals.values())

    @property
    def plain(self) -> bool:
        """Is every node of the graph what runs, under the contract, and what is meant?"""
        return self.aligned is None and not self.placed

    def bounds(
        self,
        box: InputBox,
        backward: bool = True,
        tick: Callable[[], None] = lambda: None,
        known: Known | None = None,
        branching: Branching | None = None,
    ) -> NetworkBounds:
        """Bounds on the differences of both graphs over a box."""
        found = self._bounds(box, backward, tick, known, branching)
        if self.stored is None or not backward:
            return found
        gaps = enumerated_gaps(self.stored, box, self.contract, tick)
        radii = {
            t: found.radii[t].and_also(apply(REAL_GAP, lo=gap.lo, hi=gap.hi))
            for t, gap in gaps.items()
        }
        return replace(found, radii={**found.radii, **radii})

    def _bounds(
        self,
        box: InputBox,
        backward: bool,
        tick: Callable[[], None],
        known: Known | None,
        branching: Branching | None,
    ) -> NetworkBounds:
        if self.lockstep is not None:
            return noise_bounds(
                self.lockstep, box, self.contract, backward=backward, tick=tick, known=known
            )
        if self.joined is not None and backward:
            gaps = gap_ranges(self.joined, self.graph, box, tick)
            if gaps:
                values = {} if known is None else dict(known.values)
                for gap, x in gaps.items():
                    values[gap] = x.intersect(values[gap]) if gap in values else x
                known = Known(values, {} if known is None else known.radii)
        spread = frozenset(t for total in self.totals.values() for t in total.magnitudes)
        bounds = network_bounds(
            self.graph,
            box,
            contract=self.contract,
            backward=backward,
            tick=tick,
            known=known,
            branching=branching,
            runs=None if self.plain else partial(self._run, {}),
            spread=spread,
            together=self._ran,
        )
        return replace(bounds, radii={t: self._sum(bounds, t) for t in self.totals})

    def _run(self, read: dict[str, Interval], step: Step, held: Sequence[Interval]) -> Run:
        """`read` is filled with the ranges of what has been read so far."""
        contract = self.placed.get(step.name, self.contract)
        read |= dict(zip(step.reads, held, strict=True))
        if self.aligned is not None and step.name in self.aligned.spec.named:
            return self.aligned.run(step, held, contract, read)
        return Run(step, np.zeros(step.site.outputs[0].shape), contract)

    def _ran(self, steps: tuple[Step, ...]) -> Ran | None:
        """What runs in place of steps of the specification, if none of these differs."""
        names = [step.name for step in steps]
        contracts = [self.placed.get(name, self.contract) for name in names]
        if any(contract != contracts[0] for contract in contracts):
            return None
        aligned = self.aligned
        if aligned is None or not any(name in aligned.spec.named for name in names):
            return Ran(self.graph, steps, contracts[0])
        if not all(aligned.runs_same(name) for name in names):
            return None
        program = program_of(aligned.impl)
        ran = tuple(program.step(aligned.impl.named[name]) for name in names)
        return Ran(aligned.impl, ran, contracts[0])

    def _sum(self, bounds: NetworkBounds, output: str) -> Radius:
        total = exactly_zero(combining.EXACT, self.graph.types[output].shape)
        for tensor in self.totals[output].errors:
            total = total + bounds.radii[tensor]
        for tensor in self.totals[output].magnitudes:
            gap = bounds.maps.values[tensor]
            total = total + apply(REAL_GAP, lo=gap.lo, hi=gap.hi)
        if self.graph.types[output].dtype is DType.BOOL:  # 0 or 1, on either side
            total = total.and_also(apply(TRUTH_VALUES))
        return total


def comparison(
    pair: Pair,
    points: Mapping[str, FloatArray] | None = None,
    tick: Callable[[], None] = lambda: None,
) -> Comparison:
    """The problem of bounding |impl − spec|, each read as the pair says.

    `points` are inputs of the implementation, (points, *shape): with them both graphs can be cut
    where they part. `tick` is called often while that is done, and may raise OutOfTime.
    """
    found = _comparison(pair, points, tick)
    if not pair.spec.contract.exact or found.identical:
        return found
    sides = pair.spec.graph, pair.impl.graph
    return replace(found, stored=quantised(*sides, pair.inputs, pair.outputs))


def _comparison(
    pair: Pair, points: Mapping[str, FloatArray] | None, tick: Callable[[], None]
) -> Comparison:
    spec, impl = pair.spec.graph, pair.impl.graph
    pinned = _pinned(pair)
    if pinned and product(spec, impl, pair.inputs, pair.outputs, pinned=pinned).identical:
        nothing = {t: Total() for t in impl.outputs}
        return Comparison(impl, pair.impl.contract, {}, nothing, None)
    aligned = align(spec, impl, pair.inputs, pair.outputs)
    if aligned is not None and not pair.equal.issuperset(impl.outputs):
        other = None if points is None or aligned.linear else _cut(pair, points, tick)
        if other is not None and other.joined is not None and has_curves(other.joined):
            return _with_run(pair, other)
        totals = {t: Total((t,)) for t in impl.outputs}
        return _with_run(pair, Comparison(aligned.spec, pair.impl.contract, {}, totals, aligned))
    if pair.equal.issuperset(impl.outputs):
        return _with_run(pair, _joint(pair))
    if pair.spec.contract.exact:
        beside = Beside(spec, impl, pair.inputs, pair.outputs)
        if beside.lockstep is not None:
            totals = {t: Total((t,)) for t in impl.outputs}
            meant = beside.lockstep.meant
            return Comparison(meant, pair.impl.contract, {}, totals, None, beside=beside)
    cut = None if points is None else _cut(pair, points, tick)
    return _with_run(pair, _joint(pair) if cut is None else cut)


def _cut(
    pair: Pair, points: Mapping[str, FloatArray], tick: Callable[[], None]
) -> Comparison | None:
    """Both graphs in one, cut where they part."""
    try:
        cuts = cuts_of(pair, points, tick)
    except (OutOfTime, ArithmeticError, TypeError, ValueError):
        return None  # what has no value at a point, say
    both = None
    if cuts is not None:
        both = joined(pair.spec.graph, pair.impl.graph, pair.inputs, cuts)
    if both is None:
        return None
    return Comparison(
        with_extremes(both.graph),
        pair.impl.contract,
        placed=dict.fromkeys(both.exact, EXACT),
        totals={t: Total((t,)) for t in both.graph.outputs},
        aligned=None,
        joined=both,
    )


def _joint(pair: Pair) -> Comparison:
    both = product(pair.spec.graph, pair.impl.graph, pair.inputs, pair.outputs, pair.equal)
    placed = dict.fromkeys(both.only_spec, EXACT)
    totals = {t: Total((t,), () if g is None else (g,)) for t, g in both.gaps.items()}
    return Comparison(
        with_extremes(both.graph),
        pair.impl.contract,
        placed=placed,
        totals=totals,
        aligned=None,
        joint=both,
    )


def _with_run(pair: Pair, alone: Comparison) -> Comparison:
    """Where the specification runs too, a copy of it that does, and its errors in the totals."""
    if pair.spec.contract.exact:
        return alone
    whole, ends = with_copy(alone.graph, pair.spec.graph, pair.inputs, pair.outputs)
    copies = {n.name for n in whole.order} - {n.name for n in alone.graph.order}
    return replace(
        alone,
        graph=whole,
        placed={**alone.placed, **dict.fromkeys(copies, _of_copies(pair.spec.contract))},
        totals={t: replace(x, errors=(*x.errors, ends[t])) for t, x in alone.totals.items()},
    )


def _of_copies(contract: RuntimeContract) -> RuntimeContract:
    """The contract with its rules on nodes named as the copies are."""
    rules = (r if r.node is None else replace(r, node=COPY + r.node) for r in contract.rules)
    return replace(contract, rules=tuple(rules))


def _pinned(pair: Pair) -> _Contracts | None:
    """The contracts of both sides, if under each some node may leave no choice."""
    contracts = pair.spec.contract, pair.impl.contract
    settled = all(not c.exact and (c.pinned or c.rules) for c in contracts)
    return contracts if settled else None
