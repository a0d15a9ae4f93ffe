"""Add and Sub: one file holds each operator's signs, this one the algebra they share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from encoders.contract.contract import RuntimeContract
from encoders.lemmas.kernel import apply
from encoders.lemmas.products import ADDED
from encoders.numbers.enclosure import FloatArray, Interval, add_up, multiply_up, some
from encoders.operator import RoundingBound, Site
from encoders.relaxations.affine import AffineMap, scaled_part
from encoders.rounding.rounding_bounds import beyond, finish, rounder, stored_loss

Signs = tuple[float, float]


def check_float(site: Site) -> None:
    """Raises UnsupportedModel unless the node computes in a floating-point type."""
    if not site.outputs[0].dtype.is_float:
        raise site.unsupported(f"{site.outputs[0].dtype.value} arithmetic is not supported")


def check_equal_shapes(site: Site) -> None:
    """Raises UnsupportedModel unless it computes in a floating-point type, and before opset 8, in
    which operators of any number of tensors began to broadcast, unless all have one shape."""
    check_float(site)
    shapes = {t.shape for t in site.inputs if t is not None}
    if site.node.opset < 8 and len(shapes) > 1:
        raise site.unsupported(
            f"opset {site.node.opset} does not broadcast shapes "
            f"{', '.join(str(list(s)) for s in sorted(shapes))}; convert the model to opset 13"
        )


def require_normal(site: Site, product: FloatArray, *factors: FloatArray) -> None:
    """Raises UnsupportedModel where a float64 product or quotient of coefficients may underflow,
    so that it is no longer known to within a relative error (float64 models only)."""
    whole = np.all([f != 0 for f in np.broadcast_arrays(*factors)], axis=0)
    if np.any(whole & (np.abs(product) < 2.0**-1000)):
        raise site.unsupported("its coefficients are below 2^-1000")


def check_one_variable(site: Site) -> None:
    """Raises UnsupportedModel unless the first input varies, others do not, and it is a float."""
    check_float(site)
    if site.variable != (0,):
        raise site.unsupported("only the first input may depend on the network's input")


def signed_affine(site: Site, signs: Signs) -> AffineMap:
    """Σ sign·input over the variable inputs, constants in the bias."""
    shape = site.outputs[0].shape
    parts = tuple(
        scaled_part(np.asarray(signs[i]), site.type_of(i).shape, shape) for i in site.variable
    )
    bias, radius = np.zeros(shape), np.zeros(shape)
    for sign, constant in zip(signs, site.constants, strict=True):
        if constant is not None:
            total = bias + sign * np.asarray(constant, np.float64)
            if np.any(bias):
                radius = add_up(radius, multiply_up(np.abs(total), 2.0**-52))
            bias = np.broadcast_to(total, shape)
    return AffineMap(parts, bias, radius)


def sum_rounding(
    site: Site, inputs: Sequence[Interval], result: Interval, contract: RuntimeContract
) -> RoundingBound:
    """One rounded addition; adding a stored zero is exact.

    Without flushing, it errs by no more than its smaller operand (format lemma
    `sum-error-below-operands`): the other one is a float too.
    """
    r = rounder(site, contract)
    sizes, losses = [x.magnitude for x in inputs], [r.operand_loss(x) for x in inputs]
    for constant in site.constants:
        if constant is not None:
            stored = np.asarray(constant, np.float64)
            loss = stored_loss(r, stored)
            losses.append(loss + r.operand_loss(Interval(stored, stored)))
            sizes.append(add_up(np.abs(stored), loss.bound))
    (a, b), (of_a, of_b) = sizes, losses
    lost = of_a + of_b
    largest = result.magnitude
    reached = beyond(largest, lost.bound) if some(lost.bound) else largest
    radius = apply(
        ADDED,
        M=largest,
        e=lost,
        r=r.of_sum(reached),
        c=r.of_copy(reached),
        a=a,
        b=b,
        tiny=r.flushed,
    )
    return finish(r, radius, reached)
