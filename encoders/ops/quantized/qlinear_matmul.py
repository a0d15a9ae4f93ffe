"""QLinearMatMul: matrix product of quantised tensors, quantised again."""

from __future__ import annotations

from encoders.ops.products.matmul import OPERATORS as PRODUCTS
from encoders.ops.quantized.matmul_integer import per_row_or_column
from encoders.quantized.integer_products import IntegerProduct
from encoders.quantized.requantizing import Requantized, requantizing_operator

OPERATORS = (
    requantizing_operator(
        "QLinearMatMul",
        Requantized(IntegerProduct(PRODUCTS[0], (0, 3), (2, 5), per_row_or_column), lambda site: 0),
    ),
)
