"""Plain files, read whole: never a pipe, a device or what lies outside the folder of a model."""

from __future__ import annotations

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path

from onnx_import.errors import ModelError

MOST_TEXT = 2**26  # bytes of a file of text


def open_plain(path: Path) -> BufferedReader:
    """The file, open to be read. Raises OSError, also for what is no plain file: a pipe would be
    waited for and a device might never end."""
    flags = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0)
    handle = os.open(path, flags | getattr(os, "O_BINARY", 0))
    mode = os.fstat(handle).st_mode
    if stat.S_ISREG(mode) and not _pretends(handle):
        return os.fdopen(handle, "rb")
    os.close(handle)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    raise OSError(errno.EINVAL, "it is no plain file", str(path))


def _pretends(handle: int) -> bool:
    """Does it call itself an empty file, and yet have something to say, like a kernel's log?"""
    if os.fstat(handle).st_size:
        return False
    try:
        return bool(os.read(handle, 1))
    except OSError:
        return True


def read_plain(path: Path, most: int | None = None) -> bytes:
    """The bytes of a plain file. Raises OSError, and ModelError where there are more than `most`
    of them."""
    with open_plain(path) as file:
        if most is not None and os.fstat(file.fileno()).st_size > most:
            raise ModelError(f"{path}: the file is larger than {most // 2**20} MiB")
        return file.read() if most is None else file.read(most)


def read_text(path: Path, most: int = MOST_TEXT) -> str:
    """A text file in UTF-8. Raises ModelError, in one sentence, if it cannot be read."""
    try:
        return read_plain(path, most).decode("utf-8")
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:  # no UTF-8, or a path that no system can have
        raise ModelError(f"{path}: not a text file") from error


def is_fpcore(source: Path) -> bool:
    """Is this a file of FPCore, by its name?"""
    return source.suffix.lower() == ".fpcore"


def is_json(source: Path) -> bool:
    """Whether a file starts as a JSON document does, which no ONNX file can."""
    try:
        with open_plain(source) as stream:
            start = stream.read(1024)
    except (OSError, ValueError):
        return False
    return start.removeprefix(b"\xef\xbb\xbf").lstrip(b" \t\r\n")[:1] in (b"{", b"[")


def is_onnx(source: Path) -> bool:
    """Is the file read as ONNX, so that a runtime can be given it as it is?"""
    return not (is_fpcore(source) or is_json(source))


def within(name: str, folder: Path, allowed: tuple[Path, ...], what: str) -> Path:
    """The path of a file that another file names, if it lies in `folder` or where the user allows.

    Links are followed to their end before that is judged. Nothing is opened. Raises ModelError,
    which says how to allow it; `what` names the file for the message.
    """
    path = folder / name
    try:
        real = Path(os.path.realpath(path))
        homes = [Path(os.path.realpath(p)) for p in (folder, *allowed)]
    except (OSError, ValueError) as error:
        raise ModelError(f"{what} '{name}' is no path; correct the file that names it") from error
    if not any(real == home or home in real.parents for home in homes):
        raise ModelError(
            f"{what} '{name}' lies outside '{folder}', the folder of the file that names it, and "
            f"is not opened; give --allow {real.parent} if you trust it"
        )
    return path
