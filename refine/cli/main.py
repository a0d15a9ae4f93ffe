"""The command line: options in, one exit code out, and never a traceback for bad input."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import click

from encoders.contract.contract import EXACT, PRESETS, Subnormals
from encoders.registry import operators
from gpu_check.common.writing import NoPlainFile, require_writable, write_whole
from gpu_check.runtimes.isolated import server_for
from onnx_import import load
from onnx_import.errors import ModelError
from onnx_import.onnx.reader import MADE, WRITTEN_OUT
from onnx_import.passes.fold import ALONE
from refine.claims.accuracy import Options, check
from refine.claims.batch_invariance import batch_invariance, run_batch_again
from refine.claims.difference import diff
from refine.claims.pair_hunting import run_pair_again
from refine.cli import entry
from refine.cli.answering import Telling
from refine.cli.conform import conform_command
from refine.cli.probe import contract_for, probe_command
from refine.cli.zoo import zoo_command
from refine.domain.domain import DomainOptions, read_domain
from refine.lemmas.cache import default_directory
from refine.lemmas.library import dump_smt2, library, prove_library
from refine.options.optimised import as_optimised
from refine.options.options import allowing, match_of, tolerance_of
from refine.process.interruption import Interruption
from refine.process.supervision import Watcher
from refine.proof.cross_check import EVERYTHING, SAMPLE
from refine.report.console import Reporter
from refine.report.document import contradiction_text, json_text, versions
from refine.results.obligation import Kind
from refine.results.verdict import ExitCode, Result, Side, Verdict
from refine.witness.file import Trusted, load_witness, save_witness
from refine.witness.replay import divergence, every_output, run_again
from refine.witness.script import script_of

_SHORTEST = 1e-3  # seconds, where the limit has passed before the work began


def _model_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """What `check`, `bound` and `diff` share."""
    decorators = (
        click.argument("model", type=click.Path(path_type=Path)),
        click.option("--vnnlib", metavar="FILE", help="The input constraint of a VNN-LIB file."),
        click.option(
            "--input",
            "inputs",
            metavar="[NAME=]LO..HI",
            multiple=True,
            help="All elements of an input between two decimals; repeat for other inputs.",
        ),
        click.option("--center", metavar="FILE.npy|NUMBER", help="Centre of an L∞ ball."),
        click.option("--radius", metavar="R", help="Radius of the ball around --center."),
        click.option("--clip", metavar="LO..HI", help="Intersect the ball with this range."),
        click.option("--box", metavar="FILE.npz", help="Arrays lo and hi, or NAME_lo and NAME_hi."),
        click.option(
            "--round-inputs",
            is_flag=True,
            help="The domain is all reals of the box; the runtime receives them rounded.",
        ),
        click.option(
            "--contract",
            metavar="NAME|FILE.toml|probe:RUNTIME",
            default="ieee-any",
            show_default=True,
            help=f"Which executions are allowed: {', '.join(PRESETS)}, or a contract file.",
        ),
        click.option(
            "--format",
            "fmt",
            metavar="NAME",
            help="Compute in float16, bfloat16, float32, float64 or a small format eEpP "
            "(E exponent bits, precision P); default: each tensor's own type.",
        ),
        click.option(
            "--subnormals",
            type=click.Choice([s.value for s in Subnormals]),
            help="Treatment of subnormal results and operands; default: the contract's.",
        ),
        click.option(
            "--as-optimised",
            type=click.Choice(["none", "basic", "extended", "all"]),
            help="Check what onnxruntime runs after optimising so far (none: with the casts that "
            "it needs, no more); kept beside the result.",
        ),
        click.option("--timeout", type=float, metavar="SECONDS", help="Limit for everything."),
        click.option(
            "--budget",
            type=click.FloatRange(min=0),
            default=10.0,
            show_default=True,
            envvar="REFINE_BUDGET",
            metavar="SECONDS",
            help="How long to improve a bound that does not settle the claim at once.",
        ),
        click.option(
            "--workers",
            type=click.IntRange(min=1),
            default=min(os.cpu_count() or 1, 8),
            show_default="processors",
            envvar="REFINE_WORKERS",
            metavar="N",
            help="Processes that share the work on parts of the domain.",
        ),
        click.option("--seed", type=int, default=0, show_default=True),
        click.option(
            "--search",
            "search_seconds",
            type=click.FloatRange(min=0, min_open=True),
            metavar="SECONDS",
            help="How long to look for a counterexample, beside the budget; default: briefly.",
        ),
        click.option("--no-search", is_flag=True, help="Do not look for a counterexample."),
        click.option("--no-cache", is_flag=True, help="Prove every lemma anew."),
        click.option(
            "--conform/--no-conform",
            default=True,
            envvar="REFINE_CONFORM",
            help="Whether to look if the runtime here honours the contract, on a few inputs.",
        ),
        click.option("--json", "json_path", metavar="FILE", help="Write the result; - for stdout."),
        click.option(
            "--counterexample",
            type=click.Path(path_type=Path),
            metavar="FILE.json",
            help="Where to save a counterexample; default: MODEL-counterexample.json here.",
        ),
        allowing,
        click.option("--dump-smt2", type=click.Path(path_type=Path), metavar="DIR"),
        click.option("--quiet", "-q", is_flag=True, help="Only the verdict."),
    )
    return _decorated(command, decorators)


def _alone_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """What `check` and `bound`, which speak of one network, share besides."""
    decorators = (
        click.option(
            "--z3",
            "cross_check",
            type=click.Choice(["none", "sample", "all"]),
            default="sample",
            show_default=True,
            help="Which rows of each layer Z3 checks again, beside the lemmas.",
        ),
    )
    return _decorated(command, decorators)


def _decorated(
    command: Callable[..., Any], decorators: Sequence[Callable[..., Any]]
) -> Callable[..., Any]:
    for decorate in reversed(decorators):
        command = decorate(command)
    return command


def _show_version(context: click.Context, parameter: click.Parameter, asked: bool) -> None:
    if asked:
        Reporter().text(f"refine {versions()['refine']}\n")
        context.exit()


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_show_version)
def cli() -> None:
    """How far can the network that runs be from the network that was proved?

    Exit codes: 0 verified, 1 violated, 2 bad input, 3 unknown, 4 time-out, 5 the runtime here
    was seen to leave the contract, 70 internal error or contradiction, 130 interrupted.
    """


@cli.command("check")
@_model_options
@_alone_options
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
    return _run(model, eps, given, batch=batch if claim == "batch-invariant" else None)


@cli.command("bound")
@_model_options
@_alone_options
def bound_command(model: Path, **given: Any) -> ExitCode:
    """The best bound on |f_rt(x) − f_R(x)| that can be proved."""
    return _run(model, (), given)


@cli.command("diff")
@click.argument("spec", type=click.Path(path_type=Path))
@_model_options
@click.option("--eps", "eps", multiple=True, metavar="[OUTPUT=]E", help="Largest difference.")
@click.option(
    "--impl-as",
    type=click.Choice(["real", "runtime"]),
    default="runtime",
    show_default=True,
    help="How the implementation is read.",
)
@click.option(
    "--spec-as",
    type=click.Choice(["real", "runtime"]),
    default="real",
    show_default=True,
    help="How the specification is read.",
)
@click.option(
    "--spec-contract",
    metavar="NAME|FILE.toml|probe:RUNTIME",
    help="Which executions of the specification are allowed, if it runs; default: --contract.",
)
@click.option(
    "--match",
    "matches",
    multiple=True,
    metavar="NAME=NAME",
    help="This input or output of MODEL is that one of SPEC; default: by name if all names agree, "
    "by order if none does.",
)
def diff_command(
    spec: Path,
    model: Path,
    eps: tuple[str, ...],
    impl_as: str,
    spec_as: str,
    spec_contract: str | None,
    matches: tuple[str, ...],
    **given: Any,
) -> ExitCode:
    """Is |MODEL(x) − SPEC(x)| ≤ E for every x of the domain? Without --eps, the best bound."""
    theirs = spec_contract or given["contract"]
    if spec_as == "real":
        if spec_contract is not None:
            raise click.UsageError("--spec-contract needs --spec-as runtime")
        theirs = EXACT.name
    if impl_as == "real":
        given = {**given, "contract": EXACT.name}
    given |= {"cross_check": "none"}
    return _run(model, eps, given, (spec, theirs), match=match_of(matches))


@cli.command("lemmas")
@click.option("--dump-smt2", type=click.Path(path_type=Path), metavar="DIR")
@click.option("--no-cache", is_flag=True, help="Prove every lemma anew.")
@click.option(
    "--timeout",
    type=float,
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="For each question to Z3.",
)
@click.option(
    "--kind", type=click.Choice(["schema", "format", "all"]), default="all", show_default=True
)
def lemmas_command(dump_smt2: Path | None, no_cache: bool, timeout: float, kind: str) -> ExitCode:
    """Prove the lemma library and print it."""
    return _lemmas(dump_smt2, no_cache, timeout, kind)


@cli.command("replay")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--script",
    type=click.Path(path_type=Path),
    metavar="FILE.py",
    help="Write a script that shows the violation with numpy and onnxruntime alone.",
)
@click.option(
    "--model", type=click.Path(path_type=Path), metavar="FILE", help="The model that it is of."
)
@click.option(
    "--spec", type=click.Path(path_type=Path), metavar="FILE", help="The specification, of a diff."
)
@allowing
def replay_command(
    file: Path,
    script: Path | None,
    model: Path | None,
    spec: Path | None,
    allowed: tuple[Path, ...],
) -> ExitCode:
    """Run a saved counterexample again, on the emulator and on real runtimes.

    A model outside the counterexample's folder is opened only if --model, --spec or --allow says
    so.

    Exit code 1 if the violation is confirmed, 3 if it is not.
    """
    trusted = Trusted(model, spec, allowed)
    saved = load_witness(file, partial(load, allowed=allowed), trusted)
    graph, epsilon = saved.graph, saved.epsilon
    alone = saved.spec is None
    if saved.batch is not None:
        witness = run_batch_again(saved)
    else:
        witness = run_again(graph, saved.candidate) if alone else run_pair_again(saved)
    if script is not None:
        text = script_of(witness, graph, epsilon, saved.spec)
        write_whole(script, lambda out: out.write(text.encode()))
    reporter = Reporter()
    if alone:
        reporter.divergence(divergence(witness, graph))
        if len(graph.outputs) > 1 or graph.types[witness.output].size > 1:
            reporter.every_output(every_output(witness, graph), graph)
    reporter.replay(witness, epsilon)
    limit = epsilon if epsilon is not None else Fraction(0)
    violated = not witness.error.finite or witness.error.lo > limit
    return ExitCode.VIOLATED if violated else ExitCode.UNKNOWN


cli.add_command(probe_command)
cli.add_command(conform_command)
cli.add_command(zoo_command)


@cli.command("ops")
def ops_command() -> ExitCode:
    """List the operators that have a meaning here."""
    Reporter().operators(operators().values(), WRITTEN_OUT, MADE, ALONE)
    return ExitCode.VERIFIED


def _run(
    model: Path,
    eps: tuple[str, ...],
    given: dict[str, Any],
    spec: tuple[Path, str] | None = None,
    batch: int | None = None,
    match: Mapping[str, str] | None = None,
) -> ExitCode:
    """`spec` is another model to compare with, and the name of its contract; `batch` rows are
    those of a claim of batch invariance."""
    json_path: str | None = given["json_path"]
    reporter = Reporter(given["quiet"], silent=json_path == "-")
    timeout = given["timeout"]
    if timeout is not None and not timeout > 0:
        raise click.UsageError("--timeout needs a positive number of seconds")
    if given["search_seconds"] is not None and given["no_search"]:
        raise click.UsageError("--search does not go with --no-search")
    _require_places(json_path, given["counterexample"], given["dump_smt2"])
    allowed: tuple[Path, ...] = given["allowed"]
    changes = given["fmt"], given["subnormals"]
    written = DomainOptions(
        given["vnnlib"],
        given["inputs"],
        given["center"],
        given["radius"],
        given["clip"],
        given["box"],
        given["round_inputs"],
    )
    every = given["cross_check"] == "all"
    options = Options(
        None if given["cross_check"] == "none" else EVERYTHING if every else SAMPLE,
        None if given["no_cache"] else default_directory(),
        given["seed"],
        timeout,
        not given["no_search"],
        budget=given["budget"],
        workers=given["workers"],
        search_seconds=given["search_seconds"],
        conform=given["conform"],
    )
    if options.conform:
        server_for().start()
    watcher = click.get_current_context().obj
    telling = Telling(watcher, given["quiet"], json_path is not None)
    with reporter.progress("reading the model") as progress:
        alone = spec is None and batch is None
        read = as_optimised(model, given["as_optimised"], allowed)
        contract = contract_for(given["contract"], *changes, read, allowed, batch)
        graph = load(read, random=alone, allowed=allowed)
        domain = read_domain(graph, written, contract.format_of)
        tolerance = tolerance_of(eps, graph.outputs, zero=spec is not None or batch is not None)
        if watcher is not None:
            watcher.read()
        if watcher is not None and watcher.limit is not None:
            left = max(watcher.limit - time.monotonic(), _SHORTEST)
            options = replace(options, timeout=left, so_far=telling.so_far)
        if batch is not None:
            result = batch_invariance(
                graph, batch, domain, contract, tolerance, options, progress.tell
            )
        elif spec is None:
            result = check(graph, domain, contract, tolerance, options, progress.tell)
        else:
            path, name = spec
            exact = name == EXACT.name
            theirs = EXACT if exact else contract_for(name, *changes, path, allowed)
            sides = Side(load(path, allowed=allowed), theirs), Side(graph, contract)
            result = diff(*sides, domain, tolerance, options, progress.tell, match)
    telling.so_far(result)
    place = _witness_place(result, given["counterexample"])
    result = replace(result, witness_file=place)
    document = None if json_path is None else json_text(result)
    telling.finish()
    if place is not None and not _saved(result, place, reporter):
        result = replace(result, witness_file=None)
        document = None if json_path is None else json_text(result)
    if result.verdict is Verdict.CONTRADICTION:
        _tell_contradiction(result, reporter)
    if given["dump_smt2"] is not None:
        every_obligation = (*result.obligations, *(o for n in result.nodes for o in n.obligations))
        dump_smt2(every_obligation, given["dump_smt2"])
    if document is not None and json_path not in (None, "-"):
        _written(Path(json_path), document, reporter)
    reporter.result(result, document if json_path == "-" else None)
    return result.exit_code


def _written(path: Path, document: str, reporter: Reporter) -> None:
    """Write a finished result, which stands with or without the file."""
    try:
        write_whole(path, lambda file: file.write(document.encode()))
    except OSError as error:
        reporter.error(f"--json is not written: {path}: {error.strerror or error}")


def _require_places(json_path: str | None, counterexample: Path | None, smt2: Path | None) -> None:
    """Raises OSError before any work is done if a result could not be written where asked.

    A link or a device there is said only beside the answer, which comes out all the same.
    """
    with suppress(NoPlainFile):
        if json_path is not None and json_path != "-":
            require_writable(Path(json_path))
    with suppress(NoPlainFile):
        if counterexample is not None:
            require_writable(_as_json(counterexample))
    if smt2 is not None and smt2.exists() and not smt2.is_dir():
        raise ModelError(f"--dump-smt2 needs a folder, and {smt2} is a file")


def _witness_place(result: Result, chosen: Path | None) -> Path | None:
    """Where a counterexample will be saved; None where there is none."""
    if result.witness is None:
        return None
    source = result.graph.source
    stem = "model" if source is None else source.stem
    return _as_json(chosen or Path(f"{stem}-counterexample.json"))


def _saved(result: Result, path: Path, reporter: Reporter) -> bool:
    """Save the counterexample; the verdict stands, with or without the file."""
    try:
        save_witness(result, path)
    except OSError as error:
        reporter.error(f"the counterexample is not saved: {path}: {error.strerror or error}")
        return False
    return True


def _tell_contradiction(result: Result, reporter: Reporter) -> None:
    """Say it on standard error, whatever else is printed, and keep what a report of it needs."""
    source = result.graph.source
    path = Path(f"{'model' if source is None else source.stem}-contradiction.json")
    text = contradiction_text(result, sys.argv)
    kept = f"and {path}, which holds the domain, the contract, every bound and the versions"
    try:
        write_whole(path, lambda file: file.write(text.encode()))
    except OSError as error:
        kept = f"and what --json writes ({path}: {error.strerror or error})"
    reporter.error(
        f"{result.reason}; please report it, with the model, {source or 'unnamed'}, {kept}"
    )


def _as_json(path: Path) -> Path:
    if path.name in ("", ".."):
        raise ModelError(f"--counterexample needs a file, and {path} is a folder")
    return path if path.suffix == ".json" else path.with_name(path.name + ".json")


def _lemmas(directory: Path | None, no_cache: bool, timeout: float, kind: str) -> ExitCode:
    kinds = {"schema": (Kind.SCHEMA,), "format": (Kind.FORMAT,)}.get(
        kind, (Kind.SCHEMA, Kind.FORMAT)
    )
    reporter = Reporter()
    with reporter.progress("proving the lemma library"):
        cache = None if no_cache else default_directory()
        obligations = prove_library(kinds, timeout, cache, processes=2)
    reporter.lemmas(obligations, (m.statement for m in library(kinds)))
    if directory is not None:
        dump_smt2(obligations, directory)
    proved = all(o.discharged for o in obligations)
    return ExitCode.VERIFIED if proved else ExitCode.UNKNOWN


def main() -> None:
    """What installations made before `refine.cli.entry` call."""
    entry.main()


def guarded(watcher: Watcher | None) -> ExitCode:
    """The command line of this process. A bug is reported, and never looks like a verdict."""
    with Interruption() as interruption:
        try:
            return run(sys.argv[1:], watcher)
        except (Exception, KeyboardInterrupt) as error:
            if interruption.pressed:
                Reporter().error("interrupted")
                return ExitCode.INTERRUPTED
            Reporter().bug(error)
            return ExitCode.INTERNAL_ERROR


def run(arguments: list[str], watcher: Watcher | None = None) -> ExitCode:
    """One command line to one exit code; every expected failure becomes one sentence."""
    try:
        with cli.make_context("refine", list(arguments), obj=watcher) as context:
            code = cli.invoke(context)
    except click.exceptions.Exit as stop:
        return ExitCode.VERIFIED if stop.exit_code == 0 else ExitCode.INPUT_ERROR
    except (KeyboardInterrupt, click.Abort):
        Reporter().error("interrupted")
        return ExitCode.INTERRUPTED
    except click.ClickException as error:
        Reporter().error(error.format_message())
        return ExitCode.INPUT_ERROR
    except ModelError as error:
        Reporter().error(str(error))
        return ExitCode.INPUT_ERROR
    except OSError as error:
        Reporter().error(f"{error.filename or 'a file'}: {error.strerror or error}")
        return ExitCode.INPUT_ERROR
    except MemoryError:
        Reporter().error("the model needs more memory than this machine gives")
        return ExitCode.UNKNOWN
    return code if isinstance(code, ExitCode) else ExitCode.VERIFIED
