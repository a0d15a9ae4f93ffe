"""Claims about a random graph: within ε or not, and beside another graph or another contract.

A `violated` is evaluated anew: the input must lie in the box, the execution must be one that the
contract allows, and what it computes and what is real there must be what the interpreter finds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import flint
import numpy as np
import onnx
from graphs import random_contract
from interpreter import interpret
from machine import Machine, habits, nearest
from onnx import numpy_helper
from reading import Unread
from reals import BITS, Open, Reals
from trial import (
    Finding,
    Trial,
    above,
    balls_of,
    bounded,
    box_of,
    format_of,
    graph_of,
    odd,
    points_of,
)

from encoders.contract.contract import (
    BiasPlacement,
    Contraction,
    FactorRounding,
    Normalization,
    RuntimeContract,
    Schedule,
    Subnormals,
)
from encoders.contract.orders import AlignedSteps, AnyOrder
from encoders.contract.presets import EXACT
from onnx_import.errors import ModelError
from onnx_import.graph import Graph
from refine.claims.kinds.accuracy import check
from refine.claims.kinds.difference import diff
from refine.claims.options import Options
from refine.domain.domain import Domain
from refine.lemmas.cache import default_directory
from refine.results.obligation import Outcome
from refine.results.verdict import Result, Side, Tolerance, Verdict, Witness

Array = Any
PLAIN = {
    "fuse": 0.0, "flush_results": 0.0, "flush_operands": 0.0, "flush_functions": False,
    "functions": 0, "bias": BiasPlacement.LAST, "factors": None, "shuffle": "none",
    "orders": [], "normalization": Normalization.DIRECT,
}  # fmt: skip
EXECUTIONS = 2


@dataclass(frozen=True)
class Beside:
    """A specification: a model with the same inputs and outputs, and what it is read under."""

    model: onnx.ModelProto
    contract: RuntimeContract


def judged(trial: Trial, beside: Beside | None = None) -> tuple[str, list[Finding]]:
    """What became of the claim in a word, and everything that is wrong."""
    try:
        result = claimed(trial, beside)
    except ModelError as error:
        return ("refused: " + str(error))[:200], []
    except Exception as error:  # whatever escapes is a finding
        return "crashed", [Finding("crash", f"{type(error).__name__}: {error}")]
    findings = list(odd(result))
    saved, flint.ctx.prec = flint.ctx.prec, BITS
    try:
        with np.errstate(all="ignore"):
            findings += _disputed(trial, beside, result)
    except Unread as error:
        return f"unread: {error}", findings
    except Open:
        return "open", findings
    finally:
        flint.ctx.prec = saved
    return result.verdict.value, findings


def judged_claim(trial: Trial) -> tuple[str, list[Finding]]:
    """Within ε: every fifth with real inputs that the runtime receives rounded."""
    return judged(replace(trial, rounded=trial.seed % 5 == 0))


def judged_difference(trial: Trial) -> tuple[str, list[Finding]]:
    """Beside another reading of the model, which follows from the trial."""
    return judged(replace(trial, rounded=trial.seed % 5 == 0), beside_of(trial))


def beside_of(trial: Trial) -> Beside:
    """The same model under another contract, or with other weights, or both."""
    rng = np.random.default_rng(trial.seed + 4)
    model = onnx.ModelProto()
    model.CopyFrom(trial.model)
    kind = int(rng.integers(4))
    contract = EXACT if kind in (0, 1) else random_contract(rng)
    if kind in (1, 3):
        for tensor in model.graph.initializer:
            values = numpy_helper.to_array(tensor)
            if values.dtype.kind == "f" and values.size and rng.random() < 0.6:
                moved = values * (1 + 2.0 ** -int(rng.integers(2, 12)))
                tensor.CopyFrom(numpy_helper.from_array(moved.astype(values.dtype), tensor.name))
    same = contract.exact or rng.random() < 0.7
    if not contract.exact and same:
        contract = replace(contract, compute_format=trial.contract.compute_format)
    return Beside(model, contract)


def claimed(trial: Trial, beside: Beside | None) -> Result:
    rng = np.random.default_rng(trial.seed + 3)
    graph = _apart(trial.model)
    domain = Domain((box_of(trial, graph),), "random", round_inputs=trial.rounded)
    options = Options(
        None, default_directory(), trial.seed, search_seconds=0.15,
        budget=float(rng.choice([0.0, 0.0, 0.6])),
    )  # fmt: skip
    share = float(rng.choice([0.0, 1e-4, 0.01, 0.1, 0.3, 1.0, 2.0]))

    def tolerance(bound: float) -> Tolerance:
        size = min(bound, 1e30) if rng.random() < 0.9 else 1e-3
        return Tolerance(Fraction(share * size))

    if beside is None:
        return check(graph, domain, trial.contract, tolerance(bounded(trial).bound), options)
    sides = Side(_apart(beside.model), beside.contract), Side(graph, trial.contract)
    quick = replace(options, search=False, budget=0.0)
    first = diff(*sides, domain, Tolerance(), quick)
    return diff(*sides, domain, tolerance(first.bound), options)


def _apart(model: onnx.ModelProto) -> Graph:
    """The graph without its file, so that no runtime is started to confirm what is found."""
    return replace(graph_of(model), source=None)


def _disputed(trial: Trial, beside: Beside | None, result: Result) -> list[Finding]:
    found = []
    if result.verdict is Verdict.CONTRADICTION:
        found.append(Finding("contradiction", result.reason))
    if result.verdict is Verdict.VIOLATED:
        if result.witness is None:
            return [Finding("no witness", result.reason)]
        found += _doubted(trial, beside, result, result.witness)
    if result.verdict is Verdict.VERIFIED and result.tolerance.given:
        found += [
            Finding("above eps", f"{t}: {np.max(b)}")
            for t, b in result.bounds.items()
            if b.size
            and (allowed := result.tolerance.of(t)) is not None
            and Fraction(float(np.max(b))) > allowed
        ]
    return found + _exceeded(trial, beside, result)


# Bounds against executions


def _exceeded(trial: Trial, beside: Beside | None, result: Result) -> list[Finding]:
    rng = np.random.default_rng(trial.seed + 2)
    runtime, real = points_of(trial)
    contracts = (trial.contract, EXACT if beside is None else beside.contract)
    models = (trial.model, trial.model if beside is None else beside.model)
    owed = result.every_obligation
    if any(o.outcome is not Outcome.DISCHARGED for o in owed):
        return []  # the bounds beside what is not shown are no claim
    for _ in range(EXECUTIONS):
        habit = habits(rng)
        mine, theirs = (
            _run(m, c, runtime, real, rng, habit) for m, c in zip(models, contracts, strict=True)
        )
        for name, bound in result.bounds.items():
            finding = above(name, _exact(theirs[name]), mine[name], np.asarray(bound))
            if finding is not None:
                return [Finding(finding.kind, f"{finding.text}; {habit}")]
    return []


def _run(
    model: onnx.ModelProto, contract: RuntimeContract, runtime: Any, real: Any, rng: Any, habit: Any
) -> Mapping[str, Array]:
    if contract.exact:
        reals = Reals()
        given = {n: reals.ball(v) for n, v in real.items()}
        return {n: balls_of(v) for n, v in interpret(model, given, reals).items()}
    fmt = format_of(contract, model.graph.input[0])
    return interpret(model, runtime, Machine(fmt, contract, rng, habit))


def _exact(values: Array) -> Array:
    """Balls around the numbers that a specification gives, an infinity where it gives none."""
    if values.dtype == object:
        return values
    if values.dtype == bool:
        return balls_of(values)
    if not np.all(np.isfinite(values)):
        raise Open("the specification gives no number")
    return Reals().ball(values.astype(np.float64))


# Counterexamples


def _doubted(
    trial: Trial, beside: Beside | None, result: Result, witness: Witness
) -> list[Finding]:
    problems = list(outside(trial, witness))
    spec = EXACT if beside is None else witness.spec_execution or EXACT
    pairs = [(trial.contract, witness.execution)]
    if beside is not None:
        pairs.append((beside.contract, spec))
    problems += [f"not allowed: {why}" for c, e in pairs for why in forbidden(c, e)]
    runtime = {n: np.asarray(v).astype(np.float64)[None] for n, v in witness.inputs.items()}
    real = {n: _rational(v)[None] for n, v in witness.real_inputs.items()}
    at = (0, *witness.index)
    rng = np.random.default_rng(0)
    reals = Reals()

    def given(model: onnx.ModelProto, execution: RuntimeContract) -> Any:
        if execution.exact:
            return balls_of(interpret(model, real, reals)[witness.output])[at]
        fmt = format_of(execution, model.graph.input[0])
        run = interpret(model, runtime, Machine(fmt, execution, rng, PLAIN))[witness.output]
        return float(np.broadcast_to(run, (1, *run.shape[1:]))[at])

    mine = given(trial.model, witness.execution)
    theirs = given(trial.model if beside is None else beside.model, spec)
    if isinstance(mine, float) and not _same(mine, witness.value):
        problems.append(f"computes {mine!r}, said {witness.value!r}")
    numbers = [v for v in (mine, theirs) if isinstance(v, float)]
    if all(np.isfinite(numbers)):
        error = abs(*(_ball(mine) - _ball(theirs),))
        eps = result.tolerance.of(witness.output)
        assert eps is not None
        if not error > flint.arb(flint.fmpq(eps.numerator, eps.denominator)):
            problems.append(f"its error is {error.str(20)}, eps {float(eps)!r}")
    return [Finding("wrong violated", "; ".join(problems))] if problems else []


def _ball(value: Any) -> Any:
    return flint.arb(value) if isinstance(value, float) else value


def _same(a: float, b: float) -> bool:
    return a == b or (np.isnan(a) and np.isnan(b))


def _rational(values: Array) -> Array:
    def one(v: Any) -> Any:
        v = Fraction(v)
        return flint.arb(flint.fmpq(v.numerator, v.denominator))

    return np.asarray(np.frompyfunc(one, 1, 1)(np.asarray(values).astype(object)), dtype=object)


def outside(trial: Trial, witness: Witness) -> list[str]:
    problems = []
    for value in trial.model.graph.input:
        n, fmt = value.name, format_of(trial.contract, value)
        x = np.asarray(witness.inputs[n]).astype(np.float64)
        if not np.all((trial.lo[n] <= x) & (x <= trial.hi[n])):
            problems.append(f"{n} outside the box")
        if not np.array_equal(nearest(x, fmt), x):
            problems.append(f"{n} is no {fmt.name}")
        real = np.asarray(witness.real_inputs[n])
        low, high = trial.real_ends(n)
        if not np.all((low <= real) & (real <= high)):
            problems.append(f"the real {n} outside the box")
        if not np.array_equal(nearest(real.astype(np.float64), fmt), x):
            problems.append(f"{n} is not the real one rounded")
    return problems


def forbidden(contract: RuntimeContract, execution: RuntimeContract) -> list[str]:
    """Fields in which an execution is none that the contract allows."""
    if contract.exact or execution.exact:
        return [] if contract.exact == execution.exact else ["exact"]
    found = [
        name
        for name in ("compute_format", "accumulation", "stored_format")
        if getattr(contract, name) != getattr(execution, name)
    ]
    left_whole = execution.factor_format is None and contract.factor_rounding is FactorRounding.ANY
    if contract.factor_format != execution.factor_format and not left_whole:
        found.append("factor_format")
    opened = (
        ("results", Subnormals.EITHER), ("operands", Subnormals.EITHER),
        ("normalization", Normalization.EITHER), ("factor_rounding", FactorRounding.ANY),
    )  # fmt: skip
    for name, free in opened:
        said, done = getattr(contract, name), getattr(execution, name)
        if said is not free and done is not said:
            found.append(name)
    pairs = [(contract.schedule, execution.schedule)]
    if len(contract.rules) != len(execution.rules):
        found.append("rules")
    for mine, its in zip(contract.rules, execution.rules, strict=False):
        if replace(mine, schedule=its.schedule) != its:
            found.append("rules")
        pairs.append((mine.schedule, its.schedule))
    for said, done in pairs:
        found += _unscheduled(said, done)
    return found


def _unscheduled(said: Schedule, done: Schedule) -> list[str]:
    found = []
    if isinstance(said.order, AnyOrder):
        if isinstance(done.order, AlignedSteps) and done.order.alignment != said.order.alignment:
            found.append("steps")
        if isinstance(done.order, AnyOrder):
            found.append("an open order")
    elif said.order != done.order:
        found.append("order")
    if said.contraction is not Contraction.EITHER and done.contraction is not said.contraction:
        found.append("fma")
    if done.contraction is Contraction.EITHER:
        found.append("open fma")
    if said.bias is not BiasPlacement.ANY and done.bias is not said.bias:
        found.append("bias")
    return found
