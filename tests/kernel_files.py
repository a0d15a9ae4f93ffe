"""FPCore kernels for tests: the benchmark's files, and an interpreter that is not ours."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from encoders.arithmetic.exact_fields import Balls, enclosure
from encoders.contract.contract import RuntimeContract
from encoders.contract.presets import SEQUENTIAL
from encoders.numbers.formats import FloatFormat
from gpu_check.emulator.emulator import emulate
from gpu_check.emulator.exact import evaluate_exact
from onnx_import import load
from onnx_import.fpcore.text import Expression, expressions, number
from onnx_import.graph import Graph
from refine.domain.domain import Domain, DomainOptions, read_domain

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks" / "kernels"
FILES = sorted(FOLDER.glob("*.fpcore"))

_BINARY: Mapping[str, Callable[[Any, Any], Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "fmin": min,
    "fmax": max,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def kernel(folder: Path, body: str, pre: str = "TRUE", args: str = "x y", more: str = "") -> Path:
    """A file with one kernel."""
    path = folder / "kernel.fpcore"
    path.write_text(f"(FPCore ({args}) {more} :pre {pre} {body})")
    return path


def body_of(path: Path) -> Expression:
    (core,) = expressions(path.read_text(), path)
    return core[-1]


def interpreted(
    e: Expression,
    values: Mapping[str, Any],
    constant: Callable[[Fraction], Any],
    root: Callable[[Any], Any] = math.sqrt,
) -> Any:
    """An FPCore expression in whatever numbers are given, written without our reader's graph."""
    if isinstance(e, str):
        n = number(e)
        return values[e] if n is None else constant(n)
    head, *rest = e
    if head in ("let", "let*"):
        inner = dict(values)
        for binding in rest[0]:
            name, value = binding[0], binding[1]
            assert isinstance(name, str)
            inner[name] = interpreted(value, inner if head == "let*" else values, constant, root)
        return interpreted(rest[1], inner, constant, root)
    given = [interpreted(r, values, constant, root) for r in rest]
    if head == "if":
        return given[1] if given[0] else given[2]
    if head == "-" and len(given) == 1:
        return -given[0]
    if head in ("fabs", "sqrt"):
        return abs(given[0]) if head == "fabs" else root(given[0])
    return _BINARY[str(head)](*given)


def has_functions(path: Path) -> bool:
    return any(f"({name} " in path.read_text() for name in ("exp", "log", "sin", "cos"))


def read(
    path: Path, round_inputs: bool = False, contract: RuntimeContract = SEQUENTIAL
) -> tuple[Graph, Domain]:
    graph = load(path)
    options = DomainOptions(round_inputs=round_inputs)
    return graph, read_domain(graph, options, contract.format_of)


def toy(fmt: FloatFormat) -> RuntimeContract:
    return replace(SEQUENTIAL, compute_format=fmt)


def exact_error(
    graph: Graph,
    contract: RuntimeContract,
    point: Mapping[str, float],
    real: Mapping[str, float] | None = None,
) -> Fraction | None:
    """A lower bound on |f_rt − f_R| at one point; None where either is not finite."""
    wide = {name: np.asarray(v, np.float64) for name, v in point.items()}
    typed = {
        name: (v if contract.compute_format else v.astype(graph.types[name].dtype.numpy))[None]
        for name, v in wide.items()
    }
    with np.errstate(all="ignore"):
        value = float(emulate(graph, typed, contract)[graph.outputs[0]][0])
    exact_at = wide if real is None else {n: np.asarray(v, np.float64) for n, v in real.items()}
    ball = evaluate_exact(graph, exact_at, Balls(300))[graph.outputs[0]].item()
    if not math.isfinite(value) or not ball.is_finite():
        return None
    lo, hi = enclosure(ball)
    return max(lo - Fraction(value), Fraction(value) - hi, Fraction(0))
