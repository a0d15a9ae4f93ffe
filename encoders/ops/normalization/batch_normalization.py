"""BatchNormalization in inference: (x − mean)/√(var + epsilon)·gamma + beta, per channel.

The contract says which formula a runtime computes: folded into one scale and shift, or direct.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from encoders.arithmetic.exact_fields import ObjectArray
from encoders.arithmetic.runtime import Arithmetic, moved
from encoders.arithmetic.values import E, Inputs, V
from encoders.contract.contract import Normalization, OpenSchedule, RuntimeContract
from encoders.families.parameters import require_shape
from encoders.families.signed_sum import check_float, require_normal
from encoders.gradients.rule import Carried, Gradient, Reverse, each
from encoders.gradients.tape import Term
from encoders.lemmas.kernel import any_of, enclosed
from encoders.lemmas.ranges.functions import MONOTONE_RANGE
from encoders.lemmas.ranges.placing import range_of
from encoders.numbers.enclosure import (
    SMALLEST,
    FloatArray,
    Interval,
    add_down,
    add_up,
    all_in_blocks,
    multiply_up,
)
from encoders.operator import Field, Operator, RoundingBound, Site, ValueMap
from encoders.relaxations.affine import AffineMap, affine_semantics, affine_values, scaled_part
from encoders.rounding.error_arithmetic import traced
from encoders.site import Element
from encoders.traits import Absorbing, Absorption, ChannelMap, Likeness
from onnx_import.graph import TensorType

_LEMMAS = (
    "batch-norm-fold",
    "underflow-term",
    "product-error",
    "quotient-error",
)
_MANY = 2**14  # elements beyond which those of a channel are bounded together


def check(site: Site) -> None:
    check_float(site)
    if site.variable != (0,):
        raise site.unsupported("scale, bias, mean and variance must be constants")
    if site.integer("training_mode", 0) or (site.node.opset < 7 and not site.integer("is_test", 0)):
        raise site.unsupported("training_mode=1 (batch statistics) is not supported")
    if len([t for t in site.node.outputs if t]) != 1 or len(site.outputs) != 1:
        raise site.unsupported("only the first output has a meaning in inference")
    if site.integer("spatial", 1) != 1:
        raise site.unsupported("attribute 'spatial' must be 1")
    shape = site.type_of(0).shape
    if len(shape) < 2:
        raise site.unsupported("its input has no axis of channels")
    for position in range(1, 5):
        require_shape(site, position, (shape[1],))
    if np.any(_variance(site) <= 0) or np.any(np.asarray(site.constants[4], np.float64) < 0):
        raise site.unsupported("a variance is negative, or variance + epsilon is not positive")
    gamma = np.asarray(site.constants[1], np.float64)
    require_normal(site, gamma / np.sqrt(_variance(site)), gamma)


def _variance(site: Site) -> FloatArray:
    """var + epsilon in float64; positive exactly when the exact sum is."""
    return np.asarray(site.constants[4], np.float64) + site.real("epsilon", 1e-5)


def _channels(site: Site, rank: int, v: npt.NDArray[E]) -> npt.NDArray[E]:
    """Per-channel parameters (k, C) against (k, N, C, …)."""
    return v.reshape(v.shape[0], 1, -1, *(1,) * (rank - 2))


def real(site: Site, inputs: Inputs[ObjectArray], field: Field) -> tuple[ObjectArray, ...]:
    x, *parameters = inputs
    assert x is not None
    rank = len(site.type_of(0).shape)
    gamma, beta, mean, var = (_channels(site, rank, p) for p in parameters)
    epsilon = field.number(Fraction(site.real("epsilon", 1e-5)))
    return ((x - mean) / field.sqrt(var + epsilon) * gamma + beta,)


def runtime(
    site: Site, inputs: Inputs[V], arithmetic: Arithmetic[V], contract: RuntimeContract
) -> tuple[V, ...]:
    x = inputs[0]
    rank = len(site.type_of(0).shape)
    gamma, beta, mean, var = (moved(p, lambda v: _channels(site, rank, v)) for p in inputs[1:])
    shape = (1,) * rank
    epsilon = arithmetic.constant(np.full(shape, site.real("epsilon", 1e-5)))
    deviation = arithmetic.sqrt(arithmetic.add(var, epsilon))
    if contract.normalization is Normalization.DIRECT:
        centred = arithmetic.divide(arithmetic.subtract(x, mean), deviation)
        return (arithmetic.multiply_add(centred, gamma, beta),)
    if contract.normalization is not Normalization.EITHER:
        if contract.normalization is Normalization.FOLDED:
            scale = arithmetic.divide(gamma, deviation)
        else:
            one = arithmetic.constant(np.ones(shape))
            scale = arithmetic.multiply(arithmetic.divide(one, deviation), gamma)
        shift = arithmetic.subtract(beta, arithmetic.multiply(mean, scale))
        return (arithmetic.multiply_add(x, scale, shift),)
    raise OpenSchedule("this contract does not pin the normalisation formula")


def folded_normalization(site: Site) -> ChannelMap:
    """What the node does to each channel; `site` must have passed `check`."""
    gamma, beta, mean = (np.asarray(c, np.float64) for c in site.constants[1:4])
    scale = gamma / np.sqrt(_variance(site))
    product = mean * scale
    shift = beta - product
    error = add_up(multiply_up(np.abs(product), 8 * 2.0**-53), multiply_up(np.abs(shift), 2.0**-52))
    error = add_up(error, np.where((mean != 0) & (gamma != 0), SMALLEST, 0.0))
    return ChannelMap(scale, shift, error)


def _of_channels(site: Site) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Scale, shift and its error, (1, C, …) against (N, C, …)."""
    n, rank = folded_normalization(site), len(site.outputs[0].shape)
    scale, shift, error = (
        _channels(site, rank, v[None]) for v in (n.scale, n.shift, n.shift_error)
    )
    return scale[0], shift[0], error[0]


def _affine(site: Site) -> AffineMap:
    shape, (scale, shift, error) = site.outputs[0].shape, _of_channels(site)
    part = scaled_part(scale, shape, shape, relative=5 * 2.0**-53)
    return AffineMap((part,), np.broadcast_to(shift, shape), np.broadcast_to(error, shape))


_, differences = affine_semantics(_affine)


def values(site: Site, ranges: Sequence[Interval]) -> ValueMap:
    (x,) = ranges
    with np.errstate(over="ignore", invalid="ignore"):
        lo, hi = all_in_blocks(_ends, *_of_channels(site), x.lo, x.hi)
    return affine_values(_affine(site), ranges, enclosed(MONOTONE_RANGE, X=range_of(x), a=lo, b=hi))


def _ends(
    scale: FloatArray, shift: FloatArray, error: FloatArray, lo: FloatArray, hi: FloatArray
) -> tuple[FloatArray, ...]:
    """scale·x + shift: the true scale is 5 roundings away, its product one more."""
    a, b = np.where(scale == 0, 0.0, scale * lo), np.where(scale == 0, 0.0, scale * hi)
    slack = multiply_up(np.maximum(np.abs(a), np.abs(b)), 8 * 2.0**-53)
    slack = add_up(slack, np.where(scale == 0, 0.0, 4 * SMALLEST))
    reach = add_up(slack, error)
    least, most = np.minimum(a, b), np.maximum(a, b)
    return (
        add_down(add_down(least, shift), -reach),
        add_up(add_up(most, shift), reach),
    )


def rounding(
    site: Site, inputs: Sequence[Interval], result: Interval, contract: RuntimeContract
) -> RoundingBound:
    if site.outputs[0].size > _MANY:
        inputs = [_by_channel(x) for x in inputs]
    if contract.normalization is not Normalization.EITHER:
        return traced(runtime, site, inputs, contract)
    each = [
        traced(runtime, site, inputs, replace(contract, normalization=n))
        for n in Normalization
        if n is not Normalization.EITHER
    ]
    radius = any_of([bound.radius for bound in each])
    preconditions = tuple(p for bound in each for p in bound.preconditions)
    return RoundingBound(radius, preconditions).using(*_LEMMAS)


def _by_channel(x: Interval) -> Interval:
    """What holds all elements of a channel, (1, C, 1, …)."""
    others = (0, *range(2, x.lo.ndim))
    return Interval(np.min(x.lo, others, keepdims=True), np.max(x.hi, others, keepdims=True))


def element(site: Site, row: int) -> Element:
    """One element of one channel, with that channel's parameters."""
    place = np.unravel_index(row, site.outputs[0].shape)
    one = TensorType(site.outputs[0].dtype, (1,) * len(place))
    parameter = TensorType(site.outputs[0].dtype, (1,))
    channel = slice(int(place[1]), int(place[1]) + 1)
    constants = tuple(None if c is None else np.asarray(c)[channel] for c in site.constants)
    small = replace(site, inputs=(one, *(parameter,) * 4), outputs=(one,), constants=constants)
    return Element(small, (row,))


def gradient(r: Reverse) -> Carried:
    """Of the input: the same scale without mean and bias. Mean and variance are statistics and are
    not differentiated by."""
    if r.wanted & {3, 4}:
        raise r.site.unsupported("its mean and variance cannot be differentiated by")
    scale, bias = r.read(1), r.read(2)
    kind = r.x.kind.dtype.numpy
    ones, zeros = r.stored(np.ones(scale.shape, kind)), r.stored(np.zeros(scale.shape, kind))

    def normalized(x: Term, gamma: Term, mean: Term) -> Term:
        epsilon = r.site.real("epsilon", 1e-5)
        parameters = (gamma, zeros, mean, r.read(4))
        return r.tape.node(x, *parameters, op="BatchNormalization", kind=x.kind, epsilon=epsilon)

    return each(
        (
            (0, lambda: normalized(r.up, scale, zeros)),
            (1, lambda: (r.up * normalized(r.x, ones, r.read(3))).per_channel()),
            (2, lambda: r.up.per_channel().reshaped(bias.shape)),
        ),
        r,
    )


OPERATORS = (
    Operator(
        "BatchNormalization",
        since=7,
        check=check,
        real=real,
        runtime=runtime,
        values=values,
        differences=differences,
        rounding=rounding,
        gradient=Gradient(rule=gradient),
        affine=True,
        element=element,
        likeness=Likeness(channels=folded_normalization),
        absorbs=Absorbing(Absorption.CHANNELS),
    ).reading("epsilon", "is_test", "momentum", "spatial", "training_mode"),
)
