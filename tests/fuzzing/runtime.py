"""onnxruntime as a third opinion: what it gives on random graphs, held against the bounds of the
contracts that speak of it, and rows of a batch held against the rows alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import flint
import numpy as np
import onnx
import onnxruntime
from graphs import random_graph
from interpreter import interpret
from reading import Unread
from reals import BITS, Open, Reals
from trial import Finding, Trial, above, balls_of, bounded, points_of, sampled

from encoders.contract.presets import IEEE_ANY, ORT_CPU
from onnx_import.errors import ModelError

Array = Any
# its coordinates are float32, and its constants in float64 kernels; said in notes and in the table
PARTS = ("Resize", "Upsample")
NARROW = (onnx.TensorProto.FLOAT8E4M3FN, onnx.TensorProto.FLOAT8E5M2)


def runtime_trial(seed: int, first: str | None = None) -> Trial:
    """A float32 graph under a contract that onnxruntime keeps, as far as it is known."""
    rng = np.random.default_rng(seed)
    return sampled(random_graph(rng, first), IEEE_ANY if seed % 3 else ORT_CPU, rng, seed)


def judged(trial: Trial) -> tuple[str, list[Finding]]:
    """What became of it, in a word, and where onnxruntime leaves the bounds."""
    kinds = {v.type.tensor_type.elem_type for v in trial.model.graph.input}
    made = {v.type.tensor_type.elem_type for v in trial.model.graph.output}
    if kinds != {onnx.TensorProto.FLOAT} or made & set(NARROW):  # these come out as their bits
        return "not float32", []
    if {n.op_type for n in trial.model.graph.node} & set(PARTS):
        return "parts from ONNX", []
    try:
        ran = run(trial.model, points_of(trial)[0])
    except onnxruntime.capi.onnxruntime_pybind11_state.NotImplemented:
        return "not run", []
    except Exception as error:  # what it refuses is no fault of a bound
        return f"not run: {type(error).__name__}", []
    try:
        bounds = bounded(trial).bounds
    except ModelError as error:
        return ("refused: " + str(error))[:200], []
    saved, flint.ctx.prec = flint.ctx.prec, BITS
    try:
        with np.errstate(all="ignore"):
            reals = Reals()
            given = {n: reals.ball(v) for n, v in points_of(trial)[1].items()}
            exact = interpret(trial.model, given, reals)
        for name, bound in bounds.items():
            found = above(name, balls_of(exact[name]), ran[name], np.asarray(bound))
            if found is not None:
                return "left", [Finding(f"runtime {found.kind}", found.text)]
    except Unread as error:
        return f"unread: {error}", []
    except Open:
        return "open", []
    finally:
        flint.ctx.prec = saved
    return "kept", []


def run(model: onnx.ModelProto, points: Mapping[str, Array]) -> dict[str, Array]:
    """Outputs for every sample, as the graph is written, on one thread."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    names = [o.name for o in session.get_outputs()]
    samples = len(next(iter(points.values())))
    rows = [
        session.run(names, {n: v[k].astype(np.float32) for n, v in points.items()})
        for k in range(samples)
    ]
    return {
        n: np.stack([np.asarray(r[i]) for r in rows]).astype(np.float64)
        for i, n in enumerate(names)
    }
