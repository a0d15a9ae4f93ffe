"""The options that the commands `check`, `bound` and `diff` share."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click

from encoders.contract.contract import Subnormals
from encoders.contract.presets import PRESETS
from refine.cli.setup.findings import finding_options
from refine.cli.setup.presets import Budget, preset_option
from refine.domain.domain import DomainOptions
from refine.options.options import allowing, limiting, optimising
from refine.options.settings import Settings
from refine.options.sizes import sizes_of, sizing


def domain_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """How a domain is written: by a file, ranges, or a ball."""
    decorators = (
        click.option("--vnnlib", metavar="FILE", help="The input constraint of a VNN-LIB file."),
        click.option(
            "--input",
            "inputs",
            metavar="[NAME=]LO..HI",
            multiple=True,
            help="All elements of an input between two decimals; repeat for other inputs.",
        ),
        click.option("--center", metavar="FILE.npy|.npz|NUMBER", help="Centre of an L∞ ball."),
        click.option("--radius", metavar="R", help="Radius of the ball around --center."),
        click.option("--clip", metavar="LO..HI", help="Intersect the ball with this range."),
        click.option(
            "--box",
            metavar="FILE.npz",
            help="Arrays lo and hi, or NAME_lo and NAME_hi; or samples by the inputs' names, whose "
            "smallest box it is.",
        ),
    )
    for decorator in reversed(decorators):
        command = decorator(command)
    return command


def model_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """What `check`, `bound` and `diff` share."""
    decorators = (
        click.argument("model", type=click.Path(path_type=Path)),
        sizing,
        domain_options,
        click.option(
            "--round-inputs",
            is_flag=True,
            help="The domain is all reals of the box; the runtime receives them rounded.",
        ),
        click.option(
            "--strict-inputs",
            is_flag=True,
            help="Refuse bounds between which no input lies, instead of the nearest one.",
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
        partial(
            optimising,
            help="Check what onnxruntime runs after optimising so far (none: with the casts that "
            "it needs, no more); kept beside the result.",
        ),
        limiting,
        preset_option,
        click.option(
            "--budget",
            cls=Budget,
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
        click.option(
            "--cluster",
            metavar="ADDRESS",
            help="The Dask scheduler whose workers share that work in place of processes here.",
        ),
        click.option(
            "--seed",
            type=click.IntRange(min=0),
            default=0,
            show_default=True,
            metavar="N",
            help="Of everything that is drawn: inputs, directions, samples.",
        ),
        click.option(
            "--search",
            "search_seconds",
            type=click.FloatRange(min=0, min_open=True),
            metavar="SECONDS",
            help="How long to look for a counterexample, beside the budget; default: briefly.",
        ),
        click.option("--no-search", is_flag=True, help="Do not look for a counterexample."),
        click.option(
            "--z3",
            "cross_check",
            type=click.Choice(["none", "sample", "all"]),
            default="sample",
            show_default=True,
            help="Which rows of each layer Z3 checks again, beside the lemmas.",
        ),
        click.option("--no-cache", is_flag=True, help="Prove every lemma anew."),
        click.option(
            "--conform/--no-conform",
            default=True,
            envvar="REFINE_CONFORM",
            help="Whether to look if the runtime here honours the contract, on a few inputs.",
        ),
        click.option("--json", "json_path", metavar="FILE", help="Write the result; - for stdout."),
        click.option(
            "--report",
            type=click.Path(path_type=Path),
            metavar="FILE.html",
            help="Write the result as a page that a browser shows offline.",
        ),
        click.option(
            "--counterexample",
            type=click.Path(path_type=Path),
            metavar="FILE.json",
            help="Where to save a counterexample; default: MODEL-counterexample.json here.",
        ),
        finding_options,
        allowing,
        click.option(
            "--dump-smt2",
            type=click.Path(path_type=Path),
            metavar="DIR",
            help="Write every query to Z3 into this folder.",
        ),
        click.option("--quiet", "-q", is_flag=True, help="Only the verdict."),
        click.option(
            "--verbose",
            "-v",
            is_flag=True,
            help="Every layer, who proved what, and each assumption in full.",
        ),
    )
    return _decorated(command, decorators)


def _decorated(
    command: Callable[..., Any], decorators: Sequence[Callable[..., Any]]
) -> Callable[..., Any]:
    for decorate in reversed(decorators):
        command = decorate(command)
    return command


def written_domain(given: dict[str, Any]) -> DomainOptions:
    """The options of `domain_options`, and how their numbers are rounded."""
    return DomainOptions(
        given["vnnlib"],
        given["inputs"],
        center=given["center"],
        radius=given["radius"],
        clip=given["clip"],
        box=given["box"],
        round_inputs=given["round_inputs"],
        strict_inputs=given["strict_inputs"],
    )


def settings_of(given: dict[str, Any], timeout: float | None, budget: float) -> Settings:
    """These options as settings."""
    return Settings(
        contract=given["contract"],
        format=given["fmt"],
        subnormals=given["subnormals"],
        as_optimised=given["as_optimised"],
        timeout=timeout,
        budget=budget,
        workers=given["workers"],
        cluster=given["cluster"],
        seed=given["seed"],
        search=given["search_seconds"],
        no_search=given["no_search"],
        no_cache=given["no_cache"],
        conform=given["conform"],
        z3=given["cross_check"],
        allow=given["allowed"],
        sizes=sizes_of(given["shape"], given["dim"]),
    )
