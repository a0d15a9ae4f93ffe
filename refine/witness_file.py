"""A counterexample on disk: a small JSON beside an .npz, enough to run it again alone."""

from __future__ import annotations

import json
import os
import re
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from encoders.contract import EXACT, RuntimeContract
from encoders.contract_table import contract_of_table, contract_table
from encoders.formats import round_array
from onnx_import.errors import ModelError
from onnx_import.graph import Array, Graph
from refine.evaluation import Candidate
from refine.verdict import Result, Side, Witness
from refine.writing import write_whole

SCHEMA = "refine-counterexample-1"


def save_witness(result: Result, path: Path) -> None:
    """Write `path` (JSON) and the arrays beside it (.npz). Neither is left half-written."""
    witness = result.witness
    assert witness is not None
    arrays = path.with_suffix(".npz")
    write_whole(arrays, lambda file: np.savez(file, **_arrays(witness)))
    document = {
        "schema": SCHEMA,
        "model": _relative(result.graph.source, path),
        "sha256": result.graph.sha256,
        "inputs": arrays.name,
        "output": witness.output,
        "index": list(witness.index),
        "execution": None if witness.execution.exact else contract_document(witness.execution),
        "contract": result.contract.name,
        "eps": None if (e := result.tolerance.of(witness.output)) is None else str(e),
        "specification": None if result.spec is None else _specification(result, path),
    }
    text = json.dumps(document, indent=2) + "\n"
    write_whole(path, lambda file: file.write(text.encode()))


def _specification(result: Result, path: Path) -> dict[str, Any]:
    """The other model, and the execution of it; null where it is read over the reals."""
    assert result.spec is not None
    assert result.witness is not None
    execution = result.witness.spec_execution
    return {
        "model": _relative(result.spec.graph.source, path),
        "sha256": result.spec.graph.sha256,
        "execution": contract_document(execution) if execution and not execution.exact else None,
    }


def _relative(model: Path | None, path: Path) -> str | None:
    """The model's path seen from the counterexample's folder."""
    if model is None:
        return None
    try:
        return os.path.relpath(model, path.parent)
    except ValueError:  # another drive
        return str(model)


def _arrays(witness: Witness) -> dict[str, Any]:
    """Inputs as float64 (exact for every narrower float), real ones under `real:NAME`."""
    given = {name: np.asarray(v, np.float64) for name, v in witness.inputs.items()}
    real = {f"real:{name}": np.asarray(v, np.float64) for name, v in witness.real_inputs.items()}
    return given | real


@dataclass(frozen=True)
class Saved:
    """A counterexample read from its file; `spec` is the other graph of a comparison and the
    execution of it."""

    graph: Graph
    candidate: Candidate
    epsilon: Fraction | None
    spec: Side | None


def load_witness(path: Path, graph_of: Callable[[Path], Graph]) -> Saved:
    """The saved counterexample; `graph_of` loads a model from a path.

    Raises ModelError, in one sentence, for a file that is not a counterexample, a model that has
    changed since or is missing, and arrays that do not fit it.
    """
    document = _document(path)
    try:
        model, sha256 = Path(document["model"]), document["sha256"]
        other = document.get("specification")
        theirs = None if other is None else _execution(other["execution"])
        execution = document["execution"]
        execution = _execution(execution) if other else contract_of_document(execution)
        output, index = str(document["output"]), tuple(int(i) for i in document["index"])
        epsilon = _epsilon(document["eps"])
        archive = path.with_name(document["inputs"])
    except (KeyError, TypeError, ValueError, ArithmeticError) as error:
        raise ModelError(f"{path}: not a complete counterexample ({error!r})") from error
    graph = _unchanged(_found(model, path), sha256, graph_of)
    spec = None
    if other is not None and theirs is not None:
        found = _found(Path(other["model"]), path)
        spec = Side(_unchanged(found, other["sha256"], graph_of), theirs)
    inputs, real = _read_arrays(archive, graph, execution)
    shape = graph.types[output].shape if output in graph.outputs else ()
    fits = len(index) == len(shape) and all(0 <= i < n for i, n in zip(index, shape, strict=True))
    if output not in graph.outputs or not fits:
        raise ModelError(f"{path}: the model has no output element {output}{list(index)}")
    return Saved(graph, Candidate(inputs, real, execution, output, index, 0.0), epsilon, spec)


def _unchanged(model: Path, sha256: str, graph_of: Callable[[Path], Graph]) -> Graph:
    graph = graph_of(model)
    if graph.sha256 != sha256:
        raise ModelError(f"{model} has changed since this counterexample was saved")
    return graph


def _execution(document: Mapping[str, Any] | None) -> RuntimeContract:
    return EXACT if document is None else contract_of_document(document)


def _found(model: Path, path: Path) -> Path:
    """The model as seen from the counterexample, or beside it."""
    seen, beside = path.parent / model, path.with_name(model.name)
    return seen if seen.exists() or not beside.exists() else beside


def _epsilon(text: str | None) -> Fraction | None:
    if text is None:
        return None
    if not re.fullmatch(r"[0-9]+(/[0-9]+)?", text):
        raise ValueError("eps is not a ratio of whole numbers")
    return Fraction(text)


def _document(path: Path) -> Mapping[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path}: not a JSON file") from error
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        raise ModelError(f"{path}: not a counterexample that refine wrote (schema {SCHEMA})")
    return document


def _read_arrays(
    archive: Path, graph: Graph, execution: RuntimeContract
) -> tuple[dict[str, Array], dict[str, Array]]:
    """The runtime's inputs and the real network's, of which the former are the rounded latter."""
    try:
        with np.load(archive, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        inputs = {name: arrays[name] for name in graph.inputs}
        real = {name: arrays.get(f"real:{name}", arrays[name]) for name in graph.inputs}
    except OSError as error:
        raise ModelError(f"{archive}: cannot be read ({error.strerror or error})") from error
    except KeyError as error:
        raise ModelError(f"{archive}: lacks the model's input {error}") from error
    except (ValueError, TypeError, AttributeError, EOFError, NotImplementedError) as error:
        raise ModelError(f"{archive}: not an .npz file of arrays") from error
    except (zipfile.BadZipFile, zlib.error) as error:
        raise ModelError(f"{archive}: damaged ({error})") from error
    for name in graph.inputs:
        kind = graph.types[name]
        fmt = execution.format_of(kind.dtype)
        for value in (inputs[name], real[name]):
            if value.dtype != np.float64 or not np.all(np.isfinite(value)):
                raise ModelError(f"{archive}: '{name}' does not hold finite float64 numbers")
            if value.shape != kind.shape:
                raise ModelError(
                    f"{archive}: '{name}' has shape {list(value.shape)}, "
                    f"the model's input {list(kind.shape)}"
                )
        if not np.array_equal(round_array(real[name], fmt), inputs[name]):
            raise ModelError(f"{archive}: '{name}' does not hold {fmt.name} numbers")
    return inputs, real


def contract_document(contract: RuntimeContract) -> dict[str, Any]:
    """A contract as plain JSON values: the keys of a contract file, null where it has none."""
    return {"block": None, "format": None} | contract_table(contract)


def contract_of_document(document: Mapping[str, Any]) -> RuntimeContract:
    """The pinned contract that `contract_document` described.

    Raises KeyError, TypeError or ValueError for anything else.
    """
    contract = contract_of_table({k: v for k, v in dict(document).items() if v is not None})
    if not contract.pinned:
        raise ValueError("the execution is not one execution")
    return contract
