"""Layers of quantised tensors as onnxruntime computes them, several of them computed.

The integers of every input stand for numbers (q − zero)·scale; over the reals a layer is a plain
operator of these whose result is quantised again, zero point added before it is rounded or after.
How a runtime comes by the number of steps is the layer's own (`Layer.taken`), from the integers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt

from encoders.arithmetic.exact_fields import ObjectArray
from encoders.arithmetic.runtime import Arithmetic, aligned, integers_of, moved
from encoders.arithmetic.values import E, Inputs, V
from encoders.contract.contract import Contraction, RuntimeContract
from encoders.lemmas.combining import EXACT
from encoders.lemmas.kernel import Radius, carried_back, exactly_zero
from encoders.numbers.enclosure import FloatArray, Interval, add_up
from encoders.operator import (
    Contribution,
    DifferenceMap,
    Field,
    Moved,
    Operator,
    RoundingBound,
    Site,
    ValueMap,
)
from encoders.quantized.grid_steps import (
    LEMMAS,
    IntegerGrid,
    grid_of,
    step_differences,
    step_rounding,
    step_values,
    stored_steps,
)
from encoders.quantized.integer_products import BYTES, as_whole, sums_in_int32
from encoders.quantized.parameters import check_scale
from encoders.quantizing import Meaning, Stored, Term
from encoders.relaxations.affine import AffineMap, affine_differences, affine_values, scaled_part
from encoders.relaxations.composed import composed_differences, composed_values
from encoders.rounding.error_arithmetic import ErrorArithmetic
from encoders.rounding.rounding_bounds import Rounder, rounder_of
from encoders.rounding.tracked import Tracked, tracked
from onnx_import.graph import DType, TensorType

_CONVERTED = 2.0**31
"""Kernels convert numbers of steps to int32 before they clamp them, where a larger one becomes the
least integer on some processors."""


@dataclass(frozen=True)
class Quantised:
    """Positions of a tensor, its scale and its zero point, which may be missing."""

    at: int
    scale: int
    zero: int


FACTORS = (Quantised(0, 1, 2), Quantised(3, 4, 5))
"""Where an operator of two quantised tensors has them; 6 and 7 are those of its result."""


class Taken(Protocol):
    """The number of steps of the result as a runtime computes it, and what is added once it is
    rounded: from the integers of every input, scales and zero points."""

    def __call__(
        self,
        site: Site,
        stored: Sequence[V],
        scales: Sequence[V],
        zeros: Sequence[V],
        result: tuple[V, V],
        arithmetic: Arithmetic[V],
        /,
    ) -> tuple[V, V]: ...


def _no_limit(site: Site) -> float:
    return 0.0


@dataclass(frozen=True)
class Layer:
    """The plain operator, its quantised inputs, scale and zero point of the result by position, and
    what a runtime does; `largest` is the largest magnitude of its sums of integers. The zero point
    is added to the number of steps before that is rounded, or `zero_after`."""

    core: Operator
    reads: tuple[Quantised, ...]
    scale: int
    zero: int
    taken: Taken
    largest: Callable[[Site], float] = _no_limit
    zero_after: bool = False

    def steps(self, site: Site) -> IntegerGrid:
        """The integers of the result."""
        return grid_of(site.outputs[0].dtype)

    def number(self, site: Site, position: int) -> FloatArray:
        """A scale, or a zero point, which is 0 where there is none, as a number."""
        held = site.constant(position)
        return np.zeros(()) if held is None else np.asarray(held, np.float64).reshape(())

    def plain(self, site: Site) -> Site:
        """The operator on the numbers that its inputs stand for; one site for all who ask."""
        return site.once(self._of_numbers)

    def _of_numbers(self, site: Site) -> Site:
        kinds, constants, names = [], [], []
        for read in self.reads:
            kinds.append(TensorType(DType.FLOAT64, site.type_of(read.at).shape))
            held = site.constant(read.at)
            scale, zero = self.number(site, read.scale), self.number(site, read.zero)
            exact = None if held is None else (np.asarray(held, np.float64) - zero) * scale
            constants.append(exact)
            names.append(site.node.inputs[read.at])
        node = replace(site.node, op=self.core.name, inputs=tuple(names), attributes={})
        output = TensorType(DType.FLOAT64, site.outputs[0].shape)
        return Site(node, tuple(kinds), (output,), tuple(constants))

    def computed(self, site: Site) -> list[Quantised]:
        """The inputs that are no constants."""
        return [read for read in self.reads if site.constant(read.at) is None]


def _check(layer: Layer, site: Site) -> None:
    allowed = {read.at for read in layer.computed(site)}
    if set(site.variable) != allowed or not allowed:
        raise site.unsupported("scales and zero points must be constants")
    for read in layer.reads:
        if site.type_of(read.at).dtype not in BYTES:
            kind = site.type_of(read.at).dtype.value
            raise site.unsupported(f"input {read.at} is {kind}, not 8 bits wide")
    pairs = [(r.scale, r.zero) for r in layer.reads] + [(layer.scale, layer.zero)]
    for scale, zero in pairs:
        check_scale(site, scale)
        if site.type_of(scale).dtype is not DType.FLOAT32:
            raise site.unsupported(f"its scale (input {scale}) is not float32")
        if site.type_of(scale).size != 1:
            raise site.unsupported(f"its scale (input {scale}) must be a single number")
        given = site.inputs[zero] if zero < len(site.inputs) else None
        if given is not None and given.size != 1:
            raise site.unsupported(f"its zero point (input {zero}) must be a single number")
    if site.outputs[0].dtype not in BYTES:
        raise site.unsupported(f"a result in {site.outputs[0].dtype.value} is not supported")
    layer.core.check(layer.plain(site))


def _read(layer: Layer, site: Site, read: Quantised) -> AffineMap:
    """The numbers that integers stand for: 9 times 24 bits, exact."""
    shape = site.type_of(read.at).shape
    scale, zero = layer.number(site, read.scale), layer.number(site, read.zero)
    bias = np.broadcast_to(-zero * scale, shape)
    return AffineMap((scaled_part(scale, shape, shape),), bias, np.zeros(shape))


def _written(layer: Layer, site: Site) -> AffineMap:
    """From numbers to steps and the zero point."""
    shape = site.outputs[0].shape
    factor = np.asarray(1.0 / layer.number(site, layer.scale))
    zero = np.broadcast_to(layer.number(site, layer.zero), shape)
    return AffineMap((scaled_part(factor, shape, shape, 2.0**-52),), zero, np.zeros(shape))


def _values(layer: Layer, site: Site, ranges: Sequence[Interval]) -> ValueMap:
    """Of the numbers of steps and the zero point."""
    reads = zip(layer.computed(site), ranges, strict=True)
    inner = [affine_values(_read(layer, site, read), [x]) for read, x in reads]
    core = layer.core.values(layer.plain(site), [m.range for m in inner])

    def backward(c: FloatArray) -> Contribution:
        pulled = core.backward(c)
        total, coefficients = pulled.constant, list[FloatArray | None]()
        for mapped, on in zip(inner, pulled.coefficients, strict=True):
            if on is None:
                coefficients.append(None)
                continue
            first = mapped.backward(on)
            total = add_up(total, first.constant)
            coefficients += first.coefficients
        return Contribution(tuple(coefficients), total)

    numbers = ValueMap(core.range, backward)
    return composed_values(numbers, lambda v: affine_values(_written(layer, site), [v]))


def _differences(
    layer: Layer, site: Site, ranges: Sequence[Interval], errors: Sequence[Radius]
) -> DifferenceMap:
    computed = layer.computed(site)
    maps = [_read(layer, site, read) for read in computed]
    held = [affine_values(m, [x]).range for m, x in zip(maps, ranges, strict=True)]
    inner = [affine_differences(m, [e]) for m, e in zip(maps, errors, strict=True)]
    core = layer.core.differences(layer.plain(site), held, [m.radius for m in inner])

    def backward(c: FloatArray) -> Moved:
        pulled = core.backward(c)
        costs, coefficients = [pulled.cost], list[FloatArray | None]()
        for mapped, on in zip(inner, pulled.coefficients, strict=True):
            if on is None:
                coefficients.append(None)
                continue
            first = mapped.backward(on)
            costs.append(first.cost)
            coefficients += first.coefficients
        return Moved(tuple(coefficients), carried_back(costs))

    numbers = DifferenceMap(core.radius, backward)
    return composed_differences(numbers, lambda e: affine_differences(_written(layer, site), [e]))


def _followed(
    layer: Layer, site: Site, inputs: Sequence[Interval], contract: RuntimeContract
) -> tuple[Rounder, Tracked, Interval]:
    """The number of steps as a runtime computes it, and what is added to it once it is rounded."""
    r = rounder_of(DType.FLOAT32, contract)
    arithmetic = ErrorArithmetic(r, replace(contract, contraction=Contraction.EITHER))
    given = iter(inputs)
    arguments: list[Tracked | None] = []
    for i, held in enumerate(site.constants):
        if site.inputs[i] is None:
            arguments.append(None)
        elif held is None:
            x = next(given)
            arguments.append(tracked(x, exactly_zero(EXACT, x.shape)))
        else:
            arguments.append(arithmetic.stored(held))
    t, zero = _steps_taken(layer, site, Inputs(arguments), arithmetic)
    return r, t, Interval(zero.ideal.lo[0], zero.ideal.hi[0])


def _steps_taken(
    layer: Layer, site: Site, inputs: Inputs[V], arithmetic: Arithmetic[V]
) -> tuple[V, V]:
    whole = integers_of(arithmetic).integers()
    none = whole.constant(np.zeros(()))

    def zero(position: int) -> V:
        held = inputs.optional(position) if position < len(inputs) else None
        return none if held is None else moved(as_whole(held), _single)

    return layer.taken(
        site,
        [as_whole(inputs[r.at]) for r in layer.reads],
        [moved(inputs[r.scale], _single) for r in layer.reads],
        [zero(r.zero) for r in layer.reads],
        (moved(inputs[layer.scale], _single), zero(layer.zero)),
        arithmetic,
    )


def _single(v: npt.NDArray[E]) -> npt.NDArray[E]:
    return v.reshape(v.shape[0])


def centred(stored: Sequence[V], zeros: Sequence[V], arithmetic: Arithmetic[V]) -> list[V]:
    """The integers of inputs, zero points taken off: exact."""
    whole = integers_of(arithmetic).integers()
    return [whole.subtract(*aligned((q, z))) for q, z in zip(stored, zeros, strict=True)]


def product_scale(scales: Sequence[V], scale: V, arithmetic: Arithmetic[V]) -> V:
    """(s_a·s_b)/s_y, each rounded: what a product of two factors is multiplied by."""
    return arithmetic.divide(*aligned((arithmetic.multiply(*scales), scale)))


def nothing(arithmetic: Arithmetic[V]) -> V:
    """What is added to a number of steps that has its zero point already."""
    return integers_of(arithmetic).integers().constant(np.zeros(()))


def layer_operator(name: str, layer: Layer) -> Operator:
    """The operator of this name, onnxruntime's own."""

    def real(site: Site, inputs: Inputs[ObjectArray], field: Field) -> tuple[ObjectArray, ...]:
        numbers = []
        for read in layer.reads:
            x = np.asarray(inputs[read.at])
            scale, zero = (field.constant(layer.number(site, p)) for p in (read.scale, read.zero))
            x, scale, zero = aligned((x, scale, zero))
            numbers.append((x - zero) * scale)
        (y,) = layer.core.real(layer.plain(site), Inputs(numbers), field)
        scale, zero, none = (
            field.constant(v)
            for v in (
                layer.number(site, layer.scale),
                layer.number(site, layer.zero),
                np.zeros(()),
            )
        )
        y, scale, zero, none = aligned((y, scale, zero, none))
        t = y / scale
        if layer.zero_after:
            return (layer.steps(site).real(t, zero, field),)
        return (layer.steps(site).real(t + zero, none, field),)

    def runtime(
        site: Site, inputs: Inputs[V], arithmetic: Arithmetic[V], contract: RuntimeContract
    ) -> tuple[V, ...]:
        t, zero = _steps_taken(layer, site, inputs, arithmetic)
        t, zero = aligned((t, zero))
        return (layer.steps(site).runtime(t, zero, arithmetic),)

    def values(site: Site, ranges: Sequence[Interval]) -> ValueMap:
        return composed_values(
            _values(layer, site, ranges), lambda u: step_values(layer.steps(site), u)
        )

    def differences(
        site: Site, ranges: Sequence[Interval], errors: Sequence[Radius]
    ) -> DifferenceMap:
        u = _values(layer, site, ranges).range
        return composed_differences(
            _differences(layer, site, ranges, errors),
            lambda e: step_differences(layer.steps(site), u, e),
        )

    def rounding(
        site: Site, inputs: Sequence[Interval], result: Interval, contract: RuntimeContract
    ) -> RoundingBound:
        r, t, zero = _followed(layer, site, inputs, contract)
        found = RoundingBound(
            step_rounding(layer.steps(site), t, zero, r, result.shape, _CONVERTED)
        )
        return _fitting(layer, site, found).using(*LEMMAS)

    def storing(site: Site, inputs: Sequence[Interval], contract: RuntimeContract) -> Stored:
        r, t, _ = _followed(layer, site, inputs, contract)
        found = stored_steps(r, t, site.outputs[0].shape, _CONVERTED)
        return replace(found, moved=_fitting(layer, site, RoundingBound(found.moved)).radius)

    def meant(site: Site) -> Meaning:
        terms: list[Term] = []
        for read, held in zip(layer.reads, layer.plain(site).constants, strict=True):
            scale, zero = layer.number(site, read.scale), layer.number(site, read.zero)
            grid = grid_of(site.type_of(read.at).dtype).of(scale, zero)
            terms.append((read.at, grid) if held is None else np.asarray(held, np.float64))
        scale, zero = layer.number(site, layer.scale), layer.number(site, layer.zero)
        attributes = layer.plain(site).node.attributes
        written = layer.steps(site).of(scale, zero)
        return Meaning(layer.core.name, tuple(terms), attributes, written=written, storing=storing)

    return Operator(
        name,
        1,
        check=lambda site: _check(layer, site),
        real=real,
        runtime=runtime,
        values=values,
        differences=differences,
        rounding=rounding,
        work=lambda site: layer.core.work(layer.plain(site)),
        dtypes=BYTES,
        meant=meant,
    )


def _fitting(layer: Layer, site: Site, bound: RoundingBound) -> RoundingBound:
    """The bound where sums of integers stay in int32, if there are any."""
    largest = layer.largest(site)
    return sums_in_int32(bound, site, largest) if largest else bound


def chosen(first: Operator, second: Operator, where: Callable[[Site], bool]) -> Operator:
    """The first operator, or the second at sites `where` it is that."""

    def at(site: Site) -> Operator:
        return second if where(site) else first

    return replace(
        first,
        check=lambda site: at(site).check(site),
        real=lambda site, *given: at(site).real(site, *given),
        runtime=lambda site, *given: at(site).runtime(site, *given),
        values=lambda site, *given: at(site).values(site, *given),
        differences=lambda site, *given: at(site).differences(site, *given),
        rounding=lambda site, *given: at(site).rounding(site, *given),
        work=lambda site: at(site).work(site),
        meant=lambda site: at(site).meant(site),
    )
