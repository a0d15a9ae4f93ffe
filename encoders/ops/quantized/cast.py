"""Cast between floating-point types (one rounding), and to them of computed truth values and whole
numbers.

Numbers of the type double become numbers of 16 bits by way of float32 in onnxruntime and PyTorch,
which is two roundings: a number a little off the middle between two of 16 bits is first rounded
to that middle. Other libraries round once; bounds cover both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from encoders.arithmetic.exact_fields import ObjectArray
from encoders.arithmetic.number_path import Hop, Path, stored_path
from encoders.arithmetic.runtime import Arithmetic, integers_of, mixes_formats
from encoders.arithmetic.values import Inputs, V
from encoders.contract.contract import RuntimeContract
from encoders.families.integers import INTEGERS
from encoders.gradients.rule import Carried, Gradient, Reverse
from encoders.lemmas.combining import EXACT
from encoders.lemmas.kernel import Radius, any_of, exactly_zero
from encoders.numbers.enclosure import Interval, add_down, add_up
from encoders.numbers.formats import BINARY32, NARROW_FORMATS, FloatFormat
from encoders.operator import FLOATS, Field, Operator, RoundingBound, Site
from encoders.quantized.integer_products import as_whole
from encoders.relaxations.affine import AffineMap, affine_semantics, moved_part
from encoders.rounding.error_arithmetic import ErrorArithmetic, of_output
from encoders.rounding.rounding_bounds import (
    Rounder,
    conversion_error,
    finish,
    formula_loss,
    rounder,
    stored_loss,
)
from encoders.rounding.tracked import tracked
from encoders.traits import Likeness
from onnx_import.graph import DType


def _is_float(dtype: DType) -> bool:
    """Is it a floating-point type, of however few bits?"""
    return dtype.is_float or dtype in NARROW_FORMATS


def check(site: Site) -> None:
    source, target = site.type_of(0).dtype, site.outputs[0].dtype
    if not target.is_float:
        raise site.unsupported(f"a cast to {target.value} (attribute 'to') is not supported")
    if site.variable and not (_is_float(source) or source is DType.BOOL or source.is_integer):
        raise site.unsupported(f"a cast of computed {source.value} is not supported")


def _affine(site: Site) -> AffineMap:
    shape = site.outputs[0].shape
    if not site.variable:
        stored = np.asarray(site.constants[0], np.float64)
        return AffineMap((), stored, np.abs(stored) * 2.0**-52)
    part = moved_part(lambda v: v, lambda v: v)
    return AffineMap((part,), np.zeros(shape), np.zeros(shape))


def real(site: Site, inputs: Inputs[ObjectArray], field: Field) -> tuple[ObjectArray, ...]:
    (x,) = inputs
    assert x is not None
    return (x,)


def runtime(
    site: Site, inputs: Inputs[V], arithmetic: Arithmetic[V], contract: RuntimeContract
) -> tuple[V, ...]:
    """A float is read as an operand of its own format and rounded to that of the result; a truth
    value times 1 is the number itself."""
    if not site.variable and not site.type_of(0).dtype.is_float:
        return (arithmetic.constant(np.asarray(site.constants[0])),)
    if site.type_of(0).dtype.is_integer:
        return (integers_of(arithmetic).converted(as_whole(inputs[0])),)
    if _is_float(site.type_of(0).dtype) and mixes_formats(arithmetic):
        read = arithmetic.in_format(contract.format_of(site.type_of(0).dtype)).read(inputs[0])
        if (way := _way(site, contract)) is not None:
            between = arithmetic.in_format(way)
            read = between.read(between.converted(read))
        return (arithmetic.converted(read),)
    one = arithmetic.constant(np.ones((1,) * len(site.outputs[0].shape)))
    return (arithmetic.multiply(inputs[0], one),)


def _way(site: Site, contract: RuntimeContract) -> FloatFormat | None:
    """The format by way of which some runtimes convert."""
    source = site.type_of(0).dtype
    if not _is_float(source):
        return None
    held, target = (contract.format_of(dtype) for dtype in (source, site.outputs[0].dtype))
    return None if BINARY32.holds(held) or target.holds(BINARY32) else BINARY32


def _converted(r: Rounder, held: FloatFormat, x: Interval, way: FloatFormat | None) -> Radius:
    """Of numbers of the format `held` in the ranges x, rounded once, or by way of another."""
    once = conversion_error(r, held, x)
    if way is None:
        return once
    first = conversion_error(replace(r, format=way), held, x)
    moved = Interval(add_down(x.lo, -first.bound), add_up(x.hi, first.bound))
    return any_of([once, first + conversion_error(r, way, moved)])


values, differences = affine_semantics(_affine)


def rounding(
    site: Site, inputs: Sequence[Interval], result: Interval, contract: RuntimeContract
) -> RoundingBound:
    """One rounding unless the format of the result holds all numbers of the source's."""
    r, source = rounder(site, contract), site.type_of(0).dtype
    if source.is_integer and site.variable:
        arithmetic = ErrorArithmetic(r, contract)
        y = arithmetic.converted(tracked(inputs[0], exactly_zero(EXACT, inputs[0].shape)))
        return finish(r, of_output(y, site), np.asarray(y.largest))
    if not site.variable and not r.exact:
        stored = np.asarray(site.constants[0], np.float64)
        if not source.is_float:
            return finish(r, formula_loss(r, stored), np.abs(stored))
        held, way = contract.format_of(source), _way(site, contract)
        casts: list[Path] = [(Hop(r.format, source=held, result=True),)]
        if way is not None:
            first = Hop(way, source=held, result=True)
            casts.append((first, Hop(r.format, source=way, result=True)))
        first_hops = stored_path(contract, source)
        ways = [stored_loss(replace(r, path=(*first_hops, *cast)), stored) for cast in casts]
        return finish(r, any_of(ways), np.abs(stored))
    if r.exact or not _is_float(source):
        return RoundingBound(exactly_zero(EXACT, site.outputs[0].shape))
    error = _converted(r, contract.format_of(source), result, _way(site, contract))
    return finish(r, error, add_up(result.magnitude, error.bound))


def gradient(r: Reverse) -> Carried:
    return {0: r.up.converted(r.x.kind.dtype)} if r.x.kind.dtype.is_float else {}


OPERATORS = (
    Operator(
        "Cast",
        since=6,
        check=check,
        real=real,
        runtime=runtime,
        values=values,
        differences=differences,
        rounding=rounding,
        gradient=Gradient(rule=gradient),
        affine=True,
        converts=True,
        rowwise=lambda site: site.variable == (0,),
        likeness=Likeness(copies=lambda site: True, implied=frozenset({"to"})),
        dtypes=(*FLOATS, DType.BOOL, *INTEGERS),
    ).reading("round_mode", "saturate", "to"),
)
