"""The record of applied lemmas as plain values: the JSON and the certificate hold the same ones."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from typing import Any

from encoders.lemmas.application import Application
from encoders.lemmas.terms import text
from refine.results.obligation import Obligation


def record_of(obligations: Iterable[Obligation]) -> list[dict[str, Any]]:
    """Of each application among these its name, its node and its numbers, in their order."""
    return [
        {"name": o.name, "node": o.node, **application_document(o.application)}
        for o in obligations
        if o.application is not None
    ]


def application_document(here: Application) -> dict[str, Any]:
    """The lemma, the numbers at the worst element by the lemma's names, the radius there, and how
    many elements were bounded; every number in full, as a hexadecimal float or a fraction."""
    assert here.lemma is not None
    return {
        "lemma": here.lemma.name,
        "numbers": {
            p.name: _written(n) for p, n in zip(here.lemma.read, here.numbers, strict=True)
        },
        "radius": _written(here.bound),
        "elements": here.elements,
        **({} if here.failed is None else {"not_shown": text(here.failed)}),
    }


def _written(number: float | Fraction) -> str:
    if isinstance(number, Fraction):
        return str(number)
    return float(number).hex()
