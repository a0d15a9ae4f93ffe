"""Finds every operator by walking the folder `encoders/ops`: each module there names its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache

from encoders import ops
from encoders.collecting import collected
from encoders.operator import Operator, Site
from encoders.rounding.accumulation import accumulating
from encoders.rounding.operand_truncation import with_truncated_operands
from onnx_import.errors import UnsupportedModel, shorten
from onnx_import.graph import Node
from onnx_import.onnx.foreign import WITHOUT_MEANING, is_known
from onnx_import.passes.folding.fold import ALONE


@cache
def operators() -> Mapping[str, Operator]:
    """Every operator by its ONNX name. Raises RuntimeError if two files claim one name."""
    every = collected(ops, "OPERATORS", Operator)
    return {o.name: _of_numbers(with_truncated_operands(accumulating(o))) for o in every}


def _of_numbers(operator: Operator) -> Operator:
    """The operator, which refuses what does not fit together, and to compute with or make tensors
    that have no elements."""

    def check(site: Site) -> None:
        for position in () if operator.movement else site.variable:
            if not site.type_of(position).size:
                raise site.unsupported(f"it computes with an empty tensor (input {position})")
        if not operator.movement and not all(kind.size for kind in site.outputs):
            raise site.unsupported("it computes an empty tensor; leave the node out")
        _check_narrow(operator, site)
        try:
            operator.check(site)
        except (ValueError, LookupError, ArithmeticError, TypeError) as error:
            raise site.unsupported(
                f"its inputs do not fit each other ({shorten(error)}); export the model again"
            ) from error

    return replace(operator, check=check)


def _check_narrow(operator: Operator, site: Site) -> None:
    """Raises UnsupportedModel where numbers of at most eight bits, those of bytes apart, are
    computed with: conversions say themselves which they know."""
    for kind in (*(site.type_of(p) for p in site.variable), *site.outputs):
        if kind.dtype.is_narrow and not operator.converts:
            raise site.unsupported(
                f"computed {kind.dtype.value} is only taken to and from wider types, by Cast, "
                "QuantizeLinear and DequantizeLinear"
            )


def lookup(node: Node) -> Operator:
    """The operator of a node.

    Raises UnsupportedModel, naming the node, if there is none, the node's opset is older than it,
    or it does not understand an attribute: one of a newer opset must not pass in silence.
    """
    operator = operators().get(node.op) if is_known(node.domain, node.op) else None
    if operator is None and not node.domain and node.op in ALONE:
        raise UnsupportedModel(
            f"{node.describe()} is computed when a file is read, which takes constant inputs and "
            "an exact result; export the model with fixed shapes"
        )
    if operator is None:
        full = f"{node.domain}.{node.op}" if node.domain else node.op
        why = WITHOUT_MEANING.get(node.op, "'refine ops' lists the ones that are")
        raise UnsupportedModel(
            f"node '{node.name}': operator {full} (opset {node.opset}) is not supported; {why}"
        )
    if node.opset < operator.since:
        raise UnsupportedModel(
            f"{node.describe()}: opset {node.opset} is not supported, the first that is is "
            f"{operator.since}; convert the model with onnx.version_converter"
        )
    unknown = sorted(set(node.attributes) - operator.attributes)
    if unknown:
        names = ", ".join(f"'{name}'" for name in unknown)
        raise UnsupportedModel(
            f"{node.describe()}: attribute {names} (opset {node.opset}) is not supported; "
            "export the model without it or with another opset"
        )
    return operator
