"""What `bound --backward` and `check --claim backward` do."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import click

from onnx_import.errors import ModelError
from refine.claims.asked import Question, answered, read_for
from refine.claims.registry import USUAL, claims
from refine.cli.answering import finish, hearing, require_json_place, tell_json
from refine.cli.daily.backward_witness import built_witness
from refine.cli.model_options import settings_of, written_domain
from refine.common.arrays import stored_arrays
from refine.common.exact import decimal
from refine.domain.domain import read_domain
from refine.domain.shown import shapes_of_options
from refine.options.options import tolerance_of
from refine.perturbed.bound import FINITE, BackwardBound, backward_bound
from refine.perturbed.document import (
    COLUMNS,
    WITNESS_COLUMNS,
    document_of,
    refused_document,
    rows_of,
    told_witness,
    witness_rows,
)
from refine.perturbed.files import require_places
from refine.perturbed.standing import Laid, NothingTakesThem
from refine.perturbed.witness import OutsideBound
from refine.report.console import Reporter
from refine.results.numerals import up
from refine.results.obligation import Outcome
from refine.results.verdict import ExitCode, Verdict

CLAIM = "backward"
_DOMAIN = ("vnnlib", "inputs", "center", "radius", "clip", "box", "round_inputs", "strict_inputs")
_MEANINGLESS = ("report", "junit", "sarif", "counterexample", "dump_smt2")
_MULTIPLE = re.compile(r"(?P<k>\d+(?:\.\d+)?(?:/\d+)?)\s*u")


def backward_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """What `bound --backward` and `check --claim backward` share."""
    return click.option(
        "--discrete",
        multiple=True,
        metavar="NAME",
        help="With a backward error, an input or stored tensor that is not moved; repeat for more.",
    )(command)


def witness_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """What only `bound --backward weights` has."""
    decorators = (
        click.option(
            "--witness",
            type=click.Path(path_type=Path),
            metavar="FILE.npy",
            help="With --backward weights: run onnxruntime on this input, or these along the first "
            "axis, and build the weights with which the exact outputs are the bits that ran.",
        ),
        click.option(
            "--output",
            "-o",
            type=click.Path(path_type=Path),
            metavar="PERTURBED.onnx",
            help="Where the network of a --witness of one input is written, with its exact numbers "
            "beside it.",
        ),
    )
    for decorator in reversed(decorators):
        command = decorator(command)
    return command


def makes_backward(text: str) -> bool:
    """Is a `--claim` this one: `backward`, `backward:weights` or `backward:inputs`?"""
    name, _, on = text.partition(":")
    return name == CLAIM and on in ("", *(laid.value for laid in Laid))


def run_backward(
    model: Path,
    laid: str,
    *,
    discrete: tuple[str, ...],
    given: dict[str, Any],
    eps: str | None = None,
    witness: Path | None = None,
    output: Path | None = None,
) -> ExitCode:
    """Print the backward error of a model, or whether it is at most `eps`; the exit code. With a
    `witness`, a file of inputs, the exact networks are built that runs are the outputs of, and one
    is written to `output`."""
    named = [name for name in _MEANINGLESS if given[name] is not None]
    if named:
        raise click.UsageError(
            f"a backward error has a table and --json, and no --{named[0].replace('_', '-')}"
        )
    if output is not None and witness is None:
        raise click.UsageError("--output is of a --witness, which names an input")
    json_path: str | None = given["json_path"]
    require_json_place(json_path)
    if output is not None:
        require_places(output)
    reporter = Reporter(given["quiet"], silent=json_path == "-", verbose=given["verbose"])
    settings = settings_of(given, given["timeout"], given["budget"])
    watcher = click.get_current_context().obj
    hear = hearing(given["quiet"] or json_path == "-")
    built = None
    with reporter.progress("reading the model", hear) as progress:
        graph, contract = read_for(model, settings)
        arrays = None if witness is None else stored_arrays(witness)
        if watcher is not None:
            watcher.read()
        try:
            found = backward_bound(graph, contract, Laid(laid), discrete)
        except NothingTakesThem as error:
            refusal = refused_document(graph, contract, Laid(laid), str(error))
            finish(watcher)
            tell_json(refusal, json_path, reporter)
            if json_path != "-":
                reporter.lines([f"unknown: {error}"])
            return ExitCode.UNKNOWN
        if any(given[name] for name in _DOMAIN):
            progress.tell("proving that no value of the domain overflows")
            found = _on_domain(found, _overflow_of(model, given, progress.tell))
        if arrays is not None:
            progress.tell("running onnxruntime, and building its witness")
            try:
                built = built_witness(found, arrays, str(witness), model=model, output=output)
            except OutsideBound as error:
                finish(watcher)
                reporter.error(f"the runtime here leaves contract '{contract.name}': {error}")
                return ExitCode.CONTRACT_BROKEN
    limit = None if eps is None else _limit(eps)
    verdict = None if limit is None else _verdict(found, *limit)
    finish(watcher)
    epsilon = None if limit is None else limit[0] * (_unit(found) if limit[1] else 1)
    tell_json(
        document_of(found, epsilon=epsilon, verdict=verdict, witness=built), json_path, reporter
    )
    answer = answer_of(found)
    if verdict is not None:
        answer = f"{verdict.value}: {answer}; eps {eps}"
    if verdict is Verdict.CONDITIONAL and given["quiet"]:
        answer += f"; assumed: {'; '.join(found.assumed)}"
    if given["quiet"] and json_path != "-":
        reporter.lines([answer])
    elif json_path != "-":
        rows = rows_of(found)
        reporter.table(f"{graph_name(found)}: backward error", COLUMNS, rows, answer)
        units = {Fraction(m.unit) for m in found.moved}
        if len(units) == 1:
            reporter.lines(
                [f"u is {_power(*units)}, what one rounding errs by relatively, at most"]
            )
        reporter.lines([f"assumed: {text}" for text in found.assumed])
        if built is not None:
            reporter.table("the witness", WITNESS_COLUMNS, witness_rows(built), told_witness(built))
    codes = {Verdict.UNKNOWN: ExitCode.UNKNOWN, Verdict.CONDITIONAL: ExitCode.CONDITIONAL}
    return ExitCode.VERIFIED if verdict is None else codes.get(verdict, ExitCode.VERIFIED)


def _overflow_of(model: Path, given: dict[str, Any], tell: Callable[[str], None]) -> str | None:
    """Which obligation of the usual bound over the domain is not met; None if all are, so that
    every value of every execution is finite there."""
    kind, written = claims()[USUAL], written_domain(given)
    settings = settings_of(given, given["timeout"], 0.0)
    asked = Question(
        claim=kind,
        model=model,
        domain=lambda graph, contract: read_domain(graph, written, contract.format_of),
        tolerance=lambda graph: tolerance_of((), graph.outputs, kind.zero),
        settings=replace(settings, no_search=True, conform=False, z3="none"),
        text=kind.name,
        shapes=shapes_of_options(written),
    )
    result = answered(asked, tell)
    for obligation in result.every_obligation:
        if obligation.outcome is not Outcome.DISCHARGED:
            return obligation.name
    return None if math.isfinite(result.bound) else "the bound is infinite"


def _on_domain(found: BackwardBound, unmet: str | None) -> BackwardBound:
    """The claim where executions are those of a domain."""
    if unmet is None:
        return replace(found, assumed=tuple(text for text in found.assumed if text != FINITE))
    text = f"{FINITE} (that all are, over the domain, is not proved: {unmet})"
    return replace(found, assumed=(text, *found.assumed[1:]))


def graph_name(found: BackwardBound) -> str:
    """The file's name."""
    return "the model" if found.graph.source is None else found.graph.source.name


def answer_of(found: BackwardBound) -> str:
    """The claim in a sentence."""
    things = "weights" if found.laid is Laid.WEIGHTS else "inputs"
    besides = [m for m in found.moved if m.besides is not None]
    if not found.moved:
        return "the bits that run are the exact output: nothing rounds"
    text = (
        f"the bits that run are the exact output for {things} that differ relatively by at most "
        f"{up(found.largest, 4)} ({up(found.multiples, 6)} u)"
    )
    most = max((m.besides.largest for m in besides if m.besides is not None), default=0.0)
    if besides:
        for_what = "for what functions lose" if found.absolute else "where something underflows"
        text += f", and biases by {up(most, 3)} besides, {for_what}"
    if found.mixed:
        rest = max(r.largest for r in found.mixed.values())
        text += f"; outputs without a bias, up to {up(rest, 3)} (mixed)"
    return text


def _power(unit: Fraction) -> str:
    power = unit.denominator.bit_length() - 1
    return f"2^-{power}" if unit == Fraction(1, 2**power) else f"{float(unit):.4g}"


def _unit(found: BackwardBound) -> Fraction:
    return Fraction(max((m.unit for m in found.moved), default=0.0))


def _limit(text: str) -> tuple[Fraction, bool]:
    """A relative change as a decimal, or as k·u (`65u`). Raises ModelError."""
    found = _MULTIPLE.fullmatch(text.strip().replace("*", "").replace("·", ""))
    if found is not None:
        return Fraction(found["k"]), True
    if "=" in text:
        raise ModelError("--claim backward takes one --eps, for every parameter and input")
    try:
        value = decimal(text)
    except ModelError as error:
        raise ModelError(f"--eps: {error}, and no multiple of u such as 65u") from None
    if value < 0:
        raise ModelError(f"--eps {text} is negative")
    return value, False


def _verdict(found: BackwardBound, limit: Fraction, in_units: bool) -> Verdict:
    """Conditional where something is assumed of the execution, as that all values are finite."""
    if in_units:
        holds = all(Fraction(m.multiples) <= limit for m in found.moved)
    else:
        holds = Fraction(found.largest) <= limit
    if not holds:
        return Verdict.UNKNOWN
    return Verdict.CONDITIONAL if found.assumed else Verdict.VERIFIED
