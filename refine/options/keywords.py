"""The keywords of the Python functions: the command line's options, one by one."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from functools import wraps
from inspect import Parameter, signature
from threading import RLock
from types import MappingProxyType
from typing import Any, ParamSpec, TypeAlias, TypedDict, TypeVar

from encoders.contract.contract import RuntimeContract
from onnx_import.errors import ModelError
from refine.options.settings import plain_defaults

PathText: TypeAlias = str | os.PathLike[str]
P = ParamSpec("P")
R = TypeVar("R")
_ONE_AT_A_TIME = RLock()


class RunKeywords(TypedDict, total=False):
    """Those of what reads a model and bounds it."""

    contract: str | os.PathLike[str] | RuntimeContract | object
    format: str | None
    subnormals: str | None
    as_optimised: str | None
    timeout: float | None
    budget: float
    workers: int
    cluster: str | None
    seed: int
    z3: str
    no_cache: bool
    conform: bool
    json: PathText | None
    allow: PathText | Sequence[PathText]
    shapes: Mapping[str, Sequence[int]] | None
    dims: Mapping[str, int] | None


class ManyKeywords(RunKeywords, total=False):
    """Those that `stable` and `bench` share."""

    search: float | None
    no_search: bool
    counterexamples: PathText | None


class StableKeywords(ManyKeywords, total=False):
    """Those of `stable`."""

    radius: object
    clip: object
    output: str | None
    first: int | None
    spec: object


class BenchKeywords(ManyKeywords, total=False):
    """Those of `bench`."""

    resume: bool


class StrengthenKeywords(RunKeywords, total=False):
    """Those of `strengthen`."""

    round_inputs: bool
    strict_inputs: bool
    version: int | None
    dump_smt2: PathText | None


class ModelKeywords(RunKeywords, total=False):
    """Those that `bound`, `check` and `diff` share."""

    vnnlib: PathText | None
    input: str | Sequence[str] | None
    center: object
    radius: object
    clip: object
    box: PathText | None
    round_inputs: bool
    strict_inputs: bool
    search: float | None
    no_search: bool
    counterexample: PathText | None
    report: PathText | None
    dump_smt2: PathText | None


class BoundKeywords(ModelKeywords, total=False):
    """Those of `bound`."""

    margin: bool | int | str | None
    relative: bool


class CheckKeywords(ModelKeywords, total=False):
    """Those of `check`, for type checkers: `claim`, and the options of claims.

    The function itself takes whatever options the claims that it finds have.
    """

    claim: str
    batch: int
    margin_from: str | None
    of: str | None
    wrt: str | None
    loss: str | None
    rules: str | None
    certificate: PathText | None


class DiffKeywords(ModelKeywords, total=False):
    """Those of `diff`."""

    impl_as: str
    spec_as: str
    spec_contract: str | os.PathLike[str] | RuntimeContract | object
    match: Mapping[str, str] | None


_OWN: Mapping[str, object] = {
    "round_inputs": False,
    "strict_inputs": False,
    "claim": "accuracy",
    "impl_as": "runtime",
    "spec_as": "real",
}
"""Defaults beside those of the settings; of every other keyword it is None."""


def defaults(keywords: type, more: Mapping[str, object]) -> dict[str, Any]:
    """Every keyword with its default, `more` among them."""
    known = {**_OWN, **plain_defaults(), **more}
    return {name: known.get(name) for name in (*keywords.__annotations__, *more)}


def given(
    function: str,
    keywords: type,
    options: Mapping[str, object],
    more: Mapping[str, object] = MappingProxyType({}),
) -> dict[str, Any]:
    """What was given by keyword. Raises ModelError for a name that is none, with what is meant."""
    known = (*keywords.__annotations__, *(n for n in more if n not in keywords.__annotations__))
    for name in options:
        if name not in known:
            close = get_close_matches(name, known, n=1)
            meant = f"did you mean {close[0]}?" if close else f"there are {', '.join(known)}"
            raise ModelError(f"{function} has no option {name}=; {meant}")
    return dict(options)


def with_keywords(
    keywords: type, more: Mapping[str, object] = MappingProxyType({})
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Shows the keywords, and `more`, with their defaults, in a function's signature; what the
    system refuses becomes a ModelError."""

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        plain = sentences(function)
        own = [p for p in signature(function).parameters.values() if p.kind is not p.VAR_KEYWORD]
        shown = [
            Parameter(name, Parameter.KEYWORD_ONLY, default=value)
            for name, value in defaults(keywords, more).items()
        ]
        whole = signature(function).replace(parameters=[*own, *shown])
        plain.__signature__ = whole  # type: ignore[attr-defined]
        return plain

    return decorate


def sentences(function: Callable[P, R]) -> Callable[P, R]:
    """A function whose errors of the system (files that cannot be written) are ModelErrors, and
    which one thread calls at a time: Z3 keeps the terms of all threads in one place, unguarded."""

    @wraps(function)
    def called(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            with _ONE_AT_A_TIME:
                return function(*args, **kwargs)
        except OSError as error:
            what = error.filename or "a file"
            raise ModelError(f"{what}: {error.strerror or error}") from error

    return called
