"""The linear maps of the language: matrix products, convolutions, sums of chosen elements."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product as places_of
from math import prod
from typing import Any

import numpy as np

from checker.exact import Array, Index, Linear


def product(weights: Array) -> Linear:
    """x (…, n) → x·W for W (n, m)."""
    n, m = weights.shape
    return Linear(
        weights,
        lambda w, x: (x.reshape(-1, n) @ w).reshape(len(x), -1),
        lambda w, c: (c.reshape(-1, m) @ w.T).reshape(len(c), -1),
        max(n, m),
    )


def chosen(index: Index, size: int, scale: Array, unsure: Any = 0.0) -> Linear:
    """y = scale·Σ_t x[index[t]], index (t, outputs) into `size` inputs, -1 where there is none."""
    once = [np.max(np.bincount(row[row >= 0]), initial=1) <= 1 for row in index]

    def forward(w: Array, x: Array) -> Array:
        padded = np.pad(x, ((0, 0), (0, 1)))  # its last element is what -1 chooses
        return np.asarray(sum(padded[:, row] for row in index) * w)

    def backward(w: Array, c: Array) -> Array:
        padded, scaled = np.zeros((len(c), size + 1)), c * w
        for row, single in zip(index, once, strict=True):
            if single:
                padded[:, row] += scaled
            else:
                np.add.at(padded.T, row, scaled.T)
        return padded[:, :size]

    used = int(np.max(np.bincount(index[index >= 0]), initial=1)) if np.any(index >= 0) else 1
    flat = np.broadcast_to(scale, index.shape[1:]).astype(np.float64)
    return Linear(flat, forward, backward, max(len(index), used), unsure)


def windows(
    pixels: Sequence[int],
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    pads: Sequence[int],
    output: Sequence[int],
) -> Index:
    """(places of the kernel, outputs): the pixels that windows read, -1 in the padding, of which
    `pads` stand before each axis."""
    padded = np.arange(prod(pixels)).reshape(tuple(pixels))
    reach = [
        (o - 1) * s + d * (k - 1) + 1
        for o, s, d, k in zip(output, strides, dilations, kernel, strict=True)
    ]
    sides = [(p, max(r - p - n, 0)) for p, r, n in zip(pads, reach, pixels, strict=True)]
    padded = np.pad(padded, sides, constant_values=-1)
    found = []
    for place in places_of(*(range(k) for k in kernel)):
        starts = zip(place, dilations, strides, output, strict=True)
        cut = tuple(slice(k * d, k * d + (o - 1) * s + 1, s) for k, d, s, o in starts)
        found.append(padded[cut].reshape(-1))
    return np.stack(found)


def convolution(weights: Array, index: Index, channels: int, pixels: int, groups: int) -> Linear:
    """x (n, channels, pixels) with W (m, channels/groups, *kernel) over `windows`."""
    m, places, outputs = weights.shape[0], *index.shape
    inside = weights[0].size

    def forward(w: Array, x: Array) -> Array:
        padded = np.pad(x.reshape(-1, channels, pixels), ((0, 0), (0, 0), (0, 1)))
        columns = padded[:, :, index].reshape(-1, groups, inside, outputs)
        return np.asarray((w.reshape(groups, -1, inside) @ columns).reshape(len(x), -1))

    def backward(w: Array, c: Array) -> Array:
        wide = w.reshape(groups, -1, inside).swapaxes(1, 2)
        columns = wide @ c.reshape(-1, groups, m // groups, outputs)
        columns = columns.reshape(-1, channels, places, outputs)
        padded = np.zeros((len(columns), channels, pixels + 1))
        for k, row in enumerate(index):
            padded[:, :, row] += columns[:, :, k]
        return np.asarray(padded[:, :, :pixels].reshape(len(c), -1))

    return Linear(weights, forward, backward, max(inside, m // groups * places))
