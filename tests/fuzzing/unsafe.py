"""`python tests/fuzzing/unsafe.py SECONDS [FOLDER] [SEED]`: random unsafe sets of random graphs.

Rows speak of a few outputs (and inputs) and have limits near, or exactly at, what executions reach.
A `verified` is held against executions by the interpreter, which shares nothing with the emulator;
a `violated` is evaluated anew by it, and decided on exact numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import flint
import numpy as np
from claims import PLAIN, forbidden, outside
from interpreter import interpret
from machine import Machine, habits
from reading import Unread
from reals import BITS, Open, Reals
from running import from_command_line, fuzzed
from saving import save
from trial import (
    Finding,
    Trial,
    balls_of,
    box_of,
    format_of,
    graph_of,
    points_of,
    stepping_trial,
    trial_of,
)

from encoders.contract.contract import RuntimeContract
from encoders.contract.presets import EXACT
from onnx_import.errors import ModelError
from onnx_import.graph import Graph
from refine.claims.kind import Asked
from refine.claims.options import Options
from refine.claims.unsafe import kept_out
from refine.domain.domain import Domain
from refine.domain.properties import Conjunction, Property, Row
from refine.domain.vnnlib import Half
from refine.lemmas.cache import default_directory
from refine.results.verdict import Result, Side, Tolerance, Verdict, Witness

Array = Any
EXECUTIONS = 3
FACTORS = (Fraction(1), Fraction(-1), Fraction(1, 10), Fraction(-3, 7), Fraction(10**20 + 1, 3))


@dataclass(frozen=True)
class Run:
    """Flat inputs (samples, n) and outputs (samples, m) of an execution, in float64."""

    inputs: Array
    outputs: Array

    @property
    def finite(self) -> Array:
        return np.all(np.isfinite(self.outputs), axis=1)

    def exactly(self, i: int) -> tuple[list[Fraction], list[Fraction]]:
        x, y = (v[i].tolist() for v in (self.inputs, self.outputs))
        return list(map(Fraction, x)), list(map(Fraction, y))


def trial_for(seed: int) -> Trial:
    """A random trial; every fourth of step functions, every eighth under the contract `exact`."""
    trial = stepping_trial(seed) if seed % 4 == 1 else trial_of(seed)
    own = trial.contract.compute_format is None  # else the domain holds numbers of that format
    return replace(trial, contract=EXACT) if seed % 8 == 2 and own else trial


def judged(seed: int) -> tuple[str, list[Finding]]:
    """What became of a claim in a word, and everything that is wrong."""
    trial = trial_for(seed)
    saved, flint.ctx.prec = flint.ctx.prec, BITS
    try:
        with np.errstate(all="ignore"):
            graph = replace(graph_of(trial.model, trial.contract), source=None)
            rng = np.random.default_rng(seed + 6)
            unsafe = unsafe_near(graph, _run(trial, graph, rng), rng)
            result = claimed(trial, graph, unsafe, rng)
            return result.verdict.value, disputed(trial, graph, unsafe, result, rng)
    except ModelError as error:
        return ("refused: " + str(error))[:200], []
    except Unread as error:
        return f"unread: {error}", []
    except Open:
        return "open", []
    except Exception as error:  # whatever escapes is a finding
        return "crashed", [Finding("crash", f"{type(error).__name__}: {error}")]
    finally:
        flint.ctx.prec = saved


def unsafe_near(graph: Graph, run: Run, rng: np.random.Generator) -> Property:
    """A union of conjunctions whose rows are nearly reached, or just so."""
    parts = []
    for _ in range(int(rng.choice([1, 1, 1, 2, 3]))):
        rows = tuple(_row(run, rng) for _ in range(int(rng.choice([1, 1, 2]))))
        limits = {}
        if rng.random() < 0.2:
            i = int(rng.integers(run.inputs.shape[1]))
            at = Fraction(float(run.inputs[int(rng.integers(len(run.inputs))), i]))
            wide, is_open = rng.random() < 0.5, bool(rng.random() < 0.5)
            limits[i] = Half(lo=at, lo_open=is_open) if wide else Half(hi=at, hi_open=is_open)
        parts.append(Conjunction(limits, rows))
    return Property(tuple(parts), "random", both=bool(rng.random() < 0.2))


def _row(run: Run, rng: np.random.Generator) -> Row:
    outputs = {
        int(i): FACTORS[int(rng.integers(len(FACTORS)))]
        for i in rng.choice(run.outputs.shape[1], min(2, run.outputs.shape[1]), replace=False)
    }
    inputs = {}
    if rng.random() < 0.25:
        inputs[int(rng.integers(run.inputs.shape[1]))] = FACTORS[int(rng.integers(4))]
    row = Row(outputs, inputs, Fraction(0), strict=bool(rng.random() < 0.5))
    values = [row.value(*run.exactly(i)) for i in np.flatnonzero(run.finite).tolist()] or [
        Fraction(1)
    ]
    size: Fraction = max([*map(abs, values), Fraction(1, 2**140)])
    way = int(rng.integers(6))
    least = min(values)
    if way < 2:
        at_most = least
    elif way == 2:
        at_most = least - size * Fraction(1, 2 ** int(rng.integers(1, 40)))
    elif way == 3:
        at_most = least - size * int(rng.integers(1, 6))
    elif way == 4:
        at_most = sorted(values)[len(values) // 2]
    else:
        at_most = least - Fraction(
            np.spacing(np.float32(float(min(size, Fraction(10**38))))).item()
        )
    return replace(row, at_most=at_most)


def claimed(trial: Trial, graph: Graph, unsafe: Property, rng: np.random.Generator) -> Result:
    options = Options(
        None, default_directory(), trial.seed, search_seconds=float(rng.choice([0.05, 0.3])),
        budget=float(rng.choice([0.0, 0.0, 0.6])), search=bool(rng.random() < 0.7),
    )  # fmt: skip
    domain = Domain((box_of(trial, graph),), "random")
    side = Side(graph, trial.contract)
    asked = Asked(text="", side=side, domain=domain, tolerance=Tolerance(), options=options)
    return kept_out(asked, unsafe, "random")


def disputed(
    trial: Trial, graph: Graph, unsafe: Property, result: Result, rng: np.random.Generator
) -> list[Finding]:
    """What is wrong with an answer."""
    if result.verdict is Verdict.CONTRADICTION:
        return [Finding("contradiction", result.reason)]
    if result.verdict is Verdict.VIOLATED:
        if result.witness is None:
            return [Finding("no witness", result.reason)]
        problems = _doubted(trial, graph, unsafe, result.witness)
        return [Finding("wrong violated", "; ".join(problems))] if problems else []
    if result.verdict is Verdict.VERIFIED:
        for turn in range(EXECUTIONS):
            again = replace(trial, seed=trial.seed + 1000 * turn)
            run = _run(again, graph, rng)
            if not np.all(run.finite):
                return [Finding("wrong verified", "an output is not finite")]
            for i in range(len(run.outputs)):
                x, y = run.exactly(i)
                for part in unsafe.unsafe:
                    if part.holds(x, y):
                        return [Finding("wrong verified", f"{part}: x {x}, y {y}")]
    return []


def _run(trial: Trial, graph: Graph, rng: np.random.Generator) -> Run:
    """What an execution of the contract computes on a few points: a random one."""
    points, _ = points_of(trial)
    return Run(_flat(graph.inputs, points), _executed(trial, graph, points, trial.contract, rng))


def _executed(
    trial: Trial,
    graph: Graph,
    points: Mapping[str, Array],
    contract: RuntimeContract,
    rng: np.random.Generator,
    habit: Mapping[str, Any] | None = None,
) -> Array:
    given = dict(points)
    if contract.exact:
        reals = Reals()
        exact = interpret(trial.model, {n: reals.ball(v) for n, v in given.items()}, reals)
        return _flat(graph.outputs, {t: _numbers(balls_of(exact[t])) for t in graph.outputs}, given)
    fmt = format_of(contract, trial.model.graph.input[0])
    machine = Machine(fmt, contract, rng, habits(rng) if habit is None else dict(habit))
    return _flat(graph.outputs, interpret(trial.model, given, machine), given)


def _numbers(balls: Array) -> Array:
    """Float64 numbers; raises Open where a value over the reals is none."""
    out: Array = np.zeros(balls.shape)
    for at in np.ndindex(*balls.shape):
        out[at] = float(balls[at].mid())
        if not flint.arb(float(out[at])) == balls[at]:
            raise Open("a real value is no number of float64")
    return out


def _flat(
    names: Sequence[str], arrays: Mapping[str, Array], points: Mapping[str, Array] | None = None
) -> Array:
    samples = len(next(iter((arrays if points is None else points).values())))
    flat = []
    for n in names:
        values = np.asarray(arrays[n], np.float64)
        flat.append(np.broadcast_to(values, (samples, *values.shape[1:])).reshape(samples, -1))
    return np.concatenate(flat, axis=1)


def _doubted(trial: Trial, graph: Graph, unsafe: Property, witness: Witness) -> list[str]:
    problems = [*outside(trial, witness), *forbidden(trial.contract, witness.execution)]
    points = {n: np.asarray(v).astype(np.float64)[None] for n, v in witness.inputs.items()}
    y = _executed(trial, graph, points, witness.execution, np.random.default_rng(0), PLAIN)
    run = Run(_flat(graph.inputs, points), y)
    if not run.finite[0]:
        return problems
    if witness.reached is None:
        return [*problems, "it does not say where it stands, and its outputs are finite"]
    said = _flat(graph.outputs, {t: v[None] for t, v in witness.reached.outputs.items()})
    if not np.array_equal(said, y):
        problems.append(f"computes {y.tolist()}, said {said.tolist()}")
    if not any(part.holds(*run.exactly(0)) for part in unsafe.unsafe):
        problems.append("its outputs are not unsafe")
    return problems


def main(seconds: float, folder: Path, seed: int) -> int:
    """How many findings there were."""

    def keep(seed: int, finding: Finding) -> None:
        save(trial_for(seed), folder / str(seed), finding)

    return fuzzed(seconds, seed, judged, keep)


if __name__ == "__main__":
    from_command_line(main)
