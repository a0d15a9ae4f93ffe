"""Unsafe sets in the form of certificates, and whether one is what a VNN-LIB file states."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from checker.check import read_certificate
from encoders.contract.presets import IEEE_ANY, PRESETS
from encoders.contract.table import ContractError, contract_of_table
from onnx_import.graph import Graph
from refine.bounds.network import InputBox
from refine.domain.domain import DomainOptions, read_domain, tensors_of
from refine.domain.properties import Property, read_property
from refine.proof.proof import input_box

_BOXES_TOLD, _SIDES_TOLD = 4, 8


def difference(certificate: bytes, graph: Graph, stated: Path) -> str | None:
    """How what a certificate claims differs from what a VNN-LIB file states of a model; None where
    it does not. Raises ModelError where that cannot be read."""
    document, arrays = read_certificate(certificate)
    domain = read_domain(graph, DomainOptions(vnnlib=str(stated)), IEEE_ANY.format_of)
    boxes = [input_box(box, domain, IEEE_ANY) for box in domain.boxes]
    for k, t in enumerate(graph.inputs):
        for side in ("lo", "hi"):
            here = np.stack([getattr(box.values[t], side).reshape(-1) for box in boxes])
            if not np.array_equal(here, arrays[f"box_{side}{k}"]):
                return f"the certificate is of another domain than {stated}, at '{t}'"
    unsafe = read_property(stated, tensors_of(graph))
    meant = unsafe_claim(unsafe, graph, boxes, stated)["unsafe"]
    if json.dumps(document["claim"].get("unsafe")) != json.dumps(meant):  # where `true` is not 1
        return f"the certificate is of another unsafe set than {stated}"
    return None


def premises_told(certificate: bytes) -> Iterator[str]:
    """What a certificate's contract allows, whatever it is called, and the boxes that it speaks of,
    in a line for each input of the first few."""
    document, arrays = read_certificate(certificate)
    try:
        contract = contract_of_table(document["contract"])
    except ContractError as error:
        yield f"its contract is none that refine reads: {error}"
    else:
        yield f"contract {contract.describe()}"
        preset = PRESETS.get(contract.name)
        if preset is not None and preset.describe() != contract.describe():
            yield f"which is not refine's preset of that name, {preset.describe()}"
    many = len(document["boxes"])
    for b in range(min(many, _BOXES_TOLD)):
        for k, t in enumerate(i["name"] for i in document["inputs"]):
            lo, hi = arrays[f"box_lo{k}"][b], arrays[f"box_hi{k}"][b]
            sides = ", ".join(f"[{a:.9g}, {c:.9g}]" for a, c in zip(lo, hi, strict=True))
            if len(lo) > _SIDES_TOLD:
                widest = float(np.max(hi - lo))
                sides = f"{len(lo)} elements between {np.min(lo):.9g} and {np.max(hi):.9g}"
                sides += f", each at most {widest:.9g} wide"
            yield f"box {b}: '{t}' in {sides}"
    if many > _BOXES_TOLD:
        yield f"and {many - _BOXES_TOLD} more boxes, in arrays.npz"


def unsafe_claim(
    unsafe: Property, graph: Graph, boxes: Sequence[InputBox], source: Path | None
) -> dict[str, Any]:
    """An unsafe set in the checker's form. Limits on inputs are rows, too, without those within
    which all boxes lie."""
    every = [[box.values[t] for t in graph.inputs] for box in boxes]
    lows = [np.concatenate([x.lo.reshape(-1) for x in box]) for box in every]
    highs = [np.concatenate([x.hi.reshape(-1) for x in box]) for box in every]

    def named(places: Mapping[int, Fraction], tensors: Sequence[str]) -> list[list[Any]]:
        ends = np.cumsum([0, *(graph.types[t].size for t in tensors)])
        found = []
        for i, factor in sorted(places.items()):
            k = int(np.searchsorted(ends, i, side="right")) - 1
            found.append([tensors[k], i - int(ends[k]), str(factor)])
        return found

    def row(terms: list[list[Any]], at_most: Fraction, strict: bool) -> dict[str, Any]:
        return {"terms": terms, "at_most": str(at_most), "strict": strict}

    parts = []
    for part in unsafe.unsafe:
        rows = []
        for i, half in part.limits.items():
            within = (half.holds(Fraction(float(e[i]))) for e in (*lows, *highs))
            if all(within):
                continue
            if half.hi is not None:
                rows.append(row(named({i: Fraction(1)}, graph.inputs), half.hi, half.hi_open))
            if half.lo is not None:
                rows.append(row(named({i: Fraction(-1)}, graph.inputs), -half.lo, half.lo_open))
        for r in part.rows:
            terms = named(r.outputs, graph.outputs) + named(r.inputs, graph.inputs)
            rows.append(row(terms, r.at_most, r.strict))
        parts.append(rows)
    digest = None if source is None else sha256(source.read_bytes()).hexdigest()
    of = unsafe.source if source is None else source.name
    return {"kind": "unsafe", "unsafe": parts, "of": of, "sha256": digest}
