"""Tests run against mutants, each in a fork of a process that has everything imported.

The code of the changed function is exchanged in place, in whoever has imported it; a mutant of what
runs on import has a fresh interpreter. Which tests meet a mutant is known from one run of all of
them with a probe at the start of every block of statements.
"""

from __future__ import annotations

import ast
import functools
import gc
import hashlib
import importlib
import importlib.abc
import importlib.machinery
import json
import os
import random
import resource
import select
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import pytest
from _pytest.runner import runtestprotocol
from mutation_kinds import Mutant, mutated, probed

ROOT = Path(__file__).resolve().parents[1]
MEMORY = 12 * 2**30
EACH = 15.0
"""Processor seconds of one file's tests whose reach is looked at; a sample, if that is not all."""
SLOWER = 5.0
"""A test that takes so many times its usual processor time, and `GRACE` seconds, is stopped."""
GRACE = 10.0
KILLED, SURVIVED, TIMED_OUT, UNREACHED = "killed", "survived", "timed out", "reached by no test"
NOT_RUN = "not run"


@dataclass(frozen=True)
class Outcome:
    """What became of a mutant: `by` is the test that failed or that was stopped, `why` its error in
    a line; `tests` were run."""

    outcome: str
    tests: int
    by: str = ""
    why: str = ""


@dataclass
class Reached:
    """What every test reaches: `blocks` of each file by number, and its processor seconds."""

    digest: str
    seconds: dict[str, float] = field(default_factory=dict)
    blocks: dict[str, list[str]] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)

    @functools.cached_property
    def by_block(self) -> Mapping[str, set[str]]:
        """The tests that reach a block, and those that reach any of a file."""
        found: dict[str, set[str]] = defaultdict(set)
        for test, blocks in self.blocks.items():
            for block in blocks:
                found[block].add(test)
                found[block.split("#")[0]].add(test)
        return found

    @staticmethod
    def read(path: Path, digest: str) -> Reached:
        """What was saved of these very sources; else nothing."""
        if path.exists():
            saved = json.loads(path.read_text())
            if saved["digest"] == digest:
                return Reached(**saved)
        return Reached(digest)

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self)))

    def tests_of(self, mutant: Mutant, limit: float, slowest: float) -> list[str]:
        """The tests that reach the mutant's block (where it runs on import: its file), quick ones
        first and every file of tests in turn, together at most `limit` seconds; all tests where the
        file has nothing but what runs on import."""
        if mutant.block is None:
            found = self.by_block.get(mutant.path, set(self.seconds))
        else:
            found = self.by_block[f"{mutant.path}#{mutant.block}"]
        by_file: dict[str, list[str]] = defaultdict(list)
        for test in sorted(found, key=lambda t: (self.seconds[t], t)):
            if self.seconds[test] <= slowest:
                by_file[test.split("::")[0]].append(test)
        order: list[tuple[float, str]] = []
        for tests in by_file.values():
            total = 0.0
            for test in tests:
                total += self.seconds[test]
                order.append((total, test))
        chosen, total = [], 0.0
        for _, test in sorted(order):
            total += self.seconds[test]
            if total > limit:
                break
            chosen.append(test)
        return chosen


def digest_of(paths: Iterable[str]) -> str:
    parts = (hashlib.sha256((ROOT / p).read_bytes()).hexdigest() for p in sorted(paths))
    return hashlib.sha256("".join(parts).encode()).hexdigest()


class Laboratory:
    """The collected tests, and the functions whose code can be exchanged."""

    def __init__(self, session: pytest.Session, paths: Sequence[str]) -> None:
        self.items = {item.nodeid: item for item in session.items}
        for path in paths:
            importlib.import_module(
                path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
            )
        self.functions: dict[str, list[FunctionType]] = defaultdict(list)
        self.caches: dict[str, list[Any]] = defaultdict(list)
        wanted = {str(ROOT / path): path for path in paths}
        gc.unfreeze()  # what is frozen is not listed
        for thing in gc.get_objects():
            if type(thing) is FunctionType and thing.__code__.co_filename in wanted:
                self.functions[wanted[thing.__code__.co_filename]].append(thing)
            elif isinstance(thing, functools._lru_cache_wrapper):
                code = getattr(getattr(thing, "__wrapped__", None), "__code__", None)
                if code is not None and code.co_filename in wanted:
                    self.caches[wanted[code.co_filename]].append(thing)
        gc.freeze()

    # --- what tests reach -------------------------------------------------------------------------

    def reach(self, paths: Sequence[str], reached: Reached, path: Path) -> None:
        """Run the tests of files that are new to `reached`, with probes; saved after every one."""
        by_file: dict[str, list[str]] = defaultdict(list)
        for test in self.items:
            by_file[test.split("::")[0]].append(test)
        for file, tests in by_file.items():
            digest = digest_of([file])
            if reached.files.get(file) == digest:
                continue
            known = [t for t in reached.seconds if t.split("::")[0] == file]
            for test in known:
                del reached.seconds[test], reached.blocks[test]
            start = time.monotonic()
            lines, _ = _forked(functools.partial(self._probe, paths, tests), None)
            for line in lines:
                reached.seconds[line["test"]] = line["seconds"]
                reached.blocks[line["test"]] = line["blocks"]
            reached.files[file] = digest
            reached.save(path)
            took = time.monotonic() - start
            print(f"{file}: {len(lines)} of {len(tests)} tests, {took:.0f} s", flush=True)

    def _probe(self, paths: Sequence[str], tests: Sequence[str], out: Callable[..., None]) -> None:
        hits: set[str] = set()
        for path in paths:
            tree, count = probed((ROOT / path).read_text(), "_mutation_probe")
            names = [f"{path}#{n}" for n in range(count)]
            module = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
            table = vars(sys.modules[module])
            table["_mutation_probe"] = functools.partial(_hit, hits, names)
            self._exchange(path, tree)
        tests = random.Random(0).sample(tests, len(tests))
        began = _processor_seconds()
        for test, following in _pairs(tests):
            hits.clear()
            start = _processor_seconds()
            if start - began > EACH:
                return
            reports = self._run(test, following)
            seconds = _processor_seconds() - start
            called = [r for r in reports if r.when == "call"]
            if called and all(r.passed for r in reports):
                out(test=test, seconds=seconds, blocks=sorted(hits))

    def _run(self, test: str, following: str | None) -> list[pytest.TestReport]:
        nextitem = None if following is None else self.items[following]
        return list(runtestprotocol(self.items[test], log=False, nextitem=nextitem))

    # --- mutants ----------------------------------------------------------------------------------

    def outcome(
        self, mutant: Mutant, tests: Sequence[str], seconds: Mapping[str, float]
    ) -> Outcome:
        """Run tests against a mutant until one fails."""
        tests = [t for t in tests if t in self.items]
        if not tests:
            return Outcome(UNREACHED, 0)
        source = (ROOT / mutant.path).read_text()
        if mutant.block is None:
            return _freshly(mutant, tests, seconds)

        def trial(out: Callable[..., None]) -> None:
            if not self._exchange(mutant.path, mutated(source, mutant)):
                raise LookupError("no function that is alive has this code")
            for cache in self.caches[mutant.path]:
                cache.cache_clear()
            for test, following in _pairs(tests):
                out(start=test)
                for report in self._run(test, following):
                    if report.failed:
                        out(failed=test, why=_why(report))
                        return
            out(passed=True)

        lines, stopped = _forked(trial, seconds)
        return _judged(lines, stopped)

    def _exchange(self, path: str, tree: ast.Module) -> int:
        """Give the functions of a file the code of this tree; how many got another one."""
        filename = str(ROOT / path)
        old = list(_codes(compile(Path(filename).read_text(), filename, "exec")))
        new = list(_codes(compile(tree, filename, "exec")))
        place = {_identity(code): number for number, code in enumerate(old)}
        partners: list[CodeType | None] = list(new) if len(old) == len(new) else []
        if not partners:  # a function was dropped with its expression: by name, where that is one
            named = defaultdict(list)
            for code in new:
                named[code.co_qualname, code.co_firstlineno].append(code)
            partners = [
                found[0] if len(found := named[c.co_qualname, c.co_firstlineno]) == 1 else None
                for c in old
            ]
        changed = 0
        for function in self.functions[path]:
            number = place.get(_identity(function.__code__))
            partner = None if number is None else partners[number]
            if partner is not None and partner.co_freevars == function.__code__.co_freevars:
                changed += partner != function.__code__
                function.__code__ = partner
        return changed


def _hit(hits: set[str], names: Sequence[str], number: int) -> None:
    hits.add(names[number])


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def _identity(code: CodeType) -> tuple[Any, ...]:
    return (code.co_qualname, code.co_firstlineno, code.co_code, tuple(code.co_positions()))


def _pairs(tests: Sequence[str]) -> Iterator[tuple[str, str | None]]:
    yield from zip(tests, [*tests[1:], None], strict=True)


def _processor_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _why(report: pytest.TestReport) -> str:
    crash = getattr(report.longrepr, "reprcrash", None)
    text = str(report.longrepr) if crash is None else str(crash.message)
    return " ".join(text.split())[:160]


def _judged(lines: Sequence[Mapping[str, Any]], stopped: bool) -> Outcome:
    started = [line["start"] for line in lines if "start" in line]
    last = started[-1] if started else ""
    if not started:
        return Outcome(NOT_RUN, 0, why=next((line["died"] for line in lines if "died" in line), ""))
    for line in lines:
        if "failed" in line:
            return Outcome(KILLED, len(started), line["failed"], line["why"])
    if any("passed" in line for line in lines):
        return Outcome(SURVIVED, len(started))
    if stopped:
        return Outcome(TIMED_OUT, len(started), last)
    return Outcome(KILLED, len(started), last, "the process died")


def _forked(
    work: Callable[[Callable[..., None]], None], seconds: Mapping[str, float] | None
) -> tuple[list[dict[str, Any]], bool]:
    """Run in a fork: the lines that `work` put out, and whether it had to be stopped because a
    test took far more processor time than `seconds` says it needs."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        _in_fork(work, writing)
    os.close(writing)
    try:
        return _listen(child, reading, seconds)
    finally:
        os.close(reading)
        os.waitpid(child, 0)


def _in_fork(work: Callable[[Callable[..., None]], None], writing: int) -> None:
    status = 1
    try:
        os.setsid()
        nowhere = os.open(os.devnull, os.O_RDWR)
        for standard in (0, 1, 2):
            os.dup2(nowhere, standard)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))

        def out(**line: Any) -> None:
            data = (json.dumps(line) + "\n").encode()
            while data:
                data = data[os.write(writing, data) :]

        work(out)
        status = 0
    except BaseException as error:
        os.write(writing, (json.dumps({"died": repr(error)[:500]}) + "\n").encode())
    finally:
        os._exit(status)


def _listen(
    child: int, reading: int, seconds: Mapping[str, float] | None
) -> tuple[list[dict[str, Any]], bool]:
    lines: list[dict[str, Any]] = []
    rest = b""
    used_before, limit = 0.0, float("inf")
    began = time.monotonic()
    while True:
        ready, _, _ = select.select([reading], [], [], 0.5)
        if ready:
            data = os.read(reading, 2**20)
            if not data:
                return lines, False
            *whole, rest = (rest + data).split(b"\n")
            for text in whole:
                line = json.loads(text)
                lines.append(line)
                if "start" in line and seconds is not None:
                    used_before, began = _used_by(child), time.monotonic()
                    limit = GRACE + SLOWER * seconds.get(line["start"], 0.0)
        elif _used_by(child) - used_before > limit or time.monotonic() - began > 20 * limit:
            os.killpg(child, signal.SIGKILL)
            return lines, True


def _used_by(process: int) -> float:
    """Processor seconds of a process and of its children that have ended."""
    try:
        text = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return 0.0
    times = text.rsplit(")", 1)[1].split()[11:15]
    return sum(map(int, times)) / os.sysconf("SC_CLK_TCK")


# --- what runs on import --------------------------------------------------------------------------


def _freshly(mutant: Mutant, tests: Sequence[str], seconds: Mapping[str, float]) -> Outcome:
    """The same in a new interpreter that reads the mutant's text instead of the file's."""
    work = json.dumps({"mutant": vars(mutant), "tests": list(tests)})
    limit = 2 * GRACE + SLOWER * sum(seconds[t] for t in tests)
    command = ["prlimit", f"--as={MEMORY}", sys.executable, __file__]
    try:
        done = subprocess.run(
            command, input=work, capture_output=True, text=True, timeout=5 * limit, cwd=ROOT
        )
    except subprocess.TimeoutExpired:
        return Outcome(TIMED_OUT, len(tests))
    lines = [json.loads(t[1:]) for t in done.stdout.split("\n") if t.startswith("\x1e{")]
    return _judged(lines, False)


class _Reader(importlib.machinery.SourceFileLoader):
    def __init__(self, name: str, path: str, mutant: Mutant) -> None:
        super().__init__(name, path)
        self.mutant = mutant

    def get_code(self, fullname: str) -> CodeType:
        source = Path(self.path).read_text()
        return compile(mutated(source, self.mutant), self.path, "exec")


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self, mutant: Mutant) -> None:
        self.mutant = mutant
        self.module = mutant.path.removesuffix(".py").replace("/", ".")

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        if name != self.module:
            return None
        file = str(ROOT / self.mutant.path)
        reader = _Reader(name, file, self.mutant)
        return importlib.util.spec_from_file_location(name, file, loader=reader)


class _Listener:
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "setup":
            print("\n\x1e" + json.dumps({"start": report.nodeid}), flush=True)
        if report.failed:
            line = {"failed": report.nodeid, "why": _why(report)}
            print("\n\x1e" + json.dumps(line), flush=True)

    def pytest_sessionfinish(self, exitstatus: int) -> None:
        if exitstatus == 0:
            print("\n\x1e" + json.dumps({"passed": True}), flush=True)


def _fresh() -> None:
    work = json.loads(sys.stdin.read())
    sys.meta_path.insert(0, _Finder(Mutant(**work["mutant"])))
    arguments = ["-x", "-q", "-s", "-p", "no:cacheprovider", "--import-mode=prepend"]
    pytest.main([*arguments, *work["tests"]], plugins=[_Listener()])


if __name__ == "__main__":
    sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]
    _fresh()
