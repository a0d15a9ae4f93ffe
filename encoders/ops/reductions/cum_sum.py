"""CumSum: running sums along one axis, each of them a sum of its own."""

from __future__ import annotations

import numpy as np

from encoders.families.gathering import Index
from encoders.families.movement import indices
from encoders.families.parameters import axis_of, integers_at
from encoders.families.pooling import PADDING
from encoders.families.signed_sum import check_one_variable
from encoders.families.sums import sum_operator
from encoders.gradients.rule import Carried, Gradient, Reverse
from encoders.numbers.enclosure import FloatArray, LinearPart
from encoders.operator import Site, remembered

_MOST = 2**24  # elements and terms of all sums together


def check(site: Site) -> None:
    check_one_variable(site)
    _axis(site)
    if site.type_of(0).size * site.type_of(0).shape[_axis(site)] > _MOST:
        raise site.unsupported("its running sums have too many terms together; shorten its axis")


@remembered
def _terms(site: Site) -> Index:
    """(length of the axis, *output): the elements up to each output in the order in which they are
    added, and nothing in place of the others."""
    shape, axis = site.type_of(0).shape, _axis(site)
    length, backwards = shape[axis], site.integer("reverse", 0)
    places = np.moveaxis(indices(shape), axis, -1)
    order = np.arange(length)[::-1] if backwards else np.arange(length)
    last = np.arange(length)[::-1] if backwards else np.arange(length)
    added = np.arange(length)[:, np.newaxis] < last + (0 if site.integer("exclusive", 0) else 1)
    taken = np.moveaxis(places[..., order], -1, 0)[..., np.newaxis]
    shown = added.reshape(length, *([1] * (len(shape) - 1)), length)
    return np.moveaxis(np.where(shown, taken, PADDING), -1, axis + 1)


def _summed(site: Site) -> LinearPart:
    axis, length = _axis(site), site.type_of(0).shape[_axis(site)]
    backwards, shifted = bool(site.integer("reverse", 0)), bool(site.integer("exclusive", 0))

    def forward(x: FloatArray) -> FloatArray:
        return _running(x, axis + 1, backwards, shifted)

    def adjoint(c: FloatArray) -> FloatArray:
        return _running(c, axis + 1, not backwards, shifted)

    return LinearPart(forward, forward, adjoint, terms=length, adjoint_terms=length)


def _running(x: FloatArray, axis: int, backwards: bool, shifted: bool) -> FloatArray:
    """Running sums of arrays (k, *shape) from one end; `shifted` leaves each element's own out."""
    turned = np.flip(x, axis) if backwards else x
    total = np.cumsum(turned, axis=axis)
    if shifted:
        behind = [slice(None)] * x.ndim
        behind[axis] = slice(0, -1)
        first = np.zeros_like(np.take(total, [0], axis=axis))
        total = np.concatenate([first, total[tuple(behind)]], axis=axis)
    return np.flip(total, axis) if backwards else total


def _axis(site: Site) -> int:
    named = integers_at(site, 1, "axis")
    if named is None or len(named) != 1:
        raise site.unsupported("input 1 ('axis') must be one integer")
    return axis_of(site, named[0], len(site.type_of(0).shape))


def gradient(r: Reverse) -> Carried:
    """The same from the other end."""
    backwards, shifted = (r.site.integer(name, 0) for name in ("reverse", "exclusive"))
    found = r.tape.node(
        r.up, r.read(1), op="CumSum", kind=r.x.kind, reverse=int(not backwards), exclusive=shifted
    )
    return {0: found}


OPERATORS = (
    sum_operator("CumSum", 11, _terms, lambda site: None, check, _summed)
    .reading("exclusive", "reverse")
    .derived(Gradient(rule=gradient)),
)
