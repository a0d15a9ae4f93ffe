"""Where the process starts: guards first, everything else after.

Nothing heavy is imported before the guards stand, so that Ctrl-C, a lack of memory, a closed output
and a broken installation end in an exit code that says so. Python's own exit code for an uncaught
exception, 1, means `violated` here: it comes from a verdict alone.
"""

from __future__ import annotations

import os
import signal
import sys
import warnings
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

from refine.siblings import hidden

if TYPE_CHECKING:
    from refine.process.supervision import Watcher

_INPUT_ERROR = 2
_INTERNAL_ERROR = 70
_INTERRUPTED = 130
_NO_MEMORY = b"refine: internal error: out of memory\n"
_STOPPED = b"refine: interrupted\n"
_LOST = b"refine: internal error, and no more could be said about it\n"


def main() -> NoReturn:
    """Run a command and leave with its exit code. A bug never looks like a verdict."""
    code = _INTERNAL_ERROR
    try:
        _listen()
        _open_streams()
        if sentence := hidden():
            _say(f"refine: {sentence}\n".encode("utf-8", "backslashreplace"))
            code = _INPUT_ERROR
        else:
            _silence_warnings()
            code = _watched()
    except MemoryError:
        _say(_NO_MEMORY)
    except KeyboardInterrupt:
        code = _INTERRUPTED
        _say(_STOPPED)
    except BaseException as error:
        _report(error)
    finally:
        _flush()
        os._exit(code)


def _watched() -> int:
    from refine.process.supervision import places, process_start, supervised

    return supervised(_run, places(sys.argv[1:], process_start()))


def _run(watcher: Watcher | None) -> int:
    from refine.cli.main import guarded

    return guarded(watcher).value


def _listen() -> None:
    """Ctrl-C before anybody else listens: one line, no traceback."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # as with nohup
        signal.signal(signal.SIGINT, _interrupted)


def _interrupted(number: int, frame: FrameType | None) -> NoReturn:
    _say(_STOPPED)
    os._exit(_INTERRUPTED)


def _open_streams() -> None:
    """Standard streams that are closed become ones that refuse what is written, so that no file
    opened later takes their place; what they cannot encode is escaped."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            nowhere = os.open(os.devnull, os.O_RDONLY)
            if nowhere != number:
                os.dup2(nowhere, number)
                os.close(nowhere)
            mode = "w" if number else "r"
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8", closefd=False))
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def _silence_warnings() -> None:
    """What libraries warn of is no part of an answer, here and in processes that are started,
    unless someone asked for it."""
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
        os.environ["PYTHONWARNINGS"] = "ignore"


def _report(error: BaseException) -> None:
    """What a broken installation says of itself, in one line."""
    try:
        text = ascii(f"{type(error).__name__}: {error}")[1:-1]
        _say(f"refine: internal error, please report it: {text}\n".encode())
    except BaseException:
        _say(_LOST)


def _say(line: bytes) -> None:
    try:
        os.write(2, line)
    except OSError:
        return


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BaseException:
            continue
