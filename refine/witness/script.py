"""A counterexample as a script that anybody can run: numpy, onnxruntime and the model file."""

from __future__ import annotations

import ast
import base64
import hashlib
from fractions import Fraction
from pathlib import Path

import numpy as np

from gpu_check.runtimes.replay import NotReplayed, onnxruntime_options, replay_on_onnxruntime
from gpu_check.runtimes.runtimes import OPTIMIZATION_LEVELS, OnnxRuntimeOptions
from onnx_import.errors import ModelError
from onnx_import.files import read_plain
from onnx_import.graph import Graph
from refine.results.verdict import RealValue, Side, Witness
from refine.witness.witness import error_between, violates

_TEMPLATE = '''"""onnxruntime on one input against what is MEANT.

    python SCRIPT [MODEL.onnx]

Written by refine. Exit code 1: the error is above EPS (or the output is no finite number).
That value lies between LOW and HIGH, evaluated in exact and ball arithmetic from the weights in
the file, each read as the number it is.
"""

import base64
import hashlib
import math
import sys
from fractions import Fraction

import numpy as np
import onnxruntime

MEANT = {meant}
MODEL = {model}
SHA256 = {sha256}
OUTPUT, INDEX = {output}, {index}
EPS = Fraction({eps})
LOW = Fraction({lo})
HIGH = Fraction({hi})
INPUTS = {{
{inputs}
}}

path = sys.argv[1] if len(sys.argv) > 1 else MODEL
with open(path, "rb") as file:
    if hashlib.sha256(file.read()).hexdigest() != SHA256:
        sys.exit("this is not the model that the script was written for")
options = onnxruntime.SessionOptions()
options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.{level}
options.intra_op_num_threads = {threads}
options.inter_op_num_threads = 1
session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
feeds = {{
    name: np.frombuffer(base64.b64decode(data), dtype).reshape(shape)
    for name, (dtype, shape, data) in INPUTS.items()
}}
value = float(np.asarray(session.run([OUTPUT], feeds)[0])[INDEX])
print("held against", ascii(MEANT))
print("onnxruntime", onnxruntime.__version__, "gives", repr(value), value.hex())
{told}
if not math.isfinite(value):
    print("violated: the output is no finite number")
    sys.exit(1)
error = max(LOW - Fraction(value), Fraction(value) - HIGH, Fraction(0))
print("the error is at least", float(error), "and eps is", float(EPS))
print("violated" if error > EPS else "not violated here")
sys.exit(1 if error > EPS else 0)
'''


_REAL_VALUE = 'print("that should be", float(LOW), "give or take", float(HIGH - LOW))'
_NO_VALUE = 'print("there is no such value here")'


def script_of(
    witness: Witness,
    graph: Graph,
    epsilon: Fraction | None,
    spec: Side | None = None,
) -> str:
    """The text of a script that shows the violation on onnxruntime, of a network or, with `spec`,
    of an implementation whose specification's value is in the script.

    Raises ModelError where there is nothing to show: no ONNX file, a narrow format, or no way of
    running it in which onnxruntime violates ε (with no ε: in which it errs at all).
    """
    if graph.source is None or witness.execution.compute_format is not None:
        raise ModelError("--script needs a counterexample in the model's own types, with its file")
    real = witness.real or RealValue(Fraction(0), Fraction(0))
    limit = Fraction(0) if epsilon is None else epsilon
    options = _violating(witness, graph.source, limit)
    if options is None:
        raise ModelError(
            "--script: onnxruntime does not violate eps on this input, with optimisations or "
            "without; only the emulated execution does"
        )
    return _TEMPLATE.format(
        meant=_literal(_reference(spec)),
        model=_literal(str(graph.source)),
        sha256=_literal(hashlib.sha256(read_plain(graph.source)).hexdigest()),
        output=_literal(witness.output),
        index=_literal(tuple(int(i) for i in witness.index)),
        eps=_literal(str(limit)),
        lo=_literal(str(real.lo)),
        hi=_literal(str(real.hi)),
        told=_NO_VALUE if witness.real is None else _REAL_VALUE,
        inputs="\n".join(
            f"    {_literal(name)}: {_literal((v.dtype.name, v.shape, _encoded(v)))},"
            for name, v in witness.inputs.items()
        ),
        level=OPTIMIZATION_LEVELS[options.optimization],
        threads=options.threads,
    )


def _reference(spec: Side | None) -> str:
    if spec is None:
        return "the exact real value of the same network"
    if spec.contract.exact:
        return f"the exact real value of {spec.graph.source}"
    return f"what {spec.graph.source} gives, emulated: {spec.contract.name}"


def _literal(value: object) -> str:
    """Python's own literal, in ASCII, of what may come from a stranger's file: never code, since
    it reads back as the very same value."""
    text = ascii(value)
    if ast.literal_eval(text) != value:
        raise ModelError("--script: what was found cannot be written down")
    return text


def _violating(witness: Witness, model: Path, limit: Fraction) -> OnnxRuntimeOptions | None:
    for options in onnxruntime_options():
        outcome = replay_on_onnxruntime(model, witness.inputs, options)
        if isinstance(outcome, NotReplayed) or witness.output not in outcome.outputs:
            continue
        value = float(np.asarray(outcome.outputs[witness.output])[witness.index])
        if violates(error_between(value, witness.real), limit):
            return options
    return None


def _encoded(values: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> str:
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode("ascii")
