"""A random graph under two random contracts: what `diff` proves against executions of both sides.

`python tests/fuzzing/pairs.py SECONDS [SEED]` tries for so long and says what is wrong.
"""

from __future__ import annotations

import sys
import time
import tomllib
from collections import Counter
from dataclasses import replace
from typing import Any

import flint
import numpy as np
from contracts import Refused, contract_trial
from interpreter import interpret
from machine import Machine, habits
from reading import Unread
from reals import BITS, Open, Reals
from tables import Tables
from trial import Finding, Trial, box_of, format_of, graph_of, points_of

from encoders.contract.contract import OpenSchedule, RuntimeContract
from encoders.contract.members import members
from encoders.contract.presets import EXACT
from encoders.contract.table import ContractError, contract_of_table
from gpu_check.emulator.emulator import emulate
from onnx_import.errors import ModelError
from onnx_import.graph import Graph
from refine.claims.kinds.difference import diff
from refine.claims.options import Options
from refine.domain.domain import Domain
from refine.lemmas.cache import default_directory
from refine.results.verdict import Result, Side, Tolerance, Verdict

Array = Any
EXECUTIONS = 4
FIELDS = ("order", "contraction", "bias", "results", "operands", "normalization", "rules",
          "compute_format", "accumulation", "stored_format", "factor_format",
          "factor_rounding")  # fmt: skip


def pair_trial(seed: int) -> tuple[Trial, RuntimeContract]:
    """A trial under one contract, and the contract of the specification. Raises Refused."""
    trial = contract_trial(seed)
    rng = np.random.default_rng(seed + 9)
    if rng.random() < 0.15:
        return trial, EXACT
    nodes = [(n.op_type, n.name) for n in trial.model.graph.node]
    try:
        other = contract_of_table(tomllib.loads(Tables(rng, nodes).text()))
    except ContractError as error:
        raise Refused(str(error)) from error
    if rng.random() < 0.7:  # nearly the same contract
        changed = rng.permutation(len(FIELDS))[: int(rng.integers(1, 4))]
        fields = {FIELDS[k]: getattr(other, FIELDS[k]) for k in changed}
        return trial, replace(trial.contract, name="other", **fields)
    if rng.random() < 0.8:
        other = replace(other, compute_format=trial.contract.compute_format)
    return trial, other


def judge_pair(trial: Trial, other: RuntimeContract) -> tuple[str, list[Finding]]:
    """What became of it, in a word, and everything that is wrong."""
    try:
        result = compared_sides(trial, other)
    except ModelError as error:
        return ("refused: " + str(error))[:200], []
    except Exception as error:  # whatever escapes is a finding
        return "crashed", [Finding("crash", f"{type(error).__name__}: {error}")]
    if result.verdict is not Verdict.VERIFIED:
        return result.verdict.value, []
    points, _ = points_of(trial)
    rng = np.random.default_rng(trial.seed + 5)
    sides = (trial.contract, other)
    with np.errstate(all="ignore"):
        for _ in range(EXECUTIONS):
            for run in (_interpreted, _emulated):
                try:
                    one, two = (run(trial, result.graph, c, points, rng) for c in sides)
                except (Unread, Open, OpenSchedule):
                    continue
                for name, bound in result.bounds.items():
                    if {"b", "i"} & {v[name].dtype.kind for v in (one, two)}:
                        continue
                    wrong = _apart(name, one[name], two[name], np.asarray(bound))
                    if wrong is not None:
                        kind = run.__name__.strip("_")
                        return result.verdict.value, [Finding(kind, wrong)]
    return result.verdict.value, []


def compared_sides(trial: Trial, other: RuntimeContract) -> Result:
    spec, impl = graph_of(trial.model, other), graph_of(trial.model, trial.contract)
    domain = Domain((box_of(trial, impl),), "random")
    options = Options(None, default_directory(), search=False)
    return diff(Side(spec, other), Side(impl, trial.contract), domain, Tolerance(), options)


def _interpreted(
    trial: Trial, graph: Graph, contract: RuntimeContract, points: Any, rng: np.random.Generator
) -> dict[str, Array]:
    if contract.exact:
        reals = Reals()
        return interpret(trial.model, {n: reals.ball(v) for n, v in points.items()}, reals)
    fmt = format_of(contract, trial.model.graph.input[0])
    return interpret(trial.model, points, Machine(fmt, contract, rng, habits(rng)))


def _emulated(
    trial: Trial, graph: Graph, contract: RuntimeContract, points: Any, rng: np.random.Generator
) -> dict[str, Array]:
    if contract.exact:
        raise Unread("real numbers are not emulated")
    every = members(contract)
    member = every[int(rng.integers(len(every)))]
    inputs = {
        n: points[n] if member.compute_format else points[n].astype(graph.types[n].dtype.numpy)
        for n in graph.inputs
    }
    return {t: np.asarray(v, np.float64) for t, v in emulate(graph, inputs, member).items()}


def _apart(name: str, one: Array, two: Array, bound: Array) -> str | None:
    """Where two executions are further from each other than the bound says."""
    one, two = np.broadcast_arrays(one, two)
    for at in np.ndindex(*one.shape):
        limit = float(np.broadcast_to(bound, one.shape[1:])[at[1:]])
        a, b = one[at], two[at]
        same = isinstance(b, float) and (a == b or (np.isnan(a) and np.isnan(b)))
        if np.isinf(limit) or same:
            continue
        if not np.isfinite(a) or (isinstance(b, float) and not np.isfinite(b)):
            return f"{name}{at}: {a} and {b}, bound {limit}"
        error = abs(flint.arb(float(a)) - b)
        if error.lower() > flint.arb(limit):
            return f"{name}{at}: {a} and {b}, {float(error.mid())} apart, bound {limit}"
    return None


def judged_pair(seed: int) -> tuple[str, list[Finding]]:
    """As `judge_pair`, of the pair that a number stands for."""
    saved, flint.ctx.prec = flint.ctx.prec, BITS
    try:
        return judge_pair(*pair_trial(seed))
    except Refused as error:
        return f"no contract: {error}", []
    finally:
        flint.ctx.prec = saved


def main(seconds: float, seed: int) -> int:
    """How many findings there were."""
    end, ends, wrong = time.monotonic() + seconds, Counter[str](), 0
    while time.monotonic() < end:
        word, findings = judged_pair(seed)
        ends[word.split(":")[0]] += 1
        wrong += len(findings)
        for finding in findings:
            print(f"pair {seed}: {finding.kind}: {finding.text}", flush=True)
        seed += 1
    counted = ", ".join(f"{n} {word}" for word, n in ends.most_common())
    print(f"{sum(ends.values())} pairs up to seed {seed - 1}: {counted}; {wrong} wrong")
    return wrong


if __name__ == "__main__":
    options = [*sys.argv[1:], *["60", "0"][len(sys.argv) - 1 :]]
    sys.exit(1 if main(float(options[0]), int(options[1])) else 0)
