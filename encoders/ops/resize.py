"""Upsample and Resize by nearest neighbours: every output element copies one input element.

Which one is decided by float32 coordinates, as onnxruntime computes them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from encoders.gathering import Index, gather_operator
from encoders.movement import indices
from encoders.operator import Site
from encoders.parameters import axes_of, integers_at, word

_COORDINATES = (
    "half_pixel",
    "half_pixel_symmetric",
    "pytorch_half_pixel",
    "align_corners",
    "asymmetric",
    "tf_half_pixel_for_nn",
)
_ROUNDINGS = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
_SIMPLE = 10  # up to this opset coordinates are asymmetric, rounded down (up when shrinking)
Float32s = npt.NDArray[Any]


def _scales(site: Site) -> Float32s:
    """One scale per axis, from attribute or input, else from the sizes."""
    shape, output = site.type_of(0).shape, site.outputs[0].shape
    position = 1 if site.node.op == "Upsample" or site.node.opset <= _SIMPLE else 2
    stored = site.constant(position)
    given = site.node.attributes.get("scales") if stored is None else None
    scales = np.array(output, np.float32) / np.array(shape, np.float32)
    if stored is None and given is None:
        return scales
    found = np.asarray(stored if given is None else given, np.float32).reshape(-1)
    if not found.size:
        return scales
    axes = _axes(site)
    if len(found) != len(axes):
        raise site.unsupported(f"'scales' needs one number for each of {len(axes)} axes")
    scales = np.ones(len(shape), np.float32)
    scales[list(axes)] = found
    return scales


def _axes(site: Site) -> tuple[int, ...]:
    rank = len(site.type_of(0).shape)
    given = site.integers("axes")
    return tuple(range(rank)) if given is None else axes_of(site, given, rank)


def _coordinates(site: Site, mode: str, scale: np.float32, n: int, out: int) -> Float32s:
    x = np.arange(out, dtype=np.float32)
    half, one = np.float32(0.5), np.float32(1)
    match mode:
        case "asymmetric":
            return x / scale
        case "half_pixel":
            return (x + half) / scale - half
        case "pytorch_half_pixel":
            return (x + half) / scale - half if out > 1 else np.zeros_like(x)
        case "tf_half_pixel_for_nn":
            return (x + half) / scale
        case "align_corners":
            return x * np.float32(n - 1) / np.float32(out - 1) if out > 1 else np.zeros_like(x)
        case _:
            adjustment = np.float32(out) / (scale * np.float32(n))
            offset = np.float32(n) / np.float32(2) * (one - adjustment)
            return offset + (x + half) / scale - half


def _nearest(site: Site, x: Float32s, scale: np.float32) -> Float32s:
    if site.node.op == "Upsample" or site.node.opset <= _SIMPLE:
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
    simple = site.node.op == "Upsample" or site.node.opset <= _SIMPLE
    mode = "asymmetric"
    if not simple:
        mode = word(site, "coordinate_transformation_mode", "half_pixel", _COORDINATES)
    places = []
    for scale, n, out in zip(_scales(site), shape, output, strict=True):
        if scale == 1 and n == out:
            places.append(np.arange(n))
            continue
        at = _nearest(site, _coordinates(site, mode, scale, n, out), scale)
        places.append(np.clip(at, 0, n - 1).astype(np.intp))
    return indices(shape)[np.ix_(*places)]


def check(site: Site) -> None:
    word(site, "mode", "nearest", ("nearest",))
    if any(p in site.variable for p in range(1, len(site.inputs))):
        raise site.unsupported("scales and sizes must be constants")
    integers_at(site, 3, "sizes")
    policy = word(
        site, "keep_aspect_ratio_policy", "stretch", ("stretch", "not_larger", "not_smaller")
    )
    if policy != "stretch":
        raise site.unsupported(f"attribute 'keep_aspect_ratio_policy' is '{policy}'")
    if index_of(site).shape != site.outputs[0].shape:
        raise site.unsupported("its scales do not give the inferred output shape")


OPERATORS = (
    gather_operator("Upsample", 7, index_of, check).reading("mode", "scales"),
    gather_operator("Resize", 10, index_of, check).reading(
        "antialias",
        "axes",
        "coordinate_transformation_mode",
        "cubic_coeff_a",
        "exclude_outside",
        "extrapolation_value",
        "keep_aspect_ratio_policy",
        "mode",
        "nearest_mode",
    ),
)
