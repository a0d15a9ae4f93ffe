"""Files that are either whole or not there, and never somewhere else.

Every file that is kept is written here. Nothing is written through a link, nor to a pipe, a device
or anything else that is no plain file: what stands there may come from a stranger.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

_MODE = 0o666  # before the user's mask
_KINDS = (
    (stat.S_ISLNK, "a link"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
)


class NoPlainFile(OSError):
    """What stands at a path is neither a plain file nor a folder, so nothing is written there."""


def require_writable(path: Path) -> None:
    """Raises OSError now for what `write_whole` could not write later. Writes nothing."""
    _require_plain(path)
    if path.is_dir():
        raise _failure(errno.EISDIR, path)
    if not path.parent.is_dir():
        raise _failure(errno.ENOTDIR if path.parent.exists() else errno.ENOENT, path.parent)
    if not os.access(path.parent, os.W_OK):
        raise _failure(errno.EACCES, path.parent)


def append_text(path: Path, text: str) -> None:
    """Add text to the end of a file, which is made where there is none. Raises OSError, NoPlainFile
    for a link, a pipe or a device."""
    _require_plain(path)
    flags = os.O_CREAT | os.O_APPEND | os.O_WRONLY | getattr(os, "O_NOFOLLOW", 0)
    with os.fdopen(os.open(path, flags, _MODE), "ab") as file:
        file.write(text.encode("utf-8", "backslashreplace"))


def write_whole(path: Path, write: Callable[[IO[bytes]], Any]) -> None:
    """Write a file that has no name, or a temporary one beside `path`, then give it its name: an
    interruption leaves nothing.

    Raises NoPlainFile for a link, a pipe or a device at `path`, OSError if the folder cannot be
    written.
    """
    _require_plain(path)
    if path.is_dir():
        raise _failure(errno.EISDIR, path)
    temporary = path.with_name(f".refine-{secrets.token_hex(8)}.tmp")
    try:
        if not _nameless(temporary, write):
            flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_NOFOLLOW", 0)
            with os.fdopen(os.open(temporary, flags, _MODE), "wb") as file:
                write(file)
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise


def write_text(path: Path, text: str) -> None:
    """A text in UTF-8, as `write_whole` writes."""
    write_whole(path, lambda file: file.write(text.encode()))


def _nameless(target: Path, write: Callable[[IO[bytes]], Any]) -> bool:
    """Write a file without a name and then name it, where the system and the folder can."""
    if not hasattr(os, "O_TMPFILE") or not os.path.isdir("/proc/self/fd"):
        return False
    try:
        handle = os.open(target.parent, os.O_TMPFILE | os.O_WRONLY, _MODE)
    except OSError:
        return False
    with os.fdopen(handle, "wb") as file:
        write(file)
        file.flush()
        try:
            os.link(f"/proc/self/fd/{handle}", target, follow_symlinks=True)
        except OSError:
            return False
    return True


def _require_plain(path: Path) -> None:
    try:
        mode = os.lstat(path).st_mode
    except OSError:
        return
    for is_kind, what in _KINDS:
        if is_kind(mode):
            raise NoPlainFile(errno.EINVAL, f"is {what}, and only plain files are written", path)


def _failure(code: int, path: Path) -> OSError:
    return OSError(code, os.strerror(code), str(path))
