"""How much work all pull-backs of a pass may take together, and how it is shared out.

It is counted, in multiply-adds and what takes as long as so many, and never timed: a bound is the
same on every machine. Where all that is wanted costs less than the allowance nobody is cut short.
Else all pull-backs get up to the same amount, those of outputs several times it: statistics of
rows and other small tensors get all they want, and what is left is shared by large ones. A tensor
that may not spend what it wants pulls its functionals past fewer nodes, as what is known of the
tensors that they reach there is all true; and where that would be next to none, fewer of them.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import numpy as np

from encoders.numbers.enclosure import FloatArray
from encoders.program import Program, Step, program_of
from onnx_import.graph import Graph
from refine.bounds.pruning import (
    COSTLY,
    Effort,
    Rows,
    deepest,
    feeds_nonlinear,
    largest_of,
    most_worth,
)

_ALLOWANCE = 43 * 10**10  # multiply-adds
_PER_ELEMENT = 150  # multiply-adds that take as long as carrying one coefficient past a node
_PER_FAR_ELEMENT = 900  # the same of a tensor whose coefficients no cache holds
_FAR = 2**20  # elements
_PER_NODE = 15 * 10**6  # the same of a node, whatever the number of functionals
_OF_OUTPUTS = 16  # times as much as others
_FEWEST_NODES = 8  # that functionals pass, before fewer of them do
_COSTLY_WHERE_CUT = 10**9  # a part is asked first, where not all get what they want

VALUES, ERRORS = 2, 1  # functionals of an element: of its values from both sides, of its error


def _weight(step: Step, program: Program) -> int:
    size = program.graph.types[step.output].size
    return step.work + (_PER_ELEMENT if size <= _FAR else _PER_FAR_ELEMENT) * size


@dataclass(frozen=True)
class Granted:
    """Which elements are pulled back, past how many nodes (all: None), and what one costs; beyond
    what is `costly` a part of them shows first whether the others are worth it."""

    rows: Rows
    nodes: int | None
    each: float
    once: float
    costly: float = COSTLY

    @property
    def whole(self) -> float:
        """What all of them cost."""
        return self.each * len(self.rows)

    def price(self, rows: Rows) -> float:
        """What so many of them cost; nothing costs nothing."""
        return self.each * len(rows) + self.once if len(rows) else 0.0


@dataclass(frozen=True)
class _Plan:
    """What pull-backs in a graph would cost, whatever ranges are: in all, of the values and of the
    errors of each step's output, and node by node, as far as somebody has asked for it."""

    program: Program
    deepest: int | None
    places: Mapping[str, int]
    wanted: Mapping[int, FloatArray]
    asked: dict[tuple[int, int | None], FloatArray] = field(default_factory=dict)

    def along(self, place: int, far: int | None) -> FloatArray:
        """What a functional of a step's output has cost after each node that it is carried past."""
        if (place, far) not in self.asked:
            self.asked[place, far] = self._along(place, far)
        return self.asked[place, far]

    def _along(self, place: int, far: int | None) -> FloatArray:
        program, steps = self.program, self.program.steps
        waiting, seen, costs = [-place], {place}, list[float]()
        while waiting and (far is None or len(costs) < far):
            step = steps[-heapq.heappop(waiting)]
            costs.append(float(_weight(step, program)))
            for tensor in step.reads:
                before = self.places.get(tensor)
                if before is not None and before not in seen:
                    seen.add(before)
                    heapq.heappush(waiting, -before)
        return np.cumsum(costs)


def _planned(graph: Graph) -> _Plan:
    program, effort = program_of(graph), Effort()
    steps, most = program.steps, deepest(program)
    wanted = {kind: np.zeros(len(steps)) for kind in (VALUES, ERRORS)}
    passed = np.cumsum([0.0, *(float(_weight(step, program)) for step in steps)])
    for i, step in enumerate(steps):
        effort = effort.after(step.work, graph.types[step.output].size)
        final = step.output in graph.outputs
        if final or feeds_nonlinear(program, step.output):
            nodes = i + 1 if final or most is None else min(i + 1, most)
            rows = most_worth(program, step.output, effort)
            for kind, costs in wanted.items():
                cost = kind * rows * (passed[i + 1] - passed[i + 1 - nodes])
                costs[i] = cost + nodes * _PER_NODE
    places = {t: i for i, step in enumerate(steps) for t in step.writes}
    return _Plan(program, most, places, wanted)


@dataclass
class Allowance:
    """What is left for the pull-backs that are still to come. `wanted` holds, of values and of
    errors, what each step's output would cost at most, and `weights` how much more than others it
    may; `cut` names the tensors that got less than they wanted."""

    plan: _Plan
    left: float
    wanted: dict[int, FloatArray]
    weights: dict[int, FloatArray]
    cut: set[str] = field(default_factory=set)

    @staticmethod
    def of(
        graph: Graph, known: Collection[str], spread: Collection[str], most: float | None = None
    ) -> Allowance:
        """What a pass may spend. Values of `known` tensors need no pull-backs; those of outputs
        that are `spread` count as much as errors do."""
        plan = graph.once(_planned)
        wanted = {kind: costs.copy() for kind, costs in plan.wanted.items()}
        weights = {kind: np.ones(len(costs)) for kind, costs in wanted.items()}
        wanted[VALUES][[plan.places[t] for t in known if t in plan.places]] = 0.0
        outputs = [t for t in graph.outputs if t in plan.places]
        weights[ERRORS][[plan.places[t] for t in outputs]] = _OF_OUTPUTS
        weights[VALUES][[plan.places[t] for t in outputs if t in spread]] = _OF_OUTPUTS
        return Allowance(plan, _ALLOWANCE if most is None else most, wanted, weights)

    @property
    def deepest(self) -> int | None:
        """How many nodes a pull-back from inside passes at most: any number, None."""
        return self.plan.deepest

    def granted(
        self, output: str, kind: int, rows: Rows, measure: FloatArray, far: int | None
    ) -> Granted:
        """What pulling back these elements past so many nodes may be, those first whose `measure`
        is largest. An output gets one at least, which says what its bound is made of."""
        place = self.plan.places[output]
        share = self._share(kind, place)
        self.wanted[kind][place] = 0.0
        costs = self.plan.along(place, far)
        nodes = np.arange(1, len(costs) + 1)
        prices = kind * len(rows) * costs + nodes * _PER_NODE
        if not len(rows) or prices[-1] <= share:
            return Granted(rows, far, kind * costs[-1], len(costs) * _PER_NODE)
        self.cut.add(output)
        enough = min(_FEWEST_NODES, len(costs))
        passed = max(int(np.searchsorted(prices, share, side="right")), enough)
        each, once = kind * float(costs[passed - 1]), passed * _PER_NODE
        most = int(max(share - once, 0.0) // each)
        if output in self.plan.program.graph.outputs:
            most = max(most, 1)
        few = rows if most >= len(rows) else rows[largest_of(measure.reshape(-1)[rows], most)]
        return Granted(few, passed, each, once, _COSTLY_WHERE_CUT)

    def spend(self, cost: float) -> None:
        """So much has been done."""
        self.left = max(self.left - cost, 0.0)

    def _share(self, kind: int, place: int) -> float:
        wanted = np.concatenate([self.wanted[VALUES], self.wanted[ERRORS]])
        if float(np.sum(wanted)) <= self.left:
            return np.inf
        weights = np.concatenate([self.weights[VALUES], self.weights[ERRORS]])
        return float(self.weights[kind][place]) * _level(wanted, weights, self.left)


def _level(wanted: FloatArray, weights: FloatArray, left: float) -> float:
    """The λ at which Σ min(wanted, weights·λ) is what is left, which is less than all wanted."""
    ratios = wanted / weights
    order = np.argsort(ratios, kind="stable")
    below = np.cumsum(wanted[order])
    above = np.sum(weights) - np.cumsum(weights[order])
    total = below + above * ratios[order]  # of everything, at each ratio
    i = int(np.searchsorted(total, left, side="left"))
    if i == 0:
        return left / float(np.sum(weights))
    i = min(i, len(order) - 1)
    return float((left - below[i - 1]) / max(above[i - 1], 1.0))
