"""One case judged: our semantics against ONNX's reference evaluator, onnxruntime and our bounds."""

from __future__ import annotations

import multiprocessing
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from grid_cases import Case, Made, made_of
from grid_known import known_parting
from onnx.reference import ReferenceEvaluator

from encoders.arithmetic.approximate_field import ApproximateReals
from encoders.contract.presets import IEEE_ANY, SEQUENTIAL
from encoders.numbers.enclosure import Interval
from encoders.program import program_of
from gpu_check.emulator.emulator import emulate
from gpu_check.emulator.exact import evaluate_real
from onnx_import import load
from onnx_import.errors import ModelError
from onnx_import.graph import DType, Graph
from refine.bounds.network import InputBox, network_bounds
from refine.claims.kinds.accuracy import check
from refine.claims.options import Options
from refine.domain.domain import DomainOptions, read_domain
from refine.lemmas.cache import default_directory
from refine.results.verdict import Tolerance

EPSILON = {"float16": 2.0**-10, "bfloat16": 2.0**-7, "float32": 2.0**-23, "float64": 2.0**-52}


@dataclass(frozen=True)
class Judged:
    """`word` says what became of it; `text` says what is wrong, and is empty otherwise."""

    word: str
    text: str = ""
    refusal: str = ""


def serve(pipe: Any) -> None:
    """Runs models that come through the pipe, in a process that onnxruntime may bring down."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    while True:
        model, given = pipe.recv()
        try:
            pipe.send(onnxruntime.InferenceSession(model, options).run(None, given))
        except Exception as error:
            pipe.send(str(error))


class Onnxruntime:
    """onnxruntime in a process of its own, started again where a model ends it."""

    def __init__(self) -> None:
        self.start()

    def start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=serve, args=(other,), daemon=True)
        self.process.start()
        other.close()

    def run(self, made: Made) -> Any:
        """The outputs, or why there are none."""
        given = {t: np.array(v) for t, v in made.given.items()}
        try:
            self.pipe.send((made.model.SerializeToString(), given))
            return self.pipe.recv()
        except (EOFError, OSError):
            self.process.join()
            self.start()
            return "it ended the process"


def by_reference(made: Made) -> Any:
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = ReferenceEvaluator(made.model).run(None, dict(made.given))
            return [np.asarray(v) for v in found]
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def parting(ours: Any, theirs: Any, dtype: str, strict_type: bool = True) -> str:
    """In what two arrays differ by more than rounding."""
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    if ours.shape != theirs.shape:
        return f"shape {ours.shape}, not {theirs.shape}"
    if strict_type and ours.dtype != theirs.dtype:
        return f"type {ours.dtype}, not {theirs.dtype}"
    a, b = (v.astype(np.longdouble) for v in (ours, theirs))
    dtype = max((dtype, theirs.dtype.name), key=lambda name: EPSILON.get(name, 0.0))
    finite = np.isfinite(b)
    if not np.array_equal(np.isfinite(a), finite):
        return f"finite where it is not: {a.reshape(-1)[:6]}, not {b.reshape(-1)[:6]}"
    eps = EPSILON.get(dtype, 2.0**-23)
    size = max(1.0, float(np.max(np.abs(b[finite]), initial=0.0)))
    off = np.abs(a - b)[finite] > 40 * eps * (size if ours.dtype.kind not in "iub" else 0)
    if np.any(off):
        worst = np.max(np.abs(a - b)[finite])
        shown = [v.reshape(-1)[:6] for v in (ours, theirs)]
        return f"values off by {float(worst):.3g}: {shown[0]}, not {shown[1]}"
    return ""


IN_SINGLE = (
    *("Erf", "Gelu", "HardSwish", "LayerNormalization", "RMSNormalization", "GroupNormalization"),
    *("Resize", "Upsample", "Attention", "LRN", "GridSample", "RoiAlign"),
)


def precision(case: Case) -> str:
    """The coarsest type in which one of them computes. The reference, or a runtime by the text,
    computes some operators on float64 with numbers of float32."""
    if case.parameters.get("stash_type") == 10:
        return "float16"
    return "float32" if case.dtype == "float64" and case.op in IN_SINGLE else case.dtype


def judge(case: Case, folder: Path, runtime: Onnxruntime, seed: int = 0) -> Judged:
    made = made_of(case, seed)
    path = folder / "model.onnx"
    path.write_bytes(made.model.SerializeToString())
    try:
        graph = program_of(load(path)).checked.graph
    except ModelError as error:
        return Judged("refused", refusal=str(error))
    except Exception as error:
        return Judged("crashed", f"load: {type(error).__name__}: {error}")
    samples = {name: value[np.newaxis] for name, value in made.given.items()}
    samples = {name: value for name, value in samples.items() if name in graph.inputs}
    field = ApproximateReals(wide=True)
    try:
        with np.errstate(all="ignore"):
            run = [np.asarray(emulate(graph, samples, SEQUENTIAL)[t])[0] for t in graph.outputs]
            exact = evaluate_real(graph, {n: field.constant(made.given[n]) for n in samples}, field)
        real = [np.asarray(exact[t])[0] for t in graph.outputs]
    except Exception as error:
        return Judged("crashed", f"evaluation: {type(error).__name__}: {error}")
    for got, t in zip(real, graph.outputs, strict=True):
        if got.shape != graph.types[t].shape:
            return Judged(
                "wrong", f"real semantics of shape {got.shape}, not {graph.types[t].shape}"
            )
    text, theirs = by_reference(made), runtime.run(made)
    wrong = []
    for who, found in (("reference", text), ("onnxruntime", theirs)):
        if isinstance(found, str):
            continue
        if who == "onnxruntime" and program_of(graph).notes:
            continue
        if known_parting(who, case):
            continue
        for i, (a, r, b) in enumerate(zip(run, real, found, strict=True)):
            part = parting(a, b, precision(case))
            if part:
                wrong.append(f"{who}: emulation of output {i}: {part}")
            part = parting(r, b, precision(case), strict_type=False)
            if part:
                wrong.append(f"{who}: real semantics of output {i}: {part}")
    if wrong:
        return Judged("wrong", "; ".join(wrong))
    bounds = _bounds(graph, samples, run, real)
    if bounds:
        return Judged("bounds", bounds)
    if isinstance(text, str) and isinstance(theirs, str):
        return Judged("alone", refusal=f"{text[:150]} | {theirs[:150]}")
    both = not isinstance(text, str) and not isinstance(theirs, str)
    return Judged("both" if both else "reference" if not isinstance(text, str) else "onnxruntime")


def checked(path: Path) -> Judged | None:
    """What escapes from a check of the whole model, if anything does."""
    try:
        graph = load(path)
        domain = read_domain(graph, DomainOptions(inputs=("0..1",)), IEEE_ANY.format_of)
        check(graph, domain, IEEE_ANY, Tolerance(), Options(None, default_directory()))
    except ModelError:
        return None
    except Exception as error:
        return Judged("crashed", f"check: {type(error).__name__}: {error}")
    return None


def _bounds(graph: Graph, samples: Any, run: Sequence[Any], real: Sequence[Any]) -> str:
    """What is wrong with the bounds at this very point, and around it in any order."""
    for width, contract in ((0.0, SEQUENTIAL), (0.25, IEEE_ANY)):
        box = {t: _around(graph.types[t].dtype, v[0], width) for t, v in samples.items()}
        zeros = {t: np.zeros(v.lo.shape) for t, v in box.items()}
        try:
            with np.errstate(all="ignore"), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                maps = network_bounds(graph, InputBox(box, zeros), contract).maps
        except ModelError:
            return ""
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        for t, a, r in zip(graph.outputs, run, real, strict=True):
            if t in maps.errors and np.all(np.isfinite(r.astype(float))):
                why = _beyond(maps.values[t], maps.errors[t], a, r)
                if why:
                    return f"{why} ({contract.name}, width {width})"
    return ""


def _around(kind: DType, value: Any, width: float) -> Interval:
    """Numbers around a value, integers a little farther; both truth values."""
    v = np.asarray(value, np.float64)
    if kind is DType.BOOL:
        return Interval(v * (width == 0.0), np.maximum(v, float(width > 0.0)))
    reach = width if kind.is_float else 4.0 * width
    return Interval(v - reach, v + reach)


def _beyond(held: Interval, limit: Any, run: Any, real: Any) -> str:
    if limit.shape != real.shape:
        return f"bound of shape {limit.shape}, not {real.shape}"
    slack = 1e-14 * (1 + np.max(np.abs(real), initial=0))  # the real value is only approximate
    if not np.all((held.lo - slack <= real) & (real <= held.hi + slack)):
        return "values leave their enclosure"
    off = np.abs(run.astype(np.longdouble) - real)
    if np.any(np.isfinite(off) & (off > limit + slack)):
        return f"error {float(np.max(off)):.3g} above its bound"
    return ""
