"""Why each field of a contract that counts for a graph is believed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from encoders.contract.contract import RuntimeContract, ScheduleRule
from encoders.contract.table import contract_table
from encoders.functions.accuracy import Evidence, FunctionAccuracy
from encoders.functions.function import Function
from encoders.program import program_of
from encoders.scheduling import contract_at, reduction_at
from onnx_import.graph import Graph

_NO_FIELDS = frozenset(("schema", "name", "functions", "rules", "evidence", "provenance"))
_EXACT = frozenset(("exact", "format"))


@dataclass(frozen=True)
class Ground:
    """One field of a contract, a rule for sums, or how accurate a function is; `value` is what the
    contract says of it, `evidence` why that is believed of the runtime, `source` where from."""

    field: str
    value: str
    evidence: Evidence
    source: str = ""


def grounds_of(graph: Graph, contract: RuntimeContract) -> tuple[Ground, ...]:
    """Every field, the rules that cover a sum of the graph, and the functions that it computes.

    What nothing is said of is so by definition of the contract: it is assumed.
    """
    rules = (
        Ground(f"rule: {r.describe()}", r.schedule.describe(), r.evidence, r.source)
        for r in used_rules(graph, contract)
    )
    functions = (
        Ground(f"function {f.name}", a.describe(), a.evidence, a.source)
        for f, a in used_functions(graph, contract)
    )
    return (*_fields(contract), *rules, *functions)


def _fields(contract: RuntimeContract) -> Iterator[Ground]:
    known = {e.field: e for e in contract.evidence}
    for key, value in contract_table(contract).items():
        if key in _NO_FIELDS or (contract.exact and key not in _EXACT):
            continue
        said = known.pop(key, None)
        evidence = Evidence.DEFINITION if said is None else said.evidence
        yield Ground(key, _told(value), evidence, "" if said is None else said.source)
    for key, said in known.items():
        yield Ground(key, "", said.evidence, said.source)


def _told(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value.get("name", value)) if isinstance(value, dict) else str(value)


def used_rules(graph: Graph, contract: RuntimeContract) -> tuple[ScheduleRule, ...]:
    """The rules that cover a sum of the graph."""
    places = [reduction_at(step.site) for step in program_of(graph).steps]
    return tuple(r for r in contract.rules if any(r.covers(place) for place in places))


def used_functions(
    graph: Graph, contract: RuntimeContract
) -> tuple[tuple[Function, FunctionAccuracy], ...]:
    """The elementary functions that the graph computes, with the accuracies that hold there."""
    if contract.exact:
        return ()
    used = {
        (f, contract_at(step.site, contract).functions.accuracy(f))
        for step in program_of(graph).steps
        for f in step.operator.functions
    }
    return tuple(sorted(used, key=lambda pair: (pair[0].name, str(pair[1]))))
