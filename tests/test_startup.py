"""What is imported before it is needed: nothing that takes long."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from refine.cli.main import SUMMARIES, cli

ROOT = Path(__file__).resolve().parents[1]
SLOW = {"numpy", "onnx", "onnxruntime", "z3", "networkx", "scipy", "flint", "rich", "torch"}
DEMO = ["check", str(ROOT / "examples/demo/pendulum.onnx"), "--input", "state=-1..1", "--eps",
        "1e-3", "--budget", "0", "-q", "--conform"]  # fmt: skip


def imported_by(statement: str) -> set[str]:
    """The modules that are there when a fresh interpreter has run the statement."""
    script = f"import sys\n{statement}\nsys.stderr.write('\\n' + ' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True,
                          check=True, cwd=ROOT)  # fmt: skip
    return set(done.stderr.splitlines()[-1].split())


@pytest.mark.parametrize(
    "statement",
    [
        "import refine",
        "import refine.cli.entry",
        "from refine.cli.main import run; run(['--help'])",
        "from refine.cli.main import run; run(['no such command'])",
        "from refine.cli.main import run; run([])",
    ],
)
def test_nothing_slow_is_imported_to_begin_with(statement: str) -> None:
    assert not imported_by(statement) & SLOW


def test_a_check_imports_what_it_uses_alone() -> None:
    modules = imported_by(f"from refine.cli.main import run; run({DEMO})")
    assert not modules & {"networkx", "onnxruntime", "scipy", "torch"}
    others = ("onnx_import.torchlean", "onnx_import.fpcore", "refine.zoo", "refine.cli.probe",
              "checker.bounds", "checker.check")  # fmt: skip
    assert not [m for m in modules if m.startswith(others)]
    assert "z3" in modules  # this test sees what was imported


@pytest.mark.parametrize("name", SUMMARIES)
def test_every_command_is_where_its_name_says(name: str) -> None:
    command = cli.get_command(cli.make_context("refine", ["-h"], resilient_parsing=True), name)
    assert command is not None
    assert command.name == name
    assert command.help
