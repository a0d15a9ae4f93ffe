"""QLinearMul, onnxruntime's own: a product of quantised tensors, element by element, quantised
again."""

from __future__ import annotations

from collections.abc import Sequence

from encoders.arithmetic.runtime import Arithmetic, aligned, integers_of
from encoders.arithmetic.values import V
from encoders.operator import Site
from encoders.ops.algebra.mul import OPERATORS as PRODUCTS
from encoders.quantized.layers import Layer, Quantised, layer_operator, nothing


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
    whole = numbers.integers()
    a, b = (whole.subtract(*aligned((q, z))) for q, z in zip(stored, zeros, strict=True))
    product = numbers.converted(whole.multiply(*aligned((a, b))))
    scale, zero = result
    factor = arithmetic.divide(*aligned((arithmetic.multiply(*scales), scale)))
    product, factor, zero = aligned((product, factor, numbers.converted(zero)))
    return arithmetic.multiply_add(product, factor, zero), nothing(arithmetic)


OPERATORS = (
    layer_operator(
        "QLinearMul",
        Layer(PRODUCTS[0], (Quantised(0, 1, 2), Quantised(3, 4, 5)), scale=6, zero=7, taken=taken),
    ),
)
