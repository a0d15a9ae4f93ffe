"""Upsample and Resize by nearest neighbours: every output element copies one input element.

Which one is decided by exact coordinates, as ONNX defines them: nothing is rounded before the
nearest element is taken. Runtimes round coordinates, and a coordinate on a tie, or on an element
where the mode is floor or ceil, may then give another element; the notes name those of
onnxruntime. Where they interpolate, the reader makes an Interpolate of them
(encoders/ops/movement/interpolate.py).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np

from encoders.families.gathering import Index, gather_operator
from encoders.families.images.resizing import (
    ATTRIBUTES,
    Float32s,
    check_sizes,
    coordinates,
    copy_notes,
    exact_coordinates,
    exact_scales,
    mode_of,
    scales_of,
    simple,
)
from encoders.families.movement import indices
from encoders.families.parameters import word
from encoders.operator import Site, remembered
from onnx_import.graph import COMPUTED, DType

_ROUNDINGS = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
_HALF = Fraction(1, 2)
_SNAP = 1e-6  # onnxruntime 1.31 takes coordinates this near to a tie for one
_SHOWN = 3


def rounding_of(site: Site, scale: Fraction) -> str:
    """How a coordinate becomes an element; before opset 11 down, up when shrinking."""
    if simple(site):
        return "ceil" if scale < 1 else "floor"
    return word(site, "nearest_mode", "round_prefer_floor", _ROUNDINGS)


def nearest(mode: str, places: Sequence[Fraction]) -> list[int]:
    """The element nearest to each coordinate."""
    match mode:
        case "floor":
            return [math.floor(x) for x in places]
        case "ceil":
            return [math.ceil(x) for x in places]
        case "round_prefer_ceil":
            return [math.floor(x + _HALF) for x in places]
        case _:
            return [math.ceil(x - _HALF) for x in places]


def nearest_in_float32(mode: str, x: Float32s) -> Float32s:
    """What onnxruntime takes for the nearest element of its coordinates."""
    down = np.floor(x)
    match mode:
        case "floor":
            return np.asarray(down)
        case "ceil":
            return np.asarray(np.ceil(x))
    from_tie = (x - down).astype(np.float64) - 0.5
    tie = np.abs(from_tie) <= _SNAP
    up = np.where(tie, mode == "round_prefer_ceil", from_tie > 0)
    return np.asarray(down + up)


@remembered
def index_of(site: Site) -> Index:
    """For each output element the flat position of its nearest input element, coordinates exact."""
    shape, output = site.type_of(0).shape, site.outputs[0].shape
    mode = mode_of(site)
    places = []
    for scale, n, out in zip(exact_scales(site), shape, output, strict=True):
        if scale == 1 and n == out:
            places.append(np.arange(n))
            continue
        at = nearest(rounding_of(site, scale), exact_coordinates(mode, scale, n, out))
        places.append(np.clip(np.array(at, np.intp), 0, n - 1))
    return indices(shape)[np.ix_(*places)]


def check(site: Site) -> None:
    word(site, "mode", "nearest", ("nearest", "linear"))
    if site.integer("antialias", 0):
        raise site.unsupported("attribute 'antialias' is 1, which mode nearest does not have")
    if site.integer("exclude_outside", 0):
        raise site.unsupported("attribute 'exclude_outside' is 1, which mode nearest does not have")
    check_sizes(site)
    if index_of(site).shape != site.outputs[0].shape:
        raise site.unsupported("its scales do not give the inferred output shape")


def notes(site: Site) -> tuple[str, ...]:
    """Which elements onnxruntime reads in place of those of the specification."""
    shape, output = site.type_of(0).shape, site.outputs[0].shape
    if copy_notes(site):
        return copy_notes(site)
    mode, found = mode_of(site), []
    scales = zip(exact_scales(site), scales_of(site), shape, output, strict=True)
    for axis, (scale, rounded, n, out) in enumerate(scales):
        if scale == 1 and n == out:
            continue
        how = rounding_of(site, scale)
        exact = np.clip(nearest(how, exact_coordinates(mode, scale, n, out)), 0, n - 1)
        theirs = np.clip(nearest_in_float32(how, coordinates(mode, rounded, n, out)), 0, n - 1)
        found += [
            f"output {o} of axis {axis} is element {exact[o]}, not {int(theirs[o])}"
            for o in np.flatnonzero(exact != theirs)
        ]
    if not found:
        return ()
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return (
        f"{site.node.describe()}: onnxruntime rounds coordinates to float32 and parts from the "
        f"specification, which is what is read here: {', '.join(found[:_SHOWN])}{more}",
    )


OPERATORS = (
    replace(
        gather_operator("Upsample", 7, index_of, check=check)
        .reading("mode", "scales")
        .by_version(),
        dtypes=tuple(d for d in COMPUTED if d is not DType.BFLOAT16),
        notes=notes,
    ),
    replace(
        gather_operator("Resize", 10, index_of, check=check).reading(*ATTRIBUTES).by_version(),
        notes=notes,
    ),
)
