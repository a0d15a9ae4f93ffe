"""The packages that lie beside `refine`: are they ours? Imports nothing heavy.

They have plain names, and a folder `encoders` in the working directory, or another package of that
name, would be imported in their place.
"""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec

SIBLINGS = ("encoders", "gpu_check", "onnx_import", "checker")
_COMMANDS = ("-m", "refine", "refine.exe", "refine-script.py")


class HiddenPackage(ImportError):
    """Another package has the name of one that refine consists of."""


def require_siblings() -> None:
    """Raises HiddenPackage, in one sentence, where another package hides one of ours.

    The command line looks for itself, and says no more than the sentence: an uncaught exception
    would end it with 1, which is a verdict.
    """
    command = os.path.basename(sys.argv[0]) if getattr(sys, "argv", None) else ""
    if command not in _COMMANDS and (sentence := hidden()):
        raise HiddenPackage(sentence)


def hidden() -> str:
    """Which package is not ours, where it lies and what to do; empty where all are ours."""
    home = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
    for name in SIBLINGS:
        ours = os.path.join(home, name)
        theirs = _folder_of(name)
        if theirs == ours:
            continue
        if not theirs:
            return f"the package '{name}' that belongs to refine is missing; install refine again"
        return (
            f"'{theirs}' hides the package '{name}' that refine consists of and that lies in "
            f"'{ours}'; rename it, or start elsewhere"
        )
    return ""


def _folder_of(name: str) -> str:
    """Where a package is imported from; empty where there is none."""
    module = sys.modules.get(name)
    try:
        spec = module.__spec__ if module is not None else find_spec(name)
    except (ImportError, ValueError):
        return ""
    places = [spec.origin] if spec is not None and spec.origin else []
    if spec is not None and spec.submodule_search_locations and not places:
        return os.path.realpath(next(iter(spec.submodule_search_locations)))
    if not places or places[0] is None:
        return str(getattr(module, "__file__", "") or "")
    place = os.path.realpath(places[0])
    package = os.path.basename(place).startswith("__init__.")
    return os.path.dirname(place) if package else place
