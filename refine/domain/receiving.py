"""Boxes with exact ends as runtimes receive them: rounded inward, to nearest, or to integers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from encoders.numbers.formats import (
    BINARY64,
    WHOLE,
    FloatFormat,
    round_down,
    round_fraction,
    round_up,
)
from onnx_import.graph import DType, Graph
from refine.common.exact import Bounds, DomainError, inward, received_ends, show
from refine.domain.box import Box, ExactBox, FloatArray, element_of


class EmptyError(DomainError):
    """A box without a representable point: fatal only if every box of the union is like that."""


def rounded_box(
    graph: Graph,
    exact: ExactBox,
    formats: Mapping[str, FloatFormat],
    round_inputs: bool,
    strict_inputs: bool,
) -> Box:
    """The box of run-time inputs. Raises EmptyError if some element has none."""
    sides: tuple[dict[str, FloatArray], ...] = ({}, {}, {}, {})
    stated: dict[str, tuple[Any, Any]] = {}
    ends_of = _rounded_ends if round_inputs else _inside if strict_inputs else _members
    for name in graph.inputs:
        kind = graph.types[name].dtype
        rows: list[tuple[float, ...]] = []
        for k, bounds in enumerate(exact[name]):
            if not kind.is_float:
                ends = _whole_ends(bounds, kind, name)
            else:
                ends = ends_of(bounds, formats[name])
            if ends is None:
                element = element_of(graph, name, k) if len(exact[name]) > 1 else f"input '{name}'"
                span = f"{element}, from {show(bounds.lo)} to {show(bounds.hi)},"
                strict = strict_inputs and kind.is_float
                ways = "without --strict-inputs the nearest is taken, where there is one; " * strict
                raise EmptyError(
                    f"{span} overflows when it is rounded to {formats[name].name}"
                    if round_inputs and kind.is_float
                    else f"the domain is empty: {span} contains no {formats[name].name} number "
                    f"({ways}--round-inputs would take real inputs)"
                )
            rows.append(ends)
        shape = graph.types[name].shape
        for side, column in zip(
            sides, np.array(rows, dtype=np.float64).reshape(-1, 4).T, strict=True
        ):
            side[name] = np.full(shape, column[0]) if len(column) == 1 else column.reshape(shape)
            side[name].setflags(write=False)
        if round_inputs and any(_is_no_float(end) for b in exact[name] for end in (b.lo, b.hi)):
            stated[name] = tuple(_spread([getattr(b, end) for b in exact[name]], shape)
                                 for end in ("lo", "hi"))  # fmt: skip
    lo, hi, real_lo, real_hi = sides
    return Box(lo, hi, real_lo=real_lo, real_hi=real_hi, formats=formats, stated=stated)


def _is_no_float(end: Fraction) -> bool:
    return round_down(end, BINARY64) != round_up(end, BINARY64)


def _spread(ends: Sequence[Fraction], shape: tuple[int, ...]) -> Any:
    """Rationals as an array of objects; a single one for all elements."""
    made = np.empty(len(ends), dtype=object)
    made[:] = ends
    return made.reshape(shape) if made.size == math.prod(shape) else np.broadcast_to(made, shape)


def _members(bounds: Bounds, fmt: FloatFormat) -> tuple[float, ...] | None:
    """Run-time ends, then real ends, where both sides receive the same numbers of `fmt`."""
    ends = received_ends(bounds, fmt)
    return None if ends is None else ends * 2


def _inside(bounds: Bounds, fmt: FloatFormat) -> tuple[float, ...] | None:
    """The same, of numbers that lie within the bounds."""
    ends = inward(bounds, fmt)
    return None if ends is None else ends * 2


def _whole_ends(bounds: Bounds, kind: DType, name: str) -> tuple[float, ...] | None:
    """The ends of the integers within bounds that the type holds; None where there is none. Raises
    DomainError where `WHOLE` does not hold an end."""
    least, most = (0, 1) if kind is DType.BOOL else _ends_of(kind)
    lo = math.floor(bounds.lo) + 1 if bounds.lo_open else math.ceil(bounds.lo)
    hi = math.ceil(bounds.hi) - 1 if bounds.hi_open else math.floor(bounds.hi)
    lo, hi = max(lo, least), min(hi, most)
    if lo > hi:
        return None
    limit = int(WHOLE.largest_finite)
    if max(abs(lo), abs(hi)) > limit:
        raise DomainError(
            f"input '{name}' holds {kind.value} numbers, of which a domain takes those up to "
            f"{limit} in magnitude, and not {lo} to {hi}"
        )
    return (float(lo), float(hi)) * 2


def _ends_of(kind: DType) -> tuple[int, int]:
    info = np.iinfo(kind.value)
    return int(info.min), int(info.max)


def _rounded_ends(bounds: Bounds, fmt: FloatFormat) -> tuple[float, ...] | None:
    """The same where the runtime receives the reals rounded to nearest; None for an overflow."""
    reals = round_down(bounds.lo, BINARY64), round_up(bounds.hi, BINARY64)
    if not all(map(math.isfinite, reals)):
        return None
    ends = tuple(float(round_fraction(end, fmt)) for end in (bounds.lo, bounds.hi))
    return (*ends, *reals) if all(map(math.isfinite, ends)) else None


def rounding_notes(
    boxes: Sequence[tuple[ExactBox, Box]], formats: Mapping[str, FloatFormat], round_inputs: bool
) -> tuple[tuple[str, ...], bool]:
    """What rounding the bounds did, per format, over all boxes; was anything moved outward?"""
    if round_inputs:
        return ("inputs are real numbers; the runtime receives each rounded to nearest",), False
    notes: list[str] = []
    nearest = False
    for fmt in dict.fromkeys(formats.values()):
        inner: list[Fraction] = []
        outer: list[Fraction] = []
        for exact, box in boxes:
            for name in (n for n in exact if formats[n] == fmt):
                ends = zip(exact[name], box.lo[name].flat, box.hi[name].flat, strict=False)
                for bounds, lo, hi in ends:
                    moves = Fraction(lo) - bounds.lo, bounds.hi - Fraction(hi)
                    if min(moves) < 0:
                        outer.append(max(map(abs, moves)))
                    else:
                        inner += moves
        if outer:
            nearest = True
            notes.append(
                f"between the bounds of {len(outer)} input elements lies no {fmt.name} number; the "
                f"nearest was taken (largest move {show(max(outer), 2)}; --strict-inputs refuses)"
            )
        moved = sum(map(bool, inner))
        if moved:
            notes.append(
                f"{moved} of {len(inner)} bounds are not {fmt.name} numbers of the domain; each "
                f"was moved inward to the nearest {fmt.name} inside the box "
                f"(largest move {show(max(inner), 2)})"
            )
    return tuple(notes), nearest
