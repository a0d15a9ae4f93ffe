"""Operators in a format of four bits: every number of the format, each in a range of its own.

An element's range begins and ends at numbers of the format, often at 0 or among the subnormal ones,
so that a loss which in float32 is far below what other errors cover is as large as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
from operator_checks import Example, example, graph_of

from encoders.arithmetic.approximate_field import ApproximateReals
from encoders.arithmetic.values import Inputs
from encoders.contract.contract import Contraction, RuntimeContract, Subnormals
from encoders.contract.presets import IEEE_ANY, SEQUENTIAL
from encoders.numbers.enclosure import Interval
from encoders.numbers.formats import FloatFormat, round_array, small_format
from encoders.operator import site_of
from encoders.registry import lookup
from gpu_check.emulator.emulator import emulate
from onnx_import.graph import Graph
from refine.bounds.network import InputBox, network_bounds

FORMAT, FINER = small_format(5, 4), small_format(5, 9)
"""The finer one is for sums of squares; nothing is known of them where roundings are too coarse."""
SUBNORMAL = 2.0 ** (FORMAT.emin - 3)
ELEMENTS, SAMPLES = 120, 30
KEEP, FLUSH, EITHER = Subnormals


def elements(op: str, name: str = "", **attributes: Any) -> Example:
    return example(op, "x", (ELEMENTS,), name=name, **attributes)


def row(op: str, inputs: str, width: int, constants: Mapping[str, Any], **more: Any) -> Example:
    return example(op, inputs, (ELEMENTS, width), name=f"of {width}", constants=constants, **more)


POWERS = tuple(
    example("Pow", "x w", (ELEMENTS,), name=str(n), constants={"w": np.array(n)}, lo=0.25)
    for n in (0.3, 0.5, 2.9, 3.1)
)
THIRD = np.array([[1 / 3, -1.7]])
CASES = (
    elements("Elu", "steep", alpha=8.0),
    elements("Elu", "flat", alpha=0.3),
    elements("Selu"),
    elements("Sigmoid"),
    elements("Softplus"),
    elements("Tanh"),
    elements("Swish", alpha=1.7, opset=24),
    elements("LeakyRelu", alpha=0.3),
    elements("LeakyRelu", "subnormal", alpha=5.0 * SUBNORMAL),
    elements("HardSigmoid", alpha=0.3, beta=0.4),
    elements("HardSwish", opset=14),
    example(
        "Clip",
        "x low high",
        (ELEMENTS,),
        constants={"low": np.array(-0.7), "high": np.array(1 / 3)},
    ),
    elements("Clip", "attributes", min=-0.7, max=1 / 3, opset=7),
    example("Mul", "x w", (ELEMENTS,), constants={"w": np.array(1 / 3)}),
    example("Div", "x w", (ELEMENTS,), constants={"w": np.array(0.7)}),
    example("Sub", "w x", (ELEMENTS,), constants={"w": np.array(0.7)}),
    row("Gemm", "x w b", 1, {"w": THIRD, "b": np.array([0.7, 2.0**-20])}),
    row("Gemm", "x w b", 2, {"w": THIRD.T @ THIRD, "b": np.array([0.7, 0.0])}),
    row("MatMul", "x w", 2, {"w": THIRD.T}),
    row("ReduceL2", "x", 2, {}, axes=[1], keepdims=0),
    row("ReduceL2", "x", 1, {}, axes=[1], keepdims=0),
    row("ReduceSum", "x", 2, {}, opset=11, axes=[1], keepdims=0),
    row("ReduceMean", "x", 3, {}, axes=[1], keepdims=0),
    row("ReduceSumSquare", "x", 2, {}, axes=[1], keepdims=0),
)

STEPS = np.linspace(0.9, 1.1, 6)
FINER_CASES = tuple(
    row(op, inputs, 6, constants, opset=opset, lo=-8.0, hi=8.0, **more)
    for op, inputs, constants, opset, more in (
        ("LayerNormalization", "x s b", {"s": STEPS / 64, "b": STEPS / 3}, 17, {}),
        ("LayerNormalization", "x s", {"s": STEPS / 3}, 17, {}),
        ("RMSNormalization", "x s", {"s": STEPS / 3}, 23, {}),
        ("Softmax", "x", {}, 13, {}),
        ("LogSoftmax", "x", {}, 13, {}),
        ("ReduceLogSumExp", "x", {}, 13, {"axes": [1], "keepdims": 0}),
    )
)


def contracts(fmt: FloatFormat) -> Iterator[tuple[RuntimeContract, tuple[RuntimeContract, ...]]]:
    """Contracts that leave subnormal numbers open, or not, and what they allow."""
    for results, operands in product((KEEP, FLUSH, EITHER), repeat=2):
        open_ = replace(SEQUENTIAL, results=results, operands=operands, compute_format=fmt)
        ways = [
            replace(open_, results=r, operands=o)
            for r in ((KEEP, FLUSH) if results is EITHER else (results,))
            for o in ((KEEP, FLUSH) if operands is EITHER else (operands,))
        ]
        yield open_, tuple(ways)
    free = replace(IEEE_ANY, compute_format=fmt)
    fused = replace(SEQUENTIAL, contraction=Contraction.ALWAYS, compute_format=fmt)
    yield free, (replace(SEQUENTIAL, compute_format=fmt), fused)


def ranges(rng: np.random.Generator, shape: tuple[int, ...], fmt: FloatFormat) -> Interval:
    """Ends among the numbers of the format: points, ranges that begin or end at 0, and others."""
    scale = 2.0 ** np.where(
        rng.random(shape) < 0.5, *(rng.integers(a, 6, shape) for a in (-18, -1))
    )
    a, b = (round_array(rng.normal(0, 1, shape) * scale, fmt) for _ in range(2))
    kind = rng.integers(0, 5, shape)
    b = np.where(kind == 0, a, np.where(kind == 1, 0.0, np.where(kind == 2, -a, b)))
    return Interval(np.minimum(a, b), np.maximum(a, b))


def inside(rng: np.random.Generator, x: Interval, fmt: FloatFormat) -> np.ndarray:
    t = rng.random((SAMPLES, *x.shape))
    found = round_array(x.lo + (x.hi - x.lo) * t, fmt)
    small = rng.integers(-12, 12, found.shape) * SUBNORMAL
    found = np.where(rng.random(found.shape) < 0.3, small, found)
    found[0], found[1] = x.lo, x.hi
    return np.clip(found, x.lo, x.hi)


def real_values(graph: Graph, given: np.ndarray) -> np.ndarray:
    """In float64, right to some 1e-15."""
    fields = ApproximateReals()
    (node,) = graph.order
    site = site_of(graph, node)
    arguments = [
        None if kind is None else given if constant is None else fields.constant(constant)
        for kind, constant in zip(site.inputs, site.constants, strict=True)
    ]
    with fields.working():
        (y, *_) = lookup(node).real(site, Inputs(arguments), fields)
    return np.asarray(y, np.float64)


@pytest.mark.parametrize("case", [*CASES, *POWERS], ids=lambda c: c.name)
def test_bounds_hold_of_coarse_executions(case: Example) -> None:
    rng = np.random.default_rng(1)
    x = ranges(rng, case.inputs["x"], FORMAT)
    if case.lo > 0.0:
        x = Interval(np.clip(x.lo, case.lo, 4.0), np.clip(x.hi, case.lo, 4.0))
    assert _checked(case, x, inside(rng, x, FORMAT), FORMAT) > 0.4


@pytest.mark.parametrize("case", FINER_CASES, ids=lambda c: f"{c.name} {list(c.constants)}")
def test_bounds_hold_at_points(case: Example) -> None:
    """Ranges without width, in which rounding is all that a bound has to hold."""
    rng = np.random.default_rng(3)
    far = 24.0 if "Log" in case.name else 3.0  # where the last addition rounds most
    at = round_array(rng.choice([0.0, far], (ELEMENTS, 1)) + rng.normal(0, 1, (ELEMENTS, 6)), FINER)
    assert _checked(case, Interval(at, at), at[None], FINER) > 0.1


def _checked(case: Example, x: Interval, samples: np.ndarray, fmt: FloatFormat) -> float:
    """No execution leaves the bounds; the largest part of one that an error takes."""
    graph, _ = graph_of(case, np.float64)
    shape = case.inputs["x"]
    box = InputBox({"x": x}, {"x": np.zeros(shape)})
    exact = real_values(graph, samples)
    slack = 1e-13 * (1.0 + np.abs(exact))
    seen = 0.0
    for contract, ways in contracts(fmt):
        maps = network_bounds(graph, box, contract).maps
        held, limit = maps.values["y"], maps.errors["y"]
        assert np.mean(np.isfinite(limit)) > 0.8, contract.describe()
        assert np.all((held.lo <= exact + slack) & (exact - slack <= held.hi))
        for way in ways:
            with np.errstate(all="ignore"):
                computed = emulate(graph, {"x": samples}, way)["y"].astype(np.float64)
            error = np.abs(computed - exact)
            assert np.all(error <= limit + slack), way.describe()
            some = np.broadcast_to((limit > 1e-9) & np.isfinite(limit), error.shape)
            at = np.broadcast_to(limit, error.shape)
            seen = max(seen, float(np.max(error[some] / at[some], initial=0.0)))
    return seen


def test_a_sum_of_squares_that_is_always_rounded_one_way_is_charged() -> None:
    """Rows of one number each: the additions of their squares all lose, or all gain."""
    contract = replace(SEQUENTIAL, compute_format=small_format(5, 11))
    at = np.tile((1.0 + np.arange(0, 1024, 16) / 1024.0)[:, None], (1, 256))
    ones = np.ones(at.shape[1])
    case = example("RMSNormalization", "x s", at.shape, opset=23, constants={"s": ones})
    graph, _ = graph_of(case, np.float64)
    (node,) = graph.order
    site, operator = site_of(graph, node), lookup(node)
    result = Interval(np.full(at.shape, 0.99), np.full(at.shape, 1.01))
    limit = operator.rounding(site, [Interval(at, at)], result, contract).radius.bound
    (computed,) = emulate(graph, {"x": at[None]}, contract).values()
    error = np.abs(computed[0] - at / np.sqrt(at * at + 1e-5))
    assert np.all(error <= limit)
    assert np.max(error / limit) > 0.05
