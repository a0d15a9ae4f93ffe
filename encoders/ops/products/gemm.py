"""Gemm: alpha·A'·B' + beta·C, A' and B' optionally transposed.

Where alpha is not 1, the finished sum is multiplied by it and beta·C is added last. Where the order
of sums is open, long ones are also scaled in blocks, whose sums and beta·C are then added up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np

from encoders.arithmetic.exact_fields import ObjectArray
from encoders.arithmetic.runtime import Arithmetic, adds_in_any_order, moved, sum_of_products
from encoders.arithmetic.values import Inputs, V
from encoders.contract.contract import AnyOrder, BiasPlacement, OpenSchedule, RuntimeContract
from encoders.families.computed_gemm import bilinear_of, computed_differences, computed_values
from encoders.families.matrix import left_action, product_pairs, right_action
from encoders.families.product_rounding import (
    SCALED_AT_ONCE,
    scaled_by_blocks,
    varying_rounding,
)
from encoders.families.products import (
    Action,
    Map,
    ProductSum,
    any_order_rounding,
    linear_part,
    product_rounding,
)
from encoders.families.signed_sum import check_float, require_normal
from encoders.gradients.rule import Carried, Gradient, Reverse, each
from encoders.gradients.tape import Term
from encoders.lemmas.combining import EXACT
from encoders.lemmas.kernel import Radius, exactly_zero
from encoders.numbers.enclosure import (
    SMALLEST,
    FloatArray,
    Interval,
    LinearPart,
    multiply_up,
    point,
)
from encoders.operator import DifferenceMap, Field, Operator, RoundingBound, Site, ValueMap
from encoders.quantizing import Meaning
from encoders.relaxations.affine import (
    AffineMap,
    affine_differences,
    affine_map,
    affine_values,
    scaled_part,
)
from encoders.relaxations.bilinear import LEMMAS as BILINEAR
from encoders.relaxations.bilinear import bilinear_values
from encoders.relaxations.narrowing import product_constants
from encoders.rounding.error_arithmetic import ErrorArithmetic, of_output, traced
from encoders.rounding.rounding_bounds import Rounder, finish, rounder
from encoders.rounding.signs import of_product
from encoders.rounding.tracked import Tracked, tracked
from encoders.traits import Absorbing, Absorption, Extent, Likeness, Product, Sums
from onnx_import.graph import DType


def check(site: Site) -> None:
    check_float(site)
    if not {0, 1} & set(site.variable):
        raise site.unsupported("A and B are both constants; leave the product out")
    bias = site.inputs[2] if len(site.inputs) > 2 else None
    if bias is not None and not _reaches(bias.shape, site.outputs[0].shape):
        raise site.unsupported(f"C of shape {list(bias.shape)} does not broadcast to the output")
    alpha = site.real("alpha", 1.0)
    for constant in site.constants[:2]:
        if constant is not None and alpha != 1.0:
            wide = np.asarray(constant, np.float64)
            require_normal(site, wide * alpha, wide, np.asarray(alpha))


def _reaches(shape: tuple[int, ...], target: tuple[int, ...]) -> bool:
    """Does a shape broadcast to another one, without making it larger?"""
    trailing = target[len(target) - len(shape) :]
    return len(shape) <= len(target) and all(
        a in (1, b) for a, b in zip(shape, trailing, strict=True)
    )


def _transposed(site: Site, position: int) -> bool:
    return site.integer(("transA", "transB")[position], 0) != 0


def _factors(site: Site, inputs: Inputs[V]) -> tuple[V, V]:
    def factor(position: int) -> V:
        if not _transposed(site, position):
            return inputs[position]
        return moved(inputs[position], lambda v: np.swapaxes(v, -1, -2))

    return factor(0), factor(1)


def _has_bias(site: Site) -> bool:
    return len(site.inputs) > 2 and site.inputs[2] is not None and site.real("beta", 1.0) != 0.0


def real(site: Site, inputs: Inputs[ObjectArray], field: Field) -> tuple[ObjectArray, ...]:
    a, b = (
        np.swapaxes(v, -1, -2) if site.integer(flag, 0) else v
        for v, flag in zip(inputs[:2], ("transA", "transB"), strict=True)
    )
    total = field.matmul(a, b) * field.number(Fraction(site.real("alpha", 1.0)))
    c = inputs.optional(2)
    if c is not None:
        c = c.reshape(c.shape[0], *(1,) * (3 - c.ndim), *c.shape[1:])
        total = total + c * field.number(Fraction(site.real("beta", 1.0)))
    return (total,)


def runtime(
    site: Site, inputs: Inputs[V], arithmetic: Arithmetic[V], contract: RuntimeContract
) -> tuple[V, ...]:
    pairs = product_pairs(*_factors(site, inputs))
    alpha = site.real("alpha", 1.0)
    bias = _runtime_bias(site, inputs, arithmetic)
    if alpha == 1.0:
        return (sum_of_products(arithmetic, contract, pairs, bias),)
    if len(pairs) > SCALED_AT_ONCE and adds_in_any_order(arithmetic):
        raise OpenSchedule("which parts of a sum are scaled before they are added up is left open")
    return (_scaled(site, sum_of_products(arithmetic, contract, pairs), bias, arithmetic),)


def _factor(site: Site, arithmetic: Arithmetic[V]) -> V:
    return arithmetic.constant(np.full((1, 1), site.real("alpha", 1.0), np.float32))


def _scaled(site: Site, total: V, bias: V | None, arithmetic: Arithmetic[V]) -> V:
    factor = _factor(site, arithmetic)
    if bias is None:
        return arithmetic.multiply(factor, total)
    return arithmetic.multiply_add(factor, total, bias)


def _runtime_bias(site: Site, inputs: Inputs[V], arithmetic: Arithmetic[V]) -> V | None:
    if not _has_bias(site):
        return None
    c = moved(inputs[2], lambda v: v.reshape(v.shape[0], *(1,) * (3 - v.ndim), *v.shape[1:]))
    beta = site.real("beta", 1.0)
    if beta == 1.0:
        return c
    return arithmetic.multiply(arithmetic.constant(np.full((1, 1), beta, np.float32)), c)


def _action(site: Site) -> tuple[Action, FloatArray]:
    """How the constant factor acts, transposed as the node says, alpha left out."""
    position = 0 if 0 in site.variable else 1
    weights = site.coefficients(1 - position)
    if _transposed(site, 1 - position):
        weights = weights.T
    shape = site.type_of(position).shape
    if not _transposed(site, position):
        make = right_action if position == 0 else left_action
        return make(weights.shape, shape, site.outputs[0].shape), weights
    make = right_action if position == 0 else left_action
    plain = make(weights.shape, shape[::-1], site.outputs[0].shape)

    def apply(w: FloatArray) -> Map:
        inner = plain.apply(w)
        return lambda x: inner(np.swapaxes(x, -1, -2))

    def adjoint(w: FloatArray) -> Map:
        inner = plain.adjoint(w)
        return lambda c: np.swapaxes(inner(c), -1, -2)

    return Action(apply, adjoint, plain.terms, plain.adjoint_terms), weights


def _is_computed(site: Site) -> bool:
    """Do both factors depend on the network's input?"""
    return {0, 1} <= set(site.variable)


def _affine(site: Site) -> AffineMap:
    """Products of float32 factors are exact in float64; float64 models pay a relative 2^-52."""
    action, weights = _action(site)
    alpha, added = site.real("alpha", 1.0), _added(site)
    wide = site.outputs[0].dtype is DType.FLOAT64
    relative = 2.0**-52 if wide and alpha != 1.0 else 0.0
    return replace(added, parts=(linear_part(action, weights * alpha, relative), *added.parts))


def _added(site: Site) -> AffineMap:
    """beta·C alone."""
    beta, shape = site.real("beta", 1.0), site.outputs[0].shape
    wide = site.outputs[0].dtype is DType.FLOAT64
    parts: list[LinearPart] = []
    bias, radius = np.zeros(shape), np.zeros(shape)
    if 2 in site.variable:
        loss = 2.0**-52 if wide and beta != 1.0 else 0.0
        parts.append(scaled_part(np.asarray(beta), site.type_of(2).shape, shape, loss))
    elif _has_bias(site):
        bias = np.broadcast_to(np.asarray(site.constants[2], np.float64) * beta, shape)
        if wide and beta != 1.0:
            radius = np.maximum(multiply_up(np.abs(bias), 2.0**-52), SMALLEST)
    return AffineMap(tuple(parts), bias, radius)


def values(site: Site, ranges: Sequence[Interval]) -> ValueMap:
    if _is_computed(site):
        return computed_values(site, _added(site), ranges)
    return affine_values(_affine(site), ranges)


def differences(site: Site, ranges: Sequence[Interval], errors: Sequence[Radius]) -> DifferenceMap:
    if _is_computed(site):
        return computed_differences(site, _added(site), ranges, errors)
    return affine_differences(_affine(site), errors)


def rounding(
    site: Site, inputs: Sequence[Interval], result: Interval, contract: RuntimeContract
) -> RoundingBound:
    if _is_computed(site):
        return _computed_rounding(site, inputs, contract)
    action, weights = _action(site)
    bias = None
    if _has_bias(site):
        c = site.constants[2]
        bias = inputs[1] if c is None else point(np.asarray(c, np.float64))
    if site.real("alpha", 1.0) == 1.0 and (bias is None or site.real("beta", 1.0) == 1.0):
        s = ProductSum(action, weights, bias)
        return product_rounding(site, s, inputs, contract, runtime)
    free = isinstance(contract.order, AnyOrder)
    if site.real("alpha", 1.0) == 1.0 and (free or contract.bias is BiasPlacement.ANY):
        return _free_rounding(site, ProductSum(action, weights, None), inputs, contract)
    if not free:
        return traced(runtime, site, inputs, contract)
    return _scaled_rounding(site, ProductSum(action, weights, None), inputs, contract)


def _tracked_bias(
    site: Site, inputs: Sequence[Interval], arithmetic: ErrorArithmetic
) -> Tracked | None:
    """beta·C as the runtime computes it, None if there is none."""
    if not _has_bias(site):
        return None
    constant = site.constants[2]
    c = (
        tracked(inputs[-1], exactly_zero(EXACT, inputs[-1].shape))
        if constant is None
        else arithmetic.stored(constant)
    )
    return _runtime_bias(site, Inputs((None, None, c)), arithmetic)


def _free_rounding(
    site: Site, s: ProductSum, inputs: Sequence[Interval], contract: RuntimeContract
) -> RoundingBound:
    """beta·C is computed first, and may then enter the sum anywhere."""
    r = rounder(site, contract)
    scaled = _tracked_bias(site, inputs, ErrorArithmetic(r, contract))
    assert scaled is not None
    bias = Interval(scaled.ideal.lo[0], scaled.ideal.hi[0])
    return any_order_rounding(r, ProductSum(s.action, s.weights, bias, scaled.sample), inputs[0])


def _scaled_rounding(
    site: Site, s: ProductSum, inputs: Sequence[Interval], contract: RuntimeContract
) -> RoundingBound:
    """Any-order sum first, then the scaling and the bias step by step."""
    r = rounder(site, contract)
    plain, part = any_order_rounding(r, s, inputs[0]), linear_part(s.action, s.weights)
    range_ = affine_values(affine_map((part,), site.outputs[0].shape), inputs[:1]).range
    size = part.magnitude_up(inputs[0].magnitude)
    return _rescaled(site, inputs, plain=plain, range_=range_, size=size, r=r, contract=contract)


def _rescaled(
    site: Site,
    inputs: Sequence[Interval],
    plain: RoundingBound,
    *,
    range_: Interval,
    size: FloatArray,
    r: Rounder,
    contract: RuntimeContract,
) -> RoundingBound:
    """A sum in a range, whose terms' magnitudes add up to `size`, times alpha, and beta·C added:
    finished before it is scaled, or where it is long, in blocks each of which is."""
    arithmetic = ErrorArithmetic(r, contract)
    terms = _extent(site).terms
    if terms > SCALED_AT_ONCE:
        done = scaled_by_blocks(
            r,
            plain.radius,
            size,
            terms=terms,
            factor=_factor(site, arithmetic),
            bias=_tracked_bias(site, inputs, arithmetic),
        )
        return RoundingBound(
            done.radius, (*plain.preconditions, *done.preconditions), plain.besides
        )
    total = tracked(range_, plain.radius)
    out = _scaled(site, total, _tracked_bias(site, inputs, arithmetic), arithmetic)
    done = finish(r, of_output(out, site), np.asarray(out.largest))
    return RoundingBound(done.radius, (*plain.preconditions, *done.preconditions), plain.besides)


def _computed_rounding(
    site: Site, inputs: Sequence[Interval], contract: RuntimeContract
) -> RoundingBound:
    """Both factors vary: as with stored ones, but for what products lose."""
    plain = site.real("alpha", 1.0) == 1.0
    free_bias = plain and _has_bias(site) and contract.bias is BiasPlacement.ANY
    if not isinstance(contract.order, AnyOrder) and not free_bias:
        return traced(runtime, site, inputs, contract).using(*BILINEAR)
    r, product = rounder(site, contract), bilinear_of(site)
    a, b = inputs[:2]
    if not plain:
        total = varying_rounding(r, product, a, b)
        range_ = bilinear_values(product, inputs[:2], None).range
        size = product.on_x(b.magnitude).magnitude_up(a.magnitude)
        return _rescaled(
            site, inputs, plain=total, range_=range_, size=size, r=r, contract=contract
        ).using(*BILINEAR)
    added = _tracked_bias(site, inputs, ErrorArithmetic(r, contract))
    if added is None:
        return varying_rounding(r, product, a, b).using(*BILINEAR)
    bias = Interval(added.ideal.lo[0], added.ideal.hi[0])
    return varying_rounding(r, product, x=a, y=b, bias=bias, bias_error=added.sample).using(
        *BILINEAR
    )


def _scalings(site: Site) -> tuple[int, int]:
    """A finished sum is multiplied by alpha and added to beta·C, which may be rounded too."""
    plain = site.real("alpha", 1.0) == 1.0
    return 0 if plain else 2, 0 if plain and site.real("beta", 1.0) == 1.0 else 2


def _largest_scaling(site: Site) -> float:
    return max(1.0, abs(site.real("alpha", 1.0)), abs(site.real("beta", 1.0)))


def _work(site: Site) -> int:
    terms = site.type_of(0).shape[0 if _transposed(site, 0) else 1]
    return site.outputs[0].size * terms


def _extent(site: Site) -> Extent:
    rows, columns = site.outputs[0].shape
    terms = site.type_of(0).shape[0 if _transposed(site, 0) else 1]
    return Extent(terms, rows=rows, columns=columns, plain=site.real("alpha", 1.0) == 1.0)


def _first(site: Site, terms: int) -> Site:
    position = 1 if 0 in site.variable else 0
    kept = np.array(site.constants[position])
    along = np.moveaxis(kept, 1 - position if not _transposed(site, position) else position, 0)
    along[terms:] = 0
    constants = tuple(kept if i == position else c for i, c in enumerate(site.constants))
    return replace(site, constants=constants)


def _product(site: Site) -> Product | None:
    matrix = site.constant(1)
    if matrix is None or _transposed(site, 0):
        return None
    if site.real("alpha", 1.0) != 1.0 or site.real("beta", 1.0) != 1.0:
        return None
    bias = 2 if len(site.inputs) > 2 and site.inputs[2] is not None else None
    return Product(matrix.T if _transposed(site, 1) else matrix, bias)


def _rowwise(site: Site) -> bool:
    """The second factor is stored, and a C that varies has a row for each of the first's."""
    plain = 0 in site.variable and 1 not in site.variable and not _transposed(site, 0)
    return plain and (2 not in site.variable or len(site.type_of(2).shape) == 2)


def _meant(site: Site) -> Meaning | None:
    """The product and the sum that it is, where all but its first factor is stored."""
    product = _product(site)
    if product is None or site.variable != (0,):
        return None
    bias = None if product.bias is None else np.asarray(site.constants[product.bias], np.float64)
    weights = np.asarray(product.matrix, np.float64)
    return Meaning("MatMul", ((0, None), weights), bias=bias)


def _per_weight(site: Site, scale: FloatArray) -> FloatArray:
    return scale[:, None] if _transposed(site, 1) else scale[None, :]


def gradient(r: Reverse) -> Carried:
    site, a, b = r.site, r.x, r.read(1)
    alpha, beta = site.real("alpha", 1.0), site.real("beta", 1.0)

    def scaled() -> Term:
        return r.up if alpha == 1.0 else r.up * alpha

    def to_left() -> Term:
        found = scaled().matmul(b if _transposed(site, 1) else b.transposed)
        return found.transposed if _transposed(site, 0) else found

    def to_right() -> Term:
        found = (a if _transposed(site, 0) else a.transposed).matmul(scaled())
        return found.transposed if _transposed(site, 1) else found

    def to_bias() -> Term:
        return (r.up if beta == 1.0 else r.up * beta).unbroadcast(r.read(2).shape)

    return each(((0, to_left), (1, to_right), (2, to_bias)), r)


OPERATORS = (
    Operator(
        "Gemm",
        since=7,
        check=check,
        real=real,
        runtime=runtime,
        values=values,
        differences=differences,
        rounding=rounding,
        gradient=Gradient(rule=gradient),
        followed=(runtime,),
        affine=True,
        narrowed=product_constants,
        factors=(0, 1),
        affine_where=lambda site: not _is_computed(site),
        rowwise=_rowwise,
        work=_work,
        meant=_meant,
        keeps=of_product,
        likeness=Likeness(product=_product, linear_in_constants=True, per_weight=_per_weight),
        sums=Sums(
            _extent, products=True, batched=lambda site: not _transposed(site, 0), first=_first
        ),
        absorbs=Absorbing(Absorption.MATRIX, scalings=_scalings, factor=_largest_scaling),
    ).reading("alpha", "beta", "transA", "transB"),
)
