"""Looking for an input on which the runtime is far from the real network.

Guided by float64 (`ApproximateReals`), over the floats of the domain: random points first, then
hill-climbing from the best. What it returns are candidates; `refine.witness` decides exactly.
Deterministic: the number of evaluations follows from the model's size, not from the clock.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from encoders.approximate_field import ApproximateReals
from encoders.contract import RuntimeContract, members
from encoders.enclosure import FloatArray
from encoders.formats import round_array
from encoders.operator import site_of
from encoders.registry import lookup
from gpu_check.emulator import emulate
from gpu_check.exact import evaluate_real
from onnx_import.graph import Array, DType, Graph
from refine.box import Box
from refine.rounding import float_down
from refine.verdict import Tolerance

_WORK = 6 * 10**8  # multiply-adds spent on emulation
_FEWEST, _MOST = 96, 6000  # evaluations
_BATCH_BYTES = 64 * 2**20
_KEPT = 8


@dataclass(frozen=True)
class Candidate:
    """An input (arrays of the tensors' shapes), an execution, and about how large its error is.

    The runtime receives `inputs`, the real network `real_inputs` (the same, unless the domain is
    one of real numbers that the runtime receives rounded).
    `excess` is the error divided by ε where there is one, else the error itself; an infinite or
    NaN output counts as infinite.
    """

    inputs: Mapping[str, Array]
    real_inputs: Mapping[str, Array]
    execution: RuntimeContract
    output: str
    index: tuple[int, ...]
    excess: float


@dataclass(frozen=True)
class Hunt:
    """What is searched: the network, one box of its domain, the allowed executions, and ε."""

    graph: Graph
    box: Box
    contract: RuntimeContract
    tolerance: Tolerance


def search(
    hunt: Hunt, seed: int, late: Callable[[], bool] = lambda: False
) -> tuple[Candidate, ...]:
    """The best candidates found, best first; fewer are tried once `late` says so."""
    rng = np.random.default_rng(seed)
    executions = members(hunt.contract)
    work = sum(lookup(n).work(site_of(hunt.graph, n)) for n in hunt.graph.order)
    evaluations = int(np.clip(_WORK // max(work, 1), _FEWEST, _MOST))
    widest = max(t.size for t in hunt.graph.types.values())
    batch = int(np.clip(_BATCH_BYTES // (8 * widest), 16, 512))
    quick = executions[-1] if len(executions) == 1 else executions[1]
    best: list[Candidate] = []
    spent = 0
    while spent < evaluations and not (late() and best):
        random = spent < evaluations // 3 or not best
        n = min(batch, max(evaluations // 3, 16), max(evaluations - spent, 1))
        points = hunt.box.sample(rng, n) if random else _children(hunt, best, rng, n)
        best = _keep_best(best + _candidates(hunt, points, quick))
        spent += n
    for execution in executions:
        if execution is quick or not best or late():
            continue
        points = _stacked([c.inputs for c in best])
        best = _keep_best(best + _candidates(hunt, points, execution))
    return tuple(best)


def _candidates(
    hunt: Hunt, points: Mapping[str, FloatArray], execution: RuntimeContract
) -> list[Candidate]:
    graph = hunt.graph
    typed = {
        name: v if execution.compute_format else v.astype(graph.types[name].dtype.numpy)
        for name, v in points.items()
    }
    with np.errstate(all="ignore"):
        computed = emulate(graph, typed, execution)
    real = {n: np.clip(v, hunt.box.real_lo[n], hunt.box.real_hi[n]) for n, v in points.items()}
    wide = any(kind.dtype is DType.FLOAT64 for kind in graph.types.values())
    field = ApproximateReals(wide)
    exact = evaluate_real(graph, {n: v.astype(field.dtype) for n, v in real.items()}, field)
    found: list[Candidate] = []
    for output in graph.outputs:
        shape = graph.types[output].shape
        value = np.asarray(computed[output], np.float64)
        error = np.abs(value - np.asarray(exact[output])).astype(np.float64)
        error = np.where(np.isfinite(value), error, np.inf).reshape(value.shape[0], -1)
        if not error.shape[1]:
            continue
        error = np.broadcast_to(error, (len(next(iter(points.values()))), error.shape[1]))
        scale = _scale(hunt.tolerance.of(output))
        place = np.argmax(error, axis=1)
        for sample in np.argsort(-error.max(axis=1))[:_KEPT]:
            found.append(
                Candidate(
                    {name: v[sample] for name, v in points.items()},
                    {name: v[sample] for name, v in real.items()},
                    execution,
                    output,
                    tuple(int(i) for i in np.unravel_index(int(place[sample]), shape)),
                    float(error[sample, place[sample]] * scale),
                )
            )
    return found


def _scale(epsilon: Fraction | None) -> float:
    return 1.0 if epsilon is None else 1.0 / max(float_down(epsilon), 2.0**-1000)


def _keep_best(candidates: Sequence[Candidate]) -> list[Candidate]:
    return sorted(candidates, key=lambda c: -c.excess)[:_KEPT]


def _stacked(inputs: Sequence[Mapping[str, Array]]) -> dict[str, FloatArray]:
    return {name: np.stack([np.asarray(i[name], np.float64) for i in inputs]) for name in inputs[0]}


def _children(
    hunt: Hunt, parents: Sequence[Candidate], rng: np.random.Generator, n: int
) -> dict[str, FloatArray]:
    """Neighbours of the best points: some coordinates redrawn, moved a little, or by few ulps."""
    fresh = hunt.box.sample(rng, n)
    chosen = rng.integers(0, len(parents), n)
    base = _stacked([parents[i].inputs for i in chosen])
    children: dict[str, FloatArray] = {}
    for name, lo in hunt.box.lo.items():
        hi, fmt = hunt.box.hi[name], hunt.box.formats[name]
        x = base[name]
        column = (n, *(1,) * lo.ndim)
        rate = np.exp(rng.uniform(np.log(1.0 / max(lo.size, 1)), 0.0, column))
        moved = rng.random(x.shape) < np.maximum(rate, 1.0 / max(lo.size, 1))
        step = (hi - lo) * np.exp2(-rng.uniform(2, 20, column)) * rng.standard_normal(x.shape)
        ulps = np.abs(x) * float(fmt.unit_roundoff) * rng.integers(-8, 9, x.shape)
        kind = rng.integers(0, 3, column)
        new = np.where(kind == 0, fresh[name], np.where(kind == 1, x + step, x + ulps))
        rounded = round_array(np.where(moved, new, x), fmt)
        children[name] = np.clip(rounded, lo, hi)
    return children
