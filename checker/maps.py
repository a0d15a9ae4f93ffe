"""The linear maps of the language: matrix products, convolutions, sums of chosen elements."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from checker.exact import Array, Linear

Index = np.typing.NDArray[np.int64]


def product(weights: Array) -> Linear:
    """x (…, n) → x·W for W (n, m)."""
    n, m = weights.shape
    forward = lambda w, x: (x.reshape(-1, n) @ w).reshape(len(x), -1)  # noqa: E731
    backward = lambda w, c: (c.reshape(-1, m) @ w.T).reshape(len(c), -1)  # noqa: E731
    return Linear(weights, forward, backward, max(n, m))


def chosen(index: Index, size: int, scale: Array, unsure: Any = 0.0) -> Linear:
    """y = scale·Σ_t x[index[t]], index (t, outputs) into `size` inputs, -1 where there is none."""
    times = [int(np.max(np.bincount(row[row >= 0]), initial=1)) for row in index]

    def forward(w: Array, x: Array) -> Array:
        padded = np.pad(x, ((0, 0), (0, 1)))  # its last element is what -1 chooses
        return np.asarray(sum(padded[:, row] for row in index) * w)

    def backward(w: Array, c: Array) -> Array:
        padded, scaled = np.zeros((len(c), size + 1)), c * w
        for row, once in zip(index, times, strict=True):
            if once == 1:
                padded[:, row] += scaled
            else:
                np.add.at(padded.T, row, scaled.T)
        return padded[:, :size]

    flat = np.broadcast_to(scale, index.shape[1:]).astype(np.float64)
    used = int(np.max(np.bincount(index[index >= 0]), initial=1))
    return Linear(flat, forward, backward, max(len(index), used), unsure)


def windows(pixels: Any, kernel: Any, strides: Any, dilations: Any, pads: Any) -> Index:
    """(*outputs, *kernel): the pixels that windows read, -1 in the padding."""
    sides = list(zip(pads[: len(kernel)], pads[len(kernel) :], strict=True))
    padded = np.pad(np.arange(prod(pixels)).reshape(pixels), sides, constant_values=-1)
    spans = [d * (k - 1) + 1 for k, d in zip(kernel, dilations, strict=True)]
    seen = np.lib.stride_tricks.sliding_window_view(padded, spans)
    return seen[tuple(slice(None, None, step) for step in (*strides, *dilations))]


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
