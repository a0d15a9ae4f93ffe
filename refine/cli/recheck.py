"""`refine recheck`: a certificate, checked by a program that shares nothing with this one."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import chain, islice
from pathlib import Path

import click

import checker
from refine.certificate.recorded import missing, recorded, unmet
from refine.certificate.stated import difference, premises_told
from refine.cli.answering import finish
from refine.options.models import read_as
from refine.report.console import Reporter
from refine.results.verdict import ExitCode

_WRONG_TOLD = 4
_CODES = {0: ExitCode.VERIFIED, 1: ExitCode.VIOLATED, 2: ExitCode.INPUT_ERROR}


@click.command("recheck")
@click.argument("certificate", type=click.Path(path_type=Path))
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "--vnnlib",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The file that states the property: its hash, its unsafe set and its domain are compared.",
)
def recheck_command(certificate: Path, model: Path, vnnlib: Path | None) -> ExitCode:
    """Check a certificate of `refine check --certificate` against its model.

    \b
    refine recheck net.cert net.onnx
    refine recheck net.cert net.onnx --vnnlib p.vnnlib

    The checker, the folder `checker`, runs in a process of its own and imports nothing of refine.
    The record of applied lemmas, which the checker does not read, is recomputed by refine.
    With --vnnlib, refine reads that file anew and compares what it says with what the certificate
    claims.

    Exit code 0 if the certificate is accepted, 1 if it is rejected, 2 if it cannot be read or is
    outside the checker's language.
    """
    script = Path(checker.__file__).with_name("check.py")
    files = [certificate, model, *([] if vnnlib is None else [vnnlib])]
    command = [sys.executable, str(script), *map(os.fspath, files)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    finish(click.get_current_context().obj)
    reporter = Reporter()
    if done.returncode not in _CODES:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        reporter.error(f"the checker ended with {done.returncode}: {last}")
        return ExitCode.INTERNAL_ERROR
    reporter.lines(done.stdout.splitlines())
    for line in done.stderr.splitlines():
        reporter.error(line)
    code = _CODES[done.returncode]
    if code is ExitCode.VIOLATED or not certificate.is_file():
        return code
    content = certificate.read_bytes()
    accepted = code is ExitCode.VERIFIED
    if not _recomputed(content, reporter, accepted):
        return ExitCode.VIOLATED
    if not accepted:
        return code
    reporter.lines(premises_told(content))
    if vnnlib is None:
        return code
    other = difference(content, read_as(model), vnnlib)
    if other is not None:
        reporter.lines([f"rejected: {other}"])
        return ExitCode.VIOLATED
    reporter.lines([f"its unsafe set and its domain are those of {vnnlib}"])
    return code


def _recomputed(content: bytes, reporter: Reporter, accepted: bool) -> bool:
    """Say what becomes of the applications in a certificate; does each hold? What is no certificate
    has none."""
    try:
        applications = recorded(content)
    except ValueError as error:
        if accepted:
            reporter.lines([f"rejected: {error}"])
        return not accepted
    if applications is None:
        reporter.lines(["it has no record of the lemmas that were applied"] if accepted else [])
        return True
    told = chain(unmet(applications), missing(content, applications) if accepted else ())
    wrong = list(islice(told, _WRONG_TOLD))
    reporter.lines(f"rejected: {line}" for line in wrong)
    if applications and not wrong:
        lemmas = len({entry["lemma"] for entry in applications})
        reporter.lines([f"{len(applications)} applications of {lemmas} lemmas recomputed exactly"])
    return not wrong
