"""Options from a file, presets, the log, completion: how a user sets the command line up."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import small_models

from refine.cli.main import run
from refine.results.answers import ExitCode

ASKED = ["bound", "net.onnx", "--input", "-1..1", "--z3", "none", "--no-search", "-q"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory below the one that has the file."""
    below = tmp_path / "project" / "models"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    monkeypatch.delenv("REFINE_CONFIG", raising=False)
    small_models.mlp(below / "net.onnx")
    return below


def document(capsys: pytest.CaptureFixture[str], *more: str) -> tuple[dict[str, Any], str]:
    assert run([*ASKED, "--json", "-", *more]) is ExitCode.VERIFIED
    out, err = capsys.readouterr()
    return json.loads(out), err


def test_a_file_above_sets_defaults_that_a_flag_replaces(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = folder.parent / "pyproject.toml"
    path.write_text('[tool.refine]\ncontract = "sequential"\nseed = 7\n[tool.other]\nx = 1\n')
    found, err = document(capsys)
    assert (found["contract"]["name"], found["seed"]) == ("sequential", 7)
    said = f"options from {path}: contract, seed"
    assert said in err
    assert said in found["notes"]
    found, err = document(capsys, "--seed", "3")
    assert (found["contract"]["name"], found["seed"]) == ("sequential", 3)
    assert f"options from {path}: contract\n" in err


def test_the_nearest_file_and_a_table_of_the_command(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder.parent / "pyproject.toml").write_text("[tool.refine]\nseed = 1\n")
    (folder / "pyproject.toml").write_text("[project]\nname = 'refine-me'\n")
    assert document(capsys)[0]["seed"] == 1
    (folder / "refine.toml").write_text("seed = 2\n[check]\nseed = 3\n[bound]\nseed = 4\n")
    assert document(capsys)[0]["seed"] == 4
    monkeypatch.setenv("REFINE_CONFIG", "")
    found, err = document(capsys)
    assert (found["seed"], err) == (0, "")
    monkeypatch.setenv("REFINE_CONFIG", str(folder.parent / "pyproject.toml"))
    assert document(capsys)[0]["seed"] == 1


def test_files_are_relative_to_the_one_that_names_them(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder.parent / "ours.toml").write_text("name = 'ours'\nbase = 'sequential'\n")
    (folder.parent / "refine.toml").write_text('contract = "ours.toml"\njson = "r.json"\n')
    assert run(ASKED) is ExitCode.VERIFIED
    assert json.loads((folder.parent / "r.json").read_text())["contract"]["name"] == "ours"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("contrct = 'ort-cpu'", "refine has no option 'contrct'; the nearest is 'contract'"),
        ("[chek]\neps = 1", "refine has no option 'chek'; the nearest is 'check'"),
        ("[bound]\neps = 1e-3", "refine bound has no option 'eps'"),
        ("budget = 'long'", "budget: 'long' is not a valid float"),
        ("budget = [1, 2]", "budget takes one value"),
        ("no-search = 1", "no-search is true or false"),
        ("z3 = 'most'", "z3: 'most' is not one of"),
        ("bound = 3", "bound is a command"),
        (
            "[tolerance]\nx = 1\n[bound]\ny = 1",
            "refine bound has no option 'y'",
        ),
        ("allow = ['/']", "--allow is given on the command line alone"),
        ("seed = {a = 1}", "seed takes a number or text"),
        ("seed", "not TOML"),
        ("timeout = -1", "--timeout needs a positive number"),
    ],
)
def test_what_means_nothing_is_refused_in_a_sentence(
    folder: Path, capsys: pytest.CaptureFixture[str], text: str, said: str
) -> None:
    (folder / "refine.toml").write_text(text)
    assert run(ASKED) is ExitCode.INPUT_ERROR
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert said in err
    assert str(folder / "refine.toml") in err
    assert run(["bound", "--help"]) is ExitCode.VERIFIED


def test_an_option_of_another_command_is_passed_over(folder: Path) -> None:
    (folder / "refine.toml").write_text("rtol = 0.1\neps = 1e-3\nconform = false\n")
    assert run(["tolerance", "net.onnx", "--input", "-1..1", "-q"]) is ExitCode.VERIFIED
    assert run(ASKED) is ExitCode.VERIFIED


def test_what_is_typed_goes_before_another_kind_of_it_in_the_file(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "refine.toml").write_text(
        'input = ["-3..3"]\nverbose = true\nno-search = true\nseed = 9\n'
        "[check]\neps = 1e-3\nbatch = 4\n"
    )
    asked = ["--z3", "none", "--json", "r.json"]
    typed = ["--center", "0", "--radius", "0.5", "-q", "--search", "0.1"]
    assert run(["bound", "net.onnx", *typed, *asked]) is ExitCode.VERIFIED
    found = json.loads((folder / "r.json").read_text())
    assert (found["domain"]["source"], found["seed"]) == ("radius 0.5 around 0", 9)
    assert "refine.toml: seed\n" in capsys.readouterr().err
    inequality = ["check", "net.onnx", "--claim", "y[0] <= 1000", "-q", *asked]
    assert run(inequality) is ExitCode.VERIFIED
    assert run(["check", "net.onnx", "--claim", "backward", "-q", *asked]) is ExitCode.VERIFIED
    assert run(["check", "net.onnx", "-q", *asked]) is ExitCode.VERIFIED
    assert "no-search, seed, eps\n" in capsys.readouterr().err.splitlines()[-1] + "\n"


def settings_of(monkeypatch: pytest.MonkeyPatch, *more: str) -> tuple[float, float | None, str]:
    """Budget, search and cross-check that a run is given."""
    from refine.cli import run_claim

    seen: list[tuple[float, float | None, str]] = []

    def asked(question: Any, *rest: Any) -> Any:
        s = question.settings
        seen.append((s.budget, s.search, s.z3))
        raise KeyboardInterrupt

    monkeypatch.setattr(run_claim, "answered", asked)
    assert run(["bound", "net.onnx", "--input", "-1..1", *more]) is ExitCode.INTERRUPTED
    return seen[-1]


def test_a_preset_is_a_default_of_its_options(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fast, thorough = ["--preset", "fast"], ["--preset", "thorough"]
    monkeypatch.setenv("REFINE_BUDGET", "5")
    assert settings_of(monkeypatch) == (5.0, None, "sample")
    assert settings_of(monkeypatch, *fast) == (1.0, 0.5, "none")
    assert settings_of(monkeypatch, *thorough, "--budget", "7") == (7.0, 30.0, "sample")
    assert settings_of(monkeypatch, *fast, "--no-search") == (1.0, None, "none")
    monkeypatch.delenv("REFINE_BUDGET")
    (folder / "refine.toml").write_text("preset = 'fast'\nbudget = 3\n")
    assert settings_of(monkeypatch) == (3.0, 0.5, "none")
    assert settings_of(monkeypatch, *thorough) == (120.0, 30.0, "sample")


def test_the_log_has_the_stages_the_report_and_the_exit_code(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*ASKED, "--log", "run.log"]) is ExitCode.VERIFIED
    short = capsys.readouterr().out
    assert run(["bound", "missing.onnx", "--input", "-1..1", "--log", "run.log"]).value == 2
    text = (folder / "run.log").read_text()
    for said in ("backward substitution", "verified  bound", "Strassen", "exit code 0: verified",
                 "missing.onnx", "exit code 2: input error"):  # fmt: skip
        assert said in text, said
    assert "Strassen" not in short
    (folder / "link.log").symlink_to(folder / "run.log")
    assert run([*ASKED, "--log", "link.log"]) is ExitCode.INPUT_ERROR
    assert (folder / "run.log").read_text() == text


def test_the_bound_so_far_is_said_where_errors_are_bounded(folder: Path) -> None:
    small_models.mlp(folder / "wide.onnx", widths=(2, 30, 30, 1))
    asked = ["check", "wide.onnx", "--input", "-1..1", "--z3", "none", "-q", "--budget", "1"]
    said = {}
    for claim in ("--eps=2e-6", "--claim=y[0] <= 0.1"):
        run([*asked, claim, "--log", "run.log"])
        found = re.findall(r"searching for a .*, bound so far (\S+)", Path("run.log").read_text())
        said[claim] = [float(text) for text in found]
        Path("run.log").unlink()
    assert said["--claim=y[0] <= 0.1"] == []
    assert min(said["--eps=2e-6"]) > 2e-6


def completed(script: str, words: list[str]) -> set[str]:
    """What bash offers for the last of these words."""
    typed = " ".join(f"'{word}'" for word in words)
    ask = f"COMP_WORDS=({typed}); COMP_CWORD={len(words) - 1}; _refine; echo ${{COMPREPLY[@]}}"
    done = subprocess.run(["bash", "-c", f"{script}\n{ask}"], capture_output=True, text=True,
                          check=True)  # fmt: skip
    return set(done.stdout.split())


def test_completion_in_bash(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["completion", "bash"]) is ExitCode.VERIFIED
    script = capsys.readouterr().out
    assert completed(script, ["refine", "ch"]) == {"check"}
    assert completed(script, ["refine", "check", "--ep"]) == {"--eps"}
    assert completed(script, ["refine", "check", "net.onnx", "--z3", ""]) == {
        "none", "sample", "all",
    }  # fmt: skip
    assert completed(script, ["refine", "check", "--contract", "ort"]) == {"ort-cpu"}
    assert completed(script, ["refine", "check", "--json", ""]) == set()
    assert completed(script, ["refine", "check", "ne"]) == set()  # files
    assert completed(script, ["refine", "completion", "z"]) == {"zsh"}


def test_completion_for_other_shells(capsys: pytest.CaptureFixture[str]) -> None:
    for shell, said in (("zsh", "bashcompinit"), ("fish", "-l eps -d 'Largest error allowed")):
        assert run(["completion", shell]) is ExitCode.VERIFIED
        assert said in capsys.readouterr().out
