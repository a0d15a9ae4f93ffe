"""What is proved under a probed contract holds of the runtime that was probed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from encoders.contract.contract import Reduction, RuntimeContract, ScheduleRule
from encoders.contract.functions import CONSERVATIVE
from encoders.contract.presets import IEEE_ANY, PAIRWISE, SEQUENTIAL
from encoders.functions.registry import every_function
from encoders.numbers.enclosure import Interval
from encoders.operator import site_of
from encoders.scheduling import contract_at
from gpu_check.probe.probe import placed
from gpu_check.probe.probed_contract import agreed_rules
from gpu_check.runtimes.runtimes import OnnxRuntime
from onnx_import import load
from onnx_import.graph import Graph
from refine.bounds.network import InputBox, network_bounds
from refine.cli.main import run
from refine.options.contract_choice import contract_for
from refine.options.contract_file import read_contract, write_contract
from refine.options.probing import probed
from refine.options.runtime_choice import runtime_choice
from refine.results.verdict import ExitCode
from refine.witness.witness import error_between, real_outputs

FLAT = np.random.default_rng(0).standard_normal
Node = tuple[str, str, Mapping[str, Any]]


@dataclass(frozen=True)
class Case:
    """Nodes in a chain, the last of which writes y, inputs and stored numbers."""

    nodes: Sequence[Node]
    inputs: Mapping[str, tuple[int, ...]]
    stored: Mapping[str, Any]
    opset: int = 18


def case(op: str, inputs: str, stored: Any = None, opset: int = 18, **kw: Any) -> Case:
    """One node; inputs as `x:3,4 w:4,5`, the others stored."""
    named = [text.partition(":") for text in inputs.split()]
    shapes = {name: tuple(int(n) for n in size.split(",")) for name, _, size in named if size}
    names = " ".join(name for name, _, _ in named)
    return Case(((op, names, kw),), shapes, stored or {}, opset)


def weights(*shape: int) -> Any:
    return FLAT(shape).astype(np.float32)


def ints(*values: int) -> Any:
    return np.array(values, np.int64)


DECOMPOSED = {
    "ReduceLogSum": case("ReduceLogSum", "x:1000 a", {"a": ints(0)}, keepdims=0),
    "ReduceLogSum of rows": case("ReduceLogSum", "x:4,64 a", {"a": ints(1)}, keepdims=0),
    "Einsum ij,j": case("Einsum", "x:4,64 w", {"w": weights(64)}, equation="ij,j->i"),
    "Einsum ij,jk": case("Einsum", "x:3,64 w", {"w": weights(64, 5)}, equation="ij,jk->ik"),
    "Einsum of two": case("Einsum", "x:2,3,40 w:2,4,40", equation="bij,bkj->bik"),
    "Einsum ij": case("Einsum", "x:64,5", equation="ij->j"),
    "Attention": case("Attention", "q:1,2,5,16 k:1,2,5,16 v:1,2,5,16", opset=23),
    "RotaryEmbedding": case(
        "RotaryEmbedding", "x:1,2,4,8 c s", {"c": weights(1, 4, 4), "s": weights(1, 4, 4)}, 23
    ),
    "MeanVarianceNormalization": case("MeanVarianceNormalization", "x:2,3,5,5"),
    "LRN": case("LRN", "x:1,6,4,4", size=3),
    "LpPool": case("LpPool", "x:1,2,9,9", kernel_shape=[5, 5]),
    "GlobalLpPool": case("GlobalLpPool", "x:1,2,9,9"),
    "NegativeLogLikelihoodLoss": case("NegativeLogLikelihoodLoss", "x:3,5 l", {"l": ints(1, 0, 4)}),
    "SoftmaxCrossEntropyLoss": case("SoftmaxCrossEntropyLoss", "x:3,5 l", {"l": ints(1, 0, 4)}),
    "ThresholdedRelu": case("ThresholdedRelu", "x:30", opset=22),
}
BATCHED = case("MatMul", "x:1,1,40 w", {"w": weights(40, 5)})


def saved(made: Case, folder: Path) -> Graph:
    nodes, source = [], ""
    for k, (op, names, attributes) in enumerate(made.nodes):
        output = "y" if k == len(made.nodes) - 1 else f"t{k}"
        nodes.append(
            helper.make_node(op, names.replace("~", source).split(), [output], op, **attributes)
        )
        source = output
    body = helper.make_graph(
        nodes,
        "case",
        [helper.make_tensor_value_info(t, TensorProto.FLOAT, s) for t, s in made.inputs.items()],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(v, t) for t, v in made.stored.items()],
    )
    opset = helper.make_opsetid("", made.opset)
    path = folder / "case.onnx"
    onnx.save(helper.make_model(body, opset_imports=[opset], ir_version=10), path)
    return load(path)


def contract_of(graph: Graph) -> RuntimeContract:
    return probed(graph, runtime_choice("onnxruntime"), samples=8).contract


@pytest.mark.parametrize("name", DECOMPOSED)
def test_what_is_not_in_the_file_is_open(name: str, tmp_path: Path) -> None:
    """No sum is pinned by a run of a node that the runtime never runs, nor a function measured."""
    graph = saved(DECOMPOSED[name], tmp_path)
    contract = contract_of(graph)
    for node in graph.order:
        here = contract_at(site_of(graph, node), contract)
        assert not here.schedule.pinned, node.describe()
    measured, plain = dict(contract.functions.table), dict(CONSERVATIVE.table)
    assert all(measured[f] == plain[f] for f in every_function().values())


def within(graph: Graph, contract: RuntimeContract, points: Sequence[Mapping[str, Any]]) -> None:
    """The runtime's errors are at most what is proved, of each input alone and wherever it lies in
    memory."""
    assert graph.source is not None
    runtime = OnnxRuntime(graph.source)
    still = {t: np.zeros(graph.types[t].shape) for t in graph.inputs}
    for k, x in enumerate(points):
        box = {t: Interval(v.astype(np.float64), v.astype(np.float64)) for t, v in x.items()}
        bound = network_bounds(graph, InputBox(box, still), contract).maps.errors["y"]
        given = runtime.run({t: placed(v, k % 5) for t, v in x.items()})["y"]
        for value, real, limit in zip(
            given.reshape(-1), real_outputs(graph, x)["y"], np.ravel(bound), strict=True
        ):
            error = error_between(float(value), real)
            assert limit == np.inf or (error.finite and float(error.lo) <= limit)


SUMS = {
    "ReduceSum": case("ReduceSum", "x:1000 a", {"a": ints(0)}, keepdims=0),
    "ReduceMean": case("ReduceMean", "x:2,300 a", {"a": ints(1)}, keepdims=0),
    "ReduceSum of both": case("ReduceSum", "x:8,9,5 a", {"a": ints(0, 2)}, keepdims=0),
    "behind another": Case(
        (("Abs", "x", {}), ("ReduceSum", "~ a", {"keepdims": 0})), {"x": (4, 64)}, {"a": ints(1)}
    ),
    "MatMul": case("MatMul", "x:3,65 w", {"w": weights(65, 4)}),
    "MatMul from the left": case("MatMul", "w x:65,2", {"w": weights(4, 65)}),
    "Gemm": case("Gemm", "x:1,300 w b", {"w": weights(300, 2), "b": weights(2)}, alpha=0.5),
    "Gemm of two": case("Gemm", "x:1,65 w:65,9 b", {"b": weights(9)}),
    "Conv": case("Conv", "x:1,3,6,6 w b", {"w": weights(4, 3, 3, 3), "b": weights(4)}),
    "Conv in groups": case("Conv", "x:1,4,6,6 w", {"w": weights(4, 1, 3, 3)}, group=4),
}


@pytest.mark.parametrize("name", [*DECOMPOSED, *SUMS])
def test_the_runtime_stays_within_what_is_proved(name: str, tmp_path: Path) -> None:
    """Numbers that are all alike are where a sum errs most: every step rounds the same way."""
    graph = saved({**DECOMPOSED, **SUMS}[name], tmp_path)
    contract, rng = contract_of(graph), np.random.default_rng(2)
    alike = [
        {t: np.full(graph.types[t].shape, v, np.float32) for t in graph.inputs}
        for v in (*rng.uniform(0.5, 2.0, 16), 1.065093994140625)
    ]
    mixed = [
        {
            t: np.abs(rng.standard_normal(graph.types[t].shape)).astype(np.float32)
            for t in graph.inputs
        }
        for _ in range(4)
    ]
    within(graph, contract, [*alike, *mixed])


TAKEN_TO_ANOTHER_FILE = {
    "a node of a decomposition": (
        case("ReduceSum", "x:64,4 a", {"a": ints(0)}, keepdims=0),
        case("ReduceLogSum", "x:64,4 a", {"a": ints(0)}, keepdims=0),
    ),
    "weights that are computed": (
        case("MatMul", "x:1,22 w", {"w": weights(22, 6)}),
        Case(
            (("Transpose", "v", {"perm": [1, 0]}), ("MatMul", "x ~", {})),
            {"x": (1, 22)},
            {"v": weights(6, 22)},
        ),
    ),
    "other attributes": (
        case("Conv", "x:1,4,9,9 w", {"w": weights(6, 4, 3, 3)}, dilations=[2, 2]),
        case("Conv", "x:1,4,7,7 w", {"w": weights(6, 4, 3, 3)}),
    ),
}


@pytest.mark.parametrize("name", TAKEN_TO_ANOTHER_FILE)
def test_a_contract_says_nothing_of_what_another_file_computes(name: str, tmp_path: Path) -> None:
    """As many terms, rows and columns, and another kernel."""
    first, second = TAKEN_TO_ANOTHER_FILE[name]
    graph = saved(first, tmp_path)
    write_contract(contract_of(graph), tmp_path / "c.toml")
    contract = read_contract(tmp_path / "c.toml")
    (node,) = graph.order
    assert contract_at(site_of(graph, node), contract).schedule.pinned
    other = saved(second, tmp_path)
    for node in other.order:
        assert not contract_at(site_of(other, node), contract).schedule.pinned


def test_what_was_run_alone_says_nothing_of_a_batch(tmp_path: Path) -> None:
    """A product of three axes has as many rows and columns in a batch, and another kernel there."""
    graph = saved(BATCHED, tmp_path)
    contract = contract_of(graph)
    (node,) = graph.order
    assert contract_at(site_of(graph, node), contract).schedule.pinned
    assert graph.source is not None
    model = onnx.load(graph.source)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 8
    onnx.save(model, tmp_path / "many.onnx")
    many = load(tmp_path / "many.onnx")
    (node,) = many.order
    assert not contract_at(site_of(many, node), contract).schedule.pinned
    path = tmp_path / "case.onnx"
    both = contract_for("probe:onnxruntime", None, None, path, batch=8)
    for read in (graph, load(path, 8)):
        (node,) = read.order
        assert contract_at(site_of(read, node), both).schedule.pinned


@pytest.mark.parametrize(("form", "named"), [(None, None), (None, "n"), ("f", None), ("f", "n")])
def test_what_two_probes_find_differently_is_open(form: str | None, named: str | None) -> None:
    """A rule for one node beside one for all of its form, either way round."""
    one = ScheduleRule(SEQUENTIAL.schedule, operator="MatMul", terms=8, form="f")
    other = ScheduleRule(PAIRWISE.schedule, operator="MatMul", terms=8, form=form, node=named)
    far = ScheduleRule(PAIRWISE.schedule, operator="MatMul", terms=9, form="g")
    for rules in (([one, far], [other]), ([other, far], [one])):
        found = replace(IEEE_ANY, rules=agreed_rules(*rules))
        for node in ("n", "m"):
            here = found.at(Reduction("MatMul", node, 8, form="f"))
            assert not here.schedule.pinned or (node == "m" and named is not None)
        assert found.at(Reduction("MatMul", "n", 9, form="g")).schedule == PAIRWISE.schedule
    assert agreed_rules([one], [one, far]) == (one, far)


def test_a_product_of_three_axes_is_proved_to_give_equal_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    saved(BATCHED, tmp_path)
    asked = ["check", "case.onnx", "--claim", "batch-invariant", "--batch", "4", "--eps", "0"]
    asked += ["--input", "-1..1", "--contract", "probe:onnxruntime", "-q", "--no-conform"]
    assert run(asked) is ExitCode.VERIFIED


def test_the_file_that_is_proved_is_the_file_that_is_probed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """onnxruntime's optimisations store weights that the model computes: another kernel."""
    monkeypatch.chdir(tmp_path)
    _, computed = TAKEN_TO_ANOTHER_FILE["weights that are computed"]
    saved(computed, tmp_path)
    asked = ["bound", "case.onnx", "--input", "-1..1", "--contract", "probe:onnxruntime", "-q"]
    asked += ["--as-optimised", "basic", "--no-search", "--json", "r.json", "--budget", "0"]
    assert run([*asked, "--conform"]) is ExitCode.VERIFIED
    found = json.loads(Path("r.json").read_text())
    (rule,) = found["contract"]["rules"]
    assert rule["order"] != "any"
    assert rule["constant"] is True
    assert "bit for bit" in found["runtime"]["text"]
