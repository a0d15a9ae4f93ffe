"""onnxruntime runs in a process of its own: it may crash or hang, and the answer comes out."""

from __future__ import annotations

import ast
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import small_models

from gpu_check.runtimes.isolated import Lost, Server, server_for
from gpu_check.runtimes.runtimes import (
    OnnxRuntime,
    OnnxRuntimeOptions,
    RuntimeUnavailable,
    onnxruntime_version,
)
from refine.cli.main import run
from refine.results.verdict import ExitCode

ROOT = Path(__file__).resolve().parents[1]
X = {"x": np.ones((1, 4), np.float32)}
CRASHING = [sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"]
SILENT = [sys.executable, "-c", "import time; time.sleep(60)"]


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return small_models.mlp(tmp_path / "net.onnx", (4, 3, 2))


def test_no_other_module_imports_onnxruntime() -> None:
    for folder in ("onnx_import", "encoders", "gpu_check", "refine"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
                names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                if isinstance(node, ast.Call) and "import_module" in ast.unparse(node.func):
                    names += [str(a.value) for a in node.args if isinstance(a, ast.Constant)]
                foreign = "onnxruntime" in {name.partition(".")[0] for name in names}
                assert path.name == "ort_server.py" or not foreign, path


def test_a_crash_is_said_and_the_next_run_works(model: Path) -> None:
    runtime = OnnxRuntime(model)
    before = runtime.run(X)["y"]
    server = server_for()
    assert server.process is not None
    os.kill(server.process.pid, signal.SIGSEGV)
    with pytest.raises(RuntimeUnavailable, match="crashes: its own process was ended by SIGSEGV"):
        runtime.run(X)
    assert np.array_equal(runtime.run(X)["y"], before)


def test_a_process_that_gives_no_answer_is_ended(model: Path) -> None:
    server = Server(patience=1.0)
    assert server.ask("version") == onnxruntime_version()
    assert server.process is not None
    process = server.process
    os.kill(process.pid, signal.SIGSTOP)
    with pytest.raises(Lost, match="no answer within 1 seconds"):
        server.ask("version")
    assert process.returncode == -signal.SIGKILL
    assert server.ask("version") == onnxruntime_version()
    server.end()


def test_an_interrupted_request_is_not_answered_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while an answer is awaited: that answer is not taken for the next one."""
    server = Server()
    server.ask("version")

    def interrupted(length: int, end: float) -> bytes:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(server, "_receive", interrupted)
        with pytest.raises(KeyboardInterrupt):
            server.ask("close", 1, 2, 3)
    assert server.ask("version") == onnxruntime_version()
    server.end()


def test_a_model_is_refused_in_onnxruntimes_words() -> None:
    with pytest.raises(RuntimeUnavailable, match=r"refuses the model: .*protobuf"):
        OnnxRuntime(b"no model")


def test_sessions_that_flush_share_a_process_with_no_others(model: Path) -> None:
    tiny = {"x": np.full((1, 4), 2.0**-130, np.float32)}
    flushing = OnnxRuntime(model, OnnxRuntimeOptions(flush_subnormals=True))
    plain = OnnxRuntime(model)
    flushed, kept = flushing.run(tiny)["y"], plain.run(tiny)["y"]
    zero = plain.run({"x": np.zeros((1, 4), np.float32)})["y"]
    assert np.array_equal(flushed, zero)
    assert np.array_equal(kept, plain.run(tiny)["y"])
    assert flushing._server is not plain._server


@pytest.mark.parametrize("started", [CRASHING, SILENT], ids=["crash", "hang"])
def test_the_proof_comes_out_whatever_becomes_of_onnxruntime(
    model: Path, monkeypatch: pytest.MonkeyPatch, started: list[str]
) -> None:
    """Looked at after the proof, on the worst input found, and by a counterexample's replays."""
    server_for().end()
    with monkeypatch.context() as patch:
        patch.setattr("gpu_check.runtimes.isolated.command", lambda *pipes: started)
        patch.setattr(server_for(), "patience", 1.0)
        asked = ["check", "net.onnx", "--input", "-1..1", "--budget", "0", "--z3", "none", "-q"]
        asked += ["--conform", "--json", "r.json"]
        assert run([*asked, "--eps", "1"]) is ExitCode.VERIFIED
        found = json.loads(Path("r.json").read_text())
        assert found["verdict"] == "verified"
        assert found["runtime"]["honours"] is None
        said = "SIGSEGV" if started is CRASHING else "no answer within"
        assert said in found["runtime"]["text"]
        assert run([*asked, "--eps", "1e-12"]) is ExitCode.VIOLATED
        found = json.loads(Path("r.json").read_text())
        replays = found["counterexample"]["replays"]
        theirs = [r["refused"] for r in replays if r["runtime"].startswith("onnxruntime")]
        assert theirs
        assert all(said in text for text in theirs)
        assert run(["check", "net.onnx", "--input", "-1..1", "--as-optimised", "basic"]) is (
            ExitCode.INPUT_ERROR
        )
        server_for().end()
    assert OnnxRuntime(model).run(X)["y"].shape == (1, 2)


PARENT = """
import sys, time
from gpu_check.runtimes.isolated import server_for
server_for().ask("version")
print(server_for().process.pid, flush=True)
if sys.argv[1] == "wait":
    time.sleep(60)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the kernel ends it on Linux")
@pytest.mark.parametrize("how", ["wait", "end"])
def test_it_ends_with_the_process_that_uses_it(how: str) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, how], stdout=subprocess.PIPE, cwd=ROOT, text=True
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    if how == "wait":
        parent.kill()
    parent.wait(20)
    parent.stdout.close()
    for _ in range(60):
        if not _runs(child):
            break
        time.sleep(0.05)
    assert not _runs(child)


def _runs(process: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{process}/status").read_text()
    except OSError:
        return False


def test_a_forked_process_has_one_of_its_own(model: Path) -> None:
    """Two processes that share pipes would take each other's answers."""
    here = server_for()
    child = os.fork()
    if child == 0:
        os._exit(0 if server_for() is not here and server_for().process is None else 1)
    _, status = os.waitpid(child, 0)
    assert os.WEXITSTATUS(status) == 0
