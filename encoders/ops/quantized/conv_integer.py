"""ConvInteger: convolution of 8-bit integers, zero points taken off, in int32.

Padding is with the zero point of the input, which is 0 once that is taken off.
"""

from __future__ import annotations

from encoders.operator import Site
from encoders.ops.products.conv import OPERATORS as CONVOLUTIONS
from encoders.quantized.integer_products import IntegerProduct, integer_operator


def per_channel(site: Site, factor: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    """One number per output channel, the first axis of the weights."""
    return (*shape, *(1,) * (len(site.type_of(0).shape) - 1)) if factor == 1 else shape


OPERATORS = (
    integer_operator(
        "ConvInteger", 10, IntegerProduct(CONVOLUTIONS[0], (0, 1), (2, 3), per_channel)
    ),
)
