"""Finds every elementary function by walking this folder: each module there names its own."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from encoders import functions
from encoders.collecting import collected
from encoders.functions.function import Function


@cache
def every_function() -> Mapping[str, Function]:
    """Every elementary function by its name, in the order of names. Raises RuntimeError if two
    files claim one name."""
    every = collected(functions, "FUNCTIONS", Function, helpers=True)
    return dict(sorted((function.name, function) for function in every))


def function_named(name: str) -> Function:
    """Raises KeyError where there is none."""
    return every_function()[name]
