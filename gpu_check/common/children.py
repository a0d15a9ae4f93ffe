"""Processes that do not outlive the one that started them. Imports nothing heavy."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import NoReturn

_PR_SET_PDEATHSIG = 1
_DEAF = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGTSTP)
_REMOVING = 1.0  # seconds in which processes that were just killed stop writing


def die_with_parent(parent: int) -> None:
    """Have the kernel end this process when the one with this id ends; on Linux only."""
    if not sys.platform.startswith("linux"):
        return
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    except (OSError, AttributeError):
        return
    if os.getppid() != parent:  # it ended before the kernel was told
        os._exit(1)


def start_worker(parent: int) -> None:
    """What a worker process does first: Ctrl-C is its parent's affair, and so is its end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with_parent(parent)


@dataclass(frozen=True)
class Scratch:
    """A folder, this user's alone, for the temporary files of a process and of all that it starts,
    compilers included. It need not be there."""

    path: str

    @classmethod
    def named(cls) -> Scratch:
        """A new name; nothing is made yet."""
        return cls(os.path.join(os.environ.get("TMPDIR", "/tmp"), f"refine-{os.urandom(8).hex()}"))

    def use(self) -> None:
        """Make it and tell the environment; where there is no place for it, things stay."""
        with suppress(OSError):
            os.mkdir(self.path, 0o700)
            os.environ["TMPDIR"] = self.path

    def remove(self) -> None:
        """Remove the folder and what is in it, for a while again where something is still written
        there."""
        with suppress(OSError):
            os.rmdir(self.path)
        end = time.monotonic() + _REMOVING
        while os.path.lexists(self.path) and time.monotonic() < end:
            import shutil  # seldom needed, and slower to import than all else here

            shutil.rmtree(self.path, ignore_errors=True)
            time.sleep(0.01)


@dataclass(frozen=True)
class Sweeper:
    """A process that ends a group of processes, and removes their scratch, once the process that
    started the sweeper is gone.

    The kernel ends a child with its parent where the child asks for that, but not the children of
    children, such as those that a compiler starts: these are found by their group. A sweeper has a
    session of its own, so that what ends its parent does not end it.
    """

    process: int
    telling: int

    @classmethod
    def started(cls, scratch: Scratch) -> Sweeper:
        """Raises OSError where the system gives no more processes."""
        hearing, telling = os.pipe()
        process = os.fork()
        if process == 0:
            os.close(telling)
            _sweep(hearing, scratch)
        os.close(hearing)
        return cls(process, telling)

    def watch(self, group: int) -> None:
        """This is the group to end."""
        with suppress(OSError):
            os.write(self.telling, b"%d\n" % group)

    def dismiss(self) -> None:
        """There is nothing to sweep any more."""
        with suppress(OSError):
            os.write(self.telling, b"d")
        with suppress(OSError):
            os.waitpid(self.process, 0)


def _sweep(hearing: int, scratch: Scratch) -> NoReturn:
    try:
        os.setsid()
        for number in _DEAF:
            signal.signal(number, signal.SIG_IGN)
        said = b""
        while more := os.read(hearing, 64):
            said += more
            if said.endswith(b"d"):
                os._exit(0)
        with suppress(OSError, ValueError):  # the other end is closed: nobody is left to say it
            os.killpg(int(said), signal.SIGKILL)
        scratch.remove()
    finally:
        os._exit(0)
