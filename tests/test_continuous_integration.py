"""JUnit and SARIF, and the files of `examples/ci`, whose commands are run as they are written."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from xml.etree import ElementTree

import onnxruntime
import pytest
import small_models
from onnx import helper
from onnxruntime.quantization import quantize_dynamic

from refine.cli.main import run
from refine.report.findings import Finding, Outcome
from refine.report.junit import junit_text
from refine.report.sarif import sarif_text
from refine.results.answers import ExitCode

ROOT = Path(__file__).resolve().parents[1]
CI = ROOT / "examples" / "ci"
QUICK = ["--z3", "none", "--budget", "0", "-q"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    small_models.mlp(tmp_path / "net 1.onnx")
    return tmp_path


def written(*asked: str) -> tuple[ExitCode, ElementTree.Element, dict[str, Any]]:
    """The exit code and both documents of a run."""
    code = run([*asked, "--junit", "r.xml", "--sarif", "r.sarif"])
    return code, ElementTree.parse("r.xml").getroot(), json.loads(Path("r.sarif").read_text())


def require_sarif(log: dict[str, Any]) -> list[dict[str, Any]]:
    """The results of a log, which has what SARIF 2.1.0 requires (sections 3.13 to 3.28)."""
    assert log["version"] == "2.1.0"
    (only,) = log["runs"]
    driver = only["tool"]["driver"]
    assert driver["name"] == "refine"
    rules = [rule["id"] for rule in driver["rules"]]
    assert len(set(rules)) == len(rules)
    for result in only["results"]:
        assert result["message"]["text"]
        assert result["level"] in ("none", "note", "warning", "error")
        assert rules[result["ruleIndex"]] == result["ruleId"]
        for location in result["locations"]:
            uri = location["physicalLocation"]["artifactLocation"]["uri"]
            assert re.fullmatch(r"[\w.~!$&'()*+,;=:@/%-]+", uri)
    found: list[dict[str, Any]] = only["results"]
    return found


def test_a_verified_claim_is_a_passed_test(folder: Path) -> None:
    code, suites, log = written("check", "net 1.onnx", "--input", "-1..1", "--eps", "1", *QUICK)
    assert code is ExitCode.VERIFIED
    (case,) = suites.iter("testcase")
    assert (case.get("name"), case.get("classname")) == ("accuracy", "net 1.onnx")
    assert case.find("failure") is None
    assert case.find("error") is None
    assert suites.get("failures") == suites.get("errors") == "0"
    assert require_sarif(log) == []


def test_a_violated_claim_is_a_failure_at_the_node_of_its_output(folder: Path) -> None:
    code, suites, log = written("check", "net 1.onnx", "--input", "-1..1", "--eps", "1e-12", *QUICK)
    assert code is ExitCode.VIOLATED
    assert suites.get("failures") == "1"
    (failure,) = suites.iter("failure")
    assert failure.get("type") == "violated"
    assert "refine replay" in str(failure.text)
    (result,) = require_sarif(log)
    assert (result["ruleId"], result["level"]) == ("violated", "error")
    (location,) = result["locations"]
    assert unquote(location["physicalLocation"]["artifactLocation"]["uri"]) == "net 1.onnx"
    assert location["logicalLocations"][0]["name"] == "gemm2"


def test_an_infinite_bound_is_at_the_first_node_that_has_it(folder: Path) -> None:
    nodes = [
        helper.make_node("Neg", ["x"], ["a"], "flip"),
        helper.make_node("Reciprocal", ["a"], ["b"], "pole"),
        helper.make_node("Relu", ["b"], ["y"], "after"),
    ]
    small_models.save(folder / "net.onnx", nodes, {"x": [1, 2]}, {"y": [1, 2]})
    asked = ["net.onnx", "--input", "-1..1", "--no-search"]
    code, suites, log = written("check", *asked, "--eps", "1", *QUICK)
    assert code is ExitCode.UNKNOWN
    assert suites.get("errors") == "1"
    (result,) = require_sarif(log)
    assert (result["ruleId"], result["level"]) == ("unknown", "warning")
    assert result["locations"][0]["logicalLocations"][0]["name"] == "pole"
    code, suites, log = written("tolerance", "net.onnx", "--input", "-1..1", "-q")
    assert code is ExitCode.UNKNOWN
    (result,) = require_sarif(log)
    assert "'pole'" in result["message"]["text"]


def test_each_instance_of_a_list_is_a_test(folder: Path) -> None:
    (folder / "p.vnnlib").write_text(
        "(declare-const X_0 Real)(declare-const X_1 Real)(declare-const Y_0 Real)"
        "(assert (>= X_0 -1))(assert (<= X_0 1))(assert (>= X_1 -1))(assert (<= X_1 1))"
        "(assert (>= Y_0 1000))"
    )
    (folder / "list.csv").write_text("net 1.onnx,p.vnnlib,60\nmissing.onnx,p.vnnlib,60\n")
    code, suites, log = written("bench", "list.csv", *QUICK)
    assert code is ExitCode.INPUT_ERROR
    assert [c.get("name") for c in suites.iter("testcase")] == ["net 1 p", "missing p"]
    assert (suites.get("tests"), suites.get("errors")) == ("2", "1")
    (result,) = require_sarif(log)
    assert result["ruleId"] == "input-error"


def test_what_a_file_holds_is_no_markup() -> None:
    evil = '\x00"<&]]>\u202e'
    finding = Finding(evil, f"/{evil}.onnx", Outcome.FAILED, "violated", evil, (evil,), evil)
    (case,) = ElementTree.fromstring(junit_text(evil, [finding])).iter("testcase")
    assert "<&]]>" in str(case.get("name"))
    require_sarif(json.loads(sarif_text([finding])))


def commands_in(path: Path) -> list[list[str]]:
    """The command lines of refine in a file of a CI system, folded lines joined."""
    text = re.sub(r"(run: |- )>\n\s+", r"\1", path.read_text(encoding="utf-8"))
    joined = re.sub(r"\n\s+(--)", r" \1", text)
    lines = re.findall(r"^[\s-]*(?:run: )?(refine .*)$", joined, re.MULTILINE)
    return [shlex.split(line)[1:] for line in lines]


@pytest.mark.parametrize("name", ["github-workflow.yml", "gitlab-ci.yml"])
def test_commands_of_continuous_integration_are_run(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    commands = commands_in(CI / name)
    assert commands
    for command in commands:
        assert run(command) is ExitCode.VERIFIED
    kept = {text for command in commands for text in command if text.startswith("refine.")}
    assert kept == {path.name for path in tmp_path.iterdir()} - {"examples"}
    named = set(re.findall(r"(?:junit|sarif_file): (\S+)", (CI / name).read_text()))
    assert named
    assert named <= kept


def test_steps_of_tools_are_held_to_rounding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """onnxruntime's optimiser stands for the simplifier, which is not installed here."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = "simplified.onnx"
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    onnxruntime.InferenceSession("examples/demo/pendulum.onnx", options)
    quantize_dynamic("simplified.onnx", "int8.onnx")
    commands = commands_in(CI / "tool-steps.yml")
    assert [command[0] for command in commands] == ["step", "diff"]
    for command in commands:
        assert run(command) is ExitCode.VERIFIED


def test_the_hook_is_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    text = (CI / "pre-commit-config.yaml").read_text(encoding="utf-8")
    entry, listed = (
        re.search(r"entry: (.*)$", text, re.M),
        re.search(r"args: \[(.*)\]$", text, re.M),
    )
    assert entry is not None
    assert listed is not None
    arguments = [part.strip().strip('"') for part in listed[1].split(",")]
    assert run([*entry[1].split()[1:], *arguments]) is ExitCode.VERIFIED
    hooks = (ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8")
    for command in re.findall(r"entry: refine (.*)$", hooks, re.M):
        assert run([command, "--help"]) is ExitCode.VERIFIED
