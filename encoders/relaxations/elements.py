"""One output element of an elementwise operator, as an operator application of its own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from encoders.site import Element, Site
from onnx_import.graph import Array, TensorType


def broadcast_element(site: Site, row: int) -> Element:
    """The flat output element `row` of an operator whose inputs broadcast to its output."""
    shape = site.outputs[0].shape
    rank = len(shape)
    place = np.unravel_index(row, shape)
    positions: list[int] = []
    inputs: list[TensorType | None] = []
    constants: list[Array | None] = []
    for kind, constant in zip(site.inputs, site.constants, strict=True):
        if kind is None:
            inputs.append(None)
            constants.append(None)
            continue
        own = place[rank - len(kind.shape) :]
        at = tuple(0 if n == 1 else int(i) for i, n in zip(own, kind.shape, strict=True))
        inputs.append(TensorType(kind.dtype, (1,) * rank))
        if constant is None:
            constants.append(None)
            positions.append(int(np.ravel_multi_index(at, kind.shape)) if at else 0)
        else:
            constants.append(np.asarray(constant)[at].reshape((1,) * rank))
    output = TensorType(site.outputs[0].dtype, (1,) * rank)
    small = replace(site, inputs=tuple(inputs), outputs=(output,), constants=tuple(constants))
    return Element(small, tuple(positions))
