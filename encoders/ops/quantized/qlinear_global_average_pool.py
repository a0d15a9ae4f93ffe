"""QLinearGlobalAveragePool, onnxruntime's own: the mean of every channel, quantised again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import reduce

import numpy as np

from encoders.arithmetic.runtime import Arithmetic, aligned, integers_of, moved
from encoders.arithmetic.values import Movement, V
from encoders.operator import Site
from encoders.ops.reductions.average_pool import OPERATORS as POOLS
from encoders.quantized.layers import Layer, Quantised, centred, layer_operator

_POOL = next(o for o in POOLS if o.name == "GlobalAveragePool")


def _pixels(site: Site) -> int:
    return int(np.prod(site.type_of(0).shape[2:], dtype=np.int64))


def _pixel(i: int) -> Movement:
    return lambda v: v[..., i]


def _largest(site: Site) -> float:
    """Of sums of bytes, zero points taken off."""
    return 511.0 * _pixels(site)


def check(site: Site) -> None:
    if site.integer("channels_last", 0):
        raise site.unsupported("attribute 'channels_last' must be 0")
    _OPERATOR.check(site)


def taken(
    site: Site,
    stored: Sequence[V],
    scales: Sequence[V],
    zeros: Sequence[V],
    result: tuple[V, V],
    arithmetic: Arithmetic[V],
) -> tuple[V, V]:
    """The sum of all q − z, in int32, times s_x/(s_y·n) in float32 (MLAS, qlgavgpool.cpp)."""
    numbers, count = integers_of(arithmetic), _pixels(site)
    whole = numbers.integers()
    (x,) = centred(stored, zeros, arithmetic)
    shape = site.type_of(0).shape
    x = moved(x, lambda v: v.reshape(v.shape[0], *shape[:2], count))
    total = reduce(whole.add, (moved(x, _pixel(i)) for i in range(count)))
    total = moved(total, lambda v: v.reshape(v.shape[0], *shape[:2], *(1,) * (len(shape) - 2)))
    scale, zero = result
    divisor = arithmetic.multiply(scale, arithmetic.constant(np.asarray(float(count))))
    factor = arithmetic.divide(*aligned((scales[0], divisor)))
    return arithmetic.multiply(*aligned((numbers.converted(total), factor))), zero


_OPERATOR = layer_operator(
    "QLinearGlobalAveragePool",
    Layer(
        _POOL,
        (Quantised(0, 1, 2),),
        scale=3,
        zero=4,
        taken=taken,
        zero_after=True,
        largest=_largest,
    ),
)
OPERATORS = (replace(_OPERATOR, check=check).reading("channels_last"),)
