"""`refine bound`: the best bound on the error that can be proved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from refine.claims.registry import USUAL, claims
from refine.cli.model_options import model_options
from refine.cli.run_claim import run_claim
from refine.results.verdict import ExitCode


@click.command("bound")
@model_options
def bound_command(model: Path, **given: Any) -> ExitCode:
    """The best bound on |f_rt(x) − f_R(x)| that can be proved."""
    return run_claim(claims()[USUAL], model, (), given=given)
