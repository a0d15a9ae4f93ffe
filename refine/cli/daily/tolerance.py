"""`refine tolerance`: which tolerance a test may use, proved."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import click
import numpy as np

from encoders.contract.contract import RuntimeContract
from encoders.contract.presets import PRESETS
from gpu_check.common.writing import require_writable, write_whole
from onnx_import.errors import ModelError, shorten
from refine.claims.options import Options
from refine.cli.answering import finish, hearing, require_json_place, tell_json
from refine.cli.setup.findings import finding_options, require_finding_places, tell_findings
from refine.common.exact import decimal
from refine.domain.domain import Domain, DomainOptions, read_domain
from refine.everyday.advising import in_16_bits
from refine.everyday.numbers import device_numbers
from refine.everyday.one_operator import operator_model
from refine.everyday.points import given_by
from refine.everyday.tolerances import (
    Tolerances,
    arrays_of,
    dearest,
    document_of_tolerances,
    tolerances,
)
from refine.lemmas.cache import default_directory
from refine.options.contract_choice import contract_for
from refine.options.models import Model, opened, read_as
from refine.options.optimised import as_optimised as optimised
from refine.options.options import allowing, format_of, limiting, optimising
from refine.options.sizes import shown_by, sizes_of, sizing
from refine.process.supervision import Watcher
from refine.report.console import Reporter
from refine.report.findings import Finding, Outcome
from refine.results.document import strict_json
from refine.results.numerals import down, up
from refine.results.verdict import ExitCode, Side

_PROVED = "proved"
_COLUMNS = ("output", "elements", "atol", "hex", "needed at", "real value there", "B there")


@click.command("tolerance")
@click.argument("model", type=click.Path(path_type=Path), required=False)
@click.option(
    "--inputs",
    type=click.Path(path_type=Path),
    metavar="FILE.npz",
    help="The input of a test, an array by input name; several along a first axis.",
)
@click.option(
    "--input",
    "ranges",
    metavar="[NAME=]LO..HI",
    multiple=True,
    help="A whole domain instead: all elements of an input between two decimals; repeat.",
)
@click.option("--op", metavar="NAME", help="An operator of ONNX alone, in place of a model.")
@click.option("--shapes", metavar="AxB,BxC", help="The shapes of its inputs.")
@click.option("--dtype", default="float32", show_default=True, help="The type of its inputs.")
@click.option(
    "--accumulate", metavar="FORMAT", help="The format in which nodes compute inside, if wider."
)
@click.option("--attribute", "attributes", metavar="NAME=VALUE", multiple=True, help="Of --op.")
@click.option("--range", "range_", metavar="LO..HI", help="The range of every input of --op.")
@click.option(
    "--contract",
    default="ieee-any",
    show_default=True,
    metavar="NAME|FILE.toml|probe:RUNTIME",
    help=f"How the model runs: {', '.join(PRESETS)}, or a contract file.",
)
@click.option("--format", "fmt", metavar="NAME", help="Compute in this format, as in refine check.")
@optimising
@click.option(
    "--against",
    default="real",
    show_default=True,
    metavar="real|NAME|FILE.toml",
    help="What is compared with: the real values, or another run under this contract.",
)
@click.option(
    "--rtol",
    default="0",
    show_default=True,
    metavar="R|proved",
    help="The test's rtol; proved: the one that the relative precision of the model asks for.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE.npz",
    help="Write NAME (atol), real:NAME and bound:NAME for each output.",
)
@click.option("--json", "json_path", metavar="FILE", help="Write the answer; - for stdout.")
@click.option(
    "--budget",
    type=click.FloatRange(min=0),
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    help="How long the bounds over a whole domain are improved.",
)
@limiting
@allowing
@sizing
@finding_options
@click.option("--quiet", "-q", is_flag=True, help="Only one atol per output.")
def tolerance_command(
    *,
    model: Path | None,
    inputs: Path | None,
    ranges: tuple[str, ...],
    op: str | None,
    shapes: str | None,
    dtype: str,
    accumulate: str | None,
    attributes: tuple[str, ...],
    range_: str | None,
    contract: str,
    fmt: str | None,
    as_optimised: str | None,
    against: str,
    rtol: str,
    output: Path | None,
    json_path: str | None,
    budget: float,
    timeout: float | None,
    allowed: tuple[Path, ...],
    shape: tuple[str, ...],
    dim: tuple[str, ...],
    junit: Path | None,
    sarif: Path | None,
    quiet: bool,
) -> ExitCode:
    """The atol that accepts every execution a contract allows, proved per output element.

    A test accepts |a − b| ≤ atol + rtol·|b|. At a point (--inputs) or over a domain (--input), a
    is what the model gives, b the real value: no reference run is needed.

    \b
    refine tolerance net.onnx --inputs test.npz
    refine tolerance net.onnx --inputs test.npz --contract cuda-fp32 --rtol 1e-5 -o tol.npz
    refine tolerance net.onnx --input x=0.1..1 --rtol proved
    refine tolerance --op MatMul --shapes 4x1024,1024x64 --dtype float16 \\
      --accumulate float32 --range -1..1

    Exit code 0 if every tolerance is proved, 3 if one is infinite; then the node is named.
    """
    if (model is None) == (op is None):
        raise click.UsageError("give a MODEL, or an operator with --op")
    if op is not None and (shapes is None or (range_ is None and inputs is None)):
        raise click.UsageError("--op needs --shapes, and --range or --inputs")
    if op is None and (shapes or attributes or range_):
        raise click.UsageError("--shapes, --attribute and --range go with --op")
    if inputs is not None and (ranges or range_):
        raise click.UsageError("--inputs and a range each give a domain; keep one of them")
    require_json_place(json_path)
    require_finding_places(junit, sarif)
    if output is not None:
        require_writable(output)
    r = None if rtol == _PROVED else decimal(rtol)
    if r is not None and not 0 <= r <= 1:
        raise ModelError(f"--rtol is from 0 to 1, not {shorten(rtol)}")
    reporter = Reporter(quiet, silent=json_path == "-")
    watcher: Watcher | None = click.get_current_context().obj
    with ExitStack() as stack, reporter.progress("reading the model", hearing(quiet)) as progress:
        asked: Model = model if op is None else operator_model(op, str(shapes), dtype, attributes)
        source = stack.enter_context(opened(asked, op or "model"))
        if as_optimised is not None and isinstance(source, Path):
            source = optimised(source, as_optimised, allowed)
        place = source if isinstance(source, Path) else Path()
        arrays = {} if inputs is None else device_numbers(inputs)
        sizes = shown_by(sizes_of(shape, dim), arrays)

        def chosen(name: str) -> RuntimeContract:
            given = contract_for(name, fmt, None, place, allowed, sizes=sizes)
            return _accumulating(given, accumulate)

        runs = chosen(contract)
        beside = None
        if against != "real":
            other = chosen(against)
            read = read_as(source, other, allowed=allowed, given=arrays, sizes=sizes)
            beside = Side(read, other)
        graph = read_as(source, runs, allowed=allowed, given=arrays, sizes=sizes)
        if op is not None:
            graph = replace(graph, source=None)
        domains: list[Domain] = []
        where = f"--range {range_}" if range_ else " ".join(f"--input {text}" for text in ranges)
        if inputs is not None:
            given = given_by(arrays, graph, runs.format_of, str(inputs))
            numbers = range(len(given.points))
            domains = [given.domain(graph, k, runs.format_of) for k in numbers]
            where = given.source
        else:
            if not ranges and range_ is None and not graph.ranges:
                first = next(iter(graph.inputs), "NAME")
                raise ModelError(
                    "say the test's input with --inputs FILE.npz, or a whole domain with "
                    f"--input {first}=LO..HI"
                )
            texts = ranges if range_ is None else tuple(f"{t}={range_}" for t in graph.inputs)
            domains = [read_domain(graph, DomainOptions(inputs=texts), runs.format_of)]
        if watcher is not None:
            watcher.read()
        found = tolerances(
            graph,
            runs,
            domains,
            against=beside,
            rtol=r,
            options=Options(
                cross_check=None,
                cache=default_directory(),
                search=False,
                budget=0.0 if inputs is not None else budget,
                timeout=timeout,
            ),
            source=where,
            tell=progress.tell,
        )
    finish(watcher)
    if output is not None:
        write_whole(output, lambda file: np.savez(file, **arrays_of(found)))
    tell_json(strict_json(document_of_tolerances(found)), json_path, reporter)
    if junit is not None or sarif is not None:
        tell_findings(list(_findings(found)), junit=junit, sarif=sarif, reporter=reporter)
    if json_path != "-":
        _report(reporter, found, quiet)
    return ExitCode.VERIFIED if found.proved else ExitCode.UNKNOWN


def _accumulating(contract: RuntimeContract, name: str | None) -> RuntimeContract:
    if name is None:
        return contract
    return replace(contract, accumulation=format_of(name))


def _report(reporter: Reporter, found: Tolerances, quiet: bool) -> None:
    rtol = f", rtol={float(found.rtol):g}" if found.rtol else ""
    head = [f"{name}: atol={atol!r}{rtol}" for name, atol in found.largest.items()]
    if quiet:
        reporter.lines(head)
        return
    reporter.lines([*head, *_open(found), *_hint(found), ""])
    rows = []
    for part in found.parts[:8]:
        for a in part.allowances:
            if not a.atol.size:
                continue
            at = a.place
            real = f"{down(float(a.real.lo[at]), 6)} … {up(float(a.real.hi[at]), 6)}"
            rows.append(
                (
                    a.output,
                    str(a.atol.size),
                    f"{a.largest:.3g}",
                    a.largest.hex(),
                    str(list(at)),
                    real,
                    up(float(a.bound[at]), 4),
                )
            )
    more = len(found.parts) - 8
    beside = "the real value" if found.against is None else f"a run under {found.against.name}"
    said = f"a runs under {found.contract.name}, b is {beside}; {found.source}"
    reporter.table(said, _COLUMNS, rows, answer="")
    if more > 0:
        reporter.lines([f"and {more} points more, in --json"])
    reporter.lines(_carried(found))
    reporter.lines(["assumed:", *(f"  {a.name}: {a.text}" for a in found.assumptions)])
    reporter.lines(f"note: {note}" for note in found.notes)


def _findings(found: Tolerances) -> Iterator[Finding]:
    """One for each output: is its tolerance proved?"""
    node = found.open_node
    model = str(found.graph.source or "model")
    for name, atol in found.largest.items():
        proved = math.isfinite(atol)
        said = f"{name}: atol={atol!r}" if proved else next(_open(found), "no bound is known")
        at = None if proved or node is None else node[0].name
        outcome = Outcome.PASSED if proved else Outcome.UNDECIDED
        rule = "verified" if proved else "unknown"
        yield Finding(f"tolerance of {name}", model, outcome, rule, said, node=at)


def _open(found: Tolerances) -> Iterator[str]:
    node = found.open_node
    if node is not None and not found.proved:
        yield (
            f"no bound is known from node '{node[0].name}' ({node[0].op}) on: {node[1]}; "
            "a smaller range, or a contract that allows less, may give one"
        )


def _hint(found: Tolerances) -> Iterator[str]:
    """Where the default contract asks for far more than the model's types do."""
    graph = found.graph
    open_inside = found.contract.accumulation is None and found.contract.compute_format is None
    if in_16_bits(graph, of_16_bits=True) and open_inside:
        more = f", and refine advise {graph.source} says what the runtime here does"
        yield (
            f"sums of 16 bits are added in 16 bits under {found.contract.name}; libraries add in "
            f"float32 (--accumulate float32){more if graph.source is not None else ''}"
        )


def _carried(found: Tolerances) -> Iterator[str]:
    worst = max(found.parts, key=lambda p: 0.0 if p.worst is None else p.worst.largest)
    for n in dearest(worst.result):
        yield f"{100 * n.share:5.1f} % of the largest bound is carried by '{n.name}' ({n.op})"
    yield ""
