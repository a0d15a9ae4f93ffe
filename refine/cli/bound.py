"""`refine bound`: the best bound on the error that can be proved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from refine.claims.registry import MARGIN, RELATIVE, USUAL, claims
from refine.cli.daily.backward import backward_options, run_backward, witness_options
from refine.cli.daily.probable import run_confidence
from refine.cli.model_options import model_options
from refine.cli.run_claim import run_claim
from refine.perturbed.standing import Laid
from refine.results.verdict import ExitCode


class _Bound(click.Command):
    """The command; says what to do about an option of `check`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            if error.option_name != "--eps":
                raise
            raise click.UsageError(
                "refine bound finds the least E that can be proved and takes no --eps; "
                "refine check MODEL --eps E asks whether E holds"
            ) from error


@click.command("bound", cls=_Bound)
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
@click.option(
    "--relative",
    is_flag=True,
    help="Of the relative error instead, |f_rt(x) − f_R(x)|/|f_R(x)|, as relative precision, in "
    "ulp and as rtol; with an atol where results may be 0 or subnormal.",
)
@click.option(
    "--backward",
    type=click.Choice([laid.value for laid in Laid]),
    help="By how much weights, or inputs, are moved in a network whose exact output is the bits "
    "that run: the backward error, of every input.",
)
@backward_options
@witness_options
@click.option(
    "--confidence",
    metavar="P",
    help="Beside the worst case, what is exceeded with a probability of at most P, such as 1e-9, "
    "if roundings are zero on average: a model of rounding to nearest, a theorem under "
    "--contract stochastic.",
)
def bound_command(
    model: Path,
    margin: str | None,
    relative: bool,
    backward: str | None,
    discrete: tuple[str, ...],
    witness: Path | None,
    output: Path | None,
    confidence: str | None,
    **given: Any,
) -> ExitCode:
    """The best bound on |f_rt(x) − f_R(x)| that can be proved.

    \b
    refine bound net.onnx --input -1..1
    refine bound net.onnx --vnnlib p.vnnlib --margin
    refine bound net.onnx --center x.npy --radius 0.01 --margin 3
    refine bound net.onnx --input 0.1..1 --relative
    refine bound net.onnx --input -1..1 --confidence 1e-9
    refine bound net.onnx --backward weights
    refine bound net.onnx --backward weights --witness x.npy -o perturbed.onnx
    """
    bounds = {
        "--margin": margin is not None,
        "--relative": relative,
        "--backward": backward is not None,
        "--confidence": confidence is not None,
    }
    asked = [option for option, is_given in bounds.items() if is_given]
    if len(asked) > 1:
        raise click.UsageError(f"{asked[0]} does not go with {asked[-1]}")
    if backward is None and (discrete or witness is not None or output is not None):
        raise click.UsageError("--discrete, --witness and --output go with --backward")
    if confidence is not None:
        return run_confidence(model, confidence, given)
    if backward is not None:
        return run_backward(
            model, backward, discrete=discrete, given=given, witness=witness, output=output
        )
    kind = claims()[RELATIVE if relative else USUAL if margin is None else MARGIN]
    text = kind.name if not margin else f"{MARGIN}:{margin}"
    return run_claim(kind, model, (), given=given, text=text)
