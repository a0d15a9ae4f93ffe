"""Relative precisions of random graphs under random contracts, judged by independent executions."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import flint
import numpy as np
import pytest
from graphs import RECIPES
from interpreter import interpret
from machine import Machine, habits
from onnx import TensorProto, helper, numpy_helper
from reading import Unread
from reals import BITS, Open, Reals
from trial import (
    EXECUTIONS,
    Trial,
    above,
    balls_of,
    box_of,
    format_of,
    graph_of,
    points_of,
    trial_of,
)

from encoders.contract.presets import PRESETS
from encoders.lemmas.kernel import apply
from encoders.lemmas.ways.relative import TO_ERROR
from encoders.registry import operators
from onnx_import.errors import ModelError
from onnx_import.graph import Graph
from refine.bounds.relative import Flow, flowed, output_precisions
from refine.domain.domain import Domain
from refine.proof.compose import first_failure, node_obligations
from refine.proof.proof import input_box

FOLLOWED = [op for op in sorted(RECIPES) if op in operators() and operators()[op].followed]
SEEDS = 45
RNG = np.random.default_rng(678)
Array = Any


def flow_of(trial: Trial) -> tuple[Graph, Flow] | None:
    """None where the graph is refused, or an obligation is open."""
    try:
        graph = graph_of(trial.model, trial.contract)
        domain = Domain((box_of(trial, graph),), "random", round_inputs=trial.rounded)
        box = input_box(domain.boxes[0], domain, trial.contract)
        with np.errstate(all="ignore"):
            flow = flowed(graph, box, trial.contract, lambda: None)
    except ModelError:
        return None
    owed = (o for group in node_obligations(flow.bounds).values() for o in group)
    return None if first_failure(owed) is not None else (graph, flow)


def limits_of(graph: Graph, flow: Flow, trial: Trial) -> dict[str, tuple[Array, Array, Array]]:
    """By output: the relative error, and an rtol with an atol."""
    found = {}
    with np.errstate(all="ignore"):
        known = output_precisions(graph, flow.bounds, trial.contract, flow.held)
    for name, p in known.items():
        if graph.types[name].dtype.is_float:
            whole, part = apply(TO_ERROR, g=p.absorbed), apply(TO_ERROR, g=p.precision)
            found[name] = whole.bound, part.bound, p.lost.bound
    return found


def executions(trial: Trial) -> Iterator[tuple[Mapping[str, Array], Mapping[str, Array]]]:
    """Exact values and what some execution gives, by tensor."""
    points, real = points_of(trial)
    rng, reals = np.random.default_rng(trial.seed + 2), Reals()
    fmt = format_of(trial.contract, trial.model.graph.input[0])
    exact = interpret(trial.model, {n: reals.ball(v) for n, v in real.items()}, reals)
    for _ in range(EXECUTIONS):
        yield exact, interpret(trial.model, points, Machine(fmt, trial.contract, rng, habits(rng)))


def wrong(exact: Array, value: Array, limits: tuple[Array, Array, Array]) -> Iterator[str]:
    whole, part, lost = (np.broadcast_to(v, exact.shape[1:]) for v in limits)
    exact = np.broadcast_to(exact, (value.shape[0], *exact.shape[1:]))
    for at in np.ndindex(*value.shape):
        real, off = exact[at], abs(flint.arb(float(value[at])) - exact[at])
        r, h, w = (float(v[at[1:]]) for v in (part, lost, whole))
        if math.isfinite(r) and math.isfinite(h) and off.lower() > (abs(real) * r + h).upper():
            yield f"{at}: {value[at]} for {real.str(8)}, rtol {r}, atol {h}"
        if math.isfinite(w) and off.lower() > (abs(real) * w).upper():
            yield f"{at}: {value[at]} for {real.str(8)}, relative error {w}"


def compared(trial: Trial) -> int:
    """How many outputs were held to their limits, none of which an execution leaves."""
    found = flow_of(trial)
    if found is None:
        return 0
    graph, flow = found
    limits, count = limits_of(graph, flow, trial), 0
    saved, flint.ctx.prec = flint.ctx.prec, BITS
    try:
        with np.errstate(all="ignore"):
            for exact, ran in executions(trial):
                for name, limit in limits.items():
                    balls = balls_of(exact[name])
                    assert not list(wrong(balls, ran[name], limit)), trial.seed
                    bound = np.asarray(flow.bounds.radii[name].bound)
                    assert above(name, balls, ran[name], bound) is None, trial.seed
                    count += 1
    except (Unread, Open):
        return count
    finally:
        flint.ctx.prec = saved
    return count


@pytest.mark.parametrize("part", range(3))
def test_no_execution_leaves_what_a_flow_of_precisions_says(part: int) -> None:
    seeds = range(part, SEEDS, 3)
    done = [compared(trial_of(s, FOLLOWED[s % len(FOLLOWED)] if s % 4 else None)) for s in seeds]
    assert sum(n > 0 for n in done) > len(seeds) // 3


LAYERS = {
    "logarithm of one score's softmax": (
        [helper.make_node("LogSoftmax", ["x"], ["y"], axis=-1)], (2, 1), (2, 1), {},
    ),
    "hyperbolic tangent of 0": (
        [helper.make_node("RNN", ["x", "w", "r"], ["y"], hidden_size=3, direction="forward")],
        (3, 2, 1), (3, 1, 2, 3),
        {"w": RNG.normal(size=(1, 3, 1)), "r": RNG.normal(size=(1, 3, 3))},
    ),
}  # fmt: skip


@pytest.mark.parametrize("layer", LAYERS)
def test_an_unknown_precision_is_not_taken_for_none(layer: str) -> None:
    nodes, shape, made, weights = LAYERS[layer]
    kind = TensorProto.FLOAT16
    given, found = (
        helper.make_tensor_value_info(n, kind, s) for n, s in (("x", shape), ("y", made))
    )
    stored = [numpy_helper.from_array(v.astype(np.float16), n) for n, v in weights.items()]
    graph = helper.make_graph(nodes, "layer", [given], [found], stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    low = {"x": np.zeros(shape)}
    assert compared(Trial(model, PRESETS["fp16"], low, {"x": low["x"] + 1.0}, 0))
