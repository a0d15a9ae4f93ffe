"""Conv: cross-correlation with constant weights; groups, strides, dilations, pads, auto_pad.

Terms are summed input channel by input channel, kernel positions in row-major order, where a
contract pins the order; products with padding zeros are included.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import prod

import numpy as np
import numpy.typing as npt

from encoders.arithmetic.exact_fields import ObjectArray
from encoders.arithmetic.runtime import Arithmetic, factors, moved, sum_of_products, zero_padded
from encoders.arithmetic.values import E, Inputs, V
from encoders.contract.contract import RuntimeContract
from encoders.families.carried import transposed_conv, window_products
from encoders.families.parameters import require_shape
from encoders.families.products import Action, Map, ProductSum, linear_part, product_rounding
from encoders.families.signed_sum import check_float
from encoders.families.windows import Window, patches, scattered, window_of
from encoders.gradients.rule import Carried, Gradient, Reverse, each
from encoders.gradients.tape import Term
from encoders.numbers.enclosure import FloatArray, Interval, point
from encoders.operator import Field, Operator, RoundingBound, Site
from encoders.quantizing import Meaning
from encoders.relaxations.affine import AffineMap, affine_map, affine_semantics
from encoders.rounding.signs import of_product
from encoders.traits import Absorbing, Absorption, Extent, Likeness, Sums

_BLOCK = 2**18  # coefficients that stay in the processor's cache
_FEWEST = 16  # functionals side by side


def check(site: Site) -> None:
    check_float(site)
    if site.variable != (0,):
        raise site.unsupported("weights and bias must be constants")
    groups, x, w = site.integer("group", 1), site.type_of(0).shape, site.type_of(1).shape
    if x[1] != w[1] * groups or w[0] % groups:
        raise site.unsupported(f"{groups} groups do not fit input {x} and weights {w}")
    require_shape(site, 2, w[:1])
    if (w[0], *_window(site).output) != site.outputs[0].shape[1:]:
        raise site.unsupported("the attributes do not give the inferred output shape")


def _window(site: Site) -> Window:
    return window_of(site, site.type_of(1).shape[2:])


def _grouped(site: Site, weights: npt.NDArray[E]) -> npt.NDArray[E]:
    """Weights as (groups, outputs per group, terms)."""
    groups = site.integer("group", 1)
    return weights.reshape(groups, weights.shape[0] // groups, -1)


def _bias(site: Site) -> FloatArray | None:
    bias = site.constant(2)
    if bias is None:
        return None
    return np.asarray(bias, np.float64).reshape(-1, *(1,) * len(_window(site).kernel))


def real(site: Site, inputs: Inputs[ObjectArray], field: Field) -> tuple[ObjectArray, ...]:
    x, w = inputs[0], inputs[1]
    assert x is not None
    assert w is not None
    window, groups = _window(site), site.integer("group", 1)
    widths = [(0, 0), (0, 0), *zip(window.before, window.after, strict=True)]
    folded = x.reshape(-1, *x.shape[2:])
    padded = np.pad(folded, widths, constant_values=field.number(Fraction(0)))
    columns = patches(padded, window)
    columns = columns.reshape(folded.shape[0], groups, -1, _positions(window))
    product = field.matmul(_grouped(site, w[0])[None], columns)
    out = product.reshape(folded.shape[0], *site.outputs[0].shape[1:])
    bias = inputs.optional(2)
    if bias is not None:
        out = out + bias.reshape(1, -1, *(1,) * len(window.kernel))
    return (out.reshape(x.shape[0], *site.outputs[0].shape),)


def _positions(window: Window) -> int:
    return int(np.prod(window.output, dtype=np.int64))


def runtime(
    site: Site, inputs: Inputs[V], arithmetic: Arithmetic[V], contract: RuntimeContract
) -> tuple[V, ...]:
    window, groups = _window(site), site.integer("group", 1)
    samples, output = inputs[0].shape[0], site.outputs[0].shape
    folded = moved(inputs[0], lambda v: v.reshape(-1, *v.shape[2:]))
    padded = zero_padded(arithmetic, folded, window.before, window.after)

    def columns(v: npt.NDArray[E]) -> npt.NDArray[E]:
        return patches(v, window).reshape(v.shape[0], groups, 1, -1, _positions(window))

    x = moved(padded, columns)
    w = moved(inputs[1], lambda v: _grouped(site, v[0])[None, ..., None])
    bias = inputs.optional(2)
    if bias is not None:
        bias = moved(bias, lambda v: v.reshape(1, groups, -1, 1, 1))
    total = sum_of_products(arithmetic, contract, factors(x, 3, w, 3, w.shape[3]), bias)
    return (moved(total, lambda v: v.reshape(samples, *output)),)


def _action(site: Site) -> tuple[Action, FloatArray]:
    window, groups = _window(site), site.integer("group", 1)
    weights = site.coefficients(1)
    shape, output = site.type_of(0).shape, site.outputs[0].shape
    spatial, channels = shape[2:], shape[1]
    widths = [(0, 0), (0, 0), *zip(window.before, window.after, strict=True)]
    positions = _positions(window)

    def apply(w: FloatArray) -> Map:
        rows = _grouped(site, w)

        def forward(x: FloatArray) -> FloatArray:
            folded = np.pad(x.reshape(-1, *shape[1:]), widths)
            columns = patches(folded, window).reshape(folded.shape[0], groups, -1, positions)
            return np.asarray((rows @ columns).reshape(x.shape[0], *output))

        return forward

    def adjoint(w: FloatArray) -> Map:
        columns = np.swapaxes(_grouped(site, w), -1, -2)
        kernel = int(np.prod(window.kernel, dtype=np.int64))

        def back(c: FloatArray) -> FloatArray:
            grouped = c.reshape(c.shape[0] * shape[0], groups, -1, positions)
            if len(grouped) > window.output[-1] and kernel > 1:
                return beside(grouped).reshape(c.shape[0], *shape)
            parts = columns @ grouped
            parts = parts.reshape(-1, channels, kernel, *window.output)
            return np.asarray(scattered(parts, window, spatial).reshape(c.shape[0], *shape))

        def beside(grouped: FloatArray) -> FloatArray:
            """Many functionals: they lie side by side in memory, and are added up so."""
            every = np.empty((len(grouped), channels, *spatial))
            block = max(_BLOCK // (channels * kernel * positions), _FEWEST)
            for start in range(0, len(grouped), block):
                some = np.moveaxis(grouped[start : start + block], 0, -1)
                parts = columns @ some.reshape(groups, -1, positions * some.shape[-1])
                parts = parts.reshape(1, channels, kernel, *window.output, some.shape[-1])
                (found,) = scattered(parts, window, spatial)
                every[start : start + block] = np.moveaxis(found, -1, 0)
            return every

        return back

    per_group = weights.shape[0] // groups
    kernel = int(np.prod(window.kernel, dtype=np.int64))
    return Action(apply, adjoint, kernel * weights.shape[1], kernel * per_group), weights


def _affine(site: Site) -> AffineMap:
    action, weights = _action(site)
    return affine_map((linear_part(action, weights),), site.outputs[0].shape, _bias(site))


values, differences = affine_semantics(_affine)


def rounding(
    site: Site, inputs: Sequence[Interval], result: Interval, contract: RuntimeContract
) -> RoundingBound:
    action, weights = _action(site)
    bias = _bias(site)
    s = ProductSum(action, weights, None if bias is None else point(bias))
    return product_rounding(site, s, inputs, contract, runtime)


def _extent(site: Site) -> Extent:
    w = site.type_of(1).shape
    return Extent(
        terms=prod(w[1:]),
        rows=w[0] // site.integer("group", 1),
        columns=prod(site.outputs[0].shape[2:]),
    )


def _per_weight(site: Site, scale: FloatArray) -> FloatArray:
    return scale.reshape(-1, *(1,) * (len(site.type_of(1).shape) - 1))


def _meant(site: Site) -> Meaning | None:
    """Without its bias, where that and the weights are stored."""
    if site.variable != (0,) or site.constant(2) is None:
        return None
    weights, bias = (np.asarray(site.constants[i], np.float64) for i in (1, 2))
    along = bias.reshape(-1, *(1,) * (len(site.outputs[0].shape) - 2))
    return Meaning(site.node.op, ((0, None), weights), site.node.attributes, bias=along)


def gradient(r: Reverse) -> Carried:
    """Of the input: the transposed convolution. Of weights: a product of the cotangent with the
    windows, over all samples and places at once."""
    site, w = r.site, r.read(1)
    window, groups = _window(site), site.integer("group", 1)

    def to_weights() -> Term:
        per_group = (groups, w.shape[0] // groups)
        return window_products(r.x, r.up, window, per_group).reshaped(w.shape)

    return each(
        ((0, lambda: transposed_conv(r, r.up, w, window)), (1, to_weights), (2, r.up.per_channel)),
        r,
    )


OPERATORS = (
    Operator(
        "Conv",
        since=1,
        check=check,
        real=real,
        runtime=runtime,
        values=values,
        differences=differences,
        rounding=rounding,
        gradient=Gradient(rule=gradient),
        followed=(runtime,),
        affine=True,
        factors=(0, 1),
        rowwise=lambda site: site.variable == (0,),
        work=lambda site: site.outputs[0].size * _action(site)[0].terms,
        meant=_meant,
        keeps=of_product,
        likeness=Likeness(
            implied=frozenset({"kernel_shape"}), linear_in_constants=True, per_weight=_per_weight
        ),
        sums=Sums(_extent, products=True, weights_left=True, batched=lambda site: True),
        absorbs=Absorbing(Absorption.MATRIX),
    ).reading("auto_pad", "dilations", "group", "kernel_shape", "pads", "strides"),
)
