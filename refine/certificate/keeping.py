"""Certificates on disk."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from gpu_check.common.writing import write_whole
from refine.results.verdict import Result


def with_certificate(result: Result, path: Path | None) -> Result:
    """The result with its certificate in this file, if it has one. Raises OSError where that cannot
    be written; the file is then as it was."""
    made = result.certification
    if path is None or made is None or made.content is None:
        return result
    content = made.content
    write_whole(path, lambda file: file.write(content))
    return replace(result, certification=replace(made, file=path))
