"""Branch and bound over a box with few inputs: the largest first-order error, anytime.

Boxes with the largest bounds are halved, a batch at a time; each along the input that helps it
most, which is found by trying all. The errors at promising points say when to stop: the bound is
then within a fraction `_GAP` of what the method can give at all.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from encoders.contract.contract import RuntimeContract
from encoders.lemmas.claims import LARGEST_FOUND
from encoders.lemmas.kernel import Radius, apply
from encoders.numbers.enclosure import FloatArray
from encoders.numbers.radius import radius_of
from onnx_import.graph import Graph
from refine.bounds.best_first import AtOnce, explored
from refine.bounds.network import InputBox
from refine.results.obligation import Discharger, Kind, Obligation, Outcome
from refine.scalar.first_order import Scalars, analyse, scalars

_GAP = 2.0**-13
_AT_ONCE = 4096  # boxes evaluated together
_MOST = 2**20  # boxes kept
_NARROWEST = 2.0**-40  # of the whole side


@dataclass(frozen=True)
class Largest:
    """|d| ≤ `bound` on the whole box, shown in `boxes` parts; no `lemmas` if nothing is known."""

    bound: float
    boxes: int
    lemmas: frozenset[str]

    @property
    def radius(self) -> Radius:
        """The bound, of every element of the output; an upper end that is no radius is no bound."""
        return apply(LARGEST_FOUND, U=self.bound)

    def obligation(self, node: str) -> Obligation:
        """What was shown, at the node that gives the output."""
        return Obligation(
            f"first-order/{node}",
            Kind.INSTANCE,
            goal=f"Σ|∂output/∂node|·|rounding of node| ≤ {self.bound:.6g} in each of {self.boxes} "
            "boxes, the derivatives over all that lies between the real and the run-time values",
            outcome=Outcome.DISCHARGED,
            discharger=Discharger.ENCLOSURE,
            seconds=0.0,
            node=node,
            hypotheses=tuple(f"lemma {name}" for name in sorted(self.lemmas)),
        )


@dataclass(frozen=True)
class _Parts:
    """Boxes as columns: sides (inputs, N) and the bound on each (N,)."""

    lo: FloatArray
    hi: FloatArray
    upper: FloatArray

    def at(self, rows: npt.NDArray[Any]) -> _Parts:
        return _Parts(self.lo[:, rows], self.hi[:, rows], self.upper[rows])

    def joined(self, other: _Parts) -> _Parts:
        return _Parts(
            np.concatenate([self.lo, other.lo], axis=1),
            np.concatenate([self.hi, other.hi], axis=1),
            np.concatenate([self.upper, other.upper]),
        )


def largest_error(
    graph: Graph,
    contract: RuntimeContract,
    whole: InputBox,
    enough: float,
    deadline: float,
    tick: Callable[[], None] = lambda: None,
    rounds: int | None = None,
) -> Largest:
    """Bound the error over `whole` until it is at most `enough`, cannot get much better,
    `deadline` (monotonic) has passed or so many batches were halved. `tick` may raise to stop.

    Raises Transcendental where an operator has no first-order form.
    """
    lo = np.stack([whole.values[name].lo.reshape(1) for name in graph.inputs])
    hi = np.stack([whole.values[name].hi.reshape(1) for name in graph.inputs])
    bounding = _Bounding(scalars(graph, contract, whole), tick)
    frontier = _Frontier(bounding, enough, bounding(lo, hi), max(_AT_ONCE // (2 * len(lo)), 1))
    expansion: AtOnce[_Parts, _Parts] = AtOnce(
        lambda parts: _halved(parts, hi - lo, bounding),
        price=lambda halves: 1,
        most=math.inf if rounds is None else rounds,
    )
    explored(frontier, expansion, lambda: time.monotonic() > deadline)
    bound = max(frontier.settled, float(np.max(frontier.open.upper, initial=0.0)))
    return Largest(bound, frontier.count, frozenset(bounding.lemmas))


@dataclass
class _Bounding:
    """Bounds boxes; `best` is the largest error at the points that were tried on the way."""

    task: Scalars
    tick: Callable[[], None]
    best: float = 0.0
    lemmas: set[str] = field(default_factory=set)

    def __call__(self, low: FloatArray, high: FloatArray) -> _Parts:
        self.tick()
        found = analyse(self.task, low, high)
        upper = radius_of(found.upper)
        self.lemmas.update(found.lemmas)
        rows = np.argsort(-upper)[:64]
        corner = _promising(found.total.slope, low, high)[:, rows]
        there = analyse(self.task, corner, corner).upper
        largest = float(np.max(there, where=np.isfinite(there), initial=0.0))
        self.best = max(self.best, largest)
        return _Parts(low, high, upper)


@dataclass
class _Frontier:
    """The boxes whose bounds are still too large, and the largest bound of all others."""

    bounding: _Bounding
    enough: float
    open: _Parts
    at_once: int
    settled: float = 0.0
    count: int = 1

    def take(self) -> _Parts | None:
        limit = max(self.bounding.best * (1.0 + _GAP), self.enough)
        done = self.open.upper <= limit
        self.settled = max(self.settled, float(np.max(self.open.upper[done], initial=0.0)))
        self.open = self.open.at(~done)
        if not len(self.open.upper) or len(self.open.upper) > _MOST:
            return None
        order = np.argsort(-self.open.upper, kind="stable")
        chosen, self.open = self.open.at(order[: self.at_once]), self.open.at(order[self.at_once :])
        return chosen

    def put(self, made: _Parts) -> None:
        self.open, self.count = self.open.joined(made), self.count + made.upper.size // 2

    def restore(self, taken: _Parts) -> None:
        self.open = self.open.joined(taken)


def _promising(slope: FloatArray, lo: FloatArray, hi: FloatArray) -> FloatArray:
    """The corner of each box that its form points to; the middle of a side where it is level."""
    slope = np.broadcast_to(slope, lo.shape)
    return np.where(slope > 0, hi, np.where(slope < 0, lo, np.clip(0.5 * lo + 0.5 * hi, lo, hi)))


def _halved(
    parts: _Parts, whole: FloatArray, bounded: Callable[[FloatArray, FloatArray], _Parts]
) -> _Parts | None:
    """Both halves of every box along its best input; None once a box is too narrow to halve."""
    inputs, n = parts.lo.shape
    middle = 0.5 * parts.lo + 0.5 * parts.hi
    width = parts.hi - parts.lo
    wide = (parts.lo < middle) & (middle < parts.hi) & (width > whole * _NARROWEST)
    if not np.all(np.any(wide, axis=0)):
        return None
    lows, highs = [], []
    for k in range(inputs):
        below, above = parts.hi.copy(), parts.lo.copy()
        below[k], above[k] = middle[k], middle[k]
        lows += [parts.lo, above]
        highs += [below, parts.hi]
    tried = bounded(np.concatenate(lows, axis=1), np.concatenate(highs, axis=1))
    upper = np.minimum(tried.upper.reshape(inputs, 2, n), parts.upper)
    with np.errstate(invalid="ignore", divide="ignore"):
        relative = np.where(whole > 0, width / whole, 0.0)
        score = upper.max(axis=1) + upper.mean(axis=1) * 2.0**-6
        score = np.where(np.isfinite(score), score * (1.0 - 2.0**-10 * relative), np.inf)
    # the widest side where trying tells nothing
    nothing = ~np.isfinite(score)
    score = np.where(nothing, np.finfo(np.float64).max * (1.0 - 0.5 * relative), score)
    best = np.argmin(np.where(wide, score, np.inf), axis=0)
    column = np.arange(n)
    picked = tried.at(np.concatenate([(2 * best + half) * n + column for half in (0, 1)]))
    bounds = np.concatenate([upper[best, half, column] for half in (0, 1)])
    return _Parts(picked.lo, picked.hi, bounds)
