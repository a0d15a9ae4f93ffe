"""Certificates: written with a verified answer, checked by a program that imports none of ours."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from onnx import helper
from small_models import save

import refine
from checker.arithmetic import Outside
from checker.model import read_model
from refine.cli.main import run

ROOT = Path(__file__).resolve().parents[1]
DEMO = ROOT / "examples" / "demo" / "pendulum.onnx"
CHECKER = sorted((ROOT / "checker").glob("*.py"))
OUTSIDE_WORLD = {"numpy", "onnx", "flint", *sys.stdlib_module_names}


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The certificate of the demonstration."""
    path = tmp_path_factory.mktemp("certificate") / "demo.cert"
    result = refine.check(
        DEMO, (-1, 1), 4.3e-4, certificate=path, budget=0, no_search=True, z3="none", conform=False
    )
    assert result.certification is not None
    assert (result.certification.outside, result.certification.file) == (None, path)
    return path


def test_the_checker_imports_nothing_of_ours() -> None:
    for path in CHECKER:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            used = {name.split(".")[0] for name in names}
            assert used <= OUTSIDE_WORLD | {"checker"}, f"{path.name} imports {used}"


def test_the_checker_can_be_read() -> None:
    """Blank lines and all, as `wc -l` counts them."""
    assert sum(len(path.read_text().splitlines()) for path in CHECKER) < 1000


def test_nothing_of_ours_is_loaded_when_it_runs(demo: Path) -> None:
    """In a process of its own, from another folder."""
    script = ROOT / "checker" / "check.py"
    program = (
        f"import runpy, sys; sys.argv = ['check.py', {str(demo)!r}, {str(DEMO)!r}]\n"
        f"try: runpy.run_path({str(script)!r}, run_name='__main__')\n"
        "except SystemExit as stop: code = stop.code\n"
        "print(sorted({m.split('.')[0] for m in sys.modules} & "
        "{'refine', 'encoders', 'onnx_import', 'gpu_check'}), code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=demo.parent, capture_output=True, text=True, check=True
    )
    first, last = done.stdout.splitlines()
    assert first.startswith("accepted: |error of 'torque'| <= 43/100000 under contract 'ieee-any'")
    assert last == "[] 0"


def test_recheck(demo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = ROOT / "examples" / "zoo" / "averagepool-padding" / "right.onnx"
    for model, code, said in (
        (DEMO, 0, "accepted: "),
        (other, 1, "rejected: the certificate is of a model with another hash"),
        (Path("none.onnx"), 2, "not checked: none.onnx: No such file or directory\n"),
    ):
        assert run(["recheck", str(demo), str(model)]).value == code
        assert capsys.readouterr().out.startswith(said)
    assert run(["recheck", "none.cert", str(DEMO)]).value == 2
    assert capsys.readouterr().out == "not checked: none.cert: No such file or directory\n"


def test_a_certificate_is_not_written_for_what_is_not_verified(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "none.cert"
    words = ["check", str(DEMO), "--input", "-1..1", "--budget", "0", "--no-search", "--z3", "none"]
    words += ["--no-conform", "-q", "--certificate", str(file)]
    assert run([*words, "--eps", "1e-9"]).value == 3
    assert (
        "--certificate is not written: a certificate is of a verified accuracy, property"
        in capsys.readouterr().err
    )
    assert not file.exists()
    assert run([*words, "--eps", "1e-3", "--contract", "ort-cpu"]).value == 0
    why = "contract field 'rules' is not in the checker's language"
    said = capsys.readouterr().err
    assert f"--certificate holds only the lemmas that were applied: {why}" in said
    assert run(["recheck", str(file), str(DEMO)]).value == 2
    told = capsys.readouterr().out
    assert why in told
    assert "lemmas recomputed exactly" in told


def test_what_is_outside_the_language_is_named(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    result = refine.check(
        DEMO, (-1, 1), 1.0, contract="exact", json=path, no_search=True, z3="none", conform=False
    )
    assert result.certification is not None
    assert result.certification.outside == (
        "contract field 'exact' is not in the checker's language"
    )
    assert json.loads(path.read_text())["certificate"]["in_language"] is False


def test_an_operator_that_the_checker_does_not_know_is_named(tmp_path: Path) -> None:
    nodes = [helper.make_node("Tanh", ["x"], ["y"], name="squash")]
    with pytest.raises(Outside, match=r"'squash' \(Tanh\): no such operator is in the checker's"):
        read_model(
            save(tmp_path / "m.onnx", nodes, {"x": [2]}, {"y": [2]}).read_bytes(), {"x": [2]}
        )


def test_a_format_of_ones_own_is_outside_the_checkers_language() -> None:
    """A contract spells it as a table, not as a name."""
    result = refine.check(
        DEMO, (0, 0), 10.0, format="e6p9", budget=0, no_search=True, z3="none", conform=False
    )
    assert result.verdict == "verified"
    assert result.certification is not None
    assert (
        result.certification.outside == "contract field 'format' is not in the checker's language"
    )


@pytest.mark.parametrize("size", [0, 2, 64])
def test_a_file_that_breaks_what_reads_it_is_outside(size: int) -> None:
    """The program's own reader may leave out what the checker's reads, and the other way round."""
    weight = onnx.TensorProto(name="w", data_type=onnx.TensorProto.FLOAT, dims=[3])
    weight.raw_data = bytes(size)
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Add", ["x", "w"], ["y"])],
        "g",
        [value("x", onnx.TensorProto.FLOAT, [3])],
        [value("y", onnx.TensorProto.FLOAT, [3])],
        [weight],
    )
    opset = [onnx.helper.make_opsetid("", 17)]
    data = onnx.helper.make_model(graph, opset_imports=opset).SerializeToString()
    with pytest.raises(Outside, match="the model is not read here"):
        read_model(data, {"x": (3,)})
