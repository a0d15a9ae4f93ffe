"""Contracts that say something of a network for which it has no meaning here.

A format that no node could be computed with, or a rule that no sum would follow, must not be passed
over in silence: what the runtime does would then be another thing than what is proved.
"""

from __future__ import annotations

from collections.abc import Iterator

from encoders.arithmetic.handling import handling_of
from encoders.contract.contract import RuntimeContract
from encoders.numbers.formats import FloatFormat
from encoders.program import program_of
from encoders.registry import operators
from onnx_import.errors import UnsupportedModel
from onnx_import.graph import Graph


def require_applicable(contract: RuntimeContract, graph: Graph) -> None:
    """Raises UnsupportedModel, naming the key of the contract and the node."""
    for problem in _problems(contract, graph):
        raise UnsupportedModel(f"contract '{contract.name}': {problem}")


def _problems(contract: RuntimeContract, graph: Graph) -> Iterator[str]:
    if contract.exact:
        return
    yield from _computed(contract, graph)
    for step in program_of(graph).steps:
        node, operator, kind = step.node, step.operator, step.site.outputs[0].dtype
        if not kind.is_float or operator.movement or operator.converts:
            continue
        own = contract.format_of(kind)
        wide, short = contract.accumulation, contract.factor_format
        if wide is not None and not wide.holds(own):
            yield (
                f"'accumulation' {wide.name} does not hold every {own.name} number, in which "
                f"{node.describe()} computes; name a wider format or leave it out"
            )
        if short is not None and operator.factors and not _truncates_operands(contract, short, own):
            yield (
                f"'factors' {short.name} has another range than {own.name}, in which "
                f"{node.describe()} computes; name a format with that range and fewer digits"
            )
    yield from _rules(contract, graph)


def _computed(contract: RuntimeContract, graph: Graph) -> Iterator[str]:
    """Results of stored numbers in the graph that a runtime finds otherwise."""
    handling = handling_of(contract)
    for fold in graph.folds:
        why = next((w for w in map(handling, fold.needs) if w), "")
        if why and fold.output:
            yield (
                f"{fold.node} was computed when the graph was read, which did not know that {why}; "
                "give the model's file in place of its graph, or load it with contract="
            )
        elif why:
            yield (
                f"{fold.node} counts by numbers that are not read as they are written: {why}; "
                "choose numbers that this format holds, or another format"
            )


def nameless_rules(contract: RuntimeContract, graph: Graph) -> tuple[str, ...]:
    """Of each rule on a node that the graph does not have: that it says nothing here."""
    names = {node.name for node in graph.order}
    return tuple(
        f"'rules[{k}].node' of the contract is '{rule.node}', which no node of the model is called"
        for k, rule in enumerate(contract.rules)
        if rule.node is not None and rule.node not in names
    )


def _truncates_operands(contract: RuntimeContract, short: FloatFormat, own: FloatFormat) -> bool:
    """Is it known what becomes of factors: no more than their digits is cut off, or nothing?"""
    return short.holds(own) or (short.emin, short.emax) == (own.emin, own.emax)


def _rules(contract: RuntimeContract, graph: Graph) -> Iterator[str]:
    names = {node.name for node in graph.order}
    for k, rule in enumerate(contract.rules):
        if rule.operator is not None and rule.operator not in operators():
            yield (
                f"'rules[{k}].operator' is {rule.operator}, which is unknown or computed as other "
                "operators; 'refine ops' lists those that a rule can name"
            )
        if rule.node is None or rule.node in names:
            continue
        parts = [n.describe() for n in graph.order if n.name.startswith(f"{rule.node}.")]
        if parts:
            yield (
                f"'rules[{k}].node' is '{rule.node}', which is decomposed into others: name "
                f"{', '.join(parts[:4])} instead"
            )
