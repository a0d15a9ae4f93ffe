"""Backward errors: bounds beside the exact networks that runs are the outputs of."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from backward import matvec, polyval, programs, row_of, solver, total
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper
from random_chains import chain, executions, inputs_of
from small_models import graph_of_nodes, save

from encoders.arithmetic.exact_fields import fraction
from encoders.contract.contract import RuntimeContract
from encoders.contract.presets import CUDA_TF32, IEEE_ANY, PAIRWISE, SEQUENTIAL, SEQUENTIAL_FMA
from encoders.numbers.formats import FloatFormat, round_array
from gpu_check.emulator.emulator import emulate
from onnx_import import load
from onnx_import.errors import ModelError, UnsupportedModel
from onnx_import.graph import Array, DType, Graph, Node, TensorType, build_graph
from refine.cli.main import cli
from refine.perturbed.bound import NORMAL, BackwardBound, backward_bound
from refine.perturbed.files import read_perturbed
from refine.perturbed.standing import Laid, plus, times
from refine.perturbed.witness import OutsideBound, exact_outputs, perturbed_constants, witness_of

ROOT = Path(__file__).resolve().parents[1]
E4P3 = FloatFormat("e4p3", 3, -6, 7)


def ran_of(graph: Graph, x: Array, contract: RuntimeContract) -> dict[str, Array]:
    with np.errstate(all="ignore"):
        return {**emulate(graph, {"x": x}, contract, every_tensor=True), "x": x}


def exact_in(found: BackwardBound, ran: dict[str, Array]) -> int:
    """Builds the witness of every sample, evaluates its network by the real semantics in rational
    numbers, and compares weights with the bounds; how many rows needed something beside."""
    witness = witness_of(found, ran)
    moved = {m.tensor: m for m in found.moved}
    for sample in range(witness.samples):
        made = perturbed_constants(found, witness, sample)
        for tensor, values in made.items():
            stored = found.graph.constants[tensor].ravel().tolist()
            bound = Fraction(moved[tensor].relative.largest)
            beside = moved[tensor].besides
            more = Fraction(0) if beside is None else Fraction(beside.largest)
            for w, new in zip(stored, values.ravel().tolist(), strict=True):
                change = abs(fraction(new) - Fraction(w))
                assert change <= bound * abs(Fraction(w)) + more
        outputs = exact_outputs(found, witness, made, {"x": ran["x"][sample]}, sample)
        for tensor, values in outputs.items():
            bits = ran[tensor][sample].ravel().tolist()
            assert [fraction(v) for v in values.ravel().tolist()] == [Fraction(b) for b in bits]
    return sum(layer.underflows for layer in witness.layers)


@pytest.mark.parametrize(("tiny", "count"), [(False, 20), (True, 20)], ids=["usual", "underflow"])
def test_every_run_is_the_exact_output_of_a_network_within_the_bound(
    tiny: bool, count: int
) -> None:
    beside = 0
    for k in range(count):
        rng = np.random.default_rng((20, k, tiny))
        graph = chain(rng, tiny=tiny)
        x = inputs_of(rng, graph, 2, tiny=tiny)
        for _, contract in executions(rng, graph):
            bounded = IEEE_ANY if contract.rules else contract
            for claimed in {bounded.name: bounded, IEEE_ANY.name: IEEE_ANY}.values():
                found = backward_bound(graph, claimed, Laid.WEIGHTS)
                beside += exact_in(found, ran_of(graph, x, contract))
    assert (beside > 0) == tiny


def test_small_formats_whatever_the_input() -> None:
    """One row of two products and a bias, on every pair of numbers of a format."""
    numbers = np.unique(round_array(np.linspace(-40.0, 40.0, 4001), E4P3))
    pairs = np.array(list(itertools.product(numbers[::3], numbers)), np.float32).reshape(-1, 1, 2)
    weights = np.array([[1.75], [-0.0234375]], np.float32)
    graph = dense(weights, np.array([0.15625], np.float32))
    worst = 0.0
    for base in (SEQUENTIAL, SEQUENTIAL_FMA, PAIRWISE):
        contract = replace(base, compute_format=E4P3)
        found = backward_bound(graph, contract, Laid.WEIGHTS)
        ran = ran_of(graph, pairs, contract)
        finite = np.isfinite(ran["y"]).reshape(len(pairs), -1).all(axis=1)
        witness = witness_of(found, {t: v[finite] for t, v in ran.items()})
        worst = max(worst, witness.layers[0].multiples)
        assert np.count_nonzero(finite) > 1000
    assert 1.2 < worst <= 3.0


def dense(weights: Array, bias: Array | None, **attributes: float) -> Graph:
    """One Gemm."""
    n, m = weights.shape
    constants = {"w": weights} if bias is None else {"w": weights, "b": bias}
    node = Node("fc", "Gemm", ("x", *constants), ("y",), attributes, 17)
    return graph_of_nodes([node], constants, {"x": (1, n), "y": (1, m)})


def test_a_bound_that_is_too_small_has_no_witness() -> None:
    """The witness is no formality: seven tenths of the bound are refuted by some run."""
    rng = np.random.default_rng(3)
    graph = dense(rng.normal(size=(1, 40)).astype(np.float32), rng.normal(size=40).astype("f4"))
    ran = ran_of(graph, rng.normal(size=(400, 1, 1)).astype(np.float32), SEQUENTIAL)
    found = backward_bound(graph, SEQUENTIAL, Laid.WEIGHTS)
    less = tuple(replace(m, relative=m.relative.times(0.7)) for m in found.moved)
    with pytest.raises(OutsideBound, match="row"):
        witness_of(replace(found, moved=less), ran)
    assert witness_of(found, ran).layers[0].multiples > 1.4


def test_rows_count_products_and_bias() -> None:
    weights = np.ones((64, 3), np.float32)
    bare = backward_bound(dense(weights, None), IEEE_ANY, Laid.WEIGHTS)
    assert [m.multiples for m in bare.moved] == [64.0]
    assert bare.moved[0].relative.largest == 64 * 2.0**-24
    assert set(bare.mixed) == {"y"}
    whole = backward_bound(dense(weights, np.ones(3, np.float32)), IEEE_ANY, Laid.WEIGHTS)
    assert [m.multiples for m in whole.moved] == [65.0, 65.0]
    assert not whole.mixed
    assert whole.moved[1].besides is not None
    halved = backward_bound(dense(weights, None), PAIRWISE, Laid.WEIGHTS)
    assert [m.multiples for m in halved.moved] == [7.0]


def test_programs_of_bean_have_its_figures() -> None:
    small = [p for p in programs() if p.name not in ("PolyVal 100", "Horner 500", "PolyVal 50")]
    rows = [row_of(program) for program in small]
    assert [row["program"] for row in rows if not row["as_good"]] == []
    assert {row["program"]: row["ours"] for row in rows}["LinSolve 2×2"] == {"a": 2.5, "b": 1.5}


def test_polynomials_in_a_small_format() -> None:
    """aₖ·zᵏ can be moved apart from each other, so that the bound holds of a run if its error is
    at most Σ(exp(k·u) − 1)·|aₖ·zᵏ|; on every kind of coefficient, in the normal range."""
    graph = polyval(2)
    found = backward_bound(graph, SEQUENTIAL, Laid.INPUTS, ("z",))
    assert NORMAL in backward_bound(graph, IEEE_ANY, Laid.INPUTS, ("z",)).assumed
    take = {m.tensor: m.multiples for m in found.moved}
    wide = FloatFormat("e6p3", 3, -30, 31)
    numbers = np.array([1.0, 1.25, 1.5, 1.75, -1.0, -1.25, -1.5, -1.75, 3.5, -5.0, 0.625])
    rows = np.array(list(itertools.product(numbers, repeat=4)))
    given = {t: rows[:, i].copy() for i, t in enumerate(("z", "a0", "a1", "a2"))}
    contract = replace(SEQUENTIAL, compute_format=wide)
    (ran,) = emulate(graph, given, contract).values()
    z = rows[:, 0]
    terms = [rows[:, 1 + k] * z**k for k in range(3)]  # exact in float64
    error = np.abs(ran - sum(terms))
    room = sum((np.exp(take[f"a{k}"] * 0.125) - 1.0) * np.abs(term) for k, term in enumerate(terms))
    assert np.all(error <= room)
    assert np.max(error / room) > 0.3


def test_functions_are_charged_to_the_biases_that_follow() -> None:
    """σ(h) is off by what the contract allows, which the next layer's biases take."""
    rng = np.random.default_rng(4)
    held = {"v": rng.normal(size=(6, 9)), "a": rng.normal(size=9), "w": rng.normal(size=(9, 4))}
    constants = {t: v.astype(np.float32) for t, v in held.items()}
    constants["b"] = np.full(4, 1e-6, np.float32)
    nodes = [
        Node("one", "Gemm", ("x", "v", "a"), ("h",), {}, 17),
        Node("curve", "Sigmoid", ("h",), ("s",), {}, 17),
        Node("two", "Gemm", ("s", "w", "b"), ("y",), {}, 17),
    ]
    shapes = {"x": (1, 6), "h": (1, 9), "s": (1, 9), "y": (1, 4)}
    graph = graph_of_nodes(nodes, constants, shapes)
    found = backward_bound(graph, SEQUENTIAL, Laid.WEIGHTS)
    take = {m.tensor: m for m in found.moved}
    assert "curve" in found.assumed[1]
    assert take["b"].besides is not None
    ran = ran_of(graph, rng.normal(size=(200, 1, 6)).astype(np.float32) * 3, SEQUENTIAL)
    h, y, w = (np.float64(v) for v in (ran["h"], ran["y"], constants["w"]))
    s = 1.0 / (1.0 + np.exp(-h))
    error = np.abs(y - (s @ w + np.float64(constants["b"])))
    share = take["w"].relative.largest * (s @ np.abs(w)) + take["b"].relative.largest * 1e-6
    room = share + take["b"].besides.bound
    assert np.all(error <= room)
    assert np.max(error / room) > 0.02


REFUSED = {
    "twice": ("(FPCore (x y) (+ (* x x) y))", (), "read more than once"),
    "kept": ("(FPCore (x y) (+ (* x x) y))", ("x",), "a sum moves with each of its terms"),
    "compared": ("(FPCore (x y) (if (< x 1) (* x y) y))", (), "read more than once"),
    "unknown": ("(FPCore (x) (exp x))", (), "no bound on its rounding"),
    "no name": ("(FPCore (x y) (+ x y))", ("z",), "no input or stored tensor 'z'"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_moved_is_refused_by_name(name: str, tmp_path: Path) -> None:
    text, discrete, why = REFUSED[name]
    (tmp_path / "k.fpcore").write_text(text)
    with pytest.raises(ModelError, match=why):
        backward_bound(load(tmp_path / "k.fpcore"), SEQUENTIAL, Laid.INPUTS, discrete)


def test_conditionals_on_what_is_kept(tmp_path: Path) -> None:
    (tmp_path / "k.fpcore").write_text("(FPCore (z a b) (if (< z 1) (* a z) (+ (* b z) a)))")
    with pytest.raises(UnsupportedModel, match="'a' is read more than once"):
        backward_bound(load(tmp_path / "k.fpcore"), SEQUENTIAL, Laid.INPUTS, ("z",))
    (tmp_path / "k.fpcore").write_text("(FPCore (z a b c) (if (< z 1) (* a z) (+ (* b z) c)))")
    found = backward_bound(load(tmp_path / "k.fpcore"), SEQUENTIAL, Laid.INPUTS, ("z",))
    assert {m.tensor: m.multiples for m in found.moved} == {"a": 1.0, "b": 2.0, "c": 1.0}


def test_shared_weights_are_refused_with_their_number() -> None:
    node = Node("c", "Conv", ("x", "w"), ("y",), {}, 17)
    weights = {"w": np.ones((1, 1, 3, 3), np.float32)}
    graph = graph_of_nodes([node], weights, {"x": (1, 1, 4, 4), "y": (1, 1, 2, 2)})
    with pytest.raises(UnsupportedModel, match=r"'w' is used 4 times .*strict linearity"):
        backward_bound(graph, IEEE_ANY, Laid.WEIGHTS)


def test_vectors_are_shared_by_rows() -> None:
    with pytest.raises(UnsupportedModel, match="'x' is read more than once"):
        backward_bound(matvec(3, 4), SEQUENTIAL, Laid.INPUTS)
    assert len(backward_bound(total(5), SEQUENTIAL, Laid.INPUTS).moved) == 1
    assert len(backward_bound(solver(3), SEQUENTIAL, Laid.INPUTS).moved) == 9


def test_the_witness_of_onnxruntime_is_written_and_read_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", np.array([0.3, -0.7], np.float32))
    model = ROOT / "examples" / "demo" / "pendulum.onnx"
    asked = ["bound", str(model), "--backward", "weights", "--json", "r.json"]
    done = CliRunner().invoke(cli, [*asked, "--witness", "x.npy", "-o", "p.onnx"])
    assert done.exit_code == 0, done.output
    document = json.loads(Path("r.json").read_text())
    assert document["multiples"] == 65.0
    assert [layer["bound"] for layer in document["witness"]["layers"]] == [3.0, 65.0, 65.0]
    found = backward_bound(load(model), IEEE_ANY, Laid.WEIGHTS)
    witness, constants, ran = read_perturbed(Path("p.onnx"), found)
    (output,) = exact_outputs(
        found, witness, constants, {t: ran[t][0] for t in found.graph.inputs}
    ).values()
    (bits,) = (ran[t].ravel().tolist() for t in found.graph.outputs)
    assert [fraction(v) for v in output.ravel().tolist()] == [Fraction(b) for b in bits]
    near = load(Path("p.onnx"))
    for tensor, exact in constants.items():
        nearest = [float(fraction(v)) for v in exact.ravel().tolist()]
        assert near.constants[tensor].ravel().tolist() == nearest


WRONG = {
    "several inputs in one file": (["--witness", "many.npy", "-o", "p.onnx"], "-o writes"),
    "no number of its type": (["--witness", "double.npy", "-o", "p.onnx"], "none of the input's"),
    "a place of nothing": (["-o", "p.onnx"], "names an input"),
    "a folder that is none": (["--witness", "x.npy", "-o", "no/p.onnx"], "no"),
    "a report": (["--report", "r.html"], "no --report"),
    "a margin": (["--margin"], "--margin does not go"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_witnesses_write_nothing(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", np.array([0.3, -0.7], np.float32))
    np.save("many.npy", np.zeros((3, 2), np.float32))
    np.save("double.npy", np.array([0.1, 0.2]))
    before = set(tmp_path.iterdir())
    given, why = WRONG[name]
    model = ROOT / "examples" / "demo" / "pendulum.onnx"
    done = CliRunner().invoke(cli, ["bound", str(model), "--backward", "weights", *given])
    assert done.exit_code != 0
    assert why in str(done.exception or "") + done.output
    assert set(tmp_path.iterdir()) == before


def test_claims_about_relative_changes() -> None:
    model = str(ROOT / "examples" / "demo" / "pendulum.onnx")
    for eps, code in (("65u", 6), ("64.9 u", 3), ("3.9e-6", 6), ("3.8e-6", 3), ("65·u", 6)):
        asked = ["check", model, "--claim", "backward", "--eps", eps, "-q"]
        done = CliRunner().invoke(cli, asked, standalone_mode=False)
        assert done.return_value.value == code
        assert f"eps {eps}" in done.output
        assert ("assumed: of every execution" in done.output) == (code == 6)
    for domain, code in (("-1..1", 0), ("-1e38..1e38", 6)):
        asked = ["check", model, "--claim", "backward", "--eps", "65u", "-q", "--input", domain]
        done = CliRunner().invoke(cli, asked, standalone_mode=False)
        assert done.return_value.value == code
    table = CliRunner().invoke(cli, ["bound", model, "--backward", "weights"])
    assert "u is 2^-24" in table.output
    refused = CliRunner().invoke(cli, ["check", model, "--claim", "backward", "--eps", "a"])
    assert "multiple of u" in str(refused.exception or "") + refused.output
    asked = ["check", model, "--claim", "backward", "--eps", "65u", "--batch", "4"]
    refused = CliRunner().invoke(cli, asked)
    assert "option of the claim batch-invariant" in str(refused.exception or "") + refused.output


def test_grades_are_exact_or_rounded_up() -> None:
    rng = np.random.default_rng(0)
    for a, b in rng.uniform(0, 8, (200, 2)).tolist():
        assert Fraction(plus(a, b)) >= Fraction(a) + Fraction(b)
        assert Fraction(times(a, 0.5)) >= Fraction(a) / 2
        assert Fraction(times(a, 3)) >= Fraction(a) * 3
    assert plus(2.0**-53, 3 * 2.0**-53) == 4 * 2.0**-53
    assert times(2.0**-53, 1000) == 1000 * 2.0**-53


def test_json_alone_on_standard_output(tmp_path: Path) -> None:
    kernel = tmp_path / "k.fpcore"
    for text in ("(FPCore (x y) (+ x y))", "(FPCore (x) (+ x x))"):
        kernel.write_text(text)
        asked = ["bound", str(kernel), "--backward", "inputs", "--json", "-"]
        document = json.loads(CliRunner().invoke(cli, asked).output)
        assert document["schema"] == "refine-backward-1"
        assert ("reason" in document) == ("x x" in text)


def one_node(op: str, inputs: Mapping[str, Array], shape: tuple[int, ...], out: DType) -> Graph:
    """x and stored tensors into one node."""
    types = {t: TensorType(DType.FLOAT32, v.shape) for t, v in inputs.items()}
    return build_graph(
        (Node("n", op, tuple(inputs), ("y",), {}, 17),),
        {**types, "y": TensorType(out, shape)},
        constants={t: v for t, v in inputs.items() if t != "x"},
        inputs=("x",),
        outputs=("y",),
    )


def test_weights_of_several_rows_are_shared() -> None:
    x, w = np.zeros((3, 4), np.float32), np.ones((4, 2), np.float32)
    graph = one_node("MatMul", {"x": x, "w": w}, (3, 2), DType.FLOAT32)
    with pytest.raises(UnsupportedModel, match="'w' is used 3 times"):
        backward_bound(graph, IEEE_ANY, Laid.WEIGHTS)


def test_weights_of_two_layers_are_shared() -> None:
    w = np.eye(3, dtype=np.float32)
    nodes = (
        Node("one", "MatMul", ("x", "w"), ("h",), {}, 17),
        Node("two", "MatMul", ("h", "w"), ("y",), {}, 17),
    )
    graph = graph_of_nodes(nodes, {"w": w}, dict.fromkeys("xhy", (1, 3)))
    with pytest.raises(UnsupportedModel, match=r"'w' is used 2 times .*'one'.*'two'"):
        backward_bound(graph, IEEE_ANY, Laid.WEIGHTS)


def test_what_has_no_exact_meaning_is_no_ground() -> None:
    """Numbers that are not finite, truncated factors, and integers made of rounded numbers."""
    x = np.zeros((1, 2), np.float32)
    endless = one_node(
        "MatMul", {"x": x, "w": np.array([[np.inf], [1.0]], np.float32)}, (1, 1), DType.FLOAT32
    )
    with pytest.raises(UnsupportedModel, match="infinity or NaN"):
        backward_bound(endless, IEEE_ANY, Laid.WEIGHTS)
    plain = one_node("MatMul", {"x": x, "w": np.ones((2, 1), np.float32)}, (1, 1), DType.FLOAT32)
    with pytest.raises(UnsupportedModel, match="aligned steps"):
        backward_bound(plain, CUDA_TF32, Laid.WEIGHTS)
    scales = {"x": x, "s": np.float32(0.3) * np.ones((), np.float32)}
    steps = one_node("QuantizeLinear", scales, (1, 2), DType.UINT8)
    with pytest.raises(UnsupportedModel, match="makes other numbers"):
        backward_bound(steps, IEEE_ANY, Laid.WEIGHTS)


def test_so_many_terms_that_n_times_u_exceeds_one() -> None:
    """The row's bound needs no n·u < 1 (Jeannerod & Rump 2013); a witness exists."""
    rng = np.random.default_rng(8)
    weights = rng.uniform(0.5, 1.0, (3000, 1)).astype(np.float16)
    x = np.ones((2, 1, 3000), np.float16) / 64
    node = Node("fc", "MatMul", ("x", "w"), ("y",), {}, 17)
    shapes = {"x": (1, 3000), "y": (1, 1)}
    graph = graph_of_nodes([node], {"w": weights}, shapes, DType.FLOAT16)
    found = backward_bound(graph, IEEE_ANY, Laid.WEIGHTS)
    assert found.moved[0].relative.largest == 3000 / 2048
    assert exact_in(found, ran_of(graph, x, SEQUENTIAL)) == 0


def test_a_runtime_that_leaves_the_contract_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bound that is too small for what ran: exit code 5, and nothing written."""
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", np.array([0.3, -0.7], np.float32))

    def narrow(*given: object) -> BackwardBound:
        found = backward_bound(*given)  # type: ignore[arg-type]
        return replace(
            found,
            moved=tuple(replace(m, relative=m.relative.times(0.01)) for m in found.moved),
        )

    monkeypatch.setattr("refine.cli.daily.backward.backward_bound", narrow)
    model = ROOT / "examples" / "demo" / "pendulum.onnx"
    asked = ["bound", str(model), "--backward", "weights", "--witness", "x.npy", "-o", "p.onnx"]
    done = CliRunner().invoke(cli, asked, standalone_mode=False)
    assert done.return_value.value == 5
    assert [p.name for p in tmp_path.iterdir()] == ["x.npy"]


@pytest.mark.parametrize("op", ["Sigmoid", "Softmax", "Sqrt"])
def test_no_witness_of_values_that_are_not_rational(
    op: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    layers = [
        helper.make_node("Gemm", ["x", "v", "b"], ["h"]),
        helper.make_node(op, ["h"], ["a"]),
        helper.make_node("Gemm", ["a", "w", "c"], ["y"]),
    ]
    weights: dict[str, Any] = {name: np.full((2, 2), 0.3, np.float32) for name in ("v", "w")}
    weights |= {name: np.full(2, 0.8, np.float32) for name in ("b", "c")}
    save(Path("m.onnx"), layers, {"x": [1, 2]}, {"y": [1, 2]}, weights)
    np.save("x.npy", np.array([[0.3, 0.7]], np.float32))
    asked = ["bound", "m.onnx", "--backward", "weights", "--witness", "x.npy"]
    assert CliRunner().invoke(cli, asked[:4]).exit_code == 0
    done = CliRunner().invoke(cli, asked, standalone_mode=False)
    assert isinstance(done.exception, UnsupportedModel)
    assert "not rational" in str(done.exception)


def test_no_witness_of_rows_that_only_a_later_function_bounds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    layers = [
        helper.make_node("MatMul", ["x", "v"], ["g"]),
        helper.make_node("Add", ["g", "b"], ["h"]),
        helper.make_node("Mul", ["h", "c"], ["i"]),
        helper.make_node("MatMul", ["i", "w"], ["k"]),
        helper.make_node("Tanh", ["k"], ["a"]),
        helper.make_node("MatMul", ["a", "u"], ["z"]),
        helper.make_node("Softmax", ["z"], ["y"]),
    ]
    weights = {name: np.full((2, 2), 0.3, np.float32) for name in ("u", "v", "w")}
    bias = {"b": np.full(2, 0.8, np.float32), "c": np.float32(-0.3)}
    save(Path("m.onnx"), layers, {"x": [1, 2]}, {"y": [1, 2]}, {**weights, **bias})
    np.save("x.npy", np.array([[0.3, 0.7]], np.float32))
    asked = ["bound", "m.onnx", "--backward", "weights", "--witness", "x.npy"]
    asked += ["--contract", "fp16", "--subnormals", "either"]
    done = CliRunner().invoke(cli, asked, standalone_mode=False)
    assert isinstance(done.exception, UnsupportedModel)
    assert "its own part has no bound" in str(done.exception)


def test_a_run_below_the_normal_range_is_no_runtime_that_leaves_its_contract(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a chain of products in float16 the bound is of normal numbers alone."""
    monkeypatch.chdir(tmp_path)
    layers = [
        helper.make_node("MatMul", ["x", "v"], ["g"]),
        helper.make_node("Add", ["g", "b"], ["h"]),
        helper.make_node("Gemm", ["h", "w", "c"], ["y"]),
    ]
    numbers: dict[str, Any] = {
        "v": [[1.574e-05], [7.451e-06], [-9.716e-06]],
        "b": [0.0],
        "w": [[1.0, 2.0]],
        "c": [0.0, 0.0],
    }
    stored = [numpy_helper.from_array(np.array(v, np.float16), k) for k, v in numbers.items()]
    kinds = [("x", [1, 3]), ("y", [1, 2])]
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT16, s) for n, s in kinds)
    graph = helper.make_graph(layers, "g", [x], [y], stored)
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), "m.onnx")
    np.save("x.npy", np.array([[-0.5625, -0.1514, -1.159]], np.float16))
    asked = ["bound", "m.onnx", "--backward", "weights", "--contract", "bf16"]
    done = CliRunner().invoke(cli, [*asked, "--witness", "x.npy"], standalone_mode=False)
    assert isinstance(done.exception, UnsupportedModel)
    assert "below the normal range" in str(done.exception)
