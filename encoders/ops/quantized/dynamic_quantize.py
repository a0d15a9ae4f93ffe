"""DynamicQuantizeMatMul and DynamicQuantizeConv: products by stored 8-bit numbers of a tensor that
is quantised by its own range, as the import puts them together (onnx_import/passes/dynamic.py)."""

from __future__ import annotations

from encoders.ops.products.conv import OPERATORS as CONVOLUTIONS
from encoders.ops.products.matmul import OPERATORS as PRODUCTS
from encoders.ops.quantized.conv_integer import per_channel
from encoders.ops.quantized.matmul_integer import per_row_or_column
from encoders.quantized.dynamic_products import DynamicProduct, dynamic_operator
from encoders.quantized.integer_products import IntegerProduct

OPERATORS = (
    dynamic_operator(
        "DynamicQuantizeMatMul",
        DynamicProduct(
            IntegerProduct(PRODUCTS[0], (0, 1), (2, 3), per_row_or_column), per_column=True
        ),
    ),
    dynamic_operator(
        "DynamicQuantizeConv",
        DynamicProduct(
            IntegerProduct(CONVOLUTIONS[0], (0, 1), (2, 3), per_channel), per_column=False
        ),
    ),
)
