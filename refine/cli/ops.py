"""`refine ops`: the operators that have a meaning here; those of a model that have none."""

from __future__ import annotations

from pathlib import Path

import click

from encoders.registry import operators
from onnx_import.onnx.reader import DECOMPOSED, MADE
from onnx_import.passes.folding.fold import ALONE
from refine.everyday.understood import not_understood
from refine.options.options import allowing
from refine.options.sizes import sizes_of, sizing
from refine.report.console import Reporter
from refine.results.verdict import ExitCode


@click.command("ops")
@click.option(
    "--model",
    type=click.Path(path_type=Path),
    metavar="MODEL",
    help="List all that of this model is not understood instead.",
)
@allowing
@sizing
def ops_command(
    *,
    model: Path | None,
    allowed: tuple[Path, ...],
    shape: tuple[str, ...],
    dim: tuple[str, ...],
) -> ExitCode:
    """List the operators that have a meaning here, or what of a model has none.

    \b
    refine ops
    refine ops --model net.onnx

    Exit code 0, with --model only if all of the model is understood, else 2.
    """
    if model is None:
        if allowed or shape or dim:
            raise click.UsageError("--allow, --shape and --dim go with --model")
        Reporter().operators(operators().values(), DECOMPOSED, MADE, ALONE)
        return ExitCode.VERIFIED
    found = not_understood(model, allowed=allowed, sizes=sizes_of(shape, dim))
    Reporter().lines(found or ["all of the model is understood"])
    return ExitCode.INPUT_ERROR if found else ExitCode.VERIFIED
