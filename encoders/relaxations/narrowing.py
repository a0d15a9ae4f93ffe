"""Nodes cut down to some columns of what they read and write: those of the neurons that live.

A column is a place on a tensor's last axis. Each function gives the constants that a node keeps
when its one variable input has only the columns `read` and its output only those `written`, or
None where the node cannot be cut down so.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from encoders.operator import Site
from onnx_import.graph import Array

Columns: TypeAlias = npt.NDArray[np.intp]
Constants: TypeAlias = tuple[Array | None, ...]


def element_constants(site: Site, read: Columns, written: Columns) -> Constants | None:
    """Of operators that treat every element by itself: they read what they write."""
    if len(site.variable) != 1 or site.type_of(site.variable[0]).shape != site.outputs[0].shape:
        return None
    return tuple(_spread(constant, written) for constant in site.constants)


def product_constants(site: Site, read: Columns, written: Columns) -> Constants | None:
    """Of x·W or x·Wᵀ + b, W a constant matrix."""
    if site.variable != (0,) or site.integer("transA", 0) or len(site.type_of(1).shape) != 2:
        return None
    if not site.type_of(0).shape or len(site.outputs[0].shape) != len(site.type_of(0).shape):
        return None
    weights = np.asarray(site.constants[1])
    kept = weights[np.ix_(written, read) if site.integer("transB", 0) else np.ix_(read, written)]
    return (None, kept, *(_spread(constant, written) for constant in site.constants[2:]))


def _spread(constant: Array | None, written: Columns) -> Array | None:
    """A constant that broadcasts along the last axis, or has one entry per column."""
    if constant is None or constant.ndim == 0 or constant.shape[-1] == 1:
        return constant
    return np.asarray(constant[..., written])
