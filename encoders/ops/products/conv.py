"""Conv: cross-correlation; groups, strides, dilations, pads, auto_pad.

Terms are summed input channel by input channel, kernel positions in row-major order, where a
contract pins the order; products with padding zeros are included.
"""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction
from math import prod

import numpy as np
import numpy.typing as npt

from encoders.arithmetic.exact_fields import ObjectArray
from encoders.arithmetic.runtime import Arithmetic, moved, sum_of_products, zero_padded
from encoders.arithmetic.slices import factors
from encoders.arithmetic.values import E, Inputs, V
from encoders.contract.contract import RuntimeContract
from encoders.families.carried import transposed_conv, window_products
from encoders.families.convolving import (
    convolution_semantics,
    has_computed_weights,
    require_computed,
)
from encoders.families.parameters import require_shape
from encoders.families.products import Action, Map
from encoders.families.signed_sum import check_float
from encoders.families.windows import Window, patches, scattered, window_of
from encoders.gradients.rule import Carried, Gradient, Reverse, each
from encoders.gradients.tape import Term
from encoders.numbers.enclosure import FloatArray
from encoders.operator import Field, Operator, Site
from encoders.quantizing import Meaning
from encoders.rounding.signs import of_product
from encoders.traits import Absorbing, Absorption, Extent, Likeness, Sums

_BLOCK = 2**18  # coefficients that stay in the processor's cache
_FEWEST = 16  # functionals side by side


def check(site: Site) -> None:
    check_float(site)
    require_computed(site)
    groups, x, w = site.integer("group", 1), site.type_of(0).shape, site.type_of(1).shape
    if x[1] != w[1] * groups or w[0] % groups:
        raise site.unsupported(f"{groups} groups do not fit input {x} and weights {w}")
    require_shape(site, 2, w[:1])
    if (w[0], *_window(site).output) != site.outputs[0].shape[1:]:
        raise site.unsupported("the attributes do not give the inferred output shape")


def _window(site: Site) -> Window:
    return window_of(site, site.type_of(1).shape[2:])


def _grouped(site: Site, weights: npt.NDArray[E]) -> npt.NDArray[E]:
    """Weights (k, *weights) as (k, 1, groups, outputs per group, terms)."""
    groups, outputs = site.integer("group", 1), weights.shape[1]
    return weights.reshape(len(weights), 1, groups, outputs // groups, -1)


def real(site: Site, inputs: Inputs[ObjectArray], field: Field) -> tuple[ObjectArray, ...]:
    x, w = inputs[0], inputs[1]
    assert x is not None
    assert w is not None
    window, groups = _window(site), site.integer("group", 1)
    widths = [(0, 0), (0, 0), *zip(window.before, window.after, strict=True)]
    folded = x.reshape(-1, *x.shape[2:])
    padded = np.pad(folded, widths, constant_values=field.number(Fraction(0)))
    columns = patches(padded, window).reshape(*x.shape[:2], groups, -1, _positions(window))
    product = field.matmul(_grouped(site, w), columns)
    out = product.reshape(len(product), *site.outputs[0].shape)
    bias = inputs.optional(2)
    if bias is not None:
        out = out + bias.reshape(len(bias), 1, -1, *(1,) * len(window.kernel))
    return (out,)


def _positions(window: Window) -> int:
    return math.prod(window.output)


def runtime(
    site: Site, inputs: Inputs[V], arithmetic: Arithmetic[V], contract: RuntimeContract
) -> tuple[V, ...]:
    window, groups = _window(site), site.integer("group", 1)
    batch, output = site.type_of(0).shape[0], site.outputs[0].shape
    folded = moved(inputs[0], lambda v: v.reshape(-1, *v.shape[2:]))
    padded = zero_padded(arithmetic, folded, window.before, window.after)

    def columns(v: npt.NDArray[E]) -> npt.NDArray[E]:
        read = patches(v, window)
        return read.reshape(len(v) // batch, batch, groups, 1, -1, _positions(window))

    x = moved(padded, columns)
    w = moved(inputs[1], lambda v: _grouped(site, v)[..., None])
    bias = inputs.optional(2)
    if bias is not None:
        bias = moved(bias, lambda v: v.reshape(len(v), 1, groups, -1, 1, 1))
    total = sum_of_products(arithmetic, contract, factors(x, 4, w, 4, w.shape[4]), bias)
    return (moved(total, lambda v: v.reshape(len(v), *output)),)


def _action(site: Site) -> Action:
    """How weights act on the input."""
    window, groups = _window(site), site.integer("group", 1)
    shape, output = site.type_of(0).shape, site.outputs[0].shape
    spatial, channels = shape[2:], shape[1]
    widths = [(0, 0), (0, 0), *zip(window.before, window.after, strict=True)]
    positions = _positions(window)

    def apply(w: FloatArray) -> Map:
        rows = _grouped(site, w[None])[0, 0]

        def forward(x: FloatArray) -> FloatArray:
            folded = np.pad(x.reshape(-1, *shape[1:]), widths)
            columns = patches(folded, window).reshape(folded.shape[0], groups, -1, positions)
            return np.asarray((rows @ columns).reshape(x.shape[0], *output))

        return forward

    def adjoint(w: FloatArray) -> Map:
        columns = np.swapaxes(_grouped(site, w[None])[0, 0], -1, -2)
        kernel = math.prod(window.kernel)

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

    weights = site.type_of(1).shape
    kernel = prod(window.kernel)
    return Action(apply, adjoint, kernel * weights[1], kernel * (weights[0] // groups))


def _action_on_weights(site: Site) -> Action:
    """How the input acts on weights."""
    window, groups = _window(site), site.integer("group", 1)
    batch, output, weights = site.type_of(0).shape[0], site.outputs[0].shape, site.type_of(1).shape
    widths = [(0, 0), (0, 0), *zip(window.before, window.after, strict=True)]

    def columns(x: FloatArray) -> FloatArray:
        return patches(np.pad(x, widths), window).reshape(batch, groups, -1, _positions(window))

    def apply(x: FloatArray) -> Map:
        read = columns(x)
        return lambda w: np.asarray((_grouped(site, w) @ read).reshape(len(w), *output))

    def adjoint(x: FloatArray) -> Map:
        read = np.swapaxes(columns(x), -1, -2)

        def back(c: FloatArray) -> FloatArray:
            rows = c.reshape(len(c), batch, groups, -1, _positions(window))
            return np.asarray((rows @ read).sum(axis=1).reshape(len(c), *weights))

        return back

    return Action(apply, adjoint, prod(weights[1:]), batch * _positions(window))


values, differences, rounding = convolution_semantics(_action, _action_on_weights, runtime)


def _extent(site: Site) -> Extent:
    """Of one channel whose rows the kernel takes whole, the image itself is the matrix, transposed:
    no other one is made of its patches."""
    x, w = site.type_of(0).shape, site.type_of(1).shape
    return Extent(
        terms=prod(w[1:]),
        rows=w[0] // site.integer("group", 1),
        columns=prod(site.outputs[0].shape[2:]),
        plain=w[1] == 1 and w[-1] == x[-1],
    )


def _first(site: Site, terms: int) -> Site:
    kept = np.array(site.constants[1])
    kept.reshape(len(kept), -1)[:, terms:] = 0
    return replace(site, constants=(site.constants[0], kept, *site.constants[2:]))


def _per_weight(site: Site, scale: FloatArray) -> FloatArray:
    return scale.reshape(-1, *(1,) * (len(site.type_of(1).shape) - 1))


def _feeding(site: Site) -> npt.NDArray[np.intp]:
    outputs, each, *kernel = site.type_of(1).shape
    group = np.arange(outputs) // (outputs // site.integer("group", 1))
    channels = group[:, None] * each + np.arange(each)
    return channels.reshape(outputs, each, *(1,) * len(kernel))


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
        affine_where=lambda site: not has_computed_weights(site),
        factors=(0, 1),
        rowwise=lambda site: site.variable == (0,),
        work=lambda site: site.outputs[0].size * prod(site.type_of(1).shape[1:]),
        meant=_meant,
        keeps=of_product,
        likeness=Likeness(
            implied=frozenset({"kernel_shape"}),
            linear_in_constants=True,
            per_weight=_per_weight,
            feeding=_feeding,
        ),
        sums=Sums(
            _extent, products=True, weights_left=True, batched=lambda site: True, first=_first
        ),
        absorbs=Absorbing(Absorption.MATRIX),
    ).reading("auto_pad", "dilations", "group", "kernel_shape", "pads", "strides"),
)
