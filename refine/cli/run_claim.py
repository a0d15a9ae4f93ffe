"""What `check`, `bound` and `diff` do: options in, an answer printed, an exit code out."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import click

from encoders.contract.presets import EXACT
from gpu_check.common.writing import write_text
from refine.certificate.keeping import with_certificate
from refine.claims.asked import Question, answered
from refine.claims.kind import ClaimKind
from refine.claims.options import Options
from refine.claims.registry import USUAL, taken_of
from refine.cli.answering import Telling, hearing
from refine.cli.model_options import settings_of, written_domain
from refine.cli.setup.configuration import origin
from refine.cli.setup.findings import require_finding_places, tell_findings
from refine.cli.setup.journal import journal_of
from refine.cli.setup.presets import search_of
from refine.domain.domain import read_domain
from refine.domain.shown import shapes_of_options
from refine.lemmas.library import dump_smt2
from refine.options.options import tolerance_of
from refine.process.supervision import Watcher
from refine.report.console import Reporter
from refine.results.document import contradiction_text, json_text
from refine.results.verdict import ExitCode, Result, Verdict
from refine.witness.file import save_witness, saved_digests
from refine.witness.places import as_json, require_places

_SHORTEST = 1e-3  # seconds, where the limit has passed before the work began


def run_claim(
    claim: ClaimKind,
    model: Path,
    eps: tuple[str, ...],
    *,
    given: dict[str, Any],
    spec: tuple[Path, str] | None = None,
    match: Mapping[str, str] | None = None,
    text: str = "",
    certificate: Path | None = None,
    heard: Callable[[Result], None] = lambda result: None,
) -> ExitCode:
    """`text` made the claim, whose options are among those `given`; `spec` is another model to
    compare with, and the name of its contract; `certificate` is where that of a verified answer
    goes; `heard` hears the answer once it is told."""
    json_path: str | None = given["json_path"]
    report: Path | None = given["report"]
    if given["quiet"] and given["verbose"]:
        raise click.UsageError("--quiet does not go with --verbose")
    reporter = Reporter(given["quiet"], silent=json_path == "-", verbose=given["verbose"])
    timeout = given["timeout"]
    context = click.get_current_context()
    given = search_of(context, given)
    require_finding_places(given["junit"], given["sarif"])
    require_places(json_path, given["counterexample"], given["dump_smt2"], certificate, report)
    written = written_domain(given)
    settings = settings_of(given, timeout, given["budget"])
    vnnlib = given["vnnlib"]
    question = Question(
        claim=claim,
        model=model,
        domain=lambda graph, contract: read_domain(graph, written, contract.format_of),
        tolerance=lambda graph: tolerance_of(eps, graph.outputs, claim.zero),
        settings=settings,
        spec=None if spec is None else spec[0],
        spec_contract=EXACT if spec is None else spec[1],
        match=match,
        text=text or claim.name,
        given=taken_of(claim, given),
        constraint=None if vnnlib is None else Path(vnnlib),
        certificate=certificate is not None,
        shapes=shapes_of_options(written),
    )
    watcher = context.obj
    telling = Telling(watcher, reporter, json_path is not None or report is not None)
    limit = None if watcher is None else watcher.limit
    until = limit or time.monotonic() + settings.budget + (settings.search or 0.0)
    hear = hearing(given["quiet"] or json_path == "-", until)
    with reporter.progress("reading the model", hear, until) as progress:
        result = answered(question, progress.tell, partial(_ready, watcher, telling))
        if claim.name == USUAL and not given["quiet"]:
            result = _with_suggestion(result, watcher, settings.allow, progress.tell)
    set_by_file = origin(context)
    if set_by_file is not None:
        result = replace(result, notes=(*result.notes, set_by_file))
    telling.so_far(result)
    place = _witness_place(result, given["counterexample"])
    result = _certified(replace(result, witness_file=place), certificate, reporter)
    document = None if json_path is None else json_text(result)
    telling.finish()
    if place is not None and not _saved(result, place, reporter):
        result = replace(result, witness_file=None)
        document = None if json_path is None else json_text(result)
    if result.verdict is Verdict.CONTRADICTION:
        _tell_contradiction(result, reporter)
    if given["dump_smt2"] is not None:
        dump_smt2(result.every_obligation, given["dump_smt2"])
    if document is not None and json_path not in (None, "-"):
        _written("--json", Path(json_path), document, reporter)
    if report is not None:
        _written("--report", report, result.to_html(), reporter)
    if given["junit"] is not None or given["sarif"] is not None:
        from refine.report.findings import finding_of

        found = finding_of(result, question.text)
        tell_findings([found], junit=given["junit"], sarif=given["sarif"], reporter=reporter)
    journal = journal_of(context)
    if journal is not None:
        journal.note(f"the report:\n{Reporter(verbose=True).report_of(result)}")
    reporter.result(result, document if json_path == "-" else None)
    heard(result)
    return result.exit_code


def _ready(watcher: Watcher | None, telling: Telling, options: Options) -> Options:
    """The files have been read: so much time is left, and results on the way are told."""
    if watcher is None:
        return options
    watcher.read()
    if watcher.limit is None:
        return options
    left = max(watcher.limit - time.monotonic(), _SHORTEST)
    return replace(options, timeout=left, so_far=telling.so_far)


def _with_suggestion(
    result: Result,
    watcher: Watcher | None,
    allowed: tuple[Path, ...],
    tell: Callable[[str], None],
) -> Result:
    """The result with what to ask in place of it, if that is worth its time."""
    if result.conduct is None or result.timed_out:
        return result
    from refine.everyday.suggesting import suggested

    limit = None if watcher is None else watcher.limit
    left = math.inf if limit is None else limit - time.monotonic()
    text = suggested(result, allowed=allowed, left=left, tell=tell)
    return replace(result, suggestion=text)


def _written(option: str, path: Path, document: str, reporter: Reporter) -> None:
    """Write a finished result, which stands with or without the file."""
    try:
        write_text(path, document)
    except OSError as error:
        reporter.error(f"{option} is not written: {path}: {error.strerror or error}")


def _certified(result: Result, path: Path | None, reporter: Reporter) -> Result:
    """Write the certificate; the verdict stands, with or without the file."""
    made = result.certification
    if path is not None and made is None:
        reporter.error(
            "--certificate is not written: a certificate is of a verified accuracy, property, "
            "inequality or label, and this answer is none"
        )
    elif path is not None and made is not None and made.outside is not None:
        reporter.error(f"--certificate holds only the lemmas that were applied: {made.outside}")
    try:
        return with_certificate(result, path)
    except OSError as error:
        reporter.error(f"the certificate is not saved: {path}: {error.strerror or error}")
        return result


def _witness_place(result: Result, chosen: Path | None) -> Path | None:
    """Where a counterexample will be saved; None where there is none."""
    if result.witness is None:
        return None
    source = result.graph.source
    stem = "model" if source is None else source.stem
    return as_json(chosen or Path(f"{stem}-counterexample.json"))


def _saved(result: Result, path: Path, reporter: Reporter) -> bool:
    """Save the counterexample; the verdict stands, with or without the file."""
    before = saved_digests(path)
    try:
        save_witness(result, path)
        if before not in (None, saved_digests(path)):
            reporter.error(f"{path} held another counterexample, which this one replaces")
    except OSError as error:
        reporter.error(f"the counterexample is not saved: {path}: {error.strerror or error}")
        return False
    return True


def _tell_contradiction(result: Result, reporter: Reporter) -> None:
    """Say it on standard error, whatever else is printed, and keep what a report of it needs."""
    source = result.graph.source
    path = Path(f"{'model' if source is None else source.stem}-contradiction.json")
    text = contradiction_text(result, sys.argv)
    kept = f"and {path}, which holds the domain, the contract, every bound and the versions"
    try:
        write_text(path, text)
    except OSError as error:
        kept = f"and what --json writes ({path}: {error.strerror or error})"
    reporter.error(
        f"{result.reason}; please report it, with the model, {source or 'unnamed'}, {kept}"
    )
