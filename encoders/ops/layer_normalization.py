"""LayerNormalization and RMSNormalization: over all axes from `axis` on, then scale and bias.

Rows are normalised in the type `stash_type` (float32 unless the file says otherwise), and the
result is scaled in the input's type. The rounding bound also covers a runtime that converts to a
narrower input's type only once, at the end, as onnxruntime does.
"""

from __future__ import annotations

from typing import Any

import onnx

from encoders.normalizing import Layout, normalizing_operator
from encoders.operator import Site
from encoders.parameters import axis_of
from encoders.rows import Rows, rows_along
from onnx_import.graph import DType
from onnx_import.tensors import dtype_of


def _rows(site: Site) -> Rows:
    shape = site.type_of(0).shape
    first = axis_of(site, site.integer("axis", -1), len(shape))
    return rows_along(shape, tuple(range(first, len(shape))))


def _aligned(site: Site, parameter: Any) -> Any:
    """A parameter broadcasts from the right; the sample axis stays in front."""
    missing = len(site.type_of(0).shape) - (parameter.ndim - 1)
    return parameter.reshape(parameter.shape[0], *(1,) * missing, *parameter.shape[1:])


def _stash(site: Site) -> DType:
    code = site.integer("stash_type", onnx.TensorProto.FLOAT)
    return dtype_of(code, f"{site.node.describe()}: attribute 'stash_type'")


def check(site: Site) -> None:
    _rows(site)
    if not _stash(site).is_float:
        raise site.unsupported("attribute 'stash_type' is not a floating-point type")


OPERATORS = tuple(
    normalizing_operator(
        name,
        since,
        Layout(_rows, _aligned, _aligned, centred, foldable=False, stash=_stash),
        check,
    ).reading("axis", "epsilon", "stash_type")
    for name, since, centred in (("LayerNormalization", 17, True), ("RMSNormalization", 23, False))
)
