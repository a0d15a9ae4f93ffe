"""The tutorials, run as they are written: files are written, programs and commands run, and what is
shown is what is printed, but for numbers and for what `…` stands for."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from refine.cli.main import run

ROOT = Path(__file__).resolve().parents[1]
TUTORIALS = ROOT / "docs" / "tutorials"
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NUMBER = re.compile(r"[-+]?\d+(\.\d+)?(e[-+]?\d+)?")
FILE = re.compile(r"^(?:#|;) ([\w.-]+\.\w+)\n")


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    for name in ("REFINE_BUDGET", "REFINE_CONFORM", "REFINE_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None)).startswith(str(tmp_path)):
            del sys.modules[name]


def pages() -> list[Path]:
    return sorted(TUTORIALS.glob("*.md"))


def without_numbers(text: str) -> str:
    return NUMBER.sub("#", " ".join(text.split()))


def executed(code: str, known: dict[str, Any]) -> None:
    """Run a program; tests that it defines are called."""
    before = set(known)
    exec(compile(code, "tutorial", "exec"), known)
    for name in set(known) - before:
        if name.startswith("test_"):
            known[name]()


def program(name: str) -> None:
    """Run a program as a reader does, from the folder in which the file was written."""
    done = subprocess.run([sys.executable, name], capture_output=True, text=True, check=False,
                          env={**os.environ, "PYTHONPATH": str(ROOT)})  # fmt: skip
    assert done.returncode == 0, f"{name}: {done.stderr}"


def answered(command: str, capsys: pytest.CaptureFixture[str]) -> str:
    """What a command prints. It may say no, but not that it cannot."""
    words = shlex.split(command)
    if words[0] == "refine":
        capsys.readouterr()
        code = run(words[1:])
        out, err = capsys.readouterr()
        assert code.value in (0, 1, 3), (command, out, err)
        return out
    assert words[0] == "python"
    done = subprocess.run([sys.executable, *words[1:]], capture_output=True, text=True, check=False,
                          env={**os.environ, "PYTHONPATH": str(ROOT)})  # fmt: skip
    return done.stdout


def typed(body: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A dialogue with a shell: after each command what it prints."""
    for part in re.split(r"^\$ ", body.replace("\\\n", ""), flags=re.MULTILINE)[1:]:
        command, _, shown = part.partition("\n")
        out = without_numbers(answered(command, capsys))
        for line in shown.splitlines():
            for piece in line.split("…"):
                assert without_numbers(piece) in out, f"{command}: no '{piece}' in\n{out}"


@pytest.mark.parametrize("page", pages(), ids=lambda p: p.stem)
def test_a_tutorial_is_what_it_says(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    known: dict[str, Any] = {"__name__": "tutorial"}
    for language, body in FENCE.findall(page.read_text(encoding="utf-8")):
        named = FILE.match(body)
        if named is not None:
            Path(named[1]).write_text(body, encoding="utf-8")
        if language == "console":
            typed(body, capsys)
        elif language == "python" and named is not None and not named[1].startswith("test_"):
            program(named[1])
        elif language == "python":
            executed(body, known)
        else:
            assert named is not None, f"{page.name}: a block of {language} without a name"


def notebooks() -> list[Path]:
    return sorted(TUTORIALS.glob("*.ipynb"))


def source_of(cell: Mapping[str, Any]) -> str:
    return "".join(cell["source"])


@pytest.mark.parametrize("path", notebooks(), ids=lambda p: p.stem)
def test_a_notebook_runs_from_top_to_bottom(path: Path) -> None:
    document = json.loads(path.read_text(encoding="utf-8"))
    assert document["nbformat"] == 4
    known: dict[str, Any] = {"__name__": "notebook"}
    cells = [cell for cell in document["cells"] if cell["cell_type"] == "code"]
    assert cells
    for cell in cells:
        executed(source_of(cell), known)


def test_a_wrong_tutorial_is_noticed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(AssertionError, match="no 'refuted "):
        typed("$ refine --version\nrefuted … 1\n", capsys)
    Path("numbers.py").write_text("import numpy\nnumpy.zeros(1)\n", encoding="utf-8")
    with pytest.raises(AssertionError, match="numbers"):
        program("numbers.py")  # numpy finds this in place of the module of the standard library
    with pytest.raises(AssertionError):
        executed("def test_x():\n    assert 1 == 2\n", {})
