"""Unsafe sets in the form of certificates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from onnx_import.graph import Graph
from refine.bounds.network import InputBox
from refine.domain.properties import Property


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
