"""One random graph under one random contract, judged against executions found independently."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flint
import numpy as np
import onnx
from graphs import random_contract, random_graph
from interpreter import interpret
from machine import Machine, habits, nearest, ulp
from reading import Unread
from reals import BITS, Open, Reals

from encoders.arithmetic.exact_fields import Balls
from encoders.arithmetic.handling import handling_of
from encoders.contract.contract import RuntimeContract
from encoders.numbers.formats import FloatFormat
from gpu_check.emulator.exact import evaluate_real
from onnx_import import load
from onnx_import.errors import ModelError
from onnx_import.graph import Graph
from refine.claims.kinds.accuracy import check
from refine.claims.options import Options
from refine.domain.box import Box
from refine.domain.domain import Domain
from refine.lemmas.cache import default_directory
from refine.results.verdict import Result, Tolerance

Array = Any
SAMPLES = 4
EXECUTIONS = 3


@dataclass(frozen=True)
class Trial:
    """A model, a contract and a box of inputs, all that a finding needs to be found again."""

    model: onnx.ModelProto
    contract: RuntimeContract
    lo: Mapping[str, Array]
    hi: Mapping[str, Array]
    seed: int
    rounded: bool = False

    def real_ends(self, name: str) -> tuple[Array, Array]:
        """Real inputs that are rounded to the box: as far beyond it as a third of an ulp."""
        lo, hi = self.lo[name], self.hi[name]
        if not self.rounded:
            return lo, hi
        fmt = next(format_of(self.contract, v) for v in self.model.graph.input if v.name == name)
        return (lo - ulp(lo, fmt) * 0.25 * (lo != hi), hi + ulp(hi, fmt) * 0.375)


@dataclass(frozen=True)
class Finding:
    kind: str
    text: str


def trial_of(seed: int, first: str | None = None) -> Trial:
    rng = np.random.default_rng(seed)
    model = random_graph(rng, first)
    return sampled(model, random_contract(rng), rng, seed)


def sampled(
    model: onnx.ModelProto, contract: RuntimeContract, rng: np.random.Generator, seed: int
) -> Trial:
    """With ranges of numbers that the contract's inputs can be."""
    lo, hi = {}, {}
    for value in model.graph.input:
        shape = tuple(d.dim_value for d in value.type.tensor_type.shape.dim)
        fmt = format_of(contract, value)
        lo[value.name], hi[value.name] = range_of(rng, shape, fmt)
    return Trial(model, contract, lo, hi, seed)


STEPPING = (
    "Floor", "Ceil", "Round", "Sign", "ArgMax", "ArgMin", "Less", "GreaterOrEqual", "Equal", "Not",
    "Where", "Cast", "Truncate", "QuantizeLinear", "ThresholdedRelu", "PRelu", "Div", "Mul", "Add",
    "Sub", "Neg", "Abs", "Relu", "Max", "Min", "Reciprocal", "Clip", "Exp", "Sqrt", "MatMul",
    "ReduceSum", "ReduceMax", "Identity", "DynamicQuantizeMatMul", "Resize", "MaxPool", "Hardmax",
    "Shrink",
)  # fmt: skip


def stepping_trial(seed: int) -> Trial:
    """Mostly step functions, on boxes of a few numbers around ties, zeros of both signs and the
    smallest numbers."""
    rng = np.random.default_rng(seed)
    model = random_graph(rng, None, STEPPING)
    contract = random_contract(rng)
    plain = sampled(model, contract, rng, seed)
    lo, hi = {}, {}
    for value in model.graph.input:
        fmt, shape = format_of(contract, value), plain.lo[value.name].shape
        unit = float(rng.choice([0.5, 1.0, 0.1, 0.05, 0.25, 0.125, 1 / 3]))
        x = nearest(np.rint(rng.standard_normal(shape) * 4) * unit, fmt)
        match int(rng.integers(6)):
            case 0:
                x = np.where(rng.random(shape) < 0.5, -0.0, 0.0)
            case 1:
                x = x * 2.0 ** (fmt.emin - 1)
            case 2:
                x = np.full(shape, x.flat[0]) if x.size else x
            case _:
                pass
        x = nearest(x, fmt)
        steps = int(rng.integers(0, 3))
        few = steps * ulp(x, fmt) * (rng.random(shape) < 0.7)
        largest = (2.0 - 2.0 ** (1 - fmt.precision)) * 2.0**fmt.emax
        lo[value.name] = np.clip(nearest(x - few, fmt), -largest, largest)
        hi[value.name] = np.clip(nearest(x + few, fmt), -largest, largest)
    return Trial(model, contract, lo, hi, seed)


def format_of(contract: RuntimeContract, value: onnx.ValueInfoProto) -> FloatFormat:
    from encoders.numbers.formats import BFLOAT16, BINARY16, BINARY32, BINARY64

    own = {1: BINARY32, 10: BINARY16, 11: BINARY64, 16: BFLOAT16}
    return contract.compute_format or own[value.type.tensor_type.elem_type]


def range_of(rng: np.random.Generator, shape: Any, fmt: FloatFormat) -> tuple[Array, Array]:
    """Usual, point-like, tiny, subnormal and large ranges, of numbers of the format."""
    kind = int(rng.integers(12))
    centre, width = rng.standard_normal(shape), rng.random()
    if kind < 5:
        lo, hi = centre - width, centre + width
    elif kind == 5:
        lo, hi = np.zeros(shape), np.ones(shape)
    elif kind == 6:
        lo, hi = np.ones(shape), np.ones(shape)
    elif kind == 7:
        lo, hi = centre, centre
    elif kind == 8:
        tiny = 2.0 ** (fmt.emin + int(rng.integers(-2, 3)))
        lo, hi = np.full(shape, -tiny), np.full(shape, tiny)
    elif kind == 9:
        size = 2.0 ** min(fmt.emax - int(rng.integers(1, 4)), 20)
        lo, hi = -size * np.abs(centre), size * np.abs(centre)
    elif kind == 10:
        lo, hi = np.zeros(shape), np.abs(centre)
    else:
        lo = np.abs(centre) + 0.1
        hi = lo * (1 + 2.0 ** -int(rng.integers(2, 9)))
    largest = (2.0 - 2.0 ** (1 - fmt.precision)) * 2.0**fmt.emax
    lo, hi = (np.clip(nearest(v, fmt), -largest, largest) for v in (lo, hi))
    return np.minimum(lo, hi), np.maximum(lo, hi)


def judge(trial: Trial) -> tuple[str, list[Finding]]:
    """What became of it, in a word, and everything that is wrong."""
    try:
        result = bounded(trial)
    except ModelError as error:
        return ("refused: " + str(error))[:200], []
    except Exception as error:  # whatever escapes is a finding
        return "crashed", [Finding("crash", f"{type(error).__name__}: {error}")]
    findings = list(odd(result))
    try:
        findings += compared(trial, result)
    except Unread as error:
        return f"unread: {error}", findings
    except Open:
        return "open", findings
    return result.verdict.value, findings


def graph_of(model: onnx.ModelProto, contract: RuntimeContract | None = None) -> Graph:
    """The model as the command line reads it, under the contract where one is given."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        onnx.save(model, path)
        return load(path, handling=None if contract is None else handling_of(contract))


def box_of(trial: Trial, graph: Graph) -> Box:
    formats = {n: trial.contract.format_of(graph.types[n].dtype) for n in graph.inputs}
    lo, hi = ({n: v[n] for n in graph.inputs} for v in (trial.lo, trial.hi))
    ends = {n: trial.real_ends(n) for n in graph.inputs}
    real_lo, real_hi = ({n: e[i] for n, e in ends.items()} for i in (0, 1))
    return Box(lo, hi, real_lo, real_hi, formats)


def bounded(trial: Trial) -> Result:
    graph = graph_of(trial.model, trial.contract)
    domain = Domain((box_of(trial, graph),), "random", round_inputs=trial.rounded)
    options = Options(None, default_directory(), search=False)
    return check(graph, domain, trial.contract, Tolerance(), options)


def odd(result: Result) -> list[Finding]:
    found = []
    for name, bound in result.bounds.items():
        if np.any(np.isnan(bound)) or np.any(np.asarray(bound) < 0):
            found.append(Finding("no bound", f"{name}: {np.ravel(bound)[:4]}"))
    for node in result.nodes:
        if math.isnan(node.low) or math.isnan(node.high):
            found.append(Finding("no range", node.name))
    return found


def points_of(trial: Trial) -> tuple[dict[str, Array], dict[str, Array]]:
    """What the runtime and what the real network receives, with a sample axis."""
    rng = np.random.default_rng(trial.seed + 1)
    points: dict[str, Array] = {}
    real: dict[str, Array] = {}
    for value in trial.model.graph.input:
        n = value.name
        lo, hi = trial.lo[n], trial.hi[n]
        fmt = format_of(trial.contract, value)
        inside = lo + rng.random((SAMPLES - 2, *lo.shape)) * (hi - lo)
        corner: Array = np.where(rng.random(lo.shape) < 0.5, lo, hi)
        points[n] = np.concatenate([np.clip(nearest(inside, fmt), lo, hi), corner[None], hi[None]])
        real[n] = points[n]
        if trial.rounded:
            high = trial.real_ends(n)[1]
            real[n] = np.concatenate([np.clip(inside, lo, hi), points[n][-2:-1], high[None]])
            points[n] = nearest(real[n], fmt)
    return points, real


def compared(trial: Trial, result: Result) -> list[Finding]:
    saved, flint.ctx.prec = flint.ctx.prec, BITS
    try:
        with np.errstate(all="ignore"):
            return _exceeded(trial, result)
    finally:
        flint.ctx.prec = saved


def _exceeded(trial: Trial, result: Result) -> list[Finding]:
    points, real = points_of(trial)
    rng = np.random.default_rng(trial.seed + 2)
    fmt = format_of(trial.contract, trial.model.graph.input[0])
    reals = Reals()
    exact = interpret(trial.model, {n: reals.ball(v) for n, v in real.items()}, reals)
    other = misread(result.graph, real, exact)
    if other is not None:
        return [Finding("misread", other)]
    found = []
    for _ in range(EXECUTIONS):
        habit = habits(rng)
        ran = interpret(trial.model, points, Machine(fmt, trial.contract, rng, habit))
        for name, bound in result.bounds.items():
            finding = above(name, balls_of(exact[name]), ran[name], np.asarray(bound))
            if finding is not None:
                found.append(Finding(finding.kind, f"{finding.text}; {habit}"))
                return found
    return found


def misread(graph: Graph, points: Mapping[str, Array], exact: Mapping[str, Array]) -> str | None:
    """The first output whose real values are not those of the graph that the product read."""
    samples = {n: Reals.ball(points[n]) for n in graph.inputs}
    for name, values in evaluate_real(graph, samples, Balls(BITS)).items():
        for a, b in zip(*map(np.ravel, np.broadcast_arrays(values, balls_of(exact[name]))),
                        strict=True):  # fmt: skip
            if not flint.arb(a).overlaps(b):
                return f"{name}: {flint.arb(a).str(10)} is read, {b.str(10)} meant"
    return None


def balls_of(values: Array) -> Array:
    return Reals().truth(values) if values.dtype == bool else values


def above(name: str, exact: Array, value: Array, bound: Array) -> Finding | None:
    limit = np.broadcast_to(bound, exact.shape[1:])
    exact = np.broadcast_to(exact, (value.shape[0], *exact.shape[1:]))
    for at in np.ndindex(*value.shape):
        e = float(limit[at[1:]])
        if math.isinf(e):
            continue
        v = float(value[at])
        if not math.isfinite(v):
            return Finding("not finite", f"{name}{at}: {v}, bound {e}")
        error = abs(flint.arb(v) - exact[at])
        if error.lower() > flint.arb(e):
            return Finding(
                "exceeded", f"{name}{at}: {v} for {float(exact[at].mid())}, error "
                f"{float(error.mid())}, bound {e}, {result_ratio(error, e)}"
            )  # fmt: skip
    return None


def result_ratio(error: Any, bound: float) -> str:
    return "of 0" if bound == 0 else f"ratio {float((error / flint.arb(bound)).mid()):.4g}"
