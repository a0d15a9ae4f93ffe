"""Matrix products whose factors a runtime truncates first (TF32), and which alone use tensor cores.

With x̃, W̃ the truncated factors, f_W̃(x̃) − f_W(x̂) = (f_W̃(x̃) − f_W̃(x̂)) + f_(W̃ − W)(x̂): what the
operator's own differences say of |x̃ − x̂|, and its values at the change of the weights. The rest is
the product's own rounding, with W̃ for weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from encoders.arithmetic.number_path import carried, factor
from encoders.arithmetic.runtime import Arithmetic
from encoders.arithmetic.values import Inputs, V
from encoders.contract.contract import FactorRounding, OpenSchedule, RuntimeContract
from encoders.contract.orders import alignment_of
from encoders.lemmas.combining import EXACT
from encoders.lemmas.domains import FACTORS_KEPT
from encoders.lemmas.kernel import Radius, apply, exactly_zero
from encoders.lemmas.products import WEIGHTS_CHANGED
from encoders.lemmas.rounding import TRUNCATED
from encoders.numbers.enclosure import Interval, with_zero
from encoders.numbers.formats import FloatFormat, truncated_operands
from encoders.operator import Operator, RoundingBound, Site
from encoders.rounding.rounding_bounds import Rounder, held, no_overflow, rounder
from onnx_import.graph import Array


def with_truncated_operands(operator: Operator) -> Operator:
    """The operator under contracts that say how factors are truncated and steps are aligned; any
    operator but a matrix product has neither."""
    if operator.movement or operator.converts:
        return operator

    def runtime(
        site: Site, inputs: Inputs[V], arithmetic: Arithmetic[V], contract: RuntimeContract
    ) -> tuple[V, ...]:
        if not operator.factors:
            return operator.runtime(site, inputs, arithmetic, contract.for_sums())
        short = _short(site, contract)
        if short is None:
            return operator.runtime(site, inputs, arithmetic, contract)
        if contract.factor_rounding is FactorRounding.ANY:
            raise OpenSchedule(f"contract '{contract.name}' leaves the factors' rounding open")
        operands = list(inputs.given)
        own = contract.format_of(site.outputs[0].dtype)
        way = (factor(own, short, contract.factor_rounding),)
        for i in operator.factors:
            operands[i] = carried(arithmetic, inputs[i], way)
        return operator.runtime(site, Inputs(operands), arithmetic, contract)

    def rounding(
        site: Site, inputs: Sequence[Interval], result: Interval, contract: RuntimeContract
    ) -> RoundingBound:
        if not operator.factors:
            return operator.rounding(site, inputs, result, contract.for_sums())
        short = _short(site, contract)
        steps = () if alignment_of(contract.order) is None else ("aligned-step",)
        if short is None:
            return operator.rounding(site, inputs, result, contract).using(*steps)
        way = contract.factor_rounding
        bounds = [
            _truncated(
                operator,
                site,
                inputs=inputs,
                result=result,
                contract=contract,
                short=short,
                truncated=truncated,
            )
            for truncated, other in (
                (False, FactorRounding.TRUNCATE),
                (True, FactorRounding.NEAREST),
            )
            if way is not other
        ]
        if way is FactorRounding.ANY:
            bounds.append(operator.rounding(site, inputs, result, contract))
        worst = bounds[0]
        for bound in bounds[1:]:
            worst = replace(
                worst,
                radius=worst.radius.or_else(bound.radius),
                preconditions=(*worst.preconditions, *bound.preconditions),
            )
        return worst.using(*steps)

    return replace(operator, runtime=runtime, rounding=rounding)


def _short(site: Site, contract: RuntimeContract) -> FloatFormat | None:
    dtype = site.outputs[0].dtype
    return contract.shorter_than(dtype) if dtype.is_float else None


def _truncated(
    operator: Operator,
    site: Site,
    inputs: Sequence[Interval],
    result: Interval,
    contract: RuntimeContract,
    short: FloatFormat,
    truncated: bool,
) -> RoundingBound:
    """The bound for one way of truncating."""
    r = rounder(site, contract)
    way = FactorRounding.TRUNCATE if truncated else FactorRounding.NEAREST
    shorter = replace(r, path=(*r.path, factor(r.format, short, way)))
    constants, changes = list(site.constants), list(site.constants)
    flushed = False
    for i in operator.factors:
        weights = site.constants[i]
        if weights is not None:
            exact = np.asarray(weights, np.float64)
            end, before = held(shorter, exact), held(r, exact)
            constants[i], changes[i] = end.values, end.values - exact
            # what is flushed here though nothing truncates it, the product itself is charged with
            late = ~before.flushed & (end.values == before.values)
            flushed = flushed or bool(np.any(end.flushed & ~late & (exact != 0)))
    there = replace(site, constants=tuple(constants))
    moved, errors, reached = [], [], []
    for position, x in zip(site.variable, inputs, strict=True):
        if position in operator.factors:
            lost = r.operand_loss(x)
            cut = x.move(lambda v: truncated_operands(v, short, truncated))
            moved.append(with_zero(cut, lost.bound > 0))
            errors.append(_loss(replace(r, format=short), x, truncated) + lost)
        else:
            moved.append(x)
            errors.append(exactly_zero(EXACT, x.shape))
        reached.append(float(np.max(moved[-1].magnitude, initial=0.0)))
    change = operator.differences(there, inputs, errors).radius
    if any(site.constants[i] is not None for i in operator.factors):
        range_ = _of_changes(operator, site, changes, inputs)
        change = change + apply(WEIGHTS_CHANGED, lo=range_.lo, hi=range_.hi)
    inner = operator.rounding(there, moved, result.inflate(change.bound), contract)
    moved_by = replace(inner, radius=inner.radius + change, row=None)
    found = no_overflow(moved_by, replace(r, format=short), np.asarray(reached))
    return found.given(
        "factors-kept",
        f"{site.node.describe()}: no stored factor is flushed where it is cut short",
        FACTORS_KEPT,
        zeroed=float(flushed),
    )


def _loss(r: Rounder, x: Interval, truncated: bool) -> Radius:
    """|x̃ − x̂| for factors in a range, at most half an ulp of the short format or a whole one."""
    nearest = replace(r, flush_results=False).of_product(x.magnitude)
    return apply(TRUNCATED, e=nearest, M=x.magnitude) if truncated else nearest


def _of_changes(
    operator: Operator,
    site: Site,
    changes: Sequence[Array | None],
    inputs: Sequence[Interval],
) -> Interval:
    """f_ΔW(x̂) without a bias, x̂ in its ranges.

    Differences of float64 weights may themselves be rounded, so these are taken absolutely.
    """
    without = [c if i in operator.factors else _zeros(c) for i, c in enumerate(changes)]
    ranges = [
        x if position in operator.factors else Interval(np.zeros_like(x.lo), np.zeros_like(x.lo))
        for position, x in zip(site.variable, inputs, strict=True)
    ]
    if any(c is not None and c.dtype == np.float64 for c in site.constants):
        without = [
            np.nextafter(np.abs(c), np.inf) if c is not None and i in operator.factors else c
            for i, c in enumerate(without)
        ]
        ranges = [Interval(-x.magnitude, x.magnitude) for x in ranges]
    return operator.values(replace(site, constants=tuple(without)), ranges).range


def _zeros(values: Array | None) -> Array | None:
    return None if values is None else np.zeros_like(values)
