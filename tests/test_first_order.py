"""First-order bounds of small networks of scalars: never below an exactly evaluated error."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_files import FILES, FOLDER, exact_error, kernel, read, toy
from onnx import TensorProto, helper

import refine.scalar.first_order as first_order
from encoders.arithmetic.exact_fields import Balls, enclosure
from encoders.contract.contract import RuntimeContract
from encoders.contract.presets import EXACT, IEEE_ANY, SEQUENTIAL
from encoders.functions.erf import ERF
from encoders.functions.exp import EXP
from encoders.functions.tanh import TANH
from encoders.functions.waves import SIN
from encoders.numbers.enclosure import Interval
from encoders.numbers.formats import round_array, small_format
from encoders.relaxations.affine_forms import Form, variable
from encoders.relaxations.form_fields import Forms, plus
from gpu_check.emulator.emulator import emulate
from gpu_check.emulator.exact import evaluate_exact
from onnx_import import load
from onnx_import.graph import Graph
from refine.bounds.network import InputBox
from refine.domain.domain import Domain
from refine.proof.proof import input_box
from refine.scalar.branch_and_bound import largest_error
from refine.scalar.first_order import analyse, applies, scalars

TINY = small_format(5, 4)
_POINTS = 9


def bound_of(graph: Graph, domain: Domain, contract: RuntimeContract) -> float:
    """As tight as the method gets, whatever the clock says."""
    whole = input_box(domain.boxes[0], domain, contract)
    return largest_error(graph, contract, whole, 0.0, math.inf).bound


@pytest.mark.parametrize(
    ("name", "rounded", "most"),
    [
        ("rigidBody1", False, 2.131629e-13),
        ("rigidBody2", False, 2.271606e-11),
        ("turbine1", False, 1.238730e-14),
        ("turbine2", False, 1.249012e-14),
        ("rigidBody1", True, 2.949e-13),
        ("turbine1", True, 1.670e-14),
        ("doppler1", True, 1.218e-13),
        ("jetEngine", True, 1.028e-11),
        ("predatorPrey", True, 1.586e-16),
        ("sine", True, 4.430e-16),
        ("sqroot", True, 5.016e-16),
        ("verhulst", True, 2.471e-16),
        ("carbonGas", True, 4.962e-9),
    ],
)
def test_no_looser_than_fptaylor(name: str, rounded: bool, most: float) -> None:
    """Its power-of-two model's figures, measured by this project."""
    graph, domain = read(FOLDER / f"{name}.fpcore", rounded)
    whole = input_box(domain.boxes[0], domain, SEQUENTIAL)
    assert largest_error(graph, SEQUENTIAL, whole, most * 0.9999, math.inf).bound <= most


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
@pytest.mark.parametrize("rounded", [False, True])
def test_no_sampled_error_exceeds_the_bound(path: Path, rounded: bool) -> None:
    """float64 and float32, the whole box at once and a small box around each point."""
    graph, domain = read(path, rounded)
    assert applies(graph)
    (box,) = domain.boxes
    whole = input_box(box, domain, SEQUENTIAL)
    task = scalars(graph, SEQUENTIAL, whole)
    rng = np.random.default_rng(11)
    points = box.sample(rng, _POINTS)
    lo = np.stack([whole.values[n].lo.reshape(1) for n in graph.inputs])
    hi = np.stack([whole.values[n].hi.reshape(1) for n in graph.inputs])
    errors: list[Fraction] = []
    columns: list[np.ndarray] = []
    for i in range(_POINTS):
        at = {n: float(v[i]) for n, v in points.items()}
        real = dict(at)
        if rounded:
            for n, x in at.items():
                moved = x * (1.0 + rng.uniform(-0.5, 0.5) * float(box.formats[n].unit_roundoff))
                real[n] = float(np.clip(moved, box.real_lo[n], box.real_hi[n]))
                at[n] = float(round_array(real[n], box.formats[n]))
        error = exact_error(graph, SEQUENTIAL, at, real)
        assert error is not None
        errors.append(error)
        columns.append(np.array([[real[n]] for n in graph.inputs]))
    here = np.concatenate(columns, axis=1)
    width = (hi - lo) * 2.0**-8
    small = np.maximum(here - width, lo), np.minimum(here + width, hi)
    left, right = (
        np.concatenate(sides, axis=1) for sides in ((lo, small[0], here), (hi, small[1], here))
    )
    upper = analyse(task, left, right).upper
    for i, error in enumerate(errors):
        for column in (0, 1 + i, 1 + _POINTS + i):
            assert error <= Fraction(float(upper[column]))


def expressions(depth: int) -> st.SearchStrategy[str]:
    leaf = st.sampled_from(["x", "y", "0.1", "1.5", "2", "-3", "0.7"])
    if depth == 0:
        return leaf
    below = expressions(depth - 1)
    binary = st.builds("({} {} {})".format, st.sampled_from("+-*/"), below, below)
    other = st.builds("({} {})".format, st.sampled_from(["sqrt", "exp", "fabs", "-", "sin"]), below)
    chosen = st.builds("(fmax {} {})".format, below, below)
    branch = st.builds("(if (< {} {}) {} {})".format, below, below, below, below)
    return st.one_of(binary, binary, binary, other, chosen, branch, leaf)


def worst_in_tiny_format(
    body: str, contract: RuntimeContract, steps: int = 5
) -> tuple[float, Fraction]:
    """The bound over two boxes in a 4-bit format, and the largest error at points of them and on
    each as a box of its own; second-order terms and constants are as large as they get there."""
    with tempfile.TemporaryDirectory() as folder:
        pre = "(and (<= 0.5 x 1.25) (<= 1 y 2.5))"
        graph, domain = read(kernel(Path(folder), body, pre), contract=contract)
    (box,) = domain.boxes
    whole = input_box(box, domain, contract)
    names = graph.inputs
    lo = np.stack([whole.values[n].lo.reshape(1) for n in names])
    hi = np.stack([whole.values[n].hi.reshape(1) for n in names])
    middle = 0.5 * lo + 0.5 * hi
    left = np.concatenate([lo, np.where(np.arange(len(lo))[:, None] == 0, middle, lo)], axis=1)
    right = np.concatenate([np.where(np.arange(len(lo))[:, None] == 0, middle, hi), hi], axis=1)
    grids = [
        sorted({float(round_array(v, TINY)) for v in np.linspace(a, b, steps)})
        for a, b in zip(lo[:, 0], hi[:, 0], strict=True)
    ]
    points = np.stack(np.meshgrid(*grids), axis=-1).reshape(-1, len(names)).T
    left, right = (np.concatenate([side, points], axis=1) for side in (left, right))
    upper = analyse(scalars(graph, contract, whole), left, right).upper
    worst = Fraction(0)
    for point in points.T:
        at = dict(zip(names, map(float, point), strict=True))
        error = exact_error(graph, contract, at)
        inside = np.all((left <= point[:, None]) & (point[:, None] <= right), axis=0)
        assert np.any(inside)
        for bound in upper[inside]:
            if np.isfinite(bound):
                assert error is not None, f"{body} is not finite at {at}"
                assert error <= Fraction(float(bound)), f"{body} at {at}: {float(error)} > {bound}"
                worst = max(worst, error)
    return float(np.max(upper[:2])), worst


@settings(max_examples=60, deadline=None, derandomize=True)
@given(expressions(3).filter(lambda e: "x" in e.replace("exp", "").replace("max", "")))
def test_random_kernels_in_a_tiny_format(body: str) -> None:
    worst_in_tiny_format(body, toy(TINY))


BODY = "(/ (* x y) (+ x 1.5))"


def test_the_tiny_format_leaves_little_room() -> None:
    """What the next test rests on: a bound within a small factor of errors that occur."""
    bound, worst = worst_in_tiny_format(BODY, toy(TINY), steps=13)
    assert float(worst) <= bound <= 8 * float(worst)


def _drop(op: str) -> Callable[[pytest.MonkeyPatch], None]:
    def without(monkeypatch: pytest.MonkeyPatch) -> None:
        real = first_order._rounding

        def rounding(step, *rest):  # type: ignore[no-untyped-def]
            own, lemmas = real(step, *rest)
            return (own * 0.0 if step.operator.name == op else own), lemmas

        monkeypatch.setattr(first_order, "_rounding", rounding)

    return without


def _no_hull(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Form, "inflate", lambda self, by: self)


def _one_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tensor read twice hands on only what its last reader wants."""
    monkeypatch.setattr(first_order, "plus", lambda a, b: b)


def _no_constants(monkeypatch: pytest.MonkeyPatch) -> None:
    real = first_order.scalars

    def without(*arguments):  # type: ignore[no-untyped-def]
        task = real(*arguments)
        zero = {t: (v, type(e)(e.lo * 0, e.hi * 0)) for t, (v, e) in task.fixed.items()}
        return type(task)(task.graph, task.contract, task.whole, zero)

    monkeypatch.setattr("test_first_order.scalars", without)


@pytest.mark.parametrize(
    ("wrong", "body"),
    [
        (_drop("Mul"), "(* x y)"),
        (_drop("Div"), "(/ x y)"),
        (_drop("Add"), "(+ (* 2 x) y)"),
        (_drop("Sqrt"), "(* 4 (sqrt x))"),
        (_no_hull, "(exp (* 4 (* x y)))"),
        (_one_path, "(let ([t (+ x y)]) (* t t))"),
        (_no_constants, "(* 8 (* x 0.7))"),
    ],
    ids=lambda v: getattr(v, "__name__", v),
)
def test_a_wrong_analysis_is_caught(
    wrong: Callable[[pytest.MonkeyPatch], None], body: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    worst_in_tiny_format(body, toy(TINY), steps=13)
    wrong(monkeypatch)
    with pytest.raises(AssertionError, match=r"at \{"):
        worst_in_tiny_format(body, toy(TINY), steps=13)


def test_nothing_rounds_under_the_exact_contract() -> None:
    graph, domain = read(FOLDER / "doppler1.fpcore", contract=EXACT)
    assert bound_of(graph, domain, EXACT) <= 2.0**-1000


def test_flushing_runtimes_are_covered() -> None:
    graph, domain = read(FOLDER / "verhulst.fpcore")
    kept = bound_of(graph, domain, SEQUENTIAL) * (1.0 - 2.0**-10)
    assert kept <= bound_of(graph, domain, IEEE_ANY) < 1e-15


@settings(max_examples=80, deadline=None, derandomize=True)
@given(
    st.sampled_from(["x*y", "x*x", "x/y", "1/y", "sqrt", "exp", "sin", "tanh", "erf", "max"]),
    st.floats(0.1, 4.0),
    st.floats(0.0, 3.0),
    st.floats(-3.0, 3.0),
    st.floats(0.0, 1.0),
    st.floats(0.0, 1.0),
)
def test_forms_contain_exact_values(
    op: str, start: float, width: float, shift: float, s: float, t: float
) -> None:
    """The affine range at the point, and the interval, both contain the exact result."""
    lo = np.array([[start], [0.25]])
    hi = np.array([[start + width], [1.5]])
    at = np.minimum(lo[:, 0] + np.array([s, t]) * (hi - lo)[:, 0], hi[:, 0])
    forms, balls = Forms(2), Balls(200)
    x, y = variable(0, lo, hi), variable(1, lo, hi)
    found: dict[str, tuple[object, Callable[[object, object], object]]] = {
        "x*y": (x * y, lambda a, b: a * b),  # type: ignore[operator]
        "x*x": (x * x, lambda a, b: a * a),  # type: ignore[operator]
        "x/y": (x / y, lambda a, b: a / b),  # type: ignore[operator]
        "1/y": (1 / y, lambda a, b: 1 / b),  # type: ignore[operator]
        "sqrt": (x.root(), lambda a, b: a.sqrt()),  # type: ignore[attr-defined]
        "exp": (x.apply(EXP), lambda a, b: a.exp()),  # type: ignore[attr-defined]
        "sin": ((x + y).apply(SIN), lambda a, b: (a + b).sin()),  # type: ignore[operator]
        "tanh": ((x - y).apply(TANH), lambda a, b: (a - b).tanh()),  # type: ignore[operator]
        "erf": ((x - y).apply(ERF), lambda a, b: (a - b).erf()),  # type: ignore[operator]
        "max": ((x - y).magnitude(), lambda a, b: abs(a - b)),  # type: ignore[operator]
    }
    form, exact = found[op]
    assert isinstance(form, Form)
    with balls.working():
        a, b = balls.constant(at)[0]
        low, high = enclosure(exact(a, b))  # type: ignore[arg-type]
    middle = 0.5 * lo + 0.5 * hi
    with np.errstate(invalid="ignore", divide="ignore"):
        place = np.where(hi > lo, (at[:, None] - middle) / (0.5 * (hi - lo)), 0.0)
    line = float((form.centre + np.sum(form.slope * place, axis=0))[0])
    radius = float(form.radius[0]) * (1 + 1e-9) + 1e-13
    assert op == "max" or Fraction(float(form.lo[0])) <= low
    assert high <= Fraction(float(form.hi[0]))
    assert high <= line + radius
    assert op == "max" or line - radius <= low
    assert forms.inputs == 2
    assert plus(0, form) is form


SCALAR_OPERATORS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("Gelu", {}),
    ("Gelu", {"approximate": "tanh"}),
    ("HardSigmoid", {"alpha": 0.5, "beta": 0.25}),
    ("Swish", {"alpha": 0.5}),
    ("Mish", {}),
    ("Elu", {"alpha": 0.5}),
    ("Softsign", {}),
    ("HardSwish", {}),
)


@pytest.mark.parametrize(("op", "attributes"), SCALAR_OPERATORS)
def test_operators_of_one_scalar_in_onnx_files(
    op: str, attributes: dict[str, Any], tmp_path: Path
) -> None:
    """Their real semantics put numbers of a field before arrays; FPCore files have none of them."""
    made = helper.make_model(
        helper.make_graph(
            [helper.make_node(op, ["x"], ["y"], **attributes)],
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ())],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ())],
        ),
        opset_imports=[helper.make_opsetid("", 24)],
        ir_version=10,
    )
    onnx.save(made, tmp_path / "model.onnx")
    graph = load(tmp_path / "model.onnx")
    assert applies(graph)
    box = InputBox({"x": Interval(np.array(-2.0), np.array(3.0))}, {"x": np.zeros(())})
    bound = largest_error(graph, SEQUENTIAL, box, 0.0, math.inf, rounds=2).bound
    x = np.random.default_rng(0).uniform(-2.0, 3.0, 50).astype(np.float32)
    computed = emulate(graph, {"x": x}, SEQUENTIAL)["y"]
    for value, run in zip(x, computed, strict=True):
        exact = evaluate_exact(graph, {"x": np.asarray(value)}, Balls())["y"].item()
        lo, hi = enclosure(exact)
        assert max(Fraction(float(run)) - hi, lo - Fraction(float(run))) <= Fraction(bound)
    assert bound < 1e-5
