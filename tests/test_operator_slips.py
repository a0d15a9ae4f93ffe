"""Every registered operator made wrong in every one of its semantics: the ordinary checks notice.

The slips are those a maintainer could make: a meaning, an abstraction or a bound that is off. What
no check can notice, because the slip changes nothing there, is listed with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import test_masks
import test_operators_algebraic
import test_operators_elementary
import test_operators_interpolation
import test_operators_quantized
import test_recurrent
from operator_checks import (
    Example,
    check_against_reference,
    check_bounds,
    check_maps,
    check_points,
    check_runtime,
    example,
    graph_of,
)

from encoders.lemmas.combining import EXACT
from encoders.lemmas.kernel import exactly_zero
from encoders.lemmas.ranges.placing import range_of
from encoders.numbers.enclosure import Interval
from encoders.operator import Contribution, Moved, Operator, RoundingBound
from encoders.registry import operators


def _weights(*shape: int) -> Any:
    return np.linspace(-1.0, 1.5, int(np.prod(shape))).reshape(shape)


HERE = (
    example("Concat", "x k z", {"x": (2, 1), "z": (2, 3)}, axis=1, constants={"k": _weights(2, 1)}),
    example("Flatten", "x", (2, 3, 2), axis=2),
    example("Reshape", "x s", (2, 6), constants={"s": np.array([3, -1])}),
    example("Squeeze", "x a", (2, 1, 3), constants={"a": np.array([1])}),
    example("Unsqueeze", "x a", (2, 3), constants={"a": np.array([1])}),
    example("Trilu", "x", (2, 3, 4), opset=14),
    example("Gemm", "x W b", (2, 5), constants={"W": _weights(5, 3), "b": _weights(3)}),
    example(
        "BatchNormalization", "x s b m v", (2, 4, 2), epsilon=0.25, rational=False,
        constants={"s": _weights(4), "b": _weights(4), "m": _weights(4), "v": _weights(4) + 1.5},
    ),
    Example(
        "Equal on a grid",
        (("Equal", "x k", "c", {}), ("Where", "c a b", "y", {})),
        {"x": (2, 3)},
        {"k": np.array([0.0, 0.5, 1.0]), "a": np.array([1.0]), "b": np.array([-2.0])},
    ),
)  # fmt: skip

_U8 = {"one": np.float32(1.0), "none": np.uint8(0)}
_TIES = {  # the exact scale of a product is not quite a half, and that of float32 is
    "sa": np.float32(0.1), "sw": np.float32(0.3),
    "sy": np.float32(np.float32(0.1) * np.float32(0.3)) * np.float32(2.0),
}  # fmt: skip
ON_BREAKDOWNS = (
    Example(  # 3.4999999 steps, of which float32 makes 3.5
        "QuantizeLinear on a tie",
        (("QuantizeLinear", "x s none", "y", {}),),
        {"x": (2,)},
        {"s": np.float32(0.1), "none": np.uint8(0)},
        lo=float(np.float32(0.35)),
        hi=float(np.float32(0.35)),
    ),
    Example(
        "QLinearMatMul on ties",
        (
            ("QuantizeLinear", "x one none", "q", {}),
            ("QLinearMatMul", "q sa none W sw none sy none", "y", {}),
        ),
        {"x": (2, 2)},
        {**_U8, **_TIES, "W": np.array([[1, 3], [2, 5]], np.uint8)},
        lo=0.0,
        hi=9.0,
    ),
    Example(
        "QLinearConv on ties",
        (
            ("QuantizeLinear", "x one none", "q", {}),
            ("QLinearConv", "q sa none W sw none sy none", "y", {}),
        ),
        {"x": (1, 1, 4)},
        {**_U8, **_TIES, "W": np.array([[[1, 3]]], np.uint8)},
        lo=0.0,
        hi=9.0,
    ),
)

MOST = 2  # examples of an operator
FILES = (
    ON_BREAKDOWNS,
    HERE,
    test_operators_algebraic.EVERY,
    test_operators_elementary.EVERY,
    test_operators_interpolation.CASES,
    test_operators_quantized.CASES,
    test_masks.CASES,
    test_recurrent.CASES,
)


@cache
def examples() -> Mapping[str, tuple[Example, ...]]:
    """Examples by the operators that their graphs hold once read, those made for one of them
    first, then small ones."""
    found: dict[str, list[tuple[int, Example]]] = {}
    for case in (case for cases in FILES for case in cases):
        graph, _ = graph_of(case)
        for name in {node.op for node in graph.order}:
            made = case.name.split()[0] == name
            size = 0 if made else sum(t.size for t in graph.types.values())
            found.setdefault(name, []).append((size, case))
    return {n: tuple(c for _, c in sorted(f, key=lambda v: v[0])) for n, f in found.items()}


def perturbed_runtime(operator: Operator) -> Operator:
    """Off by 2⁻¹⁸ of the result; a result of another type than a float, by one."""

    def runtime(site: Any, inputs: Any, arithmetic: Any, contract: Any) -> Any:
        (y, *others) = operator.runtime(site, inputs, arithmetic, contract)
        if site.outputs[0].dtype.is_float:
            factor = arithmetic.constant(np.full((1,) * len(site.outputs[0].shape), 1 + 2.0**-18))
            return (arithmetic.multiply(y, factor), *others)
        if isinstance(y, np.ndarray):
            y = (1 - y if site.outputs[0].dtype.value == "bool" else y + 1).astype(y.dtype)
        return (y, *others)

    return replace(operator, runtime=runtime)


def perturbed_real(operator: Operator) -> Operator:
    """Off by 2⁻¹² of the result; one that is 0 or 1, the other way round."""

    def real(site: Any, inputs: Any, field: Any) -> Any:
        (y, *others) = operator.real(site, inputs, field)
        ones = np.ones((1,) * len(site.outputs[0].shape))
        if site.outputs[0].dtype.is_float:
            return (
                y * field.constant(ones + (0.25 if operator.name in COARSE else 2.0**-12)),
                *others,
            )
        if site.outputs[0].dtype.value == "bool":
            return (field.constant(ones) - y, *others)
        return (y + field.constant(ones), *others)

    return replace(operator, real=real)


def shrunk_values(operator: Operator) -> Operator:
    """The lower half of the range."""

    def values(site: Any, ranges: Any) -> Any:
        mapped = operator.values(site, ranges)
        range_ = mapped.range
        half = Interval(range_.lo, 0.5 * range_.lo + 0.5 * range_.hi)
        return replace(mapped, range=range_of(half))

    return replace(operator, values=values)


def _scaled(c: Contribution, factor: float) -> Contribution:
    return Contribution(_times(c.coefficients, factor), factor * c.constant)


def _scaled_moves(c: Moved, factor: float) -> Moved:
    return Moved(_times(c.coefficients, factor), c.cost.times(factor))


def _times(coefficients: tuple[Any, ...], factor: float) -> tuple[Any, ...]:
    return tuple(None if v is None else factor * v for v in coefficients)


def wrong_pull_back_of_values(operator: Operator) -> Operator:
    def values(site: Any, ranges: Any) -> Any:
        mapped = operator.values(site, ranges)
        return replace(mapped, backward=lambda c: _scaled(mapped.backward(c), 0.5))

    return replace(operator, values=values)


def halved_differences(operator: Operator) -> Operator:
    """Radius and functionals."""
    return _with_differences(operator, 0.5)


def _with_differences(operator: Operator, factor: float) -> Operator:
    def differences(site: Any, ranges: Any, errors: Any) -> Any:
        mapped = operator.differences(site, ranges, errors)
        return replace(
            mapped,
            radius=mapped.radius.times(factor),
            backward=lambda c: _scaled_moves(mapped.backward(c), factor),
        )

    return replace(operator, differences=differences)


def halved_radius(operator: Operator) -> Operator:
    def differences(site: Any, ranges: Any, errors: Any) -> Any:
        mapped = operator.differences(site, ranges, errors)
        return replace(mapped, radius=mapped.radius.times(0.5))

    return replace(operator, differences=differences)


def dropped_differences(operator: Operator) -> Operator:
    return _with_differences(operator, 0.0)


def no_rounding(operator: Operator) -> Operator:
    def rounding(site: Any, *_: Any) -> RoundingBound:
        return RoundingBound(exactly_zero(EXACT, site.outputs[0].shape))

    return replace(operator, rounding=rounding)


# Operators without a file of their own kind, from which a graph of one node could be read.
ELSEWHERE = {
    "GroupNormalization": "onnx infers no type: test_operators_elementary.py, by hand; it is "
    "InstanceNormalization's code",
    "QGemm": "of another domain: test_operators_quantized.py; it is QLinearMatMul's code",
    **dict.fromkeys(
        ("QLinearAdd", "QLinearGlobalAveragePool", "QLinearMul"),
        "of another domain: test_quantised_layers.py, bit for bit and by its bounds",
    ),
    "RunsInstead": "stands between two graphs only: test_cuts.py",
    "Rational": "made of an FPCore only: test_operators_rational.py",
}

# Whose real semantics has a step of 2⁻⁸ at any scale, beside which 2⁻¹² is nothing.
COARSE = ("DynamicQuantizeConv", "DynamicQuantizeMatMul")

# Whose rounding bound is 0 under every contract: truth values and integers, and what takes
# subnormal numbers to 0 whether they are flushed or not. So is that of what only moves data.
NOTHING_ROUNDED = (
    *("And", "ConvInteger", "Lookup", "MatMulInteger", "Not", "Or", "Round", "Truncate"),
    *("RunsInstead", "WholeAdd", "WholeMul", "WholeSub"),
)

# Whose rounding bound is what flushing takes from a result or an operand and nothing else; slips of
# that are in tests/soundness/mutants.py.
FLUSHED_ONLY = (
    *("Abs", "ArgMax", "ArgMin", "Ceil", "Clip", "Equal", "Floor", "GlobalMaxPool", "Greater"),
    *("GreaterOrEqual", "Less", "LessOrEqual", "MaskedWhere", "Max", "MaxPool", "Min", "Neg"),
    *("ReduceMax", "ReduceMin", "Relu", "Sign", "Where"),
)

Slip = Callable[[Operator], Operator]
Check = Callable[[Example], object]


def _points(case: Example) -> None:
    check_points(case)


def _few_points(case: Example) -> None:
    check_points(case, count=3)


def _bounds(case: Example) -> None:
    check_bounds(case, count=6)


def _one_box(case: Example) -> None:
    check_maps(case, dtype=np.float32, boxes=1)


def _one_grid(case: Example) -> None:
    check_maps(case, dtype=np.float32, grid=0.5, boxes=1)


def _maps(case: Example) -> None:
    check_maps(case, dtype=np.float32)


def _grid(case: Example) -> None:
    """On halves, where comparisons are equal and steps are met."""
    check_maps(case, dtype=np.float32, grid=0.5)


def _reference(case: Example) -> None:
    check_against_reference(case, count=2)


MAPS = (_one_box, _one_grid, _maps, _grid)
SLIPS: Mapping[Slip, tuple[Check, ...]] = {
    perturbed_runtime: (_few_points, _points, check_runtime, _bounds),
    perturbed_real: (_few_points, _one_box, _points, _maps, _reference),
    shrunk_values: (*MAPS, _points),
    wrong_pull_back_of_values: MAPS,
    halved_differences: MAPS,
    halved_radius: MAPS,
    dropped_differences: MAPS,
    no_rounding: (_few_points, _points, _bounds),
}


def _holds(check: Check, case: Example) -> bool | None:
    """Does it pass? None: this check does not suit the example."""
    try:
        check(case)
    except AssertionError:
        return False
    except Exception:
        return None
    return True


@cache
def _suits(check: Check, name: str, position: int) -> bool:
    """Does the operator itself pass the check on this example of it?"""
    return bool(_holds(check, examples()[name][position]))


def _noticed(slip: Slip, name: str, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Does one of the checks, which the operator itself passes, fail on it made wrong?"""
    for check in SLIPS[slip]:
        for position, case in enumerate(examples()[name][:MOST]):
            with monkeypatch.context() as patch:
                patch.setitem(operators(), name, slip(operators()[name]))
                failed = _holds(check, case) is False
            if failed and _suits(check, name, position):
                return True
    return False


@pytest.mark.parametrize("name", sorted(set(operators()) - set(ELSEWHERE)))
def test_every_slip_is_noticed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    exact = operators()[name].movement or name in (*NOTHING_ROUNDED, *FLUSHED_ONLY)
    slips = [slip for slip in SLIPS if not (exact and slip is no_rounding)]
    assert not [s.__name__ for s in slips if not _noticed(s, name, monkeypatch)]
