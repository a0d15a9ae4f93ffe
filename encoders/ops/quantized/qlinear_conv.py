"""QLinearConv: convolution of quantised tensors with a bias in int32, quantised again."""

from __future__ import annotations

from encoders.ops.products.conv import OPERATORS as CONVOLUTIONS
from encoders.ops.quantized.conv_integer import per_channel
from encoders.quantized.integer_products import IntegerProduct
from encoders.quantized.requantizing import Requantized, requantizing_operator

OPERATORS = (
    requantizing_operator(
        "QLinearConv",
        Requantized(
            IntegerProduct(CONVOLUTIONS[0], (0, 3), (2, 5), per_channel),
            lambda site: len(site.type_of(0).shape) - 2,
        ),
    ),
)
