"""The closure of a verdict, read from the document of a result, whoever wrote it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from encoders.contract.table import EVIDENCE_WORDS
from onnx_import.errors import ModelError
from refine.axioms.closure import EXACT_EVALUATION, Closure, Drawing, Kind, Support, faulty
from refine.axioms.foundations import (
    OF_EVERY_FORMAT_LEMMA,
    OF_OVERFLOW,
    OF_RANGES,
    foundations_of,
)
from refine.common.told import told
from refine.common.visible import visible
from refine.lemmas.library import library
from refine.results.answers import Verdict
from refine.results.obligation import Discharger, Outcome
from refine.results.obligation import Kind as Owed
from refine.results.saved import read_document

_BY_Z3 = {Discharger.Z3.value, Discharger.CACHE.value}
_EVALUATIONS = {d.value for d in Discharger} - _BY_Z3 - {Discharger.NONE.value}
_UNDECIDED = "it was not discharged"


def read_closure(path: Path) -> Closure:
    """What the result in this file rests on. Raises ModelError, in one sentence, for a file that
    holds no result."""
    try:
        return closure_of(read_document(path))
    except _Unlike as unlike:
        raise ModelError(
            f"{visible(str(path))}: {unlike}; give a file that --json of this version wrote"
        ) from None


class _Unlike(Exception):
    """Something in a document that no result has; the message says where."""


def closure_of(document: Mapping[str, Any]) -> Closure:
    """The graph that a document holds."""
    return _Reader(_Table(document, "")).closure()


@dataclass(frozen=True)
class _Table:
    """An object of the document, and where it stands."""

    held: Mapping[str, Any]
    where: str

    def text(self, key: str, default: str | None = None) -> str:
        value = self.held.get(key, default)
        if not isinstance(value, str):
            raise _Unlike(f"'{self.where}{key}' is no text but {told(value)}")
        return value

    def table(self, key: str) -> _Table:
        return _table(self.held.get(key), f"{self.where}{key}")

    def tables(self, key: str) -> Iterator[_Table]:
        for number, value in enumerate(self.list(key)):
            yield _table(value, f"{self.where}{key}[{number}]")

    def texts(self, key: str) -> Sequence[str]:
        every = self.list(key, [])
        if not all(isinstance(value, str) for value in every):
            raise _Unlike(f"'{self.where}{key}' holds what is no text")
        return every

    def list(self, key: str, default: Sequence[Any] | None = None) -> Sequence[Any]:
        value = self.held.get(key, default)
        if not isinstance(value, list):
            raise _Unlike(f"'{self.where}{key}' is no list but {told(value)}")
        return value


def _table(value: Any, where: str) -> _Table:
    if not isinstance(value, dict):
        raise _Unlike(f"'{where}' is no object but {told(value)}")
    return _Table(value, f"{where}.")


@dataclass
class _Reader:
    """Draws the graph of one document."""

    document: _Table
    drawing: Drawing = field(default_factory=Drawing)

    def closure(self) -> Closure:
        versions = self.document.table("versions")
        known = {name: versions.text(name) for name in versions.held}
        verdict = self.document.text("verdict")
        if verdict not in [v.value for v in Verdict]:
            raise _Unlike(f"'verdict' is {told(verdict)}")
        claim = self.drawing.put(self._claim(verdict))
        if verdict == Verdict.VIOLATED.value:
            self._witness(claim)
        else:
            self._bounds(claim, known)
        self._grounds(claim, self.document, "")
        if self.document.held.get("specification") is not None:
            self._grounds(claim, self.document.table("specification"), "specification: ")
        for given in self.document.tables("assumptions"):
            name, text = given.text("name"), given.text("text")
            self.drawing.put(self._assumption(name, text), claim)
        return self.drawing.closure(claim, known)

    def _assumption(self, word: str, text: str) -> Support:
        """Several of one name are numbered."""
        others = [s for s in self.drawing.supports.values() if s.kind is Kind.ASSUMPTION]
        alike = sum(s.word == word for s in others)
        same = next((s for s in others if (s.word, s.text) == (word, text)), None)
        return same or Support(
            Kind.ASSUMPTION, f"{word} {alike + 1}" if alike else word, text, word
        )

    def _claim(self, verdict: str) -> Support:
        if "margins" in self.document.held:  # in place of a bound, of a claim on what runs
            stated = self.document.text("claim")
        else:
            stated = f"error at most {self._number()}"
        text = f"{stated}: {self.document.text('reason')}"
        if self.document.held.get("model") is not None:  # it is null where time ran out before
            model, domain = self.document.table("model"), self.document.table("domain")
            text += f"; model of sha256 {model.text('sha256')}, domain {domain.text('source')}"
        whole = Support(Kind.CLAIM, verdict, text)
        if verdict == Verdict.CONTRADICTION.value:
            return faulty(whole, "an error was found above the bound that was proved")
        return whole

    def _number(self) -> str:
        number = self.document.held.get("bound")
        if isinstance(number, bool) or not isinstance(number, (int, float, str)):
            raise _Unlike(f"'bound' is no number but {told(number)}")
        return number if isinstance(number, str) else format(number, "g")

    def _witness(self, claim: Support) -> None:
        found = self.document.table("counterexample")
        execution = found.table("execution").text("name", "over the reals")
        witness = Support(
            Kind.WITNESS, found.text("output"), f"an execution that {execution} allows", "witness"
        )
        self.drawing.put(witness, claim)
        self.drawing.put(_evaluation(EXACT_EVALUATION), witness)

    def _bounds(self, claim: Support, versions: Mapping[str, str]) -> None:
        solver = Support(Kind.SOLVER, f"z3 {versions.get('z3-solver', '')}".strip(), "", "z3")
        lemmas = {o.text("name"): o for o in self.document.tables("lemmas")}
        known = {lemma.name: lemma.source for lemma in library((Owed.SCHEMA,))}

        def discharged(support: Support, given: _Table) -> Support:
            """The support, with a fault where it was not discharged; whoever did is below it."""
            if given.text("verdict") != Outcome.DISCHARGED.value:
                return self.drawing.put(faulty(support, _UNDECIDED))
            by = given.text("discharger")
            if by not in _BY_Z3 | _EVALUATIONS:
                return self.drawing.put(faulty(support, f"by '{by}', of which nothing is known"))
            put = self.drawing.put(support)
            self.drawing.put(solver if by in _BY_Z3 else _evaluation(by), put)
            return put

        def lemma(name: str, above: Support) -> None:
            support = Support(Kind.LEMMA, name, "", name)
            if support in self.drawing:
                self.drawing.put(support, above)
                return
            given = lemmas.get(name)
            if given is None:
                self.drawing.put(faulty(support, "it is not among the lemmas proved"), above)
                return
            support = Support(Kind.LEMMA, name, given.text("goal"), name)
            if given.text("kind") == Owed.SCHEMA.value and name not in known:
                support = faulty(support, "this version of refine has no such lemma")
            put = self.drawing.put(discharged(support, given), above)
            self._formats(foundations_of(name, known.get(name, "")), put, solver)

        used: set[str] = set()
        for node in self.document.tables("nodes"):
            owed = tuple(node.tables("obligations"))
            joints = [
                self.drawing.put(discharged(_owed(Kind.JOINT, o), o), claim)
                for o in owed
                if o.text("kind") == Owed.COMPOSITION.value
            ]
            for joint in joints:
                self._formats(OF_RANGES, joint, solver)
            for o in owed:
                if o.text("kind") == Owed.COMPOSITION.value:
                    continue
                put = self.drawing.put(discharged(_owed(_kind(o), o), o), *(joints or (claim,)))
                if o.text("name").startswith("precondition/no-overflow/"):
                    self._formats(OF_OVERFLOW, put, solver)
                for name in o.texts("lemmas"):
                    lemma(name, put)
                    used.add(name)
        for name, o in lemmas.items():
            if o.text("kind") == Owed.SCHEMA.value:
                if name not in used:
                    lemma(name, claim)
            else:  # what a claim owes beside its nodes
                self.drawing.put(discharged(_owed(Kind.CONDITION, o), o), claim)

    def _formats(self, names: Sequence[str], above: Support, solver: Support) -> None:
        """Format lemmas are proved when the library is (`refine lemmas`), not in a check."""
        for name in names:
            put = self.drawing.put(Support(Kind.FORMAT, name, "", name), above)
            self.drawing.put(solver, put)
            if name not in OF_EVERY_FORMAT_LEMMA:
                self._formats(OF_EVERY_FORMAT_LEMMA, put, solver)

    def _grounds(self, claim: Support, side: _Table, prefix: str) -> None:
        for given in side.tables("grounds"):
            evidence, source = given.text("evidence"), given.text("source")
            if evidence not in EVIDENCE_WORDS:
                raise _Unlike(f"'{given.where}evidence' is {told(evidence)}")
            text = f"{given.text('value')} ({evidence}{f': {source}' * bool(source)})"
            name = f"{prefix}{given.text('field')}"
            self.drawing.put(Support(Kind.FIELD, name, text, evidence), claim)


def _evaluation(how: str) -> Support:
    return Support(Kind.EVALUATION, how, "", how)


def _owed(kind: Kind, given: _Table) -> Support:
    return Support(kind, given.text("name"), given.text("goal"), given.text("name"))


def _kind(given: _Table) -> Kind:
    if given.text("kind") == Owed.FLOATING_POINT.value:
        return Kind.CONDITION
    return Kind.CHECK if given.text("discharger") in _BY_Z3 else Kind.APPLICATION
