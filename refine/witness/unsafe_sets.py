"""Unsafe sets on disk: beside a counterexample, and as VNN-COMP wants a witness written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Context, Decimal
from fractions import Fraction
from typing import Any

import numpy as np

from onnx_import.graph import Graph
from refine.domain.properties import Conjunction, Property, Row
from refine.domain.vnnlib import Half
from refine.results.verdict import Witness

_EXACT = Context(prec=1200)  # digits: more than any float64 has


def unsafe_document(unsafe: Conjunction) -> dict[str, Any]:
    """A conjunction as JSON, its numbers as ratios."""
    return {
        "limits": {
            str(i): [_text(half.lo), _text(half.hi), half.lo_open, half.hi_open]
            for i, half in unsafe.limits.items()
        },
        "rows": [
            {
                "outputs": {str(i): str(c) for i, c in row.outputs.items()},
                "inputs": {str(i): str(c) for i, c in row.inputs.items()},
                "at_most": str(row.at_most),
                "strict": row.strict,
            }
            for row in unsafe.rows
        ],
    }


def unsafe_of_document(
    document: Mapping[str, Any], graph: Graph, ratio: Callable[[Any], Fraction]
) -> Property:
    """The unsafe set that `unsafe_document` wrote; `ratio` reads a number.

    Raises KeyError, TypeError or ValueError for anything else, and for indices that the graph does
    not have.
    """
    inputs, outputs = (
        sum(graph.types[t].size for t in names) for names in (graph.inputs, graph.outputs)
    )

    def terms(value: Mapping[str, Any], size: int) -> dict[int, Fraction]:
        return {_place(i, size): ratio(c) for i, c in dict(value).items()}

    limits = {}
    for i, (lo, hi, lo_open, hi_open) in dict(document["limits"]).items():
        low, high = (None if end is None else ratio(end) for end in (lo, hi))
        limits[_place(i, inputs)] = Half(low, high, bool(lo_open), bool(hi_open))
    rows = tuple(
        Row(
            terms(row["outputs"], outputs),
            terms(row["inputs"], inputs),
            ratio(row["at_most"]),
            strict=bool(row["strict"]),
        )
        for row in document["rows"]
    )
    return Property((Conjunction(limits, rows),), "the counterexample's file")


def vnncomp_witness(witness: Witness, graph: Graph) -> str:
    """The inputs and outputs of a witness in the form in which VNN-COMP collects them."""
    assert witness.reached is not None
    lines = []
    for letter, names, arrays in (
        ("X", graph.inputs, witness.inputs),
        ("Y", graph.outputs, witness.reached.outputs),
    ):
        flat = [v for n in names for v in np.asarray(arrays[n], np.float64).reshape(-1).tolist()]
        lines += [f"({letter}_{i} {_decimal(v)})" for i, v in enumerate(flat)]
    return "sat\n(" + "\n ".join(lines) + ")\n"


def _decimal(value: float) -> str:
    """Every digit of a float64 number."""
    return f"{_EXACT.create_decimal(Decimal(value)):f}"


def _text(value: Fraction | None) -> str | None:
    return None if value is None else str(value)


def _place(text: str, size: int) -> int:
    if not text.isdecimal() or len(text) > 12 or int(text) >= size:
        raise ValueError(f"'{text}' is no element of the model")
    return int(text)
