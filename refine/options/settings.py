"""What a user may set of a check: one record behind the command line and the Python functions."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np

from encoders.contract.contract import RuntimeContract, Subnormals
from onnx_import.errors import ModelError
from onnx_import.graph import Sizes
from refine.common.told import told

BUDGET = 10.0  # seconds
SUBNORMALS = tuple(s.value for s in Subnormals)
LEVELS = ("none", "basic", "extended", "all")
CROSS_CHECKS = ("none", "sample", "all")
READINGS = ("real", "runtime")
_MOST_WORKERS = 8
_PLAIN = "default"  # of a field, where the environment says nothing


def processors() -> int:
    """Workers that this machine has room for."""
    return min(os.cpu_count() or 1, _MOST_WORKERS)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a claim is checked. Each default is the command line's, the environment's word
    (REFINE_BUDGET, REFINE_WORKERS, REFINE_CONFORM) included.

    `contract` says which executions are allowed: a preset, a file or a probed runtime by name, or a
    contract. `format` and `subnormals` change it. `as_optimised` has the model optimised by
    onnxruntime first. `timeout` limits everything, `budget` how long a bound is improved, `search`
    how long errors are searched for (all in seconds). `workers` processes share the work, or those
    of the Dask scheduler at `cluster`. `z3` says which rows Z3 checks again. `allow` are places
    outside the model's folder where files that it names may lie, `sizes` is what is said of the
    dimensions that the file leaves open.

    Raises ModelError, naming the setting, for a value without a meaning.
    """

    contract: str | RuntimeContract = "ieee-any"
    format: str | None = None
    subnormals: str | None = None
    as_optimised: str | None = None
    timeout: float | None = None
    budget: float = field(
        default_factory=lambda: _number_of("REFINE_BUDGET", BUDGET), metadata={_PLAIN: BUDGET}
    )
    workers: int = field(
        default_factory=lambda: int(_number_of("REFINE_WORKERS", processors())),
        metadata={_PLAIN: processors()},
    )
    cluster: str | None = None
    seed: int = 0
    search: float | None = None
    no_search: bool = False
    no_cache: bool = False
    conform: bool = field(
        default_factory=lambda: bool(_number_of("REFINE_CONFORM", 1)), metadata={_PLAIN: True}
    )
    z3: str = "sample"
    allow: tuple[Path, ...] = ()
    sizes: Sizes = field(default_factory=Sizes, metadata={_PLAIN: Sizes()})

    def __post_init__(self) -> None:
        for name in ("timeout", "search"):
            if getattr(self, name) is not None:
                require_seconds(name, getattr(self, name))
        require_seconds("budget", self.budget, zero=True)
        require_count("workers", self.workers, least=1)
        if self.cluster is not None and not isinstance(self.cluster, str):
            raise ModelError(f"cluster= is the address of a scheduler, not {told(self.cluster)}")
        require_count("seed", self.seed, least=0)
        for name in ("no_search", "no_cache", "conform"):
            if not isinstance(getattr(self, name), bool):
                raise ModelError(f"{name}= is True or False, not {told(getattr(self, name))}")
        require_choice("z3", self.z3, CROSS_CHECKS)
        if self.subnormals is not None:
            require_choice("subnormals", self.subnormals, SUBNORMALS)
        if self.as_optimised is not None:
            require_choice("as_optimised", self.as_optimised, LEVELS)
        if self.format is not None and not isinstance(self.format, str):
            raise ModelError(f"format= is a format by name, not {told(self.format)}")
        if self.search is not None and self.no_search:
            raise ModelError("search= does not go with no_search=True")


def plain_defaults() -> dict[str, Any]:
    """The default of every setting, where the environment says nothing."""
    return {f.name: f.metadata.get(_PLAIN, f.default) for f in fields(Settings)}


def require_seconds(name: str, value: Any, *, zero: bool = False) -> None:
    """Raises ModelError for what is no positive number (or 0, where `zero`) of seconds."""
    number = isinstance(value, Real) and not isinstance(value, bool | np.bool_)
    held = number and (value <= sys.float_info.max or value == math.inf)  # no integer beyond
    if not held or not (value >= 0 if zero else value > 0):
        positive = "a number of seconds from 0" if zero else "a positive number of seconds"
        raise ModelError(f"{name}= is {positive}, not {told(value)}")


def require_count(name: str, value: Any, *, least: int) -> None:
    """Raises ModelError for what is no integer, or a smaller one."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
        raise ModelError(f"{name}= is an integer from {least}, not {told(value)}")


def require_choice(name: str, value: Any, choices: Sequence[str]) -> None:
    """Raises ModelError for what is none of the choices."""
    if not isinstance(value, str) or value not in choices:
        raise ModelError(f"{name}= is one of {', '.join(choices)}, not {told(value)}")


def _number_of(variable: str, otherwise: float) -> float:
    """A number in the environment. Raises ModelError, naming the variable, for what is none."""
    text = os.environ.get(variable, "")
    if not text:
        return otherwise
    try:
        return float(text)
    except ValueError:
        words = {"true": 1.0, "yes": 1.0, "on": 1.0, "false": 0.0, "no": 0.0, "off": 0.0}
        if text.lower() in words:
            return words[text.lower()]
        raise ModelError(f"the environment variable {variable} holds '{text}', no number") from None
