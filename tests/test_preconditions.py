"""What an operator needs of its arguments: each failure names the node and the offending range."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper
from small_models import save, settled
from test_architecture import files, tree_of

from onnx_import.errors import ModelError
from refine.results.verdict import Verdict


def model(
    path: Path, op: str, inputs: str = "x", weights: Mapping[str, Any] | None = None, **more: Any
) -> Path:
    """One node named `node`, of an input x with two elements."""
    nodes = [helper.make_node(op, inputs.split(), ["y"], "node", **more)]
    shape = [1] if op.startswith("Reduce") else [2]
    return save(path / "m.onnx", nodes, {"x": [2]}, {"y": shape}, weights)


OUTSIDE: tuple[tuple[str, str, dict[str, Any], str, str], ...] = (
    ("Div", "c x", {"c": np.ones(2, np.float32)}, "-1..1", "no divisor, between -1 and 1, may be"),
    ("Reciprocal", "x", {}, "0..1", "no divisor, between 0 and 1, may be 0"),
    ("Asin", "x", {}, "0..2", "asin is computed, between -1 and 1"),
    ("Acosh", "x", {}, "0..2", "between 0 and 2, is one of which acosh is"),
    ("Log", "x", {}, "-1..1", "the logarithm, at least -1, is more than 0"),
    ("Sqrt", "x", {}, "-1..1", "the square root, at least -1, is not negative"),
    ("Pow", "x c", {"c": np.float32(-0.5)}, "0..1", "the power -0.5, at least 0, is positive"),
    ("Exp", "x", {}, "0..100", "must stay below 3.40282e+38"),
    ("Mul", "x c", {"c": np.float32(1e38)}, "0..100", "reach at most 1e+40, which must stay below"),
)


@pytest.mark.parametrize(("op", "inputs", "weights", "domain", "words"), OUTSIDE)
def test_outside_an_operators_domain_the_reason_says_where(
    tmp_path: Path, op: str, inputs: str, weights: Mapping[str, Any], domain: str, words: str
) -> None:
    result = settled(model(tmp_path, op, inputs, weights), domain, search=False)
    assert result.verdict is Verdict.UNKNOWN
    assert np.isinf(result.bound)
    low, high = domain.split("..")
    for expected in ("node 'node'", words, f"it reads 'x' between {low} and {high}"):
        assert expected in result.reason
    assert "inf," not in result.reason, "an overflow is no reason where there is another"


FAILING: tuple[tuple[str, str, dict[str, Any], str, str, str], ...] = (
    (
        "Div",
        "c x",
        {"c": np.ones(2, np.float32)},
        "-1..1",
        "defined-quotient",
        "(0 < lo or hi < 0)",
    ),
    ("Atanh", "x", {}, "0..1", "defined-within", "hi ≤ most"),
    ("Log", "x", {}, "-1..1", "defined-above-zero", "0 < lo"),
    ("Sqrt", "x", {}, "-1..1", "defined-from-zero", "0 ≤ lo"),
    ("Exp", "x", {}, "0..100", "no-overflow", "M ≤ limit"),
)


@pytest.mark.parametrize(("op", "inputs", "weights", "domain", "lemma", "words"), FAILING)
def test_the_hypothesis_that_fails_is_named(
    tmp_path: Path,
    op: str,
    inputs: str,
    weights: Mapping[str, Any],
    domain: str,
    lemma: str,
    words: str,
) -> None:
    result = settled(model(tmp_path, op, inputs, weights), domain, search=False)
    owed = [o for node in result.nodes for o in node.obligations if o.application is not None]
    assert f"not shown: {words}" in {o.detail for o in owed if o.name == f"{lemma}/node"}


def test_preconditions_are_hypotheses_of_lemmas() -> None:
    """None is decided beside one: whether it holds is read from the record of a radius."""
    makers = [
        file
        for file in files()
        for node in ast.walk(tree_of(file))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "Precondition"
    ]
    assert makers == ["encoders/operator.py"], "NOT_NEGATIVE, which no numbers meet"


def test_a_root_of_numbers_down_to_zero_has_a_bound(tmp_path: Path) -> None:
    """Its slope is infinite there, but rounding moves no argument by more than it is."""
    result = settled(model(tmp_path, "Sqrt"), "0..1")
    assert result.verdict is Verdict.VERIFIED
    assert (result.worst_found or 0.0) <= result.bound < 1e-7


def on_a_slice(path: Path, op: str, **attributes: Any) -> Path:
    """`op` on the elements of x from 2 to 2."""
    two, axis = np.array([2], np.int64), np.array([0], np.int64)
    nodes = [
        helper.make_node("Slice", ["x", "from", "to", "axis"], ["nothing"], "slice"),
        helper.make_node(op, ["nothing"], ["y"], "node", **attributes),
    ]
    return save(
        path / "m.onnx", nodes, {"x": [2]}, {"y": [1]}, {"from": two, "to": two, "axis": axis}
    )


@pytest.mark.parametrize("op", ["ReduceMean", "ReduceMax"])
def test_numbers_of_an_empty_axis_are_refused(tmp_path: Path, op: str) -> None:
    with pytest.raises(ModelError, match=rf"node 'node' \({op}\): .* empty tensor"):
        settled(on_a_slice(tmp_path, op))


INDEX = np.array(2**62, np.int64)
OVERFLOWING = (
    ("Add", ("big", "big"), "9223372036854775808 is no int64"),
    ("Mul", ("big", "four"), "18446744073709551616 is no int64"),
    ("Neg", ("lowest",), "9223372036854775808 is no int64"),
    ("Sub", ("lowest", "four"), "-9223372036854775812 is no int64"),
    ("Div", ("lowest", "minus"), "9223372036854775808 is no int64"),
    ("Mul", ("short", "short"), "4294967296 is no int32"),
    ("Sub", ("byte", "byte2"), "-1 is no uint8"),
)


@pytest.mark.parametrize(("op", "inputs", "words"), OVERFLOWING)
def test_index_arithmetic_that_overflows_is_refused(
    tmp_path: Path, op: str, inputs: tuple[str, ...], words: str
) -> None:
    """The runtime wraps around: 2^62·4 is 0 there, a valid index."""
    values = {
        "big": INDEX, "four": np.array(4, np.int64), "lowest": np.array(-(2**63), np.int64),
        "short": np.array(2**16, np.int32), "byte": np.array(1, np.uint8),
        "byte2": np.array(2, np.uint8), "minus": np.array(-1, np.int64),
    }  # fmt: skip
    nodes = [
        helper.make_node(op, inputs, ["i"], "index"),
        helper.make_node("Cast", ["i"], ["j"], "wide", to=7),
        helper.make_node("Gather", ["x", "j"], ["y"], "pick"),
    ]
    weights = {name: values[name] for name in inputs}
    with pytest.raises(ModelError, match=rf"node 'index' \({op}\).*{words}"):
        settled(save(tmp_path / "m.onnx", nodes, {"x": [2]}, {"y": []}, weights))


def test_a_shape_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    shape = {"s": np.array([3, 2], np.int64)}
    nodes = [helper.make_node("Reshape", ["x", "s"], ["y"], "node")]
    with pytest.raises(ModelError, match=r"node 'node' \(Reshape\): .*\[2\] has no 6 elements"):
        settled(save(tmp_path / "m.onnx", nodes, {"x": [2]}, {"y": [3, 2]}, shape))
