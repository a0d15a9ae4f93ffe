"""QGemm, onnxruntime's own: Gemm of quantised tensors with a bias in int32, quantised again.

Its tool writes it for Gemm in the QOperator format. The bias is stored in steps of s_a·s_b.
"""

from __future__ import annotations

from dataclasses import replace

from encoders.operator import Site
from encoders.ops.products.gemm import OPERATORS as GEMMS
from encoders.quantized.integer_products import IntegerProduct
from encoders.quantized.requantizing import Requantized, requantizing_operator


def _per_column(site: Site, factor: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    """One number per column of the product, a row of B if that is transposed."""
    return (*shape, 1) if factor == 0 or site.integer("transB", 0) else shape


_QGEMM = requantizing_operator(
    "QGemm",
    Requantized(
        IntegerProduct(GEMMS[0], (0, 3), (2, 5), _per_column),
        lambda site: 0,
        y_scale=7,
        y_zero=8,
        bias=6,
    ),
)


def check(site: Site) -> None:
    if site.real("alpha", 1.0) != 1.0:
        raise site.unsupported("attribute 'alpha' other than 1 is not supported")
    if len(site.inputs) < 9:
        raise site.unsupported("a result that is not quantised again is not supported")
    _QGEMM.check(site)


OPERATORS = (replace(_QGEMM, check=check),)
