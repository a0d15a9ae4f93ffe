"""Where onnxruntime executes another function of attention than ONNX defines today.

A query that sees no key has a row of zeros. In the type double onnxruntime has no kernel and
executes the function of the ONNX that it was built with, which divides 0 by 0 there. Its kernels
for other types take the least number of the type for −∞ where a row has nothing else, and give
zeros; ONNX's softmax of such a row is that of its scores.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import ml_dtypes
import numpy as np

from onnx_import.errors import UnsupportedModel
from onnx_import.graph import Array, DType, Node, TensorType

_REPLACED = "SoftmaxOutSafe"  # how names begin that ONNX's function gives to rows that are zeros
_BEFORE = ("Cast", "Identity", "Softmax")  # what lies between these rows and their masks


def require_one_reading(
    nodes: Sequence[Node], types: Mapping[str, TensorType], constants: Mapping[str, Array]
) -> None:
    """Raises UnsupportedModel for attention with a query of which onnxruntime reads the mask in a
    way of its own."""
    writers = {tensor: node for node in nodes for tensor in node.outputs}
    for node in nodes:
        if node.op == "Where" and node.outputs[0].startswith(_REPLACED):
            why = _why_not(node, writers, types, constants)
            if why:
                raise UnsupportedModel(f"{node.describe()}: {why}")


def _why_not(
    node: Node,
    writers: Mapping[str, Node],
    types: Mapping[str, TensorType],
    constants: Mapping[str, Array],
) -> str:
    dead, tensor = constants.get(node.inputs[0]), node.inputs[-1]
    if types[tensor].dtype is DType.FLOAT64:
        if dead is not None and np.any(dead):
            return (
                "a query of this attention sees no key, for which onnxruntime gives NaN in "
                "float64, and ONNX 0; let each query see one"
            )
        return ""
    while tensor in writers and writers[tensor].op in _BEFORE:
        tensor = writers[tensor].inputs[0]
    added = writers[tensor].inputs if tensor in writers and writers[tensor].op == "Add" else ()
    for mask in (constants[t] for t in added if t in constants):
        least = float(ml_dtypes.finfo(mask.dtype).min)  # type: ignore[no-untyped-call]
        wide = mask.astype(np.float64)
        if np.any(np.all(wide <= least, axis=-1) & np.any(wide == least, axis=-1)):
            return (
                f"the mask of a query of this attention has {least:g} alone, which onnxruntime "
                "takes for one that sees no key; use -inf for that, or a number nearer to 0"
            )
    return ""
