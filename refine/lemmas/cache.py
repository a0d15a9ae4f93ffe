"""Remembering on disk which queries Z3 has proved.

A file says one thing: Z3, in this version, discharged exactly this text. It holds the text, and
is believed for no other. Everything that can go wrong with a file means that Z3 is asked.
"""

from __future__ import annotations

import hashlib
import json
import time
from contextlib import suppress
from pathlib import Path

import platformdirs

from gpu_check.common.writing import write_whole
from onnx_import.files import read_plain
from refine.proof.z3_solver import SOLVER_VERSION, Query, discharge, hypotheses_text, smt2_text
from refine.results.obligation import Discharger, Obligation, Outcome

MEANING = "goal follows, hypotheses can hold"
"""What `discharged` meant when the file was written."""


def default_directory() -> Path:
    """Where proofs are kept unless the user says otherwise."""
    return Path(platformdirs.user_cache_dir("refine")) / "lemmas"


def discharge_cached(query: Query, directory: Path | None) -> Obligation:
    """`discharge`, unless this directory knows the query as proved; None asks Z3 always."""
    if directory is None:
        return discharge(query)
    start = time.perf_counter()
    text = smt2_text(query)
    if is_known(directory, text):
        return Obligation(
            query.name,
            query.kind,
            goal=query.goal.text,
            outcome=Outcome.DISCHARGED,
            discharger=Discharger.CACHE,
            seconds=time.perf_counter() - start,
            node=query.node,
            hypotheses=tuple(h.text for h in query.hypotheses),
            smt2=text,
            smt2_hypotheses=hypotheses_text(query),
        )
    obligation = discharge(query)
    if obligation.discharged:
        remember(directory, obligation.smt2)
    return obligation


def path_of(directory: Path, text: str) -> Path:
    """The file that says that a query was discharged, named after solver version and text."""
    key = hashlib.sha256(f"{SOLVER_VERSION}\n{MEANING}\n{text}".encode()).hexdigest()
    return directory / f"{key}.json"


def is_known(directory: Path, text: str) -> bool:
    """Does the directory say that this very text was discharged by this very solver?"""
    try:
        record = json.loads(read_plain(path_of(directory, text)))
    except (OSError, ValueError, RecursionError):
        return False
    return bool(record == _record(text))


def remember(directory: Path, text: str) -> None:
    """Note a discharged text; does nothing where the directory cannot be written."""
    target = path_of(directory, text)
    with suppress(OSError):
        directory.mkdir(parents=True, exist_ok=True)
        text_of_file = json.dumps(_record(text)).encode()
        write_whole(target, lambda file: file.write(text_of_file))


def _record(text: str) -> dict[str, str]:
    return {"solver": SOLVER_VERSION, "discharged": MEANING, "smt2": text}
