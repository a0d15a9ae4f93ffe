"""Inputs whose numbers are known when a file is read: integers and truth values of one run."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import numpy_helper

from onnx_import.errors import ModelError
from onnx_import.graph import Array


def with_given(
    model: onnx.ModelProto, arrays: Mapping[str, Array]
) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """The model with those of its inputs as constants that hold no floating-point numbers and are
    among the arrays; and notes on them. The model itself is changed.

    Raises ModelError, naming the input, for an array that does not fit.
    """
    stored = {tensor.name for tensor in model.graph.initializer}
    notes = []
    for value in [v for v in model.graph.input if v.name in arrays and v.name not in stored]:
        declared = value.type.tensor_type
        try:
            dtype = onnx.helper.tensor_dtype_to_np_dtype(declared.elem_type)
        except (KeyError, TypeError):
            continue
        if dtype.kind not in "iub":
            continue
        model.graph.initializer.append(_stored(value, np.asarray(arrays[value.name]), dtype))
        model.graph.input.remove(value)
        notes.append(f"input '{value.name}' holds the {dtype} numbers that are given")
    return model, tuple(notes)


def _stored(
    value: onnx.ValueInfoProto, array: Array, dtype: np.dtype[np.generic]
) -> onnx.TensorProto:
    dims = value.type.tensor_type.shape.dim
    wanted = [d.dim_value if d.HasField("dim_value") else None for d in dims]
    fits = len(wanted) == array.ndim and all(
        w in (None, n) for w, n in zip(wanted, array.shape, strict=True)
    )
    open_ended = [1 if w is None else w for w in wanted]
    if not fits and array.size == np.prod(open_ended, dtype=np.int64):
        array, fits = array.reshape(open_ended), True  # an array without the axis of the batch
    if not fits or array.dtype.kind not in "iubf":
        said = ["?" if w is None else w for w in wanted]
        raise ModelError(
            f"input '{value.name}' has shape {said}; the array given is of shape "
            f"{list(array.shape)} and type {array.dtype}"
        )
    with np.errstate(invalid="ignore"):
        held = array.astype(dtype)
    if not np.array_equal(held, array):
        raise ModelError(
            f"input '{value.name}' holds {dtype} numbers; some that are given are none"
        )
    return numpy_helper.from_array(held, value.name)
