"""When two nodes are the same function, over the reals or bit for bit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx

from encoders.program import Step
from onnx_import.graph import Graph, Node


def is_copy(step: Step) -> bool:
    """The identity over the reals, of a computed float: an Identity, a Pad by nothing or a cast to
    a float."""
    site = step.site
    source, target = site.inputs[0], site.outputs[0]
    if source is None or site.constants[0] is not None or source.shape != target.shape:
        return False
    return source.dtype.is_float and target.dtype.is_float and step.operator.likeness.copies(site)


def is_unchanged(step: Step) -> bool:
    """The identity, of numbers of any type."""
    site = step.site
    return site.inputs[0] == site.outputs[0] and step.operator.likeness.copies(site)


def key_of(graph: Graph, step: Step, names: Mapping[str, str], bits: bool = False) -> Any:
    """Equal for nodes with equal operator, attributes, constants and (renamed) inputs.

    `bits` asks for equal types too: equal nodes then compute the same bits, not only the same
    real numbers.
    """
    node = step.node
    arguments = tuple(
        ""
        if not t
        else content_of(graph.constants[t], bits)
        if graph.is_constant(t)
        else (names.get(t, t), graph.types[t].shape, bits and graph.types[t].dtype)
        for t in node.inputs
    )
    attributes = attributes_of(step, bits)
    dtype = graph.types[node.outputs[0]].dtype
    kind = "float" if dtype.is_float and not bits else dtype.value  # all widths are reals
    return node.op, node.domain, _version(node), kind, attributes, arguments


def attributes_of(step: Step, bits: bool) -> tuple[Any, ...]:
    """Those that say something: not what would be so without them."""
    schema, implied = _schema(step.node), step.operator.likeness.implied
    return tuple(
        (k, content_of(v, bits) if isinstance(v, np.ndarray) else repr(v))
        for k, v in sorted(step.node.attributes.items())
        if k not in implied and not _says_nothing(k, v, schema)
    )


def _says_nothing(name: str, value: Any, schema: onnx.defs.OpSchema | None) -> bool:
    """Is this what ONNX assumes where the attribute is left out?"""
    if schema is not None and name in schema.attributes:
        default = schema.attributes[name].default_value
        if default.name and shown(onnx.helper.get_attribute_value(default)) == shown(value):
            return True
    plain = {"dilations": 1, "strides": 1, "pads": 0, "output_padding": 0}
    return name in plain and all(v == plain[name] for v in value)


def _version(node: Node) -> int:
    """The opset since which the operator is what it is in the node's."""
    schema = _schema(node)
    return node.opset if schema is None else schema.since_version


def _schema(node: Node) -> onnx.defs.OpSchema | None:
    try:
        return onnx.defs.get_schema(node.op, node.opset, node.domain)
    except onnx.defs.SchemaError:
        return None


def content_of(values: Any, bits: bool = False) -> tuple[tuple[int, ...], str, bytes]:
    """Shape and values: exact, whatever the type they are stored in, or bit for bit."""
    array = np.asarray(values)
    if not bits:
        array = array.astype(np.int64) if array.dtype.kind in "iub" else array.astype(np.float64)
        array = array + 0  # no negative zeros
    return array.shape, array.dtype.str, array.tobytes()


def shown(attribute: Any) -> str:
    """An attribute's value as text, for a sentence."""
    return attribute.decode(errors="replace") if isinstance(attribute, bytes) else str(attribute)
