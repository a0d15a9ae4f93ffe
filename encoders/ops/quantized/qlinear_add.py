"""QLinearAdd, onnxruntime's own: a sum of quantised tensors, quantised again."""

from __future__ import annotations

from collections.abc import Sequence

from encoders.arithmetic.runtime import Arithmetic, aligned, integers_of
from encoders.arithmetic.values import V
from encoders.operator import Site
from encoders.ops.algebra.add import OPERATORS as SUMS
from encoders.quantized.layers import FACTORS, Layer, layer_operator, nothing


def taken(
    site: Site,
    stored: Sequence[V],
    scales: Sequence[V],
    zeros: Sequence[V],
    result: tuple[V, V],
    arithmetic: Arithmetic[V],
) -> tuple[V, V]:
    """a·(s_a/s_y) + (b·(s_b/s_y) + fixed), fixed = z_y − (z_a·(s_a/s_y) + z_b·(s_b/s_y)), in
    float32: onnxruntime's formula (MLAS, qladd.cpp), whose products may be fused with the sums."""
    converted = integers_of(arithmetic).converted
    scale, zero = result
    a, b = (arithmetic.divide(*aligned((s, scale))) for s in scales)
    shifts = [converted(z) for z in (*zeros, zero)]
    moved = arithmetic.add(arithmetic.multiply(a, shifts[0]), arithmetic.multiply(b, shifts[1]))
    fixed = arithmetic.subtract(shifts[2], moved)
    inner = arithmetic.multiply_add(*aligned((converted(stored[1]), b, fixed)))
    return arithmetic.multiply_add(*aligned((converted(stored[0]), a, inner))), nothing(arithmetic)


OPERATORS = (layer_operator("QLinearAdd", Layer(SUMS[0], FACTORS, scale=6, zero=7, taken=taken)),)
