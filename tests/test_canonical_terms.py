"""Terms in normal form: whatever they call equal is equal, and what ought to be equal is."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import z3
from onnx import helper
from small_models import save

import encoders
from encoders.arithmetic.canonical_terms import TermsTooLarge
from encoders.arithmetic.exact_fields import ObjectArray
from encoders.arithmetic.runtime import Relation
from encoders.arithmetic.term_field import TermField
from encoders.functions.exp import EXP
from encoders.functions.log import LOG
from encoders.registry import operators
from gpu_check.emulator.exact import evaluate_real
from onnx_import import load


def _same_terms(a: ObjectArray, b: ObjectArray) -> bool:
    """Are two arrays of terms of one field, of any shapes, equal in row-major order?"""
    mine, other = a.ravel().tolist(), b.ravel().tolist()
    return len(mine) == len(other) and all(
        x is y or x.number == y.number for x, y in zip(mine, other, strict=True)
    )


@dataclass(frozen=True)
class _Both:
    """A term and its float64 value at some points."""

    term: ObjectArray
    at: np.ndarray[tuple[int, ...], np.dtype[np.float64]]


def _grown(rng: np.random.Generator, field: TermField, size: int) -> list[_Both]:
    """Random formulas of two variables with their values, which share small constants often."""
    points = rng.uniform(-2, 2, (2, 9))
    made = [_Both(field.variables(()), points[k]) for k in range(2)]
    for value in (-2, -1, 0.5, 1, 2):
        made.append(_Both(field.constant(np.array(value)), np.full(9, float(value))))
    while len(made) < size:
        a, b, c, d = (made[i] for i in rng.integers(0, len(made), 4))
        kind = rng.integers(0, 10)
        with np.errstate(all="ignore"):
            if kind == 0:
                new = _Both(a.term + b.term, a.at + b.at)
            elif kind == 1:
                new = _Both(a.term - b.term, a.at - b.at)
            elif kind == 2:
                new = _Both(a.term * b.term, a.at * b.at)
            elif kind == 3:
                if np.any(np.abs(b.at) < 1e-2):
                    continue
                new = _Both(a.term / b.term, a.at / b.at)
            elif kind == 4:
                new = _Both(field.maximum(a.term, b.term), np.maximum(a.at, b.at))
            elif kind == 5:
                low = -field.maximum(-a.term, -b.term)
                new = _Both(low, np.minimum(a.at, b.at))
            elif kind == 6:
                relation = (Relation.LESS, Relation.AT_MOST)[int(rng.integers(0, 2))]
                condition = field.compare(relation, a.term, b.term)
                if rng.random() < 0.3:
                    condition = 1 - condition
                    truth = a.at >= b.at
                else:
                    truth = a.at < b.at
                if np.any(np.abs(a.at - b.at) < 1e-9):
                    continue
                e, f = ((a, b), (b, a), (c, d))[int(rng.integers(0, 3))]
                value = np.where(truth, e.at, f.at)
                new = _Both(field.select(condition, e.term, f.term), value)
            elif kind == 7:
                if np.any(a.at <= 1e-3):
                    continue
                new = _Both(field.sqrt(a.term), np.sqrt(a.at))
            elif kind == 8:
                if np.any(np.abs(a.at) > 20):
                    continue
                new = _Both(field.function(EXP, a.term), np.exp(a.at))
            else:
                if np.any(a.at <= 1e-3):
                    continue
                new = _Both(field.function(LOG, a.term), np.log(a.at))
        if np.all(np.abs(new.at) < 1e6):
            made.append(new)
    return made


@pytest.mark.parametrize("seed", range(6))
def test_equal_terms_have_equal_values(seed: int) -> None:
    """Values are computed apart, by numpy; formulas that happen to be one term must agree."""
    field = TermField(10**7)
    groups: dict[int, list[_Both]] = {}
    for formula in _grown(np.random.default_rng(seed), field, 350):
        groups.setdefault(formula.term.ravel()[0].number, []).append(formula)
    met = 0
    for group in groups.values():
        for other in group[1:]:
            met += 1
            np.testing.assert_allclose(other.at, group[0].at, rtol=1e-6, atol=1e-7)
    assert met > 5


def test_laws_of_choice_and_clipping() -> None:
    """Those that terms are rewritten by, as Z3 proves them."""
    x, low, high, d, k, b = z3.Reals("x low high d k b")

    def most(p: Any, q: Any) -> Any:
        return z3.If(p > q, p, q)

    def least(p: Any, q: Any) -> Any:
        return -most(-p, -q)

    a = b + k * d
    laws = (
        z3.Implies(low <= high, most(low, least(x, high)) == least(most(x, low), high)),
        z3.Implies(low >= high, most(low, least(x, high)) == low),
        z3.Implies(z3.And(low < high, x >= low), most(low, least(x, high)) == least(x, high)),
        z3.Implies(k < 0, z3.If(d < 0, a, b) == most(a, b)),
        z3.Implies(k < 0, z3.If(d <= 0, a, b) == most(a, b)),
        z3.Implies(k > 0, z3.If(d < 0, a, b) == least(a, b)),
        z3.Implies(k > 0, z3.If(d <= 0, a, b) == least(a, b)),
    )
    for law in laws:
        solver = z3.Solver()
        solver.set("timeout", 10_000)
        solver.add(z3.Not(law))
        assert solver.check() == z3.unsat, law


def test_long_sums_have_no_order() -> None:
    field = TermField(10**6)
    rng = np.random.default_rng(0)
    x = field.variables((1, 40))
    w = rng.normal(size=(40, 3)).astype(np.float32)
    order = rng.permutation(40)
    there = field.matmul(x, field.constant(w))
    again = field.matmul(x[..., order], field.constant(w[order]))
    turned = np.swapaxes(
        field.matmul(
            np.swapaxes(field.constant(-w[order]), -1, -2), np.swapaxes(-x[..., order], -1, -2)
        ),
        -1,
        -2,
    )
    assert _same_terms(there, again)
    assert _same_terms(there, turned)
    for place in (0, 39):
        other = w.copy()
        other[place, 1] = np.nextafter(other[place, 1], np.float32(9))
        assert not _same_terms(there, field.matmul(x, field.constant(other)))


def test_too_much_work_is_refused() -> None:
    field = TermField(100)
    x = field.variables((1, 40))
    with pytest.raises(TermsTooLarge):
        field.matmul(x, field.constant(np.ones((40, 40))))


def _equal(a: Path, b: Path) -> bool:
    field = TermField(10**7)
    spec, impl = load(a), load(b)
    x = field.variables(spec.types["x"].shape)
    mine = evaluate_real(impl, {"x": x}, field)["y"]
    return _same_terms(mine, evaluate_real(spec, {"x": x}, field)["y"])


Make = Callable[[str], tuple[list[onnx.NodeProto], dict[str, np.ndarray]]]
_N = helper.make_node
_F = np.float32


def _softmax(kind: str) -> tuple[list[onnx.NodeProto], dict[str, np.ndarray]]:
    if kind == "one":
        return [_N("Softmax", ["x"], ["y"], axis=-1)], {}
    shifted = "s" if kind == "shifted" else "x"
    nodes = [
        _N("ReduceMax", ["x"], ["m"], axes=[-1]),
        _N("Sub", ["x", "m"], ["s"]),
        _N("Exp", [shifted], ["e"]),
        _N("ReduceSum", ["e", "axis"], ["t"]),
        _N("Div", ["e", "t"], ["y"]),
    ]
    return nodes, {"axis": np.array([0 if kind == "other axis" else -1])}


def _norm(kind: str) -> tuple[list[onnx.NodeProto], dict[str, np.ndarray]]:
    rng = np.random.default_rng(1)
    constants = {"g": rng.normal(size=6).astype(_F), "b": rng.normal(size=6).astype(_F)}
    if kind == "one":
        return [_N("LayerNormalization", ["x", "g", "b"], ["y"], axis=-1)], constants
    eps = np.array(1e-5 if kind == "written out" else 1e-6, _F)
    nodes = [
        _N("ReduceMean", ["x"], ["m"], axes=[-1]),
        _N("Sub", ["x", "m"], ["d"]),
        _N("Mul", ["d", "d"], ["q"]),
        _N("ReduceMean", ["q"], ["v"], axes=[-1]),
        _N("Add", ["eps", "v"], ["w"]),
        _N("Sqrt", ["w"], ["r"]),
        _N("Div", ["d", "r"], ["n"]),
        _N("Mul", ["g", "n"], ["h"]),
        _N("Add", ["b", "h"], ["y"]),
    ]
    return nodes, constants | {"eps": eps}


def _swish(kind: str) -> tuple[list[onnx.NodeProto], dict[str, np.ndarray]]:
    if kind == "one":
        return [_N("Sigmoid", ["x"], ["s"]), _N("Mul", ["x", "s"], ["y"])], {}
    sign = "Neg" if kind == "written out" else "Identity"
    nodes = [
        _N(sign, ["x"], ["n"]),
        _N("Exp", ["n"], ["e"]),
        _N("Add", ["e", "1"], ["d"]),
        _N("Div", ["x", "d"], ["y"]),
    ]
    return nodes, {"1": np.array(1, _F)}


def _clip(kind: str) -> tuple[list[onnx.NodeProto], dict[str, np.ndarray]]:
    limits = {"l": np.array(0, _F), "h": np.array(6, _F)}
    if kind == "one":
        return [_N("Clip", ["x", "l", "h"], ["y"])], limits
    if kind == "min first":
        return [_N("Min", ["x", "h"], ["m"]), _N("Max", ["l", "m"], ["y"])], limits
    if kind == "where":
        nodes = [
            _N("Less", ["x", "l"], ["a"]),
            _N("Where", ["a", "l", "x"], ["m"]),
            _N("Greater", ["m", "h"], ["c"]),
            _N("Where", ["c", "h", "m"], ["y"]),
        ]
        return nodes, limits
    nodes = [  # limits the wrong way round
        _N("Less", ["x", "l"], ["a"]),
        _N("Where", ["a", "x", "l"], ["m"]),
        _N("Min", ["m", "h"], ["y"]),
    ]
    return nodes, limits


def _moved(kind: str) -> tuple[list[onnx.NodeProto], dict[str, np.ndarray]]:
    if kind == "one":
        return [_N("Relu", ["x"], ["y"])], {}
    perm = [1, 0] if kind == "there and back" else [0, 1]
    nodes = [
        _N("Transpose", ["x"], ["t"], perm=[1, 0]),
        _N("Split", ["t", "parts"], ["p", "q"], axis=0),
        _N("Relu", ["p"], ["r"]),
        _N("Relu", ["q"], ["s"]),
        _N("Concat", ["r", "s"], ["c"], axis=0),
        _N("Transpose", ["c"], ["u"], perm=perm),
        _N("Reshape", ["u", "shape"], ["y"]),
    ]
    return nodes, {"parts": np.array([2, 4]), "shape": np.array([4, 6])}


@pytest.mark.parametrize(
    ("make", "others", "different"),
    [
        (_softmax, ("shifted", "plain"), "other axis"),
        (_norm, ("written out",), "other epsilon"),
        (_swish, ("written out",), "other sign"),
        (_clip, ("min first", "where"), "swapped"),
        (_moved, ("there and back",), "there only"),
    ],
)
def test_an_operator_and_what_it_is_written_out_as(
    tmp_path: Path, make: Make, others: tuple[str, ...], different: str
) -> None:
    files = {}
    for kind in ("one", *others, different):
        nodes, constants = make(kind)
        path = tmp_path / f"{kind.replace(' ', '_')}.onnx"
        files[kind] = save(path, nodes, {"x": (4, 6)}, {"y": (4, 6)}, constants)
    assert all(_equal(files["one"], files[other]) for other in others)
    assert not _equal(files["one"], files[different])


def test_softmax_means_what_it_meant_at_its_version(tmp_path: Path) -> None:
    """Without an axis: all axes from 1 on to opset 12, the last one from 13."""
    node, shape = _N("Softmax", ["x"], ["y"]), (2, 3, 4)
    files = [
        save(tmp_path / f"v{v}.onnx", [node], {"x": shape}, {"y": shape}, opset=v)
        for v in (11, 12, 13)
    ]
    assert _equal(files[0], files[1])
    assert not _equal(files[1], files[2])


def test_operators_that_ask_for_the_version_say_so() -> None:
    """`by_version` is what keeps nodes of two versions apart: no semantics may ask in silence."""
    folder = Path(encoders.__file__).parent
    asking = {
        path.stem
        for path in folder.rglob("*.py")
        if re.search(r"node\.opset\s*(<|>|=|!)|if site\.node\.opset", path.read_text())
    }
    known = {
        "registry",  # refuses
        "signed_sum",  # refuses broadcasting before 8
        "batch_normalization",  # refuses training
        "resizing",
        "concat",
        "softmax",
        "instance_normalization",
        "reduce_log_sum_exp",  # a note alone: what it means does not depend on it
        "softplus",  # what may overflow alone, in float16
    }
    assert asking == known
    said = {name for name, o in operators().items() if o.likeness.by_version}
    assert said >= {"Concat", "Softmax", "LogSoftmax", "Resize", "Upsample", "Interpolate"}
    assert said >= {"InstanceNormalization", "GroupNormalization"}


def test_a_root_is_no_absolute_value() -> None:
    field = TermField(10**4)
    x = field.variables(())
    assert not _same_terms(field.sqrt(x * x), x)
    assert _same_terms(field.sqrt(x) * field.sqrt(x), x)
    assert _same_terms(field.sqrt(x * Fraction(9)), 3 * field.sqrt(x))
    half = field.sqrt(field.constant(np.array(0.5)))
    assert _same_terms(1 / field.sqrt(field.constant(np.array(2.0))), half)
    assert not _same_terms(half, field.constant(np.array(math.sqrt(0.5))))
