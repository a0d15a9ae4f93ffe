"""How far can the network that runs be from the network that was proved?

The public names are those of `refine.api`, imported when they are first used: the command line must
listen to Ctrl-C before numpy, onnx and Z3 are there.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from refine.siblings import require_siblings

if TYPE_CHECKING:
    from refine.api import (
        Conformance,
        Domain,
        DomainOptions,
        Graph,
        ModelError,
        Options,
        Plan,
        Probed,
        Replay,
        Result,
        RuntimeContract,
        Verdict,
        bench,
        bound,
        check,
        check_model,
        conform,
        diff,
        diff_models,
        document_of,
        grad,
        load,
        plan,
        probe,
        replay,
        stable,
        strengthen,
    )

__all__ = [
    "Conformance",
    "Domain",
    "DomainOptions",
    "Graph",
    "ModelError",
    "Options",
    "Plan",
    "Probed",
    "Replay",
    "Result",
    "RuntimeContract",
    "Verdict",
    "bench",
    "bound",
    "check",
    "check_model",
    "conform",
    "diff",
    "diff_models",
    "document_of",
    "grad",
    "load",
    "plan",
    "probe",
    "replay",
    "stable",
    "strengthen",
]
__version__ = "0.1.0"

require_siblings()


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'refine' has no attribute '{name}'")
    return getattr(import_module("refine.api"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
