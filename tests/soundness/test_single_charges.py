"""Charges and parts that others hide in a whole bound, each held to what it stands for alone."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from given_radii import off_by
from onnx import helper
from operator_checks import FLUSHING, Example, example, graph_of
from small_models import save

from encoders.arithmetic.values import Inputs
from encoders.contract.contract import OpenSchedule, RuntimeContract
from encoders.contract.presets import CUDA_FP16, EXACT, IEEE_ANY, SEQUENTIAL
from encoders.families.images import interpolation, resizing
from encoders.families.images.interpolation import action_of
from encoders.families.images.sampling import computed_terms, held_products, off_weights
from encoders.families.products import ProductSum, product_rounding
from encoders.families.rows import normalization_errors
from encoders.families.rows.normalization import normalized
from encoders.families.rows.normalization_errors import normalization_error
from encoders.functions.exp import EXP
from encoders.lemmas.combining import EXACT as NOTHING_LOST
from encoders.lemmas.kernel import exactly_zero
from encoders.numbers.enclosure import Interval
from encoders.numbers.formats import BINARY16, BINARY32
from encoders.operator import Operator, Site, site_of
from encoders.ops.elementary.pow import _by_function
from encoders.ops.movement import grid_sample
from encoders.quantized.dynamic_products import _reached
from encoders.registry import lookup
from encoders.rounding.error_arithmetic import ErrorArithmetic
from encoders.rounding.norms import norm_moved
from encoders.rounding.proportions import Proportion
from encoders.rounding.relative_arithmetic import RelativeArithmetic
from encoders.rounding.rounding_bounds import Rounder
from encoders.rounding.scattered import ScatterArithmetic, Scattered
from encoders.rounding.tracked import Tracked
from encoders.traits import Absorption
from onnx_import import load
from onnx_import.graph import Graph
from refine.bounds.local.leaning import total_up

PAIR = {"x": (2, 3), "z": (2, 3)}
ROUNDER = Rounder(BINARY32, exact=False, flush_results=False, flush_operands=False)


def site_and_operator(case: Example) -> tuple[Site, Operator]:
    graph, _ = graph_of(case)
    return only_node(graph)


def only_node(graph: Graph) -> tuple[Site, Operator]:
    (node,) = graph.order
    return site_of(graph, node), lookup(node)


def point(values: Any) -> Interval:
    held = np.asarray(values, np.float64)
    return Interval(held, held)


# --- products -------------------------------------------------------------------------------------


def test_steps_that_are_aligned_are_as_many_of_two_computed_factors() -> None:
    """What tensor cores cut off is the same whether a factor is stored."""
    rng = np.random.default_rng(0)
    x, w = (rng.uniform(0.5, 1.0, s).astype(np.float32) for s in ((1, 40), (40, 1)))
    shapes = {"x": x.shape, "w": w.shape}
    found = []
    for case in (
        example("MatMul", "x w", {"x": x.shape}, constants={"w": w}),
        example("MatMul", "x w", shapes),
    ):
        site, operator = site_and_operator(case)
        inputs = [point(x), point(w)][: len(case.inputs)]
        result = operator.values(site, inputs).range
        found.append(operator.rounding(site, inputs, result, CUDA_FP16).radius.bound.item())
    stored, computed = found
    assert computed >= stored * (1.0 - 1e-9)


@pytest.mark.parametrize("fmt", [None, BINARY16])
def test_products_of_weights_of_places_are_rounded(
    monkeypatch: pytest.MonkeyPatch, fmt: Any
) -> None:
    """Once more than the sum of products knows of, in the format that is computed in."""
    grid = np.array([[[[-0.3, 0.1], [0.4, -0.7]]]])
    case = example("GridSample", "x g", (1, 1, 3, 3), "", {"g": grid}, opset=20)
    site, _ = site_and_operator(case)
    contract = replace(IEEE_ANY, compute_format=fmt)
    x = Interval(np.full((1, 1, 3, 3), -2.0), np.full((1, 1, 3, 3), 3.0))

    def known(*given: Any) -> Any:
        places, errors, sizes = off_weights(*given)
        return places, 0.0 * errors, sizes

    monkeypatch.setattr(grid_sample, "off_weights", known)
    result = grid_sample.values(site, [x]).range
    found = grid_sample.rounding(site, [x], result, contract).radius.bound
    index, weights = computed_terms(site)
    held = held_products(index, weights)
    terms = ProductSum(action_of(site, index), held, None)
    alone = product_rounding(site, terms, [x], contract, grid_sample.runtime).radius.bound
    unit = float((fmt or BINARY32).unit_roundoff)
    assert np.all(found - alone >= unit * 3.0 * np.sum(np.abs(held), axis=0) * (1.0 - 1e-6))


@pytest.mark.parametrize("high", [3.0, 0.7, 1e-3])
def test_numbers_on_a_grid_of_their_own_are_kept(high: float) -> None:
    """Without rounding the largest number is 255 steps, and 0 none, whatever the steps are."""
    rng = np.random.default_rng(1)
    case = example("Identity", "x", (1, 2))
    site, _ = site_and_operator(case)
    for top in high * rng.uniform(0.5, 1.0, 200):
        found = _reached(site, point([[0.0, top]]), EXACT)
        assert np.all(found.lo <= [[0.0, top]])
        assert np.all(found.hi >= [[0.0, top]])


def test_of_a_mean_no_term_takes_the_division() -> None:
    """Of a sum the terms take all roundings; that of a division would be one more."""
    sum_, mean = (site_and_operator(example(op, "x z", PAIR))[1] for op in ("Sum", "Mean"))
    assert sum_.absorbs is not None
    assert sum_.absorbs.by is Absorption.TERMS
    assert mean.absorbs is None


# --- images ---------------------------------------------------------------------------------------


def test_a_place_between_two_elements_is_made_of_both() -> None:
    at = [Fraction(-1, 4), Fraction(1, 4), Fraction(3, 2), Fraction(2), Fraction(9, 4)]
    found = interpolation._axis(0, 3, np.array([float(t) for t in at], np.float32), at, 0.0)
    for place, taps in zip(at, found.taps, strict=True):
        kept = min(max(place, Fraction(0)), Fraction(2))
        assert sum(w for _, w in taps) == 1
        assert sum(i * w for i, w in taps) == kept


@pytest.mark.parametrize("a", [-0.75, -0.5, -1.0, -3.0, 2.0])
def test_weights_of_a_cubic_may_lose_seven_roundings(a: float) -> None:
    """Horner's scheme of a·t³ − 5a·t² + 8a·t − 4a, for t up to 2."""
    case = example("Resize", "x - s", (1, 1, 4), "", {"s": np.array([1.0, 1.0, 1.5], np.float32)},
                   opset=19, mode="cubic", cubic_coeff_a=a)  # fmt: skip
    site, _ = site_and_operator(case)
    places = [Fraction(k, 7) for k in range(14)]
    at = np.array([float(p) for p in places], np.float32)
    found = interpolation._cubic(site, 2, 4, at, places, 1e-7)
    assert np.all(np.max(found.free, axis=1) >= 7 * 2.0**-24 * (8 + 20 + 16 + 4) * abs(a))


def test_axes_that_are_not_named_are_not_scaled(tmp_path: Path) -> None:
    kept: dict[str, Any] = {"keep_aspect_ratio_policy": "not_larger", "axes": [2, 3]}
    node = helper.make_node("Resize", ["x", "", "", "n"], ["y"], mode="linear", **kept)
    shapes = ({"x": [1, 2, 4, 2]}, {"y": [1, 2, 8, 4]})
    sizes = {"n": np.array([9, 4], np.int64)}
    site, _ = only_node(load(save(tmp_path / "m.onnx", [node], *shapes, sizes, opset=19)))
    assert list(map(int, resizing.exact_scales(site))) == [1, 1, 2, 2]


# --- errors by other names ------------------------------------------------------------------------


def test_an_operand_that_is_flushed_moves_a_logarithm() -> None:
    """By 6e-5 in float16, which is more than what is left of a rounding."""
    found = []
    for contract in (SEQUENTIAL, FLUSHING):
        flushed = contract is FLUSHING
        r = Rounder(BINARY16, exact=False, flush_results=flushed, flush_operands=flushed)
        arithmetic = RelativeArithmetic(ErrorArithmetic(r, contract), False, True)
        small = Interval(np.full(1, -(2.0**-15)), np.full(1, 2.0**-15))
        x = Tracked(small, exactly_zero(NOTHING_LOST, (1,)), 2.0**-15)
        found.append(arithmetic.function(EXP, Proportion.absolutely(x)).precision.bound.item())
    kept, flushed_too = found
    assert flushed_too >= kept + 2.0**-15


def test_a_power_with_another_exponent_is_not_followed() -> None:
    """A third, stored in float16, is another number."""
    case = example("Pow", "x n", (3,), constants={"n": np.array(1 / 3, np.float32)})
    site, _ = site_and_operator(case)
    other: RuntimeContract = replace(IEEE_ANY, stored_format=BINARY16)
    r = Rounder(BINARY32, exact=False, flush_results=False, flush_operands=False)
    arithmetic = RelativeArithmetic(ErrorArithmetic(r, other), True)
    one = Interval(np.ones((1, 3)), np.full((1, 3), 2.0))
    x = Proportion.absolutely(Tracked(one, exactly_zero(NOTHING_LOST, (1, 3)), 2.0))
    with pytest.raises(OpenSchedule):
        _by_function(site, Inputs([x]), arithmetic, other)
    (found,) = _by_function(site, Inputs([x]), arithmetic, IEEE_ANY)
    assert np.all(np.isfinite(found.precision.bound))


def test_roundings_that_are_in_both_operands_add_up() -> None:
    """x + x is off by twice as much, however large that is."""
    numbers = count()
    arithmetic = ScatterArithmetic(BINARY32, SEQUENTIAL, False, numbers)
    large = np.full((1, 1), 1e30)
    x = arithmetic._rounded(Scattered(large, large, 0 * large, 0 * large, 0 * large))
    assert np.all(arithmetic._sum(x, x).square >= 4.0 * x.square)


def test_the_largest_deviation_of_a_row_is_what_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """And with its error, added up without a loss."""
    seen = []
    whole = normalization_errors._norm_error

    def heard(r: Rounder, deviation: Any, sigma: Any, times: int) -> Any:
        seen.append(sigma)
        return whole(r, deviation, sigma, times=times)

    monkeypatch.setattr(normalization_errors, "_norm_error", heard)
    x = Interval(np.array([[-3.0, 1.0, 2.0]]), np.array([[0.5, 4.0, 7.0]]))
    v = normalized(x, 1e-5, centred=True)
    none = exactly_zero(NOTHING_LOST, x.shape)
    normalization_error(ROUNDER, IEEE_ANY, x, v=v, epsilon=1e-5, centred=True, converted=none)
    assert [np.all(sigma >= v.sigma.hi) for sigma in seen] == [True]


def test_the_sum_of_a_direction_is_rounded_up() -> None:
    """Of 128 numbers about 1, each chosen so that what it is added to loses all but half a unit."""
    row = np.zeros(128)
    for lane in range(8):  # as numpy adds them up: every eighth to one sum
        total = 0.0
        for place in range(lane, 128, 8):
            every = 1.0 - np.arange(1, 17) * 2.0**-53
            lost = [Fraction(total) + Fraction(v) - Fraction(total + v) for v in every.tolist()]
            row[place] = every[int(np.argmax([float(v) for v in lost]))]
            total += row[place]
    exact = sum(map(Fraction, row.tolist()))
    assert exact > Fraction(float(np.sum(row[None], axis=1)[0]))
    assert total_up(row[None], 4.0 * 128 * 2.0**-53)[0] >= exact


def test_a_norm_and_its_error_are_added_up_without_a_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    reached = []

    def heard(r: Rounder, count: int, size: Any) -> Any:
        reached.append(size.item())
        return off_by(size)

    monkeypatch.setattr(normalization_errors, "root_of_squares", heard)
    rng = np.random.default_rng(2)
    for sigma, e in zip(rng.uniform(1.0, 2.0, 100), rng.uniform(1e-8, 1e-7, (100, 2)), strict=True):
        deviation = off_by(e[None])
        moved = norm_moved(deviation.times((1.0 + 2.0**-50) / float(np.sqrt(2))))
        normalization_errors._norm_error(ROUNDER, deviation, np.array([[sigma]]), times=5)
        exact = Fraction(float(sigma)) + Fraction(moved.bound.item())
        assert Fraction(reached[-1]) >= exact
