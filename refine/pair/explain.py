"""In words: where two graphs part."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from refine.bounds.network import NetworkBounds
from refine.pair.alignment import SPEC
from refine.pair.blame import compared, formula
from refine.pair.comparison import Comparison
from refine.pair.pair import Pair
from refine.pair.product import Product
from refine.pair.quantised.beyond_rounding import beyond_rounding
from refine.pair.quantised.lockstep import Lockstep
from refine.results.compared import Difference

_SHOWN, _HARMLESS = 3, 0.01  # places that are told, and the part of the largest effect that counts


def parting(pair: Pair, problem: Comparison, bounds: NetworkBounds) -> str:
    """How the graphs relate, and where they differ, with the ranges in `bounds`."""
    if problem.identical:
        return "the graphs are the same: equal bits in, equal bits out"
    if pair.equal.issuperset(pair.outputs):
        return "the graphs are equal over the reals"
    if problem.lockstep is not None:
        return quantised(problem.lockstep)
    if problem.aligned is None and problem.joined is None:
        return _first_apart(pair, problem.joint)
    if problem.aligned is not None and not problem.aligned.changed:
        return "the graphs correspond node by node and agree over the reals"
    return _at_places(compared(pair, problem, bounds).differences, problem.aligned is not None)


def _at_places(differences: Sequence[Difference], by_nodes: bool) -> str:
    """Those with an effect to speak of, by name; the others in one."""
    most = differences[0].effect if differences else 0.0
    told = [d for d in differences if d.effect >= _HARMLESS * most][:_SHOWN]
    said = "; ".join(
        f"at '{d.impl[-1] if d.impl else d.spec[-1]}', {d.text}; at most {d.largest:.3g} apart "
        f"there, {d.effect:.3g} of the bound"
        for d in told
    )
    rest = differences[len(told) :]
    more = ""
    if rest:
        places = "place more" if len(rest) == 1 else "places more"
        more = f"; and {len(rest)} {places}, {sum(d.effect for d in rest):.3g} of the bound"
    how = "correspond node by node; they differ" if by_nodes else "agree but"
    return f"the graphs {how} {said}{more}"


def quantised(pair: Lockstep) -> str:
    """How many layers of a quantised copy correspond, and how many tensors it puts on grids."""
    roles = [pair.copy.roles[node.name] for node in pair.meant.order]
    stored = sum(r.stored is not None for r in roles)
    own = sum(r.own is not None for r in roles)
    said = [f"{stored} tensors on stored grids"] if stored else []
    said += [f"{own} on grids of their own range"] if own else []
    wrong = beyond_rounding(pair)
    more = f"; beyond rounding: {'; '.join(wrong)}" if wrong else ""
    return (
        f"the graphs correspond layer by layer: impl puts {' and '.join(said)}, and has other "
        f"constants at {len(pair.changed)} nodes; each rounding to a grid is bounded as a noise of "
        f"half a step, and both copies are carried back together{more}"
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
