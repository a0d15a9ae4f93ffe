"""Concat: joins tensors along `axis`; some of them may be constants."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from encoders.arithmetic.exact_fields import ObjectArray
from encoders.arithmetic.runtime import Arithmetic, joined
from encoders.arithmetic.values import Inputs, V
from encoders.contract.contract import RuntimeContract
from encoders.gradients.rule import Carried, Gradient, Reverse
from encoders.lemmas.combining import EXACT
from encoders.lemmas.kernel import Radius, exactly_zero, placed
from encoders.lemmas.ranges.placing import range_of, ranges_joined, stored_range
from encoders.numbers.enclosure import FloatArray, Interval, inner_up
from encoders.operator import (
    Contribution,
    DifferenceCarry,
    DifferenceMap,
    Field,
    Operator,
    RoundingBound,
    Site,
    ValueMap,
)
from encoders.rounding.rounding_bounds import no_rounding, rounder, stored_loss
from onnx_import.graph import COMPUTED


def _axis(site: Site) -> int:
    """The joined axis, counted with the sample axis in front."""
    rank = len(site.outputs[0].shape)
    axis = site.integer("axis", 0 if site.node.opset < 4 else rank)
    if not -rank <= axis < rank:
        raise site.unsupported(f"attribute 'axis' is missing or out of range ({axis})")
    return axis % rank + 1


def check(site: Site) -> None:
    _axis(site)


def real(site: Site, inputs: Inputs[ObjectArray], field: Field) -> tuple[ObjectArray, ...]:
    present = [x for x in inputs if x is not None]
    samples = max(x.shape[0] for x in present)
    full = [np.broadcast_to(x, (samples, *x.shape[1:])) for x in present]
    return (np.concatenate(full, axis=_axis(site)),)


def runtime(
    site: Site, inputs: Inputs[V], arithmetic: Arithmetic[V], contract: RuntimeContract
) -> tuple[V, ...]:
    return (joined(inputs, _axis(site)),)


def _places(site: Site) -> list[tuple[slice, ...]]:
    """Where each input stands in the output, behind the axis of samples or functionals."""
    axis, start, found = _axis(site), 0, []
    for position in range(len(site.inputs)):
        end = start + site.type_of(position).shape[axis - 1]
        found.append((*(slice(None),) * axis, slice(start, end)))
        start = end
    return found


def _joined(site: Site, variable: Iterable[FloatArray]) -> FloatArray:
    """These arrays of the inputs that vary, and the constants, in the output's shape."""
    parts = site.arguments(variable, lambda stored, _: np.asarray(stored, np.float64))
    return np.concatenate([p for p in parts if p is not None], axis=_axis(site) - 1)


def _pulled(site: Site, bias: FloatArray) -> Callable[[FloatArray], Contribution]:
    """Functionals of the output, each input's share of them and what the constants add: linear in
    the number of inputs, of which there may be thousands."""
    places = _places(site)
    wanted = tuple(places[i] for i in site.variable)

    def backward(c: FloatArray) -> Contribution:
        return Contribution(tuple(c[where] for where in wanted), inner_up(c, bias))

    return backward


def _bias(site: Site) -> FloatArray:
    return _joined(site, (np.zeros(site.type_of(i).shape) for i in site.variable))


def values(site: Site, ranges: Sequence[Interval]) -> ValueMap:
    parts = site.arguments(
        (range_of(x) for x in ranges),
        lambda stored, _: stored_range(np.asarray(stored, np.float64)),
    )
    range_ = ranges_joined([x for x in parts if x is not None], _axis(site) - 1)
    return ValueMap(range_, _pulled(site, _bias(site)))


def differences(site: Site, ranges: Sequence[Interval], errors: Sequence[Radius]) -> DifferenceMap:
    places, shape = _places(site), site.outputs[0].shape
    parts = zip(site.variable, errors, strict=True)
    radius = placed(shape, [(places[position][1:], error) for position, error in parts])
    wanted, zero = tuple(places[i] for i in site.variable), exactly_zero(EXACT, shape)
    carry = DifferenceCarry(lambda c: tuple(c[where] for where in wanted), zero)
    return DifferenceMap(radius, carry)


def rounding(
    site: Site, inputs: Sequence[Interval], result: Interval, contract: RuntimeContract
) -> RoundingBound:
    """Exact, but for constants that the compute format cannot hold."""
    if not site.outputs[0].dtype.is_float:
        return no_rounding(site)
    return RoundingBound(stored_loss(rounder(site, contract), _bias(site)))


def gradient(r: Reverse) -> Carried:
    axis, start = _axis(r.site) - 1, 0
    found = {}
    for i, kind in enumerate(r.site.inputs):
        assert kind is not None
        if r.wants(i):
            found[i] = r.up.cut(axis, start, start + kind.shape[axis])
        start += kind.shape[axis]
    return found


OPERATORS = (
    Operator(
        "Concat",
        since=4,
        check=check,
        real=real,
        runtime=runtime,
        values=values,
        differences=differences,
        rounding=rounding,
        gradient=Gradient(rule=gradient),
        movement=True,
        affine=True,
        dtypes=COMPUTED,
    )
    .reading("axis")
    .by_version(),
)
