"""A property made stronger, so that its proof over the reals, by anybody, gives the property for
what runs.

Each row c·y ≤ d of the unsafe set becomes c·y ≤ d + m, where no allowed execution has c·ŷ below
c·y − m on inputs within the limits of its conjunction: where an execution is in the unsafe set, the
real network is in the larger one. What executions do to inputs is no part of m: they receive the
numbers themselves. With inputs that are rounded first, boxes grow to what they are rounded to.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import numpy as np

from encoders.numbers.enclosure import FloatArray
from encoders.numbers.formats import FloatFormat, round_fraction
from onnx_import.errors import ModelError
from refine.bounds.properties.row_errors import ROWS, RowErrors
from refine.claims.assumptions import assumptions_of
from refine.claims.claim import Claim, require_semantics
from refine.claims.kind import Asked, ClaimKind, EpsilonUse
from refine.claims.settle import settle
from refine.common.clock import Clock
from refine.common.exact import show
from refine.domain.box import Box, element_formats
from refine.domain.domain import Domain, tensors_of
from refine.domain.properties import Property, read_property, received
from refine.domain.vnnlib import Half
from refine.domain.vnnlib_writing import vnnlib_text
from refine.options.applicable import nameless_rules
from refine.results.verdict import Result, Side, Tolerance, Verdict


@dataclass
class Strengthening:
    """One question of the command line or of Python, which is asked through `kind`.

    After it is answered, `stronger` is the larger unsafe set; None where no bound on executions is
    proved, as where a value may not be finite. The result has the bound of each row.
    """

    stronger: Property | None = None

    @property
    def kind(self) -> ClaimKind:
        """The question as a claim; `refine check` has none like it."""
        return ClaimKind(
            name="strengthening",
            summary="by how much executions may move the rows of an unsafe set",
            settle=self._settled,
            epsilon=EpsilonUse.NONE,
        )

    def _settled(self, asked: Asked) -> Result:
        clock = Clock(time.monotonic(), asked.options.timeout, asked.tell)
        unsafe = _received_set(asked)
        claim = _moving(asked.side, unsafe)
        result = settle(claim, _received(asked.domain), Tolerance(), asked.options, clock)
        moved = result.bounds[ROWS]
        if result.verdict is Verdict.VERIFIED and np.all(np.isfinite(moved)):
            self.stronger = replace(_moved(unsafe, moved), real=True)
        return replace(result, domain=asked.domain)

    def text(self, result: Result, version: int | None = None) -> str | None:
        """The stronger property as a file, of the VNN-LIB version of the given one if none is said;
        None where there is none."""
        if self.stronger is None:
            return None
        graph, contract = result.graph, result.contract
        model = "the model" if graph.source is None else graph.source.name
        about = (
            f"{Path(self.stronger.source).name}, made stronger by refine for {model} "
            f"(sha256 {graph.sha256}) under the contract {contract.name}.",
            "Where the network over the reals, on all reals within these limits, reaches nothing "
            "of this unsafe set,",
            "no execution that the contract allows reaches anything of the original one, and every "
            "value is finite.",
        )
        return vnnlib_text(
            self.stronger, tensors_of(graph), version or self.stronger.version, about
        )


def require_other(output: Path, given: Path) -> None:
    """Raises ModelError where the stronger property would replace the given one."""
    if output.exists() and given.exists() and output.samefile(given):
        raise ModelError(f"{output} is the property itself; the stronger one needs another file")


def _moving(side: Side, unsafe: Property) -> Claim:
    """The claim that bounds by how much executions move each row. Raises UnsupportedModel, naming
    the node, for what has no meaning."""
    require_semantics(side)
    graph, contract = side.graph, side.contract
    if graph.random_masks:
        raise ModelError("a property of a network that draws random numbers is not strengthened")
    return Claim(
        side,
        RowErrors(graph, contract, unsafe),
        quarry=None,
        assumptions=lambda domain: assumptions_of(graph, domain, contract),
        shown=lambda domain, witness, seed: None,
        notes=lambda proof: nameless_rules(contract, graph),
        statement=f"by how much executions may move the rows of {unsafe.source}",
    )


def _received_set(asked: Asked) -> Property:
    """The unsafe set of the file, of the inputs that the runtime receives."""
    if asked.constraint is None:
        raise ModelError("strengthen needs a VNN-LIB file, whose unsafe set it makes larger")
    graph = asked.side.graph
    unsafe = read_property(asked.constraint, tensors_of(graph))
    if unsafe.real:
        raise ModelError(
            f"{asked.constraint} speaks of a network of real numbers: there is nothing that "
            "executions could move"
        )
    if not asked.domain.round_inputs:
        return received(unsafe, graph, asked.domain)
    if any(row.inputs for part in unsafe.unsafe for row in part.rows):
        raise ModelError(
            "--round-inputs leaves open which inputs the rows speak of that have some X_i"
        )
    formats = element_formats(graph, asked.domain.boxes[0])
    parts = (
        replace(p, limits={i: _widened(half, formats[i]) for i, half in p.limits.items()})
        for p in unsafe.unsafe
    )
    return replace(unsafe, unsafe=tuple(parts))


def _received(domain: Domain) -> Domain:
    """The inputs that the runtime receives, which the real network is to receive, too."""
    if not domain.round_inputs:
        return domain
    boxes = (Box(b.lo, b.hi, b.lo, b.hi, b.formats) for b in domain.boxes)
    return replace(domain, boxes=tuple(boxes), round_inputs=False)


def _widened(half: Half, fmt: FloatFormat) -> Half:
    """A side of a box with what numbers within it are rounded to."""
    lo, hi = half.lo, half.hi
    if lo is not None:
        lo = min(lo, _rounded(lo, fmt))
    if hi is not None:
        hi = max(hi, _rounded(hi, fmt))
    return Half(lo, hi)


def _rounded(side: Fraction, fmt: FloatFormat) -> Fraction:
    near = round_fraction(side, fmt)
    if isinstance(near, float) and not math.isfinite(near):
        raise ModelError(
            f"an input limit, {show(side)}, overflows when it is rounded to {fmt.name}"
        )
    return Fraction(near)


def _moved(unsafe: Property, by: FloatArray) -> Property:
    """Every row with its right side raised."""
    rest = iter(by.tolist())
    parts = (
        replace(p, rows=tuple(replace(r, at_most=r.at_most + Fraction(next(rest))) for r in p.rows))
        for p in unsafe.unsafe
    )
    return replace(unsafe, unsafe=tuple(parts))
