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
from encoders.numbers.formats import FORMAT_OF_DTYPE
from encoders.operator import Site
from onnx_import.graph import DType, TensorType

Index = npt.NDArray[np.intp]

_MOST = 2**26
_EQUAL_OF_ALL = 11  # the opset from which on Equal is of numbers of every type


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


def summed_back(r: Reverse, terms: Index, counts: npt.NDArray[np.float64] | None) -> Carried:
    """Of sums of the elements that `terms` (terms, *output) names, divided by `counts`."""
    up, size = r.up, prod(r.output.shape)
    if counts is not None:
        up = up / r.stored(counts.astype(up.kind.dtype.numpy))
    named = readers(terms, r.x.shape, r.site)
    found = up.picked(np.where(named < 0, -1, named % size))
    return {0: found.reshaped(r.x.shape) if len(named) == 1 else found.summed((0,), keep=False)}


def extreme_back(r: Reverse, terms: Index, *, largest: bool) -> Carried:
    """Of the largest or the smallest of the elements that `terms` (terms, *output) names: all goes
    to the first one that is it."""
    tape, kind = r.tape, r.x.kind.dtype
    limit = FORMAT_OF_DTYPE[kind].largest_number
    read = r.x.picked(np.maximum(terms, -1), absent=-limit if largest else limit)
    shape = (1, *terms.shape[1:])
    place = tape.node(
        read,
        op="ArgMax" if largest else "ArgMin",
        kind=TensorType(DType.INT64, shape),
        axis=0,
        keepdims=1,
    )
    every = r.stored(np.arange(len(terms)).reshape(-1, *(1,) * (len(shape) - 1)))
    if tape.opset < _EQUAL_OF_ALL:
        below, above = place.converted(kind), every.converted(kind)
        first = (below < above).negated().also((below > above).negated())
    else:
        first = place.equals(every)
    chosen = first.chosen(r.up.reshaped(shape), 0)
    return {0: added_up(chosen, np.maximum(terms, -1), r.x.shape, r.site)}


def window_places(shape: tuple[int, ...], window: Window) -> Index:
    """(N, C, kernel elements, *output): the flat places of an input of this shape that the windows
    read, −1 in the pads."""
    widths = [(0, 0), (0, 0), *zip(window.before, window.after, strict=True)]
    return patches(np.pad(indices(shape), widths, constant_values=-1), window)


def transposed_conv(r: Reverse, up: Term, weights: Term, window: Window) -> Term:
    """The transpose of a convolution with these windows, of the shape of the first input."""
    needed = zip(r.x.shape[2:], window.output, strict=True)
    extra = tuple(
        n - (s * (m - 1) + d * (k - 1) + 1 - b - a)
        for (n, m), s, d, k, b, a in zip(
            needed,
            window.strides,
            window.dilations,
            window.kernel,
            window.before,
            window.after,
            strict=True,
        )
    )
    return r.tape.node(
        up,
        weights,
        op="ConvTranspose",
        kind=r.x.kind,
        dilations=window.dilations,
        group=r.site.integer("group", 1),
        kernel_shape=window.kernel,
        output_padding=extra,
        pads=(*window.before, *window.after),
        strides=window.strides,
    )


def window_products(read: Term, beside: Term, window: Window, per_group: tuple[int, int]) -> Term:
    """(groups, outputs per group, terms): of each output channel of `beside` with every element
    that a window of `read` has, the sum of products over samples and places."""
    groups, outputs = per_group
    columns = read.picked(window_places(read.shape, window))
    samples = read.shape[0]
    columns = columns.reshaped((samples, groups, -1, prod(window.output)))
    rows = beside.reshaped((samples, groups, outputs, -1))
    left = rows.permuted((1, 2, 0, 3)).reshaped((groups, outputs, -1))
    terms = columns.shape[2]
    right = columns.permuted((1, 0, 3, 2)).reshaped((groups, -1, terms))
    return left.matmul(right)
