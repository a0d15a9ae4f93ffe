"""Running error analysis: the run-time semantics of an operator, executed on ranges and errors.

`ErrorArithmetic` is the third arithmetic an operator's `runtime` is read in. It follows the same
schedule as the emulator, step by step, and keeps for every intermediate value a range of what it
would be without rounding and a bound on how far rounding has moved it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from encoders.arithmetic.runtime import Relation
from encoders.arithmetic.values import Inputs
from encoders.contract.contract import Contraction, RuntimeContract
from encoders.functions.function import Function
from encoders.lemmas.combining import EXACT
from encoders.lemmas.kernel import Radius, Rounding, apply, exactly_zero
from encoders.lemmas.operations import (
    COMPUTED_PRODUCT,
    COMPUTED_QUOTIENT,
    COMPUTED_ROOT,
    INTEGER_HELD,
)
from encoders.numbers.enclosure import FloatArray, Interval, add_down, add_up
from encoders.operator import RoundingBound, RuntimeSemantics, Site
from encoders.rounding.known_operands import beside_zeros, by_factors
from encoders.rounding.prefixes import Prefixes
from encoders.rounding.rounding_bounds import Rounder, finish, formula_loss, rounder, stored_loss
from encoders.rounding.sequential_chain import chained
from encoders.rounding.tracked import (
    Tracked,
    largest_of,
    tracked,
)
from encoders.rounding.tracked_choices import absolute, compared, negated, selected, stepped
from encoders.rounding.tracked_functions import applied
from onnx_import.graph import Array


@dataclass(frozen=True)
class ErrorArithmetic:
    """Arithmetic on `Tracked` values under one format and contract; order comes from the caller.

    Each operation: |computed result − ideal result| ≤ propagated error of the operands + rounding
    error at the largest exact result on computed operands. `divide` and `sqrt` give an infinite
    error where the divisor may be zero or the radicand negative. `prefixes` are known of the one
    chain of products that a node is.
    """

    rounder: Rounder
    contract: RuntimeContract
    prefixes: Prefixes | None = None

    def constant(self, values: Array) -> Tracked:
        """The exact numbers of a formula; rounding them to the compute format is their error."""
        return self._known(values, formula_loss)

    def stored(self, values: Array) -> Tracked:
        """The exact stored numbers; their way to the compute format is their error."""
        return self._known(values, stored_loss)

    def _known(self, values: Array, loss: Callable[[Rounder, FloatArray], Radius]) -> Tracked:
        exact = np.asarray(values, dtype=np.float64)[None]
        lost = loss(self.rounder, exact)
        largest = largest_of(add_up(np.abs(exact), lost.bound))
        return Tracked(Interval(exact, exact), lost, largest)

    def integers(self) -> ErrorArithmetic:
        return ErrorArithmetic(replace(self.rounder, exact=True), self.contract)

    def converted(self, a: Tracked) -> Tracked:
        """Integers up to 2^p in magnitude are in the format already."""
        return self._rounded(a.ideal, a.error, self._integer, a)

    def _integer(self, magnitude: FloatArray) -> Rounding:
        rounding = self.rounder.of_product(magnitude)
        return apply(INTEGER_HELD, size=magnitude, r=rounding, u=self.rounder.unit)

    def add(self, a: Tracked, b: Tracked) -> Tracked:
        ideal = Interval(add_down(a.ideal.lo, b.ideal.lo), add_up(a.ideal.hi, b.ideal.hi))
        return self._sum(ideal, a, b)

    def subtract(self, a: Tracked, b: Tracked) -> Tracked:
        ideal = Interval(add_down(a.ideal.lo, -b.ideal.hi), add_up(a.ideal.hi, -b.ideal.lo))
        return self._sum(ideal, a, b)

    def _sum(self, ideal: Interval, a: Tracked, b: Tracked) -> Tracked:
        r = self.rounder

        def rounded(magnitude: FloatArray) -> Rounding:
            return beside_zeros(r, r.of_sum(magnitude), magnitude, a, b)

        return self._rounded(ideal, self._moved(a) + self._moved(b), rounded, a, b)

    def multiply(self, a: Tracked, b: Tracked) -> Tracked:
        ideal, moved = self._product(a, b)
        return self._rounded(ideal, moved, lambda m: by_factors(self.rounder, m, a, b), a, b)

    def multiply_add(self, a: Tracked, b: Tracked, c: Tracked) -> Tracked:
        if self.contract.contraction is Contraction.NEVER:
            return self.add(self.multiply(a, b), c)
        fused = self._fused(a, b, c)
        if self.contract.contraction is Contraction.ALWAYS:
            return fused
        separate = self.add(self.multiply(a, b), c)
        return Tracked(
            fused.ideal,
            fused.error.or_else(separate.error),
            max(fused.largest, separate.largest),
        )

    def _fused(self, a: Tracked, b: Tracked, c: Tracked) -> Tracked:
        product, moved = self._product(a, b)
        ideal = Interval(add_down(product.lo, c.ideal.lo), add_up(product.hi, c.ideal.hi))
        r = self.rounder

        def rounded(magnitude: FloatArray) -> Rounding:
            """An FMA may underflow, and errs by no less than an addition may."""
            return beside_zeros(r, r.of_product(magnitude), magnitude, a, b)

        return self._rounded(ideal, moved + self._moved(c), rounded, a, b, c)

    def chain(
        self, pairs: Sequence[tuple[Tracked, Tracked]], start: Tracked | None
    ) -> Tracked | None:
        return chained(self.rounder, self.contract, pairs, start, self.prefixes)

    def step(
        self,
        pairs: Sequence[tuple[Tracked, Tracked]],
        total: Tracked | None,
        alignment: int,
        least: int | None,
    ) -> Tracked:
        r = replace(self.rounder, alignment=alignment, least_factor=least)
        ideal, moved = self._product(*pairs[0])
        biggest = add_up(ideal.magnitude, moved.bound)
        for a, b in pairs[1:]:
            product, error = self._product(a, b)
            biggest = np.maximum(biggest, add_up(product.magnitude, error.bound))
            ideal = Interval(add_down(ideal.lo, product.lo), add_up(ideal.hi, product.hi))
            moved = moved + error
        operands = [v for pair in pairs for v in pair]
        if total is not None:
            ideal = Interval(add_down(ideal.lo, total.ideal.lo), add_up(ideal.hi, total.ideal.hi))
            held = self._moved(total)
            biggest = np.maximum(biggest, add_up(total.ideal.magnitude, held.bound))
            moved = moved + held
            operands.append(total)
        clamped = r.clamped(
            max(largest_of(a.computed.magnitude) for a, _ in pairs),
            max(largest_of(b.computed.magnitude) for _, b in pairs),
        )
        biggest = np.maximum(biggest, clamped)

        def rounded(magnitude: FloatArray) -> Rounding:
            return r.of_step(float(len(pairs)), np.maximum(biggest, magnitude))

        found = self._rounded(ideal, moved, rounded, *operands)
        return replace(found, largest=max(found.largest, largest_of(biggest)))

    def divide(self, a: Tracked, b: Tracked) -> Tracked:
        ideal = interval_quotient(a.ideal, b.ideal)
        of_b = self._moved(b)
        read = b.ideal.inflate(of_b.bound)
        moved = quotient_moved(ideal.magnitude, b.ideal, read, self._moved(a), of_b)
        return self._rounded(ideal, moved, lambda m: by_factors(self.rounder, m, b), a, b)

    def sqrt(self, a: Tracked) -> Tracked:
        change = self._moved(a)
        with np.errstate(invalid="ignore"):
            ideal = Interval(
                np.maximum(np.nextafter(np.sqrt(np.maximum(a.ideal.lo, 0.0)), -np.inf), 0.0),
                np.nextafter(np.sqrt(np.maximum(a.ideal.hi, 0.0)), np.inf),
            )
            near = np.sqrt(change.bound)
            near = np.where(near > 0.0, np.maximum(near * (1.0 + 2.0**-50), 2.0**-510), near)
        moved = apply(COMPUTED_ROOT, e=change, near=near, low=ideal.lo, floor=a.computed.lo)
        return self._rounded(ideal, moved, self.rounder.of_product, a)

    def maximum(self, a: Tracked, b: Tracked) -> Tracked:
        ideal = Interval(np.maximum(a.ideal.lo, b.ideal.lo), np.maximum(a.ideal.hi, b.ideal.hi))
        moved = self._moved(a).or_else(self._moved(b))
        return self._rounded(ideal, moved, self.rounder.of_copy, a, b)

    def function(self, f: Function, a: Tracked) -> Tracked:
        return applied(f, a, self._moved(a), self.rounder, self.contract.functions.accuracy(f))

    def minimum(self, a: Tracked, b: Tracked) -> Tracked:
        return self.negate(self.maximum(self.negate(a), self.negate(b)))

    def negate(self, a: Tracked) -> Tracked:
        return negated(a)

    def absolute(self, a: Tracked) -> Tracked:
        return absolute(a)

    def floor(self, a: Tracked) -> Tracked:
        return stepped(a, self._moved(a), np.floor)

    def nearest(self, a: Tracked) -> Tracked:
        return stepped(a, self._moved(a), np.rint)

    def compare(self, relation: Relation, a: Tracked, b: Tracked) -> Tracked:
        return compared(relation, a, b, (self._moved(a), self._moved(b)))

    def select(self, condition: Tracked, a: Tracked, b: Tracked) -> Tracked:
        return selected(condition, a, b)

    def _moved(self, a: Tracked) -> Radius:
        """How far an operand may be from its ideal value as it is read."""
        if self.rounder.exact or not self.rounder.flush_operands:
            return a.error
        return a.error + self.rounder.operand_loss(a.computed)

    def _product(self, a: Tracked, b: Tracked) -> tuple[Interval, Radius]:
        moved = apply(
            COMPUTED_PRODUCT,
            X=a.ideal.magnitude,
            Y=b.ideal.magnitude,
            ex=self._moved(a),
            ey=self._moved(b),
        )
        return interval_product(a.ideal, b.ideal), moved

    def _rounded(
        self,
        ideal: Interval,
        moved: Radius,
        rounded: Callable[[FloatArray], Rounding],
        *operands: Tracked,
    ) -> Tracked:
        """A result that has moved on computed operands, and is rounded then."""
        error = self.rounder.after(rounded, ideal.magnitude, moved)
        reached = largest_of(add_up(ideal.magnitude, moved.bound))
        return Tracked(ideal, error, max(reached, *(o.largest for o in operands)))


def interval_product(a: Interval, b: Interval) -> Interval:
    """The range of a·b, outward; 0·∞ is 0."""
    with np.errstate(invalid="ignore", over="ignore", under="ignore"):
        corners = [np.asarray(x * y) for x in (a.lo, a.hi) for y in (b.lo, b.hi)]
    corners = [np.where(np.isnan(c), 0.0, c) for c in corners]  # 0·∞ at a corner is 0
    lo = np.minimum(np.minimum(corners[0], corners[1]), np.minimum(corners[2], corners[3]))
    hi = np.maximum(np.maximum(corners[0], corners[1]), np.maximum(corners[2], corners[3]))
    zero = ((a.lo == 0) & (a.hi == 0)) | ((b.lo == 0) & (b.hi == 0))
    return Interval(
        np.where(zero, 0.0, np.nextafter(lo, -np.inf)),
        np.where(zero, 0.0, np.nextafter(hi, np.inf)),
    )


def interval_quotient(a: Interval, b: Interval) -> Interval:
    """The range of a/b, outward; everything where b's range holds 0."""
    away = (b.lo > 0) | (b.hi < 0)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore", under="ignore"):
        corners = [np.asarray(x / y) for x in (a.lo, a.hi) for y in (b.lo, b.hi)]
    lo = np.minimum(np.minimum(corners[0], corners[1]), np.minimum(corners[2], corners[3]))
    hi = np.maximum(np.maximum(corners[0], corners[1]), np.maximum(corners[2], corners[3]))
    return Interval(
        np.where(away, np.nextafter(lo, -np.inf), -np.inf),
        np.where(away, np.nextafter(hi, np.inf), np.inf),
    )


def quotient_moved(
    size: FloatArray, y: Interval, computed: Interval, of_x: Radius, of_y: Radius
) -> Radius:
    """How far x̂/ŷ is from x/y, which is at most `size`, y being in its range before it moves, and
    ŷ in `computed`: x̂/ŷ − x/y = (dx − (x/y)·dy)/ŷ."""
    with np.errstate(invalid="ignore"):
        away = np.maximum(y.lo, -y.hi) - of_y.bound
        away = away * (1.0 - 2.0**-49) if np.any(of_y.bound) else away
        away = np.fmax(away, np.fmax(computed.lo, -computed.hi))
    return apply(
        COMPUTED_QUOTIENT,
        Q=size,
        ex=of_x,
        ey=of_y,
        low=np.maximum(away, 0.0),
        lo=y.lo,
        hi=y.hi,
        below=computed.lo,
        above=computed.hi,
    )


def traced(
    runtime: RuntimeSemantics,
    site: Site,
    inputs: Sequence[Interval],
    contract: RuntimeContract,
    prefixes: Prefixes | None = None,
) -> RoundingBound:
    """Bound a node's rounding error by following its run-time semantics step by step.

    `inputs` are the run-time ranges of the variable inputs, taken as exact. Sound wherever the
    run-time semantics without rounding equals the real semantics, which a test checks per operator.
    `prefixes` are of the chain of products that the node is, if it is one.
    """
    r = rounder(site, contract)
    arithmetic = ErrorArithmetic(r, contract, prefixes)
    ranges = iter(inputs)
    operands: list[Tracked | None] = []
    for kind, constant in zip(site.inputs, site.constants, strict=True):
        if kind is None:
            operands.append(None)
        elif constant is not None:
            operands.append(arithmetic.stored(constant))
        else:
            x = next(ranges)
            operands.append(tracked(x, exactly_zero(EXACT, x.shape)))
    (out,) = runtime(site, Inputs(operands), arithmetic, contract)
    return finish(r, of_output(out, site), np.asarray(out.largest))


def of_output(out: Tracked, site: Site) -> Radius:
    """What the one sample of a result is off by, in the shape of the node's output."""
    return out.sample.on(site.outputs[0].shape)
