"""Another package of the name of one of ours: one clear sentence, wherever refine is started."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
NAMES = ("encoders", "gpu_check", "onnx_import", "checker")


def ran(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Python as a user starts it in a folder: what lies there comes first."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])}
    return subprocess.run([sys.executable, *arguments], cwd=folder, env=environment, text=True,
                          capture_output=True, check=False)  # fmt: skip


def hiding(folder: Path, name: str, form: str) -> Path:
    """Something that is imported by one of our names."""
    if form == "a module":
        path = folder / f"{name}.py"
        path.touch()
        return path
    path = folder / name
    path.mkdir()
    (path / "__init__.py").touch()
    return path


@pytest.mark.parametrize("form", ["a package", "a module"])
@pytest.mark.parametrize("name", NAMES)
def test_what_hides_a_package_of_ours_is_named(tmp_path: Path, name: str, form: str) -> None:
    theirs = hiding(tmp_path, name, form)
    sentence = (
        f"'{theirs}' hides the package '{name}' that refine consists of and that lies in "
        f"'{ROOT / name}'; rename it, or start elsewhere\n"
    )
    done = ran(tmp_path, "-m", "refine", "check", "net.onnx")
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"refine: {sentence}")
    done = ran(tmp_path, "-c", "import refine")
    assert done.stderr.splitlines()[-1] == f"refine.siblings.HiddenPackage: {sentence}".strip()
    caught = "try:\n    import refine\nexcept ImportError as error:\n    print(error)"
    assert ran(tmp_path, "-c", caught).stdout == sentence


def test_one_that_was_imported_before(tmp_path: Path) -> None:
    theirs = hiding(tmp_path, "encoders", "a package")
    done = ran(tmp_path, "-c", "import encoders, sys; sys.path.pop(0); import refine")
    assert f"'{theirs}' hides the package 'encoders'" in done.stderr.splitlines()[-1]


def test_one_that_is_missing(tmp_path: Path) -> None:
    (tmp_path / "refine").symlink_to(ROOT / "refine")
    script = "import sys; sys.path[:] = [p for p in sys.path if 'site-packages' not in p]\n"
    script += "sys.meta_path[:] = [f for f in sys.meta_path if 'editable' not in repr(f)]\n"
    script += f"sys.path.remove({str(ROOT)!r}); import refine"
    done = ran(tmp_path, "-c", script)
    assert "the package 'encoders' that belongs to refine is missing" in done.stderr


def test_a_folder_that_is_no_package_hides_nothing(tmp_path: Path) -> None:
    (tmp_path / "encoders").mkdir()
    done = ran(tmp_path, "-c", "import refine; print(refine.Verdict.VERIFIED.value)")
    assert (done.stdout, done.stderr) == ("verified\n", "")
