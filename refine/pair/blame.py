"""Where two graphs differ, by what each place does to the outputs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from onnx_import.graph import Array, Graph, Node
from refine.bounds.network import NetworkBounds
from refine.pair.alignment import FOLDED, SPEC, Aligned
from refine.pair.comparison import Comparison
from refine.pair.joined import Change
from refine.pair.pair import Pair
from refine.pair.sameness import content_of, shown
from refine.results.compared import Compared, Difference, DifferenceKind, Relation

_SHOWN = 3  # formulas of one place


def compared(pair: Pair, problem: Comparison, bounds: NetworkBounds) -> Compared:
    """How the graphs are related, and where they differ, with the ranges and shares in `bounds`."""
    if problem.identical:
        return Compared(Relation.SAME_BITS)
    if pair.equal.issuperset(pair.outputs):
        return Compared(Relation.EQUAL)
    if problem.aligned is not None:
        found = [_of_node(problem.aligned, name, bounds) for name in problem.aligned.changed]
        return _related(found)
    if problem.joined is not None:
        return _related([_of_cut(pair, change, bounds) for change in problem.joined.changes])
    if problem.lockstep is not None:
        return Compared(Relation.GRIDS)
    return Compared(Relation.APART)


def _related(found: Sequence[Difference]) -> Compared:
    if not found:
        return Compared(Relation.EQUAL)
    constants = all(d.kind is DifferenceKind.CONSTANTS for d in found)
    relation = Relation.CONSTANTS if constants else Relation.PLACES
    return Compared(relation, tuple(sorted(found, key=lambda d: (-d.effect, -d.largest))))


def _of_node(aligned: Aligned, name: str, bounds: NetworkBounds) -> Difference:
    mine, other = aligned.impl.named[name], aligned.spec.named[name]
    before = aligned.folded[name].nodes[:-1] if name in aligned.folded else ()
    at = next(n for n in bounds.nodes if n.node.name == name)
    largest = float(np.max(at.run.change, initial=0.0))
    own = float(np.max(at.rounding.radius.bound, initial=0.0))
    whole = float(bounds.roundings.get(name, 0.0))
    share = largest / (largest + own) if np.isfinite(own) and largest > 0 else float(largest > 0)
    theirs = [*before, other]
    kind, text = _told(aligned.spec, theirs, aligned.impl, [mine])
    effect = whole * share if share else 0.0
    return Difference(aligned.originals[name], (name,), kind, effect, largest, text)


def _of_cut(pair: Pair, change: Change, bounds: NetworkBounds) -> Difference:
    spec, impl = pair.spec.graph, pair.impl.graph
    gap = bounds.maps.values.get(change.gap)
    largest = np.inf if gap is None else float(np.max(gap.magnitude, initial=0.0))
    effect = float(bounds.costs.get(change.node, 0.0))
    theirs = [spec.named[n] for n in change.spec_nodes]
    mine = [impl.named[n] for n in change.impl_nodes]
    kind, text = _told(spec, theirs, impl, mine)
    return Difference(change.spec_nodes, change.impl_nodes, kind, effect, largest, text)


def _told(
    spec: Graph, theirs: Sequence[Node], impl: Graph, mine: Sequence[Node]
) -> tuple[DifferenceKind, str]:
    """What differs between two parts, and in words: formulas of both, and constants."""
    constants = tuple(_constants_apart(spec, theirs, impl, mine))
    meant, own = formulas(spec, theirs), formulas(impl, mine)
    what = "" if own == meant else f"specified {meant}"
    if len(theirs) == len(mine) == 1 and theirs[0].op != mine[0].op:
        kind, constants = DifferenceKind.OPERATOR, ()
    else:
        kind = DifferenceKind.CONSTANTS if constants else DifferenceKind.PART
    return kind, f"{own}: {', '.join(p for p in (*constants, what) if p) or 'its constants differ'}"


def _constants_apart(
    spec: Graph, theirs: Sequence[Node], impl: Graph, mine: Sequence[Node]
) -> Iterator[str]:
    """Constants of one part that the other has not, beside those of as many elements
    there."""
    other = _constants(spec, theirs)
    kept = {content_of(v) for _, v in other}
    ours = {content_of(v) for _, v in _constants(impl, mine)}
    left = [(t, v) for t, v in other if content_of(v) not in ours]
    for tensor, values in _constants(impl, mine):
        if content_of(values) in kept:
            continue
        match = next((v for _, v in left if v.size == values.size), None)
        if match is None:
            continue
        left = [(t, v) for t, v in left if v is not match]
        a = np.asarray(values, np.float64)
        b = np.asarray(match, np.float64).reshape(a.shape)
        if not (a.size and np.all(np.isfinite(a)) and np.all(np.isfinite(b))):
            continue
        gap = np.abs(a - b)
        place = np.unravel_index(int(np.argmax(gap)), gap.shape)
        if a.size == 1:
            yield f"{tensor} is {a[place]:.9g}, specified {b[place]:.9g}"
            continue
        yield (
            f"{np.count_nonzero(a != b)} of {a.size} elements of {tensor} differ, most at "
            f"{[int(i) for i in place]}: {a[place]:.9g}, specified {b[place]:.9g}"
        )


def _constants(graph: Graph, nodes: Sequence[Node]) -> list[tuple[str, Array]]:
    names = dict.fromkeys(t for n in nodes for t in n.inputs if t and graph.is_constant(t))
    return [(t.removeprefix(SPEC), graph.constants[t]) for t in names]


def formulas(graph: Graph, nodes: Sequence[Node]) -> str:
    """Some nodes as one reads them: the last ones."""
    said = [formula(graph, node) for node in nodes[-_SHOWN:]]
    more = len(nodes) - len(said)
    return ", then ".join(([f"{more} nodes"] if more else []) + said)


def formula(graph: Graph, node: Node) -> str:
    """`y = Gemm(x, w[3×4]; transB=1)`: a node as one reads it."""
    inputs = (
        "-" if not t else f"{t}{list(graph.constants[t].shape)}" if graph.is_constant(t) else t
        for t in node.inputs
    )
    attributes = (f"{k}={shown(v)}" for k, v in sorted(node.attributes.items()))
    inside = "; ".join(p for p in (", ".join(inputs), ", ".join(attributes)) if p)
    return f"{node.outputs[0]} = {node.op}({inside})".replace(SPEC, "").replace(FOLDED, "")
