"""TorchLean's JSON documents: every field read with its type checked, every error a sentence."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from onnx_import.errors import ModelError, shorten

Reals = npt.NDArray[np.float64]
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Entry:
    """One node of a TorchLean graph: its kind, the ids it reads, and its other fields as written.

    `shape` is None for a tuple.
    """

    id: int
    kind: str
    parents: tuple[int, ...]
    shape: Shape | None
    fields: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The name of its tensor in the graph: `linear_3`."""
        return f"{self.kind}_{self.id}"

    def describe(self) -> str:
        """`node 3 (linear)`, the way every message names a node."""
        return f"node {self.id} ({self.kind})"

    def field(self, name: str) -> Any:
        """A field that must be there. Raises ModelError."""
        if name not in self.fields:
            raise ModelError(
                f"{self.describe()} has no attribute '{name}'; add it, since none is assumed"
            )
        return self.fields[name]

    def integer(self, name: str) -> int:
        """A field that is an integer below 2^31 in size. Raises ModelError otherwise."""
        value = self.field(name)
        if not is_integer(value):
            raise ModelError(
                f"{self.describe()}: attribute '{name}' is not an integer below 2^31; correct it"
            )
        return int(value)

    def integers(self, name: str, count: int | None = None) -> tuple[int, ...]:
        """A list of non-negative integers, of which there must be `count` if that is given."""
        values = naturals(self.field(name), f"{self.describe()}: attribute '{name}'")
        if count is not None and len(values) != count:
            raise ModelError(
                f"{self.describe()}: attribute '{name}' has {len(values)} entries, not {count}; "
                "correct it"
            )
        return values

    def flag(self, name: str) -> bool:
        """A field that is true or false. Raises ModelError otherwise."""
        value = self.field(name)
        if not isinstance(value, bool):
            raise ModelError(f"{self.describe()}: attribute '{name}' is not true or false")
        return value

    def number(self, name: str) -> float:
        return float(reals(self.field(name), f"{self.describe()}: attribute '{name}'", ()))


def read_object(data: bytes, source: Path) -> Mapping[str, Any]:
    """The JSON object in a file's bytes. Raises ModelError if they hold anything else."""
    try:
        document = json.loads(data, object_pairs_hook=_without_repeats)
    except (ValueError, RecursionError) as error:
        raise ModelError(
            f"'{source}' is not valid JSON ({shorten(error)}); export it again"
        ) from error
    if not isinstance(document, dict):
        raise ModelError(f"'{source}' holds no JSON object; export it again")
    return document


def _without_repeats(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        counted = Counter(key for key, _ in pairs)
        twice = next(key for key, count in counted.items() if count > 1)
        raise ValueError(f"the key '{shorten(twice)}' occurs twice")
    return found


def is_integer(value: Any) -> bool:
    """Whether it is an integer of a size that a shape or an attribute can have."""
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**31


def naturals(value: Any, place: str) -> tuple[int, ...]:
    """A list of integers from 0 on. Raises ModelError, naming the place."""
    if not isinstance(value, list) or not all(is_integer(v) and v >= 0 for v in value):
        raise ModelError(f"{place} is not a list of integers from 0 to 2^31; correct it")
    return tuple(value)


def shape_of(value: Any, place: str) -> Shape:
    """A shape without empty dimensions. Raises ModelError, naming the place."""
    shape = naturals(value, place)
    if 0 in shape:
        raise ModelError(f"{place} has a dimension 0, so it holds no numbers; correct it")
    return shape


def reals(value: Any, place: str, shape: Shape | None = None) -> Reals:
    """Decimal numbers in nested lists as float64. Raises ModelError if they do not fit `shape`."""
    if not _only_numbers(value):
        raise ModelError(f"{place} holds something other than numbers; export the weights again")
    try:
        numbers = np.array(value, dtype=np.float64)
    except (ValueError, OverflowError) as error:
        raise ModelError(
            f"{place} is not an array of numbers ({shorten(error)}); export the weights again"
        ) from error
    if shape is not None and numbers.shape != shape:
        raise ModelError(
            f"{place} has the shape {list(numbers.shape)}, not {list(shape)}; "
            "export the weights again"
        )
    return numbers


def _only_numbers(value: Any) -> bool:
    if isinstance(value, list):
        return all(map(_only_numbers, value))
    return isinstance(value, (int, float)) and not isinstance(value, bool)
