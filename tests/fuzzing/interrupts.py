"""kill -9 and Ctrl-C at random moments: nothing half-written, nobody left, the next run works.

    python tests/fuzzing/interrupts.py --moments 200 --seed 1

Each run has a cold cache of its own, writes `--json` and a counterexample, and splits its domain
with worker processes.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper

ROOT = Path(__file__).resolve().parents[2]
LONGEST = 8.0  # seconds of an undisturbed run, about
GONE = 3.0  # seconds after which no process is left
WRITTEN = {"r.json", "net-counterexample.json", "net-counterexample.npz"}


def model() -> bytes:
    rng = np.random.default_rng(0)
    shapes = {"w": (3, 16), "v": (16, 2)}
    weights = [
        numpy_helper.from_array(rng.normal(size=s).astype("f"), n) for n, s in shapes.items()
    ]
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"], "first"),
        helper.make_node("Relu", ["h"], ["r"], "bend"),
        helper.make_node("MatMul", ["r", "v"], ["y"], "second"),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 3))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 2))],
        weights,
    )
    built = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    data: bytes = built.SerializeToString()
    return data


def command(eps: str) -> list[str]:
    return [sys.executable, "-m", "refine", "check", "net.onnx", "--input", "-1..1", "--eps", eps,
            "--json", "r.json", "--workers", "2", "--budget", "4"]  # fmt: skip


def marked(mark: str) -> list[int]:
    """Living processes that carry a mark in their environment."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
                if state != "Z" and mark.encode() in (entry / "environ").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def listen() -> None:
    """What runs in the background ignores Ctrl-C, and behind nohup the end of its terminal, and so
    would what it starts."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def before_main(err: str) -> bool:
    """Was Python itself interrupted, before the first line of ours that could hear it?"""
    ours = r'refine/\S+", line \d+, in main\n'  # Python's own `site` has another
    return "KeyboardInterrupt" in err and not re.search(ours, err)


def fault_of(folder: Path, seconds: float, number: signal.Signals, eps: str) -> str | None:
    """Disturb one run after so long; what went wrong, if anything."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (folder / "net.onnx").write_bytes(model())
    mark = f"REFINE_MARK={os.getpid()}-{seconds}-{number}"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(folder / "cache")}
    environment |= dict([mark.split("=")]) | {"TMPDIR": str(folder / "scratch")}
    (folder / "scratch").mkdir()
    for name in ("REFINE_BUDGET", "REFINE_WORKERS", "REFINE_CONFORM"):
        environment.pop(name, None)
    running = subprocess.Popen(command(eps), cwd=folder, env=environment, text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               start_new_session=True, preexec_fn=listen)  # fmt: skip
    time.sleep(seconds)
    running.send_signal(number)
    out, err = running.communicate(timeout=60)
    code = running.returncode
    deadline = time.monotonic() + GONE
    while (left := marked(mark)) and time.monotonic() < deadline:
        time.sleep(0.05)
    if left:
        return f"processes left: {left}"
    if number is signal.SIGINT and before_main(err):
        return None
    if number is signal.SIGINT and (code, err) != (130, "refine: interrupted\n") and code != 1:
        return f"exit code {code}: {err[-300:]}"
    if number is signal.SIGINT and code == 1 and "violated" not in out:
        return f"exit code 1 without a verdict: {err[-300:]}"
    while (scratch := list((folder / "scratch").iterdir())) and time.monotonic() < deadline:
        time.sleep(0.05)
    if scratch:
        return f"temporary files left: {scratch}"
    files = {p.name for p in folder.iterdir()} - {"net.onnx", "cache", "scratch"}
    if not files <= WRITTEN:
        return f"left behind: {files - WRITTEN}"
    for path in [*folder.glob("*.json"), *folder.glob("cache/**/*.json")]:
        try:
            json.loads(path.read_text())
        except ValueError:
            return f"half-written: {path}"
    for path in folder.glob("cache/refine/**/*"):
        if path.is_file() and path.suffix not in (".json", ".so"):
            return f"unfinished: {path.name}"
    if "net-counterexample.json" in files:
        again = [sys.executable, "-m", "refine", "replay", "net-counterexample.json"]
    else:
        again = [*command(eps)[:-1], "0"]
    done = subprocess.run(again, cwd=folder, env=environment, check=False, capture_output=True)
    if done.returncode not in (0, 1, 3):
        return f"the next run: exit code {done.returncode}: {done.stderr.decode()[-300:]}"
    return None


def faults(moments: int, seed: int, longest: float = LONGEST) -> list[str]:
    rng = random.Random(seed)
    found = []
    with tempfile.TemporaryDirectory(prefix="interrupts-") as scratch:
        for moment in range(moments):
            seconds = rng.uniform(0.1, longest)
            number = rng.choice([signal.SIGKILL, signal.SIGINT])
            eps = rng.choice(["1e-12", "1.1e-6"])  # violated at once; split for as long as it may
            why = fault_of(Path(scratch) / "run", seconds, number, eps)
            if why is not None:
                found.append(f"{number.name} after {seconds:.3f} s, eps {eps}: {why}")
                print(f"{moment}: {found[-1]}", flush=True)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--moments", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    found = faults(given.moments, given.seed)
    print(f"{given.moments} moments, {dict(Counter(f.split(': ')[-1] for f in found))} wrong")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
