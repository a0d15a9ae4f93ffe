"""Narrow: a Cast to a floating-point type of at most eight bits, as the reader names it. No ONNX
operator.

One rounding. With 'saturate', as by default, what lies beyond the largest number becomes that, over
the reals as well; without it, it becomes NaN or an infinity, and runtimes differ on where that
begins, so nothing may lie there.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from encoders.arithmetic.exact_fields import ObjectArray
from encoders.arithmetic.runtime import Arithmetic, Relation, mixes_formats
from encoders.arithmetic.values import Inputs, V
from encoders.contract.contract import RuntimeContract
from encoders.lemmas.domains import DEFINED_WITHIN
from encoders.lemmas.kernel import Radius
from encoders.numbers.enclosure import Interval
from encoders.numbers.formats import NARROW_FORMATS, NARROW_LARGEST
from encoders.operator import DifferenceMap, Field, Operator, RoundingBound, Site, ValueMap
from encoders.relaxations.piecewise import (
    LEMMAS,
    PiecewiseLinear,
    clamp,
    piecewise_differences,
    piecewise_values,
)
from encoders.rounding.rounding_bounds import conversion_error, finish, rounder
from onnx_import.graph import DType

_INFINITE = (DType.FLOAT8E5M2,)  # of these types, infinities are members
_SOURCES = (DType.FLOAT32, DType.FLOAT16, DType.BFLOAT16)  # float64 may be rounded twice
_ALWAYS = (DType.FLOAT4E2M1,)  # 'saturate' is said of types of eight bits only


def check(site: Site) -> None:
    if site.variable != (0,):
        raise site.unsupported("it rounds one computed input")
    source, target = site.type_of(0).dtype, site.outputs[0].dtype
    if target not in NARROW_FORMATS:
        raise site.unsupported(f"computed {target.value} is not supported: it has no zero")
    if source not in _SOURCES:
        raise site.unsupported(f"a cast of {source.value} to {target.value} is not supported")


def _saturates(site: Site) -> bool:
    return site.outputs[0].dtype in _ALWAYS or bool(site.integer("saturate", 1))


def _largest(site: Site) -> float:
    return NARROW_LARGEST[site.outputs[0].dtype]


def _function(site: Site) -> PiecewiseLinear:
    """What it is over the reals."""
    most = _largest(site) if _saturates(site) else np.inf
    return clamp(-most, most)


def real(site: Site, inputs: Inputs[ObjectArray], field: Field) -> tuple[ObjectArray, ...]:
    x = inputs[0]
    if not _saturates(site):
        return (x,)
    most = field.constant(np.full((1,) * (x.ndim - 1), _largest(site)))
    return (-field.maximum(-field.maximum(x, -most), -most),)


def runtime(
    site: Site, inputs: Inputs[V], arithmetic: Arithmetic[V], contract: RuntimeContract
) -> tuple[V, ...]:
    """The bits of the emulator; the bound on them is written apart."""
    ones, dtype = (1,) * len(site.outputs[0].shape), site.outputs[0].dtype
    assert mixes_formats(arithmetic)
    source = arithmetic.in_format(contract.format_of(site.type_of(0).dtype))
    narrow = arithmetic.in_format(NARROW_FORMATS[dtype])
    x = source.read(inputs[0])
    most = source.constant(np.full(ones, _largest(site)))
    if _saturates(site):
        return (narrow.converted(source.minimum(source.maximum(x, source.negate(most)), most)),)
    y = narrow.converted(x)
    if dtype in _INFINITE:
        return (y,)
    held = narrow.compare(Relation.AT_MOST, narrow.absolute(y), most)
    return (narrow.select(held, y, source.constant(np.full(ones, np.nan))),)


def values(site: Site, ranges: Sequence[Interval]) -> ValueMap:
    return piecewise_values(_function(site), ranges[0])


def differences(site: Site, ranges: Sequence[Interval], errors: Sequence[Radius]) -> DifferenceMap:
    return piecewise_differences(_function(site), ranges[0], errors[0])


def rounding(
    site: Site, inputs: Sequence[Interval], result: Interval, contract: RuntimeContract
) -> RoundingBound:
    """One rounding of a number that the format does not go beyond."""
    r, (x,), most = rounder(site, contract), inputs, _largest(site)
    inside = Interval(np.clip(x.lo, -most, most), np.clip(x.hi, -most, most))
    if not _saturates(site):
        inside = x
    error = conversion_error(r, contract.format_of(site.type_of(0).dtype), inside)
    found = finish(r, error, np.asarray(min(most, float(np.max(inside.magnitude, initial=0.0)))))
    if _saturates(site):
        return found.using(*LEMMAS)
    low, high = (float(v) + 0.0 for v in (np.min(x.lo), np.max(x.hi)))
    return found.given(
        "number-of-the-type",
        f"{site.node.describe()}: numbers between {low:.6g} and {high:.6g} are rounded to "
        f"{site.outputs[0].dtype.value}, which ends at {most:g}",
        DEFINED_WITHIN,
        lo=x.lo,
        hi=x.hi,
        least=-most,
        most=most,
    ).using(*LEMMAS)


OPERATORS = (
    Operator(
        "Narrow",
        6,
        check=check,
        real=real,
        runtime=runtime,
        values=values,
        differences=differences,
        rounding=rounding,
        converts=True,
        dtypes=_SOURCES,
    ).reading("round_mode", "saturate", "to"),
)
