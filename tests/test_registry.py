"""The registry of operators: what it refuses, and what it says of each operator."""

from __future__ import annotations

import re
from collections import defaultdict

import onnx
import pytest

from encoders.registry import lookup, operators
from onnx_import.errors import UnsupportedModel
from onnx_import.graph import AttributeValue, Node
from onnx_import.onnx.reader import MADE
from onnx_import.passes.decompose import REWRITINGS, decomposed


def attribute_names() -> dict[str, set[str]]:
    """Every attribute that any opset gives an operator, as ONNX's own schemas say."""
    found: dict[str, set[str]] = defaultdict(set)
    for schema in onnx.defs.get_all_schemas_with_history():
        if not schema.domain:
            found[schema.name] |= set(schema.attributes)
    return found


def applied(op: str, opset: int, **attributes: AttributeValue) -> Node:
    return Node("here", op, inputs=("x",), outputs=("y",), attributes=attributes, opset=opset)


@pytest.mark.parametrize("name", list(operators()))
def test_an_attribute_without_a_meaning_is_refused(name: str) -> None:
    node = applied(name, 99, of_tomorrow=1)
    said = rf"'here' \({node.spelled}\): attribute 'of_tomorrow'"
    with pytest.raises(UnsupportedModel, match=said):
        lookup(node)


@pytest.mark.parametrize(
    ("op", "words"),
    [("DFT", "MatMul by stored"), ("STFT", "as a Conv"), ("DeformConv", "where it reads")],
)
def test_a_refusal_says_why_there_is_no_meaning(op: str, words: str) -> None:
    with pytest.raises(UnsupportedModel, match=f"'here': operator {op} .*{words}"):
        lookup(applied(op, 20))


@pytest.mark.parametrize("name", list(operators()))
def test_operators_are_called_what_files_call_them(name: str) -> None:
    spelled, in_no_file = applied(name, 99).spelled, {"Rational", "RunsInstead"}
    if name not in MADE or name in in_no_file:
        assert spelled == name
    else:
        assert spelled in attribute_names()
        assert re.search(rf"\b{spelled}\b", MADE[name])


@pytest.mark.parametrize("name", list(operators()))
def test_attributes_with_a_meaning_are_attributes_of_onnx(name: str) -> None:
    operator, known = operators()[name], attribute_names()
    ours = {
        "Rational": {"value"},
        "RunsInstead": set(),
        "MaskedSoftmax": {"axis"},
        "MaskedLogSoftmax": {"axis"},
        "MaskedWhere": {"apart", "underflows"},
        "Interpolate": known["Resize"] | known["Upsample"],
        **dict.fromkeys(("Narrow", "Truncate"), known["Cast"]),
        "Lookup": known["Gather"],
        "RecurrentSigmoid": set(),
        "RecurrentTanh": set(),
        **{f"Whole{op}": known[op] for op in ("Add", "Sub", "Mul")},
        "DynamicQuantizeMatMul": operator.attributes,
        "QGemm": operator.attributes,
        **{name: frozenset() for name in ("QLinearAdd", "QLinearMul")},
        "QLinearGlobalAveragePool": {"channels_last"},
        "DynamicQuantizeConv": known["Conv"] | operator.attributes,
    }
    own = {"QGemm", "QLinearAdd", "QLinearGlobalAveragePool", "QLinearMul"}  # onnxruntime's
    assert (name in MADE) is (name not in known and name not in own)
    assert operator.attributes <= (known[name] if name in known else ours[name])
    assert lookup(applied(name, 99, **dict.fromkeys(operator.attributes, 0))) is operator


@pytest.mark.parametrize("name", list(REWRITINGS))
def test_what_is_decomposed_refuses_an_attribute_without_a_meaning(name: str) -> None:
    node = applied(name, 99, of_tomorrow=1)
    said = rf"'here' \({node.spelled}\): attribute 'of_tomorrow'"
    with pytest.raises(UnsupportedModel, match=said):
        decomposed(node, {}, {}, ())
    of = ("Resize", "Upsample") if name == "Interpolate" else (name,)
    assert REWRITINGS[name][1] <= {a for op in of for a in attribute_names()[op]}


def test_broadcasting_of_old_opsets_is_refused() -> None:
    with pytest.raises(UnsupportedModel, match=r"'here' \(Add\): opset 6"):
        lookup(applied("Add", 6, broadcast=1, axis=1))
