"""What a certificate states, and whether that is what a VNN-LIB file states."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from checker.check import read_certificate
from encoders.contract.presets import IEEE_ANY, PRESETS
from encoders.contract.table import ContractError, contract_of_table
from onnx_import.graph import Graph
from refine.certificate.unsafe_sets import unsafe_claim
from refine.domain.domain import DomainOptions, read_domain, tensors_of
from refine.domain.properties import read_property, received
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
    unsafe = received(read_property(stated, tensors_of(graph)), graph, domain)
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
