"""A sequential chain of multiply-adds under running error analysis, all steps at once.

With s_k the partial sums before rounding, every step rounds a number of magnitude at most
M_k = |s_k| + E, where E bounds the accumulated error of the whole chain. So
E ≥ Σ_k (rounding error at M_k) closes the induction (lemma `sequential-step`). The s_k are
enclosed by running sums of midpoints and of radii.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from encoders.arithmetic.slices import Slices
from encoders.contract.contract import Contraction, RuntimeContract
from encoders.lemmas.combining import EXACT
from encoders.lemmas.kernel import Radius, Rounding, apply, exactly_zero, stacked
from encoders.lemmas.operations import CHAIN, CHAIN_STEP, COMPUTED_PRODUCT, OPERANDS_OF_SUM
from encoders.numbers.enclosure import (
    UNIT,
    FloatArray,
    Interval,
    add_down,
    add_up,
    gamma,
    midpoint_radius,
    multiply_up,
    some,
)
from encoders.numbers.formats import BINARY64, FloatFormat, round_array, round_to_grid
from encoders.rounding.closed_chain import closed_chain
from encoders.rounding.known_operands import beside_zeros, by_factors
from encoders.rounding.prefixes import Prefixes
from encoders.rounding.rounding_bounds import Rounder, beyond
from encoders.rounding.tracked import Tracked, largest_of

_LARGEST_STACK = 2**22
_CLOSER = 2.0**-12  # of all that is added
_UNSEEN = 2.0**-120  # what underflows, at a guess


def chained(
    r: Rounder,
    contract: RuntimeContract,
    pairs: Sequence[tuple[Tracked, Tracked]],
    start: Tracked | None,
    prefixes: Prefixes | None = None,
) -> Tracked | None:
    """start + Σ a_k·b_k from first to last; None where stepping through is the better way:
    short chains, integers, operands that carry errors, unbounded ranges. `prefixes` are of the
    products, where it is these that are chained."""
    shape = np.broadcast_shapes(
        pairs[0][0].shape, pairs[0][1].shape, *(() if start is None else (start.shape,))
    )
    size = math.prod(shape) * len(pairs)
    if len(pairs) < 4 or (r.exact and not contract.exact):
        return None
    if size > _LARGEST_STACK:
        if start is None and isinstance(pairs, Slices):
            return closed_chain(r, pairs, shape)
        return None
    if isinstance(pairs, Slices):
        a, b = pairs.stacked()
    else:
        a, b = (_stacked([pair[i] for pair in pairs]) for i in (0, 1))
    if any(np.any(t.error.bound) or not np.all(np.isfinite(t.ideal.magnitude)) for t in (a, b)):
        return None
    return _Chain(r, contract, a, b, start, prefixes).result(shape)


def _stacked(terms: Sequence[Tracked]) -> Tracked:
    lo = np.stack([t.ideal.lo for t in terms], axis=-1)
    hi = np.stack([t.ideal.hi for t in terms], axis=-1)
    error = stacked([t.error for t in terms])
    return Tracked(Interval(lo, hi), error, max(t.largest for t in terms))


class _Chain:
    """The quantities of one chain; arrays have the terms along the last axis."""

    def __init__(
        self,
        r: Rounder,
        contract: RuntimeContract,
        a: Tracked,
        b: Tracked,
        start: Tracked | None,
        prefixes: Prefixes | None = None,
    ) -> None:
        self.r, self.contract, self.start = r, contract, start
        self.operands = max(a.largest, b.largest)
        middle_a, radius_a = midpoint_radius(a.ideal)
        middle_b, radius_b = midpoint_radius(b.ideal)
        middle = middle_a * middle_b
        radius = add_up(
            multiply_up(np.abs(middle_a), radius_b),
            multiply_up(radius_a, add_up(np.abs(middle_b), radius_b)),
        )
        self.products = multiply_up(a.ideal.magnitude, b.ideal.magnitude)
        self.zero = self.products == 0
        lost_a, lost_b = r.operand_loss(a.ideal), r.operand_loss(b.ideal)
        self.lost, held = exactly_zero(EXACT, self.products.shape), self.products
        if some(lost_a.bound) or some(lost_b.bound):
            self.lost = apply(
                COMPUTED_PRODUCT, X=a.ideal.magnitude, Y=b.ideal.magnitude, ex=lost_a, ey=lost_b
            )
            held = add_up(self.products, self.lost.bound)
        self.factors = (a, b)
        first = contract.contraction is Contraction.ALWAYS  # only that product is rounded itself
        rounded = [t.moved(lambda v: v[..., :1]) if first else t for t in (a, b)]
        self.rounded = by_factors(r, held[..., :1] if first else held, *rounded)
        if start is not None:
            start_middle, start_radius = midpoint_radius(start.ideal)
            shape = np.broadcast_shapes(middle.shape[:-1], start_middle.shape)
            middle = np.broadcast_to(middle, (*shape, middle.shape[-1])).copy()
            radius = np.broadcast_to(radius, middle.shape).copy()
            middle[..., 0] += start_middle
            radius[..., 0] = add_up(radius[..., 0], start_radius)
            absolute = np.abs(middle)
            absolute[..., 0] += 2 * np.abs(start_middle)
        else:
            absolute = np.abs(middle)
        self.reach = self._reach(middle, radius)
        terms = middle.shape[-1]
        total = np.cumsum(add_up(absolute, radius), axis=-1)
        slack = multiply_up(total, gamma(3 * terms + 16))
        self.middle = np.cumsum(middle, axis=-1)
        running = np.cumsum(radius, axis=-1)
        self.radius = add_up(running, slack)
        self.partial = add_up(np.abs(self.middle), self.radius)
        if prefixes is not None and prefixes.fit(middle.shape):
            begun = None if start is None else start.ideal
            known = prefixes.partial(self.middle, running, slack[..., -1], begun)
            self.partial = np.minimum(self.partial, known)

    def result(self, shape: tuple[int, ...]) -> Tracked | None:
        error = self._closed()
        if not np.all(np.isfinite(error.bound)):
            return None
        last = Interval(
            add_down(self.middle[..., -1], -self.radius[..., -1]),
            add_up(self.middle[..., -1], self.radius[..., -1]),
        )
        largest = max(
            largest_of(add_up(self.partial, error.bound[..., None])),
            largest_of(add_up(self.products, self.lost.bound)),
            self.operands,
            0.0 if self.start is None else self.start.largest,
        )
        whole = Interval(np.broadcast_to(last.lo, shape), np.broadcast_to(last.hi, shape))
        return Tracked(whole, error.on(shape), largest)

    def _closed(self) -> Radius:
        """The error of the start and of each step, all partial sums being at most |s_k| + E for an
        E that is at least that much; infinite if none was found."""
        shape = self.partial.shape[:-1]
        before = exactly_zero(EXACT, shape) if self.start is None else self.start.error
        error = self._guess(before.bound, shape)
        found = before
        for factor in (1.0, 1.0 + 2.0**-49, 1.0 + 2.0**-49, 1.0 + 2.0**-8):
            error = multiply_up(error, factor)
            steps = self._steps(error).summed(-1)
            found = apply(CHAIN, before=before, steps=steps, E=error)
            if np.all(np.isfinite(found.bound)):
                break
            error = np.broadcast_to(add_up(before.bound, steps.bound), shape)
        return found

    def _guess(self, before: FloatArray, shape: tuple[int, ...]) -> FloatArray:
        """Somewhat more than the error will be, as relative errors of roundings add up; 0 where
        that is so much that a closer look pays. Whatever it is, the lemma looks at it."""
        r = self.r
        if r.exact or r.unit * self.partial.shape[-1] > _CLOSER:
            return np.zeros(shape)
        steps = r.unit * np.sum(self.partial, axis=-1)
        for charge in (self.rounded, self.lost):
            if some(charge.bound):
                steps = steps + np.sum(charge.bound, axis=-1)
        if r.flush_operands:
            steps = steps + 2.0 * r.smallest_normal * self.partial.shape[-1]
        return np.broadcast_to((before + steps) * (1.0 + 2.0**-20) + _UNSEEN, shape)

    def _reach(self, middle: FloatArray, radius: FloatArray) -> FloatArray | None:
        """Bounds on what each step rounds, from the runtime's own numbers; None where the contract
        leaves more than one way to compute them.

        Rounding to nearest is monotone (format lemma `monotone`), so the ends of a range of
        computed sums become the ends of the next one by the very operation the runtime performs.
        Unlike |s_k| + E this stays at a power of two that no sum exceeds.
        """
        r, fused = self.r, self.contract.contraction is Contraction.ALWAYS
        if r.exact:
            return None
        if r.flush_results or r.flush_operands or self.contract.contraction is Contraction.EITHER:
            return None
        if self.start is not None:
            return None  # its range is part of the first term here
        # Rounding is odd: both ends at once, the lower one negated, each a run of additions.
        ends = np.stack([add_up(-middle, radius), add_up(middle, radius)])
        if not fused:
            ends = round_array(ends, r.format)
        reach = _run(np.ascontiguousarray(np.moveaxis(ends, -1, 0)), r.format)
        if not np.max(reach, initial=0.0) <= r.format.largest_number:
            return None
        return np.ascontiguousarray(np.moveaxis(reach, 0, -1))

    def _steps(self, error: FloatArray) -> Radius:
        """What each step adds while no error exceeds E: the error of its product, that of rounding
        the sum, and what is lost by reading operands as zero. A fused step, which may underflow,
        errs by no less than an addition may."""
        r, choice = self.r, self.contract.contraction
        magnitude = beyond(self.partial, error[..., None])
        if self.reach is not None:
            magnitude = np.minimum(magnitude, self.reach)
        lost = self.lost
        if r.flush_operands:
            lost = lost + apply(OPERANDS_OF_SUM, tiny=r.smallest_normal)
        fused = self._step(error, lost, r.of_product(magnitude))
        step = fused
        if choice is not Contraction.ALWAYS:
            step = self._step(error, self.rounded + lost, r.of_sum(magnitude))
            step = step if choice is Contraction.NEVER else step.or_else(fused)
        if self.start is None:
            alone = (self.rounded + self.lost).moved(lambda v: v[..., :1])
            first = alone.on((*step.shape[:-1], 1))
            step = first.joined([step.moved(lambda v: v[..., 1:])], axis=-1)
        return step

    def _step(self, error: FloatArray, product: Radius, rounding: Rounding) -> Radius:
        return apply(
            CHAIN_STEP,
            M=self.partial,
            E=error[..., None],
            R=np.inf if self.reach is None else self.reach,
            pi=product,
            h=beside_zeros(self.r, rounding, rounding.reach, *self.factors),
        )


def _run(terms: FloatArray, fmt: FloatFormat) -> FloatArray:
    """The larger magnitude of two running sums of `terms` (terms, 2, *shape), rounded to the format
    at every step: before that is done, and rounded up. Unless it is beyond the format's numbers.

    One pass for each term, so all is done in place: fl(s + 4U·|s|) is what `add_up` gives.
    """
    reach = np.empty((len(terms), *terms.shape[2:]))
    sums, size = terms[0].copy(), np.empty_like(terms[0])
    np.abs(sums, out=size)
    np.maximum(size[0], size[1], out=reach[0])
    for k in range(1, len(terms)):
        if fmt != BINARY64:
            round_to_grid(sums, size, fmt)
        sums += terms[k]
        np.abs(sums, out=size)
        size *= 4.0 * UNIT
        sums += size
        np.abs(sums, out=size)
        np.maximum(size[0], size[1], out=reach[k])
    return reach
