"""Which nodes of a network may run in 16 bits: overflow decides what must not, then what is left of
the error allowed, dearest first. What is proved is proved of the mixed file that is written."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx

from encoders.contract.contract import RuntimeContract
from encoders.contract.presets import BF16, EXACT, FP16
from encoders.numbers.formats import FORMAT_OF_DTYPE
from encoders.program import program_of
from gpu_check.common.writing import write_whole
from onnx_import import is_onnx
from onnx_import.errors import ModelError
from onnx_import.graph import DType, Graph
from onnx_import.onnx.proto import read_proto
from onnx_import.passes.normalize import sort_nodes
from refine.bounds.network import NetworkBounds
from refine.claims.kinds.difference import diff
from refine.claims.options import Options
from refine.domain.domain import Domain
from refine.everyday.blame import blame_of
from refine.everyday.mixed import Mixed, Moved, mixed, movable, weights_of
from refine.options.models import read_as
from refine.pair.comparison import comparison
from refine.pair.pair import pair_of
from refine.proof.proof import input_box
from refine.results.document import versions
from refine.results.numerals import plain_number, up
from refine.results.verdict import Result, Side, Tolerance, Verdict

SCHEMA = "refine-plan-1"
_ROUNDS = 24
_LEAST = 0.002  # of all multiply-adds: what a node without any counts for, when it is to go
_WORTH = 1e-4  # of the bound: cheaper nodes stay where they are
_AIM = 0.98  # of what is allowed
_LARGEST = 2**31 - 1  # bytes of a message
_AGAIN = 3  # nodes that are given up where the proof of the file does not succeed


class Why(Enum):
    """What decides the format of a node."""

    SHORT = "within the error allowed"
    OVERFLOW = "overflow"
    BUDGET = "error budget"
    UNSUITED = "not offered"


@dataclass(frozen=True)
class Placed:
    """A node of the file: whether it runs in 16 bits, what decides that, in words, and its
    multiply-adds in matrix products."""

    name: str
    op: str
    why: Why
    detail: str
    work: int

    @property
    def short(self) -> bool:
        """Does it run in 16 bits?"""
        return self.why is Why.SHORT


@dataclass(frozen=True)
class Plan:
    """The nodes in the file's order, the mixed model, and what was proved of it as written."""

    graph: Graph
    contract: RuntimeContract
    format: DType
    nodes: tuple[Placed, ...]
    model: onnx.ModelProto
    result: Result

    @property
    def share(self) -> float:
        """Which part of the multiply-adds of matrix products runs in 16 bits."""
        every = sum(n.work for n in self.nodes)
        return sum(n.work for n in self.nodes if n.short) / every if every else 0.0

    @property
    def block_list(self) -> tuple[str, ...]:
        """Names of the nodes that must stay in float32: onnxruntime's node_block_list."""
        return tuple(n.name for n in self.nodes if not n.short and n.why is not Why.UNSUITED)

    def __bool__(self) -> bool:
        return bool(self.result)

    def __repr__(self) -> str:
        return (
            f"{self.result.verdict.value}: {100 * self.share:.1f} % of the multiply-adds in "
            f"{self.format.value}, bound {up(self.result.bound, 3)}"
        )


def plan(
    model: Path,
    domain_of: Callable[[Graph], Domain],
    tolerance: Callable[[Graph], Tolerance],
    contract: RuntimeContract,
    output: Path,
    *,
    to: DType = DType.FLOAT16,
    options: Options,
    allowed: tuple[Path, ...] = (),
    tell: Callable[[str], None] = lambda stage: None,
) -> Plan:
    """Move as many multiply-adds as can be proved into 16 bits, and write the mixed model.

    `domain_of` and `tolerance` are asked of a graph. Raises ModelError for a model that is no ONNX
    file, or has nothing in float32 to move.
    """
    if not is_onnx(model):
        raise ModelError(f"{model}: a plan needs an ONNX file, of which a mixed copy is made")
    if output.exists() and model.exists() and output.samefile(model):
        raise ModelError(f"{output} is the model itself; the mixed one needs another file")
    graph = read_as(model, allowed=allowed)
    proto = _inlined(model, allowed)
    kinds = {t: kind.dtype for t, kind in graph.types.items()}
    moved = movable(proto, kinds, to)
    if not moved:
        raise ModelError(f"{model}: no node computes in float32 and could compute in {to.value}")
    search = _Search(
        graph, proto, contract, to, moved, _works(graph, proto), domain_of, tolerance, tell
    )
    until = math.inf if options.timeout is None else time.monotonic() + options.timeout / 2
    search.run(until)
    for _ in range(_AGAIN + 1):
        made = search.copy()
        _write(output, made.model)
        tell("proving the mixed model as written")
        result = _proved(output, graph, domain_of, tolerance, contract, options, tell)
        if result.verdict is Verdict.VERIFIED or not search.give_up_dearest():
            break
    return Plan(graph, contract, to, search.placed(), made.model, result)


def _write(output: Path, model: onnx.ModelProto) -> None:
    if model.ByteSize() > _LARGEST:
        raise ModelError(f"{output}: the mixed model is larger than one ONNX file may be")
    data = model.SerializeToString()
    write_whole(output, lambda file: file.write(data))


def _inlined(model: Path, allowed: tuple[Path, ...]) -> onnx.ModelProto:
    """The message of a file, weights inside."""
    read_proto(model, allowed)  # what it names outside its folder is refused
    whole = onnx.load(str(model))
    sort_nodes(whole.graph)
    return whole


def _proved(
    file: Path,
    graph: Graph,
    domain_of: Callable[[Graph], Domain],
    tolerance: Callable[[Graph], Tolerance],
    contract: RuntimeContract,
    options: Options,
    tell: Callable[[str], None],
) -> Result:
    """The file, as it runs, against the original over the reals."""
    written = read_as(file, contract)
    spec, impl = Side(graph, EXACT), Side(written, contract)
    return diff(spec, impl, domain_of(written), tolerance(written), options, tell)


@dataclass(frozen=True)
class _Try:
    """The bounds of one choice: the largest over ε, the worst box's bounds, and whose each node
    is (of a cast, whose it is that reads it)."""

    excess: float
    bounds: NetworkBounds
    owners: Mapping[str, tuple[str, ...]]
    blames: Mapping[str, float]


@dataclass
class _Search:
    """A choice under way: nodes by their first output, those that run in 16 bits now (`chosen`),
    and why others do not."""

    graph: Graph
    proto: onnx.ModelProto
    contract: RuntimeContract
    to: DType
    moved: Mapping[str, Moved]
    works: Mapping[str, int]
    domain_of: Callable[[Graph], Domain]
    tolerance: Callable[[Graph], Tolerance]
    tell: Callable[[str], None]
    chosen: set[str] = field(default_factory=set)
    kept: dict[str, tuple[Why, str]] = field(default_factory=dict)
    last: _Try | None = None

    def run(self, until: float) -> None:
        """Give up what overflows, then what costs most for its work, until ε is kept."""
        self.chosen = set(self.moved)
        self._without_large_weights()
        for number in range(_ROUNDS):
            self.tell(f"choice {number + 1}: {len(self.chosen)} nodes in {self.to.value}")
            tried = self.last = self._tried()
            if not self._gives_up(tried) or time.monotonic() > until:
                break
        if self.last is not None and self.last.excess <= 1.0:
            self._takes_back(until)
            return
        for key in list(self.chosen):
            self._keep(key, Why.BUDGET, "no choice that keeps eps was found")

    def copy(self) -> Mixed:
        """The mixed model of the present choice."""
        return mixed(self.proto, self.moved, self.chosen, self.to)

    def placed(self) -> tuple[Placed, ...]:
        """Every node of the file, and why it runs as it does."""
        return tuple(
            Placed(n.name or n.output[0], n.op_type, *self._why(n), self.works.get(n.output[0], 0))
            for n in self.proto.graph.node
            if n.input or n.output[0] in self.moved
        )

    def give_up_dearest(self) -> bool:
        """Move the one dearest node to float32; False where none is left."""
        blames = {} if self.last is None else self.last.blames
        left = [k for k in self.chosen if blames.get(k, 0.0) > 0]
        if not left:
            return False
        self._keep(max(left, key=lambda k: self._price(k, blames)), Why.BUDGET, "")
        self.last = self._tried()
        return True

    def _why(self, node: onnx.NodeProto) -> tuple[Why, str]:
        key = node.output[0]
        if key in self.chosen:
            return Why.SHORT, ""
        if key in self.kept:
            return self.kept[key]
        said = f"it reads or writes no float32 that {node.op_type} takes in {self.to.value}"
        return Why.UNSUITED, said

    def _keep(self, key: str, why: Why, detail: str) -> None:
        self.chosen.discard(key)
        self.kept.setdefault(key, (why, detail))

    def _without_large_weights(self) -> None:
        largest = float(FORMAT_OF_DTYPE[self.to].largest_number)
        held = {t: float(np.max(np.abs(w), initial=0.0)) for t, w in weights_of(self.proto).items()}
        for node in self.proto.graph.node:
            beyond = [t for t in node.input if held.get(t, 0.0) > largest]
            if node.output[0] in self.chosen and beyond:
                said = f"its weight '{beyond[0]}' reaches {held[beyond[0]]:.6g}"
                self._keep(node.output[0], Why.OVERFLOW, f"{said}, beyond {largest:g}")

    def _tried(self) -> _Try:
        """Bounds of the mixed model as it would be written."""
        made = self.copy()
        with TemporaryDirectory(prefix="refine-") as folder:
            file = Path(folder) / "mixed.onnx"
            file.write_bytes(made.model.SerializeToString())
            written = read_as(file, self.contract)
        pair = pair_of(Side(self.graph, EXACT), Side(written, self.contract))
        problem, domain = comparison(pair), self.domain_of(written)
        every = [problem.bounds(input_box(box, domain, self.contract)) for box in domain.boxes]
        worst = max(every, key=self._excess_of(written))
        owners = self._owners(written, made)
        blames: dict[str, float] = {}
        for name, part in blame_of(worst).items():
            for owner in owners.get(name, ()):
                blames[owner] = blames.get(owner, 0.0) + part / len(owners[name])
        return _Try(self._excess_of(written)(worst), worst, owners, blames)

    def _excess_of(self, graph: Graph) -> Callable[[NetworkBounds], float]:
        tolerance = self.tolerance(graph)
        return lambda b: max((tolerance.excess(t, e) for t, e in b.errors.items()), default=0.0)

    def _owners(self, written: Graph, made: Mixed) -> dict[str, tuple[str, ...]]:
        """Of each node as it was read: the nodes of the original that it is part of."""
        readers: dict[str, list[str]] = {}
        for node in made.model.graph.node:
            for tensor in node.input:
                readers.setdefault(tensor, []).append(node.output[0])
        found: dict[str, tuple[str, ...]] = {}
        within: dict[str, tuple[str, ...]] = {}
        for node in reversed(written.order):
            keys: tuple[str, ...] = ()
            for tensor in node.outputs:
                if tensor in made.casts:
                    reading = (made.origins.get(r, "") for r in readers.get(tensor, ()))
                    keys += tuple(k for k in reading if k in self.chosen)
                elif tensor in made.origins:
                    keys += (made.origins[tensor],)
                else:
                    keys += within.get(tensor, ())
            found[node.name] = tuple(dict.fromkeys(keys))
            for tensor in node.inputs:
                within.setdefault(tensor, found[node.name])
        return found

    def _gives_up(self, tried: _Try) -> bool:
        """Move to float32 what must go there; False where nothing must, or nothing can."""
        overflowing = self._overflowing(tried)
        for key, detail in overflowing.items():
            self._keep(key, Why.OVERFLOW, detail)
        if overflowing:
            return True
        if tried.excess <= 1.0:
            return False
        total = sum(tried.blames.values())
        if not math.isfinite(total) or total <= 0:
            return False
        dear = [k for k in self.chosen if tried.blames.get(k, 0.0) > _WORTH * total]
        if not dear:
            return False
        left = 1.0
        for key in sorted(dear, key=lambda k: -self._price(k, tried.blames)):
            if left * tried.excess <= _AIM:
                break
            part = tried.blames[key] / total
            left -= part
            said = f"{100 * part:.0f} % of a bound that was {up(tried.excess, 3)} times eps"
            self._keep(key, Why.BUDGET, said)
        return True

    def _price(self, key: str, blames: Mapping[str, float]) -> float:
        """What a node costs of the bound for each part of the work that it does."""
        work = self.works.get(key, 0) / (sum(self.works.values()) or 1)
        return blames.get(key, 0.0) / (work + _LEAST)

    def _overflowing(self, tried: _Try) -> dict[str, str]:
        """The first nodes in 16 bits of which nothing is known, whatever came before them."""
        found: dict[str, str] = {}
        for node in tried.bounds.nodes:
            own = node.rounding.radius.bound
            before = [tried.bounds.maps.errors[t] for t in node.step.reads]
            if np.all(np.isfinite(own)) or not all(np.all(np.isfinite(e)) for e in before):
                continue
            reach = float(np.max(node.values.magnitude, initial=0.0))
            largest = float(FORMAT_OF_DTYPE[self.to].largest_number)
            failing = next((p for p in node.rounding.preconditions if not p.holds), None)
            said = "" if failing is None else failing.statement
            if reach > largest:
                said = f"its values reach {up(reach, 4)}, beyond {largest:g}"
            for key in tried.owners.get(node.step.name, ()):
                if key in self.chosen:
                    found[key] = said
        return found

    def _takes_back(self, until: float) -> None:
        """Nodes with work that were given up for the budget, the cheapest first, if there is
        room."""
        given_up = [
            k for k, (why, _) in self.kept.items() if why is Why.BUDGET and self.works.get(k, 0)
        ]
        for key in sorted(given_up, key=lambda k: -self.works[k]):
            if time.monotonic() > until:
                return
            before, reason = self.last, self.kept.pop(key)
            self.chosen.add(key)
            self.tell(f"is there room for {key} in {self.to.value}?")
            tried = self._tried()
            if tried.excess <= 1.0:
                self.last = tried
                continue
            self.chosen.discard(key)
            self.kept[key], self.last = reason, before


def _works(graph: Graph, proto: onnx.ModelProto) -> dict[str, int]:
    """Multiply-adds in matrix products and convolutions, by the first output of the file's node."""
    ends = {t: n.output[0] for n in proto.graph.node for t in n.output if t}
    within: dict[str, str] = {}
    found: dict[str, int] = {}
    for step in reversed(program_of(graph).steps):
        key = next((ends[t] for t in step.writes if t in ends), within.get(step.output, ""))
        for tensor in step.node.inputs:
            within.setdefault(tensor, key)
        if step.operator.sums is not None and step.operator.sums.products:
            found[key] = found.get(key, 0) + step.work
    return found


def document_of_plan(found: Plan, output: Path) -> dict[str, Any]:
    """The answer as JSON values."""
    result = found.result
    source = found.graph.source
    return {
        "schema": SCHEMA,
        "verdict": result.verdict.value,
        "reason": result.reason,
        "model": None if source is None else str(source),
        "mixed": str(output),
        "sha256": result.graph.sha256,
        "format": found.format.value,
        "contract": found.contract.name,
        "contract_broken": bool(result.broken),
        "domain": result.domain.source,
        "eps": {t: None if e is None else float(e) for t, e in _limits(result).items()},
        "bound": plain_number(result.bound),
        "bound_hex": float(result.bound).hex(),
        "share": found.share,
        "node_block_list": list(found.block_list),
        "nodes": [
            {
                "name": n.name,
                "op": n.op,
                "format": (found.format if n.short else DType.FLOAT32).value,
                "why": n.why.value,
                "detail": n.detail,
                "multiply_adds": n.work,
            }
            for n in found.nodes
        ],
        "assumptions": [{"name": a.name, "text": a.text} for a in result.assumptions],
        "notes": list(result.notes),
        "versions": versions(),
    }


def _limits(result: Result) -> Mapping[str, Fraction | None]:
    return {t: result.tolerance.of(t) for t in result.graph.outputs}


def format_named(name: str) -> DType:
    """The format of 16 bits. Raises ModelError for another."""
    short = {d.value: d for d in (DType.FLOAT16, DType.BFLOAT16)}
    if name not in short:
        raise ModelError(f"a plan is for float16 or bfloat16, not for {name!r}")
    return short[name]


def usual_contract(to: DType) -> RuntimeContract:
    """Nodes in 16 bits add up in float32, as tensor cores and libraries for them do."""
    return FP16 if to is DType.FLOAT16 else BF16
