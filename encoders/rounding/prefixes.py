"""What is known of a chain's partial sums beside the ranges of its terms.

Terms hang on the same inputs, and sums of the first of them are narrower than the sum of their
ranges. Between two such sums the terms themselves are added, forwards from the one before and
backwards from the one behind.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from encoders.numbers.enclosure import FloatArray, Interval, add_down, add_up, multiply_up


@dataclass(frozen=True)
class Prefixes:
    """Of chains of so many `terms`, one for each element of a result: the first `at[j]` terms,
    increasing numbers, add up to something in [lo, hi][:, j]; arrays (elements, how many)."""

    terms: int
    at: tuple[int, ...]
    lo: FloatArray
    hi: FloatArray

    def inflate(self, radius: FloatArray) -> Prefixes:
        """Of terms that are off by no more in all, per element."""
        off = radius.reshape(-1, 1)
        return Prefixes(self.terms, self.at, add_down(self.lo, -off), add_up(self.hi, off))

    def fit(self, shape: tuple[int, ...]) -> bool:
        """Are they of chains of this shape, terms last?"""
        return shape[-1] == self.terms and math.prod(shape[:-1]) == len(self.lo)

    def partial(
        self, middle: FloatArray, radius: FloatArray, slack: FloatArray, start: Interval | None
    ) -> FloatArray:
        """Bounds on |s_k|, of sums that begin with `start`, after each term.

        `middle` and `radius` are running sums of the terms' own, start included; two of them differ
        by what the terms between add up to, but for twice `slack`, one for each chain.
        """
        shape = middle.shape[:-1]
        most = np.full(middle.shape, np.inf)
        for j, many in enumerate(self.at):
            lo, hi = self.lo[:, j].reshape(shape), self.hi[:, j].reshape(shape)
            if start is not None:
                lo, hi = add_down(lo, start.lo), add_up(hi, start.hi)
            there = slice(many - 1, many)
            piece = slice(
                self.at[j - 1] if j else 0, self.at[j + 1] if j + 1 < len(self.at) else self.terms
            )
            moved = middle[..., piece] - middle[..., there]
            off = np.abs(radius[..., piece] - radius[..., there]) + np.abs(moved) * 2.0**-50
            off = add_up(multiply_up(off, 1.0 + 2.0**-50), 3.0 * slack[..., None])
            above = add_up(add_up(hi[..., None], moved), off)
            below = add_up(add_up(-lo[..., None], -moved), off)
            found = np.maximum(np.maximum(above, below), 0.0)
            most[..., piece] = np.fmin(most[..., piece], found)
        return most
