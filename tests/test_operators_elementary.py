"""Operators built on elementary functions: semantics against each other and against onnxruntime."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from operator_checks import (
    Described,
    Example,
    box_of,
    check_against_reference,
    check_bounds,
    check_maps,
    check_points,
    check_terms,
    ends,
    exact_values,
    example,
    graph_of,
    points,
)

from encoders.arithmetic.approximate_field import ApproximateReals
from encoders.contract.contract import Normalization
from encoders.contract.functions import ORT_FUNCTIONS
from encoders.contract.presets import IEEE_ANY, SEQUENTIAL
from encoders.numbers.enclosure import Interval
from encoders.operator import site_of
from encoders.registry import lookup
from gpu_check.emulator.emulator import emulate
from gpu_check.emulator.exact import evaluate_real
from onnx_import import load
from onnx_import.errors import UnsupportedModel
from refine.bounds.network import InputBox, network_bounds

rng = np.random.default_rng(11)


def one(op: str, shape: Any = (2, 3), name: str = "", inputs: str = "x", **more: Any) -> Example:
    rational = op in ("Softsign", "HardSigmoid", "HardSwish")
    return example(op, inputs, shape, name, rational=rational, exact=False, **more)


def weights(*shape: int) -> Any:
    return rng.uniform(-1.5, 1.5, shape)


SCALED = {"s": weights(3, 4), "b": weights(3, 4)}
CHANNELS = {"s": weights(4), "b": weights(4)}
EVERY = (
    *(one(op) for op in ("Exp", "Tanh", "Sigmoid", "Softplus", "Erf", "Softsign")),
    *(one(op) for op in ("Sin", "Cos", "Atan")),
    *(one(op) for op in ("Sinh", "Cosh", "Asinh")),
    *(one(op, lo=-0.9, hi=0.9) for op in ("Asin", "Acos", "Atanh")),
    one("Acosh", lo=1.0, hi=4.0),
    one("Tan", lo=-1.25, hi=1.5),
    one("Tan", name="another period", lo=5.0, hi=7.5),
    one("Log", lo=0.125, hi=5.0),
    one("Elu", alpha=0.7),
    one("Elu", name="negative alpha", alpha=-1.5),
    one("Selu"),
    one("Celu", alpha=0.3),
    one("HardSigmoid"),
    one("HardSigmoid", name="steep", alpha=0.3, beta=0.1),
    one("HardSwish", opset=14),
    one("Mish", opset=18),
    one("Gelu", opset=20),
    one("Gelu", name="tanh", opset=20, approximate="tanh"),
    one("Swish", opset=24),
    one("Swish", name="alpha", opset=24, alpha=1.7),
    one("Softmax"),
    one("Softmax", name="wide", lo=-25.0, hi=25.0),
    one("Softmax", (2, 3, 2), "coerced", opset=11, axis=1),
    one("Softmax", (2, 3, 2), "middle axis", axis=1),
    one("LogSoftmax"),
    one("LogSoftmax", (2, 3, 2), "first axis", axis=0),
    one("ReduceLogSumExp", (2, 3, 2), axes=[1], keepdims=0),
    one("ReduceL2", (2, 3, 2), axes=[0, 2], keepdims=1, lo=0.25),
    one("GlobalLpPool", (1, 2, 3), lo=0.25, p=3),
    one("LayerNormalization", (2, 3, 4), inputs="x s b", opset=17, axis=1, constants=SCALED),
    one(
        "LayerNormalization", (2, 4), "no bias", "x s", opset=17, epsilon=0.01,
        constants={"s": weights(4)},
    ),
    one("RMSNormalization", (2, 4), inputs="x s", opset=23, constants={"s": weights(4)}),
    one("InstanceNormalization", (2, 4, 3), inputs="x s b", constants=CHANNELS),
)  # fmt: skip
NORMALIZING = ("LayerNorm", "RMSNorm", "InstanceNorm")
NO_REFERENCE = (
    "GlobalLpPool",
    "Swish",
    "RMSNorm",
    "Mish",
    "Erf",
    "HardSwish",
    "Celu",
    "Gelu",
    "Softmax coerced",
)
ONLY_FLOAT32 = ("Celu",)  # onnx has no other form

every_example = pytest.mark.parametrize("case", EVERY, ids=lambda c: c.name)


@every_example
def test_maps_hold(case: Example) -> None:
    check_maps(case, dtype=np.float32 if case.name.startswith(ONLY_FLOAT32) else np.float64)


@every_example
def test_bounds_hold_at_points(case: Example) -> None:
    check_points(case)


@every_example
def test_bounds_hold(case: Example) -> None:
    """On a box away from where a normalised row is constant."""
    if case.name.startswith(NORMALIZING):
        case = replace(case, lo=0.75, hi=0.78125)
    check_bounds(case, count=6)


@every_example
def test_real_meaning_has_z3_terms_or_says_that_it_has_none(case: Example) -> None:
    check_terms(case)


@every_example
def test_real_meaning_is_the_reference(case: Example) -> None:
    if case.name.startswith(NO_REFERENCE):
        pytest.skip("the reference has none, or one of other precision")
    check_against_reference(case, count=3)


@every_example
def test_onnxruntime_is_within_the_bound(case: Example) -> None:
    """Each point its own box: ranges are points, so the bound is the rounding error there."""
    from gpu_check.runtimes.runtimes import OnnxRuntime, RuntimeUnavailable

    graph, raw = graph_of(case)
    try:
        runtime = OnnxRuntime(raw)
    except RuntimeUnavailable:
        pytest.skip("onnxruntime has no kernel for it")
    contract = replace(IEEE_ANY, name="ort", functions=ORT_FUNCTIONS)
    inputs = points(case, graph, 8, seed=4)
    exact = exact_values(case, graph, inputs)
    for i, values in enumerate(exact):
        x = inputs["x"][i].astype(np.float64)
        box = InputBox({"x": Interval(x, x)}, {"x": np.zeros(x.shape)})
        limit = network_bounds(graph, box, contract).errors["y"]
        got = np.asarray(runtime.run({"x": inputs["x"][i]})["y"])
        low, high = ends(values["y"])
        for at in np.ndindex(*got.shape):
            value = Fraction(float(got[at]))
            error = max(value - low[at], high[at] - value)
            assert error <= Fraction(float(limit[at])) + (high[at] - low[at]), (
                case.name,
                float(error),
                float(limit[at]),
                x,
            )


@pytest.mark.parametrize(
    ("case", "name"),
    [
        (one("Log", lo=-1.0, hi=2.0), "positive-argument"),
        (one("Log", lo=0.0, hi=2.0), "positive-argument"),
        (one("Exp", lo=0.0, hi=100.0), "no-overflow"),
    ],
    ids=("Log of a negative number", "Log of zero", "Exp overflows"),
)
def test_outside_the_domain_nothing_is_claimed(case: Example, name: str) -> None:
    graph, _ = graph_of(case)
    bounds = network_bounds(graph, box_of(case, graph), IEEE_ANY)
    assert np.all(np.isinf(bounds.errors["y"]))
    failed = [c for c in bounds.nodes[-1].rounding.preconditions if not c.holds]
    assert name in {c.name for c in failed}


def test_a_softmax_of_unbounded_scores_is_refused() -> None:
    graph, _ = graph_of(one("Softmax"))
    (node,) = graph.order
    x = Interval(np.full((2, 3), -np.inf), np.ones((2, 3)))
    site = site_of(graph, node)
    rounding = lookup(node).rounding(site, [x], x, IEEE_ANY)
    assert not all(c.holds for c in rounding.preconditions)
    assert np.all(np.isinf(rounding.radius.bound))
    range_ = lookup(node).values(site, [x]).range
    assert np.all((range_.lo == 0) & (range_.hi == 1))


@pytest.mark.parametrize("factor", [1e5, 1e9, 1e30])
def test_a_softmax_of_scores_far_apart_is_a_probability_all_the_same(factor: float) -> None:
    """Rounding alone moves such scores by more than 1, and the largest may become another."""
    nodes: tuple[Described, ...] = (("Mul", "x k", "s", {}), ("Softmax", "s", "y", {}))
    case = Example(
        "far", nodes, {"x": (1, 5)}, {"k": np.array(factor)}, exact=False, rational=False
    )
    graph, _ = graph_of(case)
    inputs = points(case, graph, 200)
    limit = network_bounds(graph, box_of(case, graph), IEEE_ANY).errors["y"]
    computed = emulate(graph, inputs, SEQUENTIAL)["y"].astype(np.float64)
    real = evaluate_real(graph, inputs, ApproximateReals(wide=True))["y"]
    assert np.all(np.abs(computed - np.asarray(real, np.float64)) <= limit)
    assert np.all(limit < 2.01)


def test_softmax_keeps_small_probabilities_accurate() -> None:
    """Errors are relative: a probability of e^-30 is not off by a float32 ulp of 1."""
    graph, _ = graph_of(one("Softmax", (1, 2)))
    x = np.array([[0.0, -30.0]])
    box = InputBox({"x": Interval(x, x)}, {"x": np.zeros((1, 2))})
    errors = network_bounds(graph, box, IEEE_ANY).errors["y"]
    assert errors[0, 1] < 1e-17


def test_softmax_of_scores_of_any_size_errs_by_a_few_roundings_of_one() -> None:
    """What rounding a large difference moves is behind an exponential that is small."""
    graph, _ = graph_of(one("Softmax", (1, 4)))
    (node,) = graph.order
    x = Interval(np.full((1, 4), -1e30), np.full((1, 4), 1e30))
    rounding = lookup(node).rounding(site_of(graph, node), [x], x, IEEE_ANY)
    assert np.max(rounding.radius.bound) < 64 * 2.0**-24


@pytest.mark.parametrize(
    ("case", "why"),
    [
        (one("HardSigmoid", alpha=-1.0), "alpha"),
        (one("Celu", alpha=-1.0), "alpha"),
        (one("Swish", opset=24, alpha=0.0), "alpha"),
    ],
    ids=lambda v: getattr(v, "name", v),
)
def test_uses_without_a_meaning_are_refused(case: Example, why: str) -> None:
    graph, _ = graph_of(case)
    with pytest.raises(UnsupportedModel, match=why):
        lookup(graph.order[0]).check(site_of(graph, graph.order[0]))


def test_group_normalization(tmp_path: Path) -> None:
    """Its type is not inferred by ONNX, so it needs a model of its own."""
    made = helper.make_model(
        helper.make_graph(
            [helper.make_node("GroupNormalization", ["x", "s", "b"], ["y"], num_groups=2)],
            "groups",
            [helper.make_tensor_value_info("x", 1, (2, 4, 3))],
            [helper.make_tensor_value_info("y", 1, (2, 4, 3))],
            [numpy_helper.from_array(v.astype(np.float32), k) for k, v in CHANNELS.items()],
        ),
        opset_imports=[helper.make_opsetid("", 21)],
        ir_version=10,
    )
    onnx.save(made, tmp_path / "groups.onnx")
    graph = load(tmp_path / "groups.onnx")
    x = rng.uniform(-1, 1, (5, 2, 4, 3)).astype(np.float32)
    box = InputBox(
        {"x": Interval(*(f(x, axis=0).astype(np.float64) for f in (np.min, np.max)))},
        {"x": np.zeros((2, 4, 3))},
    )
    by_hand = x.astype(np.float64).reshape(5, 2, 2, 6)
    by_hand = (by_hand - by_hand.mean(-1, keepdims=True)) / np.sqrt(
        by_hand.var(-1, keepdims=True) + np.float32(1e-5)
    )
    scale, bias = (CHANNELS[k].astype(np.float32)[:, None].astype(float) for k in "sb")
    want = by_hand.reshape(5, 2, 4, 3) * scale + bias
    for contract in (SEQUENTIAL, replace(SEQUENTIAL, normalization=Normalization.DIRECT)):
        limit = network_bounds(graph, box, contract).errors["y"]
        got = emulate(graph, {"x": x}, contract)["y"]
        assert np.all(np.abs(got - want) <= limit + 1e-12)
        assert np.max(np.abs(got - want)) < 1e-5
