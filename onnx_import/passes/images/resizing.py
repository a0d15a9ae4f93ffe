"""A cubic or antialiased Resize along several axes: one after the other, the last first, as
runtimes do it."""

from __future__ import annotations

from typing import Any

import numpy as np

from onnx_import.passes.body import Body

ATTRIBUTES = (
    "antialias axes coordinate_transformation_mode cubic_coeff_a exclude_outside "
    "extrapolation_value keep_aspect_ratio_policy mode nearest_mode scales"
)

_ROI_MAY_BE_LEFT_OUT = 13  # and scales beside sizes, from this opset on


def along_each_axis(body: Body) -> None:
    """Nothing where it is neither cubic nor antialiased, or along one axis only."""
    if body.number("mode", "") != "cubic" and not body.number("antialias", 0):
        return
    shape, output = body.shape(0), body.types[body.node.outputs[0]].shape
    inputs, opset = body.node.inputs, body.node.opset
    at = 1 if opset <= 10 else 2
    given = inputs[at] if len(inputs) > at else ""
    stored = body.known.get(given)
    scales = np.ones(len(shape), np.float32)
    axes = body.number("axes", range(len(shape)))
    sized = stored is None or not stored.size
    if stored is not None and stored.size:
        scales[list(axes)] = stored.reshape(-1)
    resized = [a for a, n in enumerate(shape) if output[a] != n or scales[a] != 1]
    if len(resized) < 2 or len(inputs) < 2:
        return
    left_out = ("axes", "scales", "keep_aspect_ratio_policy")
    same: dict[str, Any] = {k: v for k, v in body.node.attributes.items() if k not in left_out}
    if sized and body.number("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise body.unsupported(
            "attribute 'keep_aspect_ratio_policy' of a cubic or antialiased Resize along several "
            "axes; state the sizes that are meant"
        )
    x, sizes = inputs[0], list(shape)
    for axis in reversed(resized):
        sizes[axis] = output[axis]
        only = np.ones(len(shape), np.float32)
        only[axis] = scales[axis]
        whole = inputs[1] if opset < _ROI_MAY_BE_LEFT_OUT else ""
        last = body.store(np.zeros(0, np.float32)) if opset < _ROI_MAY_BE_LEFT_OUT else ""
        more = [whole, last, body.store(np.array(sizes))] if sized else [whole, body.store(only)]
        x = body.add("Resize", x, *(more[1:] if opset <= 10 else more), **same)
