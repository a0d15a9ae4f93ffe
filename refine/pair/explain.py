"""In words: where two graphs part."""

from __future__ import annotations

from itertools import islice

import numpy as np

from onnx_import.graph import Graph, Node
from refine.bounds.network import NetworkBounds
from refine.pair.alignment import FOLDED, SPEC, Aligned
from refine.pair.comparison import Comparison
from refine.pair.joined import Joined
from refine.pair.lockstep import Lockstep
from refine.pair.pair import Pair
from refine.pair.product import Product
from refine.pair.sameness import shown


def parting(pair: Pair, problem: Comparison, bounds: NetworkBounds) -> str:
    """How the graphs relate, and the first tensors that differ, with the ranges in `bounds`."""
    if problem.identical:
        return "the graphs are the same: equal bits in, equal bits out"
    if pair.equal.issuperset(pair.outputs):
        return "the graphs are equal over the reals"
    if problem.aligned is not None:
        return _first_difference(problem.aligned, bounds)
    if problem.joined is not None:
        return differences_at(problem.joined, pair, bounds)
    if problem.lockstep is not None:
        return quantised(problem.lockstep)
    return _first_apart(pair, problem.joint)


def quantised(pair: Lockstep) -> str:
    """How many layers of a quantised copy correspond, and how many tensors it puts on grids."""
    roles = [pair.copy.roles[node.name] for node in pair.meant.order]
    stored = sum(r.stored is not None for r in roles)
    own = sum(r.own is not None for r in roles)
    said = [f"{stored} tensors on stored grids"] if stored else []
    said += [f"{own} on grids of their own range"] if own else []
    return (
        f"the graphs correspond layer by layer: impl puts {' and '.join(said)}, and has other "
        f"constants at {len(pair.changed)} nodes; each rounding to a grid is bounded as a noise of "
        "half a step, and both copies are carried back together"
    )


def differences_at(both: Joined, pair: Pair, bounds: NetworkBounds) -> str:
    """The cuts, the one with the largest effect on an output first."""
    changes = sorted(both.changes, key=lambda c: -float(bounds.costs.get(c.node, 0.0)))
    said: list[str] = []
    for change in changes[:3]:
        mine = pair.impl.graph.writers[change.impl]
        other = pair.spec.graph.writers[change.spec]
        gap = bounds.maps.values[change.gap].magnitude
        said.append(
            f"'{mine.name}', {formula(pair.impl.graph, mine)}: specified "
            f"{formula(pair.spec.graph, other)}; at most {np.max(gap):.3g} apart there"
        )
    more = f"; and {len(changes) - 3} places more" if len(changes) > 3 else ""
    return f"the graphs agree but at {'; at '.join(said)}{more}"


def _first_difference(aligned: Aligned, bounds: NetworkBounds) -> str:
    if not aligned.changed:
        return "the graphs correspond node by node and agree over the reals"
    name = aligned.changed[0]
    mine = aligned.impl.named[name]
    other = aligned.spec.named[name]
    more = f"; and {len(aligned.changed) - 1} nodes more" if len(aligned.changed) > 1 else ""
    own, meant = formula(aligned.impl, mine), formula(aligned.spec, other)
    if name in aligned.folded:
        meant = f"{formula(aligned.spec, aligned.folded[name])}, then {meant}"
    what = _weights(aligned.spec, other, aligned.impl, mine) if own == meant else f"not {meant}"
    return (
        f"the graphs correspond node by node; they first differ at '{name}', {own}: {what}"
        f"{_range(bounds, mine.outputs[0])}{more}"
    )


def _range(bounds: NetworkBounds, tensor: str) -> str:
    """Of the specification's tensor, and how far the implementation's is from it."""
    values, errors = bounds.maps.values.get(tensor), bounds.maps.errors.get(tensor)
    if values is None or errors is None or not errors.size:
        return ""
    return (
        f"; specified {np.min(values.lo):.4g} … {np.max(values.hi):.4g}, and at most "
        f"{np.max(errors):.3g} from that"
    )


def _first_apart(pair: Pair, joint: Product | None) -> str:
    """The first node of each graph that the other has not."""
    said: list[str] = []
    if joint is not None:
        theirs = (n for n in pair.spec.graph.order if SPEC + n.name in joint.only_spec)
        mine = (n for n in pair.impl.graph.order if n.name in joint.only_impl)
        said += [f"spec has {formula(pair.spec.graph, n)}" for n in islice(theirs, 1)]
        said += [f"impl has {formula(pair.impl.graph, n)}" for n in islice(mine, 1)]
    first = f", first where {' and '.join(said)}" if said else ""
    return (
        f"the graphs differ in structure{first}; bounded by the own error of impl plus the real "
        "range of impl − spec"
    )


def _weights(spec: Graph, other: Node, impl: Graph, mine: Node) -> str:
    """Which constants of two nodes of one formula differ, and by how much."""
    said: list[str] = []
    for s, t in zip(mine.inputs, other.inputs, strict=True):
        if not t or not spec.is_constant(t):
            continue
        a, b = np.asarray(impl.constants[s], np.float64), np.asarray(spec.constants[t], np.float64)
        if a.shape == b.shape and not np.array_equal(a, b):
            gap = np.abs(a - b)
            place = np.unravel_index(int(np.argmax(gap)), gap.shape)
            said.append(
                f"{np.count_nonzero(a != b)} of {a.size} elements of {s} differ, most at "
                f"{[int(i) for i in place]}: {a[place]:.9g}, specified {b[place]:.9g}"
            )
    return ", ".join(said) or "its constants differ"


def formula(graph: Graph, node: Node) -> str:
    """`y = Gemm(x, w[3×4]; transB=1)`: a node as one reads it."""
    inputs = (
        "-" if not t else f"{t}{list(graph.constants[t].shape)}" if graph.is_constant(t) else t
        for t in node.inputs
    )
    attributes = (f"{k}={shown(v)}" for k, v in sorted(node.attributes.items()))
    inside = "; ".join(p for p in (", ".join(inputs), ", ".join(attributes)) if p)
    return f"{node.outputs[0]} = {node.op}({inside})".replace(SPEC, "").replace(FOLDED, "")
