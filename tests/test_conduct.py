"""After a verdict: does the runtime of this machine honour the contract it rests on?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import small_models
from onnx import helper

import refine
from onnx_import import load
from refine.claims.conduct import conduct_of
from refine.cli.main import run
from refine.domain.domain import DomainOptions, read_domain
from refine.options.contract_file import read_contract
from refine.options.options import contract_of
from refine.results.verdict import Conduct, ExitCode

BOUND = ["bound", "net.onnx", "--input", "-1..1", "--z3", "none", "--no-search"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    small_models.mlp(tmp_path / "net.onnx", (40, 30, 3))
    return tmp_path


def document(*more: str) -> Any:
    run([*BOUND, "--json", "r.json", "-q", "--conform", *more])
    return json.loads(Path("r.json").read_text())


def conduct(model: Path, contract: Path | str) -> Conduct:
    graph = load(model)
    chosen = contract_of(contract) if isinstance(contract, str) else read_contract(contract)
    domain = read_domain(graph, DomainOptions(inputs=("-1..1",)), chosen.format_of)
    found = conduct_of(graph, domain, chosen, 0)
    assert found is not None
    return found


@pytest.mark.parametrize("contract", ["ieee-any", "ort-cpu"])
def test_a_contract_that_is_honoured(folder: Path, contract: str) -> None:
    found = document("--contract", contract)["runtime"]
    assert found["honours"] is True
    assert found["runtime"].startswith("onnxruntime")
    assert ("3 bit for bit" in found["text"]) == (contract == "ort-cpu")


def test_a_contract_that_is_broken_is_named_and_changes_no_proof(folder: Path) -> None:
    looked = document("--contract", "sequential")
    left = document("--contract", "sequential", "--no-conform")
    assert left["runtime"] is None
    assert looked["runtime"]["honours"] is False
    assert "gemm1" in looked["runtime"]["text"]
    assert (looked["verdict"], looked["bounds_hex"]) == (left["verdict"], left["bounds_hex"])
    assert (looked["contract_broken"], left["contract_broken"]) == (True, False)


BROKEN = {
    "bound": ["bound", "net.onnx"],
    "verified": ["check", "net.onnx", "--eps", "1"],
    "unknown": ["check", "net.onnx", "--eps", "1e-30", "--budget", "0"],
    "diff": ["diff", "net.onnx", "net.onnx"],
    "batch": ["check", "net.onnx", "--eps", "1", "--claim", "batch-invariant"],
}
ASKED = ["--input", "-1..1", "--no-search", "--contract", "sequential"]


@pytest.mark.parametrize("quiet", [[], ["-q"]])
@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_contract_is_the_first_line_and_the_exit_code(
    folder: Path, capsys: pytest.CaptureFixture[str], name: str, quiet: list[str]
) -> None:
    code = run([*BROKEN[name], *ASKED, *quiet, "--conform"])
    first, *rest = capsys.readouterr().out.splitlines()
    assert code is ExitCode.CONTRACT_BROKEN
    assert first.startswith("broken")
    assert "does NOT honour contract sequential" in first
    assert any(line.startswith(("verified", "unknown", "bounded")) for line in rest)
    unseen = run([*BROKEN[name], *ASKED, *quiet, "--no-conform"])
    assert unseen in (ExitCode.VERIFIED, ExitCode.UNKNOWN)
    assert "honour" not in capsys.readouterr().out


def test_a_violation_keeps_its_exit_code_below_the_broken_contract(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["check", "net.onnx", "--input", "-1..1", "--contract", "sequential", "-q"]
    code = run([*asked, "--eps", "1e-12", "--conform", "--budget", "1"])
    first, *rest = capsys.readouterr().out.splitlines()
    assert code is ExitCode.VIOLATED
    assert first.startswith("broken")
    assert any(line.startswith("violated") for line in rest)


def test_both_files_of_a_difference_are_looked_at(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The specification where it runs, under its own contract and with its own names."""
    node = helper.make_node("Tanh", ["u"], ["v"], "curve")
    small_models.save(folder / "spec.onnx", [node], {"u": [1, 4000]}, {"v": [1, 4000]})
    node = helper.make_node("Tanh", ["x"], ["y"], "curve")
    small_models.save(folder / "impl.onnx", [node], {"x": [1, 4000]}, {"y": [1, 4000]})
    asked = ["diff", "spec.onnx", "impl.onnx", "--input", "-1..1", "--no-search", "--conform"]
    asked += ["--budget", "0"]
    assert run(asked) is ExitCode.VERIFIED
    spec = ["--spec-as", "runtime", "--spec-contract", "sequential", "--json", "r.json"]
    capsys.readouterr()
    assert run([*asked, *spec]) is ExitCode.CONTRACT_BROKEN
    first = " ".join(capsys.readouterr().out.split())
    assert first.startswith("broken")
    assert "does NOT honour contract sequential on the specification" in first
    found = json.loads(Path("r.json").read_text())
    assert found["runtime"]["honours"] is True
    assert found["specification_runtime"]["honours"] is False


def test_an_answer_comes_out_whatever_happens_to_the_runtime(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*given: object, **more: object) -> None:
        raise IndexError("beyond the end")

    monkeypatch.setattr("refine.claims.conduct.conformance", failing)
    found = document("--contract", "ort-cpu")
    assert found["verdict"] == "verified"
    assert found["runtime"]["honours"] is None
    assert "beyond the end" in found["runtime"]["text"]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ('base = "ort-cpu"\nsubnormal_results = "flush"', "subnormal_results"),
        ('base = "ort-cpu"\nfma = "never"', "gemm1"),
        ('base = "ort-cpu"\nformat = "float16"', "format"),
    ],
)
def test_one_wrong_field_is_enough(folder: Path, text: str, named: str) -> None:
    path = folder / "c.toml"
    path.write_text(f'schema = "refine-contract-1"\nname = "mine"\n{text}\n')
    found = conduct(folder / "net.onnx", path)
    assert found.honours is False
    assert named in found.text


def test_a_probed_contract_is_held_to_its_own_runtime(folder: Path) -> None:
    assert run(["probe", "net.onnx", "--runtime", "numpy", "-o", "numpy.toml"]).value == 0
    found = conduct(folder / "net.onnx", folder / "numpy.toml")
    assert found.runtime.startswith("numpy")
    assert found.honours is True


def test_what_cannot_be_looked_at(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert document("--contract", "exact")["runtime"] is None
    model = onnx.load(folder / "net.onnx")
    onnx.save(model, folder / "two.onnx", save_as_external_data=True, size_threshold=0)
    found = conduct(folder / "two.onnx", "ort-cpu")
    assert found.honours is None
    assert "one file" in found.text


def test_a_layer_outside_its_rounding_error_is_found(folder: Path) -> None:
    """onnxruntime's tanh errs by more than a contract that rounds it correctly allows."""
    node = helper.make_node("Tanh", ["x"], ["y"], "curve")
    model = small_models.save(folder / "t.onnx", [node], {"x": [1, 4000]}, {"y": [1, 4000]})
    assert conduct(model, "ieee-any").honours is True
    strict = conduct(model, "sequential")
    assert strict.honours is False
    assert "curve" in strict.text


def test_the_python_function_looks_too(folder: Path) -> None:
    quick = refine.check_model(folder / "net.onnx", "-1..1", eps=1)
    assert quick.conduct is not None
    assert quick.conduct.honours is True
    assert np.isfinite(quick.bound)
