"""Files from strangers, by the thousand: every format damaged at random, every run watched.

    python tests/fuzzing/files.py --seconds 600 --seed 1 [--count N] [--keep FOLDER]

A run must end with an exit code that it documents, without a traceback, within 20 seconds, and open
nothing outside the folder of its files. Offenders are saved, and those of bytes made smaller.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import random
import re
import resource
import shutil
import signal
import site
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any

import onnx
from file_cases import Case, case_of

ROOT = Path(__file__).resolve().parents[2]
LONGEST = 20  # seconds
MEMORY = 8 * 2**30  # bytes of address space beyond what is used at the start
CODES = {0, 1, 2, 3, 4, 5}
_ANSWERS = {0: "verified", 1: "violated", 3: "unknown", 4: "unknown"}
_SMALLER = 300.0  # seconds spent on making an offender smaller


class TookTooLong(BaseException):
    """A run that did not end."""


@dataclass(frozen=True)
class Fault:
    """What went wrong with a case."""

    case: Case
    why: str


class Watch:
    """Notes what is opened, while it is on."""

    def __init__(self) -> None:
        self.on = False
        self.outside: list[str] = []
        self.folder = ""
        known: tuple[str | Path, ...] = (
            ROOT,
            sys.prefix,
            sys.base_prefix,
            *site.getsitepackages(),
            Path(onnx.__file__).parents[1],
        )
        self.known = tuple(os.path.realpath(p) for p in known)
        self.system = ("/dev/null", "/dev/urandom", "/proc/", "/sys/devices/", "/lib", "/usr/lib",
                       "/etc/ld.so", "/usr/share/zoneinfo", "/etc/localtime")  # fmt: skip
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.on or event not in ("open", "os.remove", "os.rename", "os.mkdir", "os.symlink"):
            return
        if isinstance(arguments[0], int) or arguments[0] is None:
            return
        path = os.path.realpath(os.fsdecode(arguments[0]))
        if path.startswith((self.folder, *self.known, *self.system)):
            return
        if "/refine/lemmas" in path or "/refine/kernels" in path or path.startswith("/tmp/tmp"):
            return
        self.outside.append(f"{event} {path}")


def _too_long(number: int, frame: FrameType | None) -> None:
    raise TookTooLong


def write(case: Case, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    for name, data in case.files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


def fault_of(case: Case, folder: Path, watch: Watch) -> str | None:
    """Run one case in a folder of its own; what went wrong, if anything."""
    from refine.cli.main import guarded

    write(case, folder)
    os.chdir(folder)
    out, err = io.StringIO(), io.StringIO()
    watch.outside.clear()
    watch.folder = os.path.realpath(folder)
    sys.argv = ["refine", *case.arguments]
    signal.signal(signal.SIGALRM, _too_long)
    before = time.monotonic()
    watch.on = True
    signal.setitimer(signal.ITIMER_REAL, LONGEST)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(out), \
             contextlib.redirect_stderr(err):  # fmt: skip
            warnings.simplefilter("error", RuntimeWarning)  # a number that nobody thought of
            code = guarded(None).value
    except TookTooLong:
        return f"no end within {LONGEST} s"
    except BaseException as error:
        return f"{type(error).__name__} escapes: {error}"[:300]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        watch.on = False
    said = err.getvalue()
    if "Traceback" in said or code == 70:
        last = [line for line in said.splitlines() if line.strip()]
        places = [line.strip() for line in last if line.lstrip().startswith("File ")]
        return f"exit {code}: {last[-1] if last else ''} at {places[-1] if places else ''}"[:600]
    if code == 130:  # the alarm, heard by who listens to Ctrl-C
        return f"no end within {LONGEST} s"
    if code not in CODES:
        return f"exit code {code}: {said[:200]}"
    answer = "bounded" if code == 0 and case.arguments[0] == "diff" else _ANSWERS.get(code)
    if answer is not None and answer not in out.getvalue() and case.arguments[0] != "zoo":
        return f"exit code {code} without '{answer}': {out.getvalue()[-200:]!r} {said[-200:]!r}"
    if code == 2 and (said.count("\n") != 1 or not said.startswith("refine: ")):
        return f"no single sentence: {said[:300]!r}"
    if any(not (c.isprintable() or c == "\n") for c in said + out.getvalue()):
        return "control characters are shown"
    if watch.outside:
        return f"outside: {watch.outside[:3]}"
    if time.monotonic() - before > LONGEST:
        return "too slow"
    return None


def faults(seed: int, seconds: float, most: int, kinds: Counter[str]) -> Iterator[Fault]:
    """Random cases for so long, or so many; those that go wrong.

    They run in a process of their own. Where that crashes, the command line itself must have an
    answer: its crashes are watched.
    """
    until, number = time.monotonic() + seconds, 0
    with tempfile.TemporaryDirectory(prefix="files-") as scratch:
        folder = Path(scratch) / "in"
        while number < most and time.monotonic() < until:
            for done, why in _run_from(number, most, seed, until, folder):
                number = done
                case = case_of(random.Random(f"{seed}/{number}"))
                kinds[case.kind] += 1
                if why == _CRASHED:
                    why = _on_the_command_line(case, folder)
                if why is not None:
                    yield Fault(case, why)
            number += 1


_CRASHED = "the process crashed"


def _run_from(
    first: int, most: int, seed: int, until: float, folder: Path
) -> Iterator[tuple[int, str | None]]:
    """Cases from `first` on with what went wrong, up to the first crash."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        watch = Watch()
        with os.fdopen(writing, "w") as results:
            for number in range(first, most):
                if time.monotonic() > until:
                    break
                why = fault_of(case_of(random.Random(f"{seed}/{number}")), folder, watch)
                results.write(json.dumps([number, why]) + "\n")
                results.flush()
        os._exit(0)
    os.close(writing)
    done = first - 1
    with os.fdopen(reading) as results:
        for line in results:
            done, why = json.loads(line)
            yield done, why
    _, status = os.waitpid(child, 0)
    if status:
        yield done + 1, _CRASHED


def _on_the_command_line(case: Case, folder: Path) -> str | None:
    """What the command line makes of a crash: exit code 2 and one sentence."""
    write(case, folder)
    command = [sys.executable, "-m", "refine", *case.arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False,
                          timeout=120, env={**os.environ, "PYTHONPATH": str(ROOT)})  # fmt: skip
    if done.returncode == 2 and done.stderr.splitlines()[-1].startswith("refine: "):
        return None
    return f"crash, exit code {done.returncode}: {done.stderr[-300:]}"


def sort_of(why: str) -> str:
    """Faults of one sort differ in numbers and addresses only."""
    return re.sub(r"0x[0-9a-f]+|[0-9]+", "#", why)


def minimised(case: Case, is_same: Callable[[Case], bool], seconds: float = _SMALLER) -> Case:
    """The case with as much of its damaged file cut out as leaves the fault what it is: of models,
    their parts; then, of any file, ranges of bytes, ever shorter ones."""
    until = time.monotonic() + seconds
    for way in (_without_a_part, _without_bytes):
        changed = True
        while changed and time.monotonic() < until:
            changed = False
            for data in way(case.files[case.damaged]):
                smaller = replace(case, files={**case.files, case.damaged: data})
                if time.monotonic() > until:
                    break
                if is_same(smaller):
                    case, changed = smaller, True
                    break
    return case


def _without_a_part(data: bytes) -> Iterator[bytes]:
    try:
        model = onnx.load_model_from_string(data)
    except Exception:
        return
    graph = model.graph
    nodes = range(len(graph.node))
    groups: list[Callable[[], Any]] = [
              lambda: graph.node, lambda: graph.initializer, lambda: graph.value_info,
              lambda: graph.sparse_initializer, lambda: graph.output, lambda: graph.input,
              lambda: model.functions, lambda: model.opset_import,
              *(lambda i=i: graph.node[i].attribute for i in nodes)]  # fmt: skip
    for group in groups:
        for i in range(len(group())):
            part = group().pop(i)
            yield model.SerializeToString()
            group().insert(i, part)


def _without_bytes(data: bytes) -> Iterator[bytes]:
    length = len(data) // 2
    while length:
        for start in range(0, len(data), length):
            yield data[:start] + data[start + length :]
        length //= 2


def save(fault: Fault, place: Path) -> None:
    """The files as they were, the damaged one made smaller, and what to do with them."""
    with tempfile.TemporaryDirectory(prefix="smaller-") as scratch:
        folder = Path(scratch) / "in"

        def is_same(case: Case) -> bool:
            return sort_of(fault_in_a_child(case, folder) or "") == sort_of(fault.why)

        small = fault.case if "no end" in fault.why else minimised(fault.case, is_same)
    write(replace(fault.case, files={**small.files, **{"whole/" + fault.case.damaged:
                  fault.case.files[fault.case.damaged]}}), place)  # fmt: skip
    (place / "command").write_text(" ".join(fault.case.arguments) + f"\n{fault.why}\n")


def fault_in_a_child(case: Case, folder: Path) -> str | None:
    """What goes wrong with one case, in a process of its own."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        os.write(writing, (fault_of(case, folder, Watch()) or "").encode()[:4096])
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as result:
        why = result.read()
    _, status = os.waitpid(child, 0)
    return _CRASHED if status else why or None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=10**9)
    parser.add_argument("--keep", type=Path, default=Path("fuzz-files"))
    given = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, resource.RLIM_INFINITY))
    kinds: Counter[str] = Counter()
    seen: Counter[str] = Counter()
    keep = given.keep.absolute()
    for fault in faults(given.seed, given.seconds, given.count, kinds):
        what = sort_of(fault.why)
        seen[what] += 1
        if seen[what] > 3:
            continue
        print(f"{fault.case.kind}: {fault.why}", flush=True)
        save(fault, keep / f"{len(seen):03d}-{seen[what]}")
    total = sum(kinds.values())
    print(f"{total} files ({dict(kinds)}), {sum(seen.values())} faults of {len(seen)} sorts")
    return 1 if seen else 0


if __name__ == "__main__":
    sys.exit(main())
