"""A model run on a runtime, once for each input, or again and again on its own outputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from onnx import numpy_helper

from encoders.contract.contract import RuntimeContract
from gpu_check.runtimes.runtimes import RuntimeUnavailable
from gpu_check.runtimes.tensors import Machine
from onnx_import.errors import ModelError
from onnx_import.graph import Array, Graph, Sizes
from onnx_import.onnx.proto import read_proto
from refine.everyday.points import numbers_of, rows_of
from refine.options.models import read_for
from refine.traces.trace import Line, Trace, digest_of, lines_of

Read = Callable[[Mapping[str, Array]], Graph]
"""The graph of a file for one run, of what that run is given: inputs of integers are constants, and
stored weights that are given have these numbers."""
Opening = Callable[[Graph], AbstractContextManager[Machine]]
"""A runtime with a graph."""
NEXT = "next_"
"""How outputs that are the next step's weights begin, as `refine grad --step` names them."""


@dataclass(frozen=True)
class Runs:
    """What each run is given, by input or stored weight, as arrays of their types and shapes; those
    that are `fed` (each with the output that feeds it) are those of the first run, and later runs
    have none."""

    given: tuple[Mapping[str, Array], ...]
    fed: Mapping[str, str]


def reading(
    model: Path,
    folder: Path,
    contracts: Sequence[RuntimeContract] = (),
    allowed: tuple[Path, ...] = (),
    sizes: Sizes | None = None,
) -> Read:
    """How the file is read, as all the contracts have it. Models with other weights are written to
    `folder`, which outlasts the graphs."""

    def load(path: Path, given: Mapping[str, Array] | None) -> Graph:
        return read_for(path, contracts, allowed=allowed, given=given, sizes=sizes)

    plain = load(model, None)

    def read(given: Mapping[str, Array]) -> Graph:
        chosen = {t: v for t, v in given.items() if t in plain.inputs and v.dtype.kind in "iub"}
        weights = {t: v for t, v in given.items() if t not in plain.inputs}
        if not weights:
            return load(model, chosen) if chosen else plain
        path = folder / f"{len(list(folder.iterdir()))}.onnx"
        path.write_bytes(with_weights(model, weights, allowed))
        return load(path, chosen or None)

    return read


def with_weights(model: Path, weights: Mapping[str, Array], allowed: tuple[Path, ...]) -> bytes:
    """The file with other numbers in these weights. Raises ModelError for one that it does not
    store, or not of this type and shape."""
    proto, _, _ = read_proto(model, allowed)
    stored = {t.name: t for t in proto.graph.initializer}
    for name, values in weights.items():
        if name not in stored:
            raise ModelError(f"'{name}' is neither an input nor a weight that {model} stores")
        made = numpy_helper.from_array(np.ascontiguousarray(values), name)
        if made.data_type != stored[name].data_type or made.dims != stored[name].dims:
            raise ModelError(f"weight '{name}' of {model} has another type or shape than is given")
        stored[name].CopyFrom(made)
    return bytes(proto.SerializeToString())


def fed_by_name(graph: Graph) -> Mapping[str, str]:
    """Inputs and weights NAME for which there is an output next_NAME."""
    found = {o.removeprefix(NEXT): o for o in graph.outputs if o.startswith(NEXT)}
    return {t: o for t, o in found.items() if t in graph.inputs or t in graph.constants}


def runs_of(
    graph: Graph, arrays: Mapping[str, Array], fed: Mapping[str, str], steps: int | None = None
) -> Runs:
    """`arrays` are of the shapes of the graph's inputs, integers included, or have an axis of runs
    in front; those that have none are given to every run. Weights that are fed begin with their
    stored numbers, unless there is an array. Without `steps` there are as many runs as the longest
    of these axes has.

    Raises ModelError for an input without an array, one that does not fit, and a `fed` pair that
    is none.
    """
    _require_pairs(graph, fed)
    if len(arrays) == len(graph.inputs) == 1:
        arrays = dict(zip(graph.inputs, arrays.values(), strict=True))
    stored = {t: graph.held(t) for t in fed if t not in graph.inputs}
    rows: dict[str, Array] = {}
    for name in (*graph.inputs, *stored):
        array = arrays.get(name, stored.get(name))
        if array is None:
            raise ModelError(f"no array for input '{name}'; inputs: {', '.join(graph.inputs)}")
        kind, what = graph.types[name], f"'{name}'"
        each, _ = rows_of(numbers_of(array, what), kind.shape, what, several="runs")
        with np.errstate(all="ignore"):
            rows[name] = each.astype(kind.dtype.numpy)
    counts = {len(v) for t, v in rows.items() if len(v) != 1}
    if any(len(rows[t]) != 1 for t in fed):
        raise ModelError("what is fed has one array, that of the first run")
    several = steps is not None or bool(fed)
    runs = steps if steps is not None else max(counts, default=1)
    if any(n < runs if several else n != runs for n in counts):
        raise ModelError(f"{runs} runs need as many rows of every input that has several")
    given = tuple(
        {t: v[k if len(v) > 1 else 0] for t, v in rows.items() if k == 0 or t not in fed}
        for k in range(runs)
    )
    return Runs(given, fed)


def _require_pairs(graph: Graph, fed: Mapping[str, str]) -> None:
    for name, output in fed.items():
        if name not in graph.inputs and not graph.is_constant(name):
            raise ModelError(
                f"'{name}' is no input and no weight; inputs: {', '.join(graph.inputs)}"
            )
        if output not in graph.outputs:
            raise ModelError(f"'{output}' is no output; outputs: {', '.join(graph.outputs)}")
        if graph.types[name] != graph.types[output]:
            raise ModelError(f"output '{output}' has another type or shape than '{name}'")


def record(
    model: Path,
    read: Read,
    opened: Opening,
    runs: Runs,
    *,
    keep: bool = False,
    tell: Callable[[str], None] = lambda stage: None,
) -> Trace:
    """Every tensor that the runtime shows, with its numbers if they are to be kept. It is opened
    once for runs of one graph.

    Raises ModelError where the runtime is not here or does not run the model.
    """
    lines: list[Line] = []
    latest: Mapping[str, Array] = {}
    graph: Graph | None = None
    machine: Machine | None = None
    described = ""
    with ExitStack() as stack:
        for run, fresh in enumerate(runs.given):
            tell(f"run {run + 1} of {len(runs.given)}")
            given = {**latest, **fresh}
            before, graph = graph, read(given)
            inputs = {t: v for t, v in given.items() if not graph.is_constant(t)}
            integers = {t: v for t, v in given.items() if v.dtype.kind in "iub"}
            try:
                if machine is None or graph is not before:
                    stack.close()
                    machine = stack.enter_context(opened(graph))
                    described = machine.describe()
                found = machine.tensors([{**integers, **inputs}])
            except RuntimeUnavailable as error:
                raise ModelError(str(error)) from error
            shown = {t: v[0] for t, v in found.items()}
            lines += lines_of(graph, given, shown, run=run, keep=keep)
            latest = {name: shown[output] for name, output in runs.fed.items()}
    return Trace(described, str(model), digest_of(model), len(runs.given), tuple(lines), runs.fed)
