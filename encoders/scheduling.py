"""Which schedule a contract sets for the sum at one place in a graph."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from encoders.contract.contract import Reduction, RuntimeContract
from encoders.operator import Site, remembered
from encoders.registry import operators
from onnx_import.graph import Array, TensorType


@remembered
def reduction_at(site: Site) -> Reduction:
    """What a rule of a contract can ask of this place."""
    node = site.node
    own = node.written or node.alike
    of_node = partial(Reduction, node.op, node.name, type=site.outputs[0].dtype, written=own)
    operator = operators().get(node.op)
    if operator is None or operator.sums is None:
        return of_node()
    extent = operator.sums.extent(site)
    return of_node(
        extent.terms,
        extent.rows,
        extent.columns,
        1 in node.stored if operator.sums.products else None,
        plain=extent.plain if operator.sums.products else None,
        form=form_of(site),
    )


def form_of(site: Site) -> str:
    """All that is known of a node but its name and what its weights are, in a line: "made" if it is
    not in the file, inputs in order, and attributes.

    Integers are given as they are, other inputs by type and shape, with "=" where the file stores
    them and "~" where they are constant but computed.
    """
    kinds = enumerate(zip(site.inputs, site.constants, strict=True))
    inputs = [_input(kind, held, i in site.node.stored) for i, (kind, held) in kinds]
    attributes = site.node.attributes.items()
    given = [f"{k}={v!r}" for k, v in sorted(attributes, key=lambda pair: pair[0])]
    return " ".join([*([] if site.node.written else ["made"]), *inputs, *given])


def _input(kind: TensorType | None, held: Array | None, stored: bool) -> str:
    if kind is None:
        return "none"
    if held is not None and not kind.dtype.is_float:
        return str(held.tolist())
    mark = "" if held is None else "=" if stored else "~"
    return f"{kind.dtype.value}[{','.join(map(str, kind.shape))}]{mark}"


def contract_at(site: Site, contract: RuntimeContract) -> RuntimeContract:
    """The contract, free of rules, under which this node is computed, with what it says of
    elementary functions in this operator and in the format in which it is computed."""
    here = contract.at(reduction_at(site)) if contract.rules else contract
    dtype = site.outputs[0].dtype
    if here.exact or not dtype.is_float:
        return here
    computed = here.wider_than(dtype) or here.format_of(dtype)
    functions = here.functions.at(site.node.op, computed.precision)
    return here if functions is here.functions else replace(here, functions=functions)
