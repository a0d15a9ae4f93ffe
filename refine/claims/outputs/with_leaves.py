"""A property whose domain another verifier has cut into leaves: each leaf is checked again here.

Where a leaf's margin cannot be proved here and the verifier gives one, the answer rests on that
number, and is conditional: it names whom it rests on.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import numpy as np

from encoders.numbers.enclosure import Interval
from onnx_import.errors import ModelError
from onnx_import.onnx.proto import sha256_of
from refine.bounds.network import InputBox, Known
from refine.bounds.properties.deficits import DEFICIT
from refine.bounds.properties.margins import Margins
from refine.bounds.properties.trusted_margins import TrustedBox, Trusting
from refine.claims.claim import Claim
from refine.claims.kind import Asked, ClaimOption
from refine.claims.settle import settle
from refine.common.clock import Clock
from refine.domain.box import Box
from refine.domain.domain import Domain
from refine.domain.leaves import Leaf, Leaves, boxes_of, half_open, read_leaves
from refine.domain.properties import Property
from refine.proof.compose import merged
from refine.proof.cover import covers
from refine.proof.input_splitting import Part
from refine.proof.proof import Proof, first_proof
from refine.results.obligation import Obligation
from refine.results.verdict import Assumption, NodeReport, Result, Tolerance, Verdict

MARGIN_FROM = ClaimOption(
    name="margin_from",
    default=None,
    metavar="LEAVES.json",
    help="check the leaves of another verifier's proof again; where a margin over the reals is "
    "taken from it, the answer is conditional",
)
_NONE = Tolerance(by_output={DEFICIT: Fraction(0)})


@dataclass(frozen=True)
class _Cut:
    """A box of the domain as leaves: of each its numbers, and the part of the box that is bounded
    in its place, which ends at the next number beyond; so parts leave no gap between reals."""

    boxes: tuple[Box, ...]
    leaves: tuple[Leaf, ...]
    parts: tuple[InputBox, ...]


def settled_by_leaves(asked: Asked, claim: Claim, unsafe: Property, path: Path) -> Result:
    """Settle a claim that executions stay out of an unsafe set, leaf by leaf.

    Raises ModelError for a file that holds no leaves of this model, or whose leaves leave out a
    part of the domain.
    """
    clock = Clock(time.monotonic(), asked.options.timeout, asked.tell)
    graph, domain, options = asked.side.graph, asked.domain, asked.options
    elements = sum(graph.types[name].size for name in graph.inputs)
    leaves = read_leaves(path, elements, unsafe)
    cuts = [_cut(whole, leaves, asked) for whole in domain.boxes]
    pieces = [cut.parts for cut in cuts]
    begun = first_proof(claim.problem, domain, options.backward, clock, pieces)
    plain = _from_leaves(settle(claim, domain, _NONE, options, clock, begun), cuts, leaves)
    rest, trusted = _left(begun, cuts, domain)
    if plain.verdict is not Verdict.UNKNOWN or not rest or clock.late:
        return plain
    if not trusted or not all(o.discharged for o in plain.every_obligation):
        return plain
    problem = Trusting(_margins_of(claim), tuple(trusted))
    trusting = replace(claim, problem=problem, quarry=None, certified=None)
    quiet = replace(options, conform=False, so_far=None, certificate=False)
    some = replace(domain, boxes=tuple(rest))
    found = settle(trusting, some, _NONE, quiet, clock)
    if found.verdict is not Verdict.VERIFIED:
        return plain
    whose = f"{leaves.verifier} ({leaves.source}, sha256 {sha256_of(path)})"
    rests = Assumption(
        "trusted-margins",
        f"margins over the reals that {whose} gives are right, in {len(rest)} of its leaves; "
        "nothing here has checked them",
    )
    nodes, obligations = _together(plain, found)
    return replace(
        plain,
        verdict=Verdict.CONDITIONAL,
        reason=f"no execution reaches the unsafe set if {leaves.verifier} is right about margins "
        f"over the reals ({leaves.source}), which were not proved here",
        assumptions=(*plain.assumptions, rests),
        nodes=nodes,
        obligations=obligations,
        seconds=clock.seconds,
    )


def _together(
    plain: Result, trusting: Result
) -> tuple[tuple[NodeReport, ...], tuple[Obligation, ...]]:
    """What nodes owe, and what no node does, in either of two proofs: each once, by its name."""
    both = (plain, trusting)
    of_nodes = merged([{n.name: n.obligations for n in result.nodes} for result in both])
    (owed,) = merged([{"": result.obligations} for result in both]).values()
    return tuple(replace(n, obligations=of_nodes[n.name]) for n in plain.nodes), owed


def _left(begun: Proof, cuts: Sequence[_Cut], domain: Domain) -> tuple[list[Box], list[TrustedBox]]:
    """The leaves that are not proved at once, and what is trusted in them."""
    boxes: list[Box] = []
    trusted: list[TrustedBox] = []
    for cut, covered in zip(cuts, begun.boxes, strict=True):
        whole = len(covered.parts) != len(cut.parts)  # time was too short for parts
        for i, (box, leaf) in enumerate(zip(cut.boxes, cut.leaves, strict=True)):
            part = covered.parts[0 if whole else i]
            if part.failure is None and not np.any(part.errors[DEFICIT]):
                continue
            boxes.append(box)
            if leaf.margins:
                values = {n: Interval(box.lo[n], box.hi[n]) for n in box.lo}
                errors = {n: np.zeros(v.shape) for n, v in values.items()}
                trusted.append(TrustedBox(InputBox(values, errors), leaf.margins))
    return boxes, trusted


def _from_leaves(result: Result, cuts: Sequence[_Cut], leaves: Leaves) -> Result:
    many = sum(len(cut.boxes) for cut in cuts)
    said = f"the proof starts from {many} leaves of {leaves.verifier} ({leaves.source})"
    return replace(result, notes=(*result.notes, said))


def _margins_of(claim: Claim) -> Margins:
    assert isinstance(claim.problem, Margins)
    return claim.problem


def _cut(whole: Box, leaves: Leaves, asked: Asked) -> _Cut:
    made = list(boxes_of(leaves, whole, asked.side.graph))
    parts = [_part(box) for box, _ in made]
    if not parts or not covers(_part(whole).box, parts):
        raise ModelError(
            f"{leaves.source}: the leaves leave out a part of the domain, {asked.domain.source}"
        )
    pieces = [
        InputBox(
            {n: Interval(x.lo, np.minimum(x.hi, whole.hi[n])) for n, x in p.box.values.items()},
            p.box.errors,
        )
        for p in parts
    ]
    return _Cut(tuple(b for b, _ in made), tuple(leaf for _, leaf in made), tuple(pieces))


def _part(box: Box) -> Part:
    """A box for the question whether boxes cover another: it ends before the next number."""
    values = {name: Interval(lo, hi) for name, (lo, hi) in half_open(box).items()}
    errors = {name: 0.0 * box.lo[name] for name in values}
    return Part(InputBox(values, errors), {}, {}, Known({}, {}), None)
