"""What a result rests on and does not prove, in words."""

from __future__ import annotations

from encoders.contract import RuntimeContract
from onnx_import.graph import Graph
from refine.domain import Domain
from refine.verdict import Assumption


def assumptions_of(
    graph: Graph, domain: Domain, contract: RuntimeContract
) -> tuple[Assumption, ...]:
    """Everything that a user has to believe beside the proof itself."""
    inputs = (
        "the real network receives x, the runtime x rounded to nearest"
        if domain.round_inputs
        else "both sides receive the same input, a point of the domain that the runtime's input "
        "format represents"
    )
    fixed = (
        Assumption("contract", contract.describe()),
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
    return fixed + read
