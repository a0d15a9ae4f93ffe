"""The linear maps of the language: elements moved or scaled, and convolutions."""

from __future__ import annotations

from typing import Any

import numpy as np

from checker.exact import Array, Linear

Index = np.typing.NDArray[np.int64]


def chosen(index: Index, size: int, scale: Any, unsure: Any = 0.0) -> Linear:
    """y = scale·x[index], index (outputs,) into `size` inputs, -1 where there is none."""

    def forward(w: Array, x: Array) -> Array:
        return np.asarray(np.append(x, 0.0)[index] * w)  # its last element is what -1 chooses

    def backward(w: Array, c: Array) -> Array:
        sums = np.zeros((size + 1, len(c)))
        if used > 1:
            np.add.at(sums, index, (c * w).T)
        else:
            sums[index] = (c * w).T
        return np.ascontiguousarray(sums[:size].T)

    flat = np.broadcast_to(scale, index.shape).astype(np.float64)
    used = int(np.max(np.bincount(index[index >= 0]), initial=1))
    return Linear(flat, forward, backward, used, unsure)


def convolution(weights: Array, index: Index, channels: int, pixels: int, groups: int) -> Linear:
    """x (n, channels, pixels) with W (m, channels/groups, places), whose places read the pixels
    index (places, outputs), -1 in the padding; a matrix product where there is one of each."""
    m, places, outputs = weights.shape[0], *index.shape
    inside = weights[0].size

    def forward(w: Array, x: Array) -> Array:
        padded = np.pad(x.reshape(-1, channels, pixels), ((0, 0), (0, 0), (0, 1)))
        columns = padded[:, :, index].reshape(-1, groups, inside, outputs)
        return np.asarray((w.reshape(groups, -1, inside) @ columns).reshape(-1))

    def backward(w: Array, c: Array) -> Array:
        inner = c.reshape(-1, groups, m // groups, outputs).transpose(1, 2, 0, 3)
        wide = w.reshape(groups, -1, inside).swapaxes(1, 2)
        columns = wide @ inner.reshape(groups, m // groups, -1)
        columns = columns.reshape(channels, places, -1, outputs)
        padded = np.zeros((channels, columns.shape[2], pixels + 1))
        for k, row in enumerate(index):
            padded[:, :, row] += columns[:, k]
        return np.asarray(padded[:, :, :pixels].swapaxes(0, 1).reshape(len(c), -1))

    return Linear(weights, forward, backward, max(inside, m // groups * places))
