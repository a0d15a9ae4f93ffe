"""Upsample and Resize by nearest neighbours: every output element copies one input element.

Which one is decided by float32 coordinates, as onnxruntime computes them. Where they interpolate,
the reader makes an Interpolate of them (encoders/ops/interpolate.py).
"""

from __future__ import annotations

import numpy as np

from encoders.gathering import Index, gather_operator
from encoders.movement import indices
from encoders.operator import Site
from encoders.parameters import word
from encoders.resizing import (
    ATTRIBUTES,
    Float32s,
    check_sizes,
    coordinates,
    mode_of,
    scales_of,
    simple,
)

_ROUNDINGS = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")


def _nearest(site: Site, x: Float32s, scale: np.float32) -> Float32s:
    if simple(site):  # rounded down, up when shrinking
        return np.asarray(np.ceil(x) if scale < 1 else np.floor(x))
    match word(site, "nearest_mode", "round_prefer_floor", _ROUNDINGS):
        case "floor":
            return np.asarray(np.floor(x))
        case "ceil":
            return np.asarray(np.ceil(x))
        case "round_prefer_ceil":
            return np.asarray(np.floor(x + np.float32(0.5)))
        case _:
            return np.asarray(np.ceil(x - np.float32(0.5)))


def index_of(site: Site) -> Index:
    shape, output = site.type_of(0).shape, site.outputs[0].shape
    mode = mode_of(site)
    places = []
    for scale, n, out in zip(scales_of(site), shape, output, strict=True):
        if scale == 1 and n == out:
            places.append(np.arange(n))
            continue
        at = _nearest(site, coordinates(mode, scale, n, out), scale)
        places.append(np.clip(at, 0, n - 1).astype(np.intp))
    return indices(shape)[np.ix_(*places)]


def check(site: Site) -> None:
    word(site, "mode", "nearest", ("nearest", "linear"))
    check_sizes(site)
    if index_of(site).shape != site.outputs[0].shape:
        raise site.unsupported("its scales do not give the inferred output shape")


OPERATORS = (
    gather_operator("Upsample", 7, index_of, check).reading("mode", "scales"),
    gather_operator("Resize", 10, index_of, check).reading(*ATTRIBUTES),
)
