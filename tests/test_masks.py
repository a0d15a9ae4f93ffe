"""Stored −∞ in attention masks: what it means, and what becomes of a row masked throughout."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper
from operator_checks import (
    Described,
    Example,
    check_against_reference,
    check_bounds,
    check_maps,
    check_runtime,
    graph_of,
    model_of,
)
from small_models import settled

from encoders.contract.presets import SEQUENTIAL
from gpu_check.emulator.emulator import emulate
from onnx_import.errors import ModelError
from refine.gradients.nan_free import possible_tensors
from refine.results.verdict import Verdict

INF = np.inf
CAUSAL = np.array([[0, -INF, -INF], [0.5, 0, -INF], [0, 0.25, -1]])
FULL = np.array([[0, -INF, 0.5], [-INF, -INF, -INF], [-INF, 0, 1]])
ONE = np.array([[0, 0.5, -INF], [1, -INF, 0], [-INF, 0, 0.25]])
CHOICE = np.array([[True, False, True], [False, True, False], [True, True, True]])
MASKED: Described = ("Add", "x m", "t", {})
SOFTMAX: Described = ("Softmax", "t", "y", {})


def network(
    name: str, *nodes: Any, opset: int = 13, shape: tuple[int, ...] = (2, 3, 3), **constants: Any
) -> Example:
    return Example(name, nodes, {"x": shape}, constants, opset=opset, exact=False, rational=False)


CASES = (
    network("added", MASKED, SOFTMAX, m=CAUSAL),
    network("added along another axis", MASKED, ("Softmax", "t", "y", {"axis": 1}), m=CAUSAL),
    network("coerced", MASKED, ("Softmax", "t", "y", {"axis": 1}), opset=11, m=CAUSAL),
    network("chosen", ("Where", "c x n", "t", {}), SOFTMAX, c=CHOICE, n=np.array(-INF)),
    network(
        "chosen, added, moved",
        ("Where", "c z n", "w", {}),
        ("Unsqueeze", "w a", "m", {}),
        ("Transpose", "x", "u", {"perm": [0, 2, 1]}),
        ("Add", "m u", "s", {}),
        ("Sub", "s z", "t", {}),
        SOFTMAX,
        c=CHOICE,
        z=np.array(0.0),
        n=np.array(-INF),
        a=np.array([0]),
    ),
    network("two masks", ("Add", "x k", "s", {}), ("Add", "s m", "t", {}), SOFTMAX, m=CAUSAL,
            k=np.array([0.0, -INF, 0.0])),
    network(
        "logarithms",
        MASKED,
        ("LogSoftmax", "t", "l", {}),
        ("Add", "l x", "s", {}),
        ("Exp", "s", "y", {}),
        m=CAUSAL,
    ),
    network(
        "a masked row that nobody reads",
        MASKED,
        ("Softmax", "t", "s", {}),
        ("Identity", "s", "c", {}),
        ("Where", "dead z c", "y", {}),
        m=FULL,
        dead=np.array([[False], [True], [False]]),
        z=np.array(0.0),
    ),
    network(
        "logarithms of a masked row that nobody reads",
        MASKED,
        ("LogSoftmax", "t", "s", {}),
        ("Where", "dead z s", "c", {}),
        ("Exp", "c", "y", {}),
        m=FULL,
        dead=np.array([[False], [True], [False]]),
        z=np.array(0.0),
    ),
    network("a stored triangle", ("Trilu", "n one", "m", {}), MASKED, SOFTMAX, opset=14,
            n=np.full((3, 3), -INF), one=np.array(1)),
    network("a lower triangle", ("Trilu", "n one", "m", {"upper": 0}), MASKED, SOFTMAX, opset=14,
            n=np.full((3, 3), -INF), one=np.array([-2])),
    network("a triangle of computed scores", MASKED, ("Trilu", "t", "u", {"upper": 0}),
            ("Softmax", "u", "y", {}), opset=14, m=ONE),
)  # fmt: skip

NO_REFERENCE = (  # of opset 11; 0/0 thrown away
    "coerced",
    "a masked row that nobody reads",
    "logarithms of a masked row that nobody reads",
)


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_a_mask_of_infinities(case: Example) -> None:
    graph, _ = graph_of(case)
    assert all(np.all(np.isfinite(v)) for v in graph.constants.values())
    assert 0 < check_bounds(case) <= 1
    assert check_bounds(case, np.float16) <= 1
    check_maps(case)
    check_runtime(case)
    if case.name not in NO_REFERENCE:
        check_against_reference(case)


@pytest.fixture
def saved(tmp_path: Path) -> Any:
    def save(case: Example) -> Path:
        onnx.save(model_of(case), tmp_path / "model.onnx")
        return tmp_path / "model.onnx"

    return save


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_onnxruntime_conforms_beside_a_mask(case: Example, saved: Any) -> None:
    """Its own tensors hold −∞, or NaN in a row that nobody reads, where the graph here has finite
    numbers."""
    result = settled(saved(case), contract="ort-cpu", conform=True, search=False)
    assert result.conduct is not None
    assert result.conduct.honours is True


def test_a_causal_mask_as_exporters_write_it(saved: Any) -> None:
    """A constant of −∞ of some shape, and the triangle above the diagonal of it."""
    fill = numpy_helper.from_array(np.array([-INF], np.float32))
    made = network(
        "causal", ("ConstantOfShape", "size", "n", {"value": fill}), ("Trilu", "n one", "m", {}),
        MASKED, SOFTMAX, opset=14, size=np.array([3, 3]), one=np.array(1),
    )  # fmt: skip
    stored = network("stored", MASKED, SOFTMAX, m=np.where(np.tri(3) > 0, 0.0, -INF))
    assert settled(saved(made)).bound == settled(saved(stored)).bound < 1e-5


def test_a_row_masked_throughout_is_not_a_number(saved: Any) -> None:
    model = saved(network("full", MASKED, SOFTMAX, m=FULL))
    result = settled(model, eps="1e-5")
    assert result.verdict is Verdict.VIOLATED
    witness = result.witness
    assert witness is not None
    assert np.isnan(witness.value)
    assert witness.index[1] == 1
    assert witness.real is None
    seen = np.asarray(onnxruntime.InferenceSession(model).run(None, dict(witness.inputs))[0])
    assert np.isnan(seen[witness.index])
    unsearched = settled(model, eps="1e-5", search=False)
    assert unsearched.verdict is Verdict.UNKNOWN
    assert "Softmax" in unsearched.reason
    assert "row [0, 1] is entirely masked, and its softmax is 0/0: NaN" in unsearched.reason


@pytest.mark.parametrize("sentinel", [-1e4, -1e9, float(np.finfo(np.float32).min)])
def test_a_finite_sentinel_masks_as_well(saved: Any, sentinel: float) -> None:
    """Its large rounding error is behind an exponential that vanishes."""
    case = network("sentinel", MASKED, SOFTMAX, m=np.maximum(ONE, sentinel))
    assert check_bounds(case) <= 1
    check_runtime(case)
    result = settled(saved(case), eps="2e-6")
    assert result.verdict is Verdict.VERIFIED
    assert result.bounds["y"][0, 0, 2] < 1e-30


def test_a_row_of_sentinels_forgets_its_scores(saved: Any) -> None:
    """-1e9 + s is the same float for all scores s: uniform weights where the reals have others."""
    model = saved(network("full", MASKED, SOFTMAX, m=np.maximum(FULL, -1e9)))
    result = settled(model, eps="1e-5")
    assert result.verdict is Verdict.VIOLATED
    witness = result.witness
    assert witness is not None
    assert witness.value == np.float32(1 / 3)
    assert witness.real is not None
    seen = np.asarray(onnxruntime.InferenceSession(model).run(None, dict(witness.inputs))[0])
    assert seen[witness.index] == witness.value


@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax"])
def test_the_emulation_of_a_masked_row_is_onnxruntimes(op: str) -> None:
    """NaN in the same places, −∞ in the same places."""
    case = network("full", MASKED, (op, "t", "y", {}), m=FULL)
    graph, raw = graph_of(case)
    assert {"Softmax": "MaskedSoftmax", "LogSoftmax": "MaskedLogSoftmax"}[op] in {
        n.op for n in graph.order
    }
    x = np.random.default_rng(3).uniform(-2, 2, (2, 3, 3)).astype(np.float32)
    want = np.asarray(onnxruntime.InferenceSession(raw).run(None, {"x": x})[0])
    with np.errstate(all="ignore"):
        got = emulate(graph, {"x": x[None]}, SEQUENTIAL)["y"][0]
    assert np.isnan(want).sum() == 6
    np.testing.assert_allclose(got, want, rtol=1e-5)


def test_a_logarithm_of_a_masked_probability_is_no_number(saved: Any) -> None:
    model = saved(network("logarithms", MASKED, ("LogSoftmax", "t", "y", {}), m=CAUSAL))
    result = settled(model, eps="1e-5")
    assert result.verdict is Verdict.VIOLATED
    assert result.witness is not None
    assert result.witness.value == -INF
    assert settled(model, eps="1e-5", search=False).verdict is Verdict.UNKNOWN


@pytest.mark.parametrize(
    ("case", "why"),
    [
        (network("used", MASKED, ("Tanh", "t", "y", {}), m=FULL), "(Tanh) reads -inf from 't'"),
        (
            network("product", ("Mul", "x m", "t", {}), SOFTMAX, m=FULL),
            "initializer 'm' holds an infinite value",
        ),
        (
            network("taken away", ("Sub", "x m", "t", {}), SOFTMAX, m=FULL),
            "initializer 'm' holds an infinite value",
        ),
        (
            network("plus", MASKED, SOFTMAX, m=-FULL),
            "initializer 'm' holds an infinite value",
        ),
        (
            network(
                "computed", ("Greater", "x z", "c", {}), ("Where", "c x m", "t", {}), SOFTMAX,
                m=FULL, z=np.array(0.0),
            ),
            "initializer 'm' holds an infinite value",
        ),
    ],
    ids=lambda v: getattr(v, "name", ""),
)  # fmt: skip
def test_elsewhere_an_infinity_is_refused(case: Example, why: str) -> None:
    with pytest.raises(ModelError, match=re.escape(why)):
        graph_of(case)


@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax"])
@pytest.mark.parametrize("odd", [INF, -INF, np.nan])
def test_a_score_left_out_that_is_no_number_spoils_its_row(op: str, odd: float) -> None:
    """−∞ is added to it when the file runs: +∞ − ∞ is NaN, and a choice does not read it."""
    mask = np.array([[0, 0, -INF], [0, 0, 0]])
    nodes: tuple[Described, ...] = (("Div", "x d", "q", {}),)
    added = network("added", *nodes, ("Add", "q m", "t", {}), (op, "t", "y", {}), m=mask)
    chosen = network("chosen", *nodes, ("Where", "c q n", "t", {}), (op, "t", "y", {}),
                     c=mask == 0, n=np.array(-INF))  # fmt: skip
    x, d = np.ones((1, 2, 3)), np.ones((1, 2, 3))
    x[0, 0, 2], d[0, 0, 2] = (0.0 if np.isnan(odd) else np.sign(odd)), 0.0
    every = {"x": (np.minimum(x[0], 0) - 1, np.abs(x[0])), "d": (np.zeros((2, 3)), d[0])}
    for example in (added, chosen):
        example = replace(example, inputs=dict.fromkeys("xd", (2, 3)))
        session = onnxruntime.InferenceSession(model_of(example).SerializeToString())
        feed = {"x": x[0].astype(np.float32), "d": d[0].astype(np.float32)}
        runs = np.asarray(session.run(None, feed)[0])
        graph, _ = graph_of(example)
        emulated = emulate(graph, {"x": x, "d": d}, SEQUENTIAL)["y"][0]
        kept = np.isnan(runs[0, :2])  # logarithms of the others are put back as −∞
        assert np.array_equal(kept, np.isnan(emulated[0, :2])), (runs, emulated)
        for box in (every, {"x": (x[0], x[0]), "d": (d[0], d[0])}):
            at = possible_tensors(graph, box, SEQUENTIAL)["y"]
            assert np.all(at.nan[0, 0, :2] | ~kept), (example.name, at.nan)
        if example.name.startswith("chosen"):
            assert not np.any(at.nan)


BEYOND = np.array([1.0, 3e38, 1.0])


@pytest.mark.parametrize(
    "case",
    [
        network("added", ("Mul", "x b", "l", {}), ("Add", "l m", "k", {}), ("Add", "k l", "t", {}),
                SOFTMAX, m=ONE[:1], b=BEYOND[[0, 2, 1]]),
        network("taken", ("Mul", "x b", "l", {}), ("Neg", "l", "n", {}), ("Sub", "m n", "k", {}),
                ("Sub", "k n", "t", {}), ("LogSoftmax", "t", "p", {}), ("Exp", "p", "y", {}),
                m=ONE[:1], b=BEYOND[[0, 2, 1]]),
        network("both", ("Mul", "x b", "l", {}), ("Add", "l m", "k", {}), ("Add", "k k", "j", {}),
                ("Add", "k j", "t", {}), ("Exp", "t", "y", {}), m=ONE[:1], b=BEYOND[[0, 2, 1]]),
        network("in a smaller type", ("Mul", "x b", "l", {}), ("Add", "l m", "t", {}),
                ("Cast", "t", "h", {"to": 10}), ("Softmax", "h", "q", {}),
                ("Cast", "q", "y", {"to": 1}), m=ONE[:1], b=BEYOND[[0, 2, 1]]),
    ],
    ids=lambda c: c.name,
)  # fmt: skip
def test_arithmetic_after_a_mask_overflows_nowhere(case: Example, saved: Any) -> None:
    """−∞ stays −∞ whatever is added to it, and in any type."""
    assert settled(saved(case), eps="0.2").verdict is Verdict.VERIFIED
    x = np.full((2, 3, 3), 1, np.float32)
    session = onnxruntime.InferenceSession(model_of(case).SerializeToString())
    for given in (x, -x):
        assert np.all(np.isfinite(np.asarray(session.run(None, {"x": given})[0])))
    graph, _ = graph_of(case)
    ends = {"x": (np.full(x.shape, -1.0), np.full(x.shape, 1.0))}
    assert not np.any(possible_tensors(graph, ends, SEQUENTIAL)["y"].nan)


def test_an_infinity_that_meets_a_mask_twice_is_no_number() -> None:
    """Arithmetic goes on from −∞, and from the NaN that +∞ − ∞ is."""
    case = network("late", ("Div", "one x", "q", {}), ("Add", "x m", "k", {}),
                   ("Add", "k q", "t", {}), SOFTMAX, m=ONE[:1], one=np.array(1.0))  # fmt: skip
    first = network("early", ("Div", "one x", "q", {}), ("Add", "q m", "k", {}),
                    ("Add", "k x", "t", {}), SOFTMAX, m=ONE[:1], one=np.array(1.0))  # fmt: skip
    x = np.ones((2, 3, 3))
    x[0, 0, 2] = 0.0
    for example in (case, first):
        graph, _ = graph_of(example)
        session = onnxruntime.InferenceSession(model_of(example).SerializeToString())
        (run,) = session.run(None, {"x": x.astype(np.float32)})
        emulated = emulate(graph, {"x": x[None]}, SEQUENTIAL)["y"][0]
        assert np.array_equal(np.isnan(np.asarray(run)), np.isnan(emulated))
        assert np.all(np.isnan(emulated[0, 0]))
        assert np.all(possible_tensors(graph, {"x": (x, x)}, SEQUENTIAL)["y"].nan[0, 0, 0])
