"""A runtime held to a contract: what honours it passes, each fault is caught and named."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import small_models
from onnx import TensorProto, helper, numpy_helper
from operator_checks import Example, graph_of
from ort_schedule import ORT_PLAIN
from test_probe import EmulatedMachine

from encoders.contract.contract import (
    BiasPlacement,
    Blocked,
    Contraction,
    FactorRounding,
    Normalization,
    RuntimeContract,
    Subnormals,
)
from encoders.contract.functions import Functions
from encoders.contract.orders import Lanes
from encoders.contract.presets import IEEE_ANY, ORT_CPU, PRESETS, SEQUENTIAL, SEQUENTIAL_FMA
from encoders.functions.accuracy import Evidence, FunctionAccuracy
from encoders.functions.tanh import TANH
from encoders.numbers.formats import BINARY16, BINARY32, TENSOR_FLOAT_32
from gpu_check.conformance.conformance import Conformance, How, conformance
from gpu_check.runtimes.kernels import Kernels
from gpu_check.runtimes.tensors import Machine
from onnx_import import load
from onnx_import.graph import Array, Graph
from refine.bounds.point_bounds import bound_at
from refine.claims.conforming import judged
from refine.cli.main import run
from refine.domain.random_inputs import sampled_inputs
from refine.options.contract_choice import contract_for
from refine.options.contract_file import read_contract, write_contract
from refine.options.runtime_choice import machine, runtime_choice
from refine.results.verdict import ExitCode


@pytest.fixture
def network(tmp_path: Path) -> Graph:
    """Gemm with bias, batch normalisation, a second Gemm."""
    rng = np.random.default_rng(3)
    weights = {
        "w": rng.standard_normal((12, 6)),
        "b": rng.standard_normal(6),
        "g": rng.standard_normal(6),
        "m": rng.standard_normal(6),
        "v": rng.random(6) + 0.5,
        "u": rng.standard_normal((6, 2)),
    }
    nodes = [
        helper.make_node("Gemm", ["x", "w", "b"], ["z"], "first"),
        helper.make_node("BatchNormalization", ["z", "g", "b", "m", "v"], ["n"], "norm"),
        helper.make_node("Gemm", ["n", "u"], ["y"], "last"),
    ]
    single = {k: v.astype(np.float32) for k, v in weights.items()}
    shapes = {"x": [1, 12]}, {"y": [1, 2]}
    return load(small_models.save(tmp_path / "net.onnx", nodes, *shapes, single))


NEAREST, TRUNCATED = FactorRounding.NEAREST, FactorRounding.TRUNCATE
BASE = replace(ORT_PLAIN, name="base", order=Blocked(4))
WRONG: dict[str, Callable[[RuntimeContract], RuntimeContract]] = {
    "order": lambda c: replace(c, order=Blocked(5)),
    "fma": lambda c: replace(c, contraction=Contraction.NEVER),
    "bias": lambda c: replace(c, bias=BiasPlacement.FIRST),
    "normalization": lambda c: replace(c, normalization=Normalization.DIRECT),
    "subnormal_results": lambda c: replace(c, results=Subnormals.FLUSH),
    "subnormal_operands": lambda c: replace(c, operands=Subnormals.FLUSH),
    "format": lambda c: replace(c, compute_format=BINARY16),
    "exact": lambda c: replace(c, exact=True),
    "weights": lambda c: replace(c, stored_format=BINARY16),
    "factors": lambda c: replace(c, factor_format=TENSOR_FLOAT_32, factor_rounding=NEAREST),
}


def outcome(graph: Graph, real: RuntimeContract, stated: RuntimeContract) -> Conformance:
    batch = sampled_inputs(graph, ("-1..1",), 12, 0)
    return conformance(graph, EmulatedMachine(graph, real), stated, samples=batch)


def named(found: Conformance) -> set[str]:
    """The fields that the outcome blames."""
    fields = {f for n in found.divergences if n.divergence for f in n.divergence.fields}
    return fields | {m.field for m in found.modes}


@pytest.mark.parametrize(
    "contract",
    [
        BASE,
        SEQUENTIAL_FMA,
        replace(SEQUENTIAL, order=Lanes(4)),
        replace(BASE, results=Subnormals.FLUSH, operands=Subnormals.FLUSH),
    ],
    ids=lambda c: c.describe()[:60],
)
def test_a_contract_is_honoured_by_itself(contract: RuntimeContract, network: Graph) -> None:
    found = outcome(network, contract, contract)
    assert found.conforms
    assert [n.how for n in found.nodes] == [How.BITS] * 3


@pytest.mark.parametrize("field", WRONG)
def test_one_wrong_field_is_named(field: str, network: Graph) -> None:
    found = outcome(network, BASE, WRONG[field](BASE))
    assert not found.conforms
    assert named(found) == {field}


def test_weights_that_the_runtime_shortens_are_named(network: Graph) -> None:
    assert named(outcome(network, replace(BASE, stored_format=BINARY16), BASE)) == {"weights"}


@pytest.mark.parametrize("real", [NEAREST, TRUNCATED])
def test_the_wrong_rounding_of_factors_is_named(real: FactorRounding, network: Graph) -> None:
    """Both keep 11 bits: only the numbers tell."""
    short = replace(BASE, factor_format=TENSOR_FLOAT_32, factor_rounding=NEAREST)
    other = replace(short, factor_rounding=TRUNCATED)
    real_one, stated = (short, other) if real is NEAREST else (other, short)
    assert named(outcome(network, real_one, stated)) == {"factor_rounding"}


@pytest.mark.parametrize("wide", [False, True])
def test_the_wrong_accumulation_is_named(wide: bool) -> None:
    weights = {"W": np.random.default_rng(4).standard_normal((30, 5))}
    case = Example("half", (("MatMul", "x W", "y", {}),), {"x": (1, 30)}, weights)
    graph, _ = graph_of(case, np.float16)
    contracts = replace(SEQUENTIAL, accumulation=BINARY32), SEQUENTIAL
    real, stated = contracts if wide else reversed(contracts)
    assert outcome(graph, real, real).conforms
    assert named(outcome(graph, real, stated)) == {"accumulation"}


@pytest.mark.parametrize("field", ["order", "fma"])
def test_the_first_diverging_node_is_told_with_both_values(field: str, network: Graph) -> None:
    found = outcome(network, BASE, WRONG[field](BASE))
    first = found.divergences[0]
    assert first.node.name == "first"
    assert first.divergence is not None
    assert first.divergence.given != first.divergence.expected
    assert abs(first.divergence.given - first.divergence.expected) < 1e-5
    assert "blocks of 4" in first.divergence.guess


def test_reduced_precision_is_named(tmp_path: Path) -> None:
    graph = load(small_models.mlp(tmp_path / "net.onnx", (3, 2)))
    one = EmulatedMachine(graph, SEQUENTIAL, bits=11)
    found = conformance(graph, one, SEQUENTIAL, samples=sampled_inputs(graph, ("-1..1",), 2, 0))
    assert [m.field for m in found.modes] == ["factors"]
    assert "11 bits" in found.modes[0].found


def test_open_contracts_are_judged_by_their_bounds(network: Graph) -> None:
    """Any schedule is within the free contract; a runtime with a coarser format is not."""
    free = replace(
        BASE,
        order=PRESETS["ieee-any"].order,
        contraction=Contraction.EITHER,
        normalization=Normalization.EITHER,
    )
    found = outcome(network, BASE, free)
    assert found.conforms
    assert [n.how for n in found.nodes] == [How.ENCLOSURE] * 3
    assert all(n.numbers for n in found.nodes)

    class Coarse(EmulatedMachine):
        def tensors(self, samples: Sequence[Mapping[str, Array]]) -> Mapping[str, Array]:
            exact = super().tensors(samples)
            return {t: v.astype(np.float16).astype(np.float32) for t, v in exact.items()}

    machine = Coarse(network, BASE)
    rough = conformance(network, machine, free, samples=sampled_inputs(network, ("-1..1",), 4, 0))
    assert [n.node.name for n in rough.divergences] == ["first", "norm", "last"]


# onnxruntime


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return small_models.mlp(tmp_path / "net.onnx", (300, 9, 2))


def test_onnxruntime_honours_what_was_probed_of_it(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    contract = tmp_path / "c.toml"
    assert run(["probe", str(model), "-o", str(contract), "--samples", "4"]) is ExitCode.VERIFIED
    arguments = ["conform", str(model), "--contract", str(contract), "--samples", "30"]
    assert run(arguments) is ExitCode.VERIFIED
    assert "the contract is honoured" in capsys.readouterr().out
    probed = read_contract(contract)
    first, *rest = probed.rules
    shorter = replace(first, schedule=replace(first.schedule, order=Blocked(128)))
    write_contract(replace(probed, rules=(shorter, *rest)), contract)
    assert run(arguments) is ExitCode.VIOLATED
    printed = capsys.readouterr().out
    assert "wrong field: order" in printed
    assert "blocks of 256" in printed
    assert "first diverging node: node 'gemm1'" in printed


def test_a_session_that_flushes_is_caught_and_leaves_this_process_alone(model: Path) -> None:
    graph = load(model)
    batch = sampled_inputs(graph, ("-1..1",), 3, 0)
    found = judged(graph, runtime_choice("onnxruntime:flush"), ORT_CPU, batch)
    assert {"subnormal_results", "subnormal_operands"} <= named(found)
    tiny = np.float32(2.0**-126) * np.array([0.5], np.float32)
    assert tiny[0] != 0, "this process flushes too"
    assert judged(graph, runtime_choice("onnxruntime"), ORT_CPU, batch).conforms


def test_functions_are_held_to_their_accuracy(tmp_path: Path) -> None:
    node = helper.make_node("Tanh", ["x"], ["y"], "bend")
    graph = load(small_models.save(tmp_path / "t.onnx", [node], {"x": [1, 9]}, {"y": [1, 9]}))
    batch = sampled_inputs(graph, ("-3..3",), 8, 0)
    choice = runtime_choice("onnxruntime")
    assert judged(graph, choice, ORT_CPU, batch).conforms
    strict = FunctionAccuracy(0.51, None, Evidence.DEFINITION, "")
    others = tuple((f, strict if f is TANH else a) for f, a in ORT_CPU.functions.table)
    found = judged(graph, choice, replace(ORT_CPU, functions=Functions("strict", others)), batch)
    assert named(found) == {"functions.tanh"}


def test_an_optimising_runtime_is_compared_at_its_outputs(model: Path) -> None:
    graph = load(model)
    choice = runtime_choice("onnxruntime:optimization=all")
    found = judged(graph, choice, ORT_CPU, sampled_inputs(graph, ("-1..1",), 3, 0))
    assert [n.how for n in found.nodes] == [How.THROUGH, How.THROUGH, How.BITS]
    assert found.compared


TERMS = 512


def test_threads_that_change_bits_are_named(tmp_path: Path) -> None:
    """runtime-facts: onnxruntime's product with weights that vary depends on the threads."""
    nodes = [
        helper.make_node("Transpose", ["v"], ["w"], "turn", perm=[1, 0]),
        helper.make_node("MatMul", ["x", "w"], ["y"], "product"),
    ]
    weights = {"v": np.random.default_rng(0).standard_normal((64, TERMS)).astype(np.float32)}
    shapes = {"x": [4, TERMS]}, {"y": [4, 64]}
    graph = load(small_models.save(tmp_path / "t.onnx", nodes, *shapes, weights))
    batch = sampled_inputs(graph, ("-1..1",), 2, 0)
    with machine(runtime_choice("onnxruntime:threads=2"), graph) as two:
        several = two.tensors(batch)["y"]
    with machine(runtime_choice("onnxruntime"), graph) as one:
        alone = one.tensors(batch)["y"]
    if np.array_equal(several, alone):
        pytest.skip("threads change no bits on this machine")
    order = Blocked(256)  # of 64 columns
    contract = replace(SEQUENTIAL_FMA, order=order, provenance=(("threads", "1"),))
    if not judged(graph, runtime_choice("onnxruntime"), contract, batch).conforms:
        pytest.skip("this machine's one-threaded order is another one")
    found = judged(graph, runtime_choice("onnxruntime:threads=2"), contract, batch)
    assert "threads" in named(found)


def test_an_unknown_contract_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = small_models.mlp(tmp_path / "net.onnx", (2, 2))
    assert run(["conform", str(model), "--contract", "nothing"]) is ExitCode.INPUT_ERROR
    assert "nothing" in capsys.readouterr().err


def composite(op: str, inputs: Mapping[str, list[int]], opset: int = 23, **kw: Any) -> Any:
    """A file of one node, an operator that the import decomposes."""
    rng = np.random.default_rng(1)
    stored = {t: rng.random(s).astype(np.float32) + 0.5 for t, s in inputs.items() if t in "cs"}
    given = {t: s for t, s in inputs.items() if t not in stored}
    body = helper.make_graph(
        [helper.make_node(op, list(inputs), ["y"], "whole", **kw)],
        "composite",
        [helper.make_tensor_value_info(t, TensorProto.FLOAT, s) for t, s in given.items()],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(v, t) for t, v in stored.items()],
    )
    return helper.make_model(body, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


HEADS = {"q": [1, 2, 5, 8], "k": [1, 2, 5, 8], "v": [1, 2, 5, 8]}
COMPOSITES = {
    "Attention": composite("Attention", HEADS),
    "RotaryEmbedding": composite(
        "RotaryEmbedding", {"x": [1, 2, 4, 8], "c": [1, 4, 4], "s": [1, 4, 4]}
    ),
    "Einsum": composite("Einsum", {"x": [3, 20], "w": [3, 20]}, equation="ij,ij->i"),
    "ReduceLogSum": composite("ReduceLogSum", {"x": [1, 40]}),
    "MeanVarianceNormalization": composite("MeanVarianceNormalization", {"x": [1, 2, 4, 4]}),
    "LRN": composite("LRN", {"x": [1, 4, 3, 3]}, size=3),
    "GlobalLpPool": composite("GlobalLpPool", {"x": [1, 2, 5, 5]}, 18),
}


@pytest.mark.parametrize("contract", ["ieee-any", "sequential", "probe:onnxruntime"])
@pytest.mark.parametrize("name", COMPOSITES)
def test_composite_operators_are_compared_at_their_outputs(
    name: str, contract: str, tmp_path: Path
) -> None:
    """They round otherwise than what they are decomposed into, and within what is proved."""
    onnx.save(COMPOSITES[name], tmp_path / "c.onnx")
    graph = load(tmp_path / "c.onnx")
    assert len(graph.order) > 1 or name == "Einsum"
    batch = sampled_inputs(graph, ("0.5..1",), 3, 0)
    chosen = contract_for(contract, None, None, tmp_path / "c.onnx")
    if contract == "sequential":  # which says nothing of functions
        chosen = replace(chosen, functions=IEEE_ANY.functions)
    found = judged(graph, runtime_choice("onnxruntime"), chosen, batch)
    assert found.conforms
    assert len(found.compared) == len(graph.order)
    assert {n.how for n in found.nodes} <= {How.BITS, How.ENCLOSURE, How.THROUGH}


@dataclass(frozen=True)
class Wrong:
    """A runtime that shows outputs alone, and one number of them wrong."""

    graph: Graph
    true: Machine

    @property
    def kernels(self) -> Kernels:
        return self.true.kernels

    def describe(self) -> str:
        return "wrong"

    def tensors(self, samples: Sequence[Mapping[str, Array]]) -> Mapping[str, Array]:
        y = self.true.tensors(samples)["y"].copy()
        y.reshape(-1)[-1] *= np.float32(1.001)
        return {"y": y}


@pytest.mark.parametrize("name", COMPOSITES)
def test_a_composite_operator_that_is_computed_wrongly_is_seen(name: str, tmp_path: Path) -> None:
    onnx.save(COMPOSITES[name], tmp_path / "c.onnx")
    graph = load(tmp_path / "c.onnx")
    with machine(runtime_choice("onnxruntime"), graph) as one:
        batch = sampled_inputs(graph, ("0.5..1",), 1, 0)
        found = conformance(graph, Wrong(graph, one), IEEE_ANY, samples=batch, bound=bound_at)
    (broken,) = found.divergences
    assert "y" in broken.node.outputs


def test_where_nothing_is_compared_nothing_is_said_to_be_honoured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Logarithms of negative numbers have no value."""
    monkeypatch.chdir(tmp_path)
    node = helper.make_node("Log", ["x"], ["y"], "log")
    small_models.save(tmp_path / "l.onnx", [node], {"x": [1, 4]}, {"y": [1, 4]})
    asked = ["conform", "l.onnx", "--contract", "ieee-any", "--samples", "3", "--input"]
    assert run([*asked, "-2..-1"]) is ExitCode.UNKNOWN
    *_, last = capsys.readouterr().out.splitlines()
    assert last.startswith("nothing was compared")
    assert run([*asked, "1..2"]) is ExitCode.VERIFIED
    *_, last = capsys.readouterr().out.splitlines()
    assert last == "the contract is honoured; nodes compared: all 1"
    nodes = [
        helper.make_node("Relu", ["x"], ["z"], "relu"),
        helper.make_node("Log", ["x"], ["y"], "log"),
    ]
    small_models.save(tmp_path / "l.onnx", nodes, {"x": [1, 4]}, {"y": [1, 4], "z": [1, 4]})
    assert run([*asked, "-2..-1"]) is ExitCode.VERIFIED
    out = " ".join(capsys.readouterr().out.split())
    assert "honoured where it was compared; nodes compared: 1 of 2; not compared: 1 (" in out


@pytest.mark.parametrize("op", ["Softsign", "HardSwish"])
def test_another_formula_that_the_bound_covers_is_no_breach(op: str, tmp_path: Path) -> None:
    node = helper.make_node(op, ["x"], ["y"], "bend")
    path = small_models.save(tmp_path / "t.onnx", [node], {"x": [1, 99]}, {"y": [1, 99]})
    graph = load(path)
    contract = replace(SEQUENTIAL, functions=IEEE_ANY.functions)
    batch = sampled_inputs(graph, ("-3..3",), 3, 0)
    found = judged(graph, runtime_choice("onnxruntime"), contract, batch)
    assert found.conforms
    assert found.compared


def test_a_deviation_without_its_epsilon_is_within_what_is_proved(tmp_path: Path) -> None:
    """ONNX adds 1e-9 to the standard deviation, and onnxruntime nothing: 1e-6 ÷ 1e-6 is 1."""
    model = composite("MeanVarianceNormalization", {"x": [1, 2]}, axes=[1])
    onnx.save(model, tmp_path / "m.onnx")
    graph = load(tmp_path / "m.onnx")
    x = {"x": np.array([[1e-6, -1e-6]], np.float32)}
    with machine(runtime_choice("onnxruntime"), graph) as one:
        assert one.tensors([x])["y"][0, 0, 0] == 1.0
        found = conformance(graph, one, IEEE_ANY, samples=[x], bound=bound_at)
    assert not found.divergences
    assert found.compared
    assert 1e-3 < float(bound_at(graph, x, IEEE_ANY)["y"][0, 0]) < 3e-3


def test_a_scale_of_nothing_but_zeros_is_onnxruntimes_own(tmp_path: Path) -> None:
    body = helper.make_graph(
        [helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "y", "z"], "whole")],
        "quantised",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [])],
    )
    opset = helper.make_opsetid("", 13)
    onnx.save(helper.make_model(body, opset_imports=[opset], ir_version=8), tmp_path / "q.onnx")
    graph = load(tmp_path / "q.onnx")
    assert any("onnxruntime gives a scale of 1" in note for note in graph.notes)
    with machine(runtime_choice("onnxruntime"), graph) as one:
        for value, scale in ((0.0, 1.0), (2.55, 0.01)):
            x = {"x": np.full((1, 3), value, np.float32)}
            assert one.tensors([x])["y"] == pytest.approx(scale)
            found = conformance(graph, one, IEEE_ANY, samples=[x], bound=bound_at)
            assert found.compared
            assert found.conforms is (value != 0.0)
