"""Cotangents of what is given by index: each input element gets the sum over what it was read for.

The index of a Gather, of windows or of reduced axes (`encoders.families.gathering`) names the input
elements that an output element reads; here are, for each input element, the outputs that read it.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import numpy as np
import numpy.typing as npt

from encoders.families.movement import indices
from encoders.families.windows import Window, patches
from encoders.gradients.rule import Carried, Gradient, Reverse
from encoders.gradients.tape import Term
from encoders.operator import Site

Index = npt.NDArray[np.intp]

_MOST = 2**26


def readers(index: Index, shape: tuple[int, ...], site: Site) -> Index:
    """For each element of a tensor of `shape` the flat places of `index` where it is named, along
    a first axis; −1 where there are no more.

    Raises UnsupportedModel, naming the node, where that takes too much room.
    """
    flat, size = index.reshape(-1), prod(shape)
    places = np.flatnonzero(flat >= 0)
    order = places[np.argsort(flat[places], kind="stable")]
    counts = np.bincount(flat[order], minlength=size)
    most = max(int(np.max(counts, initial=0)), 1)
    if most * size > _MOST:
        raise site.unsupported(
            f"an element is read {most} times, and to carry {size} cotangents back by as many sums "
            "takes more room than supported"
        )
    found = np.full((most, size), -1, np.intp)
    depth = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    found[depth, flat[order]] = order
    return found.reshape(most, *shape)


def added_up(up: Term, index: Index, shape: tuple[int, ...], site: Site) -> Term:
    """What cotangents of values read at `index` (of the same shape) give at their sources."""
    named = readers(index, shape, site)
    if len(named) == 1:
        return up.picked(named[0])
    return up.picked(named).summed((0,), keep=False)


def gathered(index_of: Callable[[Site], Index]) -> Gradient:
    """Of an operator that places elements of its first input: `index_of` says which."""

    def rule(r: Reverse) -> Carried:
        if r.wanted - {0}:
            raise r.site.unsupported("only its first input can be differentiated by")
        return {0: added_up(r.up, index_of(r.site), r.x.shape, r.site)}

    return Gradient(rule=rule)


def window_places(shape: tuple[int, ...], window: Window) -> Index:
    """(N, C, kernel elements, *output): the flat places of an input of this shape that the windows
    read, −1 in the pads."""
    widths = [(0, 0), (0, 0), *zip(window.before, window.after, strict=True)]
    return patches(np.pad(indices(shape), widths, constant_values=-1), window)
