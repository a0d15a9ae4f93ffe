"""Which schedule a contract sets for the sum at one place in a graph."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from math import prod

from encoders.contract.contract import Reduction, RuntimeContract
from encoders.families.pooling import reduced_axes, reduced_terms
from encoders.operator import Site, remembered
from onnx_import.graph import Array, TensorType

REDUCED = ("ReduceSum", "ReduceMean", "ReduceL1", "ReduceSumSquare")


@remembered
def reduction_at(site: Site) -> Reduction:
    """What a rule of a contract can ask of this place.

    Rows and columns are those of one matrix product: M and N of Gemm, MatMul's last two axes,
    the output channels of a group and the output pixels of a convolution.
    """
    node = site.node
    stored = 1 in node.stored
    of_node = partial(
        Reduction, node.op, node.name, type=site.outputs[0].dtype, written=node.written
    )
    match node.op:
        case "Gemm" | "MatMul":
            a, b = site.type_of(0).shape, site.type_of(1).shape
            if node.op == "Gemm":
                terms = a[0 if site.integer("transA", 0) else 1]
                rows, columns = site.outputs[0].shape
            else:
                terms = a[-1]
                rows = a[-2] if len(a) > 1 else 1
                columns = b[-1] if len(b) > 1 else 1
            plain = len(a) > 1 and len(b) == 2 and site.real("alpha", 1.0) == 1.0
            return of_node(terms, rows, columns, stored, plain=plain, form=form_of(site))
        case "Conv":
            w = site.type_of(1).shape
            rows = w[0] // site.integer("group", 1)
            pixels = prod(site.outputs[0].shape[2:])
            return of_node(prod(w[1:]), rows, pixels, stored, form=form_of(site))
        case op if op in REDUCED:
            shape, axes = site.type_of(0).shape, reduced_axes(site)
            columns = prod(shape[max(axes, default=0) + 1 :])
            terms = len(reduced_terms(site))
            rows = site.outputs[0].size // max(columns, 1)
            return of_node(terms, rows, columns, form=form_of(site))
        case _:
            return of_node()


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
