"""A model run on a runtime, once for each input, or again and again on its own outputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from encoders.contract.contract import RuntimeContract
from gpu_check.runtimes.runtimes import RuntimeUnavailable
from onnx_import.errors import ModelError
from onnx_import.graph import Array, Graph, Sizes
from refine.claims.many.points import lasting
from refine.everyday.points import numbers_of
from refine.options.models import read_for
from refine.options.runtime_choice import RuntimeChoice, machine
from refine.traces.trace import Line, Trace, digest_of, lines_of

Read = Callable[[Mapping[str, Array]], Graph]
"""The graph of a file in which the inputs of integers that are given are constants."""


@dataclass(frozen=True)
class Runs:
    """What each run is given, by input, as arrays of the inputs' types and shapes; `fed` inputs
    (each with the output that feeds it) are those of the first run, and later ones have none."""

    given: tuple[Mapping[str, Array], ...]
    fed: Mapping[str, str]


def reading(
    model: Path,
    contracts: Sequence[RuntimeContract] = (),
    allowed: tuple[Path, ...] = (),
    sizes: Sizes | None = None,
) -> Read:
    """How the file is read, as all the contracts have it; once only where no integers are given."""

    def load(given: Mapping[str, Array] | None) -> Graph:
        return read_for(model, contracts, allowed=allowed, given=given, sizes=sizes)

    plain = load(None)
    return lambda given: load(given) if given else plain


def runs_of(
    graph: Graph, arrays: Mapping[str, Array], fed: Mapping[str, str], steps: int | None = None
) -> Runs:
    """`arrays` are of the shapes of the graph's inputs, integers included, or have an axis of runs
    in front; those that have none are given to every run. Without `steps` there are as many runs
    as the longest of these axes has.

    Raises ModelError for an input without an array, one that does not fit, and a `fed` pair that
    is none.
    """
    _require_pairs(graph, fed)
    if len(arrays) == len(graph.inputs) == 1:
        arrays = dict(zip(graph.inputs, arrays.values(), strict=True))
    rows: dict[str, Array] = {}
    for name in graph.inputs:
        if name not in arrays:
            raise ModelError(f"no array for input '{name}'; inputs: {', '.join(graph.inputs)}")
        rows[name] = _rows(numbers_of(arrays[name], f"'{name}'"), graph, name)
    counts = {len(v) for t, v in rows.items() if len(v) != 1}
    if any(len(rows[t]) != 1 for t in fed):
        raise ModelError("an input that is fed has one array, that of the first run")
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
        if name not in graph.inputs:
            raise ModelError(f"'{name}' is no input; inputs: {', '.join(graph.inputs)}")
        if output not in graph.outputs:
            raise ModelError(f"'{output}' is no output; outputs: {', '.join(graph.outputs)}")
        if graph.types[name] != graph.types[output]:
            raise ModelError(f"output '{output}' has another type or shape than input '{name}'")


def _rows(array: Array, graph: Graph, name: str) -> Array:
    """As (runs, *shape), in the input's type."""
    kind = graph.types[name]
    wanted = lasting(kind.shape)
    if lasting(array.shape) == wanted:
        rows = array.reshape(1, *kind.shape)
    elif array.ndim and lasting(array.shape[1:]) == wanted:
        rows = array.reshape(len(array), *kind.shape)
    else:
        raise ModelError(
            f"'{name}' has shape {list(array.shape)}; expected {list(kind.shape)}, or an axis of "
            "runs in front of it"
        )
    with np.errstate(all="ignore"):
        return rows.astype(kind.dtype.numpy)


def record(
    read: Read,
    choice: RuntimeChoice,
    runs: Runs,
    *,
    keep: bool = False,
    tell: Callable[[str], None] = lambda stage: None,
) -> Trace:
    """Every tensor that the runtime shows, with its numbers if they are to be kept.

    Raises ModelError where the runtime is not here or does not run the model.
    """
    lines: list[Line] = []
    described, source = "", None
    latest: Mapping[str, Array] = {}
    for run, fresh in enumerate(runs.given):
        tell(f"run {run + 1} of {len(runs.given)}")
        given = {**latest, **fresh}
        graph = read(constants_of(given))
        source = graph.source
        try:
            with machine(choice, graph) as one:
                described = one.describe()
                (shown,) = _each(one.tensors([given]))
        except RuntimeUnavailable as error:
            raise ModelError(f"{choice.name}: {error}") from error
        lines += lines_of(graph, given, shown, run=run, keep=keep)
        latest = {name: shown[output] for name, output in runs.fed.items()}
    return Trace(
        described,
        None if source is None else str(source),
        None if source is None else digest_of(source),
        len(runs.given),
        tuple(lines),
        runs.fed,
    )


def constants_of(given: Mapping[str, Array]) -> Mapping[str, Array]:
    """The integers and truth values among the inputs, which are constants of one run."""
    return {t: v for t, v in given.items() if v.dtype.kind in "iub"}


def _each(tensors: Mapping[str, Array]) -> Sequence[Mapping[str, Array]]:
    count = max((len(v) for v in tensors.values()), default=1)
    return [{t: v[k] for t, v in tensors.items()} for k in range(count)]
