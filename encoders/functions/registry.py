"""Finds every elementary function by walking this folder: each module there names its own."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from functools import cache

from encoders import functions
from encoders.functions.function import Function


@cache
def every_function() -> Mapping[str, Function]:
    """Every elementary function by its name, in the order of names. Raises RuntimeError if two
    files claim one name."""
    found: dict[str, Function] = {}
    for module in pkgutil.iter_modules(functions.__path__, prefix=f"{functions.__name__}."):
        for function in getattr(importlib.import_module(module.name), "FUNCTIONS", ()):
            if function.name in found:
                raise RuntimeError(f"two files define the function {function.name}")
            found[function.name] = function
    return dict(sorted(found.items()))


def function_named(name: str) -> Function:
    """Raises KeyError where there is none."""
    return every_function()[name]
