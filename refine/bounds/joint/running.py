"""What running the nodes of a formula on one number is off by from the formula.

The numbers that a tensor may hold are cut into parts: of one of them all nodes' ranges are narrow,
and how they hang together is not lost. Parts are of the ranges of all elements together, equal ones
and smaller ones towards 0, where a tensor has many, and of each range by itself where it has few.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from encoders.contract.contract import RuntimeContract
from encoders.lemmas.combining import EXACT
from encoders.lemmas.kernel import Radius, any_of, exactly_zero, known_at
from encoders.lemmas.ranges.making import given_ranges
from encoders.numbers.enclosure import FloatArray, Interval
from encoders.operator import RoundingBound
from encoders.program import program_of
from onnx_import.errors import UnsupportedModel
from onnx_import.graph import Graph
from refine.bounds.backward import Maps, pull_back, unit_functionals
from refine.bounds.joint.finding import Body
from refine.bounds.local.errors import bound_errors
from refine.bounds.local.values import bound_values

_OF_EACH = 16  # parts of a range
_OF_ALL = 160  # equal parts of all ranges together
_MOST_PULLED = 2048  # elements of a tensor, each by itself
_HALVES = 12  # of the largest number, towards 0


def rounding_of(body: Body, x: Interval, contract: RuntimeContract) -> RoundingBound:
    """Of one number of each of these ranges, the formula's nodes run under the contract."""
    with np.errstate(all="ignore"):
        if x.lo.size * _OF_EACH <= _OF_ALL:
            cut = _parts_of_each(x)
            bound = _run(body, cut, contract)
            each = np.arange(cut.lo.size).reshape(_OF_EACH, -1)
            radius = any_of([bound.radius.taken(places) for places in each])
        else:
            edges = _edges(x)
            bound = _run(body, Interval(edges[:-1], edges[1:]), contract)
            radius = _over_parts(bound.radius, edges, x)
    found = known_at(x.lo.shape, [(np.arange(x.lo.size), radius)])
    return RoundingBound(found, bound.preconditions, bound.lemmas)


def _parts_of_each(x: Interval) -> Interval:
    """Parts (parts * size,) of each range, which cover it."""
    lo, hi = x.lo.reshape(-1), x.hi.reshape(-1)
    shares = np.linspace(0.0, 1.0, _OF_EACH + 1)[:, None]
    edges = np.clip(lo + (hi - lo) * shares, lo, hi)
    edges[0], edges[-1] = lo, hi
    return Interval(edges[:-1].reshape(-1), edges[1:].reshape(-1))


def _edges(x: Interval) -> FloatArray:
    """The ends of adjacent parts, which cover all ranges."""
    low, high = float(np.min(x.lo)), float(np.max(x.hi))
    sizes = max(abs(low), abs(high)) * 2.0 ** -np.arange(_HALVES + 1)
    edges = np.concatenate([np.linspace(low, high, _OF_ALL + 1), sizes, -sizes, [0.0]])
    return np.unique(np.concatenate([edges[(edges > low) & (edges < high)], [low, high]]))


def _over_parts(radius: Radius, edges: FloatArray, x: Interval) -> Radius:
    """Of a number of each range the largest over the parts that it touches: over two runs of 2^k
    parts, which cover them."""
    last = radius.bound.size - 1
    first = np.clip(np.searchsorted(edges, x.lo.reshape(-1), "right") - 1, 0, last)
    final = np.clip(np.searchsorted(edges, x.hi.reshape(-1), "left") - 1, first, last)
    levels = np.frexp(final - first + 1.0)[1] - 1
    found: list[tuple[npt.NDArray[np.intp], Radius]] = []
    runs = radius
    for level in range(int(np.max(levels)) + 1):
        places = np.flatnonzero(levels == level)
        if len(places):
            starts, ends = first[places], final[places] - 2**level + 1
            found.append((places, runs.taken(starts).or_else(runs.taken(ends))))
        count = runs.bound.size - 2**level
        if count > 0:
            runs = runs.taken(np.arange(count)).or_else(runs.taken(np.arange(count) + 2**level))
    return known_at(first.shape, found)


def rounding_of_nodes(nodes: Graph, x: Interval, contract: RuntimeContract) -> Radius:
    """What nodes that read one tensor are off by when they run on numbers in these ranges."""
    (source,), (end,) = nodes.inputs, nodes.outputs
    with np.errstate(all="ignore"):
        maps, _ = _ran(nodes, source, x, contract, kept=0)
        known = maps.radii[end]
        size = known.bound.size
        if size > _MOST_PULLED:
            return known
        every = unit_functionals(known.bound.shape, np.arange(size))
        pulled = pull_back(maps, {}, {end: every}).moved
        assert pulled is not None
        return known.and_also(known_at(known.bound.shape, [(np.arange(size), pulled)]))


def _ran(
    graph: Graph, source: str, x: Interval, contract: RuntimeContract, *, kept: int
) -> tuple[Maps, list[RoundingBound]]:
    """Ranges and errors of a graph's tensors where what it reads is exact, and its nodes' own
    roundings."""
    maps = Maps(program_of(graph).checked, given_ranges({source: x}), kept=kept)
    maps.err_by(source, exactly_zero(EXACT, x.lo.shape))
    rounding: list[RoundingBound] = []
    for step in maps.program.steps:
        bound_values(maps, step)
        rounding.append(bound_errors(maps, step, contract, None)[0])
    return maps, rounding


def _run(body: Body, x: Interval, contract: RuntimeContract) -> RoundingBound:
    """Of one number of each of these ranges (n,), which are taken for themselves."""
    graph = body.of_shape(x.lo.shape)
    maps, rounding = _ran(graph, body.source, x, contract, kept=1)
    return RoundingBound(
        _pulled_back(maps, graph.outputs[0]),
        tuple(condition for bound in rounding for condition in bound.preconditions),
        tuple(dict.fromkeys(name for bound in rounding for name in bound.lemmas)),
    )


def _pulled_back(maps: Maps, end: str) -> Radius:
    """What the end of a formula is off by, number by number: what two nodes share may cancel."""
    known = maps.radii[end]
    try:
        pulled = pull_back(maps, {}, {end: np.ones((1, *known.bound.shape))}).moved
    except UnsupportedModel:  # a node whose functionals are not carried number by number
        return known
    assert pulled is not None
    return known.and_also(pulled.taken(np.arange(known.bound.size)))
