"""Tensor cores: aligned, truncating steps, and TF32 factors, against a scalar reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import small_models
from operator_checks import Example, box_of, ends, exact_values, graph_of, points
from test_probe import EmulatedMachine

from encoders.arithmetic.numpy_arithmetic import NumpyArithmetic
from encoders.contract.contract import (
    AlignedSteps,
    AnyOrder,
    FactorRounding,
    OpenSchedule,
    RuntimeContract,
)
from encoders.contract.members import members
from encoders.contract.presets import CUDA_FP16, CUDA_FP32, CUDA_TF32, SEQUENTIAL
from encoders.numbers.enclosure import Interval
from encoders.numbers.formats import (
    BINARY16,
    BINARY64,
    TENSOR_FLOAT_32,
    FloatFormat,
    round_fraction,
)
from encoders.program import program_of
from gpu_check.conformance.conformance import conformance
from gpu_check.emulator.emulator import emulate, emulate_step
from onnx_import import load
from onnx_import.graph import Graph
from refine.bounds.network import InputBox, network_bounds
from refine.domain.random_inputs import sampled_inputs

V100, A100, H100 = AlignedSteps(4, 23), AlignedSteps(8, 24), AlignedSteps(16, 25)
FORMATS = {np.float16: (11, -14), ml_dtypes.bfloat16: (8, -126), np.float32: (11, -126)}


def exponent(value: Fraction, least: int) -> int:
    """⌊log2|value|⌋, at least `least`."""
    size = abs(value)
    found = size.numerator.bit_length() - size.denominator.bit_length()
    return max(found if size >= Fraction(2) ** found else found - 1, least)


def towards_zero(value: Fraction, unit: Fraction) -> Fraction:
    whole = abs(value) // unit * unit
    return whole if value >= 0 else -whole


def step(
    pairs: Sequence[tuple[Fraction, Fraction]],
    total: Fraction,
    alignment: int,
    least: int,
    digits: int = 24,
    smallest: int = -126,
) -> Fraction:
    """One step on rationals; `least` is the exponent of the smallest normal factor, `smallest` that
    of the smallest normal sum, of so many digits."""
    terms = [(a * b, exponent(a, least) + exponent(b, least)) for a, b in pairs if a * b]
    if total:
        terms.append((total, exponent(total, smallest)))
    if not terms:
        return Fraction(0)
    unit = Fraction(2) ** (max(e for _, e in terms) - alignment)
    summed = sum((towards_zero(value, unit) for value, _ in terms), Fraction(0))
    return towards_zero(summed, Fraction(2) ** (exponent(summed, smallest) - digits + 1))


def short(value: Fraction, digits: int, least: int, truncated: bool) -> Fraction:
    fmt = FloatFormat("short", digits, least, 127)
    if not truncated:
        nearest = round_fraction(value, fmt)
        assert isinstance(nearest, Fraction)
        return nearest
    return towards_zero(value, Fraction(2) ** (exponent(value, least) - digits + 1))


def numbers(rng: np.random.Generator, shape: tuple[int, ...], dtype: Any) -> Any:
    """Of mixed sizes, subnormal ones, zeros and near-cancelling pairs among them."""
    smallest = -26 if dtype is np.float16 else -70
    exponents = np.where(rng.random(shape) < 0.2, rng.integers(smallest, 3, shape), 0)
    values = rng.standard_normal(shape) * 2.0**exponents
    return np.where(rng.random(shape) < 0.1, 0.0, values).astype(dtype)


def product(dtype: Any, rng: np.random.Generator, terms: int = 37) -> tuple[Graph, Any, Any]:
    w = numbers(rng, (terms, 3), dtype)
    case = Example("p", (("MatMul", "x W", "y", {}),), {"x": (1, terms)}, {"W": w})
    return graph_of(case, dtype)[0], numbers(rng, (20, 1, terms), dtype), w


@pytest.mark.parametrize("order", [V100, A100, H100], ids=lambda o: o.describe())
@pytest.mark.parametrize("truncated", [False, True])
@pytest.mark.parametrize("dtype", list(FORMATS), ids=lambda d: d.__name__)
def test_steps_bit_for_bit(order: AlignedSteps, truncated: bool, dtype: Any) -> None:
    """float16 and bfloat16 accumulated in float32, float32 by way of TF32."""
    rng = np.random.default_rng(11)
    graph, x, w = product(dtype, rng)
    digits, least = FORMATS[dtype]
    base = CUDA_TF32 if dtype is np.float32 else CUDA_FP16
    rounding = FactorRounding.TRUNCATE if truncated else FactorRounding.NEAREST
    contract = replace(members(base)[0], order=order, factor_rounding=rounding)
    got = emulate(graph, {"x": x}, contract)["y"]
    for sample in range(len(x)):
        for column in range(w.shape[1]):
            a = [short(Fraction(float(v)), digits, least, truncated) for v in x[sample, 0]]
            b = [short(Fraction(float(v)), digits, least, truncated) for v in w[:, column]]
            pairs, total = list(zip(a, b, strict=True)), Fraction(0)
            for start in range(0, len(pairs), order.terms):
                total = step(pairs[start : start + order.terms], total, order.alignment, least)
            want = total if dtype is np.float32 else np.asarray(float(total)).astype(dtype)
            assert float(got[sample, 0, column]) == float(want)


@pytest.mark.parametrize("alignment", [10, 25, 40])
@pytest.mark.parametrize("size", [0, -530, 480])
def test_steps_in_binary64_bit_for_bit(alignment: int, size: int) -> None:
    """Products are not float64 numbers there: what is lost of them decides where the product is an
    integer of the step's units but for that."""
    rng = np.random.default_rng(5)
    contract = replace(SEQUENTIAL, order=AlignedSteps(4, alignment))
    near = 1 + rng.integers(-3, 4, (60, 4)) * 2.0**-52
    usual = rng.standard_normal((60, 4)) * 2.0 ** rng.integers(-9, 9, (60, 4))
    whole = rng.integers(-3, 4, (60, 4)) * (1 + 2.0**-52)
    for a, b in ((near, whole), (usual, near), (usual, usual[::-1])):
        a, b, c = np.ldexp(a, size), np.ldexp(b, size), np.ldexp(b[:, 0], 2 * size)
        pairs = [(a[:, k], b[:, k]) for k in range(4)]
        got = NumpyArithmetic(BINARY64, contract).step(pairs, c, alignment, None)
        for i in range(len(a)):
            exact = [(Fraction(x), Fraction(y)) for x, y in zip(a[i], b[i], strict=True)]
            want = step(exact, Fraction(c[i]), alignment, -1022, 53, -1022)
            assert Fraction(got[i]) == want


def test_a_float64_product_is_searched_under_a_contract_of_tensor_cores() -> None:
    graph, x, _ = product(np.float64, np.random.default_rng(3))
    for member in members(CUDA_TF32):
        assert np.all(np.isfinite(emulate(graph, {"x": x}, member)["y"]))


def worst(contract: RuntimeContract, dtype: Any, runs: Sequence[RuntimeContract]) -> float:
    """Largest error over its limit, of executions of a product and a convolution."""
    found = 0.0
    rng = np.random.default_rng(2)
    dense = Example(
        "dense", (("Gemm", "x W b", "y", {}),), {"x": (2, 90)},
        {"W": rng.standard_normal((90, 4)), "b": rng.standard_normal(4)}, 0.25, 0.5,
    )  # fmt: skip
    both = Example("both", (("MatMul", "x z", "y", {}),), {"x": (2, 40), "z": (40, 2)}, {})
    conv = Example(
        "conv", (("Conv", "x W", "y", {"pads": [1, 1, 1, 1]}),), {"x": (1, 3, 4, 4)},
        {"W": rng.standard_normal((2, 3, 3, 3))}, -1.0, 1.0, 22,
    )  # fmt: skip
    for case in (dense, both, conv):
        graph, _ = graph_of(case, dtype)
        limit = network_bounds(graph, box_of(case, graph), contract).errors["y"]
        inputs = points(case, graph, 12, seed=4)
        exact = [ends(e["y"]) for e in exact_values(case, graph, inputs)]
        for execution in runs:
            computed = emulate(graph, inputs, execution)["y"]
            for i, (low, high) in enumerate(exact):
                for at in np.ndindex(*limit.shape):
                    v = Fraction(float(computed[i][at]))
                    error = max(v - low[at], high[at] - v)
                    found = max(found, float(error / Fraction(float(limit[at]))))
    return found


@pytest.mark.parametrize(
    ("contract", "dtype"),
    [(CUDA_FP32, np.float32), (CUDA_TF32, np.float32), (CUDA_FP16, np.float16),
     (CUDA_FP16, ml_dtypes.bfloat16)],
    ids=lambda v: getattr(v, "name", getattr(v, "__name__", v)),
)  # fmt: skip
def test_executions_stay_within_the_bounds(contract: RuntimeContract, dtype: Any) -> None:
    runs = list(members(contract))
    if contract is not CUDA_FP32:
        runs += [replace(runs[0], order=order) for order in (V100, A100, H100)]
    assert 1e-3 < worst(contract, dtype, runs) <= 1
    for pinned in runs[:1]:
        assert 1e-3 < worst(pinned, dtype, [pinned]) <= 1


PINNED = members(CUDA_TF32)[0]
ALMOST = 2.0 - 2.0**-23  # truncating it to TF32 loses nearly a whole ulp, 2^-10
HALF_WAY = 1.0 + 2.0**-11  # and rounding this to nearest half of one
SMALL, LARGE = 2.0**-24, 2.0**15  # as a factor in float16 the small one counts as 2^-14
WHOLE = members(CUDA_FP32)[0]
HALF_FACTORS = replace(WHOLE, factor_format=BINARY16, factor_rounding=FactorRounding.NEAREST)
SHARP: dict[str, tuple[RuntimeContract, list[float], list[float], float]] = {
    "a truncated weight": (PINNED, [1.0], [ALMOST], 2.0**-10),
    "a truncated input": (PINNED, [ALMOST], [1.0], 2.0**-10),
    "a weight to nearest": (
        replace(PINNED, factor_rounding=FactorRounding.NEAREST), [1.0], [HALF_WAY], 2.0**-11
    ),
    "an input to nearest": (
        replace(PINNED, factor_rounding=FactorRounding.NEAREST), [HALF_WAY], [1.0], 2.0**-11
    ),
    "a truncated result": (
        replace(WHOLE, order=AlignedSteps(3, 40)),
        [1.0, 2.0**-24, 1.0], [1.0, 1.0, 2.0**-24 - 2.0**-34],
        2.0**-23,
    ),
    "truncated products": (
        replace(WHOLE, order=AlignedSteps(3, 12)), [1.0, 1.0, 1.0],
        [1.0, 2.0**-12 - 2.0**-20, 2.0**-12 - 2.0**-20], 2.0**-11,
    ),
    "a truncated sum": (
        replace(WHOLE, order=AlignedSteps(1, 12)), [1.0, 1.0], [2.0**-12 - 2.0**-20, 1.0], 2.0**-12
    ),
    "subnormal factors": (
        replace(HALF_FACTORS, order=AlignedSteps(2, 23)),
        [SMALL, 1.0], [LARGE, 2.0**-22 - 2.0**-30],
        2.0**-22,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SHARP)
@pytest.mark.parametrize("free", [False, True])
def test_what_is_lost_is_charged(name: str, free: bool) -> None:
    """Sums of a few terms, chosen so that one loss is nearly all there is."""
    contract, x, w, lost = SHARP[name]
    case = Example("s", (("MatMul", "x W", "y", {}),), {"x": (1, len(x))}, {"W": np.c_[w]})
    graph, _ = graph_of(case)
    given = np.asarray([x])
    computed = emulate(graph, {"x": given[None].astype(np.float32)}, contract)["y"][0, 0, 0]
    exact = sum(Fraction(a) * Fraction(b) for a, b in zip(x, w, strict=True))
    error = abs(Fraction(float(computed)) - exact)
    order = contract.order
    assert isinstance(order, AlignedSteps)
    stated = replace(contract, order=AnyOrder(order.alignment)) if free else contract
    box = InputBox({"x": Interval(given, given)}, {"x": np.zeros_like(given)})
    limit = network_bounds(graph, box, stated).errors["y"][0, 0]
    assert 0.9 * lost < error <= Fraction(float(limit))
    assert limit < 12 * lost


@pytest.mark.parametrize("rounding", [FactorRounding.NEAREST, FactorRounding.TRUNCATE])
def test_tf32_breaks_the_bound_of_float32(rounding: FactorRounding) -> None:
    run = replace(members(CUDA_TF32)[0], factor_rounding=rounding)
    assert worst(CUDA_FP32, np.float32, [run]) > 1


def test_few_bits_of_alignment_break_the_bound_of_more() -> None:
    """The truncation of a step shows: it is not hidden in what else is charged."""
    base = replace(members(CUDA_FP32)[0], order=AlignedSteps(4, 12))
    assert worst(replace(base, order=AlignedSteps(4, 25)), np.float32, [base]) > 1
    assert worst(base, np.float32, [base]) <= 1
    assert worst(replace(CUDA_FP32, order=AnyOrder(12)), np.float32, [base]) <= 1


def test_only_matrix_products_take_steps_and_short_factors() -> None:
    rows = Example("rows", (("ReduceSumSquare", "x", "y", {"axes": [1]}),), {"x": (2, 30)})
    graph, _ = graph_of(rows)
    inputs = points(rows, graph, 4)
    short_one = replace(members(CUDA_TF32)[0], order=H100)
    plain = replace(SEQUENTIAL, contraction=short_one.contraction)
    got, want = (emulate(graph, inputs, c)["y"] for c in (short_one, plain))
    assert np.array_equal(got, want)


def test_an_open_rounding_of_factors_is_not_emulated() -> None:
    graph, x, _ = product(np.float32, np.random.default_rng(1))
    contract = replace(SEQUENTIAL, factor_format=TENSOR_FLOAT_32)
    assert not contract.pinned
    with pytest.raises(OpenSchedule, match="factors"):
        emulate_step(program_of(graph).steps[0], {"x": x}, contract)


@pytest.mark.parametrize("rounding", [FactorRounding.NEAREST, FactorRounding.TRUNCATE])
def test_tf32_is_caught_and_named(rounding: FactorRounding, tmp_path: Any) -> None:
    """A runtime with TF32 breaks `cuda-fp32` and honours a contract that says so."""
    graph = load(small_models.mlp(tmp_path / "net.onnx", (9, 5)))
    real = replace(SEQUENTIAL, factor_format=TENSOR_FLOAT_32, factor_rounding=rounding)
    machine, batch = EmulatedMachine(graph, real), sampled_inputs(graph, ("-1..1",), 8, 0)
    broken = conformance(graph, machine, CUDA_FP32, samples=batch)
    assert not broken.conforms
    assert [(m.field, m.found) for m in broken.modes] == [
        ("factors", "11 bits of each factor, as in tf32")
    ]
    assert conformance(graph, machine, replace(real, name="same"), samples=batch).conforms
    assert conformance(graph, machine, CUDA_TF32, samples=batch).conforms
    whole = EmulatedMachine(graph, SEQUENTIAL)
    assert conformance(graph, whole, CUDA_TF32, samples=batch).conforms
    stated = conformance(graph, whole, real, samples=batch)
    assert [m.field for m in stated.modes] == ["factors"]
