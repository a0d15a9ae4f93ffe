"""MatMulInteger: matrix product of 8-bit integers, zero points taken off, in int32."""

from __future__ import annotations

from encoders.operator import Site
from encoders.ops.products.matmul import OPERATORS as PRODUCTS
from encoders.quantized.integer_products import IntegerProduct, integer_operator


def per_row_or_column(site: Site, factor: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    """One number per row of the left factor, or per column of the right one."""
    return (*shape, 1) if factor == 0 and len(shape) == 1 else shape


OPERATORS = (
    integer_operator(
        "MatMulInteger", 10, IntegerProduct(PRODUCTS[0], (0, 1), (2, 3), per_row_or_column)
    ),
)
