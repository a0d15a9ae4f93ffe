"""Products of stored and computed integers, zero points taken off: exact in both semantics.

What MatMulInteger, ConvInteger and their quantised kin have in common: Σ (a − a₀)·(b − b₀), one
factor stored. Taken off, the zero points leave a product of real numbers (`core`), which the
operator for these already describes. Nothing rounds; a runtime adds in int32, so the obligation is
that no partial sum leaves int32, in whatever order, zero points taken off before or after.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import prod
from typing import cast

import numpy as np
import numpy.typing as npt

from encoders.arithmetic.exact_fields import ObjectArray
from encoders.arithmetic.runtime import Arithmetic, aligned, integers_of, moved
from encoders.arithmetic.values import E, Inputs, V
from encoders.contract.contract import RuntimeContract
from encoders.contract.presets import SEQUENTIAL
from encoders.lemmas.combining import EXACT
from encoders.lemmas.domains import INTEGERS_FIT
from encoders.lemmas.kernel import Radius, exactly_zero
from encoders.numbers.enclosure import FloatArray, Interval
from encoders.operator import (
    DifferenceMap,
    Field,
    Operator,
    RoundingBound,
    Site,
    ValueMap,
)
from encoders.relaxations.affine import (
    AffineMap,
    affine_differences,
    affine_map,
    affine_values,
    moved_part,
    scaled_part,
)
from encoders.relaxations.composed import composed_differences, composed_values
from onnx_import.graph import Array, AttributeValue, DType, TensorType

BYTES = (DType.INT8, DType.UINT8)
_LARGEST = 2.0**31 - 1


@dataclass(frozen=True)
class IntegerProduct:
    """Where a node has its factors and their zero points (which may be missing), and the operator
    `core` that multiplies real numbers so. `spread(site, factor, shape)` is what `shape` of zero
    points of a factor (0 or 1), one each along some axis, becomes so that they broadcast to it."""

    core: Operator
    factors: tuple[int, int]
    zeros: tuple[int, int]
    spread: Callable[[Site, int, tuple[int, ...]], tuple[int, ...]]

    def variable(self, site: Site) -> int:
        """Which factor is computed. Raises UnsupportedModel unless the other one is stored."""
        found = [i for i, at in enumerate(self.factors) if site.constant(at) is None]
        if len(found) != 1:
            raise site.unsupported("exactly one of its two factors must be constant")
        return found[0]


def core_attributes(p: IntegerProduct, site: Site) -> dict[str, AttributeValue]:
    """The node's attributes that the product of real numbers has too."""
    return {k: v for k, v in site.node.attributes.items() if k in p.core.attributes}


def check_product(p: IntegerProduct, site: Site) -> None:
    """Raises UnsupportedModel, naming the node, for a product that has no meaning here."""
    computed = p.variable(site)
    for factor, (at, zero) in enumerate(zip(p.factors, p.zeros, strict=True)):
        if site.type_of(at).dtype not in BYTES:
            raise site.unsupported(f"input {at} is {site.type_of(at).dtype.value}, not 8 bits wide")
        if zero not in site.variable:
            continue
        if factor != computed or site.type_of(zero).size != 1:
            raise site.unsupported(
                f"the zero point (input {zero}) must be a constant, or a single number of the "
                "computed factor"
            )
    for factor in (0, 1):
        shape, zeros = site.type_of(p.factors[factor]).shape, stored_zero(p, site, factor).shape
        if not broadcasts(zeros, shape):
            raise site.unsupported(
                f"zero points of shape {list(zeros)} (input {p.zeros[factor]}) do not fit "
                f"{list(shape)}"
            )
    p.core.check(centred_site(p, site))


def centred_site(p: IntegerProduct, site: Site) -> Site:
    """The product of real numbers that is left when the zero points are taken off."""
    computed = p.variable(site)
    stored = 1 - computed
    weights: Array = np.asarray(site.constants[p.factors[stored]], np.float64)
    weights = weights - np.broadcast_to(stored_zero(p, site, stored), weights.shape)
    constants = (None, weights) if computed == 0 else (weights, None)
    kinds = tuple(TensorType(DType.FLOAT64, site.type_of(at).shape) for at in p.factors)
    output = TensorType(DType.FLOAT64, site.outputs[0].shape)
    inputs = tuple(site.node.inputs[at] for at in p.factors)
    return Site(replace(site.node, inputs=inputs), kinds, (output,), constants)


def product_real(
    p: IntegerProduct, site: Site, inputs: Inputs[ObjectArray], field: Field
) -> ObjectArray:
    """The product over the reals, zero points subtracted from its factors."""
    factors = []
    for factor, (at, zero) in enumerate(zip(p.factors, p.zeros, strict=True)):
        x, z = inputs[at], inputs.optional(zero)
        if z is not None:
            x, z = aligned((x, spread(p, site, factor, z)))
            x = np.asarray(x - z)
        factors.append(x)
    return p.core.real(centred_site(p, site), Inputs(factors), field)[0]


def product_runtime(
    p: IntegerProduct, site: Site, inputs: Inputs[V], arithmetic: Arithmetic[V]
) -> V:
    """The exact sum in integers: in whichever order it is added."""
    whole = integers_of(arithmetic).integers()
    factors = []
    for factor, (at, zero) in enumerate(zip(p.factors, p.zeros, strict=True)):
        x, z = as_whole(inputs[at]), inputs.optional(zero)
        if z is not None:
            over = moved(as_whole(z), partial(spread, p, site, factor))
            x = whole.subtract(*aligned((x, over)))
        factors.append(x)
    return p.core.runtime(centred_site(p, site), Inputs(factors), whole, SEQUENTIAL)[0]


def product_values(p: IntegerProduct, site: Site, ranges: Sequence[Interval]) -> ValueMap:
    """Values of the sum; `ranges` of the computed factor and, where it is, of its zero point."""
    inner = affine_values(_centred(p, site), ranges)
    return composed_values(inner, lambda x: p.core.values(centred_site(p, site), [x]))


def product_differences(
    p: IntegerProduct, site: Site, ranges: Sequence[Interval], errors: Sequence[Radius]
) -> DifferenceMap:
    """Differences through the product, those of the centred factors being those of the factors."""
    centred = _centred(p, site)
    held = affine_values(centred, ranges).range
    return composed_differences(
        affine_differences(centred, errors),
        lambda moved_by: p.core.differences(centred_site(p, site), [held], [moved_by]),
    )


def no_wrapping(
    bound: RoundingBound,
    p: IntegerProduct,
    site: Site,
    ranges: Sequence[Interval],
    bias: float = 0.0,
) -> RoundingBound:
    """The bound if no partial sum of |a|·|b|, zero points counted too, and |bias| leaves int32."""
    computed = p.variable(site)
    sizes = [x.magnitude for x in ranges]
    if len(sizes) == 1:
        sizes.append(np.abs(stored_zero(p, site, computed)))
    size = sum(float(np.max(v, initial=0.0)) for v in sizes)
    stored = np.asarray(site.constants[p.factors[1 - computed]], np.float64)
    weights: Array = np.abs(stored) + np.abs(stored_zero(p, site, 1 - computed))
    constants = (None, weights) if computed == 0 else (weights, None)
    here = replace(centred_site(p, site), constants=constants)
    every = np.full(site.type_of(p.factors[computed]).shape, size)
    largest = float(np.max(product_size(p, here, every), initial=0.0)) + bias
    return sums_in_int32(bound, site, largest)


def sums_in_int32(bound: RoundingBound, site: Site, largest: float) -> RoundingBound:
    """The bound if partial sums, none larger than `largest` in magnitude, stay in int32."""
    return bound.given(
        "no-int32-overflow",
        f"{site.node.describe()}: partial sums reach at most {largest:.6g}, which must not exceed "
        f"{_LARGEST:.0f}",
        INTEGERS_FIT,
        lo=-largest,
        hi=largest,
        least=-_LARGEST - 1.0,
        most=_LARGEST,
    )


def product_size(p: IntegerProduct, site: Site, x: FloatArray) -> FloatArray:
    """Σ w·x of stored weights and x ≥ 0, both not negative, rounded up."""
    return p.core.values(site, [Interval(np.zeros(x.shape), x)]).range.hi


def broadcasts(shape: tuple[int, ...], target: tuple[int, ...]) -> bool:
    """Does numpy broadcast `shape` to `target`?"""
    pairs = zip(shape[::-1], target[::-1], strict=False)
    return len(shape) <= len(target) and all(n in (1, m) for n, m in pairs)


def as_whole(a: V) -> V:
    """Stored integers as numbers that cannot wrap around; anything else as it is."""
    if isinstance(a, np.ndarray) and a.dtype.kind in "iu":
        return cast(V, a.astype(np.float64))
    return a


def _centred(p: IntegerProduct, site: Site) -> AffineMap:
    """The computed factor without its zero point."""
    computed = p.variable(site)
    shape = site.type_of(p.factors[computed]).shape
    itself = moved_part(lambda v: v, lambda v: v)
    if p.zeros[computed] in site.variable:
        zero = site.type_of(p.zeros[computed]).shape
        return affine_map((itself, scaled_part(np.asarray(-1.0), zero, shape)), shape)
    return affine_map((itself,), shape, -stored_zero(p, site, computed))


def stored_zero(p: IntegerProduct, site: Site, factor: int) -> FloatArray:
    """The stored zero points of a factor, broadcasting to it; 0 where there are none."""
    zero = site.constant(p.zeros[factor])
    if zero is None:
        return np.zeros(())
    return np.asarray(spread(p, site, factor, np.asarray(zero, np.float64)[None])[0])


def spread(p: IntegerProduct, site: Site, factor: int, values: npt.NDArray[E]) -> npt.NDArray[E]:
    """(k, *stored) → (k, *such that it broadcasts to the factor)."""
    shape = () if prod(values.shape[1:]) == 1 else p.spread(site, factor, values.shape[1:])
    return values.reshape(values.shape[0], *shape)


def integer_operator(name: str, since: int, p: IntegerProduct) -> Operator:
    """The operator that gives the sum itself, in int32."""

    def check(site: Site) -> None:
        check_product(p, site)

    def real(site: Site, inputs: Inputs[ObjectArray], field: Field) -> tuple[ObjectArray, ...]:
        return (product_real(p, site, inputs, field),)

    def runtime(
        site: Site, inputs: Inputs[V], arithmetic: Arithmetic[V], contract: RuntimeContract
    ) -> tuple[V, ...]:
        return (product_runtime(p, site, inputs, arithmetic),)

    def values(site: Site, ranges: Sequence[Interval]) -> ValueMap:
        return product_values(p, site, ranges)

    def differences(
        site: Site, ranges: Sequence[Interval], errors: Sequence[Radius]
    ) -> DifferenceMap:
        return product_differences(p, site, ranges, errors)

    def rounding(
        site: Site, inputs: Sequence[Interval], result: Interval, contract: RuntimeContract
    ) -> RoundingBound:
        exact = RoundingBound(exactly_zero(EXACT, result.shape))
        return no_wrapping(exact, p, site, inputs)

    def work(site: Site) -> int:
        return p.core.work(centred_site(p, site))

    operator = Operator(
        name,
        since,
        check=check,
        real=real,
        runtime=runtime,
        values=values,
        differences=differences,
        rounding=rounding,
        affine=True,
        work=work,
        dtypes=BYTES,
        exact_integer_sums=True,
    )
    return operator.reading(*p.core.attributes)
