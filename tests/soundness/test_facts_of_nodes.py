"""Facts about single nodes on which a bound, a refusal or a report rests, where no ordinary network
shows them: each against numbers listed one by one."""

from __future__ import annotations

import itertools
from dataclasses import replace
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from given_radii import off_by
from operator_checks import Example, example, graph_of
from test_pieces_of_bounds import site_and_operator

from encoders.arithmetic.numpy_arithmetic import NumpyArithmetic
from encoders.contract.contract import OpenSchedule
from encoders.contract.presets import PAIRWISE, SEQUENTIAL
from encoders.families import products
from encoders.families.images.interpolation import axes_of
from encoders.families.integers import INTEGERS, ends_of
from encoders.families.rows.normalization import scaled_differences
from encoders.numbers.enclosure import Interval
from encoders.numbers.formats import BINARY32
from encoders.operator import DifferenceMap, Moved, Operator, Precondition, Site, site_of
from encoders.ops.choices import runs_instead
from encoders.ops.products.conv import _meant
from encoders.ops.products.gemm import _scalings
from encoders.ops.quantized.qlinear_matmul import _largest
from encoders.registry import lookup
from refine.bounds.properties import row_errors
from refine.results.verdict import Pairing


def site_of_op(case: Example, op: str) -> tuple[Site, Operator]:
    graph, _ = graph_of(case)
    node = next(n for n in graph.order if n.op == op)
    return site_of(graph, node), lookup(node)


@pytest.mark.parametrize("dtype", INTEGERS, ids=lambda d: d.value)
def test_types_of_integers_end_where_numpy_ends_them(dtype: Any) -> None:
    limits = np.iinfo(dtype.value)
    assert ends_of(dtype) == (max(limits.min, -(2**53)), min(limits.max, 2**53))


@pytest.mark.parametrize("alpha", [1.0, 0.5])
@pytest.mark.parametrize("beta", [1.0, 0.5])
def test_factors_of_a_gemm_that_are_not_one_are_rounded(alpha: float, beta: float) -> None:
    constants = {"w": np.ones((2, 2)), "b": np.ones(2)}
    case = example("Gemm", "x w b", (1, 2), constants=constants, alpha=alpha, beta=beta)
    plain = alpha == 1.0
    assert _scalings(site_of_op(case, "Gemm")[0]) == (
        0 if plain else 2,
        0 if plain and beta == 1.0 else 2,
    )


@pytest.mark.parametrize("most", [6.9, 7.6])
def test_what_a_runtime_may_round_beyond_four_bits_is_no_number_of_them(most: float) -> None:
    nodes = (("Cast", "x", "q", {"to": 22}), ("Cast", "q", "y", {"to": 1}))
    site, operator = site_of_op(Example("int4", nodes, {"x": (1,)}, opset=21), "Truncate")
    x = Interval(np.zeros(1), np.array([most]))
    bound = operator.rounding(site, [x], operator.values(site, [x]).range, SEQUENTIAL)
    assert all(p.holds for p in bound.preconditions) == (most < 7.0)


@pytest.mark.parametrize("most", [3e4, 1e6])
def test_what_leaves_a_format_that_does_not_saturate_is_no_number_of_it(most: float) -> None:
    nodes = (("Cast", "x", "q", {"to": 19, "saturate": 0}), ("Cast", "q", "y", {"to": 1}))
    site, operator = site_of_op(Example("e5m2", nodes, {"x": (1,)}, opset=19), "Narrow")
    x = Interval(np.zeros(1), np.array([most]))
    bound = operator.rounding(site, [x], operator.values(site, [x]).range, SEQUENTIAL)
    assert all(p.holds for p in bound.preconditions) == (most < 57344)


def test_indices_pick_what_rows_between_them_hold() -> None:
    data = np.random.default_rng(0).standard_normal((5, 2)).astype(np.float32)
    nodes = (("Cast", "x", "i", {"to": 7}), ("Gather", "d i", "y", {"axis": 0}))
    case = Example("rows", nodes, {"x": (1,)}, {"d": data})
    site, operator = site_of_op(case, "Lookup")
    for low, high in itertools.combinations_with_replacement(range(-5, 5), 2):
        at = Interval(np.array([low], float), np.array([high], float))
        found = operator.values(site, [at]).range
        picked = data[np.arange(low, high + 1)].astype(np.float64)
        assert np.array_equal(found.lo[0], picked.min(axis=0))
        assert np.array_equal(found.hi[0], picked.max(axis=0))


def test_a_filter_that_is_meant_has_its_bias_beside_every_place() -> None:
    constants = {"w": np.ones((3, 2, 2, 2)), "b": np.array([1.0, 2.0, 3.0])}
    site, _ = site_of_op(example("Conv", "x w b", (1, 2, 4, 4), constants=constants), "Conv")
    meaning = _meant(site)
    assert meaning is not None
    full = np.broadcast_to(np.asarray(meaning.bias), site.outputs[0].shape)
    assert full[0, :, 0, 0].tolist() == full[0, :, 2, 1].tolist() == [1.0, 2.0, 3.0]


def test_what_runs_instead_is_off_by_its_own_error_and_the_gap() -> None:
    ranges = [Interval(np.zeros(2), np.ones(2))] * 2
    gap = Interval(np.array([-0.25, 0.0]), np.array([0.125, 0.5]))
    errors = [off_by(np.full(2, e)) for e in (0.0, 0.5, 0.0)]
    site: Any = None
    found = runs_instead.differences(site, [*ranges, gap], errors)
    assert np.all(found.radius.bound >= [0.75, 1.0])
    assert np.all(found.radius.bound < [0.76, 1.01])


def test_an_average_whose_padding_may_be_left_out_is_not_followed() -> None:
    given: Any = [np.ones((1, 1, 1, 5), np.float32)]
    arithmetic = NumpyArithmetic(BINARY32, PAIRWISE)
    for pads in ([0, 0], [1, 0]):
        more: Any = {"kernel_shape": [2], "pads": pads, "count_include_pad": 1}
        case = example("AveragePool", "x", (1, 1, 5), **more)
        site, operator = site_of_op(case, "AveragePool")
        assert len(operator.followed) == 2
        for follow in operator.followed:
            if any(pads):
                with pytest.raises(OpenSchedule):
                    follow(site, given, arithmetic, PAIRWISE)
            else:
                (found,) = follow(site, given, arithmetic, PAIRWISE)
                assert found.tolist() == [[[[1.0] * 4]]]


def test_a_bound_for_any_order_serves_where_nothing_it_rests_on_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    constants = {"w": np.random.default_rng(1).standard_normal((9, 2))}
    site, operator = site_and_operator(example("MatMul", "x w", (1, 9), constants=constants))
    x = Interval(np.full((1, 9), -1.0), np.ones((1, 9)))
    real = operator.values(site, [x]).range
    alone = operator.rounding(site, [x], real, SEQUENTIAL)
    closed = products.any_order_rounding

    def smaller(*given: Any) -> Any:
        found = closed(*given)
        failed: Any = "a hypothesis"
        names = [p.name for p in (*alone.preconditions, *found.preconditions)] or ["x"]
        return replace(
            found,
            radius=off_by(np.zeros(found.radius.shape)),
            preconditions=tuple(Precondition(name, "", failed) for name in names),
        )

    monkeypatch.setattr(products, "any_order_rounding", smaller)
    assert np.any(alone.radius.bound > 0)
    found = operator.rounding(site, [x], real, SEQUENTIAL)
    assert np.all(found.radius.bound > 0)


@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_scaled_differences_pay_for_their_product_whatever_its_sign(sign: float) -> None:
    rng = np.random.default_rng(4)
    e, scale, c = rng.uniform(0.5, 1, 5), sign * rng.uniform(0.5, 1, 5), rng.uniform(0.5, 1, (3, 5))
    inner = DifferenceMap(off_by(e), lambda c: Moved((c,), off_by(np.zeros(len(c)))))
    pulled = scaled_differences(inner, scale).backward(c)
    for k, row in enumerate(c):
        (carried,) = pulled.coefficients
        assert carried is not None
        lost = sum(
            abs(Fraction(x) * Fraction(s) - Fraction(y)) * Fraction(d)
            for x, s, y, d in zip(*(v.tolist() for v in (row, scale, carried[k], e)), strict=True)
        )
        assert 0 < lost <= Fraction(float(pulled.constant[k]))


def test_rows_pay_for_outputs_that_are_not_followed_and_for_coefficients_that_are_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    followed, given = np.array([[1.0, 2.0]]), np.array([[4.0, -8.0]])
    nothing = np.zeros((1, 2))
    bounds: Any = SimpleNamespace(
        maps=SimpleNamespace(values={"y": None}, kept=0),
        radii={"y": off_by(np.array([1.0, 1.0])), "x": off_by(np.array([0.25, 0.5]))},
    )
    monkeypatch.setattr(
        row_errors, "pull_back", lambda *_, **__: SimpleNamespace(moved=off_by(np.zeros(1)))
    )
    for off, least in ((nothing, 5.0), (np.array([[0.5, 0.0]]), 5.5)):
        rows: Any = SimpleNamespace(
            on_outputs={"y": followed, "x": given}, off={"y": off, "x": nothing}
        )
        found = row_errors._moved(bounds, rows, (1,), True, lambda: None)
        assert float(found.bound[0]) >= least


def test_it_is_said_how_tensors_were_paired() -> None:
    pairing = Pairing({}, {}, frozenset({"a"}))
    assert pairing.by({"a": "b", "c": "c"}) == "said"
    assert pairing.by({"c": "c"}) == "name"
    assert pairing.by({"c": "d", "e": "e"}) == "order"


@pytest.mark.parametrize("mode", ["linear", "cubic"])
@pytest.mark.parametrize("a", [-0.75, -3.0, -2.5, 0.0, 40.0])
def test_weights_of_a_resize_are_those_of_elements_that_are_there(mode: str, a: float) -> None:
    sizes = {"z": np.array([1, 1, 3, 13])}
    case = example("Resize", "x - - z", (1, 1, 3, 7), constants=sizes, mode=mode, cubic_coeff_a=a)
    site, _ = site_of_op(case, "Interpolate")
    found = axes_of(site)
    assert found
    for axis in found:
        for o, taps in enumerate(axis.taps):
            if mode == "linear":
                middle = Fraction(2 * o + 1, 2) * axis.length / len(axis.taps) - Fraction(1, 2)
                assert sum(w * place for place, w in taps) == min(max(middle, 0), axis.length - 1)
            assert all(0 <= place < axis.length for place, _ in taps)
            assert sum(w for _, w in taps) == 1


@pytest.mark.parametrize("n", [2, 50, 300])
def test_sums_of_products_of_bytes_are_no_larger_than_is_asked_of_int32(n: int) -> None:
    nodes: Any = (
        ("QuantizeLinear", "x s z", "q", {}),
        ("QuantizeLinear", "v s z", "r", {}),
        ("QLinearMatMul", "q s z r s z s z", "p", {}),
        ("DequantizeLinear", "p s z", "y", {}),
    )
    constants = {"s": np.float32(0.1), "z": np.uint8(0)}
    case = Example("long", nodes, {"x": (1, n), "v": (n, 1)}, constants)
    assert _largest(site_of_op(case, "QLinearMatMul")[0]) >= 255**2 * n
