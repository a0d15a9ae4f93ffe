"""What QuantizeLinear and DequantizeLinear have in common: the checks of their parameters.

A stored integer q in [lowest, highest] stands for (q − zero point)·scale. Over the reals,
QuantizeLinear takes x to q(x) = clamp(⌊x/scale⌉ + zero point), the quotient rounded to the nearest
integer, ties to even, and DequantizeLinear takes q to the number that it stands for.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from encoders.arithmetic.values import E
from encoders.families.parameters import axis_of
from encoders.operator import Site
from onnx_import.tensors import dtype_of


def check_scale(site: Site, position: int) -> None:
    """Raises UnsupportedModel, naming the node, unless the input holds positive constants."""
    scale = site.constant(position)
    if scale is None:
        raise site.unsupported(f"its scale (input {position}) must be a constant")
    if not np.all(np.asarray(scale, np.float64) > 0):
        raise site.unsupported(f"its scale (input {position}) holds a number that is not positive")


def check_plain(site: Site) -> None:
    """Raises UnsupportedModel for the variants of QuantizeLinear and DequantizeLinear without a
    meaning here: blocks, other precisions, scales that fit no axis."""
    if site.integer("block_size", 0):
        raise site.unsupported("attribute 'block_size': quantisation by blocks is not supported")
    precision = site.integer("precision", 0)
    place = f"attribute 'precision' of {site.node.describe()}"
    if precision and dtype_of(precision, place) is not site.type_of(1).dtype:
        raise site.unsupported("attribute 'precision' is not the type of the scale")
    shape = site.type_of(0).shape
    for position in (1, 2):
        kind = site.inputs[position] if position < len(site.inputs) else None
        if kind is None or kind.size == 1:
            continue
        if len(kind.shape) != 1 or kind.size != shape[_axis(site)]:
            raise site.unsupported(
                f"input {position} of shape {list(kind.shape)} is neither one number nor one per "
                f"element of axis {_axis(site)} of {list(shape)}"
            )


def along_axis(site: Site, values: npt.NDArray[E]) -> npt.NDArray[E]:
    """Scales or zero points (k, *stored) such that they broadcast to the tensor (k, *shape)."""
    rank = len(site.type_of(0).shape)
    if math.prod(values.shape[1:]) == 1:
        return values.reshape(values.shape[0])
    return values.reshape(values.shape[0], -1, *(1,) * (rank - 1 - _axis(site)))


def _axis(site: Site) -> int:
    return axis_of(site, site.integer("axis", 1), len(site.type_of(0).shape))
