"""A quick stand-in for the emulator: sums by the machine's own matrix product.

A BLAS that adds a block of products in order, fused, gives the bits of that schedule hundreds of
times faster than emulating it. Whether this machine's does is not assumed: callers compare with
the emulator first (`agrees`), and decide nothing by what a screen says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from encoders.arithmetic.numpy_arithmetic import Carrier, NumpyArithmetic
from encoders.contract.contract import Contraction, RuntimeContract
from encoders.numbers.formats import BINARY32
from gpu_check.emulator.emulator import emulate
from onnx_import.graph import Graph

_AGREEING = 0.95
_LONGEST_BLOCK = 384  # longer sums are split by the BLAS itself

_COLUMNS = 64  # narrow products are added in other orders


class ScreeningArithmetic(NumpyArithmetic):
    """`NumpyArithmetic` whose fused float32 chains are matrix products."""

    def chain(self, pairs: Sequence[tuple[Any, Any]], start: Any | None) -> Any | None:
        """Σ a_k·b_k (+ start) of row by column slices; any other shape as ever."""
        fused = self.contract.contraction is Contraction.ALWAYS
        if not fused or self.format != BINARY32 or not 2 <= len(pairs) <= _LONGEST_BLOCK:
            return super().chain(pairs, start)
        left, right = pairs[0]
        if left.shape[-1] != 1 or right.shape[-2:-1] != (1,) or right.shape[0] != 1:
            return super().chain(pairs, start)
        if left.shape[1:-1].count(1) != left.ndim - 2 or right.ndim != left.ndim:
            return super().chain(pairs, start)
        a = np.concatenate([p[0] for p in pairs], axis=-1)
        b = np.concatenate([p[1] for p in pairs], axis=-2)
        if start is not None:
            if start.shape[0] != 1 or start.shape[-1] != b.shape[-1]:
                return super().chain(pairs, start)
            a = np.concatenate([np.ones_like(a[..., :1]), a], axis=-1)
            b = np.concatenate([start.reshape(*b.shape[:-2], 1, -1), b], axis=-2)
        columns = b.shape[-1]
        wide = np.zeros((b.shape[-2], -(-columns // _COLUMNS) * _COLUMNS), np.float32)
        wide[:, :columns] = b.reshape(b.shape[-2:])
        total = a.reshape(a.shape[0], -1) @ wide
        return total[:, :columns].reshape(*a.shape[:-1], columns)


def screen(graph: Graph, inputs: Mapping[str, Carrier], contract: RuntimeContract) -> Any:
    """About what `emulate` gives, much faster where sums are long."""
    return emulate(graph, inputs, contract, arithmetic=ScreeningArithmetic)


def agrees(graph: Graph, inputs: Mapping[str, Carrier], contract: RuntimeContract) -> bool:
    """Does the screen give the emulator's bits on nearly all of these inputs?"""
    quick, slow = screen(graph, inputs, contract), emulate(graph, inputs, contract)
    same = [
        np.all((quick[t] == slow[t]).reshape(len(slow[t]), -1), axis=1).mean()
        for t in graph.outputs
    ]
    return min(same, default=0.0) >= _AGREEING
