"""Leaves of another verifier: the boxes in which its proof ends, and the margins that it found.

A leaf is a box of inputs, or the whole domain. A margin says of one conjunction of the unsafe set
that at every real input of the leaf one of its rows (or the row that is named) is broken by more
than so much over the reals.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from encoders.numbers.formats import FloatFormat, next_up
from onnx_import.errors import ModelError, shorten
from onnx_import.files import read_text
from onnx_import.graph import Graph
from refine.common.exact import Bounds, decimal, inward
from refine.common.told import told
from refine.common.visible import visible
from refine.domain.box import Box
from refine.domain.properties import Property

SCHEMA = "refine-leaves-1"
_MOST = 2**20  # leaves
_KEYS = frozenset({"lo", "hi", "margins"})
_MARGIN_KEYS = frozenset({"conjunction", "row", "margin"})


@dataclass(frozen=True)
class TrustedMargin:
    """What a verifier says of a conjunction over the reals; `row` None: of some row, which may be
    another one at each input."""

    conjunction: int
    row: int | None
    margin: Fraction


@dataclass(frozen=True)
class Leaf:
    """Exact sides per input element, over all inputs in order; None: the whole domain."""

    sides: tuple[Bounds, ...] | None
    margins: tuple[TrustedMargin, ...]


@dataclass(frozen=True)
class Leaves:
    """A file of leaves: whose they are, where they stand, and the file's SHA-256."""

    verifier: str
    every: tuple[Leaf, ...]
    source: str


def read_leaves(path: Path, elements: int, unsafe: Property) -> Leaves:
    """The leaves in a file, about a model with so many input elements and this unsafe set.

    Raises ModelError, in one sentence, for a file that holds none.
    """
    where = visible(str(path))
    try:
        document = json.loads(
            read_text(path), parse_float=str, parse_int=str, parse_constant=_no_number
        )
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{where}: not a JSON file of numbers and texts") from error
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        raise ModelError(f"{where}: not a file of leaves (schema {SCHEMA})")
    try:
        _known(document, {"schema", "verifier", "leaves"})
        leaves = tuple(_leaf(one, elements, unsafe) for one in _listed(document, "leaves"))
        verifier = document.get("verifier", "another verifier")
        if not isinstance(verifier, str):
            raise _Unlike(f"'verifier' is no text but {told(verifier)}")
    except (_Unlike, ModelError) as unlike:
        raise ModelError(f"{where}: {unlike}") from None
    if not leaves:
        raise ModelError(f"{where}: there is no leaf in it")
    return Leaves(visible(shorten(verifier)), leaves, where)


class _Unlike(Exception):
    """Something that no file of leaves has."""


def _no_number(text: str) -> Any:
    raise ValueError(text)


def _known(table: Mapping[str, Any], keys: frozenset[str] | set[str]) -> None:
    for key in table:
        if key not in keys:
            raise _Unlike(f"there is no key '{shorten(key)}'; there are {', '.join(sorted(keys))}")


def _listed(table: Mapping[str, Any], key: str) -> Sequence[Any]:
    value = table.get(key)
    if not isinstance(value, list) or len(value) > _MOST:
        raise _Unlike(f"'{key}' is no list of at most {_MOST} elements")
    return value


def _leaf(value: Any, elements: int, unsafe: Property) -> Leaf:
    if not isinstance(value, dict):
        raise _Unlike(f"a leaf is no object but {told(value)}")
    _known(value, _KEYS)
    margins = tuple(_margin(m, unsafe) for m in _listed({"margins": [], **value}, "margins"))
    if "lo" not in value and "hi" not in value:
        return Leaf(None, margins)
    lows, highs = (_numbers(value, key, elements) for key in ("lo", "hi"))
    sides = tuple(Bounds(lo, hi) for lo, hi in zip(lows, highs, strict=True))
    for i, side in enumerate(sides):
        if side.empty:
            raise _Unlike(f"a leaf's 'lo' is above its 'hi' at X_{i}")
    return Leaf(sides, margins)


def _numbers(table: Mapping[str, Any], key: str, elements: int) -> list[Fraction]:
    values = _listed(table, key)
    if len(values) != elements:
        raise _Unlike(f"a leaf's '{key}' has {len(values)} numbers, but the inputs {elements}")
    return [_number(v, key) for v in values]


def _number(value: Any, key: str) -> Fraction:
    if not isinstance(value, str):
        raise _Unlike(f"'{key}' holds {told(value)}, no number")
    return decimal(value)


def _margin(value: Any, unsafe: Property) -> TrustedMargin:
    if not isinstance(value, dict):
        raise _Unlike(f"a margin is no object but {told(value)}")
    _known(value, _MARGIN_KEYS)
    if not {"conjunction", "margin"} <= value.keys():
        raise _Unlike("a margin needs 'conjunction' and 'margin'")
    i = _place(value["conjunction"], len(unsafe.unsafe), "conjunction")
    row = value.get("row")
    if row is not None:
        row = _place(row, len(unsafe.unsafe[i].rows), "row")
    return TrustedMargin(i, row, _number(value["margin"], "margin"))


def _place(value: Any, size: int, what: str) -> int:
    if not isinstance(value, str) or not value.isdecimal() or len(value) > 9 or int(value) >= size:
        raise _Unlike(f"'{what}' is {told(value)}; there are 0 to {size - 1}")
    return int(value)


def boxes_of(leaves: Leaves, whole: Box, graph: Graph) -> Iterator[tuple[Box, Leaf]]:
    """What of each leaf lies in a box: the numbers of the runtime that are in both."""
    for leaf in leaves.every:
        box = whole if leaf.sides is None else _met(leaf.sides, whole, graph)
        if box is not None:
            yield box, leaf


def _met(sides: Sequence[Bounds], whole: Box, graph: Graph) -> Box | None:
    lo, hi, start = {}, {}, 0
    for name in graph.inputs:
        size, shape = graph.types[name].size, graph.types[name].shape
        ends = [inward(side, whole.formats[name]) for side in sides[start : start + size]]
        if any(end is None for end in ends):
            return None
        found = np.array(ends, np.float64).reshape(-1, 2)
        lo[name] = np.maximum(found[:, 0].reshape(shape), whole.lo[name])
        hi[name] = np.minimum(found[:, 1].reshape(shape), whole.hi[name])
        if np.any(lo[name] > hi[name]):
            return None
        start += size
    return Box(lo, hi, lo, hi, whole.formats)


def half_open(box: Box) -> dict[str, tuple[Any, Any]]:
    """A box as intervals that end before the next number of the runtime: where such intervals leave
    no gap between reals, the boxes leave out no number."""
    return {name: (lo, _after(box.hi[name], box.formats[name])) for name, lo in box.lo.items()}


def _after(ends: Any, fmt: FloatFormat) -> Any:
    return np.vectorize(lambda end: next_up(float(end), fmt), otypes=[np.float64])(ends)
