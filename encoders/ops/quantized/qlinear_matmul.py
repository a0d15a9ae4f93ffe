"""QLinearMatMul: matrix product of quantised tensors, one stored or none, quantised again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from encoders.arithmetic.runtime import Arithmetic, aligned, integers_of
from encoders.arithmetic.values import Inputs, V
from encoders.contract.presets import SEQUENTIAL
from encoders.operator import Site
from encoders.ops.products.matmul import OPERATORS as PRODUCTS
from encoders.ops.quantized.matmul_integer import per_row_or_column
from encoders.quantized.integer_products import IntegerProduct
from encoders.quantized.layers import (
    FACTORS,
    Layer,
    centred,
    chosen,
    layer_operator,
    product_scale,
)
from encoders.quantized.requantizing import Requantized, requantizing_operator

_SIZE = 511.0  # of a byte, its zero point taken off


def _largest(site: Site) -> float:
    return _SIZE**2 * float(site.type_of(0).shape[-1])


def taken(
    site: Site,
    stored: Sequence[V],
    scales: Sequence[V],
    zeros: Sequence[V],
    result: tuple[V, V],
    arithmetic: Arithmetic[V],
) -> tuple[V, V]:
    """The exact sum in int32 times (s_a·s_b)/s_y in float32, as where one factor is stored."""
    numbers = integers_of(arithmetic)
    factors = Inputs(centred(stored, zeros, arithmetic))
    plain, whole = _BOTH.plain(site), numbers.integers()
    (total,) = PRODUCTS[0].runtime(plain, factors, whole, SEQUENTIAL)
    scale, zero = result
    factor = product_scale(scales, scale, arithmetic)
    return arithmetic.multiply(*aligned((numbers.converted(total), factor))), zero


_BOTH = Layer(
    PRODUCTS[0],
    FACTORS,
    scale=6,
    zero=7,
    taken=taken,
    zero_after=True,
    largest=_largest,
)
_ONE = requantizing_operator(
    "QLinearMatMul",
    Requantized(IntegerProduct(PRODUCTS[0], (0, 3), (2, 5), per_row_or_column), lambda site: 0),
)

OPERATORS = (
    chosen(
        _ONE,
        replace(layer_operator("QLinearMatMul", _BOTH), since=10),
        lambda site: site.constant(0) is None and site.constant(3) is None,
    ),
)
