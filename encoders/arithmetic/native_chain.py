"""Long chains of multiply-adds in binary32, bit for bit, with few passes over memory.

The same steps as one at a time (`NumpyArithmetic.multiply_add`), in pieces that stay in cache.
Fused steps are rounded through binary64: the product is exact there, and the double rounding of
its sum shows only where the binary64 sum lies on a midpoint of binary32 (encoders/
numpy_arithmetic.py says why). Tiny sums need no test, since all partial sums are multiples of
2^-149 once every product is, and such numbers below 2^-126 are exact.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt

from encoders.numbers.formats import BINARY32

Carrier = npt.NDArray[Any]
FloatArray = npt.NDArray[np.float64]

_PIECE = 2**14  # elements; a float64 buffer of them fits in a second-level cache
_SHORT = 4  # terms
_KEPT_BITS = np.int64(35)  # of a binary64 number, those that binary32 keeps
_TOP_BIT = np.int64(-(2**63))
_HALF = BINARY32.precision // 2
_LOW_HALF = np.int32(2**_HALF - 1)
_MOST_THREADS = 4


def native_chain(
    pairs: Sequence[tuple[Carrier, Carrier]],
    start: Carrier | None,
    fused: bool,
    repaired: Callable[[FloatArray, FloatArray, FloatArray], FloatArray],
) -> Carrier | None:
    """start + Σ a_k·b_k from first to last on binary32 arrays, subnormal numbers kept.

    `repaired(a, b, c)` rounds a·b + c of binary32 numbers once, in binary64. None where stepping
    through is the better way: few terms, numbers so small that products leave the grid.
    """
    if len(pairs) < _SHORT or (fused and not _on_grid(pairs)):
        return None
    fused = fused and not _products_fit(pairs)
    every = [v for pair in pairs for v in pair] + ([] if start is None else [start])
    shape = np.broadcast_shapes(*(v.shape for v in every))
    result = np.empty(shape, np.float32)
    if not result.size:
        return result
    rows = max(1, _PIECE * shape[0] // result.size)
    run = _fused_piece if fused else _separate_piece
    kind = np.float64 if fused else np.float32
    wide = [tuple(np.asarray(v, kind) for v in pair) for pair in pairs]

    def piece(low: int) -> None:
        where = slice(low, low + rows)
        into = result[where]

        def part(v: Carrier) -> Carrier:
            return v[where] if v.ndim == len(shape) and v.shape[0] > 1 else v

        if start is not None:
            into[...] = part(start)
        with np.errstate(all="ignore"):
            run([(part(a), part(b)) for a, b in wide], start is not None, into, repaired)

    pieces = range(0, shape[0], rows)
    workers = min(len(pieces), os.cpu_count() or 1, _MOST_THREADS)
    if workers == 1:
        for low in pieces:
            piece(low)
    else:
        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(piece, pieces))
    return result


def _fused_piece(
    pairs: Sequence[tuple[Carrier, Carrier]],
    started: bool,
    into: Carrier,
    repaired: Callable[[FloatArray, FloatArray, FloatArray], FloatArray],
) -> None:
    total, before = np.empty(into.shape), np.empty(into.shape)
    low_bits = np.empty(into.shape, np.int64)
    bits = total.view(np.int64)
    for k, (a, b) in enumerate(pairs):
        np.multiply(a, b, out=total)
        if k or started:
            np.copyto(before, into)
            np.add(total, before, out=total)
            np.left_shift(bits, _KEPT_BITS, out=low_bits)
            if low_bits.min() == _TOP_BIT:  # a midpoint: the dropped bits are 100…0
                suspect = low_bits == _TOP_BIT
                x, y, z = (np.broadcast_to(v, into.shape)[suspect] for v in (a, b, before))
                total[suspect] = repaired(x, y, z)
        np.copyto(into, total, casting="same_kind")


def _separate_piece(
    pairs: Sequence[tuple[Carrier, Carrier]],
    started: bool,
    into: Carrier,
    repaired: Callable[[FloatArray, FloatArray, FloatArray], FloatArray],
) -> None:
    product = np.empty(into.shape, np.float32)
    for k, (a, b) in enumerate(pairs):
        np.multiply(a, b, out=product if k or started else into)
        if k or started:
            into += product


def _on_grid(pairs: Sequence[tuple[Carrier, Carrier]]) -> bool:
    """Is every product a multiple of the smallest subnormal number?"""
    smallest = [_least([pair[i] for pair in pairs]) for i in (0, 1)]
    spacing = sum(math.frexp(s)[1] - BINARY32.precision for s in smallest)
    return spacing >= BINARY32.emin - BINARY32.precision + 1


def _products_fit(pairs: Sequence[tuple[Carrier, Carrier]]) -> bool:
    """Is every product a number of binary32, so that fusing it changes nothing? As it is where
    factors came from 16-bit formats."""
    if not all(np.all((v.view(np.int32) & _LOW_HALF) == 0) for pair in pairs for v in pair):
        return False
    sides = [[pair[i] for pair in pairs] for i in (0, 1)]
    spacing = sum(math.frexp(_least(side))[1] - _HALF for side in sides)
    reach = [max(float(np.max(np.abs(v), initial=0.0)) for v in side) for side in sides]
    fits = reach[0] * reach[1] < 2.0**BINARY32.emax
    return fits and spacing >= BINARY32.emin - BINARY32.precision + 1


def _least(arrays: Sequence[Carrier]) -> float:
    """The least magnitude other than 0, or 1 if there is none."""
    least = math.inf
    for values in arrays:
        magnitude = np.abs(values)
        positive = magnitude[magnitude > 0]
        least = min(least, float(positive.min(initial=math.inf)))
    return least if math.isfinite(least) else 1.0
