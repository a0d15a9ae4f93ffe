"""Integer products scaled back to 8 bits: QLinearMatMul, QLinearConv and onnxruntime's QGemm.

Over the reals q = clamp(⌊(Σ (a − a₀)·(b − b₀) + bias)·s_a·s_b/s_y⌉ + y₀). A runtime adds in int32,
converts the sum to float32 and multiplies it by (s_a·s_b)/s_y, which it has computed in float32
too: that is what onnxruntime does, bit for bit (tests/test_quantized_models.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import prod

import numpy as np
import numpy.typing as npt

from encoders.arithmetic.exact_fields import ObjectArray
from encoders.arithmetic.runtime import Arithmetic, aligned, integers_of, moved
from encoders.arithmetic.values import E, Inputs, V
from encoders.contract.contract import RuntimeContract
from encoders.lemmas.combining import EXACT
from encoders.lemmas.kernel import Radius, exactly_zero
from encoders.numbers.enclosure import FloatArray, Interval, add_down, add_up, multiply_up, point
from encoders.operator import DifferenceMap, Field, Operator, RoundingBound, Site, ValueMap
from encoders.quantized.grid_steps import (
    LEMMAS,
    IntegerGrid,
    grid_of,
    step_differences,
    step_rounding,
    step_values,
    stored_steps,
)
from encoders.quantized.integer_products import (
    BYTES,
    IntegerProduct,
    as_whole,
    broadcasts,
    centred_site,
    check_product,
    core_attributes,
    no_wrapping,
    product_differences,
    product_real,
    product_runtime,
    product_values,
    spread,
    stored_zero,
)
from encoders.quantized.parameters import check_scale
from encoders.quantizing import Meaning, Stored, Storing, Term
from encoders.relaxations.affine import AffineMap, affine_differences, affine_values, scaled_part
from encoders.relaxations.composed import composed_differences, composed_values
from encoders.rounding.error_arithmetic import ErrorArithmetic
from encoders.rounding.rounding_bounds import Rounder, rounder_of
from encoders.rounding.tracked import Tracked, tracked
from onnx_import.graph import DType

_SCALES = (1, 4)


@dataclass(frozen=True)
class Requantized:
    """A product with scales; those of the second factor, and the bias, run along the axis of the
    output that `trailing(site)` axes follow. Scale and zero point of the output, and the bias, are
    at these inputs."""

    product: IntegerProduct
    trailing: Callable[[Site], int]
    y_scale: int = 6
    y_zero: int = 7
    bias: int = 8

    def columns(self, site: Site, values: npt.NDArray[E]) -> npt.NDArray[E]:
        """(k, *stored) → (k, *such that it broadcasts to the output)."""
        ones = (1,) * self.trailing(site)
        shape = () if prod(values.shape[1:]) == 1 else (*values.shape[1:], *ones)
        return values.reshape(values.shape[0], *shape)

    def stored(self, site: Site, position: int) -> FloatArray:
        """A constant input as exact numbers that broadcast to the output; 0 where there is none."""
        value = site.constant(position)
        if value is None:
            return np.zeros(())
        return np.asarray(self.columns(site, np.asarray(value, np.float64)[None])[0])


def _check(q: Requantized, site: Site) -> None:
    if len(site.variable) != 1:
        raise site.unsupported("scales, zero points, bias and one factor must be constants")
    check_product(q.product, site)
    for position in (*_SCALES, q.y_scale):
        check_scale(site, position)
        if site.type_of(position).dtype is not DType.FLOAT32:
            kind = site.type_of(position).dtype.value
            raise site.unsupported(f"its scale (input {position}) is {kind}, not float32")
    for position in (1, q.y_scale, q.y_zero):
        if site.type_of(position).size != 1:
            raise site.unsupported(f"input {position} must be a single number")
    for position in (4, q.bias):
        if not broadcasts(q.stored(site, position).shape, site.outputs[0].shape):
            raise site.unsupported(f"input {position} does not fit the output")
    if site.outputs[0].dtype not in BYTES:
        raise site.unsupported(f"a result in {site.outputs[0].dtype.value} is not supported")


def _scaling(q: Requantized, site: Site) -> AffineMap:
    """From the sum to the number of steps and the zero point.

    A product of two float32 numbers is exact in float64, so only the quotient is rounded.
    """
    shape = site.outputs[0].shape
    a, b, y = (q.stored(site, i) for i in (*_SCALES, q.y_scale))
    factor = a * b / y
    bias = np.broadcast_to(q.stored(site, q.bias) * factor, shape)
    whole = bias + q.stored(site, q.y_zero)
    radius = multiply_up(np.abs(bias) + np.abs(whole), 2.0**-50)
    return AffineMap((scaled_part(factor, shape, shape, 2.0**-52),), whole, radius)


def _taken(q: Requantized, site: Site, total: V, inputs: Inputs[V], arithmetic: Arithmetic[V]) -> V:
    """The number of steps as a runtime computes it from the sum."""
    a, b, y = (moved(inputs[i], partial(q.columns, site)) for i in (*_SCALES, q.y_scale))
    factor = arithmetic.divide(arithmetic.multiply(*aligned((a, b))), y)
    total = integers_of(arithmetic).converted(total)
    return arithmetic.multiply(*aligned((total, factor)))


def _meant(q: Requantized, site: Site, storing: Storing) -> Meaning:
    """The product of the numbers that the factors stand for, its sum on the grid of the output."""
    p = q.product
    computed = p.variable(site)
    at = p.factors[computed]
    own, other = _SCALES if computed == 0 else _SCALES[::-1]
    zero = stored_zero(p, site, computed)
    scale = np.asarray(site.constants[own], np.float64)
    read = grid_of(site.type_of(at).dtype).of(spread(p, site, computed, scale[None])[0], zero)
    core = centred_site(p, site)
    centred = np.asarray(core.constants[1 - computed], np.float64)
    scale = np.asarray(site.constants[other], np.float64)
    weights = centred * spread(p, site, 1 - computed, scale[None])[0]  # 9 times 24 bits
    a, b, y = (q.stored(site, i) for i in (*_SCALES, q.y_scale))
    bias = q.stored(site, q.bias) * (a * b)
    terms: tuple[Term, ...] = ((at, read), weights)
    weighed = (None, weights) if computed == 0 else (weights, None)
    plain = p.core.meant(replace(core, constants=weighed))
    op, attributes = p.core.name, core_attributes(p, site)
    if plain is not None:
        op, attributes, terms = plain.op, dict(plain.attributes), ((at, read), plain.terms[1])
    return Meaning(
        op,
        terms if computed == 0 else terms[::-1],
        attributes=attributes,
        bias=None if site.constant(q.bias) is None else bias,
        bias_error=multiply_up(np.abs(bias), 2.0**-51),
        written=grid_of(site.outputs[0].dtype).of(y, q.stored(site, q.y_zero)),
        storing=storing,
    )


def requantizing_operator(name: str, q: Requantized) -> Operator:
    """The operator of this name, since opset 10."""

    def steps(site: Site) -> IntegerGrid:
        return grid_of(site.outputs[0].dtype)

    def real(site: Site, inputs: Inputs[ObjectArray], field: Field) -> tuple[ObjectArray, ...]:
        total = product_real(q.product, site, inputs, field)
        bias = inputs.optional(q.bias)
        if bias is not None:
            total = np.add(*aligned((total, q.columns(site, bias))))
        a, b, y = (q.columns(site, inputs[i]) for i in (*_SCALES, q.y_scale))
        a, b = aligned((a, b))
        total, factor = aligned((total, a * b / y))
        zero = np.asarray(inputs[q.y_zero]).reshape((1,) * total.ndim)
        return (steps(site).real(total * factor, zero, field),)

    def runtime(
        site: Site, inputs: Inputs[V], arithmetic: Arithmetic[V], contract: RuntimeContract
    ) -> tuple[V, ...]:
        total = product_runtime(q.product, site, inputs, arithmetic)
        bias = inputs.optional(q.bias)
        if bias is not None:
            placed = moved(as_whole(bias), partial(q.columns, site))
            total = integers_of(arithmetic).integers().add(*aligned((total, placed)))
        t = _taken(q, site, total, inputs, arithmetic)
        zero = moved(as_whole(inputs[q.y_zero]), lambda v: v.reshape((1,) * len(t.shape)))
        return (steps(site).runtime(t, zero, arithmetic),)

    def values(site: Site, ranges: Sequence[Interval]) -> ValueMap:
        total = product_values(q.product, site, ranges)
        scaled = composed_values(total, lambda v: affine_values(_scaling(q, site), [v]))
        return composed_values(scaled, lambda u: step_values(steps(site), u))

    def differences(
        site: Site, ranges: Sequence[Interval], errors: Sequence[Radius]
    ) -> DifferenceMap:
        total = product_values(q.product, site, ranges).range
        u = affine_values(_scaling(q, site), [total]).range
        scaled = composed_differences(
            product_differences(q.product, site, ranges, errors),
            lambda e: affine_differences(_scaling(q, site), [e]),
        )
        return composed_differences(scaled, lambda e: step_differences(steps(site), u, e))

    def followed(
        site: Site, inputs: Sequence[Interval], contract: RuntimeContract
    ) -> tuple[Rounder, Tracked]:
        bias = q.stored(site, q.bias)
        r = rounder_of(DType.FLOAT32, contract)
        arithmetic = ErrorArithmetic(r, contract)
        total = product_values(q.product, site, inputs).range
        exact = np.broadcast_to(bias, total.shape)
        biased = Interval(add_down(total.lo, exact), add_up(total.hi, exact))
        stored = Inputs(None if c is None else arithmetic.stored(c) for c in site.constants)
        whole = tracked(biased, exactly_zero(EXACT, total.shape))
        return r, _taken(q, site, whole, stored, arithmetic)

    def fitting(site: Site, inputs: Sequence[Interval], radius: Radius) -> RoundingBound:
        bias = float(np.max(np.abs(q.stored(site, q.bias))))
        return no_wrapping(RoundingBound(radius), q.product, site, inputs, bias)

    def storing(site: Site, inputs: Sequence[Interval], contract: RuntimeContract) -> Stored:
        r, t = followed(site, inputs, contract)
        found = stored_steps(r, t, site.outputs[0].shape)
        return replace(found, moved=fitting(site, inputs, found.moved).radius)

    def rounding(
        site: Site, inputs: Sequence[Interval], result: Interval, contract: RuntimeContract
    ) -> RoundingBound:
        r, t = followed(site, inputs, contract)
        zero = point(q.stored(site, q.y_zero))
        radius = step_rounding(steps(site), t, zero, r, result.shape)
        return fitting(site, inputs, radius).using(*LEMMAS)

    def work(site: Site) -> int:
        return q.product.core.work(centred_site(q.product, site))

    operator = Operator(
        name,
        10,
        check=lambda site: _check(q, site),
        real=real,
        runtime=runtime,
        values=values,
        differences=differences,
        rounding=rounding,
        work=work,
        dtypes=BYTES,
        exact_integer_sums=True,
        meant=lambda site: _meant(q, site, storing),
    )
    return operator.reading(*q.product.core.attributes)
