"""A counterexample on disk: a small JSON beside an .npz, enough to run it again alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from encoders.contract import (
    BiasPlacement,
    Blocked,
    Contraction,
    Normalization,
    Order,
    Pairwise,
    RuntimeContract,
    Sequential,
    Subnormals,
)
from encoders.formats import FloatFormat
from onnx_import.errors import ModelError
from onnx_import.graph import Array, Graph
from refine.search import Candidate
from refine.verdict import Result, Witness
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
        "model": str(result.graph.source),
        "sha256": result.graph.sha256,
        "inputs": arrays.name,
        "output": witness.output,
        "index": list(witness.index),
        "execution": contract_document(witness.execution),
        "contract": result.contract.name,
        "eps": None if (e := result.tolerance.of(witness.output)) is None else str(e),
    }
    text = json.dumps(document, indent=2) + "\n"
    write_whole(path, lambda file: file.write(text.encode()))


def _arrays(witness: Witness) -> dict[str, Any]:
    """Inputs as float64 (exact for every narrower float), real ones under `real:NAME`."""
    given = {name: np.asarray(v, np.float64) for name, v in witness.inputs.items()}
    real = {f"real:{name}": np.asarray(v, np.float64) for name, v in witness.real_inputs.items()}
    return given | real


def load_witness(path: Path, graph_of: Any) -> tuple[Graph, Candidate, Fraction | None]:
    """The model, the counterexample and ε of a saved file; `graph_of` loads a model from a path.

    Raises ModelError, in one sentence, for a file that is not a counterexample, a model that has
    changed since or is missing, and arrays that do not fit it.
    """
    document = _document(path)
    try:
        model, sha256 = Path(document["model"]), document["sha256"]
        execution = contract_of_document(document["execution"])
        output, index = str(document["output"]), tuple(int(i) for i in document["index"])
        epsilon = None if document["eps"] is None else Fraction(document["eps"])
        archive = path.with_name(document["inputs"])
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{path}: not a complete counterexample ({error!r})") from error
    graph: Graph = graph_of(_found(model, path))
    if graph.sha256 != sha256:
        raise ModelError(f"{model} has changed since this counterexample was saved")
    inputs, real = _read_arrays(archive, graph)
    if output not in graph.outputs or len(index) != len(graph.types[output].shape):
        raise ModelError(f"{path}: the model has no output element {output}{index}")
    return graph, Candidate(inputs, real, execution, output, index, 0.0), epsilon


def _found(model: Path, path: Path) -> Path:
    """The model where it was, or beside the counterexample."""
    beside = path.with_name(model.name)
    return beside if not model.exists() and beside.exists() else model


def _document(path: Path) -> Mapping[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise ModelError(f"{path}: not a JSON file") from error
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        raise ModelError(f"{path}: not a counterexample that refine wrote (schema {SCHEMA})")
    return document


def _read_arrays(archive: Path, graph: Graph) -> tuple[dict[str, Array], dict[str, Array]]:
    try:
        with np.load(archive, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        inputs = {name: arrays[name] for name in graph.inputs}
        real = {name: arrays.get(f"real:{name}", arrays[name]) for name in graph.inputs}
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"{archive}: cannot be read, or lacks an input ({error})") from error
    for name, value in inputs.items():
        if value.shape != graph.types[name].shape:
            raise ModelError(
                f"{archive}: '{name}' has shape {value.shape}, the model {graph.types[name].shape}"
            )
    return inputs, real


def contract_document(contract: RuntimeContract) -> dict[str, Any]:
    """A contract as plain JSON values."""
    order = type(contract.order).__name__.lower()
    return {
        "name": contract.name,
        "order": order,
        "block": contract.order.size if isinstance(contract.order, Blocked) else None,
        "fma": contract.contraction.value,
        "bias": contract.bias.value,
        "subnormal_results": contract.results.value,
        "subnormal_operands": contract.operands.value,
        "normalization": contract.normalization.value,
        "format": None if contract.compute_format is None else asdict(contract.compute_format),
        "exact": contract.exact,
    }


def contract_of_document(document: Mapping[str, Any]) -> RuntimeContract:
    """The pinned contract that `contract_document` described. Raises KeyError or ValueError."""
    orders: dict[str, Order] = {"sequential": Sequential(), "pairwise": Pairwise()}
    block = document["block"]
    fmt = document["format"]
    return RuntimeContract(
        str(document["name"]),
        Blocked(int(block)) if block is not None else orders[document["order"]],
        Contraction(document["fma"]),
        BiasPlacement(document["bias"]),
        Subnormals(document["subnormal_results"]),
        Subnormals(document["subnormal_operands"]),
        Normalization(document["normalization"]),
        None if fmt is None else FloatFormat(**fmt),
        bool(document["exact"]),
    )
