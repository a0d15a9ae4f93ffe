"""Result documents that were saved, whoever wrote them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from onnx_import.errors import ModelError
from onnx_import.files import read_text
from refine.common.visible import visible
from refine.results.document import SCHEMA
from refine.results.page.writing import page_of


def read_document(path: Path) -> dict[str, Any]:
    """The document in this file; of its keys only the schema has been looked at.

    Raises ModelError, in one sentence, for a file that holds no result.
    """
    try:
        document = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{visible(str(path))}: not a JSON file") from error
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        raise ModelError(
            f"{visible(str(path))}: not the result of a check; give a file that --json wrote "
            f"(schema {SCHEMA})"
        )
    return document


def page_of_file(path: Path) -> str:
    """The page of a saved document. Raises ModelError where it is no result of this version."""
    document = read_document(path)
    try:
        return page_of(document)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, RecursionError) as error:
        raise ModelError(
            f"{visible(str(path))}: no whole result document; give a file that --json of this "
            "version wrote"
        ) from error
