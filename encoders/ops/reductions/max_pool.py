"""MaxPool, GlobalMaxPool, ReduceMax, ReduceMin: the extreme element of each window."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from encoders.families.carried import extreme_back
from encoders.families.gathering import Index
from encoders.families.maxima import (
    Operand,
    extreme_operator,
)
from encoders.families.pooling import (
    global_terms,
    pad_notes,
    pool_terms,
    reduced_axes,
    reduced_terms,
)
from encoders.families.signed_sum import check_one_variable
from encoders.gradients.rule import Gradient
from encoders.operator import (
    FLOATS,
    Operator,
    Site,
    remembered,
)
from encoders.traits import Likeness
from onnx_import.graph import DType

_BYTES = (DType.INT8, DType.UINT8)


def window_extreme(
    name: str,
    since: int,
    terms_of: Callable[[Site], Index],
    sign: float,
    check: Callable[[Site], None],
) -> Operator:
    """The largest (sign 1) or smallest (sign −1) of the elements that `terms_of` lists."""

    @remembered
    def operands(site: Site) -> list[Operand]:
        return [Operand(0, np.maximum(index, -1)) for index in terms_of(site)]

    operator = extreme_operator(name, since, operands, sign, check)
    gradient = Gradient(
        rule=lambda r: extreme_back(r, terms_of(r.site), largest=sign > 0),
        convention="of several extreme elements the first gets all",
    )
    return replace(operator, work=lambda site: int(terms_of(site).size), gradient=gradient)


def _check_pool(site: Site) -> None:
    if site.outputs[0].dtype not in _BYTES:  # of which a maximum is exact
        check_one_variable(site)
    if len([t for t in site.node.outputs if t]) != 1:
        raise site.unsupported("the output 'Indices' has no meaning here")
    if site.integer("storage_order", 0):
        raise site.unsupported("attribute 'storage_order' must be 0")
    if np.any(np.all(pool_terms(site) < 0, axis=0)):
        raise site.unsupported("a window lies wholly in the padding")


def _check_global(site: Site) -> None:
    check_one_variable(site)
    if len(site.type_of(0).shape) < 3:
        raise site.unsupported("there are no pixels to pool")


def _check_reduction(site: Site) -> None:
    check_one_variable(site)
    if not len(reduced_terms(site)):
        raise site.unsupported("it reduces an axis of length 0")


OPERATORS = (
    replace(
        window_extreme("MaxPool", 1, pool_terms, 1.0, _check_pool).reading(
            *("auto_pad", "ceil_mode", "dilations", "kernel_shape", "pads"),
            *("storage_order", "strides"),
        ),
        notes=pad_notes,
        dtypes=(*FLOATS, *_BYTES),
        likeness=Likeness(selects=True),
    ),
    window_extreme("GlobalMaxPool", 1, global_terms, 1.0, _check_global),
    replace(
        window_extreme("ReduceMax", 1, reduced_terms, 1.0, _check_reduction).reading(
            "axes", "keepdims", "noop_with_empty_axes"
        ),
        likeness=Likeness(reduced=reduced_axes),
    ),
    replace(
        window_extreme("ReduceMin", 1, reduced_terms, -1.0, _check_reduction).reading(
            "axes", "keepdims", "noop_with_empty_axes"
        ),
        likeness=Likeness(reduced=reduced_axes),
    ),
)
