"""`refine check`: does a claim hold, by default that the error is within ε?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from refine.claims.kind import ClaimOption, EpsilonUse
from refine.claims.registry import (
    MARGIN,
    RELATIVE,
    USUAL,
    checked_claims,
    claim_for,
    own_options,
    require_own,
)
from refine.cli.daily.backward import CLAIM, backward_options, makes_backward, run_backward
from refine.cli.model_options import model_options
from refine.cli.run_claim import run_claim
from refine.cli.setup.configuration import without_file
from refine.perturbed.standing import Laid
from refine.results.verdict import ExitCode

BACKWARD = (
    f"{CLAIM}: the bits that run are the exact output for weights (backward:inputs: inputs) that "
    "differ relatively by at most E, or by E = k·u"
)


_LEAST: Mapping[str, str] = {
    name: f"; {command} finds the least one that can be proved"
    for name, command in {
        USUAL: "refine bound MODEL",
        RELATIVE: "refine bound MODEL --relative",
        MARGIN: "refine bound MODEL --margin",
        "gradient": "refine bound of the file that refine grad MODEL --ones -o vjp.onnx writes",
    }.items()
}


class _ClaimText(click.Choice[str]):
    """A claim by name, or a text that makes one."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if any(claim.reads(value) for claim in checked_claims()) or makes_backward(value):
            return str(value)
        return super().convert(value, param, ctx)


def _option(option: ClaimOption) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    return click.option(
        f"--{option.name.replace('_', '-')}",
        type=str if option.least is None else click.IntRange(min=option.least),
        default=option.default,
        show_default=option.default is not None,
        metavar=option.metavar,
        help=option.help,
    )


def _claiming(command: Callable[..., Any]) -> Callable[..., Any]:
    """The option `--claim`, and those of every claim that it offers."""
    offered = checked_claims()
    for option in reversed(own_options().values()):
        command = _option(option)(command)
    return click.option(
        "--claim",
        type=_ClaimText([*(claim.name for claim in offered), CLAIM]),
        default=USUAL,
        show_default=True,
        help="; ".join((*(f"{c.name}: {c.summary}" for c in offered), BACKWARD)) + ".",
    )(command)


class _Check(click.Command):
    """The command; what a file sets of claims that are not asked about is no matter."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        rest = super().parse_args(ctx, args)
        if "claim" in ctx.params:
            text = ctx.params["claim"]
            kind = None if makes_backward(text) else claim_for(text)
            mine = () if kind is None else kind.options
            others = own_options().keys() - {option.name for option in mine}
            none = ["eps"] if kind is not None and kind.epsilon is EpsilonUse.NONE else []
            ctx.params = without_file(ctx, ctx.params, [*others, *none])
        return rest


@click.command("check", cls=_Check)
@model_options
@click.option(
    "--eps",
    "eps",
    multiple=True,
    metavar="[OUTPUT=]E",
    help="Largest error allowed, for all outputs or for one; repeat for more.",
)
@_claiming
@backward_options
@click.option(
    "--certificate",
    type=click.Path(path_type=Path),
    metavar="FILE.cert",
    help="Write what a verified answer rests on, for refine recheck.",
)
def check_command(
    model: Path,
    eps: tuple[str, ...],
    claim: str,
    discrete: tuple[str, ...],
    certificate: Path | None,
    **given: Any,
) -> ExitCode:
    """Is |f_rt(x) − f_R(x)| ≤ E for every x of the domain and every allowed execution?

    \b
    refine check net.onnx --input -1..1 --eps 1e-3
    refine check net.onnx --center x.npy --radius 0.01 --eps 1e-3 --contract ort-cpu
    refine check net.onnx --vnnlib p.vnnlib --claim property
    refine check net.onnx --claim backward --eps 65u
    """
    if makes_backward(claim):
        require_own(CLAIM, (), given)
        if len(eps) != 1:
            raise click.UsageError(f"--claim {claim} takes one --eps, a relative change or k·u")
        if certificate is not None:
            raise click.UsageError("--certificate is of claims about a domain, not of --backward")
        laid = claim.partition(":")[2] or Laid.WEIGHTS.value
        return run_backward(model, laid, discrete=discrete, given=given, eps=eps[0])
    if discrete:
        raise click.UsageError("--discrete goes with --claim backward")
    kind = claim_for(claim)
    if not eps and kind.epsilon is EpsilonUse.NEEDED:
        raise click.UsageError(
            "say the largest error allowed with --eps E, such as --eps 1e-3"
            f"{_LEAST.get(kind.name, '')}"
        )
    if eps and kind.epsilon is EpsilonUse.NONE:
        raise click.UsageError(f"--claim {kind.name} speaks of no --eps")
    return run_claim(kind, model, eps, given=given, text=claim, certificate=certificate)
