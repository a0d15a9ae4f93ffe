"""Weights beside a TorchLean graph: a state dict in decimals, or lists of exact bits."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from onnx_import.errors import ModelError, UnsupportedModel
from onnx_import.files import within
from onnx_import.onnx.proto import read_bytes
from onnx_import.torchlean.documents import Reals, Shape, read_object, reals, shape_of

FLOAT64_BITS = "torchlean_paramlist_bits_v1"
FLOAT32_BITS = "uint32-bits-as-decimal-strings"
_SUFFIXES = (".weights.json", ".params.json", ".parambits.json")


@dataclass(frozen=True)
class Weights:
    """Tensors by name in the order of the file, held exactly.

    `named` is false where the file gives an order only. `flat` says that the shapes are not
    known, so that a tensor takes the shape that its reader asks for. `exact` says that they came
    as bits, not in decimals.
    """

    tensors: Mapping[str, Reals]
    named: bool
    flat: bool
    exact: bool
    notes: tuple[str, ...] = ()

    @property
    def needs_float64(self) -> bool:
        """Whether exact bits hold a number that is no float32 number."""
        with np.errstate(over="ignore", under="ignore"):
            return self.exact and any(
                not np.array_equal(t.astype(np.float32).astype(np.float64), t, equal_nan=True)
                for t in self.tensors.values()
            )


NONE = Weights({}, named=True, flat=False, exact=False)


def weights_beside(source: Path, graph: Mapping[str, Any]) -> Weights:
    """The weights in the graph's own `params`, or in a file beside it, or none.

    Raises ModelError or UnsupportedModel for a document that cannot be read.
    """
    if "params" in graph:
        return weights_of(graph, source)
    for suffix in _SUFFIXES:
        file = source.with_suffix(suffix)
        if file != source and file.is_file():
            data = read_bytes(within(file.name, file.parent, (), "the weights file"))
            found = weights_of(read_object(data, file), file)
            digest = hashlib.sha256(data).hexdigest()
            note = f"weights are also read from '{file.name}' (sha256 {digest})"
            return Weights(found.tensors, found.named, found.flat, found.exact, (note,))
    return NONE


def weights_of(document: Mapping[str, Any], source: Path) -> Weights:
    """The weights in one of the three encodings. Raises ModelError or UnsupportedModel."""
    tag = document.get("format")
    params = document.get("params")
    if tag == FLOAT64_BITS:
        return Weights(_float64_lists(params, source), named=False, flat=False, exact=True)
    if tag == FLOAT32_BITS:
        given = document if params is None else params
        return Weights(_float32_texts(given, source), named=True, flat=True, exact=True)
    if tag not in (None, "torchlean.ir.v1"):
        raise UnsupportedModel(
            f"'{source}' has the weight format '{tag}', which is not supported; "
            f"use a state dict, '{FLOAT64_BITS}' or '{FLOAT32_BITS}'"
        )
    if not isinstance(params, dict):
        raise ModelError(f"'{source}' has no object 'params' of named weights; export them again")
    named = {name: reals(v, f"weight '{name}' of '{source}'") for name, v in params.items()}
    return Weights(named, named=True, flat=False, exact=False)


def _float64_lists(params: Any, source: Path) -> Mapping[str, Reals]:
    """Tensors as their shape and the bits of their float64 numbers."""
    if not isinstance(params, list):
        raise ModelError(f"'{source}' has no list 'params' of weights; export them again")
    found: dict[str, Reals] = {}
    for position, item in enumerate(params):
        place = f"weight {position} of '{source}'"
        if not isinstance(item, dict) or not {"shape", "values"} <= item.keys():
            raise ModelError(f"{place} has no 'shape' and 'values'; export the weights again")
        shape = shape_of(item["shape"], f"the shape of {place}")
        bits = _bits(item["values"], 64, place)
        found[str(position)] = shaped(bits.astype(np.uint64).view(np.float64), shape, place)
    return found


def _float32_texts(params: Any, source: Path) -> Mapping[str, Reals]:
    """Flat lists of the bits of float32 numbers in decimal text, by name; the rest is ignored."""
    if not isinstance(params, dict):
        raise ModelError(f"'{source}' has no object of named weights; export them again")
    return {
        name: _bits(v, 32, f"weight '{name}' of '{source}'")
        .astype(np.uint32)
        .view(np.float32)
        .astype(np.float64)
        for name, v in params.items()
        if isinstance(v, list)
    }


def _bits(values: Any, width: int, place: str) -> Any:
    """Unsigned integers, as JSON numbers or as decimal text. Raises ModelError for others."""
    numbers = [_unsigned(v) for v in values] if isinstance(values, list) else [-1]
    if any(not 0 <= n < 2**width for n in numbers):
        raise ModelError(
            f"{place} is not a flat list of the bits of float{width} numbers; "
            "export the weights again"
        )
    return np.array(numbers, dtype=np.uint64)


def _unsigned(value: Any) -> int:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 20:
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else -1


def shaped(values: Reals, shape: Shape, place: str) -> Reals:
    """Row-major values in a shape. Raises ModelError if their number does not fit."""
    if values.size != int(np.prod(shape)):
        raise ModelError(
            f"{place} holds {values.size} numbers, which do not fill the shape {list(shape)}; "
            "export the weights again"
        )
    return values.reshape(shape)
