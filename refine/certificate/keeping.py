"""Certificates on disk."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from gpu_check.common.writing import write_whole
from refine.results.verdict import Result


def with_certificate(result: Result, path: Path | None) -> Result:
    """The result with its certificate in this file, if it is of what has one: with what the checker
    goes through where that has a meaning there, and with the record of what was applied. Raises
    OSError where it cannot be written; the file is then as it was."""
    made = result.certification
    if path is None or made is None:
        return result
    from refine.certificate.recorded import with_record  # most answers write none

    content = with_record(made.content, result, made.outside)
    write_whole(path, lambda file: file.write(content))
    return replace(result, certification=replace(made, file=path))
