"""What a claim of relative precision says of an output, in the units that people use."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

_UP = 1.0 + 2.0**-50


@dataclass(frozen=True)
class RelativeFigures:
    """Of every element of an output, |x̂ − x| ≤ `error`·|x|; and, whatever that is, |x̂ − x| ≤
    `rtol`·|x| + `atol`, as `numpy.testing.assert_allclose` has it. `unit` is u = 2^−p of its
    format. All are rounded up, and infinite where nothing is known.

    `while_normal` is the relative precision in the executions that overflow nowhere and have no
    subnormal result: it is given where that they do not is an obligation that stays open, and
    nothing is proved by it.
    """

    output: str
    error: float
    rtol: float
    atol: float
    unit: float
    while_normal: float | None = None

    @property
    def precision(self) -> float:
        """Relative precision |ln(x̂/x)|: at most error/(1 − error)."""
        return self.error * _UP / (1.0 - self.error) * _UP if self.error < 1.0 else math.inf

    @property
    def ulps(self) -> float:
        """In units in the last place of the real value, in the normal range: each is more than u
        times that value."""
        return float(np.nextafter(self.error / self.unit, math.inf)) if self.error else 0.0
