"""Inputs whose numbers are known when a file is read: integers and truth values of one run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import numpy_helper

from onnx_import.errors import ModelError
from onnx_import.graph import Array
from onnx_import.onnx.inferable import every_node
from onnx_import.passes.bodies import rename


def with_given(
    model: onnx.ModelProto, arrays: Mapping[str, Array]
) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """The model with those of its inputs as constants that hold no floating-point numbers and are
    among the arrays; and notes on them. The model itself is changed.

    A dimension that they name has the size that they give it in the other inputs, too.

    Raises ModelError, naming the input, for an array that does not fit.
    """
    stored = {tensor.name for tensor in model.graph.initializer}
    sizes: dict[str, int] = {}
    notes = []
    for value in [v for v in model.graph.input if v.name in arrays and v.name not in stored]:
        declared = value.type.tensor_type
        try:
            dtype = onnx.helper.tensor_dtype_to_np_dtype(declared.elem_type)
        except (KeyError, TypeError):
            continue
        if dtype.kind not in "iub":
            continue
        tensor = _stored(value, np.asarray(arrays[value.name]), dtype)
        _name(sizes, value, tensor.dims)
        model.graph.initializer.append(tensor)
        model.graph.input.remove(value)
        notes.append(f"input '{value.name}' holds the {dtype} numbers that are given")
    for value in model.graph.input:
        for dim in value.type.tensor_type.shape.dim:
            if not dim.HasField("dim_value") and dim.dim_param in sizes:
                dim.dim_value = sizes[dim.dim_param]
    return model, tuple(notes)


def with_pinned(
    model: onnx.ModelProto, arrays: Mapping[str, Array]
) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """The model in which nodes read constants in place of those of its inputs that hold no
    floating-point numbers and are among the arrays; and notes on them. The inputs stay, and nothing
    reads them: what is said of the model holds where they are given these numbers. The model itself
    is changed.

    Raises ModelError, naming the input, for an array that does not fit.
    """
    taken = {t for node in every_node(model) for t in (*node.input, *node.output)}
    instead: dict[str, str] = {}
    notes = []
    for value in model.graph.input:
        if value.name not in arrays:
            continue
        code = value.type.tensor_type.elem_type
        dtype = onnx.helper.tensor_dtype_to_np_dtype(code)
        if dtype.kind not in "iub":
            continue
        tensor = _stored(value, np.asarray(arrays[value.name]), dtype)
        name = f"{value.name}/given"
        while name in taken:
            name += "'"
        taken.add(name)
        tensor.name = instead[value.name] = name
        model.graph.initializer.append(tensor)
        notes.append(f"input '{value.name}' is one point, whose {dtype} numbers are constants")
    for node in model.graph.node:
        rename(node, instead)
    for value in model.graph.output:
        if value.name in instead:
            raise ModelError(
                f"input '{value.name}' is an output as well, of which nothing is asked"
            )
    return model, tuple(notes)


def _name(sizes: dict[str, int], value: onnx.ValueInfoProto, shape: Sequence[int]) -> None:
    """What the named dimensions of an input are. Raises ModelError where one was something else."""
    for dim, size in zip(value.type.tensor_type.shape.dim, shape, strict=True):
        named = not dim.HasField("dim_value") and dim.dim_param != ""
        if named and sizes.setdefault(dim.dim_param, size) != size:
            raise ModelError(
                f"dimension '{dim.dim_param}' is {size} in the array given for '{value.name}', and "
                f"{sizes[dim.dim_param]} in another one"
            )


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
