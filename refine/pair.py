"""A specification and an implementation: how each is read, and which tensors they share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from onnx_import.errors import ModelError
from refine.alignment import checked
from refine.verdict import Side


@dataclass(frozen=True)
class Pair:
    """Two graphs, and the specification's tensor of each input and output of the implementation.

    `equal` names outputs of the implementation at which both are the same real function.
    """

    spec: Side
    impl: Side
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    equal: frozenset[str] = frozenset()


def pair_of(spec: Side, impl: Side) -> Pair:
    """Match inputs and outputs: by name if all names agree, else by order.

    Raises ModelError if their numbers, shapes or kinds differ, or a graph cannot be compared.
    """
    checked(spec.graph)
    checked(impl.graph)
    inputs = _paired("input", spec, impl, impl.graph.inputs, spec.graph.inputs)
    outputs = _paired("output", spec, impl, impl.graph.outputs, spec.graph.outputs)
    return Pair(spec, impl, inputs, outputs)


def _paired(
    kind: str, spec: Side, impl: Side, ours: Sequence[str], theirs: Sequence[str]
) -> dict[str, str]:
    if len(ours) != len(theirs):
        raise ModelError(
            f"the implementation has {len(ours)} {kind}(s), the specification {len(theirs)}"
        )
    by_name = set(ours) == set(theirs)
    pairs = {a: a if by_name else b for a, b in zip(ours, theirs, strict=True)}
    for a, b in pairs.items():
        mine, other = impl.graph.types[a], spec.graph.types[b]
        both_run = not (spec.contract.exact or impl.contract.exact)
        if mine.shape != other.shape:
            raise ModelError(
                f"{kind} '{a}' of the implementation has shape {list(mine.shape)}, "
                f"'{b}' of the specification {list(other.shape)}"
            )
        if mine.dtype.is_float != other.dtype.is_float:
            raise ModelError(
                f"{kind} '{a}' of the implementation is {mine.dtype.value}, "
                f"'{b}' of the specification {other.dtype.value}"
            )
        if kind == "input" and both_run and mine.dtype is not other.dtype:
            raise ModelError(
                f"both graphs run, and input '{a}' of the implementation is {mine.dtype.value}, "
                f"'{b}' of the specification {other.dtype.value}: read one of them as real"
            )
    return pairs
