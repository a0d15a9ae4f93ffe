"""What an operator asks of its inputs and the function that ONNX defines for it does not notice.

Decomposed, such a node would broadcast, or count from the end, and mean something else.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

import numpy as np
import onnx
from onnx.shape_inference import InferenceError

from onnx_import.errors import UnsupportedModel, shorten

_LOSSES = ("NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss")


def require_valid(model: onnx.ModelProto, ops: Collection[str]) -> None:
    """Raises UnsupportedModel for a node of these operators that ONNX's inference rejects, whose
    stored targets are negative, whose angles are not half as many as what they turn, or whose
    single query sees all keys in some runtimes and a part of them in others."""
    try:
        onnx.shape_inference.infer_shapes(model, strict_mode=True)
    except InferenceError as error:
        for op in ops:
            _, mine, text = str(error).partition(f"(op_type:{op}")
            if mine:
                raise UnsupportedModel(
                    f"a node ({op}) does not fit its inputs ({shorten(text.partition('] ')[2])}); "
                    "export the model again"
                ) from error
    except (RuntimeError, ValueError, TypeError):
        return
    for node in model.graph.node:
        why = _why_not(model.graph, node)
        if why:
            raise UnsupportedModel(f"node '{node.name or node.op_type}' ({node.op_type}): {why}")


def _why_not(graph: onnx.GraphProto, node: onnx.NodeProto) -> str:
    given = {a.name: a.i for a in node.attribute if a.type == onnx.AttributeProto.INT}
    if node.op_type in _LOSSES:
        for tensor in graph.initializer:
            targets = onnx.numpy_helper.to_array(tensor) if tensor.name == node.input[1] else None
            if targets is not None and np.any(
                (targets < 0) & (targets != given.get("ignore_index"))
            ):
                return (
                    "a target (input 1) is negative and is not 'ignore_index'; number the classes "
                    "from 0"
                )
    if node.op_type == "RotaryEmbedding":
        shapes = dict(_shapes(graph))
        x, cache = (shapes.get(t, []) for t in node.input[:2])
        heads = given.get("num_heads", 0) or 1
        turned = given.get("rotary_embedding_dim", 0) or (
            x[-1] // (heads if len(x) == 3 else 1) if x else 0
        )
        if x and cache and turned > 0 and cache[-1] > 0 and 2 * cache[-1] != turned:
            return (
                f"cos_cache (input 1) has {cache[-1]} angles for {turned} numbers that are turned; "
                "half as many are needed"
            )
    if node.op_type == "Attention" and given.get("is_causal") and len(node.input) > 4:
        shapes = dict(_shapes(graph))
        queries, keys, past = (shapes.get(node.input[i], []) for i in (0, 1, 4))
        if node.input[4] and past[-2:-1] != [0] and keys[-2:-1] != [1] and queries[-2:-1] == [1]:
            return (
                "behind past keys (input 4) its one query sees as many of the new ones as ONNX's "
                "'is_causal' leaves it, and all of them in onnxruntime; leave 'is_causal' out, or "
                "state a mask (input 3)"
            )
    return ""


def _shapes(graph: onnx.GraphProto) -> Iterator[tuple[str, list[int]]]:
    """Names and shapes of the tensors whose shape the graph says."""
    for value in (*graph.input, *graph.value_info):
        if value.type.tensor_type.HasField("shape"):
            yield value.name, [d.dim_value for d in value.type.tensor_type.shape.dim]
    for tensor in graph.initializer:
        yield tensor.name, list(tensor.dims)
