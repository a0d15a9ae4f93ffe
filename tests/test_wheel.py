"""The package as it is installed: a wheel in a fresh environment, used outside the checkout."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from email.parser import Parser
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

from refine import __version__

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("checker", "encoders", "gpu_check", "onnx_import", "refine")
PLUGIN = "refine_pytest"
SOURCES = (*PACKAGES, f"{PLUGIN}.py", "examples/zoo", "pyproject.toml", "setup.py", "MANIFEST.in",
           "README.md", "LICENSE")  # fmt: skip
ENVIRONMENT = {n: v for n, v in os.environ.items() if not n.startswith("PYTHON")}
BACKEND = 77  # the version of setuptools that pyproject.toml asks for


def ran(command: list[str], folder: Path, seconds: int = 300) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=folder, env=ENVIRONMENT, text=True, capture_output=True,
                          timeout=seconds, check=False)  # fmt: skip


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, so that nothing is left in the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        source, target = ROOT / name, folder / "source" / name
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "-w",
        "out",
        "./source",
    ]
    try:
        isolated = int(version("setuptools").split(".")[0]) < BACKEND
    except PackageNotFoundError:
        isolated = True
    if not isolated:
        command.append("--no-build-isolation")
    done = ran(command, folder)
    if done.returncode and isolated:
        pytest.skip(f"setuptools {BACKEND} is neither here nor to be had: {done.stderr[-200:]}")
    assert done.returncode == 0, done.stderr
    (found,) = (folder / "out").glob("*.whl")
    return found


@pytest.fixture(scope="module")
def binaries(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The commands of a fresh environment that holds the wheel; what it depends on is looked up in
    the environment of these tests."""
    folder = tmp_path_factory.mktemp("fresh")
    venv.create(folder, symlinks=True)
    binaries = folder / ("Scripts" if os.name == "nt" else "bin")
    command = [sys.executable, "-m", "pip", "--quiet", "--python", str(binaries / "python"),
               "install", "--no-deps", "--no-index", str(wheel)]  # fmt: skip
    done = ran(command, folder)
    assert done.returncode == 0, done.stderr
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = Path(ran([str(binaries / "python"), "-c", where], folder).stdout.strip())
    assert site.is_relative_to(folder)
    ours = sysconfig.get_path("purelib")
    (site / "dependencies.pth").write_text(f"{ours}\n")  # its own .pth files are not read
    return binaries


def test_what_the_wheel_holds(wheel: Path) -> None:
    assert wheel.name == f"refine_onnx-{__version__}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (metadata,) = (n for n in names if n.endswith("/METADATA"))
        fields = Parser().parsestr(archive.read(metadata).decode())
    assert fields["Name"] == "refine-onnx"
    assert fields["License-Expression"] == "Apache-2.0"
    tops = {n.split("/")[0] for n in names}
    assert tops == {*PACKAGES, f"{PLUGIN}.py", f"refine_onnx-{__version__}.dist-info"}
    data = (p for package in PACKAGES for p in (ROOT / package).rglob("*") if p.is_file())
    wanted = {p.relative_to(ROOT).as_posix() for p in data if "__pycache__" not in p.parts}
    zoo = {p for p in (ROOT / "examples/zoo").glob("*/*") if p.suffix in (".onnx", ".toml")}
    wanted |= {f"refine/zoo_entries/{p.parent.name}/{p.name}" for p in zoo}
    assert {n for n in names if n.split("/")[0] in PACKAGES} == wanted
    assert {f"{package}/py.typed" for package in PACKAGES} < wanted


def test_the_command_in_a_fresh_environment(binaries: Path, tmp_path: Path) -> None:
    refine = str(binaries / "refine")
    assert ran([refine, "--version"], tmp_path).stdout == f"refine {__version__}\n"
    shutil.copy(ROOT / "examples/demo/pendulum.onnx", tmp_path)
    done = ran([refine, "check", "pendulum.onnx", "--input", "state=-1..1", "--eps", "1e-3",
                "--json", "r.json", "--conform", "-q", "--certificate", "r.cert"],
               tmp_path)  # fmt: skip
    assert done.returncode == 0, done.stderr
    again = ran([refine, "recheck", "r.cert", "pendulum.onnx"], tmp_path)
    assert again.stdout.startswith("accepted: |error of 'torque'| <= 1/1000"), again.stderr
    result = json.loads((tmp_path / "r.json").read_text())
    assert result["verdict"] == "verified"
    assert result["runtime"]["honours"] is True
    assert result["versions"]["refine"] == __version__


def test_the_zoo_in_a_fresh_environment(binaries: Path, tmp_path: Path) -> None:
    done = ran([str(binaries / "refine"), "zoo", "--only", "linear-transposed"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert "1 of 1 entries are as expected" in done.stdout


def test_the_module_in_a_fresh_environment(binaries: Path, tmp_path: Path) -> None:
    script = (
        "import refine, encoders\n"
        f"result = refine.check({str(ROOT / 'examples/demo/pendulum.onnx')!r}, (-1, 1), eps=1e-3,\n"
        "                      conform=False, no_search=True, z3='none')\n"
        "assert result\n"
        "print(refine.__file__)\n"
    )
    done = ran([str(binaries / "python"), "-c", script], tmp_path)
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).is_relative_to(binaries.parent)
