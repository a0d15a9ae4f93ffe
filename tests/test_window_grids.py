"""Windows against ONNX's reference and onnxruntime over small grids of their attributes.

What is accepted must be what onnxruntime computes, unless a note of the result says that it parts
from the specification, and what ONNX's reference computes, unless it is known to be wrong.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from encoders.arithmetic.approximate_field import ApproximateReals
from encoders.contract.presets import SEQUENTIAL
from encoders.program import program_of
from gpu_check.emulator.emulator import emulate
from gpu_check.emulator.exact import evaluate_real
from onnx_import import load
from onnx_import.errors import ModelError

SPATIAL = (3, 4)
PADS: tuple[dict[str, Any], ...] = (
    {},
    {"auto_pad": "NOTSET", "pads": [0, 1]},
    {"pads": [1, 0]},
    {"auto_pad": "VALID"},
    {"auto_pad": "SAME_UPPER"},
    {"auto_pad": "SAME_LOWER"},
)


@dataclass(frozen=True)
class Case:
    op: str
    shape: tuple[int, ...]
    attributes: dict[str, Any]
    weights: tuple[int, ...] | None = None
    opset: int = 22

    def model(self) -> Any:
        rng = np.random.default_rng(0)
        stored = []
        if self.weights is not None:
            values = rng.integers(-4, 5, self.weights).astype(np.float32)
            stored = [numpy_helper.from_array(values, "W")]
        node = helper.make_node(self.op, ["x", *(t.name for t in stored)], ["y"], **self.attributes)
        made = helper.make_model(
            helper.make_graph(
                [node],
                "windows",
                [helper.make_tensor_value_info("x", TensorProto.FLOAT, self.shape)],
                [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
                stored,
            ),
            opset_imports=[helper.make_opsetid("", self.opset)],
        )
        made.ir_version = 8
        return made

    def given(self) -> Any:
        rng = np.random.default_rng(1)
        values = rng.integers(1, 9, self.shape) * rng.choice([-1, 1], self.shape)
        return values.astype(np.float32)


def pools(op: str) -> Iterator[Case]:
    counts = (0, 1) if op == "AveragePool" else (0,)
    grid = itertools.product(SPATIAL, (1, 2, 3), (1, 2, 3), (1, 2), (0, 1), counts, PADS)
    for n, k, s, d, ceil, count, pads in grid:
        attributes = {"kernel_shape": [k], "strides": [s], "dilations": [d], "ceil_mode": ceil}
        more = {"count_include_pad": count} if op == "AveragePool" else {}
        more = {"p": 1 + (n + k) % 2} if op == "LpPool" else more
        yield Case(op, (1, 1, n), attributes | more | pads)


def older(op: str, opset: int) -> Iterator[Case]:
    """As models of this opset, of which ONNX infers other lengths; every third of them."""
    return (replace(case, opset=opset) for case in itertools.islice(pools(op), 0, None, 3))


def convolutions() -> Iterator[Case]:
    for n, k, s, d, pads in itertools.product(SPATIAL, (1, 2, 3), (1, 2, 3), (1, 2), PADS):
        yield Case("Conv", (1, 1, n), {"strides": [s], "dilations": [d]} | pads, (2, 1, k), 17)


def transposed() -> Iterator[Case]:
    for n, k, s, d in itertools.product((1, 3), (1, 2, 3), (1, 2, 3), (1, 2)):
        for extra, pads, more in itertools.product((0, 1), PADS, (None, -1, 0, 1)):
            wanted = {} if more is None or n * s + more < 1 else {"output_shape": [n * s + more]}
            attributes = {"strides": [s], "dilations": [d], "output_padding": [extra]}
            if extra < max(s, d):
                yield Case("ConvTranspose", (1, 2, n), attributes | pads | wanted, (2, 2, k), 17)


def planes() -> Iterator[Case]:
    """Two and three axes at once, with groups."""
    rng = np.random.default_rng(3)
    for i in range(90):
        rank = 2 + i % 2
        op = ("Conv", "ConvTranspose", "MaxPool", "AveragePool", "LpPool")[i % 5]
        draw = [rng.integers(1, 4, rank).tolist() for _ in range(3)]
        kernel, strides, dilations = draw[0], draw[1], [min(d, 2) for d in draw[2]]
        pads = [int(rng.integers(0, k)) for k in (*kernel, *kernel)]
        mode = rng.choice(["NOTSET", "NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"])
        attributes = {"strides": strides, "dilations": dilations, "auto_pad": str(mode)}
        if mode == "NOTSET":
            attributes["pads"] = pads
        spatial = (5, 4, 3)[:rank]
        if "Conv" not in op:
            ceil = {"ceil_mode": i // 5 % 2}
            yield Case(op, (2, 2, *spatial), attributes | {"kernel_shape": kernel} | ceil)
            continue
        if op == "ConvTranspose":
            attributes["output_padding"] = [s - 1 for s in strides]
        weights = (4, 2, *kernel) if op == "Conv" else (4, 3, *kernel)
        yield Case(op, (2, 4, *spatial), attributes | {"group": 2}, weights, 17)


def is_wrong_in_reference(case: Case) -> str:
    """Why ONNX's reference evaluator is not what its text says here; empty where it should be."""
    given = case.attributes
    mode = given.get("auto_pad", "NOTSET")
    if case.op == "ConvTranspose" and "output_shape" in given and not mode.startswith("SAME"):
        return "pads follow from output_shape, and the reference takes those it is given"
    if case.op == "ConvTranspose":
        return "" if case.attributes.get("group", 1) == 1 else "it gives one channel to a group"
    dilated = max(given["dilations"]) > 1
    if mode == "SAME_LOWER" and max(given["strides"]) > 1:
        return "it rounds the output's extents down"
    if (
        case.op == "MaxPool"
        and len(case.shape) == 3
        and given.get("pads", [0])[0] != sum(given.get("pads", [0])[1:])
    ):
        return "it takes uneven pads of one axis for even ones"
    if mode == "VALID" and dilated:
        return "it leaves dilations out"
    if given.get("ceil_mode") and case.op in ("AveragePool", "LpPool"):
        return "its last window takes elements that are not there"
    return ""


def by_onnxruntime(made: Any, x: Any) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        return onnxruntime.InferenceSession(made.SerializeToString(), options).run(None, {"x": x})[
            0
        ]
    except Exception:
        return None  # it refuses some pads


def by_reference(made: Any, x: Any) -> Any:
    try:
        with np.errstate(all="ignore"):
            (found,) = ReferenceEvaluator(made).run(None, {"x": x})
            return np.asarray(found)
    except Exception:
        return None  # it cannot compute some windows of its own


GRIDS: dict[str, tuple[Callable[[], Iterator[Case]], int]] = {
    "MaxPool": (lambda: pools("MaxPool"), 200),
    "AveragePool": (lambda: pools("AveragePool"), 350),
    "LpPool": (lambda: pools("LpPool"), 200),
    "MaxPool of opset 12": (lambda: older("MaxPool", 12), 60),
    "AveragePool of opset 19": (lambda: older("AveragePool", 19), 100),
    "LpPool of opset 18": (lambda: older("LpPool", 18), 60),
    "Conv": (convolutions, 150),
    "ConvTranspose": (transposed, 700),
    "two and three axes": (planes, 40),
}


@pytest.mark.parametrize("name", GRIDS)
def test_windows_are_those_of_onnx(name: str, tmp_path: Path) -> None:
    cases, least = GRIDS[name]
    path = tmp_path / "model.onnx"
    accepted = compared = 0
    for case in cases():
        made, x = case.model(), case.given()
        path.write_bytes(made.SerializeToString())
        try:
            graph = program_of(load(path)).checked.graph
        except ModelError:
            continue
        accepted += 1
        field = ApproximateReals()
        (output,) = graph.outputs
        real = np.asarray(evaluate_real(graph, {"x": field.constant(x)}, field)[output])[0]
        run = np.asarray(emulate(graph, {"x": x[None]}, SEQUENTIAL)[output])[0]
        np.testing.assert_allclose(run, real.astype(float), rtol=1e-5, atol=1e-5, err_msg=str(case))
        said = program_of(graph).notes
        theirs, text = by_onnxruntime(made, x), by_reference(made, x)
        if theirs is not None and not any("onnxruntime leaves" in note for note in said):
            compared += 1
            assert run.shape == theirs.shape, case
            np.testing.assert_allclose(run, theirs, rtol=1e-5, atol=1e-5, err_msg=str(case))
        if text is not None and not is_wrong_in_reference(case):
            assert run.shape == text.shape, case
            np.testing.assert_allclose(run, text, rtol=1e-5, atol=1e-5, err_msg=str(case))
    assert compared >= least, (accepted, compared)


def test_what_is_read_differently_is_refused_or_said(tmp_path: Path) -> None:
    """MaxPool with auto_pad and dilations: the note says that onnxruntime parts, and it does."""
    case = Case(
        "MaxPool", (1, 1, 4), {"kernel_shape": [2], "dilations": [2], "auto_pad": "SAME_UPPER"}
    )
    path = tmp_path / "model.onnx"
    path.write_bytes(case.model().SerializeToString())
    graph = load(path)
    assert any("onnxruntime leaves" in note for note in program_of(graph).notes)
    theirs = by_onnxruntime(case.model(), case.given())
    assert theirs.shape != graph.types["y"].shape
