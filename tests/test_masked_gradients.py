"""Gradients of softmaxes behind stored masks of −∞: files that runtimes run, and what is NaN."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from operator_checks import Example, graph_of, model_of
from test_masks import CASES, FULL, INF, MASKED, ONE, SOFTMAX, network

import refine
from gpu_check.runtimes.runtimes import OnnxRuntime
from onnx_import.errors import UnsupportedModel
from onnx_import.onnx.reader import load
from onnx_import.onnx.writer import model_of as written
from refine.gradients.checking import checked
from refine.gradients.request import Request
from refine.results.verdict import Verdict

UNREAD = tuple(case for case in CASES if "nobody reads" in case.name)
READ = (
    *(case for case in CASES if case not in UNREAD),
    network("logarithms of one axis", MASKED, ("LogSoftmax", "t", "l", {"axis": 1}),
            ("Exp", "l", "e", {}), ("Mul", "e e", "y", {}), m=ONE),
)  # fmt: skip
Numbers = npt.NDArray[np.float64]


def ran(data: bytes, **given: Numbers) -> Numbers:
    (found,) = OnnxRuntime(data).run(given).values()
    return np.asarray(found, np.float64)


@pytest.mark.parametrize("case", READ, ids=lambda c: c.name)
def test_the_gradient_behind_a_mask_is_the_derivative(case: Example, tmp_path: Path) -> None:
    """Of onnxruntime on the model's own file, by central differences in float64; and the file is
    read again as what was written."""
    graph, model = graph_of(case, np.float64)
    gradient = Request().gradient_of(graph)
    data = written(gradient, "gradient").SerializeToString()
    rng = np.random.default_rng(3)
    x = rng.uniform(case.lo, case.hi, graph.types["x"].shape)
    up = rng.normal(size=graph.types["y"].shape)
    slopes = np.zeros(x.shape)
    for place in np.ndindex(x.shape):
        moved = np.zeros(x.shape)
        moved[place] = 1e-5
        slopes[place] = np.sum(up * (ran(model, x=x + moved) - ran(model, x=x - moved))) / 2e-5
    np.testing.assert_allclose(ran(data, x=x, upstream=up), slopes, atol=1e-9)
    path = tmp_path / "gradient.onnx"
    path.write_bytes(data)
    again = written(load(path), "again").SerializeToString()
    assert np.array_equal(ran(again, x=x, upstream=up), ran(data, x=x, upstream=up))


@pytest.mark.parametrize("case", READ, ids=lambda c: c.name)
def test_rules_behind_masks_are_right(case: Example) -> None:
    graph = graph_of(case)[0]
    x = np.random.default_rng(5).uniform(case.lo, case.hi, graph.types["x"].shape)
    rows = list(checked(graph, {"x": x.astype(np.float32)}, ask_z3=False))
    assert any(row.op.startswith("Masked") for row in rows)
    assert all(row.right for row in rows), rows


def test_second_derivatives_behind_a_mask() -> None:
    """Which of two equal probabilities a mask keeps is what a Hessian sees of it."""
    graph, _ = graph_of(network("one", MASKED, ("Softmax", "t", "p", {}),
                                ("Mul", "p p", "y", {}), m=ONE), np.float64)  # fmt: skip
    first = Request(ones=True).gradient_of(graph)
    second = Request(of="grad_x").gradient_of(first)
    one, two = (written(g, "derivative").SerializeToString() for g in (first, second))
    rng = np.random.default_rng(2)
    x, v = rng.normal(size=(2, 2, 3, 3))
    along = (ran(one, x=x + 1e-5 * v) - ran(one, x=x - 1e-5 * v)) / 2e-5
    np.testing.assert_allclose(ran(two, x=x, upstream=v), along, atol=1e-9)


@pytest.mark.parametrize("case", UNREAD, ids=lambda c: c.name)
def test_the_derivative_of_a_row_that_keeps_nothing_is_refused(case: Example) -> None:
    """It is NaN, though the row is not read, as it is in every framework."""
    with pytest.raises(UnsupportedModel, match="leaves out all scores of a row"):
        Request().gradient_of(graph_of(case)[0])


@pytest.mark.parametrize(
    ("case", "verdict"),
    [
        (network("causal", MASKED, SOFTMAX, m=ONE), Verdict.VERIFIED),
        (network("late", ("Div", "x x", "q", {}), ("Add", "q m", "t", {}), SOFTMAX, m=ONE), None),
        (network("all", MASKED, SOFTMAX, m=FULL), None),
    ],
    ids=lambda c: getattr(c, "name", ""),
)
def test_gradients_that_may_be_no_number(
    case: Example, verdict: Verdict | None, tmp_path: Path
) -> None:
    onnx.save(model_of(case), tmp_path / "model.onnx")
    asked: dict[str, Any] = {"budget": 0.0, "search": 0.5, "conform": False, "z3": "none"}
    result = refine.check(tmp_path / "model.onnx", claim="gradient-safe", input="-1e30..1e30",
                          **asked)  # fmt: skip
    if verdict is None:
        assert result.verdict is not Verdict.VERIFIED
    else:
        assert result.verdict is verdict


def test_a_score_of_infinity_behind_a_mask_makes_no_gradient_safe() -> None:
    """What is left out is added to −∞ in the file, and +∞ − ∞ is NaN of a whole row."""
    case = network("quotient", ("Div", "one x", "q", {}), ("Add", "q m", "t", {}), SOFTMAX,
                   m=ONE, one=np.array(1.0))  # fmt: skip
    data = written(Request(ones=True).gradient_of(graph_of(case)[0]), "g").SerializeToString()
    x = np.ones((2, 3, 3), np.float32)
    x[0, 0, 2] = 0.0
    assert ONE[0, 2] == -INF
    (found,) = OnnxRuntime(data).run({"x": x}).values()
    assert np.all(np.isnan(np.asarray(found)[0, 0]))
