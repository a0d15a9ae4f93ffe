"""Real ranges: a lemma makes them, nothing else does, and what no lemma makes gets less."""

from __future__ import annotations

import ast
import dataclasses
import pickle
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import kernel_files
import numpy as np
import pytest
import small_models
import test_quantised_layers
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from onnx import helper
from operator_checks import graph_of
from test_architecture import ROOT, files, tree_of
from test_operators_quantized import CASES, qgemm

from encoders.lemmas.combining import HELD_NUMBER
from encoders.lemmas.kernel import apply, enclosed
from encoders.lemmas.lemma import RangeLemma
from encoders.lemmas.library import LEMMAS
from encoders.lemmas.ranges.making import given_ranges
from encoders.lemmas.ranges.placing import (
    extreme_range,
    range_moved,
    range_of,
    range_of_cases,
    range_signed,
    range_taken,
    range_through,
    ranges_joined,
)
from encoders.lemmas.ranges.range import Range
from encoders.lemmas.ranges.reals import AROUND, BOTH_RANGES, RELU_RANGE
from encoders.lemmas.reading.arrays import Frame, Reading
from encoders.lemmas.reading.exact import Exact
from encoders.lemmas.terms import Role
from encoders.numbers.enclosure import Interval, LinearPart
from encoders.program import Step, program_of
from encoders.registry import operators
from examples import every_example
from onnx_import import load
from onnx_import.errors import ModelError
from onnx_import.graph import Graph

OF_RANGES = [lemma for lemma in LEMMAS if isinstance(lemma, RangeLemma)]
BY_CODE: frozenset[str] = frozenset()
"""Operators of which a real range is what code of ours finds (`found-range`): may only shrink."""
QUANTISED = (
    "ConvInteger",
    "DynamicQuantizeConv",
    "DynamicQuantizeMatMul",
    "MatMulInteger",
    "QLinearConv",
    "QLinearMatMul",
    "DequantizeLinear",
    "QuantizeLinear",
)
WITHOUT = (
    "given-range",
    "found-range",
    "range-around",
    "stored-range",
    "compared-with-itself",
    "probability-range",
    "normalized-range",
)
"""Lemmas of which no premise is a range: they begin, or hold whatever is known."""
NUMBERS = st.one_of(
    st.sampled_from([0.0, 1.0, -1.0, 0.5, -(2.0**-24), 2.0**-1060, 1e300, 3.0]),
    st.floats(-1e6, 1e6),
)


@pytest.mark.parametrize("lemma", OF_RANGES, ids=lambda m: m.name)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(drawn=st.lists(NUMBERS, min_size=10, max_size=10))
def test_ends_are_read_outwards(lemma: RangeLemma, drawn: list[float]) -> None:
    """Of one number and of an array, by the text that is proved; radii are at least 0."""
    numbers = {p.name: v if p.signed else abs(v) for p, v in zip(lemma.read, drawn, strict=False)}
    for p in lemma.given:
        if p.role is Role.RANGE:
            ends = sorted((numbers[p.name], numbers[p.upper.name]))
            numbers[p.name], numbers[p.upper.name] = ends
    exact, reading = Exact({n: Fraction(v) for n, v in numbers.items()}), Reading()
    assume(all(exact.holds(formula) for formula in lemma.hypotheses))
    low, high = exact.of(lemma.low), exact.of(lemma.high)
    one: Frame = {n: float(v) for n, v in numbers.items()}
    frames: list[Frame] = [one, {n: np.full(3, v) for n, v in numbers.items()}]
    for frame in frames:
        with np.errstate(all="ignore"):
            lo = np.atleast_1d(reading.down(lemma.low)(frame))
            hi = np.atleast_1d(reading.up(lemma.high)(frame))
        assert np.isnan(lo[0]) or lo[0] == -np.inf or Fraction(float(lo[0])) <= low
        assert np.isnan(hi[0]) or hi[0] == np.inf or Fraction(float(hi[0])) >= high


def test_only_the_kernel_makes_a_range() -> None:
    known: Any = Range
    ends = np.zeros(2), np.ones(2)
    record = range_of(Interval(*ends)).record
    for attempt in (
        lambda: known(*ends),
        lambda: known(object(), *ends, record),
        lambda: type("Mine", (Range,), {}),
        lambda: enclosed(RELU_RANGE, X=Interval(*ends)),  # type: ignore[arg-type]
        lambda: apply(RELU_RANGE, X=np.zeros(2)),
    ):
        with pytest.raises(TypeError):
            attempt()
    made = range_of(Interval(*ends))
    with pytest.raises(ValueError, match="read-only"):
        made.lo[0] = 2.0
    with pytest.raises(ValueError, match="WRITEABLE"):
        made.lo.flags.writeable = True
    with pytest.raises(AttributeError):
        made.lo = np.full(2, 2.0)  # type: ignore[misc]
    with pytest.raises(TypeError):
        dataclasses.replace(made, lo=np.full(2, 2.0))
    ends[0][:] = 2.0  # whoever holds the ends may change them
    np.testing.assert_array_equal([made.lo, made.hi], [[0.0, 0.0], [1.0, 1.0]])
    assert type(pickle.loads(pickle.dumps(made))) is Interval  # a claim, to be made a range anew


KEEPERS = tuple(f"encoders/lemmas/{f}.py" for f in ("kernel", "ranges/placing", "ranges/range"))


def test_nobody_else_has_the_key_of_ranges() -> None:
    for file in files():
        if file not in KEEPERS:
            assert "_RANGE_KEY" not in (ROOT / file).read_text(), file


def test_who_makes_a_range() -> None:
    """A lemma applied, elements of ranges at other places, and what ranges hold together."""
    makers = {
        f.name
        for file in KEEPERS
        for f in ast.walk(tree_of(file))
        if isinstance(f, ast.FunctionDef) and f.name != "__init__"
        if any(isinstance(n, ast.Name) and n.id == "_RANGE_KEY" for n in ast.walk(f))
    }
    assert makers == {"enclosed", "_placed", "_held"}


def test_what_places_ranges_makes_no_numbers() -> None:
    x = range_of(Interval(np.array([-1.0, 2.0]), np.array([1.0, 3.0])))
    with pytest.raises(ValueError, match="moves no elements"):
        range_moved(x, lambda v: v * 0.5)
    with pytest.raises(ValueError, match="only move"):
        range_signed(x, np.array([0.5, 1.0]))
    turned = range_signed(x, np.array([-1.0, 0.0]))
    np.testing.assert_array_equal([turned.lo, turned.hi], [[-1.0, 0.0], [1.0, 0.0]])
    both = ranges_joined([x, turned])
    assert both.shape == (4,)
    held = range_of_cases(
        (3,), [(np.array([0, 1]), x), (np.array([1]), range_taken(x, np.array([0])))]
    )
    np.testing.assert_array_equal(held.lo, [-1.0, -1.0, -np.inf])
    np.testing.assert_array_equal(held.hi, [1.0, 3.0, np.inf])


@pytest.mark.parametrize("n", [1, 2, 3, 5, 8])
def test_extremes_of_many_are_those_of_their_ends(n: int) -> None:
    rng = np.random.default_rng(n)
    lo = rng.normal(size=(n, 3))
    x = range_of(Interval(lo, lo + rng.random((n, 3))))
    for largest, f in ((True, np.max), (False, np.min)):
        found = extreme_range(x, largest)
        np.testing.assert_array_equal([found.lo, found.hi], [f(x.lo, axis=0), f(x.hi, axis=0)])


def test_what_is_no_number_is_not_known() -> None:
    x = range_of(Interval(np.array([np.nan, 0.0]), np.array([1.0, np.nan])))
    np.testing.assert_array_equal(x.lo, [-np.inf, 0.0])
    np.testing.assert_array_equal(x.hi, [1.0, np.inf])


def test_ends_that_are_crossed_are_of_nothing() -> None:
    """No real value lies in [1, 0], so whoever found it is wrong: nothing is known there."""
    x = range_of(Interval(np.array([1.0, 0.0]), np.array([0.0, 1.0])))
    np.testing.assert_array_equal([x.lo, x.hi], [[-np.inf, 0.0], [np.inf, 1.0]])
    assert x.record.failed is not None
    for f in (lambda v: v - 1.0, lambda v: v + 5.0 * (v == 0.0)):
        with pytest.raises(ValueError, match="numbers of its own"):
            range_moved(range_of(Interval(np.zeros(2), np.ones(2))), f)


@pytest.mark.parametrize("m", [np.inf, -np.inf])
def test_a_sum_that_overflows_is_not_known(m: float) -> None:
    """Real values are finite, however far binary64 is from holding them."""
    none = {"S": 0.0, "g": 0.0, "n": 0.0, "u": 2.0**-53}
    x = enclosed(AROUND, m=np.array([m]), e=apply(HELD_NUMBER, U=np.zeros(1)), **none)
    np.testing.assert_array_equal([x.lo, x.hi], [[-np.inf], [np.inf]])


def test_a_range_knows_what_it_rests_on() -> None:
    x = range_of(Interval(np.array([-1.0, 2.0]), np.array([1.0, 3.0])))
    y = enclosed(RELU_RANGE, X=range_moved(x, np.flip))
    np.testing.assert_array_equal([y.lo, y.hi], [[2.0, 0.0], [3.0, 1.0]])
    assert y.record.lemmas == ("relu-range", "moved-range", "found-range")
    both = enclosed(BOTH_RANGES, X=x, Y=y)
    np.testing.assert_array_equal([both.lo, both.hi], [[2.0, 2.0], [1.0, 1.0]])


def test_a_product_moves_nothing() -> None:
    x = range_of(Interval(np.zeros(2), np.ones(2)))
    same = LinearPart(np.array, np.abs, np.array, terms=0, adjoint_terms=0)
    np.testing.assert_array_equal(range_through(x, same).hi, x.hi)
    product = LinearPart(np.array, np.abs, np.array, terms=1, adjoint_terms=1)
    with pytest.raises(ValueError, match="computes"):
        range_through(x, product)


@pytest.mark.parametrize("name", list(operators()))
def test_every_range_of_an_operator_is_made_by_lemmas(name: str, tmp_path: Path) -> None:
    """From the ranges of its inputs on, unless it is named above."""
    found = _lemmas_of(name, tmp_path)
    assert found, "is there an example of this operator?"
    assert ("found-range" in found) is (name in BY_CODE)


def test_no_operator_calls_an_interval_of_its_own_a_range() -> None:
    """What is not made by lemmas is an interval of run-time numbers that an operator was given."""
    for file in files():
        if file.startswith("encoders/lemmas/"):
            continue
        for call in ast.walk(tree_of(file)):
            if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "range_of":
                of = call.args[0]
                made = isinstance(of, ast.Call) and getattr(of.func, "id", "") == "Interval"
                assert not made, f"{file}:{call.lineno}"
        assert "FOUND_RANGE" not in (ROOT / file).read_text(), file


def _lemmas_of(name: str, folder: Path) -> set[str]:
    """Lemmas that ranges of this operator rest on, in examples and in what the reader makes."""
    found: set[str] = set()
    for graph in (*_graphs_of(name), *_made(name, folder)):
        steps = program_of(graph).steps
        for step in steps:
            if step.operator.name == name:
                found.update(_lemmas(step))
    return found


def _graphs_of(name: str) -> Iterator[Graph]:
    for case in every_example()[name][:4]:
        with suppress(ModelError, ValueError):
            yield graph_of(case)[0]
    if name in QUANTISED:
        yield from (
            graph_of(case)[0]
            for case in CASES
            if name in (case.name, *(op for op, *_ in case.nodes))
        )


def _made(name: str, folder: Path) -> Iterator[Graph]:
    """With operators that ONNX does not have, or of which it infers no shape."""
    if name in ("QLinearAdd", "QLinearMul", "QLinearGlobalAveragePool"):
        yield from (load(layer.path) for layer in test_quantised_layers.layers(name, folder))
    if name == "QGemm":
        yield qgemm(folder / "gemm.onnx", ["q", "s", "z", "B", "s", "z", "c", "s", "z"])
    if name == "Rational":
        yield kernel_files.read(kernel_files.kernel(folder, "(* x 1/3)", "(<= 1 x 2)", "x"))[0]
    if name == "GroupNormalization":
        held = {"s": np.array([0.7, -1.25, 3.0, 0.1], np.float32), "b": np.zeros(4, np.float32)}
        node = helper.make_node(name, ["x", "s", "b"], ["y"], num_groups=2)
        shape = (2, 4, 3)
        yield load(
            small_models.save(
                folder / "groups.onnx", [node], {"x": shape}, {"y": shape}, held, opset=21
            )
        )
    if name == "RunsInstead":
        yield _of_two(folder)


def _of_two(folder: Path) -> Graph:
    """A tensor for which another is computed, as where two graphs are compared."""
    nodes = [
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node("Sub", ["r", "x"], ["gap"]),
        helper.make_node("Sum", ["x", "r", "gap"], ["y"]),
    ]
    graph = load(small_models.save(folder / "two.onnx", nodes, {"x": [3]}, {"y": [3]}, {}))
    *before, last = graph.order
    return dataclasses.replace(
        graph, order=(*before, dataclasses.replace(last, op="RunsInstead", opset=17))
    )


def _lemmas(step: Step) -> tuple[str, ...]:
    shapes = [step.site.type_of(i).shape for i in step.site.variable]
    given = [Interval(np.full(s, 0.25), np.full(s, 0.75)) for s in shapes]
    ranges = list(given_ranges({str(i): x for i, x in enumerate(given)}).values())
    with np.errstate(all="ignore"):
        return step.operator.values(step.site, ranges).range.record.lemmas


def test_lemmas_that_take_ranges_are_given_them() -> None:
    """Those on where real values lie take the ranges that they rest on, and no bare ends."""
    for lemma in OF_RANGES:
        if lemma.name not in WITHOUT:
            assert any(p.role is Role.RANGE for p in lemma.given), lemma
