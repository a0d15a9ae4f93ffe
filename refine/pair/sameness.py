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
    node, like = step.node, step.operator.likeness
    if like.reshapes and not bits and not graph.is_constant(node.inputs[0]):
        made = graph.types[node.outputs[0]]
        read = names.get(node.inputs[0], node.inputs[0])
        return "shaped", made.shape, made.dtype.is_float or made.dtype.value, read
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
    version = _version(node) if like.by_version else None
    return node.op, node.domain, version, kind, attributes, arguments


def attributes_of(step: Step, bits: bool) -> tuple[Any, ...]:
    """Those that say something, and what ONNX assumes where one is left out: that changes from one
    version of an operator to another."""
    implied = step.operator.likeness.implied
    said = {**_assumed(step.node), **step.node.attributes}
    return tuple(
        (k, content_of(v, bits) if isinstance(v, np.ndarray) else shown(v))
        for k, v in sorted(said.items())
        if k not in implied and not _says_nothing(k, v)
    )


def _assumed(node: Node) -> dict[str, Any]:
    """The attributes that the operator has where the node does not give them."""
    schema = _schema(node)
    if schema is None:
        return {}
    defaults = ((name, a.default_value) for name, a in schema.attributes.items())
    return {name: onnx.helper.get_attribute_value(v) for name, v in defaults if v.name}


def _says_nothing(name: str, value: Any) -> bool:
    """Is this what it is where nobody says anything, of attributes that ONNX has no default of?"""
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
        if array.dtype.kind not in "iub":
            array = array.astype(np.float64)
        elif not np.any(array > np.iinfo(np.int64).max):  # as int64 those would be negative
            array = array.astype(np.int64)
        array = array + 0  # no negative zeros
    return array.shape, array.dtype.str, array.tobytes()


def shown(attribute: Any) -> str:
    """An attribute's value as text, for a sentence."""
    return attribute.decode(errors="replace") if isinstance(attribute, bytes) else str(attribute)
