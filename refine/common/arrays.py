"""Arrays in .npy and .npz files: what they are is read first, their numbers only when asked for.

numpy's own reader follows what a file says of itself, to any size and any type; here a file holds
plain numbers, its header is the one that numpy writes, and as many bytes are read as it states.
"""

from __future__ import annotations

import io
import math
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from onnx_import.errors import ModelError
from onnx_import.files import open_plain
from onnx_import.graph import Array

_MAGIC = b"\x93NUMPY"
_HEADER = re.compile(
    rb"\{\s*['\"]descr['\"]:\s*['\"]([<>=|]?[a-zA-Z][0-9]{1,5})['\"],\s*"
    rb"['\"]fortran_order['\"]:\s*(True|False),\s*"
    rb"['\"]shape['\"]:\s*\(([0-9L, ]*)\),?\s*\}\s*"
)
_LONGEST_HEADER = 10_000
_MOST_DIMENSIONS = 32
_MOST_MEMBERS = 10_000
_DAMAGED = (
    *(ValueError, TypeError, EOFError, KeyError, NotImplementedError, RuntimeError, struct.error),
    *(zipfile.BadZipFile, zlib.error, OverflowError),
)


@dataclass(frozen=True)
class Stored:
    """An array in a file: its type and shape, and its numbers when they are asked for.

    `values` raises ModelError where the file does not hold them.
    """

    dtype: np.dtype[np.generic]
    shape: tuple[int, ...]
    values: Callable[[], Array]


def stored_arrays(path: Path) -> Stored | Mapping[str, Stored]:
    """The array of a .npy file, or those of a .npz file by name.

    Raises ModelError for a file that cannot be read or holds anything but arrays of numbers.
    """
    try:
        with open_plain(path) as file:
            start = file.read(len(_MAGIC))
            file.seek(0)
            if start == _MAGIC:
                return _described(file, lambda: open_plain(path), path)
            with zipfile.ZipFile(file) as archive:
                return _members(archive, path)
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error.strerror or error})") from error
    except _DAMAGED as error:
        raise _no_arrays(path) from error


def _no_arrays(path: Path) -> ModelError:
    return ModelError(
        f"{path} is not a .npy or .npz file of numbers (object arrays are refused), or is damaged"
    )


def _members(archive: zipfile.ZipFile, path: Path) -> Mapping[str, Stored]:
    if len(archive.infolist()) > _MOST_MEMBERS:
        raise ValueError("too many members")
    found: dict[str, Stored] = {}
    for info in archive.infolist():

        def opened(name: str = info.filename) -> IO[bytes]:
            whole = zipfile.ZipFile(open_plain(path))
            return whole.open(name)

        with archive.open(info) as file:
            name = info.filename.removesuffix(".npy")
            if name in found:
                raise ValueError("one name twice")
            found[name] = _described(file, opened, path)
    return found


def _described(file: IO[bytes], opened: Callable[[], IO[bytes]], path: Path) -> Stored:
    """Raises ValueError for what is no header."""
    start = file.read(8)
    if len(start) < 8 or start[:6] != _MAGIC or start[6] not in (1, 2, 3):
        raise ValueError("no array")
    wide = start[6] > 1
    (length,) = struct.unpack("<I" if wide else "<H", file.read(4 if wide else 2))
    if length > _LONGEST_HEADER:
        raise ValueError("a long header")
    match = _HEADER.fullmatch(file.read(length))
    if match is None:
        raise ValueError("a header of another form")
    dims = [d.strip().rstrip(b"L") for d in match[3].split(b",")]
    shape = tuple(int(d) for d in dims if d)
    if b"" in dims[:-1] or len(shape) > _MOST_DIMENSIONS:
        raise ValueError("no shape")
    dtype: np.dtype[np.generic] = np.dtype(match[1].decode("ascii"))
    before = 8 + (4 if wide else 2) + length
    order = "F" if match[2] == b"True" else "C"

    def values() -> Array:
        count = math.prod(shape)
        try:
            with opened() as again:
                if len(again.read(before)) != before:
                    raise ValueError("cut short")
                data = _exactly(again, count * dtype.itemsize)
            return np.frombuffer(data, dtype, count).reshape(shape, order=order)  # type: ignore[call-overload, no-any-return]
        except OSError as error:
            raise ModelError(f"{path} cannot be read ({error.strerror or error})") from error
        except _DAMAGED as error:
            raise _no_arrays(path) from error

    return Stored(dtype, shape, values)


def _exactly(file: IO[bytes], size: int) -> bytes:
    """So many bytes, read piece by piece: a file that only says it has them costs nothing."""
    pieces = io.BytesIO()
    while pieces.tell() < size:
        piece = file.read(min(size - pieces.tell(), 2**20))
        if not piece:
            raise ValueError("cut short")
        pieces.write(piece)
    return pieces.getvalue()
