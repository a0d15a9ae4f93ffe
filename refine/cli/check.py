"""`refine check`: is the error within ε?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from refine.cli.model_options import model_options
from refine.cli.run_claim import run_claim
from refine.results.verdict import ExitCode


@click.command("check")
@model_options
@click.option(
    "--eps",
    "eps",
    multiple=True,
    required=True,
    metavar="[OUTPUT=]E",
    help="Largest error allowed, for all outputs or for one; repeat for more.",
)
@click.option(
    "--claim",
    type=click.Choice(["accuracy", "batch-invariant"]),
    default="accuracy",
    show_default=True,
    help="batch-invariant: a row of a batch gives what it gives alone, within E (0: every bit).",
)
@click.option(
    "--batch",
    type=click.IntRange(min=2),
    default=8,
    show_default=True,
    metavar="N",
    help="Rows of the batch that --claim batch-invariant speaks of.",
)
def check_command(
    model: Path, eps: tuple[str, ...], claim: str, batch: int, **given: Any
) -> ExitCode:
    """Is |f_rt(x) − f_R(x)| ≤ E for every x of the domain and every allowed execution?"""
    return run_claim(model, eps, given, batch=batch if claim == "batch-invariant" else None)
