"""Claims about what runs, held against executions by numpy and onnxruntime and exact arithmetic."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest
from onnx import TensorProto, helper, load, save_model
from small_models import mlp, save

import refine
from refine.cli.main import run
from refine.results.summary import advice_of
from refine.results.verdict import ExitCode, Result

Array = npt.NDArray[np.float32]
CONTRACTS = ("ieee-any", "sequential", "fp16")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def property_file(path: Path, inputs: int, outputs: int, radius: float, unsafe: str) -> Path:
    names = [f"X_{i}" for i in range(inputs)] + [f"Y_{i}" for i in range(outputs)]
    text = "".join(f"(declare-const {n} Real)\n" for n in names)
    text += "".join(
        f"(assert (<= X_{i} {radius}))(assert (>= X_{i} -{radius}))\n" for i in range(inputs)
    )
    path.write_text(f"{text}(assert {unsafe})\n")
    return path


def in_any_order(weights: list[Array], x: Array, rng: np.random.Generator) -> Array:
    """A float32 run whose sums go in an order of its own, without our code."""
    for k, w in enumerate(weights):
        order = rng.permutation(len(x))
        y = np.zeros(w.shape[1], np.float32)
        for i in order:
            y = (y + (x[i] * w[i]).astype(np.float32)).astype(np.float32)
        x = np.maximum(y, np.float32(0.0)) if k + 1 < len(weights) else y
    return x


def chain(path: Path, weights: list[Array]) -> Path:
    nodes, tensor = [], "x"
    for k, _ in enumerate(weights):
        last = k + 1 == len(weights)
        nodes.append(helper.make_node("MatMul", [tensor, f"w{k}"], ["y" if last else f"s{k}"]))
        if not last:
            nodes.append(helper.make_node("Relu", [f"s{k}"], [f"r{k}"]))
            tensor = f"r{k}"
    shapes = {"x": [1, len(weights[0])]}
    outputs = {"y": [1, weights[-1].shape[1]]}
    return save(path, nodes, shapes, outputs, {f"w{k}": w for k, w in enumerate(weights)})


@pytest.mark.parametrize("seed", range(6))
def test_answers_against_executions(folder: Path, seed: int) -> None:
    """No sampled execution of a verified property is unsafe; a witness is, on onnxruntime."""
    rng = np.random.default_rng(seed)
    widths = (3, 6, 5, 3)
    weights = [rng.normal(0, 0.7, (n, m)).astype(np.float32) for n, m in itertools.pairwise(widths)]
    model = chain(folder / "m.onnx", weights)
    runs = [
        in_any_order(weights, rng.uniform(-1, 1, 3).astype(np.float32), rng) for _ in range(200)
    ]
    differences = np.array([float(y[0]) - float(y[1]) for y in runs])
    answers = set()
    for level in (-90.0, float(np.quantile(differences, 0.02)), float(np.min(differences)) - 1e-3):
        unsafe = f"(<= (- Y_0 Y_1) {level:.6f})"
        file = property_file(folder / "p.vnnlib", 3, 3, 1.0, unsafe)
        result = refine.check(model, file, claim="property", budget=2.0, z3="none")
        answers.add(result.verdict.value)
        if result.verdict.value == "verified":
            fresh = (rng.uniform(-1, 1, 3).astype(np.float32) for _ in range(300))
            assert min(float(y[0]) - float(y[1]) for y in (in_any_order(weights, x, rng)
                       for x in fresh)) > level  # fmt: skip
            assert result.margins is not None
            assert result.margins[0].run > 0
        if result.verdict.value == "violated":
            assert result.witness is not None
            session = onnxruntime.InferenceSession(model)
            y = np.asarray(session.run(None, dict(result.witness.inputs))[0])[0]
            bound = Fraction(f"{level:.6f}")
            assert Fraction(float(y[0])) - Fraction(float(y[1])) <= bound + Fraction(1, 10**6)
            assert result.witness.reached is not None
            exact = result.witness.reached.outputs["y"][0]
            assert Fraction(float(exact[0])) - Fraction(float(exact[1])) <= bound
    assert {"verified", "violated"} <= answers


def cancelling(path: Path) -> Path:
    """(x + 2²³) − 2²³ − x: zero over the reals, up to one half in float32."""
    nodes = [
        helper.make_node("Add", ["x", "big"], ["a"]),
        helper.make_node("Sub", ["a", "big"], ["b"]),
        helper.make_node("Sub", ["b", "x"], ["y"]),
    ]
    return save(path, nodes, {"x": [1]}, {"y": [1]}, {"big": np.array([2.0**23], np.float32)})


def test_rounding_alone_leads_into_the_unsafe_set(folder: Path) -> None:
    result = refine.check(
        cancelling(folder / "m.onnx"), "0..1", claim="Y[0] <= 0.125", contract="sequential"
    )
    assert result.verdict.value == "violated"
    assert result.witness is not None
    assert result.witness.reached is not None
    assert result.witness.reached.real is False
    x = float(result.witness.inputs["x"][0])
    assert float(np.float32(np.float32(np.float32(x) + np.float32(2**23)) - np.float32(2**23))
                 - np.float32(x)) > 0.125  # fmt: skip


def test_what_holds_over_the_reals_alone_is_not_verified(folder: Path) -> None:
    model = cancelling(folder / "m.onnx")
    answers = [
        refine.check(model, "0..1", claim=f"Y[0] <= {limit}", contract=contract, no_search=True)
        for limit, contract in (("0.25", "ieee-any"), ("0.25", "exact"), ("3", "ieee-any"))
    ]
    assert [r.verdict.value for r in answers] == ["unknown", "verified", "verified"]


def test_an_overflow_is_a_violation_whatever_is_claimed(folder: Path) -> None:
    nodes = [helper.make_node("Mul", ["x", "x"], ["y"])]
    model = save(folder / "m.onnx", nodes, {"x": [1]}, {"y": [1]})
    result = refine.check(model, "0..1e30", claim="Y[0] >= -1", counterexample=None)
    assert result.verdict.value == "violated"
    assert result.witness is not None
    assert not np.isfinite(result.witness.value)


def doubled(path: Path, strict_first: bool) -> Path:
    """Two scores, the second of them the first, or the first plus nothing: always a tie."""
    names = ["x", "x"] if strict_first else ["z", "x"]
    nodes = [
        helper.make_node("Identity", ["x"], ["z"]),
        helper.make_node("Concat", names, ["y"], axis=1),
    ]
    return save(path, nodes, {"x": [1, 1]}, {"y": [1, 2]})


def test_ties_go_to_the_first(folder: Path) -> None:
    assert refine.check(doubled(folder / "m.onnx", True), "-1..1", claim="argmax")
    result = refine.check(doubled(folder / "m.onnx", True), "-1..1", claim="Y[1] < Y[0]")
    assert result.verdict.value == "violated"


def labelled(path: Path) -> Path:
    """A network whose output is its label."""
    model = load(mlp(path, (2, 8, 3), seed=5))
    model.graph.node.append(helper.make_node("ArgMax", ["y"], ["label"], axis=1, keepdims=0))
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info("label", TensorProto.INT64, [1]))
    save_model(model, path)
    return path


def test_a_label_that_the_model_gives_itself(folder: Path) -> None:
    model = labelled(folder / "m.onnx")
    session = onnxruntime.InferenceSession(model)
    wide = refine.check(model, "-3..3", claim="argmax")
    assert wide.verdict.value == "violated"
    assert wide.witness is not None
    flipped, middle = (
        int(np.asarray(session.run(None, given)[0])[0])
        for given in (dict(wide.witness.inputs), {"x": np.zeros((1, 2), np.float32)})
    )
    assert flipped != middle
    narrow = refine.check(model, np.zeros((1, 2), np.float32), radius="1e-4", claim="argmax")
    assert narrow.verdict.value == "verified"
    assert narrow.claimed is not None
    assert narrow.claimed.statement.startswith(f"the largest of 'y' is element {middle},")


def row(outputs: dict[str, str]) -> dict[str, Any]:
    return {"outputs": outputs, "inputs": {}, "at_most": "0", "strict": False}


def test_a_counterexample_is_kept_and_run_again(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mlp(folder / "m.onnx", (2, 8, 3), seed=5)
    arguments = ["check", "m.onnx", "--input", "-3..3", "--claim", "argmax", "--json", "r.json"]
    assert run(arguments) == ExitCode.VIOLATED
    out = capsys.readouterr().out
    assert "unsafe    " in out
    document = json.loads((folder / "r.json").read_text())
    assert document["bound"] is None
    assert document["counterexample"]["reached"]["within"] is True
    assert document["margins"][0]["margin"] < 0
    text = (folder / "m-counterexample.txt").read_text()
    assert text.startswith("sat\n((X_0 ")
    assert text.count("(Y_") == 3
    assert run(["replay", "m-counterexample.json"]) == ExitCode.VIOLATED
    assert "the outputs lie in the unsafe set" in capsys.readouterr().out
    kept = json.loads((folder / "m-counterexample.json").read_text())
    every: tuple[Any, ...] = (
        {"rows": [row({"9": "1"})], "limits": {}},
        {"rows": [row({"0": "1/0"})], "limits": {}},
        {"rows": [row({"0": "one"})], "limits": {}},
        {"rows": 3, "limits": {}},
        {"rows": []},
        [],
        "x",
    )
    for broken in every:
        (folder / "broken.json").write_text(json.dumps({**kept, "unsafe": broken}))
        assert run(["replay", "broken.json"]) == ExitCode.INPUT_ERROR
        assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("claim", "said"),
    [
        ("Y[0] - Y[3] >= 0.1", "Y[3] is no element"),
        ("Y[0] * Y[1] >= 0", "multiplies outputs"),
        ("Y[0] / Y[1] >= 0", "divides by an output"),
        ("1 >= 0", "says nothing of the outputs"),
        ("Y[0] >= 0 >= 1", "is no inequality of outputs"),
        ("Y[0] >= nan", "there is no output 'nan'"),
        ("__import__('os') >= 0", "is built from outputs"),
        ("Y[0][0] >= 0", "is built from outputs"),
        ("y[-1] >= 0", "an index of a claim is integers"),
        ("z[0] >= 0", "there is no output 'z'"),
        ("Y[0] >= 1e9999999", "decimal places"),
        ("(" * 500 + "Y[0] >= 1", "is no term of outputs"),
        ("__0 >= 1", "there is no output '__0'"),
        ("Y[0] + 2 * __0 >= 1", "there is no output '__0'"),
        ("Y[0] >= 1_0", "is not a finite decimal number"),
        ("Y[0] >= 0x10", "is not a finite decimal number"),
        ("Y[0] >= True", "is not a finite decimal number"),
        ("Y[0] * 1e4000 * 1e4000 >= 1", "more than 14000 bits"),
        ("property", "needs --vnnlib FILE"),
        ("Y[0] >= ", "has nothing on one side of >="),
        ("y >= 0", "say which element of y, such as y[0, 0]"),
        ("argmax:z", "'z' is not one; the model has 'y'"),
    ],
)
def test_claims_that_are_none(
    folder: Path, capsys: pytest.CaptureFixture[str], claim: str, said: str
) -> None:
    mlp(folder / "m.onnx", (2, 4, 3))
    assert run(["check", "m.onnx", "--input", "-1..1", "--claim", claim]) == ExitCode.INPUT_ERROR
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("claim", "expected"),
    [("y[0,1] + 2*Y[2]/4 - y[0] > -1.5e0", [(-1.5, False), {1: 1, 2: 0.5, 0: -1}]),
     ("3 <= Y[0]", [(3, True), {0: 1}]),
     ("-(Y[0] - 2) >= y[2]", [(-2, True), {0: -1, 2: -1}])],
)  # fmt: skip
def test_inequalities_read_as_written(folder: Path, claim: str, expected: Any) -> None:
    from onnx_import import load as load_graph
    from refine.claims.kinds.inequality import row_of_text

    row = row_of_text(claim, load_graph(mlp(folder / "m.onnx", (2, 4, 3))))
    assert ((row.at_most, row.strict), dict(row.outputs)) == tuple(expected)


def answer(result: Result) -> str:
    return result.verdict.value


def test_unions_are_judged_box_by_box(folder: Path) -> None:
    """A limit on inputs within the unsafe set counts only where the box meets it."""
    nodes = [helper.make_node("Identity", ["x"], ["y"])]
    model = save(folder / "m.onnx", nodes, {"x": [1]}, {"y": [1]})
    one = property_file(folder / "a.vnnlib", 1, 1, 1.0, "(and (>= X_0 0.5) (<= Y_0 0.25))")
    two = property_file(folder / "b.vnnlib", 1, 1, 1.0, "(and (>= X_0 0.5) (<= Y_0 0.75))")
    tied = property_file(folder / "c.vnnlib", 1, 1, 1.0, "(>= (- Y_0 X_0) 1e-30)")
    asked = (refine.check(model, f, claim="property", budget=1.0) for f in (one, two, tied))
    assert [answer(r) for r in asked] == ["verified", "violated", "verified"]


@pytest.mark.parametrize("contract", CONTRACTS)
def test_a_property_of_the_demonstration_under_contracts(folder: Path, contract: str) -> None:
    model = mlp(folder / "m.onnx", (2, 8, 2), seed=1)
    result = refine.check(model, "-0.1..0.1", claim="Y[0] - Y[1] <= 50", contract=contract)
    assert answer(result) == "verified"
    assert result.margins is not None
    assert result.margins[0].run <= result.margins[0].real


@pytest.mark.parametrize("contract", ["exact", "ieee-any"])
def test_a_counterexample_of_the_real_network_is_replayed(folder: Path, contract: str) -> None:
    nodes = [helper.make_node("Relu", ["x"], ["y"])]
    save(folder / "m.onnx", nodes, {"x": [1]}, {"y": [1]})
    asked = ["check", "m.onnx", "--input", "-1..1", "--claim", "Y[0] >= 0.5", "--z3", "none"]
    assert run([*asked, "--contract", contract, "--counterexample", "c.json"]) is ExitCode.VIOLATED
    assert run(["replay", "c.json"]) is ExitCode.VIOLATED


def with_whole_number(path: Path, number: int) -> Path:
    """Two outputs: Relu of the input, and a whole number that is stored."""
    nodes = [
        helper.make_node("Relu", ["x"], ["y"]),
        helper.make_node("Identity", ["c"], ["z"]),
    ]
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "g",
        [info("x", TensorProto.FLOAT, [1])],
        [info("y", TensorProto.FLOAT, [1]), info("z", TensorProto.INT64, [1])],
        [helper.make_tensor("c", TensorProto.INT64, [1], [number])],
    )
    save_model(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path
    )
    return path


@pytest.mark.parametrize("relation", ["==", "<"])
def test_whole_numbers_are_taken_as_they_are(folder: Path, relation: str) -> None:
    """2⁵³ + 1, which float64 does not hold."""
    model = with_whole_number(folder / "m.onnx", 2**53 + 1)
    least = 2**53 + (1 if relation == "==" else 2)
    result = refine.check(model, "0.5..1", claim=f"Y[1] >= {least}", z3="none", budget=0.5)
    assert result.verdict.value == ("verified" if relation == "==" else "violated")


@pytest.mark.parametrize(
    ("claim", "answer"),
    [
        ("Y[0] <= 1e400", "verified"),
        ("Y[0] <= 1e400 / 7", "verified"),
        ("Y[0] >= 1e400", "violated"),
        ("1e3999 * Y[0] <= 7 / 3", "violated"),
        ("3 * Y[0] >= -1e-3999", "verified"),
    ],
)
def test_numbers_beyond_float64(folder: Path, claim: str, answer: str) -> None:
    nodes = [helper.make_node("Relu", ["x"], ["y"])]
    model = save(folder / "m.onnx", nodes, {"x": [1]}, {"y": [1]})
    assert refine.check(model, "0.5..1", claim=claim, z3="none").verdict.value == answer


def test_what_ends_just_at_the_limit_is_verified(folder: Path) -> None:
    """Truth values, inputs that are outputs and whole numbers have ranges that are exact."""
    nodes = [helper.make_node("Greater", ["x", "c"], ["y"])]
    info = helper.make_tensor_value_info
    inputs, outputs = info("x", TensorProto.FLOAT, [1]), info("y", TensorProto.BOOL, [1])
    half = helper.make_tensor("c", TensorProto.FLOAT, [1], [0.5])
    graph = helper.make_graph(nodes, "g", [inputs], [outputs, inputs], [half])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    save_model(model, folder / "m.onnx")
    answers = [
        refine.check(folder / "m.onnx", domain, claim=claim, z3="none", budget=0.5).verdict.value
        for domain, claim in [
            ("0.625..1", "y[0] >= 1"),
            ("0.5..1", "y[0] >= 1"),
            ("0.5..1", "x[0] <= 1"),
            ("0.5..1", "x[0] < 1"),
            ("0.5..1", "2*x[0] + y[0]/3 >= 1"),
        ]
    ]
    assert answers == ["verified", "violated", "verified", "violated", "verified"]


def test_what_to_try_next(folder: Path) -> None:
    """No share of no error; where time ran out, the limit is what to lengthen."""
    mlp(folder / "m.onnx", (2, 4, 3))

    def asked(contract: str, above: float) -> Result:
        claim = f"y[0,0] >= {above:.6f}"
        return refine.check(
            "m.onnx", (-1, 1), claim=claim, contract=contract, budget=0, no_search=True
        )

    def advice(contract: str, *, late: bool) -> str:
        (margin,) = asked(contract, 0).margins or ()
        found = asked(contract, margin.run + 1e-3)
        assert found.verdict == "unknown"
        return " ".join(advice_of(replace(found, timed_out=late)))

    assert advice("exact", late=False) == "to go on: a longer --budget, a smaller domain"
    assert advice("exact", late=True) == "to go on: a longer --timeout, a smaller domain"
    wide = advice("sequential", late=False)  # no rounding takes so much
    assert wide.startswith("the real network is not shown to hold it either")


def test_a_label_that_is_named(folder: Path) -> None:
    """Elsewhere than in the middle of the domain: what is proved of one is refuted of another."""
    model = chain(folder / "m.onnx", [np.array([[1.0, -1.0]], np.float32)])
    usual: dict[str, Any] = {"budget": 0.0, "z3": "none", "conform": False}
    for domain, right, wrong in (("1..2", 0, 1), ("-2..-1", 1, 0)):
        for name in (f"argmax:{right}", f"argmax:y[{right}]"):
            found = refine.check(model, domain, claim=name, **usual)
            assert found.verdict == "verified"
        assert refine.check(model, domain, claim=f"argmax:{wrong}", **usual).verdict == "violated"
    with pytest.raises(refine.ModelError, match="there is no label 2"):
        refine.check(model, "1..2", claim="argmax:2", **usual)


@pytest.mark.parametrize("part", ["{}", "(or (and {} (<= X_1 0.3)) (and {} (>= X_1 0.3)))"])
def test_an_input_pinned_between_two_floats_is_the_nearest(folder: Path, part: str) -> None:
    """The unsafe set means that number, too: nothing holds because no input has it."""
    model = mlp(folder / "m.onnx", (2, 8, 2), seed=2)
    rng = np.random.default_rng(0)
    session = onnxruntime.InferenceSession(model)
    points = [np.array([[0.1, x]], np.float32) for x in rng.uniform(-1, 1, 500)]
    outputs = np.concatenate([np.asarray(session.run(None, {"x": p})[0]) for p in points])
    least = float(np.min(outputs[:, 0].astype(np.float64) - outputs[:, 1]))

    def asked(level: float, **more: Any) -> Result:
        names = ("X_0", "X_1", "Y_0", "Y_1")
        text = "".join(f"(declare-const {n} Real)\n" for n in names)
        text += "(assert (<= X_0 0.1))(assert (>= X_0 0.1))(assert (<= X_1 1))(assert (>= X_1 -1))"
        rows = f"(<= (- Y_0 Y_1) {level:.6f})"
        (folder / "p.vnnlib").write_text(f"{text}(assert {part.format(rows, rows)})\n")
        return refine.check(model, folder / "p.vnnlib", claim="property", budget=2.0, **more)

    broken = asked(least + 0.1)
    assert broken.verdict == "violated"
    assert broken.witness is not None
    assert broken.witness.inputs["x"].reshape(-1)[0] == np.float32(0.1)
    kept = asked(least - 0.3, certificate=folder / "p.cert")
    assert kept.verdict == "verified"
    assert kept.margins is not None
    assert 0.0 < kept.margins[0].run < 5.0  # of outputs that were looked at
    assert any("the nearest" in a.text for a in kept.assumptions if a.name == "inputs")
    command = ["recheck", str(folder / "p.cert"), str(model), "--vnnlib", str(folder / "p.vnnlib")]
    assert run(command) is ExitCode.VERIFIED
    with pytest.raises(refine.ModelError, match="the domain is empty"):
        asked(least - 0.3, strict_inputs=True)
