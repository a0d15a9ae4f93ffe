"""What a node's bound was made by: its record of applied lemmas, as obligations.

One obligation for each lemma, with the numbers at the worst element of all its applications: that
every hypothesis holds of these numbers, and that the radius which was taken is no smaller than the
lemma's. `refine lemmas` proves the lemmas themselves.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from encoders.lemmas.application import Application
from encoders.lemmas.terms import text
from refine.bounds.network import NodeBounds
from refine.results.obligation import Discharger, Kind, Obligation, Outcome
from refine.results.theorem import Theorem


def applied(node: NodeBounds) -> Iterator[Obligation]:
    """The lemmas that the node's rounding bound was made by, each with its worst application.

    An application of which a hypothesis failed counts only where nothing else bounds the error.
    """
    return _each(node.node.name, node.rounding.radius.record)


def claimed(theorem: Theorem, node: str) -> tuple[Obligation, ...]:
    """The lemmas that carry the bounds of parts to the whole domain and compare them with ε, each
    with its worst application, at the node that is named. What parts rest on is not repeated."""
    return tuple(
        replace(o, node=node)
        for output, record in theorem.records.items()
        for o in _each(f"claim/{output}", record)
        if o.application is not None and o.application.lemma is not None
    )


def _each(name: str, record: Application) -> Iterator[Obligation]:
    bounded = bool(np.isfinite(record.bound))
    worst: dict[str, Application] = {}
    times: dict[str, int] = {}
    for here in record.everything():
        if here.lemma is None and not here.cited:
            continue
        if here.failed is not None and bounded:
            continue
        title = here.lemma.name if here.lemma else f"beside {', '.join(here.cited)}"
        times[title] = times.get(title, 0) + here.elements
        if title not in worst or _worse(here, worst[title]):
            worst[title] = here
    for title, here in worst.items():
        yield _obligation(name, title, replace(here, premises=()), times[title])


def _worse(here: Application, other: Application) -> bool:
    if (here.failed is None) is not (other.failed is None):
        return here.failed is not None
    return here.bound > other.bound


def _obligation(node: str, title: str, here: Application, elements: int) -> Obligation:
    lemma = here.lemma
    if lemma is None:
        goal = f"a bound of at most {here.bound:.6g} on {elements} elements, computed {title}"
        hypotheses: tuple[str, ...] = ()
    else:
        given = ", ".join(
            f"{p.shown} = {float(n):.6g}" for p, n in zip(lemma.read, here.numbers, strict=False)
        )
        goal = f"|{text(lemma.error)}| ≤ {here.bound:.6g}" + (f" for {given}" if given else "")
        goal += f"; {elements} elements"
        hypotheses = tuple(text(h) for h in lemma.hypotheses)
    failed = "" if here.failed is None else f"not shown: {text(here.failed)}"
    return Obligation(
        f"{title}/{node}",
        Kind.INSTANCE,
        goal=goal,
        outcome=Outcome.UNDECIDED if failed else Outcome.DISCHARGED,
        discharger=Discharger.ENCLOSURE,
        seconds=0.0,
        node=node,
        hypotheses=hypotheses,
        detail=failed,
        application=here,
    )
