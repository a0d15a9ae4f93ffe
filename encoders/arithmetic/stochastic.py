"""Stochastic rounding: of its two neighbours, a number between them becomes either, by chance.

The upper one has the probability (x − lower)/(upper − lower), so that the mean is x itself (Croci,
Fasi, Higham, Mary & Mikaitis 2022, "Stochastic rounding: implementation, error analysis and
applications", Royal Society Open Science 9). Sums and products are exact here before they are
rounded, so that the probability is right to 2^-52; of quotients, roots and functions float64 has
53 bits, which makes it right to 2^(p − 51), p being the digits of the format.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from encoders.arithmetic.approximate_field import approximate_function
from encoders.arithmetic.numpy_arithmetic import (
    Carrier,
    FloatArray,
    NumpyArithmetic,
    two_sum_error,
)
from encoders.contract.contract import Contraction, OpenSchedule, RuntimeContract
from encoders.functions.function import Function
from encoders.numbers.formats import FloatFormat, fits_twice_in_binary64


class StochasticArithmetic(NumpyArithmetic):
    """`NumpyArithmetic` whose results are drawn; conversions of stored numbers stay to nearest.

    Raises ValueError for a format that does not fit twice into binary64.
    """

    def __init__(
        self, fmt: FloatFormat, contract: RuntimeContract, rng: np.random.Generator
    ) -> None:
        super().__init__(fmt, contract)
        if not fits_twice_in_binary64(fmt):
            raise ValueError(f"{fmt.name} is not rounded stochastically here: it is too wide")
        self._rng = rng

    def in_format(self, fmt: FloatFormat) -> StochasticArithmetic:
        return StochasticArithmetic(fmt, self.contract, self._rng)

    def converted(self, a: Carrier) -> Carrier:
        return self._drawn(np.asarray(a, np.float64))

    def add(self, a: Carrier, b: Carrier) -> Carrier:
        x, y = self._wide(a, b)
        with np.errstate(all="ignore"):
            total = x + y
            return self._drawn(total, two_sum_error(x, y, total))

    def subtract(self, a: Carrier, b: Carrier) -> Carrier:
        return self.add(a, -b)

    def multiply(self, a: Carrier, b: Carrier) -> Carrier:
        x, y = self._wide(a, b)
        with np.errstate(all="ignore"):
            return self._drawn(x * y)

    def divide(self, a: Carrier, b: Carrier) -> Carrier:
        x, y = self._wide(a, b)
        with np.errstate(all="ignore"):
            return self._drawn(x / y)

    def sqrt(self, a: Carrier) -> Carrier:
        (x,) = self._wide(a)
        with np.errstate(all="ignore"):
            return self._drawn(np.sqrt(x))

    def function(self, f: Function, a: Carrier) -> Carrier:
        """f, its two neighbours being those of the value in float64."""
        (x,) = self._wide(a)
        return self._drawn(np.asarray(approximate_function(f, x), np.float64))

    def multiply_add(self, a: Carrier, b: Carrier, c: Carrier) -> Carrier:
        if self.contract.contraction is Contraction.EITHER:
            raise OpenSchedule(f"contract '{self.contract.name}' leaves contraction open")
        if self.contract.contraction is Contraction.NEVER:
            return self.add(self.multiply(a, b), c)
        x, y, z = self._wide(a, b, c)
        with np.errstate(all="ignore"):
            product = x * y
            total = product + z
            return self._drawn(total, two_sum_error(product, z, total))

    def chain(self, pairs: Any, start: Carrier | None) -> Carrier | None:
        """None: every operation draws for itself."""
        return None

    def _wide(self, *arrays: Carrier) -> tuple[FloatArray, ...]:
        return tuple(np.asarray(v, np.float64) for v in self._operands(*arrays))

    def _drawn(self, high: FloatArray, low: FloatArray | float = 0.0) -> Carrier:
        """The exact high + low, whose sum in float64 is high, rounded to the format by chance."""
        low = np.where(np.isfinite(high), low, 0.0)
        mantissa, exponent = np.frexp(high)
        below = (np.abs(mantissa) == 0.5) & (np.sign(low) == -np.sign(high)) & (low != 0)
        exponent = np.maximum(exponent - 1 - below, self.format.emin) - self.format.precision + 1
        scaled, rest = np.ldexp(high, -exponent), np.ldexp(low, -exponent)
        whole = np.floor(scaled)
        share = (scaled - whole) + rest
        whole, share = np.where(share < 0, whole - 1, whole), np.where(share < 0, share + 1, share)
        up = self._rng.random(share.shape) < share
        found = np.ldexp(whole + up, exponent)
        beyond = np.abs(found) > self.format.largest_number
        found = np.where(beyond, np.copysign(np.inf, high), found)
        found = np.where(np.isfinite(high) & (found == 0), np.copysign(0.0, high), found)
        found = np.where(np.isfinite(high), found, high).astype(self.carrier)
        return self._flushed(found) if self._flush_results else found
