"""What every element may be, NaN included, against all executions in formats small enough.

Operations one by one on sets of numbers, sums in every order; then random graphs with masks, of
which every tensor of every run has to be among what is said of it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper
from small_models import save

from encoders.arithmetic.numpy_arithmetic import NumpyArithmetic
from encoders.arithmetic.possible import Possible
from encoders.arithmetic.runtime import Relation
from encoders.contract.contract import Contraction, RuntimeContract, Subnormals
from encoders.contract.functions import CORRECTLY_ROUNDED
from encoders.contract.members import members
from encoders.contract.presets import IEEE_ANY
from encoders.functions.registry import every_function
from encoders.numbers.formats import FloatFormat, small_format
from encoders.rounding.possible_arithmetic import PossibleArithmetic
from gpu_check.emulator.emulator import emulate
from onnx_import.graph import Array, Graph
from onnx_import.onnx.reader import load
from refine.bounds.local.possible_steps import PossibleTensors
from refine.gradients.nan_free import outputs_without_nan, possible_tensors, uniform

TINY, SMALL = small_format(3, 3), small_format(4, 4)
KEEP, FLUSH, EITHER = Subnormals.KEEP, Subnormals.FLUSH, Subnormals.EITHER


def numbers(fmt: FloatFormat) -> Array:
    """Every number of a format, the infinities and NaN."""
    least, most = float(fmt.smallest_subnormal), float(fmt.largest_finite)
    found, value = [0.0], least
    while value <= most:
        found.append(value)
        binade = max(int(np.floor(np.log2(value))), fmt.emin)
        value += 2.0 ** (binade - fmt.precision + 1)
    positive = np.array([*found[1:], np.inf])
    return np.concatenate((-positive[::-1], [0.0], positive, [np.nan]))


def holds(what: Possible, values: Array) -> Array:
    """Of each number, is it among what is said?"""
    v = np.asarray(values, np.float64)
    below = what.below & (-v >= what.below_least) & (-v <= what.below_most)
    above = what.above & (v >= what.above_least) & (v <= what.above_most)
    return np.where(
        np.isnan(v), what.nan, np.where(v == 0, what.zero, np.where(v < 0, below, above))
    )


def some(rng: np.random.Generator, every: Array, fmt: FloatFormat) -> tuple[Possible, Array]:
    """What a few numbers may be at most, and these."""
    chosen = rng.choice(every, size=rng.integers(1, 5))
    found = Possible.within(np.ones((1, 1)), np.zeros((1, 1)), 1.0)
    for v in chosen:
        one = np.full((1, 1), v)
        if np.isnan(v):
            found = found.or_nan(np.ones((1, 1), bool))
        else:
            found = found.either(Possible.within(one, one, float(fmt.smallest_subnormal)))
    inside = every[holds(found, every).ravel()]
    return found, inside


def ways(results: Subnormals, operands: Subnormals) -> list[tuple[Subnormals, Subnormals]]:
    one = [KEEP, FLUSH] if results is EITHER else [results]
    other = [KEEP, FLUSH] if operands is EITHER else [operands]
    return list(itertools.product(one, other))


def contract(results: Subnormals, operands: Subnormals, fmt: FloatFormat) -> RuntimeContract:
    return replace(IEEE_ANY, results=results, operands=operands, compute_format=fmt)


UNARY = ("sqrt", "negate", "absolute", "floor", "nearest", "converted", "read")
BINARY = ("add", "subtract", "multiply", "divide", "maximum", "minimum")


@pytest.mark.parametrize("results", [KEEP, FLUSH, EITHER])
@pytest.mark.parametrize("operands", [KEEP, FLUSH, EITHER])
def test_operations_give_what_is_said(results: Subnormals, operands: Subnormals) -> None:
    rng = np.random.default_rng(3)
    fmt = TINY
    every = numbers(fmt)
    said = contract(results, operands, fmt)
    arithmetic = PossibleArithmetic(fmt, said)
    for way in ways(results, operands):
        pinned = replace(
            said, results=way[0], operands=way[1], contraction=Contraction.NEVER,
            functions=CORRECTLY_ROUNDED,
        )  # fmt: skip
        bits = NumpyArithmetic(fmt, pinned)
        fused = NumpyArithmetic(fmt, replace(pinned, contraction=Contraction.ALWAYS))
        for _ in range(8):
            (a, xs), (b, ys), (c, zs) = (some(rng, every, fmt) for _ in range(3))
            for name in UNARY:
                found = getattr(arithmetic, name)(a)
                assert np.all(holds(found, getattr(bits, name)(xs))), (name, xs)
            x, y = (v.ravel() for v in np.meshgrid(xs, ys))
            for name in BINARY:
                found = getattr(arithmetic, name)(a, b)
                computed = getattr(bits, name)(x, y)
                assert np.all(holds(found, computed)), (name, xs, ys)
            assert np.all(holds(arithmetic.multiply(a, a), bits.multiply(xs, xs)))
            for relation in Relation:
                found = arithmetic.compare(relation, a, b)
                computed = bits.compare(relation, x, y)
                assert np.all(holds(found, computed)), (relation, xs, ys)
            p, q, r = (v.ravel() for v in np.meshgrid(xs, ys, zs))
            found = arithmetic.multiply_add(a, b, c)
            for machine in (bits, fused):
                computed = machine.multiply_add(p, q, r)
                assert np.all(holds(found, computed)), (xs, ys, zs)
            found = arithmetic.select(a, b, c)
            assert np.all(holds(found, bits.select(p, q, r)))
            if way[1] is way[0]:
                _sums(rng, arithmetic, [(a, xs), (b, ys), (c, zs)], (bits, fused))


def test_a_sum_of_one_term_may_be_flushed_where_results_are() -> None:
    """As where a runtime adds it to 0."""
    arithmetic = PossibleArithmetic(TINY, contract(FLUSH, KEEP, TINY))
    least = np.full((1, 1), float(TINY.smallest_subnormal))
    found = arithmetic.sum_of_terms([Possible.within(least, least, float(least[0, 0]))])
    assert np.all(found.zero & found.above)


def _sums(
    rng: np.random.Generator,
    arithmetic: PossibleArithmetic,
    terms: list[tuple[Possible, Array]],
    machines: tuple[NumpyArithmetic, NumpyArithmetic],
) -> None:
    """All trees of three terms and of three products with a bias, of drawn numbers."""
    bits = machines[0]
    drawn = [rng.choice(v, size=200) for _, v in terms]
    found = arithmetic.sum_of_terms([p for p, _ in terms])
    for i, j, k in itertools.permutations(range(3)):
        computed = bits.add(bits.add(drawn[i], drawn[j]), drawn[k])
        assert np.all(holds(found, computed))
    pairs = [(terms[0][0], terms[1][0]), (terms[1][0], terms[2][0])]
    factors = [(drawn[0], drawn[1]), (drawn[1], drawn[2])]
    found = arithmetic.sum_of_products(pairs, terms[0][0])
    for machine in machines:
        for first, second in (factors, factors[::-1]):
            start = machine.multiply_add(*first, drawn[0])
            assert np.all(holds(found, machine.multiply_add(*second, start)))
            chain = machine.multiply_add(*second, machine.multiply(*first))
            assert np.all(holds(found, machine.add(chain, drawn[0])))


@pytest.mark.parametrize("name", sorted(every_function()))
def test_functions_give_what_is_said(name: str) -> None:
    """Rounded correctly, which every accuracy allows."""
    f = every_function()[name]
    if f.approximate is None:
        pytest.skip("a function of several arguments")
    rng = np.random.default_rng(5)
    every = numbers(SMALL)
    for results, operands in ((KEEP, KEEP), (FLUSH, FLUSH), (EITHER, EITHER)):
        said = contract(results, operands, SMALL)
        arithmetic = PossibleArithmetic(SMALL, said)
        for way in ways(results, operands):
            bits = NumpyArithmetic(SMALL, replace(said, results=way[0], operands=way[1]))
            for _ in range(4):
                a, xs = some(rng, every, SMALL)
                with np.errstate(all="ignore"):
                    computed = bits.function(f, xs)
                    assert np.all(holds(arithmetic.function(f, a), computed)), (xs, computed)


OPERATORS = (
    *(("Add", 2), ("Sub", 2), ("Mul", 2), ("Div", 2), ("Max", 2), ("Min", 2)),
    *(("Abs", 1), ("Neg", 1), ("Relu", 1), ("Sqrt", 1), ("Exp", 1), ("Reciprocal", 1), ("Log", 1)),
    *(("Tanh", 1), ("Where", 3), ("Where", 3), ("ReduceSum", 1), ("Softmax", 1), ("Transpose", 1)),
    *(("MatMul", 2), ("Div", 2), ("ReduceSumSquare", 1), ("ReduceMean", 1), ("Sigmoid", 1)),
)
COMPARISONS = ("Equal", "Less", "Greater", "LessOrEqual", "GreaterOrEqual")


def random_graph(rng: np.random.Generator, folder: Path) -> Graph:
    """A graph of two inputs (2, 2), (2, 1) and a few steps, of which conditions choose."""
    floats, truths, nodes = ["x", "n"], list[str](), list[Any]()
    stored: dict[str, Any] = {
        name: np.asarray(v, np.float32)
        for name, v in (("zero", 0.0), ("one", 1.0), ("half", 0.5), ("m", [[1.0, -0.5], [0.25, 2]]))
    }
    known = [*floats, "zero", "one", "half", "m"]
    for k in range(rng.integers(4, 14)):
        name = f"t{k}"
        if rng.random() < 0.3:
            operands = [rng.choice(floats), rng.choice(known)]
            rng.shuffle(operands)
            nodes.append(helper.make_node(rng.choice(COMPARISONS), operands, [name]))
            truths.append(name)
            if rng.random() < 0.3:
                nodes.append(helper.make_node("Not", [name], [f"{name}n"]))
                truths.append(f"{name}n")
            if rng.random() < 0.3:
                joint = rng.choice(["And", "Or"])
                nodes.append(helper.make_node(joint, [name, truths[0]], [f"{name}j"]))
                truths.append(f"{name}j")
            if rng.random() < 0.3:
                nodes.append(helper.make_node("Cast", [name], [f"{name}f"], to=1))
                floats.append(f"{name}f")
                known.append(f"{name}f")
            continue
        op, count = OPERATORS[rng.integers(len(OPERATORS))]
        if op == "Where" and not truths:
            continue
        operands = [rng.choice(known if i else floats) for i in range(count)]
        if op == "Where":
            operands = [rng.choice(truths), rng.choice(known), rng.choice(floats)]
        if op == "MatMul":
            operands[1] = "m"
        nodes.append(helper.make_node(op, operands, [name]))
        floats.append(name)
        known.append(name)
    if len(floats) == 2:
        nodes.append(helper.make_node("Neg", ["x"], ["y"]))
        floats.append("y")
    return load(
        save(folder / "g.onnx", nodes, {"x": (2, 2), "n": (2, 1)}, {floats[-1]: None}, stored,
             opset=13)
    )  # fmt: skip


def runs(
    graph: Graph, said: RuntimeContract, given: Mapping[str, tuple[Array, Array]],
    rng: np.random.Generator,
) -> Iterator[Mapping[str, Array]]:  # fmt: skip
    """Every tensor of many inputs of a box, in every member of a contract."""
    assert said.compute_format is not None
    every = numbers(said.compute_format)[:-1]
    samples = {}
    for name, (lo, hi) in given.items():
        inside = every[(every >= lo.min()) & (every <= hi.max())]
        inside = np.concatenate((inside, np.zeros(len(inside) // 3)))
        inside = inside[(inside >= lo.min()) & (inside <= hi.max())]
        samples[name] = rng.choice(inside, size=(120, *lo.shape))
    for member in members(said):
        try:
            with np.errstate(all="ignore"):
                yield emulate(graph, samples, member, every_tensor=True)
        except ValueError:
            continue


def checked(seed: int, folder: Path) -> int:
    """How many outputs were shown never to be NaN, of one random graph."""
    rng = np.random.default_rng(seed)
    try:
        graph = random_graph(rng, folder)
    except Exception:
        return 0
    every = numbers(SMALL)[1:-2]
    ends = {t: np.sort(rng.choice(every, 2)) for t in graph.inputs}
    given = {
        t: (np.full(graph.types[t].shape, lo), np.full(graph.types[t].shape, hi))
        for t, (lo, hi) in ends.items()
    }
    open_ = contract(EITHER, EITHER, SMALL)
    if seed % 3 == 0:
        open_ = replace(open_, accumulation=small_format(5, 6))
    shown = 0
    for said in (open_, *uniform(open_)):
        known: PossibleTensors = possible_tensors(graph, given, said)
        clean = outputs_without_nan(graph, known) is not None
        shown += clean
        for found in runs(graph, said, given, rng):
            for tensor, values in found.items():
                if tensor not in known:
                    continue
                inside = holds(known[tensor], np.asarray(values, np.float64))
                assert np.all(inside), (seed, tensor, ends)
            for t in graph.outputs:
                assert not clean or not np.any(np.isnan(np.asarray(found[t], np.float64)))
    return shown


@pytest.mark.parametrize("first", range(0, 60, 20))
def test_random_graphs_are_what_is_said_of_them(first: int, tmp_path: Path) -> None:
    shown = sum(checked(seed, tmp_path) for seed in range(first, first + 20))
    assert shown > 20
