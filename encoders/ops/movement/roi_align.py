"""RoiAlign by stored regions, of which each element is read at one place: linear in the pixels.

What samples its elements more often is a pool over one that does not, as the reader makes it
(onnx_import/passes/images/aligning.py).
"""

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
from encoders.contract.contract import AnyOrder, RuntimeContract
from encoders.families.gathering import picked
from encoders.families.images.aligning import (
    aligned,
    computed_terms,
    exact_terms,
    may_jump,
    off_weights,
    regions_of,
    unit_of,
)
from encoders.families.images.axis import rational_weights
from encoders.families.images.interpolation import action_of
from encoders.families.products import ProductSum, linear_part, misweighed, product_rounding
from encoders.lemmas.combining import EXACT
from encoders.lemmas.kernel import exactly_zero, nothing_known
from encoders.numbers.enclosure import FloatArray, Interval, add_up, multiply_up
from encoders.operator import Field, Operator, RoundingBound, Site
from encoders.relaxations.affine import AffineMap, affine_map, affine_semantics
from encoders.rounding.rounding_bounds import finish, rounder
from onnx_import.graph import DType
from onnx_import.passes.images.aligning import why_unread

_TYPES = (DType.FLOAT32, DType.FLOAT64)  # the format of coordinates is that of the data


def check(site: Site) -> None:
    rois, batches = site.constant(1), site.constant(2)
    if {1, 2} & set(site.variable) or rois is None or batches is None:
        raise site.unsupported("its regions (input 1) are computed from the inputs")
    if site.integer("sampling_ratio", 0) != 1:
        raise site.unsupported("it samples an element more than once")
    kinds = [site.type_of(i).dtype for i in (0, 1)]
    if kinds[0] not in _TYPES or kinds[0] is not kinds[1]:
        raise site.unsupported("its data and its regions must both be float32, or float64")
    regions = [region for axis in (0, 1) for region in regions_of(site, axis)]
    why = why_unread(site.type_of(0).shape, rois, batches, regions)
    if why:
        raise site.unsupported(why)
    edge = may_jump(site, unit_of(site))
    if edge is not None:
        raise site.unsupported(
            f"a place that it reads of region {edge[0]:g} to {edge[1]:g} (input 1) is so near to "
            "an edge that rounding decides which pixels it has; move the region"
        )


def real(site: Site, inputs: Inputs[ObjectArray], field: Field) -> tuple[ObjectArray, ...]:
    return (aligned(site, inputs[0], partial(rational_weights, field)),)


def runtime(
    site: Site, inputs: Inputs[V], arithmetic: Arithmetic[V], contract: RuntimeContract
) -> tuple[V, ...]:
    index, weights = computed_terms(site)
    pairs = [
        (
            arithmetic.constant(np.broadcast_to(w, site.outputs[0].shape)),
            moved(inputs[0], partial(picked, index=i)),
        )
        for i, w in zip(index, weights, strict=True)
    ]
    return (sum_of_products(arithmetic, contract, pairs),)


def _held(site: Site, index: npt.NDArray[np.intp]) -> FloatArray:
    """(terms, *output): the exact weights, each rounded to the nearest float64."""
    _, weights = exact_terms(site)
    return np.broadcast_to(weights.astype(np.float64), index.shape)


def _affine(site: Site) -> AffineMap:
    index, _ = exact_terms(site)
    part = linear_part(action_of(site, index), _held(site, index), 2.0**-51)
    return affine_map((part,), site.outputs[0].shape)


values, differences = affine_semantics(_affine)


def rounding(
    site: Site, inputs: Sequence[Interval], result: Interval, contract: RuntimeContract
) -> RoundingBound:
    """Of a sum of products, and what a runtime's weights are off: those of onnxruntime where the
    contract pins an order, else those computed in whatever way, each with a rounding of its own."""
    r = rounder(site, contract)
    if r.exact:
        return RoundingBound(exactly_zero(EXACT, site.outputs[0].shape))
    index, weights = computed_terms(site)
    held = np.broadcast_to(weights.astype(np.float64), index.shape)
    terms = ProductSum(action_of(site, index), held, None)
    bound = product_rounding(site, terms, inputs, contract, runtime)
    exact, exactly = exact_terms(site)
    unit = max(unit_of(site), r.relative)
    if not isinstance(contract.order, AnyOrder) and np.array_equal(exact, index):
        apart = np.broadcast_to((exactly - _fractions(weights)).astype(np.float64), index.shape)
        held_by = linear_part(action_of(site, index), multiply_up(np.abs(apart), 1.0 + 2.0**-50))
        moved_by = held_by.magnitude_up(inputs[0].magnitude)
        return replace(bound, radius=bound.radius + misweighed(moved_by))
    places, errors = off_weights(site, unit)
    if np.any(np.isinf(errors)) or may_jump(site, unit) is not None:
        return finish(r, nothing_known(result.shape), np.full(result.shape, np.inf))
    off = multiply_up(errors, 1.0 + 8.0 * unit)
    reached = linear_part(action_of(site, places), off).magnitude_up(inputs[0].magnitude)
    own = linear_part(action_of(site, index), multiply_up(np.abs(held), 4.0 * unit))
    reached = add_up(reached, own.magnitude_up(inputs[0].magnitude))
    return replace(bound, radius=bound.radius + misweighed(reached))


def _fractions(weights: npt.NDArray[np.floating]) -> npt.NDArray[np.object_]:
    return np.array([Fraction(float(w)) for w in weights.ravel()], object).reshape(weights.shape)


OPERATORS = (
    Operator(
        "RoiAlign",
        since=10,
        check=check,
        real=real,
        runtime=runtime,
        values=values,
        differences=differences,
        rounding=rounding,
        affine=True,
        formulas=1,  # of its weights
        work=lambda site: site.outputs[0].size * 4,
        dtypes=_TYPES,
    ).reading(
        "coordinate_transformation_mode",
        "mode",
        "output_height",
        "output_width",
        "sampling_ratio",
        "spatial_scale",
    ),
)
