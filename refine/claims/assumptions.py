"""What a result rests on and does not prove, in words."""

from __future__ import annotations

from encoders.contract.contract import RuntimeContract
from encoders.program import program_of
from onnx_import.graph import Graph
from refine.domain.domain import Domain
from refine.results.grounds import used_functions, used_rules
from refine.results.verdict import Assumption


def assumptions_of(
    graph: Graph, domain: Domain, contract: RuntimeContract
) -> tuple[Assumption, ...]:
    """Everything that a user has to believe beside the proof itself."""
    inputs = (
        "the real network receives x, the runtime x rounded to nearest"
        if domain.round_inputs
        else "both sides receive the same input, a point of the domain that the runtime's input "
        "format represents"
        + ("; where none lies between the ends of an element, the nearest" * domain.nearest)
    )
    fixed = (
        Assumption("contract", program_of(graph).ruled(contract).describe()),
        Assumption(
            "graph",
            "the runtime executes the graph as it is written in the file: no operator is fused, "
            "reordered or replaced except as the contract says",
        ),
        Assumption(
            "semantics",
            "the real network reads every operator as ONNX defines it over the reals, and every "
            "stored weight as the exact number it is",
        ),
        Assumption("inputs", inputs),
        Assumption(
            "analyser",
            "the analyser's own float64 arithmetic is IEEE 754 round to nearest, and its matrix "
            "products are sums of products in some order (no Strassen-like algorithm)",
        ),
        Assumption("solver", "Z3's answer unsat is right for the lemmas listed"),
    )
    read = tuple(Assumption("model", note) for note in graph.notes)
    return (
        fixed + _integers(graph) + _evidence(graph, contract) + _functions(graph, contract) + read
    )


def _integers(graph: Graph) -> tuple[Assumption, ...]:
    """What is believed of sums of integers, where the model has any."""
    if not any(step.operator.exact_integer_sums for step in program_of(graph).steps):
        return ()
    return (
        Assumption(
            "integers",
            "products of 8-bit numbers are added exactly, in int32; onnxruntime on x86 processors "
            "without VNNI may saturate sums of two products of uint8 by int8 at 16 bits instead "
            "(its pull request 12088; weights in [-64, 63], reduce_range, avoid it)",
        ),
    )


def _evidence(graph: Graph, contract: RuntimeContract) -> tuple[Assumption, ...]:
    """One sentence per field or rule of the contract that was only measured or stated."""
    believed = [(e.field, e.evidence, e.source) for e in contract.evidence]
    believed += [
        (f"{r.describe()}: {r.schedule.describe()}", r.evidence, r.source)
        for r in used_rules(graph, contract)
    ]
    return tuple(
        Assumption(
            "evidence",
            f"{what} is {evidence.value}{f' ({source})' if source else ''}; the verdict is "
            "conditional on this",
        )
        for what, evidence, source in believed
        if evidence.conditional
    )


def _functions(graph: Graph, contract: RuntimeContract) -> tuple[Assumption, ...]:
    """One sentence per elementary function the model uses; conditional where only measured."""
    said = []
    for function, accuracy in used_functions(graph, contract):
        text = (
            f"{function.name} is computed within {accuracy.describe()} of its real value "
            f"(table {contract.functions.name}; {accuracy.evidence.value}: {accuracy.source})"
        )
        if accuracy.evidence.conditional:
            text += "; the verdict is conditional on this"
        said.append(Assumption("function", text))
    return tuple(said)
