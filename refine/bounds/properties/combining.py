"""Rows of a conjunction added up, with factors ≥ 0: where all rows hold, so does their sum.

A box may hold an input for each row and none for all of them. Whatever the factors, what is said
of the sum is proved of it, by a pull-back of its own (lemma `combined-rows`). They are looked for
where the linear lower bounds of the rows are known: those of which the sum's lower bound is
largest, a concave function of them, climbed by exponentiated gradients on the simplex
(Kivinen & Warmuth 1997).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction

import numpy as np

from encoders.numbers.enclosure import SMALLEST, UNIT, FloatArray, add_up, multiply_up
from refine.bounds.properties.rows import Functionals
from refine.domain.properties import Row

_STEPS = 40
_MOST_NUMBERS = 2**22  # of coefficients on inputs, beyond which none are looked for
_DIGITS = 2.0**-12  # factors are multiples of this


def factors_of(
    margins: FloatArray, pulls: Mapping[str, FloatArray], widths: Mapping[str, FloatArray]
) -> tuple[FloatArray, FloatArray]:
    """Factors (rows, boxes) for rows with these margins, and the margin that their sum has at
    least, to float64; `pulls` are their coefficients (rows, boxes, *shape) on inputs, whose ranges
    have these `widths` (boxes, *shape)."""
    k, boxes = margins.shape
    slopes = [c.reshape(k, boxes, -1) for c in pulls.values()]
    halves = [0.5 * widths[t].reshape(boxes, -1) for t in pulls]
    a = np.concatenate([*slopes, np.zeros((k, boxes, 0))], axis=2)
    reach = np.concatenate([*halves, np.zeros((boxes, 0))], axis=1)
    best = np.zeros((k, boxes))
    best[np.argmax(margins, axis=0), np.arange(boxes)] = 1.0
    highest = np.max(margins, axis=0)
    usable = np.all(np.isfinite(margins), axis=0)
    if a.size > _MOST_NUMBERS or not np.any(usable) or not np.all(np.isfinite(a)):
        return best, highest
    pulled = a * reach
    middle = np.where(usable, margins, 0.0) + np.sum(np.abs(pulled), axis=2)
    share = np.full((k, boxes), 1.0 / k)
    for step in range(1, _STEPS + 1):
        total = np.einsum("kb,kbn->bn", share, pulled)
        found = np.sum(share * middle, axis=0) - np.sum(np.abs(total), axis=1)
        better = usable & (found > highest)
        highest = np.where(better, found, highest)
        best = np.where(better, share, best)
        up = middle - np.einsum("bn,kbn->kb", np.sign(total), pulled)
        up = up - np.max(up, axis=0)
        scale = np.maximum(np.max(np.abs(up), axis=0), 2.0**-900)
        share = share * np.exp(2.0 * up / (scale * np.sqrt(step)))
        share = share / np.sum(share, axis=0)
    best = np.round(best / _DIGITS) * _DIGITS
    best[np.argmax(best, axis=0), np.arange(boxes)] += 1.0 - np.sum(best, axis=0)
    return best, highest


def summed(rows: Functionals, of: Sequence[int], factor: FloatArray) -> Functionals:
    """Σ factor·row of each box, of rows (k, boxes, *shape): (1, boxes, *shape)."""

    def spread(c: FloatArray) -> tuple[FloatArray, FloatArray]:
        chosen = c[list(of)]
        return factor.reshape(*factor.shape, *(1,) * (c.ndim - 2)), chosen

    def total(part: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        return {t: np.sum(np.multiply(*spread(c)), axis=0)[None] for t, c in part.items()}

    off: dict[str, FloatArray] = {}
    for part in (rows.on_outputs, rows.on_inputs):
        for t, c in part.items():
            share, chosen = spread(c)
            rounded = np.sum(np.abs(share * chosen), axis=0)[None] * ((len(of) + 2) * 2 * UNIT)
            rounded = np.where(np.any(chosen, axis=0), rounded + len(of) * SMALLEST, 0.0)
            off[t] = add_up(off[t], rounded) if t in off else rounded
    for t, away in rows.off.items():
        share, chosen = spread(away)
        for r in range(len(of)):
            off[t] = add_up(off[t], multiply_up(share[r : r + 1], chosen[r : r + 1]))
    return Functionals(total(rows.on_outputs), total(rows.on_inputs), off)


def summed_limit(limits: FloatArray, factor: FloatArray) -> FloatArray:
    """An upper bound (boxes,) on Σ factor·limit, limits (k, boxes) or (k, 1)."""
    total = np.zeros(factor.shape[1])
    for limit, share in zip(limits, factor, strict=True):
        total = add_up(total, multiply_up(share, np.broadcast_to(limit, share.shape)))
    return total


def summed_row(rows: Sequence[Row], factor: Sequence[float]) -> Row:
    """Σ factor·row, exact; it holds where all rows do."""
    exact = [Fraction(f) for f in factor]

    def total(sides: Sequence[Mapping[int, Fraction]]) -> dict[int, Fraction]:
        found: dict[int, Fraction] = {}
        for share, side in zip(exact, sides, strict=True):
            for i, c in side.items():
                found[i] = found.get(i, Fraction(0)) + share * c
        return {i: c for i, c in found.items() if c}

    most = sum((f * row.at_most for f, row in zip(exact, rows, strict=True)), Fraction(0))
    return Row(total([r.outputs for r in rows]), total([r.inputs for r in rows]), most, False)
