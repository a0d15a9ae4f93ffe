"""The record of applied lemmas in a certificate: written into it, and recomputed exactly from it.

The checker does not read it. `applications.json` holds what the JSON of the result holds, and what
`--dump-smt2` asks solvers about.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from checker.check import SCHEMA
from encoders.lemmas.claims import WITHIN_TOLERANCE
from encoders.lemmas.lemma import Lemma, not_negative
from encoders.lemmas.library import LEMMAS
from encoders.lemmas.reading.exact import Exact, made_finite
from encoders.lemmas.terms import text
from onnx_import.graph import Graph
from refine import __version__
from refine.bounds.properties.deficits import DEFICIT
from refine.results.record import record_of
from refine.results.verdict import Result

MEMBER = "applications.json"
SEAL = "applications.sha256"
_DOCUMENT = "certificate.json"
_LARGEST = 2**28  # bytes
_UNREADABLE = (
    zipfile.BadZipFile, NotImplementedError, RuntimeError, KeyError, AttributeError, TypeError,
)  # fmt: skip
_RATIONAL = re.compile(r"-?\d{1,2000}(/\d{1,2000})?")
_FLOAT = re.compile(r"-?0x[01]\.[0-9a-f]{1,13}p[+-]\d{1,4}|-?inf")


def with_record(content: bytes | None, result: Result, outside: str | None) -> bytes:
    """A certificate with the applications of its result; where it is outside the checker's language
    there is no `content`, and it says why in place of what could be checked."""
    record = json.dumps(record_of(result.every_obligation), indent=1).encode()
    members = _members(content) if content else {}
    if not content:
        np.savez(empty := io.BytesIO())
        only = _without_claims(result.graph, outside)
        members = {_DOCUMENT: json.dumps(only).encode(), "arrays.npz": empty.getvalue()}
    members = {**members, MEMBER: record, SEAL: _seal(record).encode()}
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as zipped:
        for name, held in members.items():
            zipped.writestr(name, held)
    return whole.getvalue()


def _members(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as zipped:
        return {name: zipped.read(name) for name in zipped.namelist()}


def _seal(record: bytes) -> str:
    """The SHA-256 of the record, in hexadecimal."""
    return hashlib.sha256(record).hexdigest()


def _without_claims(graph: Graph, outside: str | None) -> dict[str, Any]:
    name = "" if graph.source is None else graph.source.name
    model = {"sha256": graph.sha256, "file": name}
    return {"schema": SCHEMA, "outside": outside, "model": model, "by": {"refine": __version__}}


def recorded(certificate: bytes) -> list[Mapping[str, Any]] | None:
    """The applications in a certificate, None in one that others wrote, which has no record.
    Raises ValueError for what is no record, or is another one than was written."""
    try:
        with zipfile.ZipFile(io.BytesIO(certificate)) as zipped:
            kept = {MEMBER, SEAL} & set(zipped.namelist())
            if not kept:
                if "refine" in (json.loads(zipped.read(_DOCUMENT)).get("by") or {}):
                    raise ValueError("it says that refine wrote it, and has no record of lemmas")
                return None
            if len(kept) < 2:
                raise ValueError("the record of its applications is not whole")
            if max(zipped.getinfo(name).file_size for name in (MEMBER, SEAL)) > _LARGEST:
                raise ValueError("the record of its applications is too large")
            held, seal = zipped.read(MEMBER), zipped.read(SEAL)
        if seal != _seal(held).encode():
            raise ValueError("the record of its applications is not the one that was written")
        found = json.loads(held)
    except (*_UNREADABLE, RecursionError) as error:
        raise ValueError(f"the record of its applications cannot be read: {error}") from error
    if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
        raise ValueError("the record of its applications is no list of objects")
    return found


def unmet(applications: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What is wrong with each application of which a hypothesis does not hold of its numbers, or
    whose lemma gives more than the radius taken, in exact arithmetic."""
    lemmas = {lemma.name: lemma for lemma in LEMMAS}
    for entry in applications:
        name = ascii(str(entry.get("name")))[:200]
        lemma = lemmas.get(str(entry.get("lemma")))
        try:
            why = "it is of no lemma that is known" if lemma is None else _wrong(lemma, entry)
        except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
            why = f"it is not read: {error!r}"
        if why:
            yield f"application {name}: {why}"


def _wrong(lemma: Lemma, entry: Mapping[str, Any]) -> str:
    if "not_shown" in entry:
        return "a hypothesis was not shown"
    given = {name: _read(number) for name, number in entry["numbers"].items()}
    if list(given) != [p.name for p in lemma.read]:
        return f"its numbers are not those of lemma {lemma.name}"
    radius = _read(entry["radius"])
    if radius == math.inf:
        return ""
    exact = Exact(made_finite(lemma, given))
    for formula in (*not_negative(lemma), *lemma.hypotheses):
        if not exact.holds(formula):
            return f"{text(formula)} does not hold of its numbers"
    return f"lemma {lemma.name} gives more than the radius" * (exact.of(lemma.radius) > radius)


def _read(number: str) -> Fraction | float:
    if _RATIONAL.fullmatch(number):
        return Fraction(number)
    if not _FLOAT.fullmatch(number):
        raise ValueError(f"{number[:40]!r} is no number")
    return float.fromhex(number)


def missing(certificate: bytes, applications: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Of each output whose accuracy is claimed, and of an unsafe set, if no application says that
    the bound is within what is claimed."""
    with zipfile.ZipFile(io.BytesIO(certificate)) as zipped:
        document = json.loads(zipped.read(_DOCUMENT))
    claim = document.get("claim") or {}
    entries = {str(entry.get("name")): entry for entry in applications}
    for output, eps in (claim.get("eps") or {}).items():
        entry = entries.get(f"{WITHIN_TOLERANCE.name}/claim/{output}", {})
        if entry.get("numbers", {}).get("eps") != eps:
            yield f"no application shows the claim on output {ascii(output)[:200]}"
    entry = entries.get(f"{WITHIN_TOLERANCE.name}/claim/{DEFICIT}", {})
    if claim.get("unsafe") and entry.get("numbers", {}).get("eps") != "0":
        yield "no application shows that nothing is lacking to stay out of the unsafe set"
