"""WholeAdd, WholeSub, WholeMul: Add, Sub and Mul of computed integers, as the reader names them. No
ONNX operators.

They are exact while no result leaves its type, where a runtime wraps around: that none does is an
obligation. Of a product one factor is stored.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from encoders.arithmetic.exact_fields import ObjectArray
from encoders.arithmetic.runtime import Arithmetic, aligned, integers_of
from encoders.arithmetic.values import Inputs, V
from encoders.contract.contract import RuntimeContract
from encoders.families.integers import INTEGERS, LARGEST, fitting
from encoders.families.signed_sum import Signs, signed_affine
from encoders.lemmas.combining import EXACT
from encoders.lemmas.kernel import enclosed, exactly_zero
from encoders.lemmas.ranges.functions import WHOLE_RANGE
from encoders.numbers.enclosure import Interval
from encoders.operator import Field, Operator, RoundingBound, Site, ValueMap
from encoders.quantized.integer_products import as_whole
from encoders.relaxations.affine import AffineMap, affine_map, affine_semantics, scaled_part
from onnx_import.graph import Array


def check(site: Site) -> None:
    if site.outputs[0].dtype not in INTEGERS or not site.variable:
        raise site.unsupported("it computes with integers, one of them computed")
    for constant in site.constants:
        if constant is not None and _largest(np.asarray(constant)) > LARGEST:
            raise site.unsupported("a stored integer is above 2^53 in magnitude")


def _largest(stored: Array) -> int:
    """The largest magnitude of some integers, of which the least has no opposite in their type."""
    return max(abs(int(stored.min())), abs(int(stored.max()))) if stored.size else 0


def _check_product(site: Site) -> None:
    check(site)
    if len(site.variable) != 1:
        raise site.unsupported("it multiplies two computed integers; one may be")


def _product(site: Site) -> AffineMap:
    (position,), shape = site.variable, site.outputs[0].shape
    factor = np.asarray(site.constants[1 - position], np.float64)
    return affine_map([scaled_part(factor, site.type_of(position).shape, shape)], shape)


def _inside(x: Interval) -> Interval:
    """Where integers in these ranges are."""
    return Interval(np.ceil(x.lo), np.floor(x.hi))


def rounding(
    site: Site, inputs: Sequence[Interval], result: Interval, contract: RuntimeContract
) -> RoundingBound:
    """Nothing, while every result is a number of its type."""
    exact = RoundingBound(exactly_zero(EXACT, site.outputs[0].shape))
    return fitting(exact, site, _inside(result))


def _operator(
    name: str,
    affine: Callable[[Site], AffineMap],
    exact: Callable[[ObjectArray, ObjectArray], ObjectArray],
    computed: str,
    checked: Callable[[Site], None] = check,
) -> Operator:
    def real(site: Site, inputs: Inputs[ObjectArray], field: Field) -> tuple[ObjectArray, ...]:
        return (exact(*aligned(inputs)),)

    def runtime(
        site: Site, inputs: Inputs[V], arithmetic: Arithmetic[V], contract: RuntimeContract
    ) -> tuple[V, ...]:
        whole = integers_of(arithmetic).integers()
        operands = aligned([as_whole(x) for x in inputs if x is not None])
        return (getattr(whole, computed)(*operands),)

    wide, differences = affine_semantics(affine)

    def values(site: Site, ranges: Sequence[Interval]) -> ValueMap:
        found = wide(site, ranges)
        inside = _inside(found.range)
        whole = enclosed(WHOLE_RANGE, X=found.range, a=inside.lo, b=inside.hi)
        return replace(found, range=whole)

    return Operator(
        name,
        7,
        check=checked,
        real=real,
        runtime=runtime,
        values=values,
        differences=differences,
        rounding=rounding,
        affine=True,
        dtypes=INTEGERS,
    )


def _signed(signs: Signs) -> Callable[[Site], AffineMap]:
    return partial(signed_affine, signs=signs)


OPERATORS = (
    _operator("WholeAdd", _signed((1.0, 1.0)), lambda a, b: a + b, "add"),
    _operator("WholeSub", _signed((1.0, -1.0)), lambda a, b: a - b, "subtract"),
    _operator("WholeMul", _product, lambda a, b: a * b, "multiply", _check_product),
)
