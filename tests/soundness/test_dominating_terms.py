"""Rounding bounds where one constant outweighs the others, at points, where nothing hides them.

A bound over a wide range has room for a rounding that was forgotten; over a point, with one stored
number of a thousand and others of a thousandth, every rounding of the large one counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from onnx.reference import ReferenceEvaluator
from operator_checks import Example, model_of
from ort_schedule import ORT_PLAIN
from semantics import Stand, emulated, exact_array, real_values, stand

from encoders.contract.contract import Normalization, Subnormals
from encoders.contract.presets import SEQUENTIAL, SEQUENTIAL_FMA
from encoders.numbers.enclosure import Interval
from encoders.registry import operators
from examples import EXAMPLES, every_example, example, node
from onnx_import.errors import UnsupportedModel

CONTRACTS = (
    SEQUENTIAL,
    SEQUENTIAL_FMA,
    replace(SEQUENTIAL, name="flush", results=Subnormals.FLUSH, operands=Subnormals.FLUSH),
    *(replace(ORT_PLAIN, normalization=way) for way in Normalization if way.value != "either"),
)
POINTS = 5
ROOTED = {"v"}
"""Variances in the examples, of which the roots are rational as they are."""


def scaled(given: Example, rng: np.random.Generator) -> Example:
    """Each stored tensor times a factor of its own."""
    constants = {name: np.asarray(v) for name, v in given.constants.items()}
    for name, v in constants.items():
        if v.dtype.kind == "f" and name not in ROOTED:
            constants[name] = v * rng.choice([1e-3, 1.0, 1e3]).astype(v.dtype)
    return replace(given, constants=constants)


def failures(s: Stand, count: int) -> Iterator[str]:
    rng = s.rng
    for _ in range(count):
        named: dict[str, Any] = {}
        for position, shape in zip(s.site.variable, s.shapes(), strict=True):
            scale = rng.choice([1e-40, 1e-20, 1e-2, 1.0, 100.0])
            value = (scale * rng.standard_normal(shape)).astype(s.dtype).astype(np.float64)
            named.setdefault(s.site.node.inputs[position], value)
        points = [named[s.site.node.inputs[i]] for i in s.site.variable]
        ranges = [Interval(p, p) for p in points]
        range_ = s.operator.values(s.site, ranges).range
        exact = real_values(s, [p[None] for p in points])[0]
        for contract in CONTRACTS:
            bound = s.operator.rounding(s.site, ranges, range_, contract)
            held = [p[None].astype(s.dtype) for p in points]
            computed = exact_array(emulated(s, held, contract)[0])
            if not np.all(abs(computed - exact) <= exact_array(bound.radius.bound)):
                yield f"a rounding error is above the bound under {contract.name}"


@pytest.mark.parametrize("name", EXAMPLES)
def test_rounding_at_points_beside_scaled_constants(name: str) -> None:
    operator, rng = operators()[name], np.random.default_rng(1)
    for given in EXAMPLES[name]:
        try:
            here = stand(operator, scaled(given, rng))
            operator.check(here.site)
        except UnsupportedModel:
            continue
        assert not list(failures(here, POINTS))


@pytest.mark.parametrize("name", ["LeakyRelu", "PRelu", "Clip", "Abs", "Neg", "Max", "ReduceSum"])
def test_rounding_at_points_of_all_sizes(name: str) -> None:
    """Operators that copy or sum, where subnormal numbers may be lost."""
    for given in every_example()[name]:
        if len(given.nodes) == 1 and given.rational:
            assert not list(failures(stand(operators()[name], given), 2 * POINTS))


@pytest.mark.parametrize("bias", [0.0, 333.25])
def test_every_rounding_of_a_normalized_row_counts(bias: float) -> None:
    """Against onnx.reference in float64; every contract's formula, many points."""
    single = example(
        node("InstanceNormalization", "x g b", "y"), x=(1, 3, 4), g=[2.0**-10] * 3, b=[bias] * 3
    )
    here = stand(operators()["InstanceNormalization"], single)
    reference, rng = ReferenceEvaluator(model_of(single, np.float64)), np.random.default_rng(5)
    for _ in range(60):
        x = rng.standard_normal((1, 3, 4)).astype(np.float32)
        wide = Interval(x.astype(np.float64), x.astype(np.float64))
        (expected,) = reference.run(None, {"x": wide.lo})
        range_ = here.operator.values(here.site, [wide]).range
        for contract in CONTRACTS:
            radius = here.operator.rounding(here.site, [wide], range_, contract).radius.bound
            error = np.abs(emulated(here, [x[None]], contract)[0] - expected)
            assert np.all(error <= radius + 1e-12 * np.abs(expected)), contract.name


def test_the_last_addition_of_a_log_sum_counts() -> None:
    """max + log Σ: where the maximum is large, everything else is exact to its last bits."""
    here = stand(
        operators()["ReduceLogSumExp"],
        replace(example(node("ReduceLogSumExp", "x", "y", axes=[1]), x=(1, 2)), opset=13),
    )
    rng = np.random.default_rng(2)
    for top in rng.uniform(8192.0, 16384.0, 40).astype(np.float32):
        x = np.array([[top, top - np.float32(rng.uniform(0.0, 1.0))]], np.float32)
        wide = Interval(x.astype(np.float64), x.astype(np.float64))
        expected = np.logaddexp.reduce(wide.lo, axis=1, keepdims=True)
        range_ = here.operator.values(here.site, [wide]).range
        radius = here.operator.rounding(here.site, [wide], range_, SEQUENTIAL).radius.bound
        assert np.all(np.abs(emulated(here, [x[None]], SEQUENTIAL)[0] - expected) <= radius)
