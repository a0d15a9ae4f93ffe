"""How a tensor core adds, found out from what it returns for chosen numbers.

The model is that of `orders.AlignedSteps`: so many products at a time join the running sum, aligned
to so many bits below the largest exponent. Both numbers are read off a few sums in which what is
lost shows, and believed only if the emulation gives the card's bits on random numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import ml_dtypes
import numpy as np
import numpy.typing as npt

from encoders.arithmetic.numpy_arithmetic import NumpyArithmetic
from encoders.contract.orders import AlignedSteps
from encoders.contract.presets import SEQUENTIAL
from encoders.numbers.formats import (
    BFLOAT16,
    BINARY16,
    BINARY32,
    TENSOR_FLOAT_32,
    FloatFormat,
    round_array,
)
from gpu_check.cuda.card import TILE, Card, Factors

FloatArray = npt.NDArray[np.float64]
Tiles = Callable[[FloatArray, FloatArray, FloatArray], npt.NDArray[np.float32]]

FORMATS = {
    Factors.FLOAT16: BINARY16,
    Factors.BFLOAT16: BFLOAT16,
    Factors.TF32: TENSOR_FLOAT_32,
}
_BIG, _UNIT = 2.0**14, 2.0**-10  # as factors: products 2^28 and 2^-20
_DEEPEST = 40  # bits of alignment tried
_SAMPLES = 16  # tiles of 256 sums each


@dataclass(frozen=True)
class Core:
    """What was found: the steps, or None and why not; on how many random sums they were tried."""

    factors: Factors
    steps: AlignedSteps | None
    sums: int
    note: str = ""


def probe_core(tile: Tiles, factors: Factors, terms: int = 32, seed: int = 0) -> Core:
    """`tile` gives a·b + c for a (16, terms), b (terms, 16) and c (16, 16), whose numbers are of
    the factors' format, c in float32; `terms` is at least two instructions long."""

    def total(*products: tuple[int, float, float], fill: float = 0.0) -> float:
        """One sum of these products at these places, and of fill² at all others."""
        a, b = np.full((2, terms), fill)
        for place, left, right in products:
            a[place], b[place] = left, right
        tile_a, tile_b = np.zeros((TILE, terms)), np.zeros((terms, TILE))
        tile_a[0], tile_b[:, 0] = a, b
        return float(tile(tile_a, tile_b, np.zeros((TILE, TILE)))[0, 0])

    kept = total((0, _BIG, _BIG), (1, -_BIG, _BIG), fill=_UNIT) / _UNIT**2
    length = terms - kept
    if not 1 < length <= terms or length != int(length):
        return Core(factors, None, 0, f"{kept:g} of {terms} small products survive two large ones")
    if length < 3:
        return Core(factors, None, 0, "products are added one by one")
    survives = [
        total((0, 2.0**10, 2.0**10), (1, 2.0 ** (10 - m // 2), 2.0 ** (10 - m + m // 2)),
              (2, -(2.0**10), 2.0**10)) != 0.0
        for m in range(1, _DEEPEST + 1)
    ]  # fmt: skip
    alignment = survives.index(False) if False in survives else _DEEPEST
    steps = AlignedSteps(int(length), alignment)
    rng = np.random.default_rng(seed)
    for _ in range(_SAMPLES):
        a, b, c = _random(rng, terms, FORMATS[factors])
        if not np.array_equal(np.asarray(tile(a, b, c)), emulated(steps, factors, a, b, c)):
            note = f"{steps.describe()} do not reproduce random sums"
            return Core(factors, None, _SAMPLES * TILE**2, note)
    return Core(factors, steps, _SAMPLES * TILE**2)


def emulated(
    steps: AlignedSteps, factors: Factors, a: FloatArray, b: FloatArray, c: FloatArray
) -> npt.NDArray[np.float32]:
    """a·b + c in such steps, bit for bit."""
    arithmetic = NumpyArithmetic(BINARY32, SEQUENTIAL)
    total = np.asarray(c, np.float32)
    left, right = a.astype(np.float32), b.astype(np.float32)
    for start in range(0, a.shape[1], steps.terms):
        block = range(start, min(start + steps.terms, a.shape[1]))
        pairs = [(left[:, k : k + 1], right[k : k + 1]) for k in block]
        total = arithmetic.step(pairs, total, steps.alignment, FORMATS[factors].emin)
    return total


def _random(
    rng: np.random.Generator, terms: int, fmt: FloatFormat
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Numbers of both signs over several binades, some of them zero, and sums of their size."""

    def sampled(*shape: int) -> FloatArray:
        values = rng.standard_normal(shape) * 2.0 ** rng.integers(-8, 3, shape)
        return np.where(rng.random(shape) < 0.1, 0.0, round_array(values, fmt))

    return sampled(TILE, terms), sampled(terms, TILE), round_array(sampled(TILE, TILE), BINARY32)


def tiles_of(card: Card, factors: Factors) -> Tiles:
    """The tiles of a card, from float64 numbers of the factors' format."""
    dtype = {Factors.FLOAT16: np.float16, Factors.BFLOAT16: ml_dtypes.bfloat16}.get(
        factors, np.float32
    )

    def tile(a: FloatArray, b: FloatArray, c: FloatArray) -> npt.NDArray[np.float32]:
        return card.tile(factors, a.astype(dtype), b.astype(dtype), c.astype(np.float32))

    return tile
