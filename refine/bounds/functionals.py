"""Linear functionals of a network's outputs: of real values and of errors, bounded together.

With y the real and y + d the computed outputs, Σ c·y + Σ e·d is pulled back to the inputs as one
functional, so that errors which both parts share cancel. What is computed has c = e, the real
network e = 0, the error alone c = 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction

import numpy as np

from encoders.arithmetic.exact_fields import ObjectArray
from encoders.contract.contract import RuntimeContract
from encoders.numbers.enclosure import (
    FloatArray,
    Interval,
    add_up,
    dot_up,
    inner_up,
    midpoint_radius,
    point,
)
from encoders.program import program_of
from onnx_import.graph import Graph
from refine.bounds.alpha import Branching
from refine.bounds.backward import Maps, pull_back
from refine.bounds.network import InputBox, Known, NetworkBounds, network_bounds
from refine.bounds.pruning import MOST_SPLIT_INPUTS
from refine.common.rounding import float_up

_TOGETHER = 64  # functionals pulled back at once
_LEAST = 2.0**-1074

Coefficients = Mapping[str, FloatArray]


@dataclass(frozen=True)
class Row:
    """Σ `on_values`·y + Σ `on_errors`·d ≤ `limit`, exactly; with `strict`, <.

    Coefficients have the shapes of the outputs that they name; an output that is left out has none.
    """

    on_values: Coefficients
    on_errors: Coefficients
    limit: Fraction
    strict: bool = False

    @classmethod
    def run(cls, coefficients: Coefficients, limit: Fraction, strict: bool = False) -> Row:
        """Of the outputs as they are computed."""
        return cls(coefficients, coefficients, limit, strict)

    def excess(self, upper: float) -> float:
        """How far a bound on the left side lies above what is allowed, rounded up; 0 where the row
        is shown to hold, and nowhere else."""
        if not np.isfinite(upper):
            return 0.0 if upper == -np.inf else np.inf
        gap = Fraction(upper) - self.limit
        if gap < 0 or (gap == 0 and not self.strict):
            return 0.0
        return max(float_up(gap), _LEAST)


@dataclass(frozen=True)
class Goal:
    """Met where all rows of one of the `alternatives` hold; which one may differ from part to part
    of the domain."""

    alternatives: tuple[tuple[Row, ...], ...]

    @classmethod
    def all_of(cls, *rows: Row) -> Goal:
        return cls((rows,))

    @classmethod
    def any_of(cls, *rows: Row) -> Goal:
        return cls(tuple((row,) for row in rows))


@dataclass(frozen=True)
class Functionals:
    """A problem whose bounds are those of goals: how far each may be from being met, 0 where it is.

    `goals` gives them by name, in an array of objects of any shape: a claim whose goals are those
    of output elements gives each output's name and shape, so that a witness at an element stands
    beside its bound.
    """

    graph: Graph
    contract: RuntimeContract
    goals: Mapping[str, ObjectArray]
    single: bool = field(default=False, init=False)

    def bounds(
        self,
        box: InputBox,
        backward: bool = True,
        tick: Callable[[], None] = lambda: None,
        known: Known | None = None,
        branching: Branching | None = None,
    ) -> NetworkBounds:
        """Those of the network, with the goals' in place of the outputs' errors."""
        found = network_bounds(
            self.graph,
            box,
            contract=self.contract,
            backward=backward,
            tick=tick,
            known=known,
            branching=branching,
            spread=frozenset(self.graph.outputs) & program_of(self.graph).writers.keys(),
        )
        goals = [goal for every in self.goals.values() for goal in every.reshape(-1)]
        rows = [row for goal in goals for rows in goal.alternatives for row in rows]
        influence = {
            t: np.zeros(v.shape) for t, v in box.values.items() if v.lo.size <= MOST_SPLIT_INPUTS
        }
        with np.errstate(all="ignore"):  # infinities and NaN mean that nothing is known
            upper = _upper(found, rows, backward, tick, influence)
        excess = iter([row.excess(float(u)) for row, u in zip(rows, upper, strict=True)])
        reached = iter(
            [min(max(next(excess) for _ in alt) for alt in goal.alternatives) for goal in goals]
        )
        errors = {
            name: np.array([next(reached) for _ in every.reshape(-1)]).reshape(every.shape)
            for name, every in self.goals.items()
        }
        return replace(found, errors=errors, influence=influence)


def _upper(
    found: NetworkBounds,
    rows: list[Row],
    backward: bool,
    tick: Callable[[], None],
    influence: dict[str, FloatArray],
) -> FloatArray:
    """Bounds on the left sides of rows; of those that are not met as they stand, which inputs they
    hang on is added to `influence`."""
    bounds: list[FloatArray] = []
    for start in range(0, len(rows), _TOGETHER):
        chunk = rows[start : start + _TOGETHER]
        values, errors = ({}, {})
        for tensor in found.maps.graph.outputs:
            shape = found.maps.graph.types[tensor].shape
            none = np.zeros(shape)
            values[tensor] = np.stack([r.on_values.get(tensor, none) for r in chunk])
            errors[tensor] = np.stack([r.on_errors.get(tensor, none) for r in chunk])
        upper = _by_ranges(found, values, errors)
        computed = [t for t in values if t in found.maps.values]
        if backward and computed:
            pulled = pull_back(
                found.maps,
                {t: values[t] for t in computed},
                {t: errors[t] for t in computed},
                tick,
            )
            rest = _by_ranges(found, *(_without(c, computed) for c in (values, errors)))
            upper = np.minimum(upper, add_up(pulled.upper, rest))
            unmet = np.array([r.excess(float(u)) > 0 for r, u in zip(chunk, upper, strict=True)])
            for name, c in pulled.on_inputs.items():
                if name in influence:
                    box = found.maps.values[name]
                    push = np.abs(c[unmet]).sum(axis=0) * (box.hi - box.lo)
                    influence[name] = influence[name] + push
        bounds.append(np.where(np.isnan(upper), np.inf, upper))
    return np.concatenate([*bounds, np.zeros(0)])


def _without(coefficients: dict[str, FloatArray], computed: list[str]) -> dict[str, FloatArray]:
    return {t: np.zeros_like(c) if t in computed else c for t, c in coefficients.items()}


def _by_ranges(
    found: NetworkBounds, values: dict[str, FloatArray], errors: dict[str, FloatArray]
) -> FloatArray:
    """Bounds by the ranges and the errors of the outputs alone."""
    total = np.zeros(len(next(iter(values.values()))))
    for tensor, c in values.items():
        middle, radius = midpoint_radius(_range_of(found.maps, tensor))
        total = add_up(total, add_up(inner_up(c, middle), dot_up(c, radius)))
        total = add_up(total, dot_up(errors[tensor], found.errors[tensor]))
    return total


def _range_of(maps: Maps, tensor: str) -> Interval:
    """The real range of an output, which may be a constant."""
    if tensor in maps.values:
        return maps.values[tensor]
    stored = np.asarray(maps.graph.constants[tensor])
    wide = stored.astype(np.float64)
    if np.array_equal(wide.astype(stored.dtype), stored):
        return point(wide)
    return Interval(np.full(wide.shape, -np.inf), np.full(wide.shape, np.inf))
