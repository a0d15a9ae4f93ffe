"""TOML from a file that may come from a stranger: read in linear time, or refused in a sentence."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from onnx_import.errors import ModelError
from onnx_import.files import read_text

_MOST_TOML = 2**24  # bytes
_MOST_PARTS = 64  # of a dotted key: each costs the parser as much as all before it


def read_toml(path: Path) -> Mapping[str, Any]:
    """The table in a file. Raises ModelError, naming the file."""
    text = read_text(path, _MOST_TOML)
    for number, line in enumerate(text.split("\n"), 1):
        if line.count(".") > _MOST_PARTS and line.lstrip()[:1] != "#":
            raise ModelError(f"{path}: line {number} has more than {_MOST_PARTS} dots")
    try:
        return tomllib.loads(text)
    except RecursionError as error:
        raise ModelError(f"{path}: not TOML (nested too deeply)") from error
    except ValueError as error:
        raise ModelError(f"{path}: not TOML ({error})") from error
