"""Which tolerance a test may use: proved per output element, at points or over a whole domain."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from encoders.contract.contract import RuntimeContract
from encoders.numbers.enclosure import FloatArray, Interval
from encoders.numbers.formats import round_array
from onnx_import.errors import ModelError
from onnx_import.graph import Graph
from refine.claims.kinds.accuracy import check
from refine.claims.options import Options
from refine.domain.domain import Domain
from refine.everyday.allowance import Allowance, Pair, allowance, rounded_up
from refine.everyday.relatively import pairs
from refine.lemmas.cache import default_directory
from refine.results.document import versions
from refine.results.numerals import plain_number
from refine.results.obligation import Obligation
from refine.results.verdict import Assumption, NodeReport, Result, Side, Tolerance

SCHEMA = "refine-tolerance-1"
_LISTED = 4096  # elements of an output whose tolerances a document lists one by one


@dataclass(frozen=True)
class Tolerated:
    """One domain, or one point: what was proved of it, and what that allows at each output.

    `reference` is what was proved of the run that serves as b, where one does.
    """

    result: Result
    reference: Result | None
    allowances: tuple[Allowance, ...]

    def of(self, output: str) -> Allowance:
        """Of one output of the model."""
        return next(a for a in self.allowances if a.output == output)

    @property
    def worst(self) -> Allowance | None:
        """The output that needs the largest tolerance."""
        return max(self.allowances, key=lambda a: a.largest, default=None)


@dataclass(frozen=True)
class Tolerances:
    """Tolerances of a model at points or over a domain; all executions of `contract` keep within
    them, beside the real network or beside any execution of `against`."""

    graph: Graph
    contract: RuntimeContract
    against: RuntimeContract | None
    rtol: Fraction
    parts: tuple[Tolerated, ...]
    source: str

    @property
    def largest(self) -> Mapping[str, float]:
        """By output, one atol that does for every element of every part."""
        return {name: max(p.of(name).largest for p in self.parts) for name in self.graph.outputs}

    @property
    def proved(self) -> bool:
        """Is every tolerance finite?"""
        return all(np.isfinite(atol) for atol in self.largest.values())

    @property
    def open_node(self) -> tuple[NodeReport, str] | None:
        """The first node of which no bound is known, with the reason; None where all have one."""
        for part in self.parts:
            for result in (part.result, part.reference):
                if result is not None and (found := open_node(result)) is not None:
                    return found
        return None

    @property
    def assumptions(self) -> tuple[Assumption, ...]:
        """What the tolerances rest on and do not prove, each said once."""
        every = [p.result for p in self.parts] + [p.reference for p in self.parts if p.reference]
        said = dict.fromkeys(a for r in every if r is not None for a in r.assumptions)
        b = "a float64 number nearest to the real value" if self.against is None else "another run"
        last = Assumption("test", f"|a − b| ≤ atol + rtol·|b| is computed in float64, and b is {b}")
        return (*said, last)

    @property
    def notes(self) -> tuple[str, ...]:
        """What is to be said of the file and the inputs, each said once."""
        return tuple(dict.fromkeys(n for p in self.parts for n in p.result.notes))


def open_node(result: Result) -> tuple[NodeReport, str] | None:
    """The first node of which no bound is known, with the reason; None where all have one."""
    for node in result.nodes:
        owed = [o for o in node.obligations if not o.discharged]
        if owed or not np.isfinite(node.error):
            return node, _missing(node, owed) if owed else "its error is not bounded"
    return None


def _missing(node: NodeReport, owed: Sequence[Obligation]) -> str:
    """Why the first of these is open: of an infinite rounding, which argument of which range."""
    first = owed[0]
    told = first.name == f"rounding/{node.name}" and first.detail
    why = first.detail.removeprefix("not shown: ") if told else first.goal
    return "it is not shown that " + why.removeprefix(f"node '{node.name}' ({node.op}): ")


def tolerances(
    graph: Graph,
    contract: RuntimeContract,
    domains: Sequence[Domain],
    *,
    against: Side | None = None,
    rtol: Fraction | None = Fraction(0),
    options: Options | None = None,
    source: str = "",
    tell: Callable[[str], None] = lambda stage: None,
) -> Tolerances:
    """The tolerances over each of the domains, which may be points. `against` is the same model,
    read as its contract has it, where b is a run under that. Without an rtol the one is taken that
    relative precisions ask for, as far as there are any.

    Raises UnsupportedModel, naming the node, for what has no meaning; ModelError, naming the input,
    where the run that is compared with cannot hold what the other one receives.
    """
    if against is not None:
        _require_held(against, domains)
    effort = options or Options(cross_check=None, cache=default_directory(), search=False)
    known = [None if rtol == 0 else pairs(graph, d, contract, effort) for d in domains]
    rtol = _proved_rtol(known) if rtol is None else rtol
    parts = []
    for number, domain in enumerate(domains):
        tell(f"bounds of part {number + 1} of {len(domains)}")
        result = check(graph, domain, contract, Tolerance(), effort)
        beside = None
        if against is not None:
            beside = check(against.graph, domain, against.contract, Tolerance(), effort)
        allowed = tuple(
            allowance(
                t,
                _bound(result, t),
                result.reals.get(t, _anywhere(graph, t)),
                None if beside is None else _bound(beside, t),
                rtol,
                None if (pair := known[number]) is None else pair[t],
            )
            for t in graph.outputs
        )
        parts.append(Tolerated(result, beside, allowed))
    other = None if against is None else against.contract
    return Tolerances(graph, contract, other, rtol, tuple(parts), source)


def _require_held(against: Side, domains: Sequence[Domain]) -> None:
    """Both runs receive the same numbers; raises ModelError, naming an input of which one reads
    them in a format that does not hold them."""
    for box in (box for domain in domains for box in domain.boxes):
        for name, source in box.formats.items():
            kind = against.graph.types[name].dtype
            if against.contract.exact or not kind.is_float:
                continue
            target, x = against.contract.format_of(kind), box.lo[name]
            point = np.array_equal(x, box.hi[name]) and np.array_equal(round_array(x, target), x)
            if not point and not target.holds(source):
                raise ModelError(
                    f"input '{name}' has {source.name} numbers that the run beside it does not "
                    f"hold in {target.name} (contract '{against.contract.name}'); give numbers of "
                    f"{target.name}, or compare with the real values"
                )


def _proved_rtol(known: Sequence[Mapping[str, Pair] | None]) -> Fraction:
    """The largest that an element asks for, of those that are at most 1; three digits."""
    every = [p.needs.reshape(-1) for part in known if part is not None for p in part.values()]
    asked = np.concatenate([np.zeros(1), *every])
    return Fraction(str(float(np.max(rounded_up(asked[asked <= 1.0])))))


def _bound(result: Result, output: str) -> FloatArray:
    """Nothing is known of an output that no bound was found for."""
    shape = result.graph.types[output].shape
    return np.broadcast_to(result.bounds.get(output, np.full((), np.inf)), shape)


def _anywhere(graph: Graph, output: str) -> Interval:
    unknown = np.full(graph.types[output].shape, np.inf)
    return Interval(-unknown, unknown)


def document_of_tolerances(found: Tolerances) -> dict[str, Any]:
    """The answer as JSON values."""
    node = found.open_node
    return {
        "schema": SCHEMA,
        "model": None if found.graph.source is None else str(found.graph.source),
        "contract": found.contract.name,
        "against": "real" if found.against is None else found.against.name,
        "rtol": float(found.rtol),
        "inputs": found.source,
        "proved": found.proved,
        "atol": {t: plain_number(v) for t, v in found.largest.items()},
        "atol_hex": {t: float(v).hex() for t, v in found.largest.items()},
        "unbounded": None
        if node is None
        else {"node": node[0].name, "op": node[0].op, "why": node[1]},
        "parts": [
            {
                "domain": p.result.domain.source,
                "outputs": [_output(a) for a in p.allowances],
                "nodes": [
                    {"name": n.name, "op": n.op, "share": n.share, "error": plain_number(n.error)}
                    for n in dearest(p.result)
                ],
            }
            for p in found.parts
        ],
        "assumptions": [{"name": a.name, "text": a.text} for a in found.assumptions],
        "notes": list(found.notes),
        "versions": versions(),
    }


def _output(a: Allowance) -> dict[str, Any]:
    listed = (
        {} if a.atol.size > _LISTED else {"atols": _numbers(a.atol), "bounds": _numbers(a.bound)}
    )
    return {
        "output": a.output,
        "shape": list(a.atol.shape),
        "atol": plain_number(a.largest),
        "atol_hex": a.largest.hex(),
        "element": list(a.place),
        "bound": plain_number(float(np.max(a.bound, initial=0.0))),
        "bound_hex": float(np.max(a.bound, initial=0.0)).hex(),
        **listed,
    }


def _numbers(values: FloatArray) -> list[float | str | None]:
    return [plain_number(v) for v in values.reshape(-1).tolist()]


def dearest(result: Result, most: int = 3) -> list[NodeReport]:
    """The nodes that carry most of the largest bound."""
    carrying = [n for n in result.nodes if n.share > 0]
    return sorted(carrying, key=lambda n: -n.share)[:most]


def arrays_of(found: Tolerances) -> dict[str, Any]:
    """By output `NAME`: the tolerances; `real:NAME`: float64 numbers nearest to the middle of the
    real value's enclosure, `bound:NAME`: the bounds. Several points lie along a first axis, which
    is that of the batch where this is 1."""
    stacked: dict[str, FloatArray] = {}
    for name in found.graph.outputs:
        rows = [p.of(name) for p in found.parts]
        pieces = {
            name: [a.atol for a in rows],
            f"real:{name}": [0.5 * a.real.lo + 0.5 * a.real.hi for a in rows],
            f"bound:{name}": [a.bound for a in rows],
        }
        for key, arrays in pieces.items():
            batch = all(a.shape[:1] == (1,) for a in arrays)
            join = np.concatenate if batch else np.stack
            stacked[key] = arrays[0] if len(arrays) == 1 else join(arrays)
    return stacked
