"""The zoo: bugs that people shipped, each a right and a wrong graph with the answer expected.

An entry is a folder with `right.onnx`, `wrong.onnx` and `entry.toml`. The wrong graph is compared
with the right one, or, where the bug is one of arithmetic, held against its own real semantics,
against itself in a batch, or against a claim about what runs; the right graph is asked the same
about itself, and must be `verified`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import Enum
from fractions import Fraction
from pathlib import Path
from typing import Any

from encoders.arithmetic.handling import handling_of
from encoders.contract.presets import EXACT
from onnx_import import load
from onnx_import.errors import ModelError
from refine.api import check, check_model, diff_models
from refine.claims.kinds.batch_invariance import batch_invariance
from refine.claims.options import Options
from refine.common.toml_file import read_toml
from refine.domain.domain import DomainOptions, read_domain
from refine.lemmas.cache import default_directory
from refine.options.options import contract_of, tolerance_of
from refine.proof.cross_check import SAMPLE
from refine.results.document import document_of
from refine.results.obligation import Kind, Obligation, Outcome
from refine.results.verdict import Execution, Result, Verdict, Witness

HEADER = "entry.toml"
RIGHT, WRONG = "right.onnx", "wrong.onnx"
BATCH = 8  # rows
_LISTS = ("input", "sources")
_BUDGET = 10.0  # seconds
_INPUTS_SHOWN = 8


class Command(Enum):
    """What is asked: does the wrong graph differ from the right one, from its own meaning, or from
    itself in a batch, or does it break a claim about what runs?"""

    DIFF = "diff"
    CHECK = "check"
    BATCH_INVARIANT = "batch-invariant"
    CLAIM = "claim"


class CrossCheck(Enum):
    """Is Z3 asked about single elements of the nodes, bit for bit?"""

    NONE = "none"
    SAMPLE = "sample"


@dataclass(frozen=True)
class Entry:
    """The header of one entry. `eps`, `claim`, `contract` and `input` are as the command line takes
    them, but that a contract file lies in the folder of the entry. A `claim` has no `eps`.

    `contract` is that of the graph in question; `spec_contract` is that of the right graph it is
    compared with. Under `exact` a graph is read over the reals. `sources` say where the bug of the
    `story` is reported.
    """

    title: str
    story: str
    expected: Verdict
    command: Command
    input: tuple[str, ...]
    eps: str = ""
    claim: str = ""
    contract: str = "ieee-any"
    spec_contract: str = EXACT.name
    z3: CrossCheck = CrossCheck.NONE
    sources: tuple[str, ...] = ()


@dataclass(frozen=True)
class EntryResult:
    """What an entry gave. `wrong` and `right` are the results about these graphs; `failure` says
    why there are none."""

    name: str
    seconds: float
    expected: Verdict | None = None
    wrong: Result | None = None
    right: Result | None = None
    failure: str = ""

    @property
    def as_expected(self) -> bool:
        """Did the wrong model get the verdict that the entry expects, and the right one
        `verified`?"""
        if self.wrong is None or self.right is None:
            return False
        return self.wrong.verdict is self.expected and self.right.verdict is Verdict.VERIFIED


def shipped_zoo() -> Path:
    """The zoo of this installation: a wheel holds its entries, a checkout has it in `examples`."""
    here = Path(__file__).resolve().parent
    inside = here / "zoo_entries"
    return inside if inside.is_dir() else here.parent / "examples" / "zoo"


def folders(zoo: Path, only: str | None = None) -> tuple[Path, ...]:
    """The entries of a zoo, by name. Raises ModelError if there is none, or none of that name."""
    found = tuple(sorted(header.parent for header in zoo.glob(f"*/{HEADER}")))
    if not found:
        raise ModelError(
            f"{zoo} is no zoo: none of its folders holds {HEADER}; one entry is --only NAME"
        )
    chosen = tuple(f for f in found if only in (None, f.name))
    if not chosen:
        raise ModelError(f"{zoo} has no entry '{only}'; it has {', '.join(f.name for f in found)}")
    return chosen


def read_entry(folder: Path) -> Entry:
    """The header of an entry. Raises ModelError, naming the file and the key."""
    path = folder / HEADER
    table = read_toml(path)
    try:
        return _entry(table)
    except ValueError as error:
        raise ModelError(f"{path}: {error}") from error


def _entry(table: Mapping[str, Any]) -> Entry:
    """Raises ValueError for a key that is unknown or missing, or a value that has no meaning."""
    given = {key.replace("-", "_"): value for key, value in table.items()}
    known = {field.name for field in fields(Entry)}
    required = {"title", "story", "expected", "command", "input"}
    if "command" in given:
        required.add("claim" if given["command"] == Command.CLAIM.value else "eps")
    for key in sorted(given.keys() - known):
        raise ValueError(f"there is no key '{key}'")
    for key in sorted(required - given.keys()):
        raise ValueError(f"the key '{key}' is missing")
    for key in sorted({"claim", "eps"} & (given.keys() - required)):
        raise ValueError(f"the key '{key}' means nothing beside the command '{given['command']}'")
    for key, value in given.items():
        listed = key in _LISTS
        kind = list if listed else str
        if not isinstance(value, kind) or not all(isinstance(v, str) for v in value):
            raise ValueError(f"'{key}' is not a {'list of strings' if listed else 'string'}")
        given[key] = tuple(value) if listed else value
    kinds = {"expected": Verdict, "command": Command, "z3": CrossCheck}
    return Entry(**given | {key: kinds[key](given[key]) for key in kinds.keys() & given.keys()})


def run_entry(folder: Path, seed: int = 0) -> EntryResult:
    """Ask about the wrong graph and the right one. What cannot be read is a failed outcome."""
    started = time.monotonic()
    expected: Verdict | None = None
    try:
        entry = read_entry(folder)
        expected = entry.expected
        wrong = _asked(entry, folder, WRONG, seed)
        right = _asked(entry, folder, RIGHT, seed)
    except ModelError as error:
        return EntryResult(folder.name, time.monotonic() - started, expected, failure=str(error))
    return EntryResult(folder.name, time.monotonic() - started, expected, wrong, right)


def _asked(entry: Entry, folder: Path, graph: str, seed: int) -> Result:
    effort = SAMPLE if entry.z3 is CrossCheck.SAMPLE else None
    options = Options(effort, default_directory(), seed, budget=_BUDGET)
    domain = DomainOptions(inputs=entry.input)
    contract, spec_contract = (
        contract_of(str(folder / name) if name.endswith(".toml") else name)
        for name in (entry.contract, entry.spec_contract)
    )
    if entry.command is Command.CLAIM:
        return check(
            folder / graph,
            input=entry.input,
            claim=entry.claim,
            contract=contract,
            budget=_BUDGET,
            seed=seed,
            z3=entry.z3.value,
            conform=False,
        )
    if entry.command is Command.CHECK:
        return check_model(folder / graph, domain, entry.eps, contract, options)
    if entry.command is Command.BATCH_INVARIANT:
        alone = load(folder / graph, handling=handling_of(contract))
        rows = read_domain(alone, domain, contract.format_of)
        tolerance = tolerance_of((entry.eps,), alone.outputs, zero=True)
        return batch_invariance(
            alone, BATCH, domain=rows, contract=contract, tolerance=tolerance, options=options
        )
    sides = folder / RIGHT, folder / graph
    return diff_models(*sides, domain, entry.eps, contract, options, spec_contract)


def document(outcomes: tuple[EntryResult, ...]) -> dict[str, Any]:
    """What `--json` writes. Numbers as in the result of `refine check`."""
    return {"entries": [_account(o) for o in outcomes]}


def _account(outcome: EntryResult) -> dict[str, Any]:
    account: dict[str, Any] = {
        "name": outcome.name,
        "expected": None if outcome.expected is None else outcome.expected.value,
        "verdict": None if outcome.wrong is None else outcome.wrong.verdict.value,
        "right": None if outcome.right is None else outcome.right.verdict.value,
        "as_expected": outcome.as_expected,
        "seconds": outcome.seconds,
    }
    if outcome.wrong is None:
        return account | {"failure": outcome.failure}
    whole = document_of(outcome.wrong)
    witness = whole["counterexample"] or {}
    return account | {
        "eps": whole["eps"],
        "bound": whole["bound"],
        "worst_found": whole["worst_found"],
        "reason": whole["reason"],
        "refuted": [
            {"node": o.node, "name": o.name, "goal": o.goal, "at": o.detail}
            for o in _refuted(outcome.wrong)
        ],
        "witness": {k: v for k, v in witness.items() if k != "replays"} or None,
        "replays": witness.get("replays", []),
    }


def _refuted(result: Result) -> tuple[Obligation, ...]:
    """What Z3 refutes in floating point, bit for bit."""
    every = (o for node in result.nodes for o in node.obligations)
    return tuple(o for o in every if o.kind is Kind.FLOATING_POINT and o.outcome is Outcome.REFUTED)


def row(outcome: EntryResult) -> tuple[str, ...]:
    """Name, expected, verdict of the wrong and of the right graph, seconds, witness."""
    verdicts = (
        outcome.expected,
        None if outcome.wrong is None else outcome.wrong.verdict,
        None if outcome.right is None else outcome.right.verdict,
    )
    shown = ("" if v is None else v.value for v in verdicts)
    return (outcome.name, *shown, f"{outcome.seconds:.1f}", _remark(outcome))


def _remark(outcome: EntryResult) -> str:
    """The witness in one line; else why there is none."""
    if outcome.wrong is None or outcome.right is None:
        return outcome.failure
    if outcome.right.verdict is not Verdict.VERIFIED:
        return f"the right graph: {outcome.right.reason}"
    if outcome.wrong.witness is not None:
        witness = outcome.wrong.witness
        shown = show_witness(witness, outcome.wrong.tolerance.of(witness.output))
        refuted = _refuted(outcome.wrong)
        return f"{shown}; Z3: {refuted[0].node} fails at {refuted[0].detail}" if refuted else shown
    return "" if outcome.as_expected else outcome.wrong.reason


def show_witness(witness: Witness, epsilon: Fraction | None) -> str:
    """`x=[0, 1] → 3.5, not 1.25; onnxruntime: 3.5`: what is run, what is meant, what confirms."""
    limit = epsilon or Fraction(0)
    inputs = ", ".join(f"{name}={_short(v)}" for name, v in witness.inputs.items())
    meant = None if witness.real is None else float(witness.real.lo)
    every = (r for r in witness.replays if isinstance(r, Execution))
    ran = next((r for r in every if r.confirms(limit)), None)
    digits = next(d for d in range(6, 18) if _apart(witness.value, meant, d))
    real = "undefined" if meant is None else f"{meant:.{digits}g}"
    told = "" if ran is None else f"; {ran.runtime.split(' ')[0]}: {ran.value:.{digits}g}"
    return f"{inputs} → {witness.value:.{digits}g}, not {real}{told}"


def _apart(value: float, meant: float | None, digits: int) -> bool:
    return meant is None or digits == 17 or f"{value:.{digits}g}" != f"{meant:.{digits}g}"


def _short(values: Any) -> str:
    flat = [str(v).removesuffix(".0") for v in values.reshape(-1)]
    shown = ", ".join(flat[:_INPUTS_SHOWN]) + (", …" if len(flat) > _INPUTS_SHOWN else "")
    return f"[{shown}]" if len(flat) != 1 else shown
