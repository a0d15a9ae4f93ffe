"""Where results are written, and whether they can be, before any work is done."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from gpu_check.common.writing import NoPlainFile, require_writable
from onnx_import.errors import ModelError


def require_places(
    json_path: str | None,
    counterexample: Path | None,
    smt2: Path | None,
    certificate: Path | None = None,
    report: Path | None = None,
) -> None:
    """Raises OSError before any work is done if a result could not be written where asked.

    A link or a device there is said only beside the answer, which comes out all the same.
    """
    with suppress(NoPlainFile):
        if json_path is not None and json_path != "-":
            require_writable(Path(json_path))
    with suppress(NoPlainFile):
        if report is not None:
            require_writable(report)
    with suppress(NoPlainFile):
        if counterexample is not None:
            require_writable(as_json(counterexample))
    if certificate is not None:
        require_writable(certificate)
    if smt2 is not None and smt2.exists() and not smt2.is_dir():
        raise ModelError(f"--dump-smt2 needs a folder, and {smt2} is a file")


def as_json(path: Path) -> Path:
    """Where a counterexample goes: a file that ends in .json. Raises ModelError for a folder."""
    if path.name in ("", ".."):
        raise ModelError(f"--counterexample needs a file, and {path} is a folder")
    return path if path.suffix == ".json" else path.with_name(path.name + ".json")
