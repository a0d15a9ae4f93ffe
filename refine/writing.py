"""Files that are either whole or not there."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any


def require_writable(path: Path) -> None:
    """Raises OSError now for what `write_whole` could not write later. Writes nothing."""
    if path.is_dir():
        raise _failure(errno.EISDIR, path)
    if not path.parent.is_dir():
        raise _failure(errno.ENOTDIR if path.parent.exists() else errno.ENOENT, path.parent)
    target = path if _is_device(path) else path.parent
    if not os.access(target, os.W_OK):
        raise _failure(errno.EACCES, target)


def write_whole(path: Path, write: Callable[[IO[bytes]], Any]) -> None:
    """Write to a temporary file beside `path`, then rename: an interruption leaves nothing.

    A link is followed; a device or a pipe is written to, not replaced. Raises OSError if the
    folder cannot be written.
    """
    if _is_device(path):
        with path.open("wb") as file:
            write(file)
        return
    whole = Path(os.path.realpath(path))
    handle, temporary = tempfile.mkstemp(dir=whole.parent, prefix=f".{whole.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
        os.chmod(temporary, 0o644)
        os.replace(temporary, whole)
    except BaseException:
        os.unlink(temporary)
        raise


def _is_device(path: Path) -> bool:
    return path.exists() and not path.is_file() and not path.is_dir()


def _failure(code: int, path: Path) -> OSError:
    return OSError(code, os.strerror(code), str(path))
