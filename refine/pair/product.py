"""Two graphs in one, on the same inputs: what agrees is there once, and each output's gap is a
tensor of its own, so that what both have in common cancels when it is pulled back."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from encoders.contract.contract import RuntimeContract
from encoders.program import Step, program_of
from encoders.scheduling import contract_at
from gpu_check.emulator.emulator import leaves_no_choice
from onnx_import.graph import Graph, Node, TensorType, build_graph
from onnx_import.passes.normalize import without_dead
from refine.pair.alignment import COPY, GAP, SPEC
from refine.pair.node_change import gap_nodes
from refine.pair.sameness import is_copy, key_of


@dataclass(frozen=True)
class Product:
    """One graph that holds both; its outputs are the implementation's, the specification's where
    they differ, then the gaps.

    `gaps` has, per output of the implementation, the tensor impl − spec, or None where both are
    the same tensor. `only_spec` names the nodes that the implementation has not, gaps included, and
    `only_impl` those that the specification has not.
    """

    graph: Graph
    gaps: Mapping[str, str | None]
    only_spec: frozenset[str]
    only_impl: frozenset[str]

    @property
    def identical(self) -> bool:
        """Are all outputs of both graphs the same tensors, so that no gap is left?"""
        return not any(self.gaps.values())


def product(
    spec: Graph,
    impl: Graph,
    inputs: Mapping[str, str],
    outputs: Mapping[str, str],
    equal: Collection[str] = (),
    pinned: tuple[RuntimeContract, RuntimeContract] | None = None,
) -> Product:
    """Both graphs on shared inputs, merged wherever they agree over the reals. `equal` names
    outputs that are known to agree. With `pinned`, the contracts under which the specification
    and the implementation run, they are merged where both must compute the same bits."""
    bits = pinned is not None
    nodes = list(impl.order)
    types, constants = dict(impl.types), dict(impl.constants)
    seen: dict[Any, str] = {}
    same: dict[str, str] = {}
    for step in program_of(impl).steps:
        node, out = step.node, step.output
        if is_copy(step) and not bits:
            same[out] = same.get(node.inputs[0], node.inputs[0])
        else:
            key = key_of(impl, step, same, bits), pinned and _computed(step, pinned[1])
            same[out] = seen.setdefault(key, out)
    _with_constants(spec, constants, types)
    theirs = {b: a for a, b in inputs.items()}
    fresh: list[Node] = []
    shared: set[str] = set()
    for step in program_of(spec).steps:
        node, out = step.node, step.output
        if is_copy(step) and not bits:
            theirs[out] = theirs[node.inputs[0]]
            continue
        key = key_of(spec, step, theirs, bits), pinned and _computed(step, pinned[0])
        if key in seen:
            theirs[out] = seen[key]
            shared.add(seen[key])
            continue
        seen[key] = theirs[out] = SPEC + out
        types[SPEC + out] = spec.types[out]
        fresh.append(_renamed(spec, node, SPEC, theirs))
    gaps: dict[str, str | None] = {}
    for a, b in outputs.items():
        other = theirs.get(b, SPEC + b)
        agree = a in equal or same.get(a, a) == other
        gaps[a] = None if agree else GAP + a
        if not agree:
            for node, kind in gap_nodes(GAP + a, (a, types[a]), (other, types[other])):
                fresh.append(node)
                types[node.outputs[0]] = kind
    apart = {a: g for a, g in gaps.items() if g is not None}
    ends = (theirs.get(outputs[a], SPEC + outputs[a]) for a in apart)
    wanted = tuple(dict.fromkeys((*impl.outputs, *ends, *apart.values())))
    needed = without_dead((*nodes, *fresh), wanted)
    graph = build_graph(needed, types, constants, inputs=impl.inputs, outputs=wanted)
    alone = (n for n in impl.order if same[n.outputs[0]] == n.outputs[0])
    return Product(
        graph,
        gaps,
        frozenset(n.name for n in fresh).intersection(n.name for n in needed),
        frozenset(n.name for n in alone if n.outputs[0] not in shared),
    )


def with_copy(
    graph: Graph, spec: Graph, inputs: Mapping[str, str], outputs: Mapping[str, str]
) -> tuple[Graph, Mapping[str, str]]:
    """The graph and a second copy of the specification beside it: one for each meaning.

    Returns also the copy's tensor for each output of the implementation; these are outputs too.
    """
    constants, types = dict(graph.constants), dict(graph.types)
    _with_constants(spec, constants, types)
    theirs = {b: a for a, b in inputs.items()}
    copies: list[Node] = []
    for node in spec.order:
        theirs[node.outputs[0]] = COPY + node.outputs[0]
        types[COPY + node.outputs[0]] = spec.types[node.outputs[0]]
        copies.append(_renamed(spec, node, COPY, theirs))
    ends = {a: theirs.get(b, SPEC + b) for a, b in outputs.items()}
    wanted = tuple(dict.fromkeys((*graph.outputs, *ends.values())))
    whole = build_graph(
        (*graph.order, *copies), types, constants, inputs=graph.inputs, outputs=wanted
    )
    return whole, ends


def _computed(step: Step, contract: RuntimeContract) -> object:
    """The contract as far as it decides the node's bits; equal to nothing where it does not."""
    if not leaves_no_choice(step, contract):
        return object()
    here = contract_at(step.site, contract)
    return replace(here, name="", evidence=(), provenance=())


def _with_constants(spec: Graph, constants: dict[str, Any], types: dict[str, TensorType]) -> None:
    for t in spec.constants:
        constants[SPEC + t], types[SPEC + t] = spec.constants[t], spec.types[t]


def _renamed(spec: Graph, node: Node, prefix: str, theirs: Mapping[str, str]) -> Node:
    named = tuple(
        "" if not t else SPEC + t if spec.is_constant(t) else theirs[t] for t in node.inputs
    )
    outputs = (theirs[node.outputs[0]],)
    return replace(node, name=prefix + node.name, inputs=named, outputs=outputs)
