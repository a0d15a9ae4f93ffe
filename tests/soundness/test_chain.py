"""Known orders: sums followed step by step, in formats so small that roundings are coarse."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from math import ceil, log2
from typing import Any

import numpy as np
import pytest

from encoders.arithmetic.numpy_arithmetic import NumpyArithmetic
from encoders.arithmetic.values import Inputs
from encoders.contract.contract import Blocked, RuntimeContract
from encoders.contract.presets import PAIRWISE, SEQUENTIAL, SEQUENTIAL_FMA
from encoders.numbers.enclosure import Interval
from encoders.numbers.formats import BINARY32, FloatFormat, round_array, small_format
from encoders.operator import Site
from encoders.ops.products import matmul
from encoders.rounding import closed_chain, sequential_chain
from encoders.rounding.error_arithmetic import traced
from encoders.rounding.tracked import Tracked
from onnx_import.graph import DType, Node, TensorType

BLOCKED = replace(SEQUENTIAL_FMA, name="blocked", order=Blocked(5))
CONTRACTS = (SEQUENTIAL, SEQUENTIAL_FMA, BLOCKED, PAIRWISE)
FORMATS = (small_format(4, 3), small_format(4, 5), small_format(5, 4))


def product_site(weights: np.ndarray | None, terms: int, columns: int) -> Site:
    node = Node("mm", "MatMul", inputs=("x", "w"), outputs=("y",), attributes={}, opset=17)
    x = TensorType(DType.FLOAT64, (1, terms))
    w = TensorType(DType.FLOAT64, (terms, columns))
    return Site(node, (x, w), (TensorType(DType.FLOAT64, (1, columns)),), (None, weights))


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda c: c.name)
@pytest.mark.parametrize("fmt", FORMATS, ids=lambda f: f.name)
def test_followed_sums_hold_on_every_sample(contract: RuntimeContract, fmt: FloatFormat) -> None:
    assert closest_of_samples(contract, fmt, lambda *a: matmul.rounding(*a).radius.bound) > 0.3


@pytest.mark.parametrize("contract", CONTRACTS[:3], ids=lambda c: c.name)
@pytest.mark.parametrize("fmt", FORMATS, ids=lambda f: f.name)
def test_very_many_sums_hold_on_every_sample(
    contract: RuntimeContract, fmt: FloatFormat, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Chains that are not followed step by step, because there are so many."""
    made: list[Tracked] = []

    def spied(*arguments: Any) -> Tracked | None:
        found = closed_chain.closed_chain(*arguments)
        made.extend([] if found is None else [found])
        return found

    monkeypatch.setattr(sequential_chain, "_LARGEST_STACK", 0)
    monkeypatch.setattr(sequential_chain, "closed_chain", spied)

    def bounded(site: Site, inputs: list[Interval], _: Interval, rule: RuntimeContract) -> Any:
        return traced(matmul.runtime, site, inputs, rule).radius.bound

    assert closest_of_samples(contract, fmt, bounded) > 0.1
    assert made


def closest_of_samples(
    contract: RuntimeContract, fmt: FloatFormat, bounded: Callable[..., Any]
) -> float:
    """The largest error seen beside its bound; none may be above."""
    pinned = replace(contract, compute_format=fmt)
    rng = np.random.default_rng(7)
    closest = 0.0
    for _ in range(30):
        terms = int(rng.integers(4, 13))
        weights = round_array(rng.normal(0, 0.5, (terms, 3)), fmt)
        low = round_array(rng.normal(0, 0.4, (1, terms)), fmt)
        high = np.maximum(low, round_array(low + rng.exponential(0.3, low.shape), fmt))
        site = product_site(weights, terms, 3)
        x = Interval(low, high)
        bound = bounded(site, [x], x, pinned)
        assert np.all(np.isfinite(bound))
        samples = round_array(low + (high - low) * rng.random((400, 1, terms)), fmt)
        samples[:2] = low, high
        arithmetic = NumpyArithmetic(fmt, pinned)
        stored = arithmetic.constant(weights)
        (computed,) = matmul.runtime(site, Inputs((samples, stored)), arithmetic, pinned)
        # Exact: the numbers have few bits, so that these float64 products and sums do not round.
        error = np.abs(computed - samples @ weights).max(axis=0)
        assert np.all(error <= bound)
        closest = max(closest, float(np.max(error / np.maximum(bound, 2.0**-60))))
    return closest


@pytest.mark.parametrize("terms", [4, 16, 64, 256])
def test_a_dot_product_is_bounded_as_tightly_as_by_gappa(terms: int) -> None:
    """Left to right in float32, both vectors in [-1, 1]: Gappa 1.4.1 proves n·2⁻²⁵ +
    Σ_{k=2..n} 2^(⌈log₂k⌉−25)."""
    one = np.ones((1, terms))
    x, y = Interval(-one, one), Interval(-one.T, one.T)
    site = product_site(None, terms, 1)
    contract = replace(SEQUENTIAL, compute_format=small_format(8, 24))
    result = Interval(np.full((1, 1), -float(terms)), np.full((1, 1), float(terms)))
    (bound,) = matmul.rounding(site, [x, y], result, contract).radius.bound.ravel()
    gappa = Fraction(terms, 2**25)
    gappa += sum(Fraction(2 ** ceil(log2(k)), 2**25) for k in range(2, terms + 1))
    assert Fraction(float(bound)) <= gappa * (1 + Fraction(1, 10**9))
    assert Fraction(float(bound)) >= gappa * (1 - Fraction(1, 10**9))


@pytest.mark.parametrize("contract", [SEQUENTIAL, SEQUENTIAL_FMA, BLOCKED], ids=lambda c: c.name)
def test_what_is_guessed_of_an_error_changes_no_bound(
    contract: RuntimeContract, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half the work where the guess is a good one, and the same bound whatever it is."""
    rng = np.random.default_rng(3)
    weights = rng.normal(0, 0.5, (60, 5)).astype(np.float32).astype(np.float64)
    low = rng.normal(0, 0.4, (1, 60)).astype(np.float32).astype(np.float64)
    x, pinned = Interval(low, low + 0.25), replace(contract, compute_format=BINARY32)
    looks: list[int] = []
    guess, steps = sequential_chain._Chain._guess, sequential_chain._Chain._steps

    def looked(chain: Any, error: Any) -> Any:
        looks[-1] += 1
        return steps(chain, error)

    monkeypatch.setattr(sequential_chain._Chain, "_steps", looked)
    bounds = []
    for factor in (1.0, 0.0, 0.1, 30.0):

        def guessed(chain: Any, *given: Any, factor: float = factor) -> Any:
            return guess(chain, *given) * factor

        monkeypatch.setattr(sequential_chain._Chain, "_guess", guessed)
        looks.append(0)
        bounds.append(traced(matmul.runtime, product_site(weights, 60, 5), [x], pinned).radius)
    for found in bounds:
        assert np.all(found.bound > 0)
        np.testing.assert_allclose(found.bound, bounds[0].bound, rtol=1e-5)
    chains = looks[0]
    assert looks == [chains, 2 * chains, 2 * chains, chains]
