"""Operators that normalise rows and then scale them: one description serves all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

import numpy as np
import numpy.typing as npt
import onnx

from encoders.arithmetic.exact_fields import ObjectArray
from encoders.arithmetic.runtime import (
    Arithmetic,
    mixes_formats,
    moved,
    sum_of_products,
    sum_of_terms,
)
from encoders.arithmetic.values import E, Inputs, V
from encoders.contract.contract import AnyOrder, Normalization, OpenSchedule, RuntimeContract
from encoders.families.rows.normalization import (
    MOST_ENTRIES,
    Normalized,
    closer,
    jacobian,
    normalized,
    scaled_differences,
    scaled_values,
    secants,
)
from encoders.families.rows.normalization_errors import (
    folded_error,
    normalization_error,
    scaled_error,
)
from encoders.families.signed_sum import check_float
from encoders.lemmas.combining import EXACT
from encoders.lemmas.kernel import Radius, apply, exactly_zero
from encoders.lemmas.rows import SAME_RANGE
from encoders.numbers.enclosure import FloatArray, Interval, add_up, midpoint_radius, point
from encoders.numbers.formats import BINARY64, FloatFormat
from encoders.numbers.leaning import least_norms, parting, row_forms
from encoders.operator import (
    DifferenceMap,
    Field,
    Operator,
    RoundingBound,
    Site,
    ValueMap,
)
from encoders.relaxations.low_rank import multiply_adds
from encoders.relaxations.normal_rows import (
    Departing,
    normalized_differences,
    normalized_limit,
    normalized_values,
)
from encoders.relaxations.row_maps import row_charge, row_differences, row_values
from encoders.relaxations.row_slopes import way_of
from encoders.relaxations.rows import Rows, columns
from encoders.relaxations.tangent_rows import tangents
from encoders.rounding.rounding_bounds import (
    conversion_error,
    finish,
    no_overflow,
    rounder,
    rounder_of,
)
from onnx_import.graph import DType
from onnx_import.tensors import dtype_of

LEMMAS = (
    "sum-any-order",
    "product-error",
    "quotient-error",
    "relative-quotient",
    "sqrt-difference",
    "underflow-term",
    "flush-operand-sum",
)


_LANES = 8  # numbers that a runtime handles at once, of which rows have their means first
_FAR = 2.0**-8  # of σ: differences below it pass on slopes that are as good as constant


class Placement(Protocol):
    """Shapes a parameter of a site, with a sample axis, such that it broadcasts to the input."""

    def __call__(self, site: Site, parameter: npt.NDArray[E], /) -> npt.NDArray[E]: ...


@dataclass(frozen=True)
class Layout:
    """How one operator reads a site: its rows, its stored scale and bias in the input's shape (or
    None), whether the mean is taken away, and whether a runtime may fold mean and scale into one
    affine map per row.

    `stash` is the type in which a site normalises, if that is not the type of its result: the
    input is converted to it, and z back before it is scaled. Such a site is not foldable. With
    `one_pass` a runtime that is held to no order may take the variance for the mean of squares less
    the square of the mean. A square takes `squaring` roundings.
    """

    rows: Callable[[Site], Rows]
    scale: Placement
    bias: Placement
    centred: bool
    foldable: bool
    stash: Callable[[Site], DType] = lambda site: site.outputs[0].dtype
    one_pass: bool = False
    running: bool = False
    squaring: int = 1


def keeps_moments(length: int, fmt: FloatFormat) -> bool:
    """Does onnxruntime keep mean and variance of a row from number to number? It does so of all in
    float64, and of rows shorter than what it handles at once in float32."""
    return length < _LANES or fmt.holds(BINARY64)


def stash_type(site: Site) -> DType:
    """The type that the attribute names, float32 if it is left out."""
    code = site.integer("stash_type", onnx.TensorProto.FLOAT)
    return dtype_of(code, f"{site.node.describe()}: attribute 'stash_type'")


def normalizing_operator(
    name: str, since: int, layout: Layout, check: Callable[[Site], None]
) -> Operator:
    """`layout.scale(site, c)` shapes the stored scale c (with a sample axis) to broadcast to the
    input; likewise the bias, input 2, which may be absent."""

    def whole_check(site: Site) -> None:
        check_float(site)
        if site.variable != (0,):
            raise site.unsupported("scale and bias must be constants, and its input computed")
        if len([t for t in site.node.outputs if t]) != 1:
            raise site.unsupported("only the first output is supported")
        if not site.real("epsilon", 1e-5) >= 0:
            raise site.unsupported("attribute 'epsilon' must not be negative")
        if not layout.stash(site).is_float:
            raise site.unsupported("attribute 'stash_type' is not a floating-point type")
        check(site)
        if not layout.rows(site).length:
            raise site.unsupported("it normalises over no elements")

    def parameters(site: Site) -> tuple[FloatArray, FloatArray]:
        shape = site.type_of(0).shape
        stored = [site.constant(1), site.constant(2)]
        shaped = [
            default
            if c is None
            else np.broadcast_to(shape_of(site, np.asarray(c, np.float64)[None])[0], shape)
            for c, shape_of, default in zip(
                stored, (layout.scale, layout.bias), (np.ones(shape), np.zeros(shape)), strict=True
            )
        ]
        return shaped[0], shaped[1]

    def stash_format(site: Site, contract: RuntimeContract) -> FloatFormat:
        return contract.format_of(layout.stash(site))

    def converted(site: Site, v: V, arithmetic: Arithmetic[V]) -> V:
        one = arithmetic.constant(np.ones((1,) * len(site.outputs[0].shape)))
        return arithmetic.multiply(v, one)

    def epsilon(site: Site) -> float:
        return site.real("epsilon", 1e-5)

    def arguments(site: Site, inputs: Inputs[V]) -> tuple[V | None, V | None]:
        scale, bias = inputs.optional(1), inputs.optional(2)
        return (
            None if scale is None else moved(scale, lambda c: layout.scale(site, c)),
            None if bias is None else moved(bias, lambda c: layout.bias(site, c)),
        )

    def real(site: Site, inputs: Inputs[ObjectArray], field: Field) -> tuple[ObjectArray, ...]:
        rows = layout.rows(site)
        x = rows.split(inputs[0])
        count = field.number(Fraction(rows.length))
        if layout.centred:
            x = x - np.add.reduce(x, axis=2, keepdims=True) / count
        square = np.add.reduce(x * x, axis=2, keepdims=True) / count
        z = rows.merge(x / field.sqrt(square + field.number(Fraction(epsilon(site)))))
        scale, bias = arguments(site, inputs)
        scaled = z if scale is None else z * scale
        return (scaled if bias is None else scaled + bias,)

    def runtime(
        site: Site, inputs: Inputs[V], arithmetic: Arithmetic[V], contract: RuntimeContract
    ) -> tuple[V, ...]:
        rows, target = layout.rows(site), arithmetic
        mixed = not contract.exact and stash_format(site, contract) != contract.format_of(
            site.outputs[0].dtype
        )
        given = inputs[0]
        if mixed:
            assert mixes_formats(target)
            arithmetic = target.of_type(layout.stash(site))
            given = converted(site, given, arithmetic)
        x = moved(given, rows.split)
        foldable = layout.foldable and not mixed
        if foldable and contract.normalization is Normalization.EITHER:
            raise OpenSchedule("this contract does not pin the normalisation formula")
        count = arithmetic.constant(np.full((1, 1), float(rows.length)))
        mean = None
        deviation = x
        if layout.centred:
            mean = arithmetic.divide(sum_of_terms(arithmetic, contract, columns(x)), count)
            deviation = arithmetic.subtract(x, mean)
        pairs = [(c, c) for c in columns(deviation)]
        variance = arithmetic.divide(sum_of_products(arithmetic, contract, pairs), count)
        small = arithmetic.constant(np.full((1, 1), epsilon(site)))
        sigma = arithmetic.sqrt(arithmetic.add(variance, small))
        scale, bias = arguments(site, inputs)
        if foldable and contract.normalization is Normalization.FOLDED and mean is not None:
            assert scale is not None
            assert bias is not None
            one = arithmetic.constant(np.ones((1, 1)))
            full = [
                moved(_spread(v, rows), rows.merge) for v in (arithmetic.divide(one, sigma), mean)
            ]
            slope = arithmetic.multiply(scale, full[0])
            shift = arithmetic.subtract(bias, arithmetic.multiply(full[1], slope))
            return (arithmetic.multiply_add(inputs[0], slope, shift),)
        z = moved(arithmetic.divide(deviation, sigma), rows.merge)
        if mixed:
            z, arithmetic = converted(site, z, target), target
        if scale is not None and bias is not None:
            return (arithmetic.multiply_add(z, scale, bias),)
        return (z if scale is None else arithmetic.multiply(z, scale),)

    def whole(site: Site, x: Interval, known: Interval) -> Normalized:
        return normalized(
            x,
            epsilon(site),
            centred=layout.centred,
            least=least_norms(known),
            forms=row_forms(known),
        )

    def positions(site: Site) -> tuple[npt.NDArray[np.intp], bool]:
        flat = np.arange(site.type_of(0).size).reshape(1, *site.type_of(0).shape)
        return layout.rows(site).split(flat)[0], layout.centred

    def values(site: Site, ranges: Sequence[Interval]) -> ValueMap:
        rows = layout.rows(site)
        x = rows.of_interval(ranges[0])
        found = whole(site, x, ranges[0])
        middle, _ = midpoint_radius(x)
        at_middle = normalized(point(middle), epsilon(site), centred=layout.centred).z
        slopes = jacobian(found, layout.centred)
        inner = row_values(rows, rows, x=x, range_=found.z, at_middle=at_middle, jacobian=slopes)
        (_, apart), (_, spread) = midpoint_radius(x), midpoint_radius(found.z)
        inner = normalized_values(
            rows,
            x,
            deviation=found.deviation.magnitude,
            sigma=found.sigma,
            centred=layout.centred,
            mapped=inner,
            charge=np.minimum(row_charge(slopes, apart), spread),
            around=tangents(
                x,
                found.deviation,
                sigma=found.sigma,
                epsilon=epsilon(site),
                centred=layout.centred,
                forms=row_forms(ranges[0]),
            ),
        )
        return scaled_values(inner, *parameters(site))

    def differences(
        site: Site, ranges: Sequence[Interval], errors: Sequence[Radius]
    ) -> DifferenceMap:
        rows = layout.rows(site)
        hull, given = ranges[0].inflate(errors[0].bound), rows.of_radius(errors[0])
        found = whole(site, rows.of_interval(hull), hull)
        limit = apply(SAME_RANGE, lo=found.z.lo, hi=found.z.hi)
        slopes = jacobian(found, layout.centred)
        if np.any(given.bound > _FAR * found.sigma.lo):
            means = ranges[0].inflate(0.5 * errors[0].bound)
            read, between = (whole(site, rows.of_interval(x), x) for x in (ranges[0], means))
            other = secants(read, between, found, layout.centred)
            slopes = closer(slopes, other, given.bound)
        length = normalized_limit(given, found.sigma.lo, rows.length)
        limit = limit.and_also(length.on(limit.shape))
        inner = row_differences(rows, rows, slopes, given, limit)
        now, apart, way = row_forms(ranges[0]), parting(ranges[0]), row_forms(hull)
        departing = None
        if now is not None and apart is not None and way is not None:
            departing = Departing(now, apart, way, found.sigma, epsilon(site))
        inner = normalized_differences(
            rows,
            given,
            limit=length,
            centred=layout.centred,
            mapped=inner,
            charge=np.minimum(row_charge(slopes, given.bound), limit.bound),
            way=way_of(
                found.z,
                found.sigma,
                tangents(
                    rows.of_interval(hull),
                    found.deviation,
                    sigma=found.sigma,
                    epsilon=epsilon(site),
                    centred=layout.centred,
                    forms=row_forms(hull),
                ),
                centred=layout.centred,
            ),
            departing=departing,
        )
        return scaled_differences(inner, parameters(site)[0])

    def rounding(
        site: Site, inputs: Sequence[Interval], result: Interval, contract: RuntimeContract
    ) -> RoundingBound:
        r, rows = rounder(site, contract), layout.rows(site)
        if r.exact:
            return RoundingBound(exactly_zero(EXACT, site.outputs[0].shape), (), LEMMAS)
        x = rows.of_interval(inputs[0])
        found = whole(site, x, inputs[0])
        inner = rounder_of(layout.stash(site), contract)
        mixed = inner.format != r.format
        none = exactly_zero(EXACT, x.shape)
        read = conversion_error(inner, r.format, x) if mixed else none
        e = normalization_error(
            inner,
            contract,
            x=x,
            v=found,
            epsilon=epsilon(site),
            centred=layout.centred,
            converted=read,
            one_pass=layout.one_pass and isinstance(contract.order, AnyOrder),
            running=layout.running
            and isinstance(contract.order, AnyOrder)
            and keeps_moments(rows.length, inner.format),
            squaring=layout.squaring,
        )
        scale, bias = parameters(site)
        z, z_error = rows.merge(found.z.magnitude[None])[0], rows.to_radius(e.z)
        affine = (
            None if site.constant(1) is None else scale,
            None if site.constant(2) is None else bias,
        )
        if mixed:
            # scaled in the type of the result, as ONNX says, or before the only conversion back
            late, large = scaled_error(inner, z, z_error, *affine)
            wide = Interval(-large, large)
            late = late + conversion_error(r, inner.format, wide)
            z_wide = add_up(z, z_error.bound)
            back = conversion_error(r, inner.format, Interval(-z_wide, z_wide))
            error, magnitude = scaled_error(r, z, z_error + back, *affine)
            magnitude = np.maximum(magnitude, large)
            on_the_way = np.asarray(max(e.reached, float(rows.length), float(np.max(x.magnitude))))
            done = finish(r, error.or_else(late), magnitude)
            return no_overflow(done, inner, on_the_way).using(*LEMMAS)
        error, magnitude = scaled_error(r, z, z_error, *affine)
        if layout.foldable and contract.normalization is not Normalization.DIRECT:
            row_scale, row_bias = (rows.split(v[None])[0] for v in (scale, bias))
            folded, reached = folded_error(r, x, v=found, e=e, scale=row_scale, bias=row_bias)
            error = error.or_else(rows.to_radius(folded))
            magnitude = np.maximum(magnitude, rows.merge(reached[None])[0])
        magnitude = np.maximum(magnitude, max(e.reached, float(rows.length)))
        return finish(r, error, magnitude).using(*LEMMAS)

    return Operator(
        name,
        since,
        check=whole_check,
        real=real,
        runtime=runtime,
        values=values,
        differences=differences,
        rounding=rounding,
        work=lambda site: multiply_adds(
            layout.rows(site).count, layout.rows(site).length, MOST_ENTRIES
        ),
        normalizes=positions,
    )


def _spread(per_row: V, rows: Rows) -> V:
    """(k, rows, 1) repeated along the row."""

    def repeat(v: npt.NDArray[E]) -> npt.NDArray[E]:
        return np.broadcast_to(v, (v.shape[0], rows.count, rows.length))

    return moved(per_row, repeat)
