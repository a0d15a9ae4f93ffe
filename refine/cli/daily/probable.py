"""What `bound --confidence` does: the likely error beside the worst one."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from encoders.contract.contract import RoundingMode
from encoders.numbers.enclosure import FloatArray
from onnx_import.errors import ModelError
from refine.claims.asked import Question, answered, read_for
from refine.claims.registry import USUAL, claims
from refine.cli.answering import finish, hearing, require_json_place, tell_json
from refine.cli.model_options import settings_of, written_domain
from refine.common.exact import decimal
from refine.domain.domain import read_domain
from refine.probable.answer import COLUMNS, document_of, probable_bound, rows_of
from refine.report.console import Reporter
from refine.results.verdict import ExitCode, Tolerance

_ELSEWHERE = ("junit", "sarif", "report", "dump_smt2", "counterexample")


def run_confidence(model: Path, confidence: str, given: dict[str, Any]) -> ExitCode:
    """Print likely and worst errors; never the exit code of what is verified."""
    named = [name for name in _ELSEWHERE if given.get(name)]
    if named:
        raise click.UsageError(f"--{named[0].replace('_', '-')} does not go with --confidence")
    failing = _probability(confidence)
    json_path: str | None = given["json_path"]
    require_json_place(json_path)
    reporter = Reporter(given["quiet"], silent=json_path == "-", verbose=given["verbose"])
    settings = settings_of(given, given["timeout"], given["budget"])
    written = written_domain(given)
    watcher = click.get_current_context().obj
    until = time.monotonic() + settings.budget
    hear = hearing(given["quiet"] or json_path == "-", until)
    with reporter.progress("reading the model", hear, until) as progress:
        graph, contract = read_for(model, settings)
        domain = read_domain(graph, written, contract.format_of)
        if watcher is not None:
            watcher.read()
        worst: dict[str, FloatArray] | None = None
        if contract.rounding is not RoundingMode.STOCHASTIC:
            question = Question(
                claim=claims()[USUAL],
                model=graph,
                domain=lambda read, runs: domain,
                tolerance=lambda read: Tolerance(),
                settings=settings,
                text=USUAL,
            )
            result = answered(question, progress.tell)
            worst = dict(result.bounds)
            if result.exit_code is not ExitCode.VERIFIED:
                reporter.error(f"the worst case is not proved: {result.reason}")
        progress.tell("probable errors")
        found = probable_bound(graph, contract, domain, failing, worst)
    finish(watcher)
    tell_json(document_of(found), json_path, reporter)
    if given["quiet"]:
        reporter.lines([found.answer])
    else:
        source = graph.source
        name = "the model" if source is None else source.name
        reporter.table(f"{name}: probable errors", COLUMNS, rows_of(found), found.answer)
        reporter.lines([f"assumed: {text}" for text in found.assumed])
    return ExitCode.CONDITIONAL


def _probability(text: str) -> float:
    """A probability strictly between 0 and 1. Raises ModelError."""
    try:
        value = float(decimal(text))
    except ModelError as error:
        raise ModelError(f"--confidence: {error}") from None
    if not 0.0 < value < 1.0:
        raise ModelError(
            f"--confidence {text}: the probability with which the bound may fail lies between 0 "
            "and 1, such as 1e-9"
        )
    return value
