"""Ctrl-C that always arrives.

An exception raised by a signal handler is lost where it meets a destructor, and changes its type
where it meets a conversion for a C function; building terms for Z3 consists of little else.
"""

from __future__ import annotations

import signal
import sys
import threading
from types import FrameType, TracebackType
from typing import Any

_AGAIN = 0.5  # seconds


class Interruption:
    """While entered, Ctrl-C raises KeyboardInterrupt, again and again until this is left.

    `pressed` says whether it was: any exception may then be the interruption in disguise.
    """

    def __init__(self) -> None:
        self.pressed = False
        self._entered = False

    def __enter__(self) -> Interruption:
        listening = signal.getsignal(signal.SIGINT) is not signal.SIG_IGN  # as with nohup
        if listening and threading.current_thread() is threading.main_thread():
            self._entered = True
            signal.signal(signal.SIGINT, self._interrupt)
            if hasattr(signal, "SIGALRM"):
                signal.signal(signal.SIGALRM, self._interrupt)
            sys.unraisablehook = self._lost
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not self._entered:
            return
        if hasattr(signal, "SIGALRM"):
            signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGINT, signal.SIG_IGN if self.pressed else signal.default_int_handler)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        self.pressed = True
        if hasattr(signal, "SIGALRM"):
            signal.setitimer(signal.ITIMER_REAL, _AGAIN)
        raise KeyboardInterrupt

    def _lost(self, event: Any) -> None:
        """An exception in a destructor: expected once Ctrl-C was pressed, worth a word before."""
        if not self.pressed:
            sys.__unraisablehook__(event)
