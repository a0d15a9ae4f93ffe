"""A process that watches the one that works: for its end, for Ctrl-C and for the time limit.

Nothing that a worker does can keep it from being stopped: neither a library's code nor a loop that
asks no clock. What the worker has proved so far it tells its watcher through a pipe, and at the
limit the watcher says that. Before the worker writes an answer of its own it asks, so that there is
never more than one. Imports nothing heavy: the limit counts from the start of the process.
"""

from __future__ import annotations

import os
import select
import signal
import struct
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from types import FrameType

from gpu_check.common.children import Scratch, Sweeper, die_with_parent

GRACE = 1.0  # seconds after the limit in which work ends by itself
_AFTER_CTRL_C = 2.0  # seconds in which it does
_TIMED = ("check", "bound", "diff")
_READING = (
    *("advise", "conform", "judge", "plan", "probe", "stable", "tolerance", "trace", "trace-diff"),
)
"""These have a limit, too, and give no verdict."""
_RUNNING = ("replay",)
_INPUT_ERROR, _UNKNOWN, _INTERNAL_ERROR, _INTERRUPTED = 2, 3, 70, 130
_FRAME = struct.Struct(">cBII")
_TOLD, _READ, _DONE, _GRANTED, _STAGE, _LIMIT = b"s", b"r", b"d", b"g", b"p", b"l"
_CRASHES = (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL)
_POLL = 0.05  # seconds between looks whether the worker has ended
_EVERY = 10.0  # seconds between lines that say what is being done


@dataclass(frozen=True)
class Answer:
    """What would be said now: an exit code, a text for people and one for `--json`."""

    code: int
    report: str
    document: str


@dataclass(frozen=True)
class Watcher:
    """What a worker knows of the process that watches it: the limit on the monotonic clock (None:
    no limit), and two pipes."""

    limit: float | None
    telling: int
    hearing: int

    def tell(self, answer: Answer) -> None:
        """Note what has been proved so far."""
        report = answer.report.encode("utf-8", "backslashreplace")
        document = answer.document.encode("utf-8", "backslashreplace")
        head = _FRAME.pack(_TOLD, answer.code, len(report), len(document))
        _write(self.telling, head + report + document)

    def read(self) -> None:
        """The files have been read: a crash from here on is a bug, not a file that a library
        stumbles over."""
        _write(self.telling, _FRAME.pack(_READ, 0, 0, 0))

    def progress(self, stage: str, until: float | None) -> None:
        """Say what is being done; `until` is when the work ends (monotonic), if it is known. The
        watcher says it on standard error now and then."""
        end = -1.0 if until is None else until
        text = f"{end!r} {stage}".encode("utf-8", "backslashreplace")
        _write(self.telling, _FRAME.pack(_STAGE, 0, len(text), 0) + text)

    def limited(self, command: str, timeout: float | None, json_path: str | None) -> Watcher:
        """What the watcher could not read off the command line, for a command with a limit: the
        limit in seconds, and where `--json` goes. Gives what the worker knows from now on."""
        if command not in (*_TIMED, *_READING, *_RUNNING) or (timeout, json_path) == (None, None):
            return self
        end = None if timeout is None else process_start() + timeout
        text = f"{'' if end is None else repr(end)} {json_path or ''}".encode()
        _write(self.telling, _FRAME.pack(_LIMIT, 0, len(text), 0) + text)
        return self if self.limit is not None else replace(self, limit=end)

    def finish(self) -> None:
        """Wait for leave to answer: after the limit there is none, and this process is ended."""
        _write(self.telling, _FRAME.pack(_DONE, 0, 0, 0))
        while not os.read(self.hearing, 1):
            time.sleep(_POLL)


@dataclass(frozen=True)
class Places:
    """Where the command line wants the answer, as far as a watcher has to know, and whether that
    is a verdict."""

    limit: float | None = None
    json: str | None = None
    quiet: bool = False
    reads: bool = False
    verdict: bool = True
    report: str | None = None


def places(arguments: list[str], start: float) -> Places:
    """What the command line says of the time limit, if its command has one, and of the answer.

    `start` is when the process began, on the monotonic clock.
    """
    if not arguments or arguments[0] not in (*_TIMED, *_READING, *_RUNNING):
        return Places()
    verdict, reads = arguments[0] in _TIMED, arguments[0] not in _RUNNING
    found: dict[str, str] = {}
    for i, text in enumerate(arguments):
        name, equals, value = text.partition("=")
        if name in ("--timeout", "--json", "--report"):
            found[name] = value if equals else "".join(arguments[i + 1 : i + 2])
    try:
        seconds = float(found["--timeout"])
    except (KeyError, ValueError):
        seconds = 0.0
    limit = start + seconds if 0 < seconds < 1e9 else None
    quiet = bool({"-q", "--quiet"} & set(arguments))
    return Places(limit, found.get("--json"), quiet, reads, verdict, found.get("--report"))


def process_start() -> float:
    """When this process began, on the monotonic clock; now, where the system does not tell."""
    now = time.monotonic()
    try:
        with open("/proc/self/stat", "rb") as file:
            ticks = int(file.read().rpartition(b")")[2].split()[19])
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError, AttributeError):
        return now
    return now - age if 0 <= age < 60 else now


def supervised(work: Callable[[Watcher | None], int], wanted: Places) -> int:
    """Do the work in a process of its own, and return the exit code; in this one, where the system
    has no processes that are copies."""
    if not sys.platform.startswith("linux") or not hasattr(os, "fork"):
        return work(None)
    heard, telling = os.pipe()
    hearing, granting = os.pipe()
    handled = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGTSTP}
    signal.pthread_sigmask(signal.SIG_BLOCK, handled)
    watcher_id = os.getpid()
    scratch = Scratch.named()
    sweeper = Sweeper.started(scratch)
    worker = os.fork()
    if worker == 0:
        os.setpgid(0, 0)
        die_with_parent(watcher_id)
        signal.signal(signal.SIGTTOU, signal.SIG_IGN)
        os.close(heard)
        os.close(granting)
        os.close(sweeper.telling)
        scratch.use()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, handled)
        return work(Watcher(wanted.limit, telling, hearing))
    os.close(telling)
    os.close(hearing)
    watching = _Watching(worker, wanted, heard, granting)
    watching.listen()
    sweeper.watch(worker)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, handled)
    code = watching.until_the_end()
    scratch.remove()
    sweeper.dismiss()
    return code


@dataclass
class _Watching:
    """The watcher's side. `hurry` is when the worker is ended whatever it does."""

    worker: int
    wanted: Places
    heard: int
    granting: int
    buffer: bytearray = field(default_factory=bytearray)
    told: Answer | None = None
    granted: bool = False
    read: bool = False
    interrupted: float | None = None
    open: bool = True
    start: float = field(default_factory=time.monotonic)
    stage: str = ""
    until: float | None = None
    said: int = 0

    def listen(self) -> None:
        if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # as with nohup
            signal.signal(signal.SIGINT, self._interrupt)
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._end)
        if signal.getsignal(signal.SIGTSTP) is not signal.SIG_IGN:
            signal.signal(signal.SIGTSTP, self._stop)

    def until_the_end(self) -> int:
        while True:
            self._hear(self._patience())
            ended, status = os.waitpid(self.worker, os.WNOHANG)
            if ended:
                self._signal(signal.SIGKILL)  # whom it left behind
                return self._code(status)
            now = time.monotonic()
            if self.interrupted is not None and now >= self.interrupted + _AFTER_CTRL_C:
                self._kill()
                _say(b"refine: interrupted\n")
                return _INTERRUPTED
            if not self.granted and now >= self._deadline():
                self._kill()
                return self._answer()
            if self._tells and not self.granted and now >= self.start + _EVERY * (self.said + 1):
                self._say_stage(now)

    def _deadline(self) -> float:
        return float("inf") if self.wanted.limit is None else self.wanted.limit + GRACE

    def _patience(self) -> float:
        if not self.open:
            return _POLL / 10  # it is about to end
        left = float("inf") if self.granted else self._deadline() - time.monotonic()
        return min(max(left, 0.0), _POLL)

    def _hear(self, patience: float) -> None:
        if not self.open:
            time.sleep(patience)
            return
        ready, _, _ = select.select([self.heard], [], [], patience)
        while ready:
            data = os.read(self.heard, 2**16)
            if not data:
                self.open = False
                return
            self.buffer += data
            self._understand()
            ready, _, _ = select.select([self.heard], [], [], 0)

    def _understand(self) -> None:
        while len(self.buffer) >= _FRAME.size:
            kind, code, report, document = _FRAME.unpack_from(self.buffer)
            end = _FRAME.size + report + document
            if len(self.buffer) < end:
                return
            body = bytes(self.buffer[_FRAME.size : end])
            del self.buffer[:end]
            if kind == _TOLD:
                texts = body[:report].decode(), body[report:].decode()
                self.told = Answer(code, *texts)
            elif kind == _READ:
                self.read = True
            elif kind == _STAGE:
                end, _, self.stage = body.decode("utf-8", "replace").partition(" ")
                self.until = None if float(end) < 0 else float(end)
            elif kind == _LIMIT:
                limit, _, path = body.decode().partition(" ")
                known = self.wanted
                end = float(limit) if limit and known.limit is None else known.limit
                self.wanted = replace(known, limit=end, json=known.json or path or None)
            elif time.monotonic() < self._deadline():
                self.granted = True
                _write(self.granting, _GRANTED)

    @property
    def _tells(self) -> bool:
        """Is there something to say to who reads standard error later? A terminal has a spinner."""
        return bool(self.stage) and not os.isatty(2)

    def _say_stage(self, now: float) -> None:
        """A line for who reads a log of standard error."""
        self.said = int((now - self.start) / _EVERY)
        times = spoken_times(now - self.start, now, self.until)
        _say(f"refine: {self.stage} ({times})\n".encode("utf-8", "backslashreplace"))

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        self.interrupted = self.interrupted or time.monotonic()
        _send(self.worker, signal.SIGINT)

    def _end(self, number: int, frame: FrameType | None) -> None:
        """Ended by a signal, as if nobody watched; what is written is written whole or not."""
        self._signal(signal.SIGKILL)
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self._signal(signal.SIGSTOP)
        os.kill(os.getpid(), signal.SIGSTOP)
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        try:
            os.killpg(self.worker, number)
        except OSError:
            return

    def _kill(self) -> None:
        self._signal(signal.SIGKILL)
        _send(self.worker, signal.SIGKILL)
        os.waitpid(self.worker, 0)

    def _code(self, status: int) -> int:
        if os.WIFEXITED(status):
            return os.WEXITSTATUS(status)
        if self.interrupted is not None:
            _say(b"refine: interrupted\n")
            return _INTERRUPTED
        number = os.WTERMSIG(status)
        if self.wanted.reads and not self.read and number in _CRASHES:
            _say(
                b"refine: a library that reads models crashes on these files (%s); "
                b"export them again\n" % _name(number)
            )
            return _INPUT_ERROR
        if number == signal.SIGKILL:
            _say(
                b"refine: the system ended the work (SIGKILL), as it does where memory runs out; "
                b"a smaller model or a smaller batch needs less\n"
            )
            return _UNKNOWN
        _say(
            b"refine: internal error, please report it: the process that did the work was ended by "
            b"signal %d (%s)\n" % (number, _name(number))
        )
        return _INTERNAL_ERROR

    def _answer(self) -> int:
        """Say at the limit what has been proved so far."""
        from refine.process.late import TIME_OUT, answer_late

        if self.told is None and not self.wanted.verdict:
            _say(b"refine: the time limit was reached before anything was found\n")
            return TIME_OUT
        return answer_late(self.told, self.wanted.json, self.wanted.report)


def spoken_times(seconds: float, now: float, until: float | None) -> str:
    """`after 12 s, 48 s of its time left`: of a limit, else of a budget before proofs end."""
    left = "" if until is None or until < now else f", {until - now:.0f} s of its time left"
    return f"after {seconds:.0f} s{left}"


def _name(number: int) -> bytes:
    try:
        return signal.Signals(number).name.encode()
    except ValueError:
        return b"unknown"


def _send(process: int, number: int) -> None:
    try:
        os.kill(process, number)
    except OSError:
        return


def _write(pipe: int, data: bytes) -> None:
    while data:
        data = data[os.write(pipe, data) :]


def _say(line: bytes) -> None:
    try:
        os.write(2, line)
    except OSError:
        return
