"""onnxruntime in a process of its own, where it may crash, hang or change the process's settings.

One such process serves all sessions with the same settings of a process; it is started when first
needed, anew after it ended, and ends with the process that uses it, kill -9 included.
"""

from __future__ import annotations

import atexit
import os
import pickle
import select
import signal
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import count
from threading import RLock
from typing import Any

import numpy as np
import numpy.typing as npt

from gpu_check.runtimes.ort_server import (
    BOUNDARY,
    LENGTH,
    MEMORY,
    MISSING,
    OK,
    UNKNOWN,
    Held,
    command,
)

PATIENCE = 120.0  # seconds for one request, far more than any takes that ends
_IMPATIENCE = 5.0  # seconds after a request that took so long
_ENDING = 5.0  # seconds that a process takes at most that has closed its pipes


class Lost(RuntimeError):
    """A request that got no answer; the message says what became of the process."""


class Refused(RuntimeError):
    """A request that onnxruntime does not grant, in its own words."""


class NotInstalled(RuntimeError):
    """There is no onnxruntime here; the message says why."""


class Forgotten(RuntimeError):
    """A session that is not open there (any more)."""


@dataclass
class Server:
    """The process, when it runs. `leaving` are sessions that nobody needs any more; where a request
    got no answer, the next have less time, until one is answered."""

    patience: float = PATIENCE
    late: bool = False
    process: subprocess.Popen[bytes] | None = None
    telling: int = -1
    hearing: int = -1
    lock: RLock = field(default_factory=RLock)
    keys: count[int] = field(default_factory=count)
    leaving: list[int] = field(default_factory=list)

    def ask(self, name: str, *arguments: Any) -> Any:
        """Raises Lost, Refused, NotInstalled, Forgotten or MemoryError."""
        with self.lock:
            if self.leaving and self.process is not None:
                gone = self.leaving.copy()
                del self.leaving[: len(gone)]
                self._answered("close", gone)
            word, value = self._answered(name, arguments)
        if word == OK:
            return value
        if word == MEMORY:
            raise MemoryError
        if word == UNKNOWN:
            raise Forgotten
        if word == MISSING:
            raise NotInstalled(value)
        raise Refused(value)

    def start(self) -> None:
        """Have the process start while there is other work; a failure shows when it is needed."""
        with self.lock, suppress(Lost):
            if self.process is None:
                self._start()

    def end(self) -> None:
        """End the process, if there is one."""
        process, self.process = self.process, None
        for pipe in (self.telling, self.hearing):
            with suppress(OSError):
                os.close(pipe)
        self.telling = self.hearing = -1
        if process is not None:
            process.kill()
            process.wait()

    def _answered(self, name: str, arguments: Any) -> tuple[str, Any]:
        body = pickle.dumps((name, arguments), pickle.HIGHEST_PROTOCOL)
        patience = min(self.patience, _IMPATIENCE) if self.late else self.patience
        try:
            if self.process is None:
                self._start()
            end = time.monotonic() + patience
            self._send(LENGTH.pack(len(body)), end)
            self._send(body, end)
            (length,) = LENGTH.unpack(self._receive(LENGTH.size, end))
            answer: tuple[str, Any] = pickle.loads(self._receive(length, end))
        except _Silent as silence:
            why = self._fate(silence, patience)
            self.late |= silence.late
            self.end()
            raise Lost(why) from None
        except BaseException:  # half an answer may be under way
            self.end()
            raise
        self.late = False
        return answer

    def _start(self) -> None:
        theirs, self.telling = os.pipe()
        self.hearing, answering = os.pipe()
        try:
            self.process = subprocess.Popen(
                command(theirs, answering, os.getpid()),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(theirs, answering),
            )
        except OSError as error:
            raise Lost(f"no process for onnxruntime can be started: {error}") from error
        finally:
            os.close(theirs)
            os.close(answering)
        os.set_blocking(self.telling, False)

    def _send(self, data: bytes, end: float) -> None:
        rest = memoryview(data)
        while rest:
            _, ready, _ = select.select([], [self.telling], [], max(end - time.monotonic(), 0.0))
            if not ready:
                raise _Silent(late=True)
            try:
                rest = rest[os.write(self.telling, rest) :]
            except BrokenPipeError:
                raise _Silent(late=False) from None

    def _receive(self, length: int, end: float) -> bytes:
        found = bytearray()
        while len(found) < length:
            ready, _, _ = select.select([self.hearing], [], [], max(end - time.monotonic(), 0.0))
            if not ready:
                raise _Silent(late=True)
            more = os.read(self.hearing, min(length - len(found), 2**20))
            if not more:
                raise _Silent(late=False)
            found += more
        return bytes(found)

    def _fate(self, silence: _Silent, patience: float) -> str:
        if silence.late or self.process is None:
            return f"onnxruntime gives no answer within {patience:g} seconds"
        try:
            code = self.process.wait(_ENDING)
        except subprocess.TimeoutExpired:
            return "onnxruntime's own process has stopped to answer"
        if code >= 0:
            return f"onnxruntime ends its own process, with exit code {code}"
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        return f"onnxruntime crashes: its own process was ended by {name}"


class _Silent(Exception):
    def __init__(self, late: bool) -> None:
        super().__init__()
        self.late = late


@lru_cache(maxsize=64)
def _server_of(process: int, settings: object) -> Server:
    server = Server()
    atexit.register(server.end)
    return server


def server_for(settings: object = None) -> Server:
    """The server of this process for sessions that need a process with these settings."""
    return _server_of(os.getpid(), settings)


def held(values: npt.NDArray[Any]) -> Held:
    """An array as it is sent: onnxruntime's bits may depend on where it lies."""
    near = np.ascontiguousarray(values)
    return near, near.ctypes.data % BOUNDARY


def all_held(inputs: Mapping[str, npt.NDArray[Any]]) -> dict[str, Held]:
    """The arrays as they are sent to the process of the runtime, by name."""
    return {name: held(values) for name, values in inputs.items()}
