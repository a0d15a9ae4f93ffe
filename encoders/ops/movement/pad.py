"""Pad: a constant, the edge, or a reflection around a tensor; negative pads cut off."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from encoders.families.gathering import Index, gather_operator
from encoders.families.movement import indices
from encoders.families.parameters import axes_of, integers_at, word
from encoders.operator import Site
from encoders.traits import Likeness
from onnx_import.graph import Array

_MODES = ("constant", "edge", "reflect", "wrap")


def _widths(site: Site) -> tuple[tuple[int, int], ...]:
    rank = len(site.type_of(0).shape)
    pads = integers_at(site, 1, "pads")
    if pads is None:
        raise site.unsupported("'pads' is missing")
    given = integers_at(site, 3, "axes")
    axes = tuple(range(rank)) if given is None else axes_of(site, given, rank)
    if len(pads) != 2 * len(axes):
        raise site.unsupported(f"'pads' {pads} needs two numbers for each of {len(axes)} axes")
    widths = [(0, 0)] * rank
    for i, axis in enumerate(axes):
        widths[axis] = (pads[i], pads[len(axes) + i])
    return tuple(widths)


def index_of(site: Site) -> Index:
    """For each output element the flat position of the input element it is; −1 where it is
    padding."""
    mode = word(site, "mode", "constant", _MODES)
    index = indices(site.type_of(0).shape)
    widths = _widths(site)
    if not widths:
        return index
    kept = tuple(
        slice(max(-before, 0), n - max(-after, 0))
        for n, (before, after) in zip(index.shape, widths, strict=True)
    )
    grown = [(max(before, 0), max(after, 0)) for before, after in widths]
    if mode == "constant":
        return np.pad(index[kept], grown, constant_values=-1)
    padded: Index = np.pad(index[kept], grown, mode=mode)  # type: ignore[call-overload]
    return padded


def fill_of(site: Site) -> Array:
    """The padding value, a scalar of its own type; 0 where the node gives none."""
    if len(site.inputs) > 2 and site.inputs[2] is not None:
        value = site.constant(2)
        if value is None:
            raise site.unsupported("the padding value (input 2) must be a constant")
        return np.asarray(value).reshape(-1)[:1].reshape(())
    return np.asarray(site.real("value", 0.0), np.float32)


def check(site: Site) -> None:
    mode = word(site, "mode", "constant", _MODES)
    fill_of(site)
    for n, widths in zip(site.type_of(0).shape, _widths(site), strict=True):
        if mode == "reflect" and max(widths) > n - 1:
            raise site.unsupported(f"'pads' {widths} reflects more than an axis of length {n} has")
        if mode != "constant" and n + min(widths[0], 0) + min(widths[1], 0) < 1 and max(widths) > 0:
            raise site.unsupported(f"'pads' {widths} repeats an axis that has no elements left")
        if -min(widths[0], 0) - min(widths[1], 0) > n:
            raise site.unsupported(f"'pads' {widths} cuts more than an axis of length {n} has")


def _adds_nothing(site: Site) -> bool:
    pads = integers_at(site, 1, "pads")
    return pads is not None and not any(pads)


OPERATORS = (
    replace(
        gather_operator("Pad", 2, index_of, check=check, fill_of=fill_of, filled_by=2),
        likeness=Likeness(copies=_adds_nothing),
    ).reading("mode", "pads", "value"),
)
