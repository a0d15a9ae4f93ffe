"""What workers are given to do in tests of pools; they import this module, and so little else."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from threading import Lock

from onnx_import.errors import ModelError


def die_once(grave: Path) -> None:
    """End this process, the first of those that get here."""
    try:
        grave.mkdir()
    except FileExistsError:
        return
    os.kill(os.getpid(), signal.SIGKILL)


def squared(folder: Path, number: int) -> int:
    if number == 3:
        die_once(folder / "grave")
    (folder / f"{number}-{os.getpid()}-{time.monotonic_ns()}").touch()
    return number**2


def dying(folder: Path, number: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return number


def failing(folder: Path, number: int) -> int:
    raise ModelError(f"number {number} is not liked")


class Unread(Exception):
    """An error that is pickled, and cannot be read again: it wants two arguments."""

    def __init__(self, *, node: str, number: int) -> None:
        super().__init__(f"{node} does not like {number}")


def failing_unread(folder: Path, number: int) -> int:
    raise Unread(node="gemm1", number=number)


def failing_unsent(folder: Path, number: int) -> int:
    error = ValueError(f"a lock dislikes {number}")
    error.lock = Lock()  # type: ignore[attr-defined]
    raise error
