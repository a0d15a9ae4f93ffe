"""Branching on secant slopes: better bounds of differences where few Relus are undecided.

At an undecided Relu, d_out = s·d_in for some s in [0, 1]; at any other, d_out = m·d_in + r with a
known m and |r| ≤ R. Fix an input, an execution, and with them every node's own rounding η and the
remainders r; read the slopes s of all undecided Relus as free. The difference at the output is
then affine in each s, so over s in [0, 1] it is largest at 0 or at 1 (lemma `slope-vertex`): a
bound of both cases is a bound. Which inputs make which slope possible is not even asked. The Relu
whose undecidedness costs most is branched on first; the others stay relaxed as s = ½ ± ½.

That takes bounds e on |d_in| that hold for *all* slopes, not only for those of an execution. The
errors of one pass of `network_bounds` are such: every step of theirs relaxes undecided Relus over
the whole of [0, 1] and pays R at the others, the forward radii included. Bounds known from an
earlier pass, with other undecided Relus, are not, and are left out of a pass that branches; so
are networks with other nonlinear operators (`can_branch`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from encoders.enclosure import FloatArray
from encoders.operator import is_affine, site_of
from encoders.registry import lookup
from onnx_import.graph import Graph, Node
from refine.pullback import FixedSlopes, Maps, pull_back, variable_inputs

_BATCH = 128


@dataclass(frozen=True)
class _Cases:
    """Cases (functional, slopes fixed so far), their bounds and the next element to branch on."""

    owner: npt.NDArray[np.intp]
    fixed: dict[str, FixedSlopes]
    upper: FloatArray
    place: npt.NDArray[np.intp]

    def chosen(self, rows: npt.NDArray[np.intp]) -> _Cases:
        picked = {n: FixedSlopes(f.slope[rows], f.at[rows]) for n, f in self.fixed.items()}
        return _Cases(self.owner[rows], picked, self.upper[rows], self.place[rows])


def can_branch(graph: Graph) -> bool:
    """Is every operator affine, or one whose undecided slopes can be branched on?"""
    return all(lookup(n).branches or is_affine(lookup(n), site_of(graph, n)) for n in graph.order)


def branched_upper(
    maps: Maps,
    target: str,
    functionals: FloatArray,
    most: int,
    tick: Callable[[], None] = lambda: None,
) -> FloatArray:
    """Upper bounds (k,) of functionals (k, *shape) of a tensor's differences, the largest first
    branched on, until `most` cases were bounded or nothing is left to branch on."""
    nodes = _undecided(maps, target)
    k = functionals.shape[0]
    if not nodes:
        return pull_back(maps, {}, {target: functionals}, tick).upper
    start = {
        n.name: FixedSlopes(np.zeros((k, *_shape(maps, n))), np.zeros((k, *_shape(maps, n)), bool))
        for n in nodes
    }
    cases = _bounded(maps, target, functionals, nodes, np.arange(k), start, tick)
    count = k
    while count < most:
        top = np.full(k, -np.inf)
        np.maximum.at(top, cases.owner, cases.upper)
        # Only a functional's largest cases hold its bound up; one that cannot be branched on
        # any more settles it.
        stuck = np.zeros(k, dtype=bool)
        ended = cases.place < 0
        stuck[cases.owner[ended & (cases.upper >= top[cases.owner])]] = True
        worth = (~ended) & ~stuck[cases.owner]
        if not np.any(worth):
            break
        rows = np.flatnonzero(worth)
        rows = rows[np.argsort(-cases.upper[rows], kind="stable")][: _BATCH // 2]
        parents = cases.chosen(rows)
        fixed = _both(nodes, parents)
        owner = np.tile(parents.owner, 2)
        halves = _bounded(maps, target, functionals, nodes, owner, fixed, tick)
        # A case never gets worse than what was proved of its parent.
        upper = np.minimum(halves.upper, np.tile(parents.upper, 2))
        halves = _Cases(halves.owner, halves.fixed, upper, halves.place)
        rest = np.setdiff1d(np.arange(len(cases.owner)), rows)
        cases = _joined(cases.chosen(rest), halves)
        count += len(owner)
    best = np.full(k, -np.inf)
    np.maximum.at(best, cases.owner, cases.upper)
    return best


def _both(nodes: list[Node], parents: _Cases) -> dict[str, FixedSlopes]:
    """Each parent twice: its place fixed to slope 0, then to slope 1."""
    n = len(parents.owner)
    fixed: dict[str, FixedSlopes] = {}
    offset = 0
    for node in nodes:
        f = parents.fixed[node.name]
        at, slope = np.concatenate([f.at, f.at]), np.concatenate([f.slope, f.slope])
        size = f.at[0].size
        local = parents.place - offset
        mine = np.flatnonzero((local >= 0) & (local < size))
        for half, value in ((0, 0.0), (n, 1.0)):
            at.reshape(2 * n, -1)[half + mine, local[mine]] = True
            slope.reshape(2 * n, -1)[half + mine, local[mine]] = value
        fixed[node.name] = FixedSlopes(slope, at)
        offset += size
    return fixed


def _bounded(
    maps: Maps,
    target: str,
    functionals: FloatArray,
    nodes: list[Node],
    owner: npt.NDArray[np.intp],
    fixed: dict[str, FixedSlopes],
    tick: Callable[[], None],
) -> _Cases:
    seen: dict[str, FloatArray] = {}
    everywhere = _padded(maps, fixed, len(owner))
    pulled = pull_back(maps, {}, {target: functionals[owner]}, tick, None, seen, everywhere)
    costs = []
    for node in nodes:
        (tensor,) = variable_inputs(maps.graph, node)
        open_ = maps.difference_maps[node.name].open
        assert open_ is not None
        arrived = seen.get(node.name, np.zeros_like(fixed[node.name].slope))
        free = open_ & ~fixed[node.name].at
        cost = np.where(free, np.abs(arrived) * maps.errors[tensor], 0.0)
        costs.append(cost.reshape(len(owner), -1))
    every = np.concatenate(costs, axis=1)
    place = np.argmax(every, axis=1)
    place = np.where(every[np.arange(len(owner)), place] > 0, place, -1)
    return _Cases(owner, fixed, pulled.upper, place)


def _padded(maps: Maps, fixed: dict[str, FixedSlopes], k: int) -> dict[str, FixedSlopes]:
    """`fixed`, with nothing fixed at all other nodes that could be."""
    every = dict(fixed)
    for name, between in maps.difference_maps.items():
        if between.fixed is not None and name not in every:
            shape = (k, *between.radius.shape)
            every[name] = FixedSlopes(np.zeros(shape), np.zeros(shape, dtype=bool))
    return every


def _joined(a: _Cases, b: _Cases) -> _Cases:
    fixed = {
        n: FixedSlopes(
            np.concatenate([a.fixed[n].slope, b.fixed[n].slope]),
            np.concatenate([a.fixed[n].at, b.fixed[n].at]),
        )
        for n in a.fixed
    }
    return _Cases(
        np.concatenate([a.owner, b.owner]),
        fixed,
        np.concatenate([a.upper, b.upper]),
        np.concatenate([a.place, b.place]),
    )


def _undecided(maps: Maps, target: str) -> list[Node]:
    """Nodes before the target with slopes to branch on."""
    found: list[Node] = []
    for node in maps.graph.order:
        between = maps.difference_maps[node.name]
        if between.open is not None and np.any(between.open):
            found.append(node)
        if target in node.outputs:
            break
    return found


def _shape(maps: Maps, node: Node) -> tuple[int, ...]:
    return maps.difference_maps[node.name].radius.shape
