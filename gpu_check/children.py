"""Processes that do not outlive the one that started them. Imports nothing heavy."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


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
