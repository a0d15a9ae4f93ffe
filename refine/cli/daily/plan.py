"""`refine plan`: which nodes may run in 16 bits, proved of the mixed model that is written."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

import click

from encoders.contract.presets import PRESETS
from gpu_check.common.writing import require_writable, write_text
from refine.claims.options import Options
from refine.cli.answering import finish, hearing, require_json_place, tell_json
from refine.cli.model_options import domain_options
from refine.domain.domain import DomainOptions, read_domain
from refine.everyday.planning import (
    Plan,
    Why,
    document_of_plan,
    format_named,
    plan,
    usual_contract,
)
from refine.lemmas.cache import default_directory
from refine.options.contract_choice import contract_for
from refine.options.options import allowing, limiting, tolerance_of
from refine.process.supervision import Watcher
from refine.report.console import Reporter
from refine.report.sections import broken_of
from refine.results.document import strict_json
from refine.results.summary import figures_of
from refine.results.verdict import ExitCode

_LISTED = 24


@click.command("plan")
@click.argument("model", type=click.Path(path_type=Path))
@domain_options
@click.option(
    "--eps",
    multiple=True,
    required=True,
    metavar="[OUTPUT=]E",
    help="Largest error allowed against the original over the reals; repeat for more outputs.",
)
@click.option(
    "--format",
    "fmt",
    type=click.Choice(["float16", "bfloat16"]),
    default="float16",
    show_default=True,
    help="The format of 16 bits.",
)
@click.option(
    "--contract",
    metavar="NAME|FILE.toml",
    help="How the mixed model runs; default: fp16 or bf16, where sums are accumulated in float32; "
    f"ieee-any accumulates in each tensor's own format ({', '.join(PRESETS)}, or a file).",
)
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path),
    required=True,
    metavar="MIXED.onnx",
    help="Where the mixed model is written.",
)
@click.option(
    "--block-list",
    type=click.Path(path_type=Path),
    metavar="FILE.txt",
    help="Write the names of the nodes that must stay in float32, one a line.",
)
@click.option("--json", "json_path", metavar="FILE", help="Write the answer; - for stdout.")
@click.option(
    "--report",
    type=click.Path(path_type=Path),
    metavar="FILE.html",
    help="Write what is proved of the mixed model as a page that a browser shows offline.",
)
@click.option(
    "--budget",
    type=click.FloatRange(min=0),
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    help="How long the bound of the mixed model is improved, where it does not settle eps at once.",
)
@click.option(
    "--conform/--no-conform",
    default=True,
    envvar="REFINE_CONFORM",
    help="Whether to look if the runtime here honours the contract on the mixed model.",
)
@limiting
@allowing
@click.option("--quiet", "-q", is_flag=True, help="Only the verdict.")
def plan_command(
    *,
    model: Path,
    vnnlib: str | None,
    inputs: tuple[str, ...],
    center: str | None,
    radius: str | None,
    clip: str | None,
    box: str | None,
    eps: tuple[str, ...],
    fmt: str,
    contract: str | None,
    output: Path,
    block_list: Path | None,
    json_path: str | None,
    report: Path | None,
    budget: float,
    conform: bool,
    timeout: float | None,
    allowed: tuple[Path, ...],
    quiet: bool,
) -> ExitCode:
    """Which nodes may run in 16 bits, proved of the mixed model that it writes.

    Nodes that overflow stay in float32, then those that cost most of the error allowed for the
    multiply-adds that they do. The verdict is about the file written: as it runs under the
    contract, it is within eps of the original over the reals.

    \b
    refine plan net.onnx --input -1..1 --eps 1e-2 -o mixed.onnx
    refine plan net.onnx --vnnlib p.vnnlib --eps 1e-2 --format bfloat16 -o mixed.onnx

    Exit code as of refine check.
    """
    require_json_place(json_path)
    for place in (output, block_list, report):
        if place is not None:
            require_writable(place)
    reporter = Reporter(quiet, silent=json_path == "-")
    watcher: Watcher | None = click.get_current_context().obj
    to = format_named(fmt)
    runs = usual_contract(to)
    if contract is not None:
        runs = contract_for(contract, None, None, model, allowed)
    written = DomainOptions(vnnlib, inputs, center=center, radius=radius, clip=clip, box=box)
    with reporter.progress("reading the model", hearing(quiet)) as progress:
        found = plan(
            model,
            lambda graph: read_domain(graph, written, runs.format_of),
            lambda graph: tolerance_of(eps, graph.outputs, True),
            runs,
            output,
            to=to,
            options=Options(
                cross_check=None,
                cache=default_directory(),
                search=False,
                budget=budget,
                timeout=timeout,
                conform=conform,
            ),
            allowed=allowed,
            tell=progress.tell,
        )
    finish(watcher)
    if block_list is not None:
        write_text(block_list, "".join(f"{name}\n" for name in found.block_list))
    if report is not None:
        write_text(report, found.result.to_html())
    tell_json(strict_json(document_of_plan(found, output)), json_path, reporter)
    if json_path != "-":
        reporter.lines(_lines(found, output, quiet))
    return found.result.exit_code


def _lines(found: Plan, output: Path, quiet: bool) -> Iterator[str]:
    for _, text in list(broken_of(found.result))[:1]:
        asked = shlex.join(["refine", "diff", str(found.graph.source), str(output)])
        yield f"broken: {text}"
        yield f"  {asked} --as-optimised none, with domain and eps, asks about what really runs"
    part = f"{100 * found.share:.1f} % of the multiply-adds in {found.format.value}"
    yield f"{found.result.verdict.value}: {part}, {', '.join(figures_of(found.result))}"
    if quiet:
        return
    yield f"  {found.result.reason}; wrote {output}"
    if not any(n.short for n in found.nodes):
        yield (
            "  every node stays in float32: for one in 16 bits a larger --eps, or a smaller domain"
            if found.result
            else "  not even with every node in float32: a larger --eps, or a smaller domain"
        )
    for why in (Why.OVERFLOW, Why.BUDGET, Why.UNSUITED):
        nodes = [n for n in found.nodes if n.why is why]
        if nodes:
            yield f"in float32 ({why.value}):"
        for n in nodes[:_LISTED]:
            yield f"  {n.name} ({n.op}): {n.detail}"
        if len(nodes) > _LISTED:
            yield f"  and {len(nodes) - _LISTED} more, in --json"
    yield f"contract {found.contract.describe()}"
    yield f"domain {found.result.domain.source}"
