"""`refine diff`: one graph against another, held against onnxruntime on sampled inputs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from small_models import mlp, save, two_inputs

from gpu_check.runtimes.runtimes import OnnxRuntime
from onnx_import.errors import ModelError
from refine.api import diff_models
from refine.claims.options import Options
from refine.cli.main import run
from refine.lemmas.cache import default_directory
from refine.proof import cross_check
from refine.proof.cross_check import EVERYTHING
from refine.proof.z3_solver import Query, discharge
from refine.results.obligation import Discharger, Obligation, Outcome
from refine.results.verdict import ExitCode, Result, Verdict


def diff(spec: Path, impl: Path, eps: str | None = None, contract: str = "ieee-any") -> Result:
    options = Options(None, default_directory())
    return diff_models(spec, impl, domain="-1..1", eps=eps, contract=contract, options=options)


def edited(path: Path, source: Path, edit: Callable[[onnx.ModelProto], None]) -> Path:
    model = onnx.load(source)
    edit(model)
    onnx.save(model, path)
    return path


def first_weight(change: Callable[[np.ndarray], None]) -> Callable[[onnx.ModelProto], None]:
    def edit(model: onnx.ModelProto) -> None:
        tensor = next(t for t in model.graph.initializer if len(t.dims) == 2)
        weights = numpy_helper.to_array(tensor).copy()
        change(weights)
        tensor.CopyFrom(numpy_helper.from_array(weights, tensor.name))

    return edit


def negate(w: np.ndarray) -> None:
    w[0, 0] = -w[0, 0]


def one_ulp(w: np.ndarray) -> None:
    w[0, 0] = np.nextafter(w[0, 0], np.float32(np.inf))


def activation(model: onnx.ModelProto) -> None:
    next(n for n in model.graph.node if n.op_type == "Relu").op_type = "Tanh"


def sampled(spec: Path, impl: Path, samples: int = 300) -> float:
    """Largest difference that onnxruntime shows."""
    a, b = OnnxRuntime(spec), OnnxRuntime(impl)
    ((name, shape),) = a.input_shapes().items()
    rng = np.random.default_rng(1)
    largest = 0.0
    for _ in range(samples):
        x = {name: rng.uniform(-1, 1, shape).astype(np.float32)}
        for y, z in zip(a.run(x).values(), b.run(x).values(), strict=True):
            largest = max(largest, float(np.max(np.abs(y.astype(float) - z.astype(float)))))
    return largest


def test_a_network_against_itself_is_equal_over_the_reals(tmp_path: Path) -> None:
    model = mlp(tmp_path / "m.onnx")
    result = diff(model, model, contract="exact")
    assert result.verdict is Verdict.VERIFIED
    assert result.bound == 0.0
    assert any("equal over the reals" in note for note in result.notes)


def test_a_weight_one_ulp_away(tmp_path: Path) -> None:
    spec = mlp(tmp_path / "m.onnx")
    impl = edited(tmp_path / "ulp.onnx", spec, first_weight(one_ulp))
    result = diff(spec, impl, contract="exact")
    assert 0.0 < result.bound < 1e-5
    assert diff(spec, impl).bound >= sampled(spec, impl) / 2


@pytest.mark.parametrize("edit", [first_weight(negate), activation])
def test_an_edit_is_never_verified_below_what_sampling_finds(
    tmp_path: Path, edit: Callable[[onnx.ModelProto], None]
) -> None:
    spec = mlp(tmp_path / "m.onnx")
    impl = edited(tmp_path / "edited.onnx", spec, edit)
    found = sampled(spec, impl)
    assert found > 0
    assert diff(spec, impl).bound >= found / 2
    result = diff(spec, impl, str(found / 4))
    assert result.verdict is Verdict.VIOLATED
    assert result.witness is not None
    assert result.witness.replays


def test_graphs_of_different_structure_are_compared_as_one(tmp_path: Path) -> None:
    w = np.array([[1.0, -2.0], [0.5, 3.0]], np.float32)
    shapes = ({"x": (1, 2)}, {"y": (1, 2)})
    spec = save(
        tmp_path / "a.onnx",
        [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Add", ["h", "h"], ["y"])],
        *shapes,
        {"w": w},
    )
    impl = save(
        tmp_path / "b.onnx", [helper.make_node("MatMul", ["x", "w"], ["y"])], *shapes, {"w": 2 * w}
    )
    result = diff(spec, impl, contract="exact")
    assert result.verdict is Verdict.VERIFIED
    assert result.bound < 1e-12


@pytest.mark.parametrize("operator", ["Reciprocal", "Sqrt", "Log"])
def test_where_the_specification_is_undefined_nothing_is_verified(
    tmp_path: Path, operator: str
) -> None:
    shapes = ({"x": (1, 2)}, {"y": (1, 2)})
    bounds = {"lo": np.float32(0), "hi": np.float32(1)}
    spec = save(
        tmp_path / "a.onnx",
        [
            helper.make_node(operator, ["x"], ["h"]),
            helper.make_node("Clip", ["h", "lo", "hi"], ["y"]),
        ],
        *shapes,
        bounds,
    )
    impl = save(
        tmp_path / "b.onnx", [helper.make_node("Clip", ["x", "lo", "hi"], ["y"])], *shapes, bounds
    )
    assert diff(spec, impl, "5", contract="exact").verdict is not Verdict.VERIFIED


def test_inputs_that_do_not_match_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="input"):
        diff(mlp(tmp_path / "a.onnx"), two_inputs(tmp_path / "b.onnx"))


def test_equal_bits_in_give_equal_bits_out(tmp_path: Path) -> None:
    model = mlp(tmp_path / "m.onnx")
    options = Options(None, default_directory())
    result = diff_models(
        model,
        model,
        domain="-1..1",
        eps=0,
        contract="sequential",
        options=options,
        spec_contract="sequential",
    )
    assert result.verdict is Verdict.VERIFIED
    assert result.bound == 0.0


def test_two_schedules_differ_by_bits(tmp_path: Path) -> None:
    model = mlp(tmp_path / "m.onnx")
    options = Options(None, default_directory())
    result = diff_models(
        model,
        model,
        domain="-1..1",
        eps=0,
        contract="sequential",
        options=options,
        spec_contract="sequential-fma",
    )
    assert result.verdict is Verdict.VIOLATED
    assert result.witness is not None
    assert 0 < result.worst_found <= result.bound  # type: ignore[operator]


def test_two_executions_of_any_order_are_not_called_equal(tmp_path: Path) -> None:
    model = mlp(tmp_path / "m.onnx")
    options = Options(None, default_directory())
    result = diff_models(
        model,
        model,
        domain="-1..1",
        eps=0,
        contract="ieee-any",
        options=options,
        spec_contract="ieee-any",
    )
    assert result.verdict is not Verdict.VERIFIED


def test_a_real_difference_has_a_witness(tmp_path: Path) -> None:
    spec = mlp(tmp_path / "m.onnx")
    impl = edited(tmp_path / "act.onnx", spec, activation)
    result = diff(spec, impl, "0.01", contract="exact")
    assert result.verdict is Verdict.VIOLATED
    assert result.witness is not None
    assert result.witness.error.lo >= sampled(spec, impl) / 2


def test_a_saved_difference_runs_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    spec = mlp(tmp_path / "m.onnx")
    edited(tmp_path / "edited.onnx", spec, first_weight(negate))
    arguments = ["diff", "m.onnx", "edited.onnx", "--input=-1..1", "--eps", "1e-3"]
    assert run(arguments) is ExitCode.VIOLATED
    assert "1 of 16 elements of w1 differ" in " ".join(capsys.readouterr().out.split())
    assert run(["replay", "edited-counterexample.json"]) is ExitCode.VIOLATED
    assert "specification on onnxruntime" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("way", [[], ["--spec-as", "runtime"]], ids=["real", "runs"])
def test_a_script_shows_a_difference_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    spec = mlp(tmp_path / "m.onnx")
    edited(tmp_path / "edited.onnx", spec, first_weight(negate))
    arguments = ["diff", "m.onnx", "edited.onnx", "--input=-1..1", "--eps", "1e-3", *way]
    assert run(arguments) is ExitCode.VIOLATED
    command = ["replay", "edited-counterexample.json", "--script", "bug.py"]
    assert run(command) is ExitCode.VIOLATED
    spec.unlink()  # the specification's value is in the script
    shown = subprocess.run(
        [sys.executable, "bug.py"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert shown.returncode == 1, shown.stderr
    assert "violated" in shown.stdout


def test_copies_are_looked_through(tmp_path: Path) -> None:
    """Identity and a Pad by nothing; what is left of the difference is one weight."""
    weights = {"w": np.eye(3, dtype=np.float32), "none": np.zeros(4, np.int64)}
    product = helper.make_node("MatMul", ["p", "w"], ["y"], "product")
    nodes = [
        helper.make_node("Identity", ["x"], ["i"], "copy"),
        helper.make_node("Pad", ["i", "none"], ["p"], "nothing"),
        product,
    ]
    spec = save(tmp_path / "spec.onnx", nodes, {"x": (1, 3)}, {"y": (1, 3)}, weights)
    product.input[0], moved = "x", np.eye(3, dtype=np.float32)
    moved[0, 0] = 1.5
    impl = save(tmp_path / "impl.onnx", [product], {"x": (1, 3)}, {"y": (1, 3)}, {"w": moved})
    result = diff(spec, impl, contract="exact")
    assert 0.5 <= result.bound < 0.5 + 1e-12
    assert "1 of 9 elements of w differ" in " ".join(result.notes)


def test_z3_checks_the_layers_of_a_difference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over the numbers of both files; what it refutes prevents a proof."""
    spec = mlp(tmp_path / "spec.onnx", (2, 4, 1))
    impl = edited(tmp_path / "impl.onnx", spec, first_weight(one_ulp))
    options = Options(EVERYTHING, default_directory())
    result = diff_models(
        spec, impl, domain="-1..1", eps="1e-3", contract="ieee-any", options=options
    )
    asked = [o for n in result.nodes for o in n.obligations if o.discharger is Discharger.Z3]
    assert result.verdict is Verdict.VERIFIED
    assert {o.node for o in asked} >= {n.name for n in result.nodes}
    assert any(o.name.startswith("finite/relu1") for o in asked)

    def refutation(query: Query) -> Obligation:
        return replace(discharge(query), outcome=Outcome.REFUTED)

    monkeypatch.setattr(cross_check, "discharge", refutation)
    again = diff_models(
        spec, impl, domain="-1..1", eps="1e-3", contract="ieee-any", options=options
    )
    assert again.verdict is Verdict.UNKNOWN
    assert "refuted" in again.reason


@pytest.mark.parametrize("contract", ["exact", "ieee-any"])
def test_what_onnxruntime_differs_by_counts_as_found(tmp_path: Path, contract: str) -> None:
    spec = mlp(tmp_path / "spec.onnx")
    impl = edited(tmp_path / "impl.onnx", spec, first_weight(negate))
    options = Options(None, default_directory(), conform=True)
    result = diff_models(spec, impl, "-1..1", "1e-6", options=options, spec_contract=contract)
    assert result.witness is not None
    assert result.shown is not None
    inputs = {n: np.asarray(v, np.float32) for n, v in result.witness.inputs.items()}
    (ours,), (theirs,) = (OnnxRuntime(f).run(inputs).values() for f in (impl, spec))
    apart = float(np.max(np.abs(ours.astype(float) - theirs.astype(float))))
    assert 0.99 * apart <= result.shown.error <= result.bound
