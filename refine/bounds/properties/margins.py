"""How far what runs stays from an unsafe set: rows of a property bounded below, in one pull-back.

For a row Σ c·ŷ + Σ a·x ≤ d of an unsafe conjunction, its left side, negated, is pulled back as a
functional of real values and differences at once, so that errors which outputs share cancel. A box
is safe from a conjunction where one of its rows, or a sum of them with factors ≥ 0, cannot hold
anywhere in it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property, partial

import numpy as np

from encoders.contract.contract import RuntimeContract
from encoders.numbers.enclosure import FloatArray
from encoders.numbers.formats import BINARY64, round_down
from onnx_import.graph import Graph, Remembering
from refine.bounds.alpha import Branching
from refine.bounds.batch import Batches
from refine.bounds.joint.joining import as_it_is
from refine.bounds.network import InputBox, Known, NetworkBounds, network_bounds
from refine.bounds.properties.combining import factors_of, summed_row
from refine.bounds.properties.deficits import (
    DEFICIT,
    Option,
    best_of,
    beyond,
    deficit_in,
    deficit_of,
)
from refine.bounds.properties.limits import limits_of
from refine.bounds.properties.many_margins import many_margins
from refine.bounds.properties.rows import (
    Floors,
    Functionals,
    functionals_of,
    lower_bounds,
)
from refine.domain.properties import Property, Row

_NOTHING = Floors(np.zeros(1), np.zeros(1))  # of a row without terms
_FEW = 64  # terms of a row that is looked at in exact numbers


@dataclass(frozen=True)
class Margins(Remembering):
    """The problem of keeping a network, as it runs under a contract, out of an unsafe set."""

    graph: Graph
    contract: RuntimeContract
    unsafe: Property
    single: bool = False

    @cached_property
    def rows(self) -> tuple[tuple[int, int, Row], ...]:
        return tuple(
            (i, j, row)
            for i, part in enumerate(self.unsafe.unsafe)
            for j, row in enumerate(part.rows)
        )

    @cached_property
    def functionals(self) -> Functionals:
        return functionals_of([row for _, _, row in self.rows], self.graph)

    def bounds(
        self,
        box: InputBox,
        backward: bool = True,
        tick: Callable[[], None] = lambda: None,
        known: Known | None = None,
        branching: Branching | None = None,
    ) -> NetworkBounds:
        """Bounds over one box, of the network and of the property's margins there.

        `radii` has one entry, `DEFICIT`: 0 where the box is proved safe, else how much the margin
        of the worst conjunction lacks.
        """
        found = network_bounds(
            self.graph,
            box,
            contract=self.contract,
            backward=backward,
            tick=tick,
            known=known,
            together=as_it_is(self.graph, self.contract),
            branching=None if branching is None else replace(branching, cases=0),
        )
        limits = limits_of(self.unsafe.unsafe, [box], self.graph)
        reachable = set(np.flatnonzero(limits.met[:, 0]).tolist())
        asked = [k for k, (i, _, _) in enumerate(self.rows) if i in reachable]
        ask = partial(lower_bounds, found, tick=tick, effort=branching, late=not backward)
        with np.errstate(all="ignore"):
            floors, pulls = ask(self.functionals.taken(asked))
            options: dict[int, list[Option]] = {i: [] for i in sorted(reachable)}
            pulled: dict[tuple[int, int], Mapping[str, FloatArray]] = {}
            for k, (i, j, row) in enumerate(self.rows[k] for k in asked):
                options[i].append(self._option(j, row, floors, k, found))
                pulled[i, j] = {t: c[k] for t, c in pulls.items()}
            for i, rows in options.items():
                if len(rows) < 2 or any(option.out_of_reach for option in rows):
                    continue
                total = _summed(rows, [pulled[i, option.place] for option in rows], found)
                if total is None:
                    continue
                place, floors, pulls = len(rows), _NOTHING, {}
                if total.outputs or total.inputs:
                    floors, pulls = ask(functionals_of([total], self.graph))
                option = self._option(place, total, floors, 0, found)
                pulled[i, place] = {t: c[0] for t, c in pulls.items()}
                rows.append(replace(option, summed=True))
        chosen = [best_of(i, rows) for i, rows in options.items()]
        margins = tuple(margin for margin, _ in chosen)
        worst = max(margins, key=deficit_in, default=None)
        influence = found.influence
        if worst is not None:
            ends, mine = found.maps.values, pulled.get((worst.conjunction, worst.row), {})
            influence = {t: np.abs(c) * (ends[t].hi - ends[t].lo) for t, c in mine.items()}
        radii = {DEFICIT: deficit_of([*(lacks for _, lacks in chosen), *limits.why_not(0)])}
        return replace(found, radii=radii, influence=influence, margins=margins)

    @property
    def batches(self) -> Batches | None:
        """Margins of many boxes at once, where the network takes them."""
        return self.once(_batches)

    def _option(
        self, place: int, row: Row, floors: Floors, k: int, bounds: NetworkBounds
    ) -> Option:
        """The k-th of these rows, at its place in a conjunction, with what is known of it."""
        run, real = floors.run[k], floors.real[k]
        lower = np.minimum(run, real) if self.unsafe.both else run
        floor = Fraction(float(lower)) if np.isfinite(lower) else None
        run_left, real_left = _less(run, row.at_most), _less(real, row.at_most)
        if floor is None or not beyond(floor, row):
            least = _of_ranges(row, bounds)
            if least is not None and beyond(least, row):
                floor, low = least, float(round_down(least - row.at_most, BINARY64))
                run_left, real_left = max(run_left, low), max(real_left, low)
        return Option(place, row, floor, run_left, real_left)


def _summed(
    options: Sequence[Option], pulls: Sequence[Mapping[str, FloatArray]], bounds: NetworkBounds
) -> Row | None:
    """A sum of rows that may be out of reach where none of them is."""
    left = np.array([[option.run] for option in options])
    inputs = pulls[0].keys()
    coefficients = {t: np.stack([c[t] for c in pulls])[:, None] for t in inputs}
    ends = {t: bounds.maps.values[t] for t in inputs}
    widths = {t: (x.hi - x.lo)[None] for t, x in ends.items()}
    factor, expected = factors_of(left, coefficients, widths)
    if not expected[0] > np.max(left):
        return None
    return summed_row([option.row for option in options], factor[:, 0].tolist())


def _batches(problem: Margins) -> Batches | None:
    return many_margins(problem.graph, problem.contract, (problem.unsafe,), problem.bounds)


def _of_ranges(row: Row, bounds: NetworkBounds) -> Fraction | None:
    """A lower bound on a row's left side, of every execution and over the reals, from ranges and
    errors alone, exact: where those end just at what is allowed, a pull-back, rounded outwards,
    ends beside it. None where there is none."""
    graph, total = bounds.maps.graph, Fraction(0)
    if len(row.outputs) + len(row.inputs) > _FEW:
        return None
    for names, factors in ((graph.outputs, row.outputs), (graph.inputs, row.inputs)):
        start = 0
        for name in names:
            size = graph.types[name].size
            for i, factor in factors.items():
                if start <= i < start + size:
                    ends = _ends_at(bounds, name, i - start, of_runs=names is graph.outputs)
                    if ends is None:
                        return None
                    total += min(factor * end for end in ends)
            start += size
    return total


def _ends_at(
    bounds: NetworkBounds, tensor: str, place: int, *, of_runs: bool
) -> tuple[Fraction, Fraction] | None:
    """Between which numbers an element lies, over the reals and, if asked, in every execution."""
    maps = bounds.maps
    if tensor in maps.values:
        error = maps.errors[tensor].reshape(-1)[place]
        held = maps.values[tensor]
        low, high = held.lo.reshape(-1)[place].item(), held.hi.reshape(-1)[place].item()
    else:
        error = bounds.errors[tensor].reshape(-1)[place]
        low = high = np.asarray(maps.graph.constants[tensor]).reshape(-1)[place].item()
    slack = float(error) if of_runs else 0.0
    low, high = (v if isinstance(v, int) else float(v) for v in (low, high))
    if not np.all(np.isfinite([low, high, slack])):
        return None
    return Fraction(low) - Fraction(slack), Fraction(high) + Fraction(slack)


def _less(floor: float, at_most: Fraction) -> float:
    """floor − at_most, rounded down; for people and for choosing what to do next."""
    if not np.isfinite(floor):
        return -np.inf
    return float(round_down(Fraction(float(floor)) - at_most, BINARY64))
