"""Which decisions of a data set no allowed execution changes.

Each point, or ball around one, is a claim `argmax` of its own: the label is the real network's at
the point, ties go to the first, and a flip is an input and an execution with another label.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from encoders.contract.contract import RuntimeContract
from encoders.contract.presets import EXACT
from encoders.numbers.formats import BINARY64
from onnx_import.errors import ModelError
from onnx_import.graph import Array, Graph
from refine.claims.asked import Question, answered, options_of
from refine.claims.kinds.argmax import WORDS
from refine.claims.many.points import Points
from refine.claims.many.together import Labels
from refine.claims.outputs.labels import Labelled, chosen, has_label, kept_statement, label_at
from refine.claims.registry import claim_for
from refine.domain.box import FloatArray
from refine.domain.domain import Domain
from refine.options.models import read_as
from refine.options.settings import Settings
from refine.options.sizes import beside
from refine.proof.proof import input_box
from refine.results.document import strict_json
from refine.results.numerals import plain_number
from refine.results.verdict import Execution, ExitCode, Result, Tolerance, Verdict
from refine.witness.file import save_witness

SCHEMA = "refine-stable-1"
BUDGET = 2.0  # seconds for each point
NAMING = "name one, as --output NAME"
_FIRST_BATCH = 8  # points that show whether passes over many of them are worth it
_NOT_KEPT = "it is not shown that the specification keeps its label in the ball"
_THERE_TOO = "where another label was found, the specification has another one, too"


@dataclass(frozen=True)
class Decision:
    """What was found at a point. `code` is the exit code that it would have alone; `claim` names
    the label; the margins are the least towards another label, None where none was proved; `real`
    says whether the real network flips there too, `confirmed` which runtimes do; `file` is where
    the flip is kept."""

    point: int
    code: ExitCode
    verdict: Verdict
    reason: str
    claim: str = ""
    margin: float | None = None
    margin_over_reals: float | None = None
    real: bool | None = None
    confirmed: tuple[str, ...] = ()
    file: str | None = None


@dataclass(frozen=True)
class Specification:
    """The network whose real labels count: `graph`, read over the reals, and which of its inputs
    each of the model's is."""

    graph: Graph
    inputs: Mapping[str, str]

    def label(self, point: Mapping[str, FloatArray]) -> int:
        """That of an input of the model."""
        graph = self.row.widened(self.graph)
        return label_at(graph, self.row.scores, self._named(point))

    def _named(self, point: Mapping[str, Array]) -> dict[str, FloatArray]:
        shapes = {ours: self.graph.types[theirs].shape for ours, theirs in self.inputs.items()}
        return {
            self.inputs[n]: np.asarray(v, np.float64).reshape(shapes[n]) for n, v in point.items()
        }

    def renamed(self, points: Points) -> Points:
        """The points as inputs of the specification."""
        return replace(points, values={self.inputs[n]: v for n, v in points.values.items()})

    @property
    def row(self) -> Labelled:
        """Where its labels come from."""
        return chosen(self.graph, "", NAMING)[0]

    def claim(self, label: int) -> str:
        """That its label is this one."""
        return f"argmax:{self.row.label or self.row.scores}[{label}]"

    def has(self, label: int, point: Mapping[str, Array]) -> bool:
        """Is this surely the label of an input of the model?"""
        graph = self.row.widened(self.graph)
        return has_label(graph, self.row.scores, self._named(point), label)


@dataclass(frozen=True)
class Stability:
    """What is asked: a graph whose contract `settings` holds, read; `output` names its row of
    scores, or its label, where there are several; a ball of `radius` around each point, within
    `clip`; flips are kept in `folder`, None: nowhere. `until` is when the time is over, on the
    monotonic clock. `spec` is the network whose labels count, where that is another one."""

    graph: Graph
    settings: Settings
    output: str
    points: Points
    radius: str
    clip: str | None
    folder: Path | None
    until: float | None = None
    spec: Specification | None = None

    @property
    def late(self) -> bool:
        """Is the time over?"""
        return self.until is not None and time.monotonic() >= self.until

    def decided(self, number: int) -> Decision:
        """One point. Raises ModelError for a model without labels, or a ball without numbers."""
        settings = self.settings
        if self.until is not None:
            left = self.until - time.monotonic()
            if left <= 0:
                why = "the time limit was reached"
                return Decision(number, ExitCode.TIME_OUT, Verdict.UNKNOWN, why)
            settings = replace(settings, timeout=left)
        if self.spec is None:
            text = f"argmax:{self.output}" if self.output else "argmax"
            return self._decision(number, self._asked(self.graph, number, text, settings))
        row = chosen(self.graph, self.output, NAMING)[0]
        label = self.spec.label(self.points.at(number))
        text = f"argmax:{row.label or row.scores}[{label}]"
        result = self._asked(self.graph, number, text, settings)
        if result.verdict is Verdict.VERIFIED:
            theirs = self._asked(self.spec.graph, number, self.spec.claim(label), settings)
            if theirs.verdict is not Verdict.VERIFIED:
                result = replace(
                    result, verdict=Verdict.UNKNOWN, timed_out=theirs.timed_out, reason=_NOT_KEPT
                )
        if result.witness is not None and not self.spec.has(label, result.witness.inputs):
            result = replace(result, verdict=Verdict.UNKNOWN, witness=None, reason=_THERE_TOO)
        return self._decision(number, result)

    @cached_property
    def _each(self) -> tuple[Labels, ...]:
        """Whose labels have to stay in every ball: the model's, and over the reals those of the
        specification."""
        options, contract = options_of(self.settings), self.settings.contract
        assert isinstance(contract, RuntimeContract)
        row = chosen(self.graph, self.output, NAMING)[0]
        own = Labels(self.graph, contract, row, options)
        if self.spec is None:
            return (own,)
        return (own, Labels(self.spec.graph, EXACT, self.spec.row, options))

    @property
    def batch(self) -> int:
        """How many points are asked about together; 0 where each is asked about alone."""
        return min(labels.size for labels in self._each)

    def together(self, numbers: Sequence[int]) -> Mapping[int, Decision]:
        """Those of the points whose decision is found to be stable in a pass over all of them; of
        the others nothing is known."""
        own, *others = self._each
        domains: dict[int, Domain] = {}
        for number in numbers:
            with suppress(ModelError):  # which is raised when it is asked about alone
                domains[number] = self._domain(self.graph, number)
        if len(domains) < 2:
            return {}
        where = list(domains)
        boxes = [[input_box(d.boxes[0], d, own.contract) for d in domains.values()]]
        meant = (others or [own])[0]
        for labels in others:
            theirs = [self._domain(labels.graph, number) for number in where]
            boxes.append([input_box(d.boxes[0], d, EXACT) for d in theirs])
        found = meant.guessed(self._points(meant.graph, where))
        kept = [
            labels.kept(some, found) for labels, some in zip((own, *others), boxes, strict=True)
        ]
        if not own.honoured([d.boxes[0] for d in domains.values()]):
            return {}
        return {
            number: Decision(
                number,
                ExitCode.VERIFIED,
                Verdict.VERIFIED,
                WORDS.holds,
                claim=kept_statement(own.row.scores, first.label),
                margin=first.run,
                margin_over_reals=first.real,
            )
            for number, (first, *rest) in zip(where, zip(*kept, strict=True), strict=True)
            if first is not None and None not in rest
        }

    def _points(self, graph: Graph, numbers: Sequence[int]) -> dict[str, FloatArray]:
        """Points as inputs of the model or of the specification, (points, *shape)."""
        ours = graph is self.graph or self.spec is None
        points = self.points if ours or self.spec is None else self.spec.renamed(self.points)
        return {
            name: rows[list(numbers)].reshape(len(numbers), *graph.types[name].shape)
            for name, rows in points.values.items()
        }

    def _domain(self, graph: Graph, number: int) -> Domain:
        """A point's ball, of inputs of the model or, as float64 numbers, of the specification.
        Raises ModelError."""
        contract, ours = self.settings.contract, graph is self.graph
        points = self.points if ours or self.spec is None else self.spec.renamed(self.points)
        assert isinstance(contract, RuntimeContract)
        return points.domain(
            graph,
            number,
            self.radius,
            self.clip,
            contract.format_of if ours else lambda kind: BINARY64,
        )

    def _asked(self, graph: Graph, number: int, text: str, settings: Settings) -> Result:
        """What a claim about a point's ball comes to; of the specification, over the reals."""
        ours = graph is self.graph
        if not ours:
            settings = replace(settings, contract=EXACT, no_search=True, search=None, conform=False)
        question = Question(
            claim=claim_for(text),
            model=graph,
            domain=lambda graph, contract: self._domain(graph, number),
            tolerance=lambda graph: Tolerance(),
            settings=settings,
            text=text,
        )
        return answered(question)

    def _decision(self, number: int, result: Result) -> Decision:
        margins, witness = result.margins or (), result.witness
        found = Decision(
            number,
            result.exit_code,
            result.verdict,
            result.reason,
            claim="" if result.claimed is None else result.claimed.statement,
            margin=min((m.run for m in margins), default=None),
            margin_over_reals=min((m.real for m in margins), default=None),
        )
        if result.verdict is not Verdict.VIOLATED or witness is None:
            return found
        ran = (r for r in witness.replays if isinstance(r, Execution) and r.within)
        found = replace(
            found,
            real=None if witness.reached is None else witness.reached.real,
            confirmed=tuple(r.runtime for r in ran),
        )
        if self.folder is None:
            return found
        place = self.folder / f"flip-{number}.json"
        try:
            save_witness(replace(result, witness_file=place), place)
        except OSError as error:
            reason = f"{found.reason}; the flip is not saved: {error.strerror or error}"
            return replace(found, reason=reason)
        return replace(found, file=str(place))


def settled_for(settings: Settings, contract: RuntimeContract) -> Settings:
    """The settings of a model that has been read under a contract."""
    return replace(settings, contract=contract, format=None, subnormals=None, as_optimised=None)


def specified(spec: Path | Graph, model: Graph, settings: Settings) -> Specification:
    """The network whose labels count, beside a model. Inputs correspond by name, else in order.

    Raises ModelError for one that cannot be read, or has other inputs.
    """
    sizes = beside(settings.sizes, model)
    graph = read_as(spec, EXACT, allowed=settings.allow, sizes=sizes)
    ours, theirs = model.inputs, graph.inputs
    if len(ours) != len(theirs):
        raise ModelError(f"the specification has {len(theirs)} inputs, and the model {len(ours)}")
    same = set(ours) == set(theirs)
    pairs = dict(zip(ours, ours if same else theirs, strict=True))
    for one, other in pairs.items():
        shapes = [
            [n for n in graph_.types[name].shape if n != 1]
            for graph_, name in ((model, one), (graph, other))
        ]
        if shapes[0] != shapes[1]:
            raise ModelError(
                f"the specification's input '{other}' has the shape "
                f"{list(graph.types[other].shape)}, the model's '{one}' "
                f"{list(model.types[one].shape)}"
            )
    return Specification(graph, pairs)


def every_decision(
    asked: Stability, numbers: Sequence[int], tell: Callable[[Sequence[Decision]], None]
) -> tuple[Decision, ...]:
    """All of them in order; `tell` hears those so far, before each. The folder of counterexamples
    is made, and left where something was found. Raises ModelError as `decided` does at the first
    point, where no other can be asked either; later, that is the point's row."""
    if asked.folder is None:
        return _in_order(asked, numbers, tell)
    asked.folder.mkdir(exist_ok=True)
    try:
        return _in_order(asked, numbers, tell)
    finally:
        with suppress(OSError):
            asked.folder.rmdir()  # where nothing was found


def _in_order(
    asked: Stability, numbers: Sequence[int], tell: Callable[[Sequence[Decision]], None]
) -> tuple[Decision, ...]:
    found: list[Decision] = []
    known: dict[int, Decision] = {}
    size, ahead = min(_FIRST_BATCH, asked.batch), 0
    for place, number in enumerate(numbers):
        tell(found)
        if size > 1 and place >= ahead and not asked.late:
            some = numbers[place : place + size]
            stable = asked.together(some)
            known.update(stable)
            ahead = place + len(some)
            size = asked.batch if 2 * len(stable) >= len(some) else 0
        if number in known:
            found.append(known.pop(number))
            continue
        try:
            found.append(asked.decided(number))
        except ModelError as error:
            if not found:
                raise
            code = ExitCode.INPUT_ERROR
            found.append(Decision(number, code, Verdict.UNKNOWN, str(error)))
    return tuple(found)


def exit_code_of(decisions: Sequence[Decision]) -> ExitCode:
    """0 only where every decision is stable; else the worst that some point has."""
    codes = {d.code for d in decisions}
    order = (
        *(ExitCode.INTERNAL_ERROR, ExitCode.VIOLATED, ExitCode.INPUT_ERROR),
        *(ExitCode.CONTRACT_BROKEN, ExitCode.TIME_OUT, ExitCode.UNKNOWN, ExitCode.VERIFIED),
    )
    return next((code for code in order if code in codes), ExitCode.UNKNOWN)


def document_of_decisions(asked: Stability, decisions: Sequence[Decision]) -> str:
    """What `--json` writes."""
    contract = asked.settings.contract
    made = {
        "schema": SCHEMA,
        "model": _model(asked.graph),
        "data": asked.points.source,
        "contract": contract if isinstance(contract, str) else contract.name,
        "specification": None if asked.spec is None else _model(asked.spec.graph),
        "radius": asked.radius,
        "points": len(asked.points),
        "rounded": asked.points.rounded,
        "stable": sum(d.code is ExitCode.VERIFIED for d in decisions),
        "flips": sum(d.verdict is Verdict.VIOLATED for d in decisions),
        "decisions": [_plain(d) for d in decisions],
    }
    return strict_json(made)


def _model(graph: Graph) -> dict[str, str | None]:
    return {"path": str(graph.source), "sha256": graph.sha256}


def _plain(decision: Decision) -> dict[str, Any]:
    return {
        "point": decision.point,
        "verdict": decision.verdict.value,
        "contract_broken": decision.code is ExitCode.CONTRACT_BROKEN,
        "reason": decision.reason,
        "claim": decision.claim,
        "margin": plain_number(decision.margin),
        "margin_over_reals": plain_number(decision.margin_over_reals),
        "real": decision.real,
        "confirmed": list(decision.confirmed),
        "file": decision.file,
    }
