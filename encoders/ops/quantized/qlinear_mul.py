"""QLinearMul, onnxruntime's own: a product of quantised tensors, element by element, quantised
again."""

from __future__ import annotations

from collections.abc import Sequence

from encoders.arithmetic.runtime import Arithmetic, aligned, integers_of
from encoders.arithmetic.values import V
from encoders.operator import Site
from encoders.ops.algebra.mul import OPERATORS as PRODUCTS
from encoders.quantized.layers import (
    FACTORS,
    Layer,
    centred,
    layer_operator,
    nothing,
    product_scale,
)


def taken(
    site: Site,
    stored: Sequence[V],
    scales: Sequence[V],
    zeros: Sequence[V],
    result: tuple[V, V],
    arithmetic: Arithmetic[V],
) -> tuple[V, V]:
    """(a − z_a)·(b − z_b), which is exact, times (s_a·s_b)/s_y, plus z_y, in float32: onnxruntime's
    formula (MLAS, qlmul.cpp)."""
    numbers = integers_of(arithmetic)
    factors = centred(stored, zeros, arithmetic)
    product = numbers.converted(numbers.integers().multiply(*aligned(factors)))
    scale, zero = result
    factor = product_scale(scales, scale, arithmetic)
    product, factor, zero = aligned((product, factor, numbers.converted(zero)))
    return arithmetic.multiply_add(product, factor, zero), nothing(arithmetic)


OPERATORS = (
    layer_operator("QLinearMul", Layer(PRODUCTS[0], FACTORS, scale=6, zero=7, taken=taken)),
)
