"""Equality over the reals: recognised where two graphs are rewrites of each other, nowhere else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from pathlib import Path

import flint
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import NodeProto, helper
from small_models import save

from encoders.arithmetic.algebraic_field import AlgebraicField, TooLarge
from encoders.arithmetic.exact_fields import Balls, object_array
from encoders.contract.presets import EXACT
from encoders.functions.exp import EXP
from encoders.functions.log import LOG
from encoders.functions.sigmoid import SIGMOID
from encoders.functions.waves import SIN
from gpu_check.emulator.exact import evaluate_exact
from onnx_import import load
from refine.pair.equality import equal_outputs
from refine.pair.pair import pair_of
from refine.results.verdict import Side

node = helper.make_node
CONSTANTS: Mapping[str, np.ndarray] = {
    "one": np.array(1, np.float32),
    "two": np.array(2, np.float32),
    "three": np.array(3, np.float32),
    "half": np.array(0.5, np.float32),
    "third": np.array(1 / 3, np.float32),
    "w": np.array([[1.0, -2.0, 0.5], [0.5, 3.0, 0.1]], np.float32),
    "wt": np.array([[1.0, 0.5], [-2.0, 3.0], [0.5, 0.1]], np.float32),
    "axis": np.array([-1], np.int64),
}


def graph(path: Path, nodes: list[NodeProto]) -> Path:
    used = {t for n in nodes for t in n.input}
    shape = (1, 2) if any(n.op_type in ("MatMul", "Gemm") for n in nodes) else (2, 3)
    out = (1, 3) if shape == (1, 2) else shape
    held = {k: v for k, v in CONSTANTS.items() if k in used}
    return save(path, nodes, {"x": shape}, {"y": out}, held)


PAIRS: Mapping[str, tuple[list[NodeProto], list[NodeProto]]] = {
    "distributivity": (
        [node("Add", ["x", "two"], ["s"]), node("Mul", ["s", "x"], ["y"])],
        [
            node("Mul", ["x", "x"], ["a"]),
            node("Mul", ["x", "two"], ["b"]),
            node("Add", ["a", "b"], ["y"]),
        ],
    ),
    "softmax and its largest argument": (
        [node("Softmax", ["x"], ["y"], axis=-1)],
        [
            node("ReduceMax", ["x"], ["m"], axes=[-1], keepdims=1),
            node("Sub", ["x", "m"], ["d"]),
            node("Exp", ["d"], ["e"]),
            node("ReduceSum", ["e", "axis"], ["s"], keepdims=1),
            node("Div", ["e", "s"], ["y"]),
        ],
    ),
    "log of softmax": (
        [node("LogSoftmax", ["x"], ["y"], axis=-1)],
        [node("Softmax", ["x"], ["p"], axis=-1), node("Log", ["p"], ["y"])],
    ),
    "a root under a fraction": (
        [node("Sqrt", ["x"], ["r"]), node("Div", ["x", "r"], ["y"])],
        [node("Sqrt", ["x"], ["y"])],
    ),
    "tanh by the sigmoid": (
        [node("Tanh", ["x"], ["y"])],
        [
            node("Mul", ["x", "two"], ["d"]),
            node("Sigmoid", ["d"], ["s"]),
            node("Mul", ["s", "two"], ["t"]),
            node("Sub", ["t", "one"], ["y"]),
        ],
    ),
    "a scaled Relu": (
        [node("Relu", ["x"], ["r"]), node("Mul", ["r", "two"], ["y"])],
        [node("Mul", ["x", "two"], ["d"]), node("Relu", ["d"], ["y"])],
    ),
    "a transposed weight": (
        [node("MatMul", ["x", "w"], ["y"])],
        [node("Gemm", ["x", "wt"], ["y"], transB=1)],
    ),
    "squares": (
        [node("Pow", ["x", "two"], ["y"])],
        [node("Mul", ["x", "x"], ["y"])],
    ),
}
UNEQUAL: Mapping[str, tuple[list[NodeProto], list[NodeProto]]] = {
    "a third is not its float": (
        [node("Div", ["x", "three"], ["y"])],
        [node("Mul", ["x", "third"], ["y"])],
    ),
    "Relu of the opposite": (
        [node("Relu", ["x"], ["y"])],
        [node("Neg", ["x"], ["n"]), node("Relu", ["n"], ["y"])],
    ),
    "another axis": (
        [node("Softmax", ["x"], ["y"], axis=-1)],
        [node("Softmax", ["x"], ["y"], axis=0)],
    ),
    "sine and cosine": ([node("Sin", ["x"], ["y"])], [node("Cos", ["x"], ["y"])]),
}


def equal(tmp_path: Path, spec: list[NodeProto], impl: list[NodeProto]) -> bool:
    one, other = (load(graph(tmp_path / f"{i}.onnx", n)) for i, n in enumerate((spec, impl)))
    pair = pair_of(Side(one, EXACT), Side(other, EXACT))
    return equal_outputs(pair) == {"y"}


@pytest.mark.parametrize("name", PAIRS)
def test_rewrites_are_recognised(tmp_path: Path, name: str) -> None:
    assert equal(tmp_path, *PAIRS[name])
    assert equal(tmp_path, *reversed(PAIRS[name]))


@pytest.mark.parametrize("name", UNEQUAL)
def test_what_is_not_equal_is_not_called_so(tmp_path: Path, name: str) -> None:
    assert not equal(tmp_path, *UNEQUAL[name])


def test_the_rewrites_agree_in_ball_arithmetic(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for spec, impl in PAIRS.values():
        graphs = [load(graph(tmp_path / f"{i}.onnx", n)) for i, n in enumerate((spec, impl))]
        x = rng.uniform(0.1, 2, graphs[0].types["x"].shape)
        a, b = (evaluate_exact(g, {"x": x}, Balls(200))["y"] for g in graphs)
        assert all(d.contains(0) for d in (a - b).flat)


OPERATIONS: tuple[Callable[..., object], ...] = (
    lambda f, a, b: a + b,
    lambda f, a, b: a - b,
    lambda f, a, b: a * b,
    lambda f, a, b: a / (b * b + f.number(Fraction(1))),
    lambda f, a, b: f.maximum(a, b),
    lambda f, a, b: f.sqrt(a * a + f.number(Fraction(2))),
    lambda f, a, b: f.function(EXP, a / f.number(Fraction(4)) - b / f.number(Fraction(9))),
    lambda f, a, b: f.function(SIGMOID, f.function(SIN, a)),
    lambda f, a, b: f.function(LOG, f.function(EXP, f.function(SIN, a))),
    lambda f, a, b: f.select(b, a, a),
)
programs = st.lists(
    st.tuples(st.integers(0, len(OPERATIONS) - 1), st.integers(0, 5), st.integers(0, 5)),
    min_size=1,
    max_size=6,
)


@settings(max_examples=60, deadline=None)
@given(programs, programs, st.integers(0, 2**32 - 1))
def test_formulas_called_the_same_have_the_same_values(
    first: list[tuple[int, int, int]], second: list[tuple[int, int, int]], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    algebra, balls = AlgebraicField(60), Balls(300)
    unknown = [algebra.variables((1,)) for _ in range(3)]
    points = [object_array([flint.arb(float(v))], (1, 1)) for v in rng.uniform(-1, 1, 3)]

    def run(program: list[tuple[int, int, int]], field: object, start: list) -> list:  # type: ignore[type-arg]
        values = list(start)
        for which, i, j in program:
            a, b = values[i % len(values)], values[j % len(values)]
            values.append(OPERATIONS[which](field, a, b))
        return values

    try:
        formulas = run(first, algebra, unknown)[3:] + run(second, algebra, unknown)[3:]
        with balls.working():
            numbers = run(first, balls, points)[3:] + run(second, balls, points)[3:]
            for a, x in zip(formulas, numbers, strict=True):
                for b, y in zip(formulas, numbers, strict=True):
                    if a.item().same(b.item()):
                        assert (x.item() - y.item()).contains(0)
    except TooLarge:
        pass
