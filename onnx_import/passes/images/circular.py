"""TensorScatter: rows written into a cache, which may go round."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from onnx_import.passes.body import Body

_MOST = 2**26


def tensor_scatter(body: Body) -> None:
    """Rows of the update at places of each batch's own, once around where it is circular."""
    shape, update = body.shape(0), body.shape(1)
    axis = body.axis(-2, len(shape))
    length, count = shape[axis], update[axis]
    given = len(body.node.inputs) > 2 and bool(body.node.inputs[2])
    starts = np.zeros(shape[0], np.int64)
    if given:
        starts = body.constant(2, "the places").astype(np.int64)
    mode = body.number("mode", "linear")
    if axis == 0 or starts.shape != shape[:1] or mode not in ("linear", "circular"):
        raise body.unsupported(f"attribute 'mode' is '{mode}', 'axis' {axis}")
    fits = count <= length and (mode == "circular" or int(starts.max()) + count <= length)
    if not fits or int(starts.min()) < 0:
        raise body.unsupported(f"{count} rows at {starts.tolist()} leave the {length} that it has")
    if math.prod(shape) > _MOST:
        raise body.unsupported(f"its data has {math.prod(shape)} numbers; supported are {_MOST}")
    others = (*shape[:axis], count, *shape[axis + 1 :])
    if update != others:
        raise body.unsupported(f"its update (input 1) must have the shape {list(others)}")
    at: list[Any] = list(np.indices(update))
    at[axis] = (starts.reshape(-1, *(1,) * (len(shape) - 1)) + at[axis]) % length
    source = np.arange(math.prod(shape)).reshape(shape)
    source[tuple(at)] = math.prod(shape) + np.arange(math.prod(update)).reshape(update)
    both = body.add("Concat", *(body.reshape(body.node.inputs[i], -1) for i in (0, 1)), axis=0)
    body.add("Gather", both, body.store(source), axis=0)
