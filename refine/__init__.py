"""The claim and its proof: bounds, lemmas, composition, search, verdicts, reports."""

from onnx_import.errors import ModelError
from refine.api import check_model
from refine.check import Options
from refine.document import document_of
from refine.domain import DomainOptions
from refine.verdict import Result, Verdict

__all__ = [
    "DomainOptions",
    "ModelError",
    "Options",
    "Result",
    "Verdict",
    "check_model",
    "document_of",
]
