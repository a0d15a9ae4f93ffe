"""`refine ops`: the operators that have a meaning here."""

from __future__ import annotations

import click

from encoders.registry import operators
from onnx_import.onnx.reader import DECOMPOSED, MADE
from onnx_import.passes.fold import ALONE
from refine.report.console import Reporter
from refine.results.verdict import ExitCode


@click.command("ops")
def ops_command() -> ExitCode:
    """List the operators that have a meaning here.

    \b
    refine ops
    """
    Reporter().operators(operators().values(), DECOMPOSED, MADE, ALONE)
    return ExitCode.VERIFIED
