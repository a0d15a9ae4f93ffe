"""Rules of differentiation against derivatives that know none: jets, and differences at 400 bits.

Every operator at every use that other tests have an example of, whole networks of the kinds that a
published collection of finite differences has, identities by Z3, and wrong rules, which all must be
found.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper
from operator_checks import Example, example, graph_of
from small_models import save
from test_operators_algebraic import EVERY as ALGEBRAIC
from test_operators_elementary import EVERY as ELEMENTARY

from encoders import registry
from encoders.arithmetic.exact_fields import Balls
from encoders.gradients.rule import Carried, Gradient, Reverse, Rule
from encoders.gradients.tape import Term
from encoders.program import program_of
from onnx_import.graph import Array, Graph
from onnx_import.onnx.reader import load
from refine.gradients.checking import (
    BITS,
    DIFFERENCE_LIMIT,
    JET_LIMIT,
    TIED,
    Checked,
    alone,
    apart,
    checked,
    whole,
)
from refine.gradients.differentiate import FRAMEWORKS

NO_RULE = ("Lookup",)  # of data by computed places


def weights(*shape: int) -> Array:
    return np.asarray(np.random.default_rng(len(shape)).uniform(-1, 1, shape), np.float32)


MORE = (
    example("Conv", "x w b", (2, 4, 5, 4), constants={"w": weights(6, 2, 3, 2), "b": weights(6)},
            name="strides and groups", group=2, strides=[2, 1], pads=[1, 0, 2, 1]),
    example("Conv", "x w", (1, 2, 7), constants={"w": weights(2, 2, 3)}, dilations=[2],
            strides=[2], auto_pad="SAME_LOWER", name="dilated"),
    example("Conv", "x w", (1, 3, 4, 4), constants={"w": weights(3, 1, 2, 2)}, group=3,
            name="depthwise"),
    example("Gemm", "x w c", (3, 2), constants={"w": weights(4, 3), "c": weights(4)}, transA=1,
            transB=1, alpha=0.5, beta=2.0, name="transposed"),
    example("BatchNormalization", "x s b m v", (2, 3, 2, 2),
            constants={"s": weights(3), "b": weights(3), "m": weights(3),
                       "v": np.abs(weights(3)) + 1}),
    example("MatMul", "x w", (2, 3, 2), constants={"w": weights(2, 4)}, name="batch"),
    example("Sub", "w x", (2, 3), constants={"w": weights(3)}),
    example("Add", "x w", (2, 3), constants={"w": weights(2, 1)}),
    example("Relu", "x", (2, 3)),
    example("Concat", "w x", (2, 3), constants={"w": weights(2, 2)}, axis=1),
    example("Transpose", "x", (2, 3, 4), perm=[1, 2, 0]),
    example("Gemm", "x w", (2, 3), constants={"w": weights(3, 3)}, name="square"),
    example("Gemm", "x w", (3, 3), constants={"w": weights(3, 3)}, name="both square", transA=1,
            transB=1),
    example("MatMul", "x w", (3, 3), constants={"w": weights(3, 3)}, name="square"),
    example("MatMul", "x w", (3,), constants={"w": weights(3, 4)}, name="of a vector"),
    example("LeakyRelu", "x", (2, 3), name="as nobody states it"),
    example("Cast", "x", (2, 3), name="to double", to=11),
    example("Det", "x", (2, 4, 4), name="of four rows"),
    example("GlobalLpPool", "x", (1, 2, 3), name="fourth powers", p=4),
    example("GlobalLpPool", "x", (1, 2, 3), name="third powers", p=3),
)  # fmt: skip
EVERY = (*ALGEBRAIC, *ELEMENTARY, *MORE)


def rules_of(case: Example, *, ask_z3: bool = False) -> list[Checked]:
    graph = graph_of(case)[0]
    rng = np.random.default_rng(0)
    point = {}
    for name in graph.inputs:
        kind = graph.types[name]
        drawn = (
            rng.uniform(case.lo, case.hi, kind.shape)
            if kind.dtype.is_float
            else rng.integers(0, 2, kind.shape)
        )
        point[name] = drawn.astype(kind.dtype.numpy)
    return list(checked(graph, point, ask_z3=ask_z3))


def test_every_rule_is_the_derivative() -> None:
    """To 2⁻¹⁰⁰ of jets and 10⁻²⁰ of differences, in all examples of operators' uses."""
    rows = [(case.name, row) for case in EVERY for row in rules_of(case)]
    wrong = [
        (name, row)
        for name, row in rows
        if not row.right and row.op not in NO_RULE and row.why != TIED
    ]
    assert wrong == []
    seen = {row.op for _, row in rows}
    assert len(seen) >= 60
    assert {"Conv", "ConvTranspose", "Gemm", "MatMul", "BatchNormalization", "MaxPool"} <= seen


def test_every_rule_gives_what_is_asked_for() -> None:
    """A cotangent that is left out is one of 0, as that of steps is."""
    missing = set()
    for case in EVERY:
        graph = graph_of(case)[0]
        for step in program_of(graph).steps:
            site, op = step.site, step.node.op
            if op not in NO_RULE and site.outputs[0].dtype.is_float:
                moving = [i for i in site.variable if site.type_of(i).dtype.is_float]
                both = alone(graph, step)
                given = {} if both is None else both.wrt
                if not {step.node.inputs[i] for i in moving} <= set(given):
                    missing.add(op)
    assert missing == {"Ceil", "Floor", "Round", "Sign"}


def test_what_rules_write_has_rules_again() -> None:
    """Every operator of floating-point numbers in a gradient graph can be differentiated."""
    without = set()
    for case in EVERY:
        graph = graph_of(case)[0]
        for step in program_of(graph).steps:
            if step.operator.gradient is None or not graph.types[step.output].dtype.is_float:
                continue
            both = alone(graph, step)
            for written in () if both is None else program_of(both.backward).steps:
                floats = written.site.outputs[0].dtype.is_float
                if floats and written.operator.gradient is None:
                    without.add(written.node.op)
    assert without == set()


RATIONAL = (
    "Add", "Sub", "Sum", "Mul", "Div", "Neg", "Reciprocal", "Relu", "LeakyRelu", "PRelu", "Clip",
    "Max", "Min", "Abs", "Sqrt", "Softsign", "MatMul vector", "Concat", "ReduceMean", "ReduceL2",
    "Transpose", "HardSwish", "HardSigmoid", "Gemm transposed",
)  # fmt: skip


def test_rational_rules_are_identities() -> None:
    """Z3 proves them for all numbers, where nothing is divided by 0 and nothing compared ties."""
    named = {case.name: case for case in EVERY}
    proved = {
        name: [row.identity for row in rules_of(named[name], ask_z3=True)] for name in RATIONAL
    }
    assert {name: found for name, found in proved.items() if not all(found)} == {}


Nodes = Sequence[tuple[str, str, str, Mapping[str, Any]]]


def network(folder: Path, nodes: Nodes, shape: Sequence[int], stored: Mapping[str, Array]) -> Graph:
    made = [helper.make_node(op, i.split(), o.split(), **a) for op, i, o, a in nodes]
    path = folder / "network.onnx"
    return load(save(path, made, {"x": shape}, {"y": None}, stored, opset=20))


DENSE: Nodes = (("Gemm", "x W b", "y", {}),)
LOSS: Nodes = (
    ("LogSoftmax", "x", "l", {"axis": 1}),
    ("Mul", "l t", "m", {}),
    ("ReduceSum", "m", "s", {"keepdims": 0}),
    ("Neg", "s", "y", {}),
)
ATTENTION: Nodes = (
    ("MatMul", "x Q", "q", {}), ("MatMul", "x K", "k", {}), ("MatMul", "x V", "v", {}),
    ("Transpose", "k", "kt", {"perm": [0, 2, 1]}), ("MatMul", "q kt", "s", {}),
    ("Mul", "s half", "h", {}), ("Softmax", "h", "p", {"axis": -1}), ("MatMul", "p v", "y", {}),
)  # fmt: skip
HEADS: Nodes = (
    ("MatMul", "x Q", "q0", {}), ("Reshape", "q0 cut", "q1", {}),
    ("Transpose", "q1", "q", {"perm": [0, 2, 1, 3]}), ("MatMul", "x K", "k0", {}),
    ("Reshape", "k0 cut", "k1", {}), ("Transpose", "k1", "k", {"perm": [0, 2, 3, 1]}),
    ("MatMul", "q k", "s", {}), ("Softmax", "s", "p", {"axis": -1}),
    ("MatMul", "x V", "v0", {}), ("Reshape", "v0 cut", "v1", {}),
    ("Transpose", "v1", "v", {"perm": [0, 2, 1, 3]}), ("MatMul", "p v", "o", {}),
    ("Transpose", "o", "ot", {"perm": [0, 2, 1, 3]}), ("Reshape", "ot join", "j", {}),
    ("MatMul", "j O", "y", {}),
)  # fmt: skip
STATISTICS: Nodes = (
    ("ReduceMean", "x axes", "mean", {}), ("Sub", "x mean", "c", {}), ("Mul", "c c", "c2", {}),
    ("ReduceMean", "c2 axes", "var", {}), ("Add", "var e", "ve", {}), ("Sqrt", "ve", "d", {}),
    ("Div", "c d", "z", {}), ("Mul", "z g", "zg", {}), ("Add", "zg b", "y", {}),
)  # fmt: skip
PATCHES: Nodes = (
    ("Conv", "x W", "c", {"strides": [2, 2]}), ("Reshape", "c flat", "f", {}),
    ("Transpose", "f", "t", {"perm": [0, 2, 1]}), ("Add", "t b", "y", {}),
)  # fmt: skip
SQUARE = {name: weights(4, 4) for name in ("Q", "K", "V", "O")}
KINDS: tuple[tuple[str, Nodes, Sequence[int], Mapping[str, Array], str], ...] = (
    ("dense", DENSE, (2, 3), {"W": weights(3, 4), "b": weights(4)}, "x W b"),
    ("relu", (("Relu", "x", "y", {}),), (3, 3), {}, "x"),
    ("cross-entropy", LOSS, (2, 3), {"t": np.eye(3, dtype=np.float32)[:2]}, "x"),
    ("batch statistics", STATISTICS, (3, 2, 2, 2),
     {"axes": np.array([0, 2, 3]), "e": np.array(0.0009765625, np.float32),
      "g": weights(1, 2, 1, 1), "b": weights(1, 2, 1, 1)}, "x g b"),
    ("batch mean", (*STATISTICS[:2], ("Identity", "c", "y", {})), (3, 2),
     {"axes": np.array([0])}, "x"),
    ("batch variance", (*STATISTICS[:4], ("Identity", "var", "y", {})), (3, 2),
     {"axes": np.array([0])}, "x"),
    ("batch scale", (("Mul", "x g", "z", {}), ("Add", "z b", "y", {})), (3, 2),
     {"g": weights(2), "b": weights(1, 2)}, "x g b"),
    ("convolution", (("Conv", "x W b", "y", {"pads": [1, 1, 1, 1]}),), (1, 2, 4, 4),
     {"W": weights(3, 2, 3, 3), "b": weights(3)}, "x W b"),
    ("depthwise", (("Conv", "x W b", "y", {"group": 3}),), (1, 3, 4, 4),
     {"W": weights(3, 1, 2, 2), "b": weights(3)}, "x W b"),
    ("max pool", (("MaxPool", "x", "y", {"kernel_shape": [2, 2], "strides": [2, 2]}),),
     (1, 2, 4, 4), {}, "x"),
    ("softmax", (("Softmax", "x", "y", {"axis": 1}),), (2, 4), {}, "x"),
    ("attention", ATTENTION, (1, 3, 4), {**SQUARE, "half": np.array(0.5, np.float32)}, "x Q K V"),
    ("heads", HEADS, (1, 3, 4), {**SQUARE, "cut": np.array([1, 3, 2, 2]),
                                 "join": np.array([1, 3, 4])}, "x Q K V O"),
    ("gelu", (("Gelu", "x", "y", {}),), (3, 2), {}, "x"),
    ("patch embedding", PATCHES, (1, 1, 4, 4),
     {"W": weights(3, 1, 2, 2), "b": weights(4, 3), "flat": np.array([1, 3, 4])}, "x W b"),
    ("mlp", (("Gemm", "x W b", "h", {}), ("Relu", "h", "r", {}), ("Gemm", "r W2", "y", {})),
     (2, 3), {"W": weights(3, 4), "b": weights(4), "W2": weights(4, 2)}, "x W b W2"),
    ("layer norm", (("LayerNormalization", "x g b", "y", {}),), (2, 4),
     {"g": weights(4), "b": weights(4)}, "x g b"),
    ("residual", (("MatMul", "x W", "h", {}), ("Tanh", "h", "t", {}), ("Add", "t x", "y", {})),
     (2, 3), {"W": weights(3, 3)}, "x W"),
    ("squeeze and excite", (("GlobalAveragePool", "x", "p", {}), ("Conv", "p W", "c", {}),
     ("Sigmoid", "c", "s", {}), ("Mul", "x s", "y", {})), (1, 2, 3, 3),
     {"W": weights(2, 2, 1, 1)}, "x W"),
)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind[0])
def test_gradients_of_networks_are_derivatives(kind: Any, tmp_path: Path) -> None:
    """By each input and weight on its own, as the published collection counts them."""
    _, nodes, shape, stored, wrt = kind
    graph = network(tmp_path, nodes, list(shape), stored)
    balls = Balls(BITS)
    rng = np.random.default_rng(5)
    values = {"x": rng.uniform(-1, 1, shape).astype(np.float32), **stored}
    for name in wrt.split():
        both = whole(graph, [name])
        at = {t: balls.constant(np.asarray(values[t])) for t in both.forward.inputs}
        jet, difference = apart(both, at, rng)
        assert jet is not None
        assert difference is not None
        assert jet <= JET_LIMIT
        assert difference <= DIFFERENCE_LIMIT


def test_the_collection_has_thirty_of_them() -> None:
    assert sum(len(wrt.split()) for *_, wrt in KINDS) >= 30


def _only(position: int, change: Callable[[Term, Reverse], Term]) -> Callable[[Rule], Rule]:
    def mutated(rule: Rule) -> Rule:
        def wrong(r: Reverse) -> Carried:
            found = dict(rule(r))
            if position in found:
                found[position] = change(found[position], r)
            return found

        return wrong

    return mutated


def _of_up(change: Callable[[Reverse], Reverse]) -> Callable[[Rule], Rule]:
    return lambda rule: lambda r: rule(change(r))


def _flipped(term: Term, r: Reverse) -> Term:
    return -term


def _doubled(term: Term, r: Reverse) -> Term:
    return term * 2


def _passed(rule: Rule) -> Rule:
    return lambda r: {0: r.up}


def _output_for_input(r: Reverse) -> Reverse:
    return replace(r, inputs=(r.output, *r.inputs[1:]))


def _input_for_output(r: Reverse) -> Reverse:
    return replace(r, output=r.x)


def _turned(term: Term, r: Reverse) -> Term:
    rank = len(term.shape)
    return term.reshaped(term.shape[::-1]).permuted(range(rank - 1, -1, -1))


def _shifted(term: Term, r: Reverse) -> Term:
    size = int(np.prod(term.shape))
    return term.picked(np.roll(np.arange(size), 1).reshape(term.shape))


MUTANTS: tuple[tuple[str, str, Callable[[Rule], Rule]], ...] = (
    ("Sub", "Sub", _only(1, _flipped)),
    ("Add", "Add", _only(0, _doubled)),
    ("Concat", "Concat", _only(1, _shifted)),
    ("Transpose", "Transpose", _only(0, _turned)),
    ("Relu", "Relu", _passed),
    ("Sigmoid", "Sigmoid", _of_up(_input_for_output)),
    ("Tanh", "Tanh", _of_up(_input_for_output)),
    ("Exp", "Exp", _of_up(_input_for_output)),
    ("Sin", "Sin", _only(0, _flipped)),
    ("Cos", "Cos", _only(0, _flipped)),
    ("Log", "Log", _of_up(_output_for_input)),
    ("Div", "Div", _only(0, _flipped)),
    ("Mul", "Mul", _only(0, _doubled)),
    ("Max", "Max", _only(1, _doubled)),
    ("Softmax", "Softmax", _of_up(_input_for_output)),
    ("LogSoftmax", "LogSoftmax", _passed),
    ("Gemm", "Gemm transposed", _only(1, _turned)),
    ("MatMul", "MatMul batch", _only(0, _shifted)),
    ("Conv", "Conv strides and groups", _only(1, _shifted)),
    ("Conv", "Conv dilated", _only(0, _shifted)),
    ("ConvTranspose", "ConvTranspose groups", _only(0, _shifted)),
    ("MaxPool", "MaxPool padded", _only(0, _shifted)),
    ("LayerNormalization", "LayerNormalization", _only(0, _doubled)),
    ("BatchNormalization", "BatchNormalization", _only(1, _doubled)),
    ("ReduceMean", "ReduceMean", _only(0, _doubled)),
    ("Gelu", "Gelu", _only(0, _doubled)),
    ("Erf", "Erf", _of_up(_output_for_input)),
)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda m: f"{m[0]} {m[2].__name__}")
def test_a_wrong_rule_is_found(
    mutant: tuple[str, str, Callable[[Rule], Rule]], monkeypatch: pytest.MonkeyPatch
) -> None:
    op, name, change = mutant
    (case,) = (case for case in EVERY if case.name == name)
    (right,) = (row for row in rules_of(case) if row.op == op)
    assert right.right
    known = registry.operators()
    rule = known[op].gradient
    assert rule is not None
    wrong = replace(known[op], gradient=Gradient(rule=change(rule.rule)))
    monkeypatch.setattr(registry, "operators", lambda: {**known, op: wrong})
    (found,) = (row for row in rules_of(case) if row.op == op)
    assert found.wrong


@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax", "ReduceLogSumExp"])
def test_equal_numbers_excuse_no_wrong_rule_where_there_is_no_kink(
    op: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They take the largest away, and are smooth where two are equal; Relu is not at 0."""
    nodes: Nodes = ((op, "x", "s", {}), ("Relu", "zero", "r", {}), ("Add", "s r", "y", {}))
    made = [helper.make_node(name, i.split(), [o], **a) for name, i, o, a in nodes]
    inputs: dict[str, Sequence[int]] = {"x": [1, 4], "zero": [1, 4]}
    graph = load(save(tmp_path / "n.onnx", made, inputs, {"y": None}, {}, opset=17))
    point = {"x": np.array([[1, 2, 2, 2]], np.float32), "zero": np.zeros((1, 4), np.float32)}
    rows = {row.op: row for row in checked(graph, point, ask_z3=False)}
    assert rows[op].right
    assert rows["Relu"].why == TIED
    known = registry.operators()
    rule = known[op].gradient
    assert rule is not None
    wrong = replace(known[op], gradient=Gradient(rule=_only(0, _doubled)(rule.rule)))
    monkeypatch.setattr(registry, "operators", lambda: {**known, op: wrong})
    rows = {row.op: row for row in checked(graph, point, ask_z3=False)}
    assert rows[op].wrong


def test_a_table_names_frameworks_that_can_be_asked_for() -> None:
    every = [o.gradient for o in registry.operators().values() if o.gradient is not None]
    assert {name for gradient in every for name in gradient.frameworks} == set(FRAMEWORKS)


def test_rules_of_a_framework_are_the_same_derivative() -> None:
    """Where they write another expression, all but at ties; each is compared."""
    found = []
    for case in EVERY:
        graph = graph_of(case)[0]
        for step in program_of(graph).steps:
            gradient = step.operator.gradient
            if gradient is not None and gradient.frameworks:
                rng = np.random.default_rng(3)
                kinds = {t: graph.types[t] for t in graph.inputs}
                point = {
                    t: rng.uniform(case.lo, case.hi, k.shape).astype(k.dtype.numpy)
                    for t, k in kinds.items()
                }
                found += [
                    (case.name, row)
                    for row in checked(graph, point, rules="torch", ask_z3=False)
                    if row.op == step.node.op and row.why != TIED
                ]
    assert [(name, row) for name, row in found if not row.right] == []
    assert {row.op for _, row in found} >= {"Softplus", "LogSoftmax", "Max", "Min", "ReduceL2"}
