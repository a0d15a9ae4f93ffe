"""Corners in which a bound once was, or might have been, too small."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from checking import bounds_of, input_box
from test_hypothesis import Sample, exact_runs, held_to
from text_networks import network, node, numbers

from encoders.contract.contract import BiasPlacement, RuntimeContract, Subnormals
from encoders.contract.members import members
from encoders.contract.presets import IEEE_ANY, SEQUENTIAL
from encoders.numbers.formats import BINARY16
from gpu_check.emulator.emulator import emulate
from onnx_import.errors import UnsupportedModel

FREE = (
    *members(IEEE_ANY),
    *(replace(m, bias=BiasPlacement.FIRST) for m in members(IEEE_ANY)),
    *(
        replace(m, results=Subnormals.FLUSH, operands=o)
        for m in members(IEEE_ANY)
        for o in (Subnormals.KEEP, Subnormals.FLUSH)
    ),
)


def sound(
    nodes: Any,
    points: Any,
    dtype: Any = np.float64,
    contract: RuntimeContract = IEEE_ANY,
    executions: tuple[RuntimeContract, ...] = FREE,
    **constants: Any,
) -> float:
    """Assert the bounds on the box that the points span, and return the largest."""
    x = np.array(points, dtype=dtype)[:, None, :]
    stored = {name: numbers(value) for name, value in constants.items()}
    graph = network(nodes, {"x": x.shape[1:]}, stored, dtype=dtype)
    box = input_box(graph, x.min(axis=0), x.max(axis=0))
    sample = Sample(graph, box, {"x": x})
    failures = held_to(sample, contract, executions, exact_runs(sample))
    assert not failures, "\n".join(failures)
    return bounds_of(graph, box, contract).largest


def test_scaled_bias_before_the_products() -> None:
    """beta·C may be the first term of the sum, and then every addition rounds at its size."""
    gemm = node("Gemm", "x W c", "y", beta=0.3)
    weights = np.linspace(0.11, 0.93, 6)[:, None]
    bound = sound((gemm,), np.linspace(0.1, 0.9, 12).reshape(2, 6), np.float32, W=weights, c=[1e4])
    assert np.isfinite(bound)


@pytest.mark.parametrize("bias", [1e-40, -1e-45])
def test_tiny_bias_without_products(bias: float) -> None:
    """0·x + b loses a subnormal b where the runtime flushes."""
    gemm = node("Gemm", "x W b", "y")
    bound = sound((gemm,), [[1.0, 2.0]], np.float32, W=[[0.0], [0.0]], b=[bias])
    assert abs(bias) <= bound <= 2.0**-125


def test_sum_flushed_when_read_to_add_a_zero() -> None:
    """Operands flushed and results kept: adding 0·x loses the finished sum."""
    contract = replace(SEQUENTIAL, operands=Subnormals.FLUSH)
    free = replace(IEEE_ANY, results=Subnormals.KEEP)
    nodes = (node("MatMul", "x W", "y"),)
    points = [[2.0**-100, 1.0]]
    assert sound(nodes, points, np.float32, free, (contract,), W=[[2.0**-30], [0.0]]) > 0
    assert sound(nodes, points, np.float32, contract, (contract,), W=[[2.0**-30], [0.0]]) > 0


def test_subnormal_weights_of_the_compute_format() -> None:
    """A weight rounded to 7·2^-24 in half precision: its products round as 7/6.5 larger ones."""
    contract = replace(IEEE_ANY, compute_format=BINARY16)
    executions = tuple(replace(m, compute_format=BINARY16) for m in members(IEEE_ANY))
    nodes = (node("MatMul", "x W", "y"),)
    points = [[1172.0 * 2**5]]
    assert np.isfinite(
        sound(nodes, points, np.float32, contract, executions, W=[[6.5001 * 2**-24]])
    )


OVERFLOWS = {
    "times zero weights": (node("MatMul", "x W", "a"), node("MatMul", "a Z", "y")),
    "times zero": (node("MatMul", "x W", "a"), node("Mul", "a z", "y")),
    "minus itself": (node("MatMul", "x W", "a"), node("Sub", "a a", "y")),
    "under a zero after Concat": (
        node("MatMul", "x W", "a"), node("Concat", "a x", "c", axis=1),
        node("MatMul", "c Z", "y"),
    ),
    "dead after Relu": (
        node("MatMul", "x W", "a"), node("Relu", "a", "r"), node("MatMul", "r Z", "y"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", OVERFLOWS)
@pytest.mark.parametrize("contract", [IEEE_ANY, SEQUENTIAL], ids=lambda c: c.name)
@pytest.mark.parametrize(
    ("dtype", "large", "factor"), [(np.float32, 1e30, 1e20), (np.float64, 1e300, 1e20)]
)
def test_overflow_is_never_hidden(
    name: str, contract: RuntimeContract, dtype: Any, large: float, factor: float
) -> None:
    """Infinity times zero is NaN, and so is infinity minus infinity."""
    nodes = OVERFLOWS[name]
    width = 2 if "Concat" in name else 1
    bound = sound(
        nodes, [[large]], dtype, contract, FREE[:2] if contract is IEEE_ANY else (SEQUENTIAL,),
        W=[[factor]], Z=np.zeros((width, 2)), z=[[0.0]],
    )  # fmt: skip
    assert bound == np.inf


def test_constant_output_in_another_format() -> None:
    """A constant output is stored in the compute format, and that is an error of its own."""
    nodes = (node("Relu", "x", "y"), node("Identity", "k", "c"))
    constants = {"k": numbers([[0.1, 0.5]])}
    graph = network(nodes, {"x": (1, 1)}, constants, outputs=("y", "c"))
    contract = replace(SEQUENTIAL, compute_format=BINARY16)
    bounds = bounds_of(graph, input_box(graph, 0.0, 1.0), contract)
    computed = emulate(graph, {"x": np.ones((1, 1, 1))}, contract)["c"][0]
    change = np.abs(computed - np.array([[0.1, 0.5]], np.float32).astype(np.float64))
    assert np.all(change <= bounds.errors["c"])
    assert np.all(bounds.errors["c"] < 1e-4)


def test_cancelling_sums_whose_magnitude_overflows_binary64() -> None:
    row = [[10.0], *([-1.7],) * 6]
    nodes = (node("MatMul", "x W", "z"), node("Relu", "z", "y"))
    assert sound(nodes, [[1e308] * 7], W=row) == np.inf


def test_products_of_coefficients_below_binary64() -> None:
    """Coefficients that float64 cannot hold to a relative error are refused, not mangled."""
    gemm = node("Gemm", "x W", "y", alpha=1e-30)
    with pytest.raises(UnsupportedModel):
        sound((gemm,), [[1e300]], W=[[5e-310]])
    norm = node("BatchNormalization", "x g b m v", "y", epsilon=0.0)
    with pytest.raises(UnsupportedModel):
        sound((norm,), [[1e300]], g=[5e-324], b=[0.0], m=[0.0], v=[9.0])
    with pytest.raises(UnsupportedModel):
        sound((node("Div", "x k", "y"),), [[1.5e308]], k=[[1.7e308]])


def test_chains_of_tiny_numbers_brought_back_to_size() -> None:
    """Underflow of the runtime's binary64, and of the analyser's, under a large last weight."""
    nodes = (
        node("MatMul", "x W", "a"), node("MatMul", "a W", "b"), node("MatMul", "b V", "y"),
    )  # fmt: skip
    points = [[-1.0, -1.0], [1.0, 1.0], [1.0, 0.3], [0.7, -0.1]]
    sound(nodes, points, W=[[1.1e-161, 3e-161], [-2e-162, 1e-161]], V=[[1e300], [3e300]])
