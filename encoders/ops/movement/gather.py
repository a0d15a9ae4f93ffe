"""Gather, GatherElements: elements picked along an axis by constant indices."""

from __future__ import annotations

import numpy as np

from encoders.families.gathering import Index, gather_operator
from encoders.families.movement import indices
from encoders.families.parameters import axis_of
from encoders.operator import Site


def _choice(site: Site) -> tuple[Index, int]:
    """The given indices, counted from 0, and the axis. Raises UnsupportedModel."""
    shape = site.type_of(0).shape
    axis = axis_of(site, site.integer("axis", 0), len(shape))
    given = site.constant(1)
    if given is None:
        raise site.unsupported("the indices (input 1) must be constant")
    chosen = np.asarray(given).astype(np.intp)
    n = shape[axis]
    if np.any((chosen < -n) | (chosen >= n)):
        raise site.unsupported(f"an index (input 1) is out of range for an axis of length {n}")
    return np.where(chosen < 0, chosen + n, chosen), axis


def index_of(site: Site) -> Index:
    """For each output element the flat position in `data` of Gather: whole slices along one
    axis."""
    chosen, axis = _choice(site)
    return np.take(indices(site.type_of(0).shape), chosen, axis=axis)


def element_index_of(site: Site) -> Index:
    """For each output element the flat position in `data` of GatherElements: elements along one
    axis."""
    chosen, axis = _choice(site)
    shape = site.type_of(0).shape
    part = tuple(slice(None) if i == axis else slice(0, n) for i, n in enumerate(chosen.shape))
    return np.take_along_axis(indices(shape)[part], chosen, axis=axis)


def check(site: Site) -> None:
    _choice(site)


def check_elements(site: Site) -> None:
    """Raises UnsupportedModel, naming the node, for indices of a shape that GatherElements does not
    allow."""
    chosen, axis = _choice(site)
    shape = site.type_of(0).shape
    if len(chosen.shape) != len(shape) or any(
        i != axis and n > m for i, (n, m) in enumerate(zip(chosen.shape, shape, strict=False))
    ):
        raise site.unsupported(
            f"indices (input 1) of shape {list(chosen.shape)} do not fit data of shape "
            f"{list(shape)}"
        )


OPERATORS = (
    gather_operator("Gather", 1, index_of, check=check).reading("axis"),
    gather_operator("GatherElements", 11, element_index_of, check=check_elements).reading("axis"),
)
