"""A trace: every tensor that a runtime showed of a model, run after run, as lines of JSON.

The first line says what ran; each other line is one tensor of one run: the node that wrote it, its
type and shape, a hash of its bits, its range, how many numbers are NaN or infinite, and, where they
were asked for, the numbers themselves. Inputs are kept with their numbers.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from gpu_check.common.writing import write_text
from onnx_import.errors import ModelError
from onnx_import.files import read_plain
from onnx_import.graph import Array, DType, Graph
from refine.results.document import versions
from refine.results.numerals import plain_number

SCHEMA = "refine-trace-1"
_LARGEST = 2**32  # bytes of a trace


@dataclass(frozen=True)
class Line:
    """One tensor of one run. `node` and `op` are empty for an input; `low` and `high` bound its
    finite numbers, None where it has none; `values` are its numbers where they were kept."""

    run: int
    tensor: str
    node: str
    op: str
    dtype: DType
    shape: tuple[int, ...]
    bits: str
    low: float | None
    high: float | None
    nans: int
    infinities: int
    values: Array | None = None

    @property
    def is_input(self) -> bool:
        """Was the tensor given, and not computed?"""
        return not self.node


@dataclass(frozen=True)
class Trace:
    """What `runtime` showed of a model on `runs` inputs. `fed` names the outputs of a run that are
    inputs of the next, by input; it is empty where the runs have nothing to do with each other.
    `digest` is the hash of the model's file."""

    runtime: str
    model: str | None
    digest: str | None
    runs: int
    lines: tuple[Line, ...]
    fed: Mapping[str, str]

    @cached_property
    def _by_run(self) -> Mapping[int, Mapping[str, Line]]:
        found: dict[int, dict[str, Line]] = {}
        for line in self.lines:
            found.setdefault(line.run, {})[line.tensor] = line
        return found

    def of(self, run: int) -> Mapping[str, Line]:
        """What one run showed, by tensor, in the order of the file."""
        return self._by_run.get(run, {})

    @property
    def without_values(self) -> Trace:
        """The same with the numbers of inputs alone."""
        lines = tuple(e if e.is_input else replace(e, values=None) for e in self.lines)
        return replace(self, lines=lines)

    def received(self, run: int) -> Mapping[str, Array]:
        """The numbers that one run was given, by input; those that are not kept are left out."""
        found = self.of(run).values()
        return {e.tensor: e.values for e in found if e.is_input and e.values is not None}


def line_of(
    array: Array, tensor: str, *, run: int, node: str = "", op: str = "", keep: bool = True
) -> Line:
    """The line of a tensor; `keep` says whether it holds the numbers."""
    wide = np.asarray(array).astype(np.float64)
    finite = wide[np.isfinite(wide)]
    dtype = next((d for d in DType if d.numpy == array.dtype), None)
    if dtype is None:
        raise ModelError(f"'{tensor}' holds numbers of type {array.dtype}, which no trace has")
    return Line(
        run,
        tensor,
        node,
        op,
        dtype=dtype,
        shape=array.shape,
        bits=hashlib.sha256(_raw(array)).hexdigest(),
        low=float(np.min(finite)) if finite.size else None,
        high=float(np.max(finite)) if finite.size else None,
        nans=int(np.count_nonzero(np.isnan(wide))),
        infinities=int(np.count_nonzero(np.isinf(wide))),
        values=array if keep else None,
    )


def lines_of(
    graph: Graph,
    given: Mapping[str, Array],
    shown: Mapping[str, Array],
    *,
    run: int,
    keep: bool,
) -> Iterator[Line]:
    """The lines of one run: what it was given, then what each node wrote, in the order of the
    graph. Tensors that the graph does not have are left out."""
    for tensor, array in given.items():
        yield line_of(array, tensor, run=run)
    for node in graph.order:
        for tensor in node.outputs:
            if tensor and tensor in shown:
                array = np.asarray(shown[tensor]).reshape(graph.types[tensor].shape)
                yield line_of(array, tensor, run=run, node=node.name, op=node.spelled, keep=keep)


def digest_of(path: Path) -> str:
    """The hash of a file. Raises ModelError if it cannot be read."""
    try:
        return hashlib.sha256(read_plain(path)).hexdigest()
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror})") from error


def write_trace(trace: Trace, path: Path) -> None:
    """Raises OSError if the file cannot be written."""
    write_text(path, "".join(f"{json.dumps(entry)}\n" for entry in documents_of(trace)))


def documents_of(trace: Trace) -> Iterator[dict[str, Any]]:
    """The lines of the file, the header first, as JSON values."""
    yield {
        "schema": SCHEMA,
        "runtime": trace.runtime,
        "model": trace.model,
        "sha256": trace.digest,
        "runs": trace.runs,
        "fed": dict(trace.fed),
        "versions": versions(),
    }
    for e in trace.lines:
        shown = {
            "run": e.run,
            "node": e.node,
            "op": e.op,
            "tensor": e.tensor,
            "dtype": e.dtype.value,
            "shape": list(e.shape),
            "bits": e.bits,
            "low": plain_number(e.low),
            "high": plain_number(e.high),
            "nan": e.nans,
            "inf": e.infinities,
        }
        if e.values is not None:
            shown["values"] = base64.b64encode(_raw(e.values)).decode("ascii")
        yield shown


def read_trace(path: Path) -> Trace:
    """Raises ModelError, in one sentence, for a file that cannot be read or is no trace."""
    try:
        text = read_plain(path, _LARGEST).decode("utf-8")
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise ModelError(f"{path}: not a text file") from error
    rows = [row for row in text.split("\n") if row.strip()]
    try:
        header = json.loads(rows[0])
        if header["schema"] != SCHEMA:
            raise ModelError(f"{path}: its schema is {header['schema']!r}; expected {SCHEMA!r}")
        lines = tuple(_line(json.loads(row)) for row in rows[1:])
        runs = int(header["runs"])
        if any(not 0 <= e.run < runs for e in lines):
            raise ValueError("a run that the header does not have")
        fed = {str(k): str(v) for k, v in header["fed"].items()}
        model, digest = header["model"], header["sha256"]
        return Trace(str(header["runtime"]), _text(model), _text(digest), runs, lines, fed)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
        raise ModelError(
            f"{path} is no trace as `refine trace` writes it, or is damaged"
        ) from error


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _line(found: Mapping[str, Any]) -> Line:
    """Raises ValueError, KeyError or TypeError for what is no line of a trace."""
    dtype, shape = DType(found["dtype"]), tuple(int(n) for n in found["shape"])
    values = None
    if any(n < 0 for n in shape):
        raise ValueError("a negative extent")
    if "values" in found:
        try:
            raw = base64.b64decode(found["values"], validate=True)
        except binascii.Error as error:
            raise ValueError("no base64") from error
        values = np.frombuffer(raw, dtype.numpy.newbyteorder("<")).astype(dtype.numpy)
        if values.size != math.prod(shape):
            raise ValueError("more or fewer numbers than the shape has")
        values = values.reshape(shape)
        if hashlib.sha256(raw).hexdigest() != found["bits"]:
            raise ValueError("numbers of other bits than those of the hash")
    return Line(
        int(found["run"]),
        str(found["tensor"]),
        str(found["node"]),
        str(found["op"]),
        dtype=dtype,
        shape=shape,
        bits=str(found["bits"]),
        low=_number(found["low"]),
        high=_number(found["high"]),
        nans=int(found["nan"]),
        infinities=int(found["inf"]),
        values=values,
    )


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def _raw(array: Array) -> bytes:
    """The bits of the numbers, the lowest byte first, row after row."""
    return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()


def trace_of_arrays(
    graphs: Sequence[Graph],
    given: Sequence[Mapping[str, Array]],
    shown: Sequence[Mapping[str, Array]],
    runtime: str,
) -> Trace:
    """The trace that arrays of tensors by name are, those of each run: what some other tool
    dumped. Arrays are of the graph's types where they hold its numbers."""
    lines: list[Line] = []
    for run, (graph, x, y) in enumerate(zip(graphs, given, shown, strict=True)):
        typed = {t: _typed(v, graph, t) for t, v in y.items() if t in graph.types}
        lines += lines_of(graph, x, typed, run=run, keep=True)
    return Trace(runtime, None, None, len(graphs), tuple(lines), {})


def _typed(array: Array, graph: Graph, tensor: str) -> Array:
    """In the type of the graph if that holds the same numbers, so that equal ones have equal
    bits."""
    wanted = graph.types[tensor].dtype.numpy
    with np.errstate(all="ignore"):
        cast = np.asarray(array).astype(wanted)
        same = np.array_equal(cast.astype(np.float64), array.astype(np.float64), equal_nan=True)
    return cast if same else array
