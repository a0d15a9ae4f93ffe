"""What a proof leaves to the search: the parts of the domain whose bounds are still too large."""

from __future__ import annotations

from refine.bounds.network import InputBox
from refine.domain.box import Box
from refine.domain.domain import Domain
from refine.proof.proof import Proof, excess_over
from refine.results.verdict import Tolerance

_MOST = 4


def remains(proof: Proof, domain: Domain, tolerance: Tolerance) -> Domain | None:
    """The parts with the largest bounds above ε (or the largest of all, where there is no ε), a
    few of them; None where no box was split, or where inputs are rounded."""
    split = [
        (box, part)
        for box, covered in zip(domain.boxes, proof.boxes, strict=True)
        if covered.scalar is None and len(covered.parts) > 1
        for part in covered.parts
    ]
    if domain.round_inputs or not split:
        return None
    excess = excess_over(tolerance)
    ranked = sorted(split, key=lambda pair: -excess(pair[1].errors))
    limit = 1.0 if tolerance.given else 0.0
    boxes = [_within(box, part.box) for box, part in ranked if excess(part.errors) > limit]
    if not boxes:
        return None
    return Domain(tuple(boxes[:_MOST]), f"parts of {domain.source}")


def _within(box: Box, part: InputBox) -> Box:
    """A part, its ends rounded to numbers that the runtime can receive."""
    lo, hi = (
        {name: box.nearest(name, end) for name, end in ends.items()}
        for ends in (
            {name: x.lo for name, x in part.values.items()},
            {name: x.hi for name, x in part.values.items()},
        )
    )
    return Box(lo, hi, lo, hi, box.formats)
