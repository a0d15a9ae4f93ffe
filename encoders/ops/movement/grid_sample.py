"""GridSample by a stored grid, linear or cubic: linear in the pixels. Mode nearest is a Gather, as
the reader makes it (onnx_import/passes/images/sampling.py)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from functools import partial

import numpy as np
import numpy.typing as npt

from encoders.arithmetic.exact_fields import ObjectArray
from encoders.arithmetic.runtime import Arithmetic, moved, sum_of_products
from encoders.arithmetic.values import Inputs, V
from encoders.contract.contract import RuntimeContract
from encoders.families.gathering import picked
from encoders.families.images.axis import rational_weights
from encoders.families.images.interpolation import action_of
from encoders.families.images.sampling import (
    alongs,
    computed_terms,
    exact_terms,
    held_products,
    off_weights,
    parts_of,
    product_off,
    sampled,
    spread,
    unit_of,
)
from encoders.families.products import ProductSum, linear_part, misweighed, product_rounding
from encoders.lemmas.combining import EXACT
from encoders.lemmas.kernel import exactly_zero, nothing_known
from encoders.numbers.enclosure import Interval, add_up, multiply_up, some
from encoders.operator import Field, Operator, RoundingBound, Site
from encoders.relaxations.affine import AffineMap, affine_map, affine_semantics
from encoders.rounding.rounding_bounds import finish, rounder, stored_loss
from onnx_import.graph import DType
from onnx_import.passes.images.sampling import coordinate, why_unread

_TYPES = (DType.FLOAT32, DType.FLOAT64)  # the format of coordinates is that of the data


def check(site: Site) -> None:
    grid = site.constant(1)
    if 1 in site.variable or grid is None:
        raise site.unsupported(
            "its grid (input 1) is computed from the inputs, and where it reads is not known; "
            "store the grid in the model"
        )
    mode, padding, aligned = parts_of(site)
    shape = site.type_of(0).shape
    why = why_unread(shape, grid, mode, padding, aligned)
    if why:
        raise site.unsupported(why)
    kinds = [site.type_of(i).dtype for i in (0, 1)]
    if kinds[0] not in _TYPES or kinds[0] is not kinds[1]:
        raise site.unsupported("its data and its grid must both be float32, or float64")
    if mode == "nearest":
        raise site.unsupported("attribute 'mode' is 'nearest', which moves data")
    outside = mode == "cubic" and padding == "border" and _leaves(site)
    if outside:
        raise site.unsupported(
            "its grid leads beyond the border, where some runtimes move the place and others the "
            "pixels around it before they interpolate; use another 'padding_mode'"
        )


def _leaves(site: Site) -> bool:
    """Is a place within a pixel of the border, or beyond?"""
    (_, _, aligned), lengths = parts_of(site), site.type_of(0).shape[2:]
    grid = np.asarray(site.constant(1), np.float64).reshape(-1, len(lengths))[:, ::-1]
    edge = 0.0 if aligned else 0.5
    return any(
        not -edge <= coordinate(Fraction(float(n)), length, aligned) <= length - 1 + edge
        for column, length in zip(grid.T, lengths, strict=True)
        for n in column
    )


def real(site: Site, inputs: Inputs[ObjectArray], field: Field) -> tuple[ObjectArray, ...]:
    return (sampled(site, inputs[0], partial(rational_weights, field)),)


def runtime(
    site: Site, inputs: Inputs[V], arithmetic: Arithmetic[V], contract: RuntimeContract
) -> tuple[V, ...]:
    """Axis by axis, the last first; where onnxruntime plans ahead, by products of weights."""
    index, weights = computed_terms(site)
    if parts_of(site) == ("linear", "zeros", False) and len(weights) == 2:
        pairs = [
            (_constant(site, arithmetic, y * x), moved(inputs[0], partial(picked, index=i)))
            for i, y, x in zip(index, *weights, strict=True)
        ]
        return (sum_of_products(arithmetic, contract, pairs),)
    along = [along.computed[1] for along in alongs(site)]
    reads = index.reshape(*(len(taps) for taps in along), *site.outputs[0].shape)

    def total(chosen: tuple[int, ...]) -> V:
        if len(chosen) == len(along):
            return moved(inputs[0], partial(picked, index=reads[chosen]))
        pairs = [
            (_constant(site, arithmetic, spread(site, w)), total((*chosen, i)))
            for i, w in enumerate(along[len(chosen)])
        ]
        return sum_of_products(arithmetic, contract, pairs)

    return (total(()),)


def _constant(site: Site, arithmetic: Arithmetic[V], weights: npt.NDArray[np.generic]) -> V:
    return arithmetic.constant(np.broadcast_to(weights, site.outputs[0].shape))


def _affine(site: Site) -> AffineMap:
    """The exact map; float64 holds every weight and product to a unit or two."""
    index, weights = exact_terms(site)
    held = held_products(index, weights)
    part = linear_part(action_of(site, index), held, 2.0**-51 * len(weights))
    return affine_map((part,), site.outputs[0].shape)


values, differences = affine_semantics(_affine)


def rounding(
    site: Site, inputs: Sequence[Interval], result: Interval, contract: RuntimeContract
) -> RoundingBound:
    """Of a sum of products in whatever order, with weights computed in whatever way.

    Axis by axis a term meets two roundings for each axis and at most as many additions as there
    are terms; the sum of products has one and as many, and of each weight one for each axis.
    """
    r = rounder(site, contract)
    if r.exact:
        return RoundingBound(exactly_zero(EXACT, site.outputs[0].shape))
    index, weights = computed_terms(site)
    terms = ProductSum(action_of(site, index), held_products(index, weights), None)
    bound = product_rounding(site, terms, inputs, contract, runtime)
    unit = max(unit_of(site), r.relative)
    places, errors, sizes = off_weights(site, unit)
    if np.any(np.isinf(errors)):
        return finish(r, nothing_known(result.shape), np.full(result.shape, np.inf))
    # what is rounded of a weight that is off is rounded, too
    off = multiply_up(errors, 1.0 + 8.0 * len(places) * unit)
    off = add_up(off, multiply_up(sizes, (len(weights) + 1) * unit))
    reached = linear_part(action_of(site, places), off).magnitude_up(inputs[0].magnitude)
    sizes_of = [np.abs(w.astype(np.float64)) for w in weights]
    losses = [stored_loss(r, w.astype(np.float64)).bound for w in weights]
    if any(some(loss) for loss in losses):  # axis by axis each weight is rounded
        lost = np.broadcast_to(product_off(sizes_of, losses)[0], index.shape)
        part = linear_part(action_of(site, index), lost)
        reached = add_up(reached, part.magnitude_up(inputs[0].magnitude))
    wrong = misweighed(reached)
    return replace(bound, radius=bound.radius + wrong)


OPERATORS = (
    Operator(
        "GridSample",
        since=16,
        check=check,
        real=real,
        runtime=runtime,
        values=values,
        differences=differences,
        rounding=rounding,
        affine=True,
        formulas=2,  # of its weights
        work=lambda site: site.outputs[0].size * 4 ** len(alongs(site)),
        dtypes=_TYPES,
    ).reading("align_corners", "mode", "padding_mode"),
)
