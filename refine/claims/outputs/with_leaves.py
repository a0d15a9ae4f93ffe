"""A property whose domain another verifier has cut into leaves: each leaf is checked again here.

Where a leaf's margin cannot be proved here and the verifier gives one, the answer rests on that
number, and is conditional: it names whom it rests on.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

from encoders.numbers.enclosure import Interval
from onnx_import.errors import ModelError
from onnx_import.onnx.proto import sha256_of
from refine.bounds.margins import DEFICIT, Margins
from refine.bounds.network import InputBox, Known
from refine.bounds.trusted_margins import TrustedBox, Trusting
from refine.claims.claim import Claim
from refine.claims.kind import Asked, ClaimOption
from refine.claims.settle import settle
from refine.common.clock import Clock
from refine.domain.box import Box
from refine.domain.domain import Domain
from refine.domain.leaves import Leaves, boxes_of, half_open, read_leaves
from refine.domain.properties import Property
from refine.proof.input_splitting import Part, covers
from refine.proof.proof import input_box
from refine.results.verdict import Assumption, Result, Tolerance, Verdict

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
    """The domain as leaves, and what is trusted in them."""

    domain: Domain
    trusted: tuple[TrustedBox, ...]
    of: Leaves


def settled_by_leaves(asked: Asked, claim: Claim, unsafe: Property, path: Path) -> Result:
    """Settle a claim that executions stay out of an unsafe set, leaf by leaf.

    Raises ModelError for a file that holds no leaves of this model, or whose leaves leave out a
    part of the domain.
    """
    clock = Clock(time.monotonic(), asked.options.timeout, asked.tell)
    cut = _cut(asked, unsafe, path)
    plain = settle(claim, cut.domain, _NONE, asked.options, clock)
    if plain.verdict is not Verdict.UNKNOWN or not cut.trusted or clock.late:
        return plain
    trusting = replace(claim, problem=Trusting(_margins_of(claim), cut.trusted), quarry=None)
    quiet = replace(asked.options, conform=False, so_far=None, certificate=False)
    found = settle(trusting, cut.domain, _NONE, quiet, clock)
    if found.verdict is not Verdict.VERIFIED:
        return plain
    whose = f"{cut.of.verifier} ({cut.of.source}, sha256 {sha256_of(path)})"
    rests = Assumption(
        "trusted-margins",
        f"margins over the reals that {whose} gives are right; nothing here has checked them",
    )
    return replace(
        plain,
        verdict=Verdict.CONDITIONAL,
        reason=f"no execution reaches the unsafe set if {cut.of.verifier} is right about margins "
        f"over the reals ({cut.of.source}), which were not proved here",
        assumptions=(*plain.assumptions, rests),
        nodes=found.nodes,
        obligations=found.obligations,
        notes=found.notes,
        seconds=clock.seconds,
    )


def _margins_of(claim: Claim) -> Margins:
    assert isinstance(claim.problem, Margins)
    return claim.problem


def _cut(asked: Asked, unsafe: Property, path: Path) -> _Cut:
    graph, domain, contract = asked.side.graph, asked.domain, asked.side.contract
    elements = sum(graph.types[name].size for name in graph.inputs)
    leaves = read_leaves(path, elements, unsafe)
    boxes: list[Box] = []
    trusted: list[TrustedBox] = []
    for whole in domain.boxes:
        made = list(boxes_of(leaves, whole, graph))
        parts = [_part(box) for box, leaf in made]
        if not parts or not covers(_part(whole).box, parts):
            raise ModelError(
                f"{leaves.source}: the leaves leave out a part of the domain, {domain.source}"
            )
        for box, leaf in made:
            boxes.append(box)
            if leaf.margins:
                trusted.append(TrustedBox(input_box(box, domain, contract), leaf.margins))
    source = f"{domain.source}, in {len(boxes)} leaves of {leaves.source}"
    return _Cut(replace(domain, boxes=tuple(boxes), source=source), tuple(trusted), leaves)


def _part(box: Box) -> Part:
    """A box for the question whether boxes cover another: it ends before the next number."""
    values = {name: Interval(lo, hi) for name, (lo, hi) in half_open(box).items()}
    errors = {name: 0.0 * box.lo[name] for name in values}
    return Part(InputBox(values, errors), {}, {}, Known({}, {}), None)
