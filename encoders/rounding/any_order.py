"""Sums in any order: a bound on every tree of additions, fused or not, aligned steps among them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from encoders.lemmas.kernel import Radius, apply
from encoders.lemmas.sums import (
    ANY_ORDER_GROWTH,
    ANY_ORDER_LINEAR,
    GROWTH,
    GROWTH_SQUARED,
    SUM_ANY_ORDER,
    SUM_ANY_ORDER_ALIGNED,
)
from encoders.numbers.enclosure import FloatArray, add_up, in_blocks, multiply_up
from encoders.rounding.rounding_bounds import Rounder, beyond

_ITERATIONS = 4


def any_order_sum(
    r: Rounder,
    partial: FloatArray,
    additions: FloatArray,
    products: Radius,
    steps: float = 0.0,
    clamped: float = 0.0,
    total: FloatArray | None = None,
) -> Radius:
    """|ŝ − s| for a sum in any order, with or without FMA: lemmas `sum-any-order` and, where that
    knows of no bound because there are too many additions, `any-order-linear` or `-growth`.

    `partial` bounds every partial sum of the exact terms, `additions` counts the roundings of
    sums, `products` bounds the total error of the rounded terms, `total` Σ|term| (None: both signs
    may reach `partial`). Where aligned steps may be taken, there are at most `steps` of them, of
    one product each or of fewer and longer ones, and `clamped` is what factors count for at least.
    Infinite where a hypothesis of all three lemmas fails of these numbers.
    """
    every = multiply_up(partial, 2.0) if total is None else total
    sum_ = _AnyOrder(r, partial, additions, products, steps, clamped)
    # Where it closes with the relative error of a rounding in place of half an ulp, as it does
    # unless sums are very long, what half an ulp then asks for is a bound too.
    found = sum_.closed(in_blocks(sum_.guess, partial, additions, products.bound))
    if found.largest < np.inf:
        return found
    error = products.bound
    with np.errstate(over="ignore", invalid="ignore"):
        for _ in range(_ITERATIONS):
            error = sum_.needed(error)
        for factor in (1.0, 1.0 + 2.0**-8, 2.0):
            found = found.and_also(sum_.closed(multiply_up(error, factor)))
    if sum_.aligned and not r.exact:
        return found.and_also(sum_.grown(every))
    linear = apply(
        ANY_ORDER_LINEAR,
        S=every,
        m=additions,
        u=0.0 if r.exact else r.unit,
        h=0.0 if r.exact else r.underflow,
        lost=r.lost_operands,
        p=products,
    )
    return found.and_also(linear)


@dataclass(frozen=True)
class _AnyOrder:
    """A sum in any order, and what an error E within which all its partial sums stay would give."""

    r: Rounder
    partial: FloatArray
    additions: FloatArray
    products: Radius
    steps: float
    clamped: float

    @property
    def aligned(self) -> bool:
        return self.r.alignment is not None and self.steps > 0.0

    def guess(self, partial: FloatArray, additions: FloatArray, products: FloatArray) -> FloatArray:
        """The E that relative errors of roundings ask for, and a little more; element by element.
        Whatever it is, `closed` looks at it."""
        r = self.r
        least = 2.0 * r.underflow + r.lost_operands
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            linear = products + additions * (r.relative * partial + least)
            return np.asarray(linear / (1.0 - r.relative * additions) * (1.0 + 2.0**-20))

    def closed(self, error: FloatArray) -> Radius:
        """The bound, if what the nodes err by stays within E; else infinite.

        A node is an addition or, contracted, an FMA; the latter may underflow, and errs by no less
        than an addition may.
        """
        reached = self._reached(error)
        node = self.r.of_product(reached)
        if not self.aligned:
            return apply(
                SUM_ANY_ORDER,
                T=self.partial,
                E=error,
                m=self.additions,
                r=node,
                lost=self.r.lost_operands,
                p=self.products,
            )
        return apply(
            SUM_ANY_ORDER_ALIGNED,
            T=self.partial,
            E=error,
            m=self.additions,
            r=node,
            k=self.steps,
            s=self.r.of_step(1.0, np.maximum(reached, self.clamped)),
            lost=self.r.lost_operands,
            p=self.products,
        )

    def needed(self, error: FloatArray) -> FloatArray:
        """What the nodes err by if no error on the way exceeds this one: the next guess."""
        reached = self._reached(error)
        lost = self.r.lost_operands
        each = add_up(self.r.of_product(reached).bound, lost)
        total = add_up(self.products.bound, multiply_up(self.additions, each))
        if not self.aligned:
            return total
        step = add_up(self.r.of_step(1.0, np.maximum(reached, self.clamped)).bound, lost)
        return add_up(total, multiply_up(step, self.steps))

    def _reached(self, error: FloatArray) -> FloatArray:
        """T + E, so far rounded up that the lemma cannot find it less."""
        return beyond(self.partial, error)

    def grown(self, total: FloatArray) -> Radius:
        """The bound of which relative errors multiply, and nothing is asked of their number."""
        r = self.r
        assert r.alignment is not None
        share = 2.0**-r.alignment
        growth = apply(GROWTH, m=self.additions, u=r.unit, k=self.steps, share=share)
        for _ in range(20):
            growth = apply(GROWTH_SQUARED, e=growth)
        least = max(float(r.format.smallest_subnormal), 2.0**-1074)
        return apply(
            ANY_ORDER_GROWTH,
            g=growth,
            S=total,
            p=self.products,
            m=self.additions,
            k=self.steps,
            u=r.unit,
            share=share,
            h=r.underflow,
            lost=r.lost_operands,
            least=max(least, r.smallest_normal if r.flush_results else 0.0),
            clamped=self.clamped,
        )
