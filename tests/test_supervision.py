"""The time limit, Ctrl-C and signals, whatever the worker is doing."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import click
import pytest
import small_models
from interrupts import before_main, listen

from refine.cli.main import SUMMARIES, cli
from refine.process.supervision import Places, places, spoken_times

ROOT = Path(__file__).resolve().parents[1]
STUCK = """
from refine.claims import asked
from refine.claims.kinds import accuracy
from refine.cli import entry, run_claim
from refine.process import supervision
def stuck(*a, **k):
    {what}
name, _, rest = "{where}".partition(".")
(home,) = [module for module in (run_claim, asked, accuracy) if hasattr(module, name)]
if rest:
    home, name = getattr(home, name), rest
getattr(home, name)  # it is there
setattr(home, name, stuck)
entry.main()
"""
HOLDS_THE_INTERPRETER = "10 ** (10 ** 9)"  # one operation, minutes, no bytecode in between


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    small_models.mlp(tmp_path / "net.onnx")
    return tmp_path


def started(folder: Path, where: str, what: str, *more: str) -> subprocess.Popen[str]:
    script = STUCK.format(where=where, what=what)
    command = [sys.executable, "-c", script, "check", "net.onnx", "--input", "-1..1", "--eps",
               "1e-3", "--z3", "none", "--no-conform", *more]  # fmt: skip
    return subprocess.Popen(
        command, cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, preexec_fn=listen,
    )  # fmt: skip


def workers_of(process: int) -> list[int]:
    """Its children in groups of their own, in its session; the sweeper is in another session."""
    text = Path(f"/proc/{process}/task/{process}/children").read_text()
    return [int(p) for p in text.split() if os.getsid(int(p)) == os.getsid(process)]


def group_of(worker: int) -> list[int]:
    """Living processes of the group that a worker leads."""
    everyone = [int(p.name) for p in Path("/proc").iterdir() if p.name.isdecimal()]
    found = []
    for process in everyone:
        with suppress(OSError):
            if os.getpgid(process) == worker and alive(process):
                found.append(process)
    return found


def alive(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


@pytest.mark.parametrize("where", ["read_as", "read_domain", "check", "json_text"])
@pytest.mark.parametrize("what", [HOLDS_THE_INTERPRETER, "import time; time.sleep(600)"])
def test_the_limit_holds_whatever_is_done(folder: Path, where: str, what: str) -> None:
    seconds = "1.5" if where != "json_text" else "6"  # there the answer is to be known by then
    running = started(folder, where, what, "--timeout", seconds, "--json", "r.json", "-q")
    out, err = running.communicate(timeout=60)
    assert running.returncode == (4 if where != "json_text" else 0), err
    assert "unknown" in out or where == "json_text"
    document = json.loads((folder / "r.json").read_text())
    assert document["timed_out"] is (where != "json_text")
    assert document["verdict"] == ("unknown" if where != "json_text" else "verified")


def test_what_was_proved_is_said_at_the_limit(folder: Path) -> None:
    running = started(folder, "Telling.finish", HOLDS_THE_INTERPRETER, "--timeout", "6", "-q")
    out, err = running.communicate(timeout=60)
    assert (running.returncode, err) == (0, "")
    assert out.startswith("verified")


SLOW = """
from importlib import import_module
from refine.cli import entry
def stuck(*a, **k):
    {what}
setattr(import_module("refine.cli.{command}"), "{where}", stuck)
entry.main()
"""


SLOW_LEMMAS = """
import time
from refine.claims import settle
from refine.cli import entry
from refine.process import supervision
supervision._EVERY = 0.2
proved = settle.prove_lemmas
settle.prove_lemmas = lambda *given: (time.sleep(1.5), proved(*given))[1]
entry.main()
"""


@pytest.mark.parametrize("quiet", [False, True])
def test_a_line_now_and_then_where_there_is_no_terminal(folder: Path, quiet: bool) -> None:
    """What is being done, for how long, and the time left; nothing with -q."""
    command = [sys.executable, "-c", SLOW_LEMMAS, "check", "net.onnx", "--input", "-1..1", "--eps",
               "1e-3", "--z3", "none", "--no-conform", "--budget", "500",
               *["-q"][:quiet]]  # fmt: skip
    done = subprocess.run(command, cwd=folder, text=True, capture_output=True, check=True,
                          env={**os.environ, "PYTHONPATH": str(ROOT)})  # fmt: skip
    if quiet:
        assert done.stderr == ""
    else:
        said = r"^refine: proving lemmas \(after \d+ s, \d+ s of its time left\)$"
        assert re.search(said, done.stderr, re.MULTILINE)


def test_a_limit_in_a_file_is_a_limit(folder: Path) -> None:
    (folder / "refine.toml").write_text("timeout = 3\n")
    running = started(folder, "check", HOLDS_THE_INTERPRETER, "-q", "--json", "r.json")
    out, err = running.communicate(timeout=120)
    assert running.returncode == 4
    assert "options from" in err
    assert "out of time" in out
    assert (folder / "r.json").exists()


@pytest.mark.parametrize(
    ("command", "where", "more"),
    [
        ("conform", "judged", ("--contract", "ieee-any")),
        ("probe", "probed", ()),
        ("replay", "replayed", ()),
    ],
)
def test_the_limit_holds_where_there_is_no_verdict(
    folder: Path, command: str, where: str, more: tuple[str, ...]
) -> None:
    script = SLOW.format(command=command, where=where, what=HOLDS_THE_INTERPRETER)
    limited = [sys.executable, "-c", script, command, "net.onnx", *more, "--timeout", "2"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        limited, cwd=folder, env=environment, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr == "refine: the time limit was reached before anything was found\n"


def test_a_difference_seen_before_the_limit_is_the_answer(folder: Path) -> None:
    script = (
        "import time\n"
        "from gpu_check.conformance.conformance import _Judge\n"
        "from refine.cli import entry\n"
        "whole = _Judge._check\n"
        "def check(judge, step):\n"
        "    if step.node.op == 'Relu':\n"
        "        time.sleep(1000)\n"
        "    return whole(judge, step)\n"
        "_Judge._check = check\n"
        "entry.main()\n"
    )
    small_models.mlp(folder / "wide.onnx", (64, 64, 1))
    command = ("conform", "wide.onnx", "--contract", "sequential", "--timeout", "6")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", script, *command],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert done.stdout.endswith("out of time, 1 of 3 nodes looked at: the contract is broken\n")


def test_ctrl_c_where_nothing_listens(folder: Path) -> None:
    running = started(folder, "check", f"print('now', flush=True); {HOLDS_THE_INTERPRETER}")
    assert running.stdout is not None
    assert running.stdout.readline() == "now\n"
    (worker,) = workers_of(running.pid)
    running.send_signal(signal.SIGINT)
    assert running.wait(timeout=120) == 130
    assert not alive(worker)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_nobody_survives_the_watcher(folder: Path, number: signal.Signals) -> None:
    running = started(folder, "check", f"print('now', flush=True); {HOLDS_THE_INTERPRETER}")
    assert running.stdout is not None
    assert running.stdout.readline() == "now\n"
    (worker,) = workers_of(running.pid)
    running.send_signal(number)
    assert running.wait(timeout=120) == -number
    for _ in range(100):
        if not alive(worker):
            return
        time.sleep(0.05)
    pytest.fail("the worker lives on")


COMPILES = """
    import os, subprocess, tempfile
    tempfile.mkdtemp()
    command = "(touch $TMPDIR/half; sleep 600) & echo now $TMPDIR; wait"
    subprocess.run(["sh", "-c", command], check=False)"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_children_of_children_and_their_files_go_too(folder: Path, number: signal.Signals) -> None:
    running = started(folder, "check", COMPILES.strip())
    assert running.stdout is not None
    word, scratch = running.stdout.readline().split()
    assert word == "now"
    (worker,) = workers_of(running.pid)
    assert len(group_of(worker)) >= 3  # the shell, what it starts, and who started it
    assert Path(scratch).name.startswith("refine-")
    running.send_signal(number)
    assert running.wait(timeout=120) == (130 if number is signal.SIGINT else -number)
    for _ in range(100):
        if not group_of(worker) and not Path(scratch).exists():
            return
        time.sleep(0.05)
    pytest.fail(f"left: {group_of(worker)}, {scratch}")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGSEGV, 70), (signal.SIGKILL, 3)])
def test_a_crash_is_no_verdict(folder: Path, number: signal.Signals, code: int) -> None:
    """What the system kills has most likely used all its memory: that is no error of ours."""
    what = f"import os; os.kill(os.getpid(), {int(number)})"
    running = started(folder, "check", what)
    out, err = running.communicate(timeout=120)
    assert (running.returncode, out) == (code, "")
    assert err.count("\n") == 1
    assert number.name in err


def test_a_library_that_crashes_on_a_file(folder: Path) -> None:
    running = started(folder, "read_as", "import os; os.abort()")
    out, err = running.communicate(timeout=120)
    assert (running.returncode, out) == (2, "")
    assert "crashes on these files (SIGABRT)" in err


def test_where_the_limit_stands(tmp_path: Path) -> None:
    cases: list[tuple[list[str], Places]] = [
        (["check", "m", "--timeout", "5"], Places(15.0, None, False, True)),
        (["bound", "--timeout=2.5", "--json=-", "-q"], Places(12.5, "-", True, True)),
        (
            ["diff", "--json", "r.json", "--timeout", "1e0", "--quiet"],
            Places(11.0, "r.json", True, True),
        ),
        (["lemmas", "--timeout", "5"], Places()),
        (["probe", "m", "--timeout", "5"], Places(15.0, None, False, True, False)),
        (["conform", "m"], Places(reads=True, verdict=False)),
        (["check", "--timeout", "soon"], Places(reads=True)),
        (["check", "--timeout", "-1"], Places(None, None, False, True)),
        (["check", "--timeout"], Places(reads=True)),
        ([], Places()),
    ]
    for arguments, expected in cases:
        assert places(arguments, 10.0) == expected


def interrupted_at(folder: Path, seconds: float, number: signal.Signals) -> Any:
    command = [sys.executable, "-m", "refine", "check", "net.onnx", "--input", "-1..1", "--eps",
               "1e-12", "--json", "r.json", "--no-cache"]  # fmt: skip
    running = subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, start_new_session=True, preexec_fn=listen,
    )  # fmt: skip
    time.sleep(seconds)
    running.send_signal(number)
    out, err = running.communicate(timeout=120)
    return running.returncode, out, err


@pytest.mark.parametrize("seconds", [0.15, 0.4, 0.8, 1.6])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_nothing_is_left_half_written(folder: Path, seconds: float, number: signal.Signals) -> None:
    code, _, err = interrupted_at(folder, seconds, number)
    if number is signal.SIGINT:
        assert before_main(err) or (code, err) in ((130, "refine: interrupted\n"), (1, "")), (
            code,
            err,
        )
    left = {p.name for p in folder.iterdir()} - {"net.onnx"}
    assert left <= {"r.json", "net-counterexample.json", "net-counterexample.npz"}
    for name in left:
        if name.endswith(".json"):
            json.loads((folder / name).read_text())


THEIR_OWN = {"bench", "lemmas", "step", "strengthen"}
"""Commands whose limit is of one instance or lemma, or that look at the clock themselves."""


def test_every_command_with_a_limit_is_watched() -> None:
    """What has --timeout ends by it, though nothing in the work looks at the clock."""
    context = click.Context(cli)
    for name in SUMMARIES.keys() - THEIR_OWN:
        command = cli.get_command(context, name)
        assert command is not None
        limited = any(p.name == "timeout" for p in command.params)
        found = places([name, "--timeout", "5"], 0.0)
        assert (found.limit is not None) is limited, name


def test_time_left_is_that_of_a_limit_or_a_budget() -> None:
    """Work may go on behind it: nothing is said of when the answer comes."""
    assert spoken_times(12.0, 100.0, 148.0) == "after 12 s, 48 s of its time left"
    assert spoken_times(12.0, 100.0, 99.0) == spoken_times(12.0, 100.0, None) == "after 12 s"
