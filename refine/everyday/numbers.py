"""Numbers that some device gave: arrays by tensor, from .npz files and from Polygraphy's JSON.

Polygraphy (`polygraphy run --save-outputs FILE.json`, `--save-inputs`) writes the runs of each
runner, {"lst": [[runner, [{"outputs": {NAME: array}}, …]]]}, or a list of inputs by name; an array
is {"array": base64 of an .npy file}, perhaps within {"values": …}.
"""

from __future__ import annotations

import base64
import binascii
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from onnx_import.errors import ModelError
from onnx_import.files import open_plain
from onnx_import.graph import Array, Graph
from refine.claims.many.points import lasting
from refine.common.arrays import Stored, stored_arrays
from refine.everyday.points import numbers_of

_LARGEST = 2**31  # bytes of a JSON file


def device_numbers(path: Path) -> dict[str, Array]:
    """Arrays by name, '' of one that has none.

    Raises ModelError for a file that cannot be read or holds no arrays of numbers.
    """
    if path.suffix == ".json":
        return _polygraphy(path)
    stored = stored_arrays(path)
    held = {"": stored} if isinstance(stored, Stored) else dict(stored)
    return {name: array.values() for name, array in held.items()}


def taken_for_output(
    arrays: Mapping[str, Array], outputs: tuple[str, ...]
) -> tuple[Mapping[str, Array], str]:
    """One array alone, whatever its name, as that of the only output; what there is to say of it,
    if it has another name."""
    if len(arrays) != 1 or len(outputs) != 1 or outputs[0] in arrays:
        return arrays, ""
    ((name, array),) = arrays.items()
    said = f"array '{name}' is taken for the only output, '{outputs[0]}'" if name else ""
    return {outputs[0]: array}, said


def runners_of(path: Path) -> dict[str, list[Mapping[str, Array]]]:
    """What Polygraphy saved: by runner, arrays by name for each iteration. Inputs are those of one
    runner without a name.

    Raises ModelError for a file that cannot be read or holds no arrays of numbers.
    """
    try:
        with open_plain(path) as file:
            document = json.loads(file.read(_LARGEST))
        found: dict[str, list[Mapping[str, Array]]] = {
            name: [{k: _array(v) for k, v in run.items()} for run in runs]
            for name, runs in _runners(document)
        }
        if not found or not all(found.values()):
            raise ValueError("no runs")
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error.strerror or error})") from error
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, binascii.Error) as error:
        raise ModelError(
            f"{path} holds no arrays as `polygraphy run --save-outputs` writes them"
        ) from error
    return found


def _polygraphy(path: Path) -> dict[str, Array]:
    """Of several runners, those of the first, iterations along an axis in front."""
    runs = next(iter(runners_of(path).values()))
    if any(run.keys() != runs[0].keys() for run in runs):
        raise ModelError(f"{path}: not every iteration has the same arrays")
    arrays = {name: [run[name] for run in runs] for name in runs[0]}
    if any(len({a.shape for a in each}) != 1 for each in arrays.values()):
        raise ModelError(f"{path}: iterations hold arrays of several shapes")
    return {name: a[0] if len(a) == 1 else np.stack(a) for name, a in arrays.items()}


def _runners(document: Any) -> list[tuple[str, list[Mapping[str, Any]]]]:
    if isinstance(document, dict):
        return [(str(name), [one["outputs"] for one in runs]) for name, runs in document["lst"]]
    kept: list[Mapping[str, Any]] = [
        {k: v for k, v in one.items() if isinstance(v, dict)} for one in document
    ]
    return [("", kept)]


def _array(value: Mapping[str, Any]) -> Array:
    held = value.get("values", value)
    data = base64.b64decode(held["array"].encode(), validate=True)
    array = np.load(io.BytesIO(data), allow_pickle=False)
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiub":
        raise ValueError("no numbers")
    return array


def fitting(
    arrays: Mapping[str, Array], graph: Graph, points: int, source: str
) -> dict[str, Array]:
    """By tensor of the graph, arrays (points, *shape); others are left out.

    Raises ModelError for one of the graph's tensors that has another shape or holds no numbers.
    """
    found = {}
    for name, given in arrays.items():
        kind = graph.types.get(name)
        if kind is None or graph.is_constant(name):
            continue
        array = numbers_of(given, f"{source}: '{name}'")
        if not _is_batch(array.shape, kind.shape, points):
            raise ModelError(
                f"{source}: '{name}' has shape {list(array.shape)}; expected {list(kind.shape)}"
                + (f" for each of {points} points" if points > 1 else "")
            )
        found[name] = array.reshape(points, *kind.shape)
    return found


def _is_batch(found: tuple[int, ...], shape: tuple[int, ...], points: int) -> bool:
    """Are these so many arrays of a shape: along an axis of their own, or along its first?"""
    joined = (points * shape[0], *shape[1:]) if shape else (points,)
    return lasting(found) in (lasting((points, *shape)), lasting(joined))
