"""The lemma library: listing it, proving it, writing it out."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import IO

from gpu_check.common.children import start_worker
from gpu_check.common.detached import DetachedContext
from gpu_check.common.writing import write_whole
from refine.lemmas import schema
from refine.lemmas.cache import discharge_cached
from refine.lemmas.lemma import Lemma
from refine.lemmas.reading import instance
from refine.proof.z3_solver import hypotheses_text, smt2_text
from refine.results.obligation import Kind, Obligation


def library(kinds: Collection[Kind] = (Kind.SCHEMA, Kind.FORMAT)) -> tuple[Lemma, ...]:
    """All lemmas of these kinds, in the order in which they are stated."""
    every = schema.LEMMAS
    if Kind.FORMAT in kinds:
        from refine.lemmas import format_lemmas  # many terms, and only the tests ask

        every += format_lemmas.LEMMAS
    return tuple(m for m in every if m.kind in kinds)


def prove_library(
    kinds: Collection[Kind] = (Kind.SCHEMA,),
    timeout: float = 30.0,
    cache: Path | None = None,
    processes: int = 1,
) -> tuple[Obligation, ...]:
    """Put every lemma of these kinds to Z3, `timeout` seconds for each question.

    `cache` is a directory of earlier proofs (`cache.default_directory()`); without one Z3 proves
    everything anew. Results come in the library's order, whatever the number of processes.
    """
    names = [lemma.name for lemma in library(kinds)]
    prove = partial(_prove, timeout=timeout, cache=cache)
    if processes <= 1:
        return tuple(map(prove, names))
    with ProcessPoolExecutor(processes, DetachedContext(), start_worker, (os.getpid(),)) as pool:
        return tuple(pool.map(prove, names))


def dump_smt2(obligations: Iterable[Obligation], directory: Path) -> tuple[Path, ...]:
    """Write each query that was put to Z3 to its own file, and the instance of each lemma that was
    applied to the numbers of a node.

    A solver must answer unsat to each, and sat to each `.hypotheses.smt2`, which asks whether the
    hypotheses can hold. Either file says so in `(set-info :status …)`.
    """
    directory.mkdir(parents=True, exist_ok=True)
    paths = []
    written = (_written(o) for o in obligations)
    for number, obligation in enumerate(o for o in written if o.smt2):
        title = "-".join(filter(None, (obligation.kind.value, obligation.node, obligation.name)))
        safe = re.sub(r"[^A-Za-z0-9.-]+", "_", title)[:100]
        path = directory / f"{number:04d}-{safe}.smt2"
        write_whole(path, partial(_put, obligation.smt2))
        paths.append(path)
        if obligation.smt2_hypotheses:
            beside = path.with_suffix(".hypotheses.smt2")
            write_whole(beside, partial(_put, obligation.smt2_hypotheses))
            paths.append(beside)
    return tuple(paths)


def _written(obligation: Obligation) -> Obligation:
    """With the text of its instance, if it is the application of a lemma to finite numbers."""
    query = None if obligation.smt2 else instance(obligation)
    if query is None:
        return obligation
    return replace(obligation, smt2=smt2_text(query), smt2_hypotheses=hypotheses_text(query))


def _put(text: str, file: IO[bytes]) -> None:
    file.write(text.encode("utf-8", "backslashreplace"))


def _prove(name: str, timeout: float, cache: Path | None) -> Obligation:
    (lemma,) = (m for m in library() if m.name == name)
    return discharge_cached(lemma.query(timeout), cache)


def prove_lemmas(
    names: Iterable[str], cache: Path | None, timeout: float = 30.0
) -> tuple[Obligation, ...]:
    """Prove the named schema lemmas. Raises KeyError for a name the library does not have."""
    known = {lemma.name: lemma for lemma in library((Kind.SCHEMA,))}
    return tuple(discharge_cached(known[name].query(timeout), cache) for name in names)
