"""A perturbed network on disk: an ONNX file with its weights in binary64, and beside it what makes
them exact, since few of these rational numbers are binary64 numbers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import flint
import numpy as np

from encoders.arithmetic.exact_fields import ObjectArray, Rationals, fraction
from gpu_check.common.writing import require_writable, write_text, write_whole
from onnx_import.errors import ModelError
from onnx_import.graph import Array, DType, Graph
from onnx_import.onnx.writer import model_of
from refine.perturbed.bound import BackwardBound
from refine.perturbed.witness import (
    Layer,
    OutsideBound,
    Witness,
    exact_outputs,
    perturbed_constants,
    places_of,
)
from refine.results.document import strict_json

SCHEMA = "refine-perturbed-1"
_SIGNS = "-0+"


def exact_beside(path: Path) -> Path:
    """Where the exact numbers of a perturbed network stand."""
    return path.with_suffix(".exact.json")


def require_places(path: Path) -> None:
    """Raises OSError now for what could not be written later."""
    require_writable(path)
    require_writable(exact_beside(path))


def write_perturbed(
    found: BackwardBound,
    witness: Witness,
    ran: Mapping[str, Array],
    path: Path,
    *,
    runtime: str,
) -> None:
    """Writes both files of the first sample, once its claim has been checked on explicit rational
    weights; neither, if one cannot be written.

    Raises OutsideBound if the claim does not hold, OSError where a file cannot be written.
    """
    constants = checked_constants(found, witness, ran, 0)
    model = model_of(_in_binary64(found.graph, constants), "perturbed").SerializeToString()
    beside = exact_beside(path)
    text = strict_json(_document(found, witness, ran, model=model, path=path, runtime=runtime))
    existed = beside.exists()
    write_text(beside, text)
    try:
        write_whole(path, lambda file: file.write(model))
    except BaseException:
        if not existed:
            with suppress(OSError):
                beside.unlink()
        raise


def checked_constants(
    found: BackwardBound, witness: Witness, ran: Mapping[str, Array], sample: int
) -> dict[str, ObjectArray]:
    """The weights of one sample, as rational numbers, if they are within the bound and the exact
    output with them is the bits that ran. Raises OutsideBound if not."""
    constants = perturbed_constants(found, witness, sample)
    for moved in found.moved:
        if moved.tensor not in constants:
            continue
        bound = Fraction(moved.relative.largest)
        more = np.zeros(1) if moved.besides is None else moved.besides.bound.reshape(-1)
        stored = np.asarray(found.graph.constants[moved.tensor], np.float64).ravel()
        most = np.broadcast_to(more, stored.shape) if more.size == 1 else more
        new = constants[moved.tensor].ravel().tolist()
        for w, turned, besides in zip(stored.tolist(), new, most.tolist(), strict=True):
            old = Fraction(w)
            if abs(fraction(turned) - old) > bound * abs(old) + Fraction(besides):
                raise OutsideBound(f"a weight of '{moved.tensor}' is moved farther than its bound")
    inputs = {t: np.asarray(ran[t])[sample] for t in found.graph.inputs}
    for tensor, exact in exact_outputs(found, witness, constants, inputs, sample).items():
        bits = np.asarray(ran[tensor], np.float64)[sample].ravel().tolist()
        left = found.mixed.get(tensor)
        most_left = Fraction(0) if left is None else Fraction(left.largest)
        for value, bit in zip(exact.ravel().tolist(), bits, strict=True):
            if abs(fraction(value) - Fraction(bit)) > most_left:
                raise OutsideBound(f"the exact output '{tensor}' is not the bits that ran")
    return constants


def _in_binary64(graph: Graph, constants: Mapping[str, ObjectArray]) -> Graph:
    """The graph with these weights, each rounded to binary64, in which it computes."""
    types = {
        t: replace(kind, dtype=DType.FLOAT64) if kind.dtype.is_float else kind
        for t, kind in graph.types.items()
    }
    held: dict[str, Array] = {}
    for tensor, stored in graph.constants.items():
        if tensor in constants:
            exact = constants[tensor]
            near = [float(fraction(v)) for v in exact.ravel().tolist()]
            held[tensor] = np.array(near, np.float64).reshape(exact.shape)
        else:
            is_float = graph.types[tensor].dtype.is_float
            held[tensor] = np.asarray(stored, np.float64) if is_float else stored
    return replace(graph, types=types, constants=held)


def _document(
    found: BackwardBound,
    witness: Witness,
    ran: Mapping[str, Array],
    *,
    model: bytes,
    path: Path,
    runtime: str,
) -> dict[str, Any]:
    graph = found.graph
    return {
        "schema": SCHEMA,
        "model": {"path": str(graph.source), "sha256": graph.sha256},
        "perturbed": {"path": path.name, "sha256": hashlib.sha256(model).hexdigest()},
        "runtime": runtime,
        "inputs": {t: _hexadecimal(ran[t]) for t in graph.inputs},
        "outputs": {t: _hexadecimal(ran[t]) for t in graph.outputs},
        "layers": [
            {
                "node": layer.node,
                "weights": layer.weights,
                "bias": layer.bias,
                "signs": "".join(_SIGNS[int(s) + 1] for s in layer.signs[0]),
                "omega": _texts(layer.omega[0]),
                "of_bias": _texts(layer.of_bias[0]),
                "beside": _texts(layer.beside[0]),
                "ratios": None if layer.ratios is None else _texts(layer.ratios[0]),
            }
            for layer in witness.layers
        ],
    }


def _number(text: str) -> flint.fmpq:
    return Rationals().number(Fraction(text))


def _texts(values: Sequence[flint.fmpq]) -> list[str]:
    return [str(value) for value in values]


def _hexadecimal(values: Array) -> list[str]:
    return [float(v).hex() for v in np.asarray(values, np.float64)[0].ravel().tolist()]


def read_perturbed(
    path: Path, found: BackwardBound
) -> tuple[Witness, dict[str, ObjectArray], dict[str, Array]]:
    """The witness that `write_perturbed` wrote beside `path`, its weights as rational numbers, and
    the inputs and outputs that ran, with a first axis of one sample.

    Raises ModelError for a file of another model or of another form.
    """
    graph, file = found.graph, exact_beside(path)
    try:
        read = json.loads(file.read_text(encoding="utf-8"))
        if read["schema"] != SCHEMA or read["model"]["sha256"] != graph.sha256:
            raise ModelError(f"{file} holds no perturbed network of this model")
        layers = tuple(_layer(entry, found) for entry in read["layers"])
        ran = {
            t: np.array([float.fromhex(v) for v in held]).reshape(1, *graph.types[t].shape)
            for t, held in {**read["inputs"], **read["outputs"]}.items()
        }
    except (OSError, KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise ModelError(f"{file} holds no perturbed network: {error}") from error
    witness = Witness(layers, 1)
    return witness, perturbed_constants(found, witness, 0), ran


def _layer(entry: Mapping[str, Any], found: BackwardBound) -> Layer:
    moved = next(m for m in found.moved if m.tensor == entry["weights"])
    rows = {name: (tuple(map(_number, entry[name])),) for name in ("omega", "of_bias", "beside")}
    ratios = entry["ratios"]
    return Layer(
        node=entry["node"],
        weights=entry["weights"],
        bias=entry["bias"],
        unit=moved.unit,
        bound=Fraction(moved.relative.largest),
        places=places_of(found.graph, entry["node"]),
        signs=np.array([[_SIGNS.index(s) - 1 for s in entry["signs"]]], np.int8),
        omega=rows["omega"],
        of_bias=rows["of_bias"],
        beside=rows["beside"],
        ratios=None if ratios is None else (tuple(map(_number, ratios)),),
    )
