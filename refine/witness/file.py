"""A counterexample on disk: a small JSON beside an .npz, enough to run it again alone."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from encoders.arithmetic.handling import handling_of
from encoders.contract.contract import RuntimeContract
from encoders.contract.presets import EXACT
from encoders.contract.table import contract_document, contract_of_table
from encoders.numbers.formats import WHOLE, round_array, round_fraction
from encoders.program import program_of
from gpu_check.common.writing import write_text, write_whole
from onnx_import.errors import ModelError, shorten
from onnx_import.files import read_text, within
from onnx_import.graph import Array, Graph, Sizes, TensorType
from onnx_import.onnx.proto import sha256_of
from refine.common.arrays import Stored, stored_arrays
from refine.domain.properties import Property
from refine.results.verdict import Result, Side, Witness
from refine.search.evaluation import Candidate
from refine.witness.unsafe_sets import unsafe_document, unsafe_of_document, vnncomp_witness

SCHEMA = "refine-counterexample-1"
_REAL = "real:"  # before the name of an input, of the real network's numbers


def saved_digests(path: Path) -> tuple[str, str] | None:
    """SHA-256 of both files of a counterexample; None where one of them cannot be read."""
    with suppress(OSError):
        return sha256_of(path), sha256_of(path.with_suffix(".npz"))
    return None


def save_witness(result: Result, path: Path) -> None:
    """Write `path` (JSON), arrays beside it (.npz), and of a property the witness as VNN-COMP has
    it (.txt). None is left half-written."""
    witness = result.witness
    assert witness is not None
    arrays = path.with_suffix(".npz")
    write_whole(arrays, lambda file: np.savez(file, **_arrays(witness)))
    document = {
        "schema": SCHEMA,
        "model": _relative(result.graph.source, path),
        "sha256": result.graph.sha256,
        "inputs": arrays.name,
        "pinned": sorted(result.graph.pinned),
        "output": witness.output,
        "index": list(witness.index),
        "execution": None if witness.execution.exact else contract_document(witness.execution),
        "contract": result.contract.name,
        "eps": None if (e := result.tolerance.of(witness.output)) is None else str(e),
        "specification": None if result.spec is None else _specification(result, path),
        "batch": result.batch,
        **_claimed(result),
        "real_inputs": _rationals(witness),
        "unsafe": None if witness.reached is None else unsafe_document(witness.reached.unsafe),
    }
    if witness.reached is not None:
        write_text(path.with_suffix(".txt"), vnncomp_witness(witness, result.graph))
    text = json.dumps(document, indent=2) + "\n"
    write_text(path, text)


def _claimed(result: Result) -> dict[str, Any]:
    """The claim that it breaks, where that is not about errors."""
    if result.claimed is None:
        return {}
    return {"claim": {"text": result.claimed.text, "options": dict(result.claimed.given)}}


def _specification(result: Result, path: Path) -> dict[str, Any]:
    """The other model, and the execution of it; null where it is read over the reals."""
    assert result.spec is not None
    assert result.witness is not None
    execution = result.witness.spec_execution
    return {
        "model": _relative(result.spec.graph.source, path),
        "sha256": result.spec.graph.sha256,
        "execution": contract_document(execution) if execution and not execution.exact else None,
        "match": None
        if result.pairing is None
        else {**result.pairing.inputs, **result.pairing.outputs},
    }


def _relative(model: Path | None, path: Path) -> str | None:
    """The model's path seen from the counterexample's folder."""
    if model is None:
        return None
    try:
        return os.path.relpath(model, path.parent)
    except ValueError:  # another drive
        return str(model)


def replaying(result: Result) -> str:
    """What `refine replay` is given: the file, and the models that lie outside its folder."""
    assert result.witness_file is not None
    parts = [str(result.witness_file)]
    sides = (("--model", result.graph), ("--spec", result.spec.graph if result.spec else None))
    for flag, graph in sides:
        if graph is not None and graph.source is not None:
            try:
                within(str(graph.source.absolute()), result.witness_file.parent, (), "")
            except ModelError:
                parts.append(f"{flag} {graph.source}")
    return " ".join(parts)


def _arrays(witness: Witness) -> dict[str, Any]:
    """Inputs as float64 (exact for every narrower float), real ones under `real:NAME`."""
    given = {name: np.asarray(v, np.float64) for name, v in witness.inputs.items()}
    real = {f"{_REAL}{name}": np.asarray(v, np.float64) for name, v in witness.real_inputs.items()}
    return given | real


def _rationals(witness: Witness) -> dict[str, list[str]] | None:
    """Real inputs that float64 does not hold, element by element as ratios; null if there are
    none."""
    exact = {n: v for n, v in witness.real_inputs.items() if v.dtype.kind == "O"}
    return {n: [str(Fraction(e)) for e in v.ravel().tolist()] for n, v in exact.items()} or None


@dataclass(frozen=True)
class Saved:
    """A counterexample read from its file; `spec` is the other graph of a comparison and the
    execution of it, and `match` says which of its tensors are the graph's. `batch` is how many rows
    `graph` was read with, if the file left that open. `claim` made the claim that it breaks, where
    that is not about errors, and `given` are the claim's own options; `unsafe` is the unsafe set of
    a property."""

    graph: Graph
    candidate: Candidate
    epsilon: Fraction | None
    spec: Side | None
    batch: int | None = None
    match: Mapping[str, str] | None = None
    claim: str | None = None
    given: Mapping[str, object] = field(default_factory=dict)
    unsafe: Property | None = None


@dataclass(frozen=True)
class Trusted:
    """What the user says of a counterexample's files: the model and the specification themselves,
    or places outside its folder where they may lie."""

    model: Path | None = None
    spec: Path | None = None
    allowed: tuple[Path, ...] = ()


def load_witness(
    path: Path,
    graph_of: Callable[..., Graph],
    trusted: Trusted | None = None,
    about: Callable[[Graph, str, Mapping[str, object]], Graph] = lambda graph, claim, given: graph,
) -> Saved:
    """The saved counterexample; `graph_of` loads a model from a path, with `batch` rows, and as
    a `handling` has its stored numbers. `about` makes of a model what a claim speaks of.

    Nothing that it names is opened outside its folder, unless the user says so. Raises ModelError,
    in one sentence, for a file that is not a counterexample, a model that has changed since or is
    missing, and arrays that do not fit it.
    """
    trusted = trusted or Trusted()
    document = _document(path)
    try:
        model, sha256 = _text(document["model"]), _text(document["sha256"])
        other = document.get("specification")
        theirs = None if other is None else _execution(other["execution"])
        execution = document["execution"]
        of_reals = other is not None or document.get("unsafe") is not None
        execution = _execution(execution) if of_reals else contract_of_document(execution)
        output, index = _text(document["output"]), tuple(map(_natural, document["index"]))
        epsilon, batch = _epsilon(document["eps"]), _rows(document.get("batch"))
        given = document.get("real_inputs") or {}
        exact = {_text(n): tuple(map(_ratio, v)) for n, v in dict(given).items()}
        match = None if other is None else _match(other.get("match"))
        claim, own = _claim(document.get("claim"))
        held = [_text(name) for name in document.get("pinned") or ()]
        archive = within(_text(document["inputs"]), path.parent, trusted.allowed, "the array file")
        spec_model = None if other is None else _text(other["model"])
        spec_sha256 = None if other is None else _text(other["sha256"])
    except (KeyError, TypeError, ValueError, ArithmeticError, RecursionError) as error:
        raise ModelError(f"{path}: not a complete counterexample: {_wrong(error)}") from error
    found = _found(model, trusted.model, path, trusted.allowed, "--model")
    stored = _stored(archive)
    pinned = {n: stored[n].values() for n in held if n in stored}
    graph_of = partial(graph_of, sizes=_sizes_in(stored, batch is not None), pinned=pinned)
    rows = graph_of if batch is None else partial(graph_of, batch=batch)
    reader = partial(rows, handling=handling_of(execution))
    graph = _unchanged(found, sha256, reader)
    graph = graph if claim is None else about(graph, claim, own)
    spec = None
    if spec_model is not None and spec_sha256 is not None and theirs is not None:
        found = _found(spec_model, trusted.spec, path, trusted.allowed, "--spec")
        spec_reader = partial(graph_of, handling=handling_of(theirs))
        spec = Side(_unchanged(found, spec_sha256, spec_reader), theirs)
    inputs, real = _read_arrays(stored, archive, graph, execution, exact)
    shape = graph.types[output].shape if output in graph.outputs else ()
    fits = len(index) == len(shape) and all(0 <= i < n for i, n in zip(index, shape, strict=True))
    if output not in graph.outputs or not fits:
        raise ModelError(f"{path}: the model has no output element {output}{list(index)}")
    return Saved(
        graph,
        Candidate(inputs, real, execution, output, index, 0.0),
        epsilon=epsilon,
        spec=spec,
        batch=batch,
        match=match,
        claim=claim,
        given=own,
        unsafe=_unsafe(document.get("unsafe"), graph, path),
    )


def _stored(archive: Path) -> Mapping[str, Stored]:
    stored = stored_arrays(archive)
    if isinstance(stored, Stored):
        raise ModelError(f"{archive}: not an .npz file of arrays")
    return stored


def _sizes_in(stored: Mapping[str, Stored], rows: bool) -> Sizes:
    """What the arrays of inputs show of the dimensions that the models leave open; `rows` along the
    first of these are counted elsewhere."""
    shapes = {n: array.shape for n, array in stored.items() if not n.startswith(_REAL)}
    return Sizes(arrays=shapes, points=rows, lenient=True)


def _unsafe(document: Any, graph: Graph, path: Path) -> Property | None:
    if document is None:
        return None
    try:
        return unsafe_of_document(document, graph, _ratio)
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise ModelError(f"{path}: not a complete unsafe set: {_wrong(error)}") from error


class _Unlike(ValueError):
    """Something that no counterexample has; the message is for people."""


def _wrong(error: Exception) -> str:
    """What is wrong with a file, in words."""
    if isinstance(error, KeyError) and error.args:
        return f"it has no '{shorten(str(error.args[0]))}'"
    return str(error) if isinstance(error, _Unlike) else "a value in it is of another kind"


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise _Unlike("a text is missing")
    return value


def _natural(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**31:
        raise _Unlike("index holds something other than natural numbers")
    return value


def _unchanged(model: Path, sha256: str, graph_of: Callable[[Path], Graph]) -> Graph:
    graph = graph_of(model)
    if graph.sha256 != sha256:
        raise ModelError(
            f"{model} is not the model of this counterexample, or has changed since it was saved"
        )
    return program_of(graph).checked.graph


def _execution(document: Mapping[str, Any] | None) -> RuntimeContract:
    return EXACT if document is None else contract_of_document(document)


def _found(name: str, given: Path | None, path: Path, allowed: tuple[Path, ...], flag: str) -> Path:
    """The model as the user gives it, else as seen from the counterexample, or beside it.

    Raises ModelError for one that lies outside its folder and was not given.
    """
    if given is not None:
        return given
    beside = path.with_name(Path(name).name) if Path(name).name else path
    try:
        seen = within(name, path.parent, allowed, "the model")
        if seen.exists() or not beside.exists():
            return seen
    except ModelError as error:
        if not beside.exists():
            raise ModelError(f"{error}, or say which model it is with {flag} FILE") from error
    return within(beside.name, path.parent, allowed, "the model")


def _epsilon(text: str | None) -> Fraction | None:
    if text is None:
        return None
    if not re.fullmatch(r"[0-9]+(/[0-9]+)?", text):
        raise _Unlike("eps is not a ratio of integers")
    return Fraction(text)


def _ratio(text: str) -> Fraction:
    if not re.fullmatch(r"-?[0-9]+(/[0-9]+)?", text):
        raise _Unlike("a real input is not a ratio of integers")
    return Fraction(text)


def _match(value: Any) -> Mapping[str, str] | None:
    if value is None:
        return None
    return {_text(a): _text(b) for a, b in dict(value).items()}


def _claim(value: Any) -> tuple[str | None, Mapping[str, object]]:
    if value is None:
        return None, {}
    return _text(value["text"]), {_text(n): v for n, v in dict(value["options"]).items()}


def _rows(value: Any) -> int | None:
    if value is None or (type(value) is int and 2 <= value < 2**31):
        return value
    raise _Unlike("batch is no number of rows")


def _document(path: Path) -> Mapping[str, Any]:
    try:
        document = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path}: not a JSON file") from error
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        raise ModelError(f"{path}: not a counterexample that refine wrote (schema {SCHEMA})")
    return document


def _read_arrays(
    stored: Mapping[str, Stored],
    archive: Path,
    graph: Graph,
    execution: RuntimeContract,
    exact: Mapping[str, tuple[Fraction, ...]],
) -> tuple[dict[str, Array], dict[str, Array]]:
    """The runtime's inputs and the real network's, of which the former are the rounded latter."""
    inputs: dict[str, Array] = {}
    real: dict[str, Array] = {}
    for name in graph.inputs:
        kind = graph.types[name]
        fmt = execution.format_of(kind.dtype) if kind.dtype.is_float else WHOLE
        if name not in stored:
            raise ModelError(f"{archive}: lacks the model's input '{name}'")
        inputs[name] = _numbers(stored[name], archive, name, kind)
        meant = stored.get(f"{_REAL}{name}", stored[name])
        real[name] = _numbers(meant, archive, name, kind)
        rounded = round_array(real[name], fmt)
        if name in exact:
            if len(exact[name]) != kind.size:
                raise ModelError(f"{archive}: '{name}' has another number of real inputs")
            real[name] = np.array(exact[name], dtype=object).reshape(kind.shape)
            rounded = np.array([float(round_fraction(v, fmt)) for v in exact[name]])
        if not np.array_equal(rounded.reshape(kind.shape), inputs[name]):
            raise ModelError(f"{archive}: '{name}' does not hold {fmt.name} numbers")
    return inputs, real


def _numbers(stored: Stored, archive: Path, name: str, kind: TensorType) -> Array:
    if stored.shape != kind.shape:
        raise ModelError(
            f"{archive}: '{name}' has shape {list(stored.shape)}, "
            f"the model's input {list(kind.shape)}"
        )
    values = stored.values() if stored.dtype == np.float64 else None
    if values is None or not np.all(np.isfinite(values)):
        raise ModelError(f"{archive}: '{name}' does not hold finite float64 numbers")
    return values


def contract_of_document(document: Mapping[str, Any]) -> RuntimeContract:
    """The pinned contract that `contract_document` described.

    Raises KeyError, TypeError or ValueError for anything else.
    """
    contract = contract_of_table({k: v for k, v in dict(document).items() if v is not None})
    if not contract.pinned:
        raise ValueError("the execution is not one execution")
    return contract
