"""The claim and its proof: bounds, lemmas, composition, search, verdicts, reports.

Names are imported when they are first used: the command line must listen to Ctrl-C before numpy,
onnx and Z3 are there.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onnx_import.errors import ModelError
    from refine.api import check_model
    from refine.claims.options import Options
    from refine.domain.domain import DomainOptions
    from refine.results.document import document_of
    from refine.results.verdict import Result, Verdict

__all__ = [
    "DomainOptions",
    "ModelError",
    "Options",
    "Result",
    "Verdict",
    "check_model",
    "document_of",
]
_HOMES = {
    "DomainOptions": "refine.domain.domain",
    "ModelError": "onnx_import.errors",
    "Options": "refine.claims.options",
    "Result": "refine.results.verdict",
    "Verdict": "refine.results.verdict",
    "check_model": "refine.api",
    "document_of": "refine.results.document",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'refine' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)
