"""What a user writes about contract and tolerance, read into what the proof works with."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from numbers import Real
from pathlib import Path
from typing import Any

import click

from encoders.contract.contract import RuntimeContract, Subnormals
from encoders.contract.presets import PRESETS, SCATTERING
from encoders.contract.table import FORMATS
from encoders.numbers.formats import FloatFormat, small_format
from onnx_import.errors import ModelError
from refine.common.exact import decimal, shorten
from refine.common.told import told
from refine.options.contract_file import read_contract
from refine.options.settings import LEVELS
from refine.results.verdict import Tolerance

_LONGEST_EPS = 1000  # characters


def allowing(command: Callable[..., Any]) -> Callable[..., Any]:
    """The option `--allow`, of every command that reads models."""
    return click.option(
        "--allow",
        "allowed",
        type=click.Path(path_type=Path),
        multiple=True,
        metavar="PATH",
        help="A place outside a model's folder where files that it names may be read; repeat.",
    )(command)


def _positive(
    context: click.Context, parameter: click.Parameter, seconds: float | None
) -> float | None:
    if seconds is not None and not seconds > 0:
        raise click.UsageError("--timeout needs a positive number of seconds")
    return seconds


def limiting(
    command: Callable[..., Any], help: str = "Limit for everything.", default: float | None = None
) -> Callable[..., Any]:
    """The option `--timeout`, of every command that may run for long."""
    return click.option(
        "--timeout",
        type=float,
        default=default,
        callback=_positive,
        metavar="SECONDS",
        help=help,
    )(command)


def optimising(
    command: Callable[..., Any],
    help: str = "The graph that onnxruntime makes of the file (none: with the casts it needs, no "
    "more).",
) -> Callable[..., Any]:
    """The option `--as-optimised`."""
    return click.option("--as-optimised", type=click.Choice(LEVELS), help=help)(command)


def contract_of(
    name: str, fmt: str | None = None, subnormals: str | None = None
) -> RuntimeContract:
    """A preset, or the contract of a TOML file, with the user's changes.

    Raises ModelError for an unknown preset or format and for a file that holds no contract.
    """
    if name.endswith(".toml"):
        contract = read_contract(Path(name))
    elif name in PRESETS:
        contract = PRESETS[name]
    elif name in SCATTERING:
        contract = SCATTERING[name]
    else:
        raise ModelError(
            f"there is no contract '{name}'; give FILE.toml, probe:RUNTIME or a preset: "
            f"{', '.join(PRESETS)}"
        )
    return changed_contract(contract, fmt, subnormals)


def changed_contract(
    contract: RuntimeContract, fmt: str | None, subnormals: str | None
) -> RuntimeContract:
    """The contract with another format or treatment of subnormal numbers, where these are given.

    Raises ModelError for an unknown format.
    """
    if fmt is not None:
        contract = replace(contract, compute_format=format_of(fmt))
    if subnormals is not None:
        choice = Subnormals(subnormals)
        contract = replace(contract, results=choice, operands=choice)
    return contract


def format_of(text: str) -> FloatFormat:
    """A format by name, or a small one as eEpP. Raises ModelError for anything else."""
    if text in FORMATS:
        return FORMATS[text]
    match = re.fullmatch(r"e([0-9]{1,2})p([0-9]{1,2})", text)
    if match and 2 <= int(match[1]) <= 8 and 2 <= int(match[2]) <= 24:
        return small_format(int(match[1]), int(match[2]))
    raise ModelError(
        f"--format '{text}' is not known: use {', '.join(FORMATS)} or eEpP with 2 to 8 exponent "
        "bits and a precision of 2 to 24"
    )


def tolerance_of(texts: tuple[str, ...], outputs: tuple[str, ...], zero: bool = False) -> Tolerance:
    """ε as exact numbers, positive ones, or with `zero` also 0. Raises ModelError for what is no
    such decimal, or an unknown output name."""
    common: Fraction | None = None
    named: dict[str, Fraction] = {}
    for text in texts:
        name, equals, number = text.rpartition("=")
        if not equals:
            if common is not None:
                raise ModelError("--eps is given twice for all outputs")
            common = _epsilon(number, zero)
        elif name not in outputs:
            raise ModelError(
                f"--eps names the output '{name}', but the outputs are {', '.join(outputs)}"
            )
        else:
            if name in named:
                raise ModelError(f"--eps is given twice for the output {name}")
            named[name] = _epsilon(number, zero)
    missing = [t for t in outputs if texts and common is None and t not in named]
    if missing:
        raise ModelError(f"--eps gives no tolerance for the output {missing[0]}")
    return Tolerance(common, named)


def tolerance_from(eps: object, outputs: tuple[str, ...], zero: bool = False) -> Tolerance:
    """ε as a Python value: None, a `Tolerance`, a number or text, or a mapping from output names.

    A float means the decimal that it is written with: 1e-3 is 1/1000. Raises ModelError for
    anything else, and as `tolerance_of` does.
    """
    if eps is None:
        return Tolerance()
    if isinstance(eps, Tolerance):
        return eps
    if not isinstance(eps, Mapping):
        return Tolerance(_epsilon_from(eps, zero))
    for name in eps:
        if name not in outputs:
            raise ModelError(f"eps= names the output {told(name)}; there are {', '.join(outputs)}")
    missing = [t for t in outputs if t not in eps]
    if missing:
        raise ModelError(f"eps= gives no tolerance for the output {missing[0]}")
    return Tolerance(None, {name: _epsilon_from(e, zero) for name, e in eps.items()})


def _epsilon_from(eps: object, zero: bool) -> Fraction:
    if hasattr(eps, "item") and getattr(eps, "shape", None) == ():
        eps = eps.item() if eps.dtype.kind != "f" else str(eps)  # type: ignore[attr-defined]
    if isinstance(eps, bool) or not isinstance(eps, str | Real | Decimal):
        raise ModelError(f"eps= is a number or text, not {told(eps)}")
    if isinstance(eps, Fraction):
        return _allowed(eps, str(eps), zero)
    return _epsilon(str(eps), zero)


def match_of(texts: tuple[str, ...]) -> dict[str, str]:
    """Pairs of names as `NAME=NAME`. Raises ModelError for anything else, and for a name twice."""
    pairs: dict[str, str] = {}
    for text in texts:
        name, equals, other = text.partition("=")
        if not equals or not name or not other:
            raise ModelError(f"--match '{text}' is not NAME=NAME: a tensor of MODEL, one of SPEC")
        if name in pairs:
            raise ModelError(f"--match gives '{name}' twice")
        pairs[name] = other
    return pairs


def _epsilon(text: str, zero: bool) -> Fraction:
    try:
        value = decimal(text)
    except ModelError as error:
        raise ModelError(f"--eps: {error}") from None
    return _allowed(value, text.strip(), zero)


def _allowed(value: Fraction, text: str, zero: bool) -> Fraction:
    if zero and value == 0:
        return value
    if value <= 0:
        raise ModelError(f"--eps must be positive, not {shorten(text)}")
    if len(text) > _LONGEST_EPS or not 2.0**-1000 <= value <= 2.0**1000:
        raise ModelError("--eps lies outside the range of the numbers that could be told apart")
    return value
