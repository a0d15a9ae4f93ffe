"""A list of instances as VNN-COMP has them: a model, a property and seconds in each row."""

from __future__ import annotations

import csv
import gzip
import io
import math
import re
import zlib
from dataclasses import dataclass
from pathlib import Path

from onnx_import.errors import ModelError, shorten
from onnx_import.files import read_plain, read_text

_MOST_ROWS = 100_000
_MOST_UNPACKED = 2**32  # bytes of a model
_ZIPPED = ".gz"
_MAGIC = b"\x1f\x8b"


@dataclass(frozen=True)
class Instance:
    """A row: both paths as they are written, beside `folder`, and the seconds that it may take.

    `wrong` says what is wrong with the row itself, where something is.
    """

    folder: Path
    model: str
    vnnlib: str
    seconds: float
    wrong: str = ""

    @property
    def name(self) -> str:
        """Both files, without folders and endings."""
        return f"{_stem(self.model)} {_stem(self.vnnlib)}".strip()

    @property
    def model_file(self) -> Path:
        """Where the model is; packed, where only that file is there."""
        return _there(self.folder / self.model)

    @property
    def vnnlib_file(self) -> Path:
        """Where the property is; packed, where only that file is there."""
        return _there(self.folder / self.vnnlib)


def read_instances(path: Path, seconds: float | None = None) -> tuple[Instance, ...]:
    """The rows of a list; `seconds` in place of those that it states.

    A first row of words over the columns is passed over; one that is not as it should be says so
    itself. Raises ModelError for what is no list, or an
    empty one.
    """
    try:
        rows = list(csv.reader(io.StringIO(read_text(path)), skipinitialspace=True))
    except csv.Error as error:
        raise ModelError(f"{path}: not a list of instances ({error})") from error
    numbered = [(n, [cell.strip() for cell in row]) for n, row in enumerate(rows, 1) if any(row)]
    if not numbered:
        raise ModelError(f"{path}: holds no instances; a row is MODEL,PROPERTY,SECONDS")
    if len(numbered) > _MOST_ROWS:
        raise ModelError(f"{path}: holds more than {_MOST_ROWS} instances")
    if _is_header(path.parent, numbered[0][1]) and len(numbered) > 1:
        numbered = numbered[1:]
    return tuple(_instance(path.parent, row, n, seconds) for n, row in numbered)


def _is_header(folder: Path, row: list[str]) -> bool:
    """Words over the columns, such as `onnx,vnnlib,timeout`: no numbers, and no files."""
    plain = all(re.fullmatch(r"[A-Za-z][\w ()]*", cell) for cell in row)
    return plain and not any(_there(folder / cell).exists() for cell in row)


def unpacked(path: Path, into: Path) -> Path:
    """A model that can be read: the file itself, or what is packed in it, in a file of `into`.

    Raises ModelError where that fails or is too large.
    """
    if path.suffix != _ZIPPED:
        return path
    try:
        data = read_plain(path)
        if data.startswith(_MAGIC):
            with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
                data = file.read(_MOST_UNPACKED + 1)
        if len(data) > _MOST_UNPACKED:
            raise ModelError(f"'{path}' unpacks to more than {_MOST_UNPACKED // 2**30} GiB")
        plain = into / path.with_suffix("").name
        plain.write_bytes(data)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        why = getattr(error, "strerror", None) or shorten(error)
        raise ModelError(f"'{path}' cannot be unpacked: {why}") from error
    return plain


def _instance(folder: Path, row: list[str], number: int, seconds: float | None) -> Instance:
    columns = 3 if seconds is None else 2
    model, vnnlib, stated = [*row, "", "", ""][:3]
    wrong = ""
    if not columns <= len(row) <= 3 or not model or not vnnlib:
        wrong = f"line {number} is not MODEL,PROPERTY,SECONDS"
    limit = seconds
    if limit is None:
        limit = _number(stated)
        if not 0 < limit < math.inf and not wrong:
            wrong = f"line {number} has no positive number of seconds, but '{shorten(stated)}'"
    return Instance(folder, model, vnnlib, 0.0 if wrong else limit, wrong)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _stem(text: str) -> str:
    return Path(text.removesuffix(_ZIPPED)).stem


def _there(path: Path) -> Path:
    packed = path.with_name(path.name + _ZIPPED) if path.name else path
    return packed if not path.exists() and packed.exists() else path
