"""Probable errors: bounds that hold for each input with a probability, over the roundings.

An output is off by Σ c·e over all roundings e, plus what relaxations lose. The coefficients c are
those of pull-backs, fixed before anything runs; so, if each rounding is zero on average given those
before it, the sum is a martingale, and with half gaps b of the format Azuma and Hoeffding give
|Σ c·e| ≤ λ·√(Σ c²b²) but with probability 2·exp(−λ²/2). (A rounding to nearest lies in [−b, b]; a
stochastic one in an interval of length 2b that is known before it is drawn: the same inequality.)

Relaxations, and the sizes of what is rounded, rest on bounds on the errors of inner tensors. These
are bounded the same way, in topological order, and all events are counted: with m elements bounded,
λ = √(2·ln(2m/p)), and but with probability p every one of the bounds holds. Should an inner error
leave its bound, the roundings after that are left out of the sums, which stay martingales.

Errors of nodes that are no such sums are taken at their worst.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from encoders.contract.contract import RoundingMode, RuntimeContract
from encoders.contract.presets import EXACT
from encoders.lemmas.differences import GIVEN_ERROR
from encoders.lemmas.kernel import apply
from encoders.numbers.enclosure import FloatArray, Interval
from encoders.program import Program, Step, program_of
from encoders.rounding.scattered import NotScattered, Scatter, scatter_of
from encoders.scheduling import contract_at
from onnx_import.errors import ModelError, UnsupportedModel
from onnx_import.graph import Graph
from refine.bounds.backward import Maps, pull_back, unit_functionals
from refine.bounds.network import InputBox, network_bounds
from refine.bounds.optimising import chunks
from refine.bounds.pruning import feeds_nonlinear

_MORE = 1.0 + 1e-9  # more than float64 loses in sums of so many squares
_UNDERFLOWN = 2.0**-1000  # and more than it loses of a square that it does not hold


@dataclass(frozen=True)
class Certain:
    """Every rounding at its worst: no probability is asked for."""


@dataclass(frozen=True)
class Probably:
    """All bounds hold but with this probability."""

    failing: float


@dataclass(frozen=True)
class ProbableErrors:
    """Per graph output, bounds on its elements' errors that hold together but with a probability;
    `factor` is λ, `events` how many elements are bounded, outputs and inner ones. `kept` names the
    nodes whose own errors are taken at their worst, and why."""

    errors: Mapping[str, FloatArray]
    factor: float
    events: int
    kept: Mapping[str, str]

    @property
    def largest(self) -> float:
        """The largest bound of all output elements."""
        return max((float(np.max(e, initial=0.0)) for e in self.errors.values()), default=0.0)


def factor_of(failing: float, events: int) -> float:
    """λ with 2·events·exp(−λ²/2) ≤ `failing`. Raises ModelError unless 0 < failing < 1."""
    if not 0.0 < failing < 1.0:
        raise ModelError(f"a probability of failing lies between 0 and 1, and {failing:g} does not")
    return math.sqrt(2.0 * math.log(2.0 * max(events, 1) / failing)) * (1.0 + 1e-12)


def probable_errors(
    graph: Graph,
    box: InputBox,
    contract: RuntimeContract,
    how: Certain | Probably,
    tick: Callable[[], None] = lambda: None,
) -> ProbableErrors:
    """Bounds on the errors of every single input of a box, right for it with the probability asked.

    Raises UnsupportedModel, naming the node, where stochastic rounding is asked for and a node's
    error is no sum of roundings.
    """
    with np.errstate(all="ignore"):
        program = program_of(graph).checked
        nothing = {t: np.zeros(x.lo.shape) for t, x in box.values.items()}
        real = network_bounds(graph, InputBox(box.values, nothing), EXACT, tick=tick).maps
        maps = Maps(program, real.values, value_maps=real.value_maps)
        for tensor, error in box.errors.items():
            maps.err_by(tensor, apply(GIVEN_ERROR, U=error))
        events = sum(graph.types[t].size for t in _bounded(program))
        factor = 0.0 if isinstance(how, Certain) else factor_of(how.failing, events)
        walk = _Walk(maps, contract, factor, certain=isinstance(how, Certain), tick=tick)
        for step in program.steps:
            walk.bound(step)
    found = {t: maps.errors[t] for t in graph.outputs if t in maps.errors}
    return ProbableErrors(found, factor, events, walk.kept)


def _bounded(program: Program) -> list[str]:
    return [step.output for step in program.steps if _matters(program, step.output)]


def _matters(program: Program, tensor: str) -> bool:
    """Is the error of this tensor bounded by a pull-back of its own?"""
    floats = program.graph.types[tensor].dtype.is_float
    return floats and (tensor in program.graph.outputs or feeds_nonlinear(program, tensor))


@dataclass
class _Walk:
    """A walk through the steps under way: the scatter of each so far."""

    maps: Maps
    contract: RuntimeContract
    factor: float
    certain: bool
    tick: Callable[[], None]

    def __post_init__(self) -> None:
        self.squares: dict[str, FloatArray] = {}
        self.kept: dict[str, str] = {}

    @property
    def _stochastic(self) -> bool:
        return self.contract.rounding is RoundingMode.STOCHASTIC

    def bound(self, step: Step) -> None:
        """Enter a step's map of differences, its own error and the error of what it writes."""
        self.tick()
        maps, output = self.maps, step.output
        ranges = [maps.values[t] for t in step.reads]
        mapped = step.operator.differences(step.site, ranges, [maps.radii[t] for t in step.reads])
        own = self._own(step, ranges)
        self.squares[step.name] = np.zeros(()) if self.certain else own.square
        maps.difference_maps[step.name] = mapped
        certain = apply(GIVEN_ERROR, U=own.worst)
        maps.local[step.name] = certain if self.certain else apply(GIVEN_ERROR, U=own.rest)
        maps.err_by(output, mapped.radius + certain)
        for other in step.writes[1:]:
            maps.err_by(other, apply(GIVEN_ERROR, U=np.full(maps.values[other].lo.shape, np.inf)))
        if _matters(maps.program, output):
            self._pull(output)

    def _own(self, step: Step, ranges: Sequence[Interval]) -> Scatter:
        """The node's own rounding error, on what it reads as it runs."""
        held = [x.inflate(self.maps.errors[t]) for t, x in zip(step.reads, ranges, strict=True)]
        here = contract_at(step.site, self.contract)
        shape = step.site.outputs[0].shape
        floats, stochastic = step.site.outputs[0].dtype.is_float, self._stochastic
        if here.exact or step.operator.movement or (stochastic and not floats):
            nothing = np.zeros(shape)
            return Scatter(nothing, nothing, nothing)
        try:
            return scatter_of(step.operator, step.site, held, here)
        except NotScattered as error:
            reason = str(error)
        if stochastic:
            raise UnsupportedModel(
                f"{step.node.describe()}: under stochastic rounding its error is no sum of "
                f"roundings, each times something known before: {reason}"
            )
        result = self.maps.values[step.output]
        worst = step.operator.rounding(step.site, held, result, here)
        if any(not p.holds for p in worst.preconditions):
            unknown = np.full(shape, np.inf)
            return Scatter(np.zeros(shape), unknown, unknown)
        bound = np.broadcast_to(worst.radius.bound, shape)
        if np.any(bound):
            self.kept[step.name] = reason
        return Scatter(np.zeros(shape), bound, bound)

    def _pull(self, output: str) -> None:
        maps = self.maps
        errors = maps.errors[output].reshape(-1).copy()
        rows = np.flatnonzero(errors > 0)
        for chunk in chunks(maps.graph, rows, copies=1):
            arrived: dict[str, FloatArray] = {}
            c = unit_functionals(maps.values[output].lo.shape, chunk)
            pulled = pull_back(maps, {}, {output: c}, self.tick, arriving=arrived)
            assert pulled.moved is not None
            square = np.zeros(len(chunk))
            for name, weights in arrived.items():
                square += _squares(weights, self.squares[name])
            limit = (pulled.moved.bound + self.factor * np.sqrt(square * _MORE)) * _MORE
            limit = np.where(np.isnan(limit), np.inf, limit)
            errors[chunk] = np.minimum(errors[chunk], limit)
        shape = maps.errors[output].shape
        maps.err_by(output, apply(GIVEN_ERROR, U=errors.reshape(shape)))


def _squares(weights: FloatArray, square: FloatArray) -> FloatArray:
    """Σ c²·b² for each functional."""
    if not np.any(square):
        return np.zeros(len(weights))
    flat = np.broadcast_to(np.sqrt(square), weights.shape[1:]).reshape(-1)
    wide = weights.reshape(len(weights), -1)
    sizes = wide * np.where(wide == 0, 0.0, flat)  # 0·∞: what does not count may overflow
    return np.asarray(np.einsum("ki,ki->k", sizes, sizes) + flat.size * _UNDERFLOWN)


def worst_of(parts: Sequence[ProbableErrors]) -> ProbableErrors:
    """Of several boxes, each input lying in one of them: the largest bounds of each element."""
    first = parts[0]
    errors = {t: np.maximum.reduce([p.errors[t] for p in parts]) for t in first.errors}
    kept = {name: reason for p in parts for name, reason in p.kept.items()}
    return replace(first, errors=errors, kept=kept)
