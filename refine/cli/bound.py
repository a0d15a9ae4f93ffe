"""`refine bound`: the best bound on the error that can be proved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from refine.claims.registry import MARGIN, USUAL, claims
from refine.cli.model_options import model_options
from refine.cli.run_claim import run_claim
from refine.results.verdict import ExitCode


@click.command("bound")
@model_options
@click.option(
    "--margin",
    is_flag=False,
    flag_value="",
    metavar="[LABEL]",
    help="Of the difference of two scores instead, of every two or of LABEL's and the others': "
    "a label that the real network keeps by a larger margin is kept in every execution. "
    "NAME or NAME[LABEL] where several outputs are rows of scores.",
)
def bound_command(model: Path, margin: str | None, **given: Any) -> ExitCode:
    """The best bound on |f_rt(x) − f_R(x)| that can be proved."""
    kind = claims()[USUAL if margin is None else MARGIN]
    text = kind.name if not margin else f"{MARGIN}:{margin}"
    return run_claim(kind, model, (), given=given, text=text)
