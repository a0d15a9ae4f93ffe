"""What claims about gradients share: the graph that they are of, and their options."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from encoders.contract.contract import RuntimeContract
from encoders.contract.presets import EXACT
from encoders.gradients.tape import ROUNDED
from encoders.program import program_of
from onnx_import.errors import ModelError
from onnx_import.graph import Graph
from refine.claims.assumptions import assumptions_of
from refine.claims.kind import Asked, ClaimOption, Given
from refine.domain.domain import Domain
from refine.gradients.derived import gradient_of
from refine.gradients.differentiate import OWN, depending
from refine.gradients.request import names_of
from refine.results.verdict import Assumption, Result

KINKS = "kinks"
"""The assumption that says by which convention a slope is taken where there is none."""

OPTIONS = (
    ClaimOption(
        name="of",
        default=None,
        metavar="OUTPUT[,…]",
        help="Of a claim about gradients, the outputs that are differentiated; default: all.",
    ),
    ClaimOption(
        name="wrt",
        default=None,
        metavar="NAME[,…]",
        help="Of a claim about gradients, the inputs and weights; default: all inputs.",
    ),
    ClaimOption(
        name="loss",
        default=None,
        metavar="EXPR",
        help="Of a claim about gradients, an expression of outputs such as mean(Y*Y) instead of "
        "the sum of all outputs.",
    ),
    ClaimOption(
        name="rules",
        default=None,
        metavar="torch",
        help="Of a claim about gradients, whose formulas; default: refine's own.",
    ),
)


def about(graph: Graph, given: Given) -> Graph:
    """The gradient that a saved counterexample is of."""
    return gradient_of(graph, given, EXACT)


def derived(asked: Asked) -> Graph:
    """The gradient that is asked about. Raises ModelError for a graph of no file's operators."""
    if asked.tolerance.by_output:
        raise ModelError("--eps of a claim about gradients is one number for all derivatives")
    return gradient_of(asked.side.graph, asked.given, asked.side.contract)


def of_model(result: Result, graph: Graph) -> Result:
    """The result as one about the model itself, which its documents and counterexamples name."""
    whole = replace(result.graph, source=graph.source, sha256=graph.sha256)
    return replace(result, graph=whole)


def assumed(
    graph: Graph, model: Graph, domain: Domain, contract: RuntimeContract, given: Given
) -> tuple[Assumption, ...]:
    """What an answer about `graph`, the gradient of `model`, rests on: whose formulas, where it is
    no derivative, by which convention, and which of its numbers are rounded."""
    found = assumptions_of(graph, domain, contract)
    rules = given.get("rules")
    if rules not in (None, OWN):
        text = f"the real gradient is what the formulas of {rules} are over the reals"
        found = (*found, Assumption("rules", text))
    kinks = tuple(dict.fromkeys(_conventions(graph, model, given)))
    if kinks:
        found = (*found, Assumption(KINKS, f"where there is no derivative: {'; '.join(kinks)}"))
    rounded = [note for note in graph.notes if note.startswith(ROUNDED)]
    if rounded:
        text = f"the real gradient is the written graph over the reals, with {rounded[0]}"
        found = (*found, Assumption("stored-numbers", text))
    return found


def _conventions(graph: Graph, model: Graph, given: Given) -> Iterable[str]:
    """Those of the rules that were applied: a framework's own are what its formulas say. The
    model's nodes are asked, too: one whose value no rule needs is not in the gradient."""
    rules, wrt = given.get("rules"), given.get("wrt")
    program = program_of(model)
    named = names_of(wrt) if isinstance(wrt, str) else ()
    varied = depending(program, named or model.inputs)
    steps = [s for s in program_of(graph).steps if not s.name.startswith("grad.")]
    steps += [s for s in program.steps if not varied.isdisjoint(s.node.inputs)]
    for step in steps:
        gradient = step.operator.gradient
        if gradient is not None and gradient.convention and rules not in gradient.frameworks:
            yield f"{step.node.op}: {gradient.convention}"
