"""`refine judge`: dumps of known origin, and what is said of them."""

from __future__ import annotations

import base64
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper
from small_models import save

from encoders.contract.contract import RuntimeContract, Subnormals
from encoders.contract.members import members
from encoders.contract.presets import PRESETS
from encoders.numbers.formats import BFLOAT16, BINARY16, BINARY32, round_array
from encoders.program import program_of
from gpu_check.emulator.emulator import emulate, emulate_step
from onnx_import import load
from onnx_import.errors import ModelError
from onnx_import.graph import Graph
from refine.cli.main import run
from refine.everyday.judging import presets_for
from refine.everyday.numbers import device_numbers, fitting
from refine.results.verdict import ExitCode

Tensors = dict[str, Any]
PLAIN = PRESETS["sequential"]
X = np.random.default_rng(1).uniform(-1, 1, (1, 2, 10, 10)).astype(np.float32)
LAYERS = ("conv", "dense")


@pytest.fixture
def network(tmp_path: Path) -> Path:
    """A convolution and a dense layer; in between, numbers so small that they are subnormal."""
    rng = np.random.default_rng(0)
    weights = {
        "k": rng.normal(0, 0.5, (4, 2, 3, 3)).astype(np.float32),
        "tiny": np.float32(1e-20),
        "w": rng.normal(0, 0.3, (256, 3)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["x", "k"], ["c"], "conv"),
        helper.make_node("Relu", ["c"], ["r"], "relu"),
        helper.make_node("Flatten", ["r"], ["f"], "flat"),
        helper.make_node("Gemm", ["f", "w"], ["y"], "dense"),
        helper.make_node("Mul", ["r", "tiny"], ["s"], "small"),
        helper.make_node("Mul", ["s", "tiny"], ["z"], "smaller"),
    ]
    outputs = {"y": [1, 3], "z": [1, 4, 8, 8]}
    return save(tmp_path / "m.onnx", nodes, {"x": [1, 2, 10, 10]}, outputs, weights)


def executed(graph: Graph, contract: RuntimeContract) -> Tensors:
    x = X.astype(np.float64)
    if contract.compute_format is not None:
        x = round_array(x, contract.compute_format)
    given = {"x": (x if contract.compute_format else X)[None]}
    with np.errstate(all="ignore"):
        found = emulate(graph, given, contract, every_tensor=True)
    return {t: np.asarray(v[0], np.float32) for t, v in found.items() if t != "x"}


def quantised(graph: Graph) -> Tensors:
    """Every layer's result rounded to 8 bits."""
    found: Tensors = {"x": X[None]}
    for step in program_of(graph).steps:
        for t, v in zip(step.writes, emulate_step(step, found, PLAIN), strict=True):
            scale = np.max(np.abs(v)) / 127
            found[t] = (np.rint(v / scale) * scale).astype(np.float32) if t in "cr" else v
    return {t: np.asarray(v[0]) for t, v in found.items() if t != "x"}


def with_wrong_weight(path: Path, factor: float) -> Tensors:
    proto = onnx.load(path)
    (held,) = (i for i in proto.graph.initializer if i.name == "w")
    wrong = onnx.numpy_helper.to_array(held).copy()
    wrong[:, 1] *= factor
    held.CopyFrom(onnx.numpy_helper.from_array(wrong, "w"))
    other = path.with_name("wrong.onnx")
    onnx.save(proto, other)
    return executed(load(other), PLAIN)


def judged(
    path: Path, found: Tensors, capsys: pytest.CaptureFixture[str], *more: str, inside: bool = True
) -> tuple[Any, dict[str, Any], str]:
    """Exit code, document, and the first line for people."""
    folder = path.parent
    np.savez(folder / "in.npz", x=X)
    np.savez(folder / "out.npz", y=found["y"], z=found["z"])
    np.savez(folder / "all.npz", **found)
    given = ["judge", str(path), f"--inputs={folder}/in.npz", f"--outputs={folder}/out.npz", *more]
    if inside:
        given.append(f"--intermediate={folder}/all.npz")
    code = run([*given, "--json", "-"])
    document = json.loads(capsys.readouterr().out)
    assert run([*given, "-q"]) == code
    return code, document, capsys.readouterr().out


FLUSHED = replace(PLAIN, results=Subnormals.FLUSH, operands=Subnormals.FLUSH)
ORIGINS = {
    "cuda-fp32": (PLAIN, ("conv",)),
    "cuda-fp32 --subnormals flush": (FLUSHED, ("smaller",)),
    "cuda-tf32": (members(PRESETS["cuda-tf32"])[0], LAYERS),
    "cuda-fp16 --format float16": (
        replace(PLAIN, compute_format=BINARY16, accumulation=BINARY32),
        LAYERS,
    ),
    "bf16 --format bfloat16": (
        replace(PLAIN, compute_format=BFLOAT16, accumulation=BINARY32),
        LAYERS,
    ),
}


@pytest.mark.parametrize("origin", ORIGINS)
def test_the_contract_of_a_dump_is_found(
    network: Path, capsys: pytest.CaptureFixture[str], origin: str
) -> None:
    contract, outside = ORIGINS[origin]
    code, found, line = judged(network, executed(load(network), contract), capsys)
    assert code == ExitCode.VERIFIED
    explaining = [name for name in found["explains"] if name != "ort-cpu"]
    assert explaining[0] == origin
    assert origin in line
    others = {c["contract"]: c for c in found["contracts"]}
    if origin not in ("cuda-fp32", "cuda-fp32 --subnormals flush"):
        assert others["cuda-fp32"]["oversteps"][0]["node"] == outside[0]
    elif origin != "cuda-fp32":
        assert [o["node"] for o in others["cuda-fp32"]["oversteps"]] == list(outside)


def test_a_wrong_weight_is_named(network: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, found, line = judged(network, with_wrong_weight(network, 1.5), capsys)
    assert code == ExitCode.VIOLATED
    assert found["explains"] == []
    assert "dense" in found["outside_of_all"]
    assert "'dense'" in line
    assert "weight" in line
    wrong = with_wrong_weight(network, 100.0)
    code, found, line = judged(network, wrong, capsys, inside=False)
    assert code == ExitCode.VIOLATED
    assert "of a layer that leads there" in line  # not the last one alone
    assert not any(f"'{name}'" in line for name in found["outside_of_all"])


def test_a_weight_that_is_a_little_wrong_is_not_taken_for_another_format(
    network: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its numbers are some of shorter formats', but one layer alone would compute in these."""
    _, found, _ = judged(network, with_wrong_weight(network, 1.003), capsys)
    assert "bf16 --format bfloat16" in found["explains"]
    assert "cuda-fp32" not in found["explains"]
    assert found["all_but"] == {"contract": "ort-cpu", "node": "dense"}


def test_eight_bits_are_seen(network: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, found, line = judged(network, quantised(load(network)), capsys)
    assert code == ExitCode.VIOLATED
    assert {"c", "r"} <= set(found["quantised"])
    assert "8 bits" in line


def test_outputs_alone_tell_short_factors_apart(
    network: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ran = executed(load(network), members(PRESETS["cuda-tf32"])[0])
    chosen = ["--contract=cuda-fp32", "--contract=cuda-tf32"]
    code, found, _ = judged(network, ran, capsys, *chosen, inside=False)
    assert code == ExitCode.VERIFIED
    assert found["explains"] == ["cuda-tf32"]


def polygraphy(runs: list[Tensors], *, older: bool) -> dict[str, Any]:
    """As NVIDIA's tool saves the outputs of runners."""

    def array(values: Any) -> dict[str, Any]:
        held = io.BytesIO()
        np.save(held, values)
        coded = {"array": base64.b64encode(held.getvalue()).decode()}
        return coded if older else {"values": {**coded, "polygraphy_class": "ndarray"}}

    iterations = [
        {"outputs": {t: array(v) for t, v in one.items()}, "runtime": 0.1, "runner_name": "trt"}
        for one in runs
    ]
    return {"lst": [["trt", iterations]], "polygraphy_class": "RunResults"}


@pytest.mark.parametrize("older", [False, True])
def test_outputs_of_polygraphy_are_read(tmp_path: Path, older: bool) -> None:
    runs = [{"y": np.arange(3, dtype=np.float32) + k} for k in range(2)]
    file = tmp_path / "out.json"
    file.write_text(json.dumps(polygraphy(runs, older=older)))
    (y,) = device_numbers(file).values()
    assert np.array_equal(y, [r["y"] for r in runs])


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"lst": [["r", [{"outputs": {"y": 1}}]]]}'])
def test_what_polygraphy_does_not_write_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "out.json"
    file.write_text(text)
    with pytest.raises(ModelError, match="holds no arrays as"):
        device_numbers(file)


def test_what_does_not_fit_is_refused(network: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez(network.with_name("in.npz"), x=X)
    np.savez(network.with_name("out.npz"), y=np.zeros(7))
    folder = network.parent
    given = ["judge", str(network), f"--inputs={folder}/in.npz", f"--outputs={folder}/out.npz"]
    assert run(given) == ExitCode.INPUT_ERROR
    assert "'y' has shape [7]; expected [1, 3]" in capsys.readouterr().err


def test_an_array_of_another_name_is_said_to_be_taken_for_the_output(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nodes = [helper.make_node("Relu", ["x"], ["h"]), helper.make_node("Add", ["h", "h"], ["y"])]
    path = save(tmp_path / "m.onnx", nodes, {"x": [3]}, {"y": [3]}, {})
    x = np.array([1.0, -2.0, 3.0], np.float32)
    np.savez(tmp_path / "in.npz", x=x)
    np.savez(tmp_path / "out.npz", result=2 * np.maximum(x, 0))
    np.savez(tmp_path / "inside.npz", h=np.maximum(x, 0))
    given = ["judge", str(path), f"--inputs={tmp_path}/in.npz", f"--outputs={tmp_path}/out.npz"]
    assert run([*given, f"--intermediate={tmp_path}/inside.npz"]) == ExitCode.VERIFIED
    said = capsys.readouterr().out
    assert "array 'result' is taken for the only output, 'y'" in said
    np.savez(tmp_path / "out.npz", y=2 * np.maximum(x, 0))
    assert run(given) == ExitCode.VERIFIED
    assert "is taken for" not in capsys.readouterr().out


def test_arrays_of_another_shape_are_no_numbers_of_a_tensor(network: Path) -> None:
    graph = load(network)
    for shape, points in (((1, 3), 1), ((3,), 1), ((2, 3), 2), ((2, 1, 3), 2)):
        assert fitting({"y": np.zeros(shape)}, graph, points, "file")["y"].shape == (points, 1, 3)
    turned = np.zeros((1, 8, 8, 4))
    with pytest.raises(ModelError, match="'c' has shape"):
        fitting({"c": turned}, graph, 1, "file")


def test_offered_contracts_have_a_meaning(network: Path) -> None:
    assert list(presets_for(load(network))) == [c.name for c in presets_for(load(network)).values()]
