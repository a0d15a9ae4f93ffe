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
from encoders.numbers.enclosure import FloatArray, Interval, add_down, add_up, multiply_up
from encoders.operator import RoundingBound, RuntimeSemantics, Site
from encoders.rounding.rounding_bounds import Rounder, finish, formula_loss, rounder, stored_loss
from encoders.rounding.sequential_chain import chained
from encoders.rounding.tracked import (
    Tracked,
    is_one,
    is_power_of_two,
    is_zero,
    is_zero_product,
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
    error where the divisor may be zero or the radicand negative.
    """

    rounder: Rounder
    contract: RuntimeContract

    def constant(self, values: Array) -> Tracked:
        """The exact numbers of a formula; rounding them to the compute format is their error."""
        return self._known(values, formula_loss)

    def stored(self, values: Array) -> Tracked:
        """The exact stored numbers; their way to the compute format is their error."""
        return self._known(values, stored_loss)

    def _known(self, values: Array, loss: Callable[[Rounder, FloatArray], FloatArray]) -> Tracked:
        exact = np.asarray(values, dtype=np.float64)[None]
        lost = loss(self.rounder, exact)
        return Tracked(Interval(exact, exact), lost, largest_of(add_up(np.abs(exact), lost)))

    def integers(self) -> ErrorArithmetic:
        return ErrorArithmetic(replace(self.rounder, exact=True), self.contract)

    def converted(self, a: Tracked) -> Tracked:
        """Integers up to 2^p in magnitude are in the format already."""
        magnitude = add_up(a.ideal.magnitude, a.error)
        held = magnitude * self.rounder.unit <= 1.0
        fresh = np.where(held, 0.0, self.rounder.of_product(magnitude).bound)
        return self._result(a.ideal, a.error, fresh, magnitude, a)

    def add(self, a: Tracked, b: Tracked) -> Tracked:
        ideal = Interval(add_down(a.ideal.lo, b.ideal.lo), add_up(a.ideal.hi, b.ideal.hi))
        return self._sum(ideal, a, b)

    def subtract(self, a: Tracked, b: Tracked) -> Tracked:
        ideal = Interval(add_down(a.ideal.lo, -b.ideal.hi), add_up(a.ideal.hi, -b.ideal.lo))
        return self._sum(ideal, a, b)

    def _sum(self, ideal: Interval, a: Tracked, b: Tracked) -> Tracked:
        moved = add_up(add_up(a.error, b.error), self._lost(a))
        moved = add_up(moved, self._lost(b))
        magnitude = add_up(ideal.magnitude, moved)
        fresh = self.rounder.of_sum(magnitude).bound
        fresh = np.where(is_zero(a) | is_zero(b), self.rounder.of_copy(magnitude).bound, fresh)
        return self._result(ideal, moved, fresh, magnitude, a, b)

    def multiply(self, a: Tracked, b: Tracked) -> Tracked:
        ideal, moved = self._product(a, b)
        magnitude = add_up(ideal.magnitude, moved)
        fresh = np.where(
            is_power_of_two(a) | is_power_of_two(b),
            self.rounder.of_scaling(magnitude).bound,
            self.rounder.of_product(magnitude).bound,
        )
        fresh = np.where(is_one(a) | is_one(b), self.rounder.of_copy(magnitude).bound, fresh)
        return self._result(ideal, moved, fresh, magnitude, a, b)

    def multiply_add(self, a: Tracked, b: Tracked, c: Tracked) -> Tracked:
        if self.contract.contraction is Contraction.NEVER:
            return self.add(self.multiply(a, b), c)
        fused = self._fused(a, b, c)
        if self.contract.contraction is Contraction.ALWAYS:
            return fused
        separate = self.add(self.multiply(a, b), c)
        return Tracked(
            fused.ideal,
            np.maximum(fused.error, separate.error),
            max(fused.largest, separate.largest),
        )

    def _fused(self, a: Tracked, b: Tracked, c: Tracked) -> Tracked:
        product, moved = self._product(a, b)
        moved = add_up(add_up(moved, c.error), self._lost(c))
        ideal = Interval(add_down(product.lo, c.ideal.lo), add_up(product.hi, c.ideal.hi))
        magnitude = add_up(ideal.magnitude, moved)
        fresh = np.maximum(
            self.rounder.of_sum(magnitude).bound, self.rounder.of_product(magnitude).bound
        )
        copied = is_zero_product(a, b)
        fresh = np.where(copied, self.rounder.of_copy(magnitude).bound, fresh)
        return self._result(ideal, moved, fresh, magnitude, a, b, c)

    def chain(
        self, pairs: Sequence[tuple[Tracked, Tracked]], start: Tracked | None
    ) -> Tracked | None:
        return chained(self.rounder, self.contract, pairs, start)

    def step(
        self,
        pairs: Sequence[tuple[Tracked, Tracked]],
        total: Tracked | None,
        alignment: int,
        least: int | None,
    ) -> Tracked:
        r = replace(self.rounder, alignment=alignment, least_factor=least)
        ideal, moved = self._product(*pairs[0])
        magnitude = add_up(ideal.magnitude, moved)
        biggest = magnitude
        for a, b in pairs[1:]:
            product, error = self._product(a, b)
            biggest = np.maximum(biggest, add_up(product.magnitude, error))
            ideal = Interval(add_down(ideal.lo, product.lo), add_up(ideal.hi, product.hi))
            moved = add_up(moved, error)
        operands = [v for pair in pairs for v in pair]
        if total is not None:
            ideal = Interval(add_down(ideal.lo, total.ideal.lo), add_up(ideal.hi, total.ideal.hi))
            held = add_up(total.error, self._lost(total))
            biggest = np.maximum(biggest, add_up(total.ideal.magnitude, held))
            moved = add_up(moved, held)
            operands.append(total)
        clamped = r.clamped(
            max(largest_of(a.computed.magnitude) for a, _ in pairs),
            max(largest_of(b.computed.magnitude) for _, b in pairs),
        )
        magnitude = np.maximum(np.maximum(biggest, add_up(ideal.magnitude, moved)), clamped)
        fresh = r.of_step(float(len(pairs)), magnitude).bound
        return self._result(ideal, moved, fresh, magnitude, *operands)

    def divide(self, a: Tracked, b: Tracked) -> Tracked:
        divisor = b.computed
        away = np.where(divisor.lo > 0, divisor.lo, np.where(divisor.hi < 0, -divisor.hi, 0.0))
        away = np.maximum(away - self._lost(b), 0.0)
        ideal = interval_quotient(a.ideal, b.ideal)
        # x̂/ŷ − x/y = (dx − (x/y)·dy)/ŷ  (lemma `quotient-error`)
        da, db = add_up(a.error, self._lost(a)), add_up(b.error, self._lost(b))
        numerator = add_up(da, multiply_up(ideal.magnitude, db))
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            moved = np.nextafter(np.nextafter(numerator / away, np.inf), np.inf)
        moved = np.where(away > 0, np.where(numerator == 0, 0.0, moved), np.inf)
        magnitude = add_up(ideal.magnitude, moved)
        fresh = np.where(
            is_power_of_two(b),
            self.rounder.of_scaling(magnitude).bound,
            self.rounder.of_product(magnitude).bound,
        )
        fresh = np.where(is_one(b), self.rounder.of_copy(magnitude).bound, fresh)
        return self._result(ideal, moved, fresh, magnitude, a, b)

    def sqrt(self, a: Tracked) -> Tracked:
        low = a.computed.lo
        with np.errstate(invalid="ignore"):
            ideal = Interval(
                np.maximum(np.nextafter(np.sqrt(np.maximum(a.ideal.lo, 0.0)), -np.inf), 0.0),
                np.nextafter(np.sqrt(np.maximum(a.ideal.hi, 0.0)), np.inf),
            )
            change = add_up(a.error, self._lost(a))
            # |√x̂ − √x| = |x̂ − x|/(√x̂ + √x) ≤ e/√x_lo, and ≤ √e
            far = np.nextafter(np.nextafter(change / ideal.lo, np.inf), np.inf)
            near = np.nextafter(np.sqrt(change), np.inf)
            moved = np.where(change == 0, 0.0, np.fmin(far, near))
        moved = np.where(low >= 0, moved, np.inf)
        magnitude = add_up(ideal.magnitude, moved)
        return self._result(ideal, moved, self.rounder.of_product(magnitude).bound, magnitude, a)

    def maximum(self, a: Tracked, b: Tracked) -> Tracked:
        ideal = Interval(np.maximum(a.ideal.lo, b.ideal.lo), np.maximum(a.ideal.hi, b.ideal.hi))
        moved = np.maximum(add_up(a.error, self._lost(a)), add_up(b.error, self._lost(b)))
        magnitude = add_up(ideal.magnitude, moved)
        return self._result(ideal, moved, self.rounder.of_copy(magnitude).bound, magnitude, a, b)

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

    def _moved(self, a: Tracked) -> FloatArray:
        return add_up(a.error, self._lost(a))

    def _product(self, a: Tracked, b: Tracked) -> tuple[Interval, FloatArray]:
        da, db = add_up(a.error, self._lost(a)), add_up(b.error, self._lost(b))
        moved = add_up(
            add_up(multiply_up(a.ideal.magnitude, db), multiply_up(b.ideal.magnitude, da)),
            multiply_up(da, db),
        )
        return interval_product(a.ideal, b.ideal), moved

    def _lost(self, a: Tracked) -> FloatArray:
        return self.rounder.operand_loss(a.computed)

    def _result(
        self,
        ideal: Interval,
        moved: FloatArray,
        fresh: FloatArray,
        magnitude: FloatArray,
        *operands: Tracked,
    ) -> Tracked:
        largest = max(largest_of(magnitude), *(o.largest for o in operands))
        return Tracked(ideal, add_up(moved, fresh), largest)


def interval_product(a: Interval, b: Interval) -> Interval:
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
    away = (b.lo > 0) | (b.hi < 0)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore", under="ignore"):
        corners = [np.asarray(x / y) for x in (a.lo, a.hi) for y in (b.lo, b.hi)]
    lo = np.minimum(np.minimum(corners[0], corners[1]), np.minimum(corners[2], corners[3]))
    hi = np.maximum(np.maximum(corners[0], corners[1]), np.maximum(corners[2], corners[3]))
    return Interval(
        np.where(away, np.nextafter(lo, -np.inf), -np.inf),
        np.where(away, np.nextafter(hi, np.inf), np.inf),
    )


def traced(
    runtime: RuntimeSemantics,
    site: Site,
    inputs: Sequence[Interval],
    contract: RuntimeContract,
    lemmas: tuple[str, ...],
) -> RoundingBound:
    """Bound a node's rounding error by following its run-time semantics step by step.

    `inputs` are the run-time ranges of the variable inputs, taken as exact. Sound wherever the
    run-time semantics without rounding equals the real semantics, which a test checks per operator.
    """
    r = rounder(site, contract)
    arithmetic = ErrorArithmetic(r, contract)
    ranges = iter(inputs)
    operands: list[Tracked | None] = []
    for kind, constant in zip(site.inputs, site.constants, strict=True):
        if kind is None:
            operands.append(None)
        elif constant is not None:
            operands.append(arithmetic.stored(constant))
        else:
            x = next(ranges)
            operands.append(tracked(x, np.zeros_like(x.lo)))
    (out,) = runtime(site, Inputs(operands), arithmetic, contract)
    shape = site.outputs[0].shape
    error = np.broadcast_to(out.error[0], shape)
    return finish(r, error, np.asarray(out.largest), lemmas)
