"""Random graphs under random contract files, and three ways in which such a trial can go wrong.

`python tests/fuzzing/contracts.py SECONDS [FOLDER] [SEED]` tries for so long and saves what is
wrong.

The bound is held against an interpreter that shares nothing with the emulator, the emulator's own
executions against the bound, and the emulator's bits against the interpreter's wherever a contract
allows one execution: each says of a rounding that one of them dropped it.
"""

from __future__ import annotations

import sys
import time
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

import flint
import numpy as np
from constants import constants_of, with_computed_constants
from graphs import random_graph
from interpreter import interpret
from machine import Machine, habits, nearest
from reading import Unread
from reals import BITS, Open, Reals
from saving import minimised, save
from tables import Tables
from trial import (
    Finding,
    Trial,
    above,
    balls_of,
    bounded,
    compared,
    format_of,
    odd,
    points_of,
    range_of,
)

from encoders.arithmetic.exact_fields import Balls, object_array
from encoders.contract.contract import OpenSchedule, RuntimeContract
from encoders.contract.members import members
from encoders.contract.table import ContractError, contract_of_table, contract_table
from encoders.numbers.formats import FloatFormat
from gpu_check.emulator.emulator import emulate
from gpu_check.emulator.exact import evaluate_real
from onnx_import.errors import ModelError
from onnx_import.graph import Graph
from refine.results.verdict import Result, Verdict

Array = Any
MEMBERS = 4

# whose bits are open: formulas that the two readings spell out differently, and operators that are
# decomposed into others, which the interpreter reads as one node
FREE = (
    "Softmax",
    "LogSoftmax",
    "ReduceLogSumExp",
    "ReduceLogSum",
    "Einsum",
    "DynamicQuantizeLinear",
    "LRN",
    "LpPool",
    "GlobalLpPool",
    "MeanVarianceNormalization",
    "Attention",
    "RotaryEmbedding",
    "Resize",
    "Upsample",
    "GridSample",
    "RoiAlign",
    "RNN",
    "GRU",
    "LSTM",
    "FusedGemm",
    "FusedMatMul",
    "QuickGelu",
    "BiasGelu",
    "Scaler",
    "TreeEnsembleRegressor",
)


class Refused(Exception):
    """A file that is no contract; the sentence that says why."""


def contract_trial(seed: int, first: str | None = None) -> Trial:
    """Raises Refused where the random file is refused."""
    rng = np.random.default_rng(seed)
    model = random_graph(rng, first)
    own = np.random.default_rng(seed + 5)
    if own.random() < 0.5:
        model = with_computed_constants(model, own)
    nodes = [(n.op_type, n.name) for n in model.graph.node]
    text = Tables(rng, nodes).text()
    try:
        contract = contract_of_table(tomllib.loads(text))
    except ContractError as error:
        raise Refused(str(error)) from error
    lo: dict[str, np.ndarray] = {}
    hi: dict[str, np.ndarray] = {}
    for value in model.graph.input:
        shape = tuple(d.dim_value for d in value.type.tensor_type.shape.dim)
        fmt = format_of(contract, value)
        low, high = range_of(rng, shape, fmt)
        scale = _scale(rng, contract, fmt)
        largest = (2.0 - 2.0 ** (1 - fmt.precision)) * 2.0**fmt.emax
        for ends, end in ((lo, low), (hi, high)):
            ends[value.name] = np.clip(nearest(end * scale, fmt), -largest, largest)
    return Trial(model, contract, lo, hi, seed)


def _scale(rng: np.random.Generator, contract: RuntimeContract, own: FloatFormat) -> float:
    """Often 1, else something smaller, often where numbers of a format become subnormal."""
    if rng.random() < 0.5:
        return 1.0
    formats = (contract.accumulation, contract.stored_format, contract.factor_format, own)
    emin = [f.emin for f in formats if f is not None]
    if rng.random() < 0.4:
        return 2.0 ** int(rng.integers(-40, 2))
    return 2.0 ** (emin[int(rng.integers(len(emin)))] + int(rng.integers(-3, 6)))


def judged(seed: int, first: str | None = None) -> tuple[str, list[Finding], Trial | None]:
    """What became of it, in a word, and everything that is wrong."""
    try:
        trial = contract_trial(seed, first)
    except Refused as error:
        return f"no contract: {error}", [], None
    except Exception as error:  # whatever escapes is a finding
        return "crashed", [Finding("crash", f"{type(error).__name__}: {error}")], None
    return (*judge_contract(trial), trial)


def judge_contract(trial: Trial) -> tuple[str, list[Finding]]:
    if contract_of_table(contract_table(trial.contract)) != trial.contract:
        return "crashed", [Finding("file", "a contract that is not read back as it was written")]
    try:
        result = bounded(trial)
    except ModelError as error:
        return ("refused: " + str(error))[:200], []
    except Exception as error:  # whatever escapes is a finding
        return "crashed", [Finding("crash", f"{type(error).__name__}: {error}")]
    findings = list(odd(result))
    word = result.verdict.value
    try:
        findings += compared(trial, result)
    except Unread as error:
        word = f"unread: {error}"
    except Open:
        word = "open"
    try:
        findings += emulated(trial, result)
    except Open:
        pass
    except Exception as error:  # whatever escapes is a finding
        findings.append(Finding("emulator", f"{type(error).__name__}: {error}"))
    return word, findings


def emulated(trial: Trial, result: Result) -> list[Finding]:
    """The emulator's executions of members, against the bound and the interpreter."""
    (points, _), graph = points_of(trial), result.graph
    saved, flint.ctx.prec = flint.ctx.prec, BITS
    try:
        with np.errstate(all="ignore"):
            exact = _exact(trial, graph, points)
            rng = np.random.default_rng(trial.seed + 3)
            every = members(trial.contract)
            chosen = sorted(rng.permutation(len(every))[:MEMBERS])
            found = []
            for member in (every[k] for k in chosen):
                try:
                    computed = _emulated(graph, points, member)
                except OpenSchedule:  # aligned steps of float64
                    continue
                proved = result.bounds if result.verdict is Verdict.VERIFIED else {}
                for name, bound in proved.items():
                    ran = np.asarray(computed[name], np.float64)
                    wrong = above(name, balls_of(exact[name]), ran, np.asarray(bound))
                    if wrong is not None:
                        text = f"{wrong.text}; {member.name}"
                        return [Finding(f"emulator {wrong.kind}", text)]
                found += _parted(trial, graph, points, member)
                if found:
                    return found
    finally:
        flint.ctx.prec = saved
    return []


def _emulated(graph: Graph, points: dict[str, Array], member: RuntimeContract) -> Any:
    inputs = {
        n: v if member.compute_format else v.astype(graph.types[n].dtype.numpy)
        for n, v in points.items()
        if n in graph.inputs
    }
    return emulate(graph, inputs, member, every_tensor=True)


def _exact(trial: Trial, graph: Graph, points: dict[str, Array]) -> dict[str, Array]:
    """Real values by the interpreter, or by the project where the interpreter reads an operator
    not; balls that enclose no number raise Open."""
    reals = Reals()
    try:
        return interpret(trial.model, {n: reals.ball(v) for n, v in points.items()}, reals)
    except Unread:
        field = Balls(BITS)
        balls = {
            n: object_array(map(flint.arb, points[n].ravel().tolist()), points[n].shape)
            for n in graph.inputs
        }
        try:
            found = evaluate_real(graph, balls, field)
        except (ValueError, ZeroDivisionError) as error:
            raise Open(str(error)) from error
        values = {t: np.asarray(v) for t, v in found.items()}
        for v in values.values():
            if not all(b.is_finite() if isinstance(b, flint.arb) else True for b in v.ravel()):
                raise Open("no real value") from None
        return values


def _parted(
    trial: Trial, graph: Graph, points: dict[str, Array], member: RuntimeContract
) -> list[Finding]:
    """The first tensor of which the two executions have other bits."""
    kinds = {v.type.tensor_type.elem_type for v in trial.model.graph.input}
    fmt = format_of(member, trial.model.graph.input[0])
    if len(kinds) != 1 or 24 < fmt.precision < 53:
        return []
    rng = np.random.default_rng(trial.seed + 4)
    still = {**habits(rng), "functions": 0, "flush_functions": False}
    try:
        ran = interpret(trial.model, points, Machine(fmt, member, rng, still))
    except Unread:
        return []
    computed = _emulated(graph, points, member)
    made = constants_of(trial.model)
    for node in trial.model.graph.node:
        for name in node.output:
            if name not in computed and name in made:
                continue  # folded
            if name not in ran or name not in computed:
                return []
            a, b = np.asarray(ran[name], np.float64), np.asarray(computed[name], np.float64)
            a = np.broadcast_to(a, b.shape)
            if np.any(np.isnan(a)) and np.array_equal(a, b, equal_nan=True):
                return []  # comparisons with NaN are not read
            if node.op_type == "Cast" and not np.array_equal(np.isinf(a), np.isinf(b)):
                return []  # an infinity is no integer, and what becomes of it is not defined
            if not np.array_equal(a, b, equal_nan=True):
                if node.op_type in FREE:
                    return []
                at = tuple(
                    int(k) for k in np.argwhere(~((a == b) | (np.isnan(a) & np.isnan(b))))[0]
                )
                text = f"{node.op_type} {name}{at}: {b[at]!r} emulated, {a[at]!r} interpreted"
                return [Finding("parted", f"{text}; {member.name}")]
    return []


def main(seconds: float, folder: Path, seed: int) -> int:
    """How many findings there were."""
    end, ends, wrong = time.monotonic() + seconds, Counter[str](), 0
    while time.monotonic() < end:
        word, findings, trial = judged(seed)
        ends[word.split(":")[0]] += 1
        for finding in findings:
            wrong += 1
            print(f"seed {seed}: {finding.kind}: {finding.text}", flush=True)
            if trial is not None:
                smaller = minimised(trial, finding.kind, judge_contract)
                save(smaller, folder / f"contract-{seed}", finding)
        seed += 1
    counted = ", ".join(f"{n} {word}" for word, n in ends.most_common())
    print(f"{sum(ends.values())} contracts up to seed {seed - 1}: {counted}; {wrong} wrong")
    return wrong


if __name__ == "__main__":
    options = [*sys.argv[1:], *["60", "fuzz-findings", "0"][len(sys.argv) - 1 :]]
    sys.exit(1 if main(float(options[0]), Path(options[1]), int(options[2])) else 0)
