"""Abstractions of f∘g and of f + g from those of f and g: one operator that is several steps."""

from __future__ import annotations

from collections.abc import Callable

from encoders.lemmas.kernel import Radius, carried_back, enclosed
from encoders.lemmas.ranges.reals import RANGE_SUM
from encoders.numbers.enclosure import FloatArray, Interval, add_up
from encoders.operator import Contribution, DifferenceMap, Moved, ValueMap


def composed_values(inner: ValueMap, outer: Callable[[Interval], ValueMap]) -> ValueMap:
    """f∘g, f taking one tensor; `outer` is asked on the range of g."""
    last = outer(inner.range)

    def backward(c: FloatArray) -> Contribution:
        pulled = last.backward(c)
        (coefficients,) = pulled.coefficients
        assert coefficients is not None
        first = inner.backward(coefficients)
        return Contribution(first.coefficients, add_up(first.constant, pulled.constant))

    return ValueMap(last.range, backward)


def composed_differences(
    inner: DifferenceMap, outer: Callable[[Radius], DifferenceMap]
) -> DifferenceMap:
    """Differences through f∘g; `outer` is asked with those that g leaves."""
    last = outer(inner.radius)

    def backward(c: FloatArray) -> Moved:
        pulled = last.backward(c)
        (coefficients,) = pulled.coefficients
        assert coefficients is not None
        first = inner.backward(coefficients)
        return Moved(first.coefficients, carried_back((first.cost, pulled.cost)))

    return DifferenceMap(last.radius, backward)


def added_values(f: ValueMap, g: ValueMap) -> ValueMap:
    """f + g of different inputs, those of f first; both have the output's shape."""
    range_ = enclosed(RANGE_SUM, X=f.range, Y=g.range)
    return ValueMap(range_, lambda c: _joined(f.backward(c), g.backward(c)))


def added_differences(f: DifferenceMap, g: DifferenceMap) -> DifferenceMap:
    """Differences of f + g, which have different inputs, those of f first."""
    radius = f.radius + g.radius

    def backward(c: FloatArray) -> Moved:
        first, second = f.backward(c), g.backward(c)
        cost = carried_back((first.cost, second.cost))
        return Moved((*first.coefficients, *second.coefficients), cost)

    return DifferenceMap(radius, backward)


def _joined(first: Contribution, second: Contribution) -> Contribution:
    constant = add_up(first.constant, second.constant)
    return Contribution((*first.coefficients, *second.coefficients), constant)
