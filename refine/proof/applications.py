"""What a node's bound was made by: its record of applied lemmas, as obligations.

One obligation for each lemma, with the numbers at the worst element of all its applications: that
every hypothesis holds of these numbers, and that the radius which was taken is no smaller than the
lemma's. `refine lemmas` proves the lemmas themselves.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction

import numpy as np

from encoders.lemmas.application import Application, worst_of_each
from encoders.lemmas.terms import text
from refine.bounds.network import NodeBounds
from refine.common.exact import show
from refine.results.obligation import Discharger, Kind, Obligation, Outcome
from refine.results.theorem import Theorem


def applied(node: NodeBounds) -> Iterator[Obligation]:
    """The lemmas that the node's rounding bound was made by, each with its worst application.

    An application of which a hypothesis failed counts only where nothing else bounds the error.
    """
    return _each(node.node.name, node.node.name, node.rounding.radius.record)


def claimed(theorem: Theorem, node: str) -> tuple[Obligation, ...]:
    """The lemmas that the theorem rests on, those of all parts of the domain, each with its worst
    application, at the node that is named."""
    return tuple(
        o
        for output, record in theorem.records.items()
        for o in _each(f"claim/{output}", node, record)
    )


def together(one: Application, other: Application) -> Application:
    """The worst of two applications of a lemma, of the elements of both."""
    if (one.failed is None) is not (other.failed is None):
        return one if one.failed is not None else other
    worse = max(one, other, key=lambda here: (here.elements > 0, here.bound))
    return replace(worse, elements=one.elements + other.elements)


def with_application(obligation: Obligation, here: Application) -> Obligation:
    """The obligation that says what this application of its lemma does."""
    made = _obligation(obligation.name, obligation.node, here)
    return replace(made, seconds=obligation.seconds)


def _each(place: str, node: str, record: Application) -> Iterator[Obligation]:
    bounded = bool(np.isfinite(record.bound))
    worst: dict[str, Application] = {}
    for here in worst_of_each((record,)):
        if here.lemma is None or not here.elements or (here.failed is not None and bounded):
            continue
        name = here.lemma.name
        worst[name] = together(worst[name], here) if name in worst else here
    for name, here in worst.items():
        yield _obligation(f"{name}/{place}", node, here)


def _obligation(name: str, node: str, here: Application) -> Obligation:
    lemma = here.lemma
    assert lemma is not None
    given = ", ".join(
        f"{p.shown} = {_shown(n)}" for p, n in zip(lemma.read, here.numbers, strict=True)
    )
    goal = f"|{text(lemma.error)}| ≤ {here.bound:.6g}" + (f" for {given}" if given else "")
    failed = "" if here.failed is None else f"not shown: {text(here.failed)}"
    return Obligation(
        name,
        Kind.INSTANCE,
        goal=f"{goal}; {here.elements} elements",
        outcome=Outcome.UNDECIDED if failed else Outcome.DISCHARGED,
        discharger=Discharger.ENCLOSURE,
        seconds=0.0,
        node=node,
        hypotheses=tuple(text(h) for h in lemma.hypotheses),
        detail=failed,
        application=here,
    )


def _shown(number: Fraction | float) -> str:
    return show(number, 6) if isinstance(number, Fraction) else f"{float(number):.6g}"
