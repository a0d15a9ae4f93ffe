"""Rows of an unsafe set as functionals, and these bounded below."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from encoders.numbers.enclosure import FloatArray, add_up, dot_up, inner_up
from encoders.numbers.formats import BINARY64, round_down, round_up
from onnx_import.graph import Graph
from refine.bounds.alpha import Branching
from refine.bounds.backward import Maps, pull_back
from refine.bounds.network import NetworkBounds
from refine.bounds.relu_splitting import optimised_upper
from refine.domain.properties import Row

_PHASES = 8  # splits of phases per row, for every one that a tensor's elements get


@dataclass(frozen=True)
class Functionals:
    """Rows as functionals of tensors: c·ŷ + a·x, arrays (k, *shape) per output and input.

    The true coefficients are at most `off` away, element by element.
    """

    on_outputs: Mapping[str, FloatArray]
    on_inputs: Mapping[str, FloatArray]
    off: Mapping[str, FloatArray]

    def of_boxes(self, many: int) -> Functionals:
        """All rows, of every box of a batch: (k, boxes, *one box's shape)."""

        def spread(c: FloatArray) -> FloatArray:
            return np.broadcast_to(c, (c.shape[0], many, *c.shape[2:]))

        parts = (self.on_outputs, self.on_inputs, self.off)
        return Functionals(*({t: spread(c) for t, c in part.items()} for part in parts))

    def taken(self, rows: Sequence[int]) -> Functionals:
        """Some of the rows."""
        chosen = list(rows)
        parts = (self.on_outputs, self.on_inputs, self.off)
        return Functionals(*({t: c[chosen] for t, c in part.items()} for part in parts))


@dataclass(frozen=True)
class Floors:
    """Lower bounds (k,) on the left sides of rows: of every execution, and over the reals; of many
    boxes, (k, boxes)."""

    run: FloatArray
    real: FloatArray


def lower_bounds(
    bounds: NetworkBounds,
    rows: Functionals,
    tick: Callable[[], None],
    effort: Branching | None,
    late: bool,
    seen: dict[str, FloatArray] | None = None,
) -> tuple[Floors, Mapping[str, FloatArray]]:
    """Lower bounds of rows, and the coefficients of each on inputs; `seen` as in `pull_back`."""
    maps = bounds.maps
    given = (*rows.on_outputs.values(), *rows.on_inputs.values())
    k = next((c.shape[: 1 + maps.kept] for c in given), (0,))
    if not k[0]:
        return Floors(np.zeros(0), np.zeros(0)), {}
    varied = {t: -c for t, c in rows.on_outputs.items() if t in maps.values}
    values = dict(varied)
    for t, c in rows.on_inputs.items():
        values[t] = values[t] - c if t in values else -c
    fixed = _of_constants(bounds, rows, k)
    most = 0 if late else None
    real = pull_back(maps, values, {}, tick, most=most) if values else None
    run = pull_back(maps, values, varied, tick, seen=seen, most=most) if values else None
    upper_real = add_up(fixed, real.upper) if real is not None else fixed
    upper_run = add_up(fixed, run.upper) if run is not None else fixed
    if effort is not None and len(values) == 1 and len(varied) == 1:
        better = _optimised(maps, values, effort=effort, tick=tick)
        moved = pull_back(maps, {}, varied, tick).upper
        upper_real = np.minimum(upper_real, add_up(fixed, better))
        upper_run = np.minimum(upper_run, add_up(fixed, add_up(better, moved)))
    pulls = {} if run is None else run.on_inputs
    return Floors(-upper_run, -upper_real), pulls


def _optimised(
    maps: Maps, values: Mapping[str, FloatArray], effort: Branching, tick: Callable[[], None]
) -> FloatArray:
    """Upper bounds by chosen slopes and split phases, of functionals of one tensor's values."""
    ((tensor, c),) = values.items()
    parts = replace(effort, total=_PHASES * effort.parts * bool(effort.total))
    return optimised_upper(
        maps, tensor, functionals=c, branching=parts, worth=np.ones(len(c)), tick=tick
    )


def _of_constants(bounds: NetworkBounds, rows: Functionals, k: tuple[int, ...]) -> FloatArray:
    """Upper bounds, of shape k, of what constant outputs and rounded coefficients come to."""
    maps, total = bounds.maps, np.zeros(k)
    for tensor, c in rows.on_outputs.items():
        if tensor not in maps.values:
            held, away = _constant(bounds, tensor)
            total = add_up(total, add_up(inner_up(-c, held), dot_up(c, away)))
    for tensor, off in rows.off.items():
        if not np.any(off):
            continue
        if tensor in maps.values:
            reach = add_up(maps.values[tensor].magnitude, maps.errors[tensor])
        else:
            held, away = _constant(bounds, tensor)
            reach = add_up(np.abs(held), away)
        total = add_up(total, dot_up(off, reach, maps.kept))
    return total


def _constant(bounds: NetworkBounds, tensor: str) -> tuple[FloatArray, FloatArray]:
    """A constant output, and how far what runs may be from it: without limit where float64 does not
    hold it."""
    stored = np.asarray(bounds.maps.graph.constants[tensor])
    wide = stored.astype(np.float64)
    same = wide.astype(stored.dtype) == stored
    return wide, np.where(same, bounds.errors[tensor], np.inf)


def functionals_of(rows: Sequence[Row], graph: Graph) -> Functionals:
    """Rows of exact numbers as float64 functionals of a graph's outputs and inputs."""
    off: dict[str, FloatArray] = {}
    sides = []
    for names, part in ((graph.outputs, "outputs"), (graph.inputs, "inputs")):
        found: dict[str, FloatArray] = {}
        start = 0
        for name in names:
            size, shape = graph.types[name].size, graph.types[name].shape
            flat, error = np.zeros((len(rows), size)), np.zeros((len(rows), size))
            for k, row in enumerate(rows):
                for i, factor in getattr(row, part).items():
                    if start <= i < start + size:
                        flat[k, i - start], error[k, i - start] = _nearest(factor)
            if np.any(flat) or np.any(error):
                found[name] = flat.reshape(len(rows), *shape)
                spread = error.reshape(len(rows), *shape)
                off[name] = add_up(off[name], spread) if name in off else spread
            start += size
        sides.append(found)
    return Functionals(sides[0], sides[1], off)


def _nearest(factor: Fraction) -> tuple[float, float]:
    """A float64 number, and a bound on how far it is from the exact one."""
    low, high = round_down(factor, BINARY64), round_up(factor, BINARY64)
    return float(low), 0.0 if low == high else float(np.nextafter(float(high) - float(low), np.inf))
