"""Many claims as Python asks them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from encoders.contract.contract import RuntimeContract
from gpu_check.common.writing import require_writable, write_text
from onnx_import.errors import ModelError
from refine.claims.asked import read_for
from refine.claims.many.answers import Decisions, Rows
from refine.claims.many.benching import Bench, Row, document_of_rows, kept_rows, run_list
from refine.claims.many.instances import read_instances
from refine.claims.many.points import points_of, shapes_in
from refine.claims.many.stability import BUDGET, Stability, every_decision, settled_for, specified
from refine.claims.python_values import contract_value, path_text, places_of
from refine.common.arrays import Stored, stored_arrays
from refine.common.told import told
from refine.domain.values import exact_text, range_text
from refine.options.models import Model, opened
from refine.options.settings import Settings, require_count
from refine.options.sizes import sizes_from, written

_FLAGS = ("no_search", "no_cache")


def stability(model: Model, data: object, words: dict[str, Any]) -> Decisions:
    """The decisions of a data set: a file of points, or arrays. Raises ModelError."""
    radius, clip = words.pop("radius", "0"), words.pop("clip", None)
    output, first, spec = (words.pop(n, None) for n in ("output", "first", "spec"))
    kept, json = (_place(words, n) for n in ("counterexamples", "json"))
    if output is not None and not isinstance(output, str):
        raise ModelError(f"output= is the name of an output, not {told(output)}")
    if first is not None:
        require_count("first", first, least=1)
    contract = contract_value("contract", words.pop("contract", "ieee-any"))
    allow = places_of(words.pop("allow", ()))
    sizes = sizes_from(words.pop("shapes", None), words.pop("dims", None))
    settings = Settings(contract=contract, allow=allow, sizes=sizes, **{"budget": BUDGET, **words})
    if json is not None:
        require_writable(json)
    start, timeout = time.monotonic(), settings.timeout
    with ExitStack() as stack:
        source = stack.enter_context(opened(model))
        arrays, where = _arrays_of(data)
        graph, chosen = read_for(source, settings, shapes_in(arrays))
        points = points_of(arrays, where, graph, chosen.format_of)
        other = None if spec is None else stack.enter_context(opened(spec, "spec"))
        asked = Stability(
            graph,
            settled_for(settings, chosen),
            output or "",
            points,
            exact_text(radius),
            None if clip is None else range_text(clip),
            kept,
            None if timeout is None else start + timeout,
            None if other is None else specified(other, graph, settings),
        )
        numbers = range(len(points) if first is None else min(first, len(points)))
        found = every_decision(asked, numbers, lambda so_far: None)
    answer = Decisions(asked, found)
    if json is not None:
        write_text(json, answer.to_json())
    return answer


def _arrays_of(data: object) -> tuple[Stored | Mapping[str, Stored], str]:
    """The arrays of the points, and where they are from."""
    if isinstance(data, str | Path):
        return stored_arrays(Path(data)), str(data)
    given = data if isinstance(data, Mapping) else {"": data}
    stored = {}
    for name, value in given.items():
        try:
            array = np.asarray(value)
        except Exception as error:  # what an __array__ of a foreign class raises
            raise ModelError("the points cannot be read as arrays") from error
        stored[str(name)] = Stored(array.dtype, array.shape, partial(np.asarray, array))
    return stored, "the points given"


def listed(instances: object, words: dict[str, Any]) -> Rows:
    """The answers of a list of instances. Raises ModelError for what is no list."""
    path = Path(path_text("instances", instances))
    resume = words.pop("resume", False)
    folder, json = (_place(words, n) for n in ("counterexamples", "json"))
    timeout, budget = words.pop("timeout", None), words.pop("budget", None)
    if resume and json is None:
        raise ModelError("resume= needs json=, whose answers it keeps")
    if isinstance(words.get("contract"), RuntimeContract):
        raise ModelError("bench takes a contract by its name or its file: each check reads it")
    _ = Settings(  # says what is wrong with them
        **{n: v for n, v in words.items() if n not in ("contract", "allow", "shapes", "dims")},
        timeout=timeout,
        **({} if budget is None else {"budget": budget}),
    )
    if json is not None:
        require_writable(json)
    every = read_instances(path, timeout)
    earlier = kept_rows(json) if resume and json is not None else ()

    def keep(rows: Any) -> None:
        if json is not None:
            write_text(json, document_of_rows(rows, len(every)))

    with ExitStack() as stack:
        if folder is None:
            folder = Path(stack.enter_context(TemporaryDirectory(prefix="refine-")))
        folder.mkdir(exist_ok=True)
        contract = Path(str(words.get("contract", "")))
        cluster = words.pop("cluster", None)
        if cluster is not None:  # each instance has one of its workers
            words |= {"workers": 1}
        bench = Bench(
            _arguments(words),
            folder,
            budget,
            contract if contract.suffix == ".toml" else None,
            cluster=cluster,
        )
        rows: tuple[Row, ...] = run_list(bench, every, earlier, lambda n, i: None, keep)
    return Rows(rows)


def _arguments(words: Mapping[str, Any]) -> tuple[str, ...]:
    """Keywords as the options of the command line."""
    made: list[str] = []
    for name, value in words.items():
        option = f"--{name.replace('_', '-')}"
        if name == "conform":
            made.append(option if value else "--no-conform")
        elif name in _FLAGS:
            made += [option] if value else []
        elif name == "allow":
            made += [part for place in places_of(value) for part in (option, str(place))]
        elif name in ("shapes", "dims"):
            made += written(sizes_from(**{name: value}))
        elif value is not None:
            made += [option, str(value)]
    return tuple(made)


def _place(words: dict[str, Any], name: str) -> Path | None:
    value = words.pop(name, None)
    return None if value is None else Path(path_text(name, value))
