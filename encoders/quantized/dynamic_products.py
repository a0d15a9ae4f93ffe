"""Products of a tensor quantised by its own range with stored 8-bit numbers, as one operator.

DynamicQuantizeLinear, MatMulInteger or ConvInteger, Cast, and Mul by both scales: what
onnxruntime's tool for dynamic quantisation writes, and what its DynamicQuantizeMatMul does at once.
Taken apart, scale and stored numbers would be bounded as if they had nothing to do with each other;
together the input is moved by half a step at most, whatever the scale.

With r = max(x, 0) − min(x, 0), s = r/255 (1 if r = 0), z = ⌊−min(x, 0)/s⌉ and
q = clamp(⌊x/s⌉ + z), f = (q − z)·s is within s/2 of x, for x/s + z is within half a step of
[0, 255] and clamping costs no more than rounding; and within |x|, for what is less than half a step
becomes 0. The output is Σ f·w with w = (b − b₀)·s_b.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import prod

import numpy as np
import numpy.typing as npt

from encoders.arithmetic.exact_fields import ObjectArray
from encoders.arithmetic.runtime import Arithmetic, Relation, aligned, integers_of, moved
from encoders.arithmetic.values import E, Inputs, V
from encoders.contract.contract import RuntimeContract
from encoders.lemmas.combining import EXACT
from encoders.lemmas.grids import (
    COMPUTED_GRID,
    COMPUTED_OWN_GRID,
    OWN_GRID,
    SCALED_INTEGERS,
)
from encoders.lemmas.kernel import Radius, apply, carried_back, exactly_zero
from encoders.numbers.enclosure import FloatArray, Interval, add_up, anywhere
from encoders.operator import (
    DifferenceMap,
    Field,
    Moved,
    Operator,
    Precondition,
    RoundingBound,
    Site,
    ValueMap,
)
from encoders.quantized.grid_steps import grid_of
from encoders.quantized.integer_products import (
    IntegerProduct,
    broadcasts,
    centred_site,
    check_product,
    core_attributes,
    no_wrapping,
    product_real,
    product_runtime,
    product_size,
)
from encoders.quantized.parameters import check_scale
from encoders.quantizing import Meaning, OwnGrid
from encoders.relaxations.affine import AffineMap, affine_differences, affine_values, moved_part
from encoders.relaxations.composed import composed_differences, composed_values
from encoders.rounding.rounding_bounds import Rounder, finish, held, rounder, stored_loss
from encoders.traits import Discontinuity
from onnx_import.graph import DType, TensorType

_STEPS = grid_of(DType.UINT8)
_LEVELS = 255.0
_SCALE, _ZERO = 2, 3
_WIDE = 2.0**-45  # relative: more than all roundings of a few float64 operations
_COARSEST = 2.0**-20  # the unit roundoff up to which the constants below hold


@dataclass(frozen=True)
class DynamicProduct:
    """A product of integers with factors at inputs 0 and 1 and zero points at 2 and 3, and whether
    there may be a scale for each of the last axis of the stored factor and of the result."""

    product: IntegerProduct
    per_column: bool

    def whole(self, site: Site) -> Site:
        """The product of integers: of a computed uint8 tensor and its zero point."""
        zero = site.inputs[_ZERO] if len(site.inputs) > _ZERO else None
        kinds = (TensorType(DType.UINT8, site.type_of(0).shape), site.type_of(1),
                 TensorType(DType.UINT8, ()), zero)  # fmt: skip
        constants = (None, site.constant(1), None, site.constant(_ZERO))
        names = ("q", site.node.inputs[1], "z", *site.node.inputs[_ZERO:])
        output = TensorType(DType.INT32, site.outputs[0].shape)
        node = replace(site.node, inputs=names)
        return Site(node, kinds[: len(names)], (output,), constants[: len(names)])

    def scaled(self, site: Site) -> Site:
        """The product of the real numbers f and w; w, of 9 times 24 bits, is exact."""
        plain = centred_site(self.product, self.whole(site))
        centred = np.asarray(plain.constants[1], np.float64)
        scale = np.asarray(site.constants[_SCALE], np.float64)
        return replace(plain, constants=(None, centred * _number(scale)))

    def size(self, site: Site, x: FloatArray) -> FloatArray:
        """Σ|w|·x for x ≥ 0, rounded up."""
        scaled = self.scaled(site)
        weights = np.abs(np.asarray(scaled.constants[1], np.float64))
        return product_size(self.product, replace(scaled, constants=(None, weights)), x)


def _number(scales: FloatArray) -> FloatArray:
    """One number has no axes: the result has as many as all scales."""
    return scales.reshape(()) if scales.size == 1 else scales


def _numbers(values: npt.NDArray[E]) -> npt.NDArray[E]:
    """The same of (k, *stored)."""
    return values.reshape(values.shape[0]) if prod(values.shape[1:]) == 1 else values


def _check(p: DynamicProduct, site: Site) -> None:
    if site.variable != (0,) or site.type_of(0).dtype is not DType.FLOAT32:
        raise site.unsupported("its first input must be computed, in float32, and no other")
    check_scale(site, _SCALE)
    check_product(p.product, p.whole(site))
    scale = np.asarray(site.constants[_SCALE])
    output, weights = site.outputs[0].shape, site.type_of(1).shape
    if not broadcasts(scale.shape, output):
        raise site.unsupported(f"its scales (input {_SCALE}) do not fit {list(output)}")
    if scale.size > 1 and not (p.per_column and broadcasts(scale.shape, weights)):
        raise site.unsupported(f"its scales (input {_SCALE}) do not fit {list(weights)}")


def _extreme(larger: Callable[[V, V], V], x: V) -> V:
    """The largest element of every sample, of shape (k, 1)."""
    while (n := x.shape[1]) > 1:
        x = larger(*(moved(x, partial(_cut, s)) for s in (slice(0, -(-n // 2)), slice(n // 2, n))))
    return x


def _cut(part: slice, v: npt.NDArray[E]) -> npt.NDArray[E]:
    return v[:, part]


def _flat(v: npt.NDArray[E]) -> npt.NDArray[E]:
    return v.reshape(v.shape[0], -1)


def _ends(x: Interval) -> dict[str, float]:
    """The largest range that has 0 in it, as numbers of a lemma."""
    return {
        "lo": float(np.min(x.lo, initial=0.0)),
        "hi": float(np.max(x.hi, initial=0.0)),
    }


def _distance(x: Interval) -> Radius:
    """|f − x|."""
    return apply(OWN_GRID, X=x.magnitude, **_ends(x))


def _moved_by(x: Interval) -> AffineMap:
    part = moved_part(lambda v: v, lambda v: v)
    return AffineMap((part,), np.zeros(x.shape), _distance(x).bound)


def _difference(x: Interval, given: Radius) -> DifferenceMap:
    """f(x̂) − f(x) is d up to the distances of both from their x, and nothing where d is."""
    zero, error = np.zeros(x.shape), given.bound
    plain = affine_differences(AffineMap(_moved_by(x).parts, zero, zero), [given])
    rest = exactly_zero(EXACT, x.shape)
    if np.any(error):
        rest = _distance(x) + _distance(x.inflate(error))

    def backward(c: FloatArray) -> Moved:
        pulled = plain.backward(c)
        return Moved(pulled.coefficients, carried_back((pulled.cost, rest.weighed(c))))

    return DifferenceMap(plain.radius + rest, backward)


def _with_scales(site: Site, scales: FloatArray) -> Site:
    constants = list(site.constants)
    constants[_SCALE] = scales
    return replace(site, constants=tuple(constants))


def _least(scales: FloatArray) -> float:
    """The least of the scales, 0 if one is no finite number."""
    return float(np.min(scales, initial=np.inf)) if np.all(np.isfinite(scales)) else 0.0


def _precise(r: Rounder, site: Site, scales: FloatArray, error: Radius) -> Precondition:
    """What `error` asks for, of the node with the scales that reach it."""
    return Precondition.of(
        "precise-enough",
        f"{site.node.describe()}: the unit roundoff {r.unit:.3g} must not exceed {_COARSEST:.3g}, "
        f"nor the smallest normal number {r.smallest_normal:.3g} the scale {_least(scales):.3g}",
        error,
    )


def _rounding(
    p: DynamicProduct, site: Site, x: Interval, result: Interval, contract: RuntimeContract
) -> RoundingBound:
    """|ŷ − Σ f(x̂)·w| for run-time x̂.

    ŝ has a relative error of at most 3u, each quotient by it one of u, so t̂ + ẑ and the exact
    x̂/ŝ + z differ by less than 2^10·u steps, and leave [−½, 255½] by no more: the stored number is
    within ½ + 2^11·u steps ŝ of x̂, or 0, and f(x̂) is within half a step s, or 0. Where ŝ is below
    the normal range x̂ and all that is stored for it is below 2^10 times its end, read as zero or
    not. The product of the exact sum with the scales has three relative errors of u, a scale one
    more, and may lose numbers below the normal range times a sum below 2^31. Where stored scales
    reach the node as others, ŵ − w is charged for all that is multiplied by them.
    """
    r = rounder(site, contract)
    if r.exact:
        apart = np.zeros(x.shape)
    else:
        grid = apply(COMPUTED_GRID, X=x.magnitude, u=r.unit, tiny=r.smallest_normal, **_ends(x))
        apart = grid.bound
    return _lost(p, site, x, apart, result.shape, r)


def _lost(
    p: DynamicProduct,
    site: Site,
    x: Interval,
    apart: FloatArray,
    shape: tuple[int, ...],
    r: Rounder,
) -> RoundingBound:
    """What is lost where stored numbers are `apart` from those that the product is meant of."""
    bytes_ = p.whole(site)
    levels = [Interval(*(np.full(x.shape, v) for v in (0.0, _LEVELS)))]
    levels.append(Interval(np.zeros(()), np.full((), _LEVELS)))
    if r.exact:
        exact = RoundingBound(exactly_zero(EXACT, shape))
        return no_wrapping(exact, p.product, bytes_, levels)
    scales = np.asarray(site.constants[_SCALE], np.float64)
    loss = stored_loss(r, scales).bound
    there = held(r, scales).values if np.any(loss) else scales
    if np.any(loss):
        own, site = site, _with_scales(site, add_up(scales, loss))
    size = p.size(site, add_up(x.magnitude, apart))
    other = np.zeros(())
    if np.any(loss):
        other = p.size(_with_scales(own, loss), add_up(x.magnitude, apart))
    error = apply(
        SCALED_INTEGERS,
        A=p.size(site, apart),
        B=size,
        C=other,
        u=r.unit,
        tiny=r.smallest_normal,
        least=_least(there),
    )
    largest = add_up(size, error.bound)
    largest = np.maximum(largest, 2.0 * float(np.max(x.magnitude, initial=0.0)))
    bound = finish(r, error, np.maximum(largest, 2.0**32))
    precise = _precise(r, site, there, error)
    bound = replace(bound, preconditions=(*bound.preconditions, precise))
    return no_wrapping(bound, p.product, bytes_, levels)


def _noise(site: Site, x: Interval, contract: RuntimeContract) -> Radius:
    """How far what is stored is from what is read at run time."""
    r = rounder(site, contract)
    unit, tiny = (0.0, 0.0) if r.exact else (r.unit, r.smallest_normal)
    return apply(COMPUTED_OWN_GRID, u=unit, tiny=tiny, **_ends(x)).on(x.shape)


def _reached(site: Site, x: Interval, contract: RuntimeContract) -> Interval:
    """What may be stored, as numbers: a whole number of steps, of which there are few where x is
    known well.

    With r the range, ŝ is within 3u of r/255, and a quotient by it off by 5u of itself at most; the
    zero point is −min/ŝ, likewise, taken to the nearest integer, and q − z lies in [−z, 255 − z].
    """
    r = rounder(site, contract)
    unit, tiny = (0.0, 0.0) if r.exact else (r.unit, r.smallest_normal)
    low = [min(float(np.min(v, initial=0.0)), 0.0) for v in (x.lo, x.hi)]
    high = [max(float(np.max(v, initial=0.0)), 0.0) for v in (x.lo, x.hi)]
    least = (high[0] - low[1]) / _LEVELS * (1.0 - 4.0 * unit - _WIDE)
    most = (high[1] - low[0]) / _LEVELS * (1.0 + 4.0 * unit + _WIDE)
    if not (unit <= _COARSEST and 2.0**12 * tiny < least and most < 2.0**100):
        return anywhere(x.shape)
    more = 1.0 + 6.0 * unit + _WIDE
    zeros = (_nearest(-low[1] / most / more)[0], _nearest(-low[0] / least * more)[1])
    if zeros[1] > zeros[0] + 1.0 or np.any(np.isnan(x.lo) | np.isnan(x.hi)):
        return anywhere(x.shape)
    down = np.where(x.lo >= 0, x.lo / most / more, x.lo / least * more)
    up = np.where(x.hi >= 0, x.hi / least * more, x.hi / most / more)
    first = np.clip(_nearest(down)[0], -zeros[1], _LEVELS - zeros[1])
    last = np.clip(_nearest(up)[1], -zeros[0], _LEVELS - zeros[0])
    lo = np.where(first >= 0, first * least, first * most)
    hi = np.where(last >= 0, last * most, last * least)
    slack = _WIDE * np.maximum(np.abs(lo), np.abs(hi))
    return Interval(lo - slack, hi + slack)


def _nearest(t: FloatArray | float) -> tuple[FloatArray, FloatArray]:
    """The integers within half of numbers, the least and the greatest where there are two."""
    return np.asarray(np.ceil(np.asarray(t) - 0.5)), np.asarray(np.floor(np.asarray(t) + 0.5))


def _meant(p: DynamicProduct, site: Site) -> Meaning:
    """The product of what is read, put on a grid of its own, and the stored numbers."""

    def rounding(site: Site, x: Interval, contract: RuntimeContract) -> Radius:
        r = rounder(site, contract)
        stored = x.inflate(_noise(site, x, contract).bound)  # of which the product is meant
        return _lost(p, site, stored, np.zeros(x.shape), site.outputs[0].shape, r).radius

    scaled = p.scaled(site)
    own = OwnGrid(noise=_noise, reached=_reached, rounding=rounding)
    weights = np.asarray(scaled.constants[1], np.float64)
    attributes = core_attributes(p.product, site)
    return Meaning(p.product.core.name, ((0, None), weights), attributes=attributes, own=own)


def dynamic_operator(name: str, p: DynamicProduct) -> Operator:
    """The operator of this name: of x, stored integers, their scales and zero points."""

    def real(site: Site, inputs: Inputs[ObjectArray], field: Field) -> tuple[ObjectArray, ...]:
        x = np.asarray(inputs[0])
        none = field.constant(np.zeros(1))
        flat = _flat(x)
        high = field.maximum(_extreme(field.maximum, flat), none)
        low = -field.maximum(_extreme(field.maximum, -flat), none)
        constant = field.compare(Relation.EQUAL, high, low)
        levels, one = field.constant(np.full(1, _LEVELS)), field.constant(np.ones(1))
        scale = field.select(constant, one, (high - low) / levels)
        zero = _STEPS.real(-low / scale, none, field)
        q = _STEPS.real(flat / scale, zero, field).reshape(x.shape)
        total = product_real(p.product, p.whole(site), _around(q, zero[:, 0], inputs), field)
        factor = np.multiply(*aligned((scale[:, 0], _numbers(inputs[_SCALE]))))
        return (np.multiply(*aligned((total, factor))),)

    def runtime(
        site: Site, inputs: Inputs[V], arithmetic: Arithmetic[V], contract: RuntimeContract
    ) -> tuple[V, ...]:
        x, shape = inputs[0], site.type_of(0).shape
        none = arithmetic.constant(np.zeros(1))
        flat = moved(x, _flat)
        high = arithmetic.maximum(_extreme(arithmetic.maximum, flat), none)
        low = arithmetic.minimum(_extreme(arithmetic.minimum, flat), none)
        levels, one = (arithmetic.constant(np.full(1, v)) for v in (_LEVELS, 1.0))
        scale = arithmetic.divide(arithmetic.subtract(high, low), levels)
        constant = arithmetic.compare(Relation.EQUAL, high, low)
        scale = arithmetic.select(constant, one, scale)
        zero = _STEPS.runtime(arithmetic.divide(arithmetic.negate(low), scale), none, arithmetic)
        q = _STEPS.runtime(arithmetic.divide(flat, scale), zero, arithmetic)
        q = moved(q, lambda v: v.reshape(v.shape[0], *shape))
        zero, scale = (moved(v, lambda w: w[:, 0]) for v in (zero, scale))
        total = product_runtime(p.product, p.whole(site), _around(q, zero, inputs), arithmetic)
        stored = moved(inputs[_SCALE], _numbers)
        factor = arithmetic.multiply(*aligned((scale, stored)))
        converted = integers_of(arithmetic).converted(total)
        return (arithmetic.multiply(*aligned((converted, factor))),)

    def values(site: Site, ranges: Sequence[Interval]) -> ValueMap:
        inner = affine_values(_moved_by(ranges[0]), ranges)
        return composed_values(inner, lambda f: p.product.core.values(p.scaled(site), [f]))

    def differences(
        site: Site, ranges: Sequence[Interval], errors: Sequence[Radius]
    ) -> DifferenceMap:
        f = affine_values(_moved_by(ranges[0]), ranges).range
        return composed_differences(
            _difference(ranges[0], errors[0]),
            lambda e: p.product.core.differences(p.scaled(site), [f], [e]),
        )

    def rounding(
        site: Site, inputs: Sequence[Interval], result: Interval, contract: RuntimeContract
    ) -> RoundingBound:
        return _rounding(p, site, inputs[0], result, contract)

    operator = Operator(
        name,
        11,
        check=lambda site: _check(p, site),
        real=real,
        runtime=runtime,
        values=values,
        differences=differences,
        rounding=rounding,
        work=lambda site: p.product.core.work(p.scaled(site)),
        dtypes=(DType.FLOAT32,),
        exact_integer_sums=True,
        jump=Discontinuity.OWN_GRID,
        meant=lambda site: _meant(p, site),
    )
    return operator.reading(*p.product.core.attributes)


def _around(q: V, zero: V, inputs: Inputs[V]) -> Inputs[V]:
    """The arguments of the product of integers."""
    return Inputs((q, inputs[1], zero, *inputs.given[_ZERO:]))
