"""Abstractions of f∘g from those of g and f: one operator that is two steps."""

from __future__ import annotations

from collections.abc import Callable

from encoders.enclosure import FloatArray, Interval, add_up
from encoders.operator import Contribution, DifferenceMap, ValueMap


def composed_values(inner: ValueMap, outer: Callable[[Interval], ValueMap]) -> ValueMap:
    """f∘g, f taking one tensor; `outer` is asked on the image of g."""
    last = outer(inner.image)

    def backward(c: FloatArray) -> Contribution:
        pulled = last.backward(c)
        (coefficients,) = pulled.coefficients
        assert coefficients is not None
        first = inner.backward(coefficients)
        return Contribution(first.coefficients, add_up(first.constant, pulled.constant))

    return ValueMap(last.image, backward)


def composed_differences(
    inner: DifferenceMap, outer: Callable[[FloatArray], DifferenceMap]
) -> DifferenceMap:
    """Differences through f∘g; `outer` is asked with those that g leaves."""
    last = outer(inner.radius)

    def backward(c: FloatArray) -> Contribution:
        pulled = last.backward(c)
        (coefficients,) = pulled.coefficients
        assert coefficients is not None
        first = inner.backward(coefficients)
        return Contribution(first.coefficients, add_up(first.constant, pulled.constant))

    return DifferenceMap(last.radius, backward)
