"""What a tool made of a model, held to what rounding alone may do: an answer for continuous
integration, without a domain or a tolerance to choose."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np

from encoders.contract.contract import RuntimeContract
from encoders.contract.presets import EXACT, IEEE_ANY
from onnx_import.graph import Graph
from refine.claims.asked import Question, answered
from refine.claims.options import Options
from refine.claims.registry import DIFFERENCE, USUAL, claims
from refine.domain.domain import Domain, DomainOptions, read_domain
from refine.everyday.advising import ranges_of
from refine.everyday.numbers import device_numbers
from refine.everyday.points import given_by
from refine.options.models import read_as
from refine.options.settings import Settings
from refine.options.sizes import shown_by
from refine.pair.pair import pair_of
from refine.results.compared import Relation
from refine.results.verdict import Result, Side, Tolerance

_TIMES = 2  # what rounding does to the model before the step, both copies together
_SHORTEST = 1e-3  # seconds, where the limit has passed before the work began


@dataclass(frozen=True)
class Step:
    """The answer; whether its domain was `assumed`; how far apart both models may be, +∞ where no
    tolerance could be derived."""

    result: Result
    assumed: bool
    allowed: float

    @property
    def line(self) -> str:
        """The answer in one line."""
        result = self.result
        compared, parts = result.compared, [result.verdict.value]
        if compared is not None:
            parts.append(compared.relation.value)
            worst = compared.differences[0] if compared.differences else None
            if worst is not None and compared.relation is not Relation.EQUAL:
                place = worst.impl[-1] if worst.impl else worst.spec[-1]
                parts.append(f"most at '{place}': {worst.text}")
        found = result.worst_found
        parts.append(f"at most {result.bound:.3g} apart")
        if found is not None:
            parts.append(f"found {found:.3g}")
        parts.append(f"allowed {self.allowed:.3g}")
        parts.append(f"on {result.domain.source}{' (assumed)' if self.assumed else ''}")
        return "; ".join(parts)


def stepped(
    before: Path,
    after: Path,
    *,
    settings: Settings,
    samples: Path | None = None,
    written: DomainOptions | None = None,
    match: Mapping[str, str] | None = None,
    tell: Callable[[str], None] = lambda stage: None,
) -> Step:
    """Is the model after the step within rounding of the one before?

    The domain is `written`, else ranges that hold the samples, else what the model states, else a
    guess. Both may be apart by twice the bound on what rounding does to the model before, which is
    read over the reals. Raises ModelError for what cannot be read or compared.
    """
    start = time.monotonic()
    arrays = None if samples is None else device_numbers(samples)
    settings = replace(settings, sizes=shown_by(settings.sizes, arrays or {}))
    graph, first = (
        read_as(path, allowed=settings.allow, sizes=settings.sizes) for path in (after, before)
    )
    names = pair_of(Side(first, EXACT), Side(graph, EXACT), match).inputs
    given = None
    if arrays is not None:
        given = given_by(arrays, graph, IEEE_ANY.format_of, str(samples), whole=True)
    ranges, assumed = ((), False) if written is not None else ranges_of(graph, given)
    asked = written or DomainOptions(inputs=ranges)
    own = Question(
        claim=claims()[USUAL],
        model=before,
        domain=partial(_domain, replace(asked, inputs=_renamed(asked.inputs, names))),
        tolerance=lambda found: Tolerance(),
        settings=replace(settings, budget=0.0, no_search=True, conform=False, z3="none"),
        text=USUAL,
    )
    ready = partial(_ready, settings.timeout, start)
    tell("what rounding does to the model before")
    allowed = _TIMES * answered(own, tell, ready).bound
    tolerance = Tolerance(Fraction(allowed)) if np.isfinite(allowed) else Tolerance()
    question = Question(
        claim=claims()[DIFFERENCE],
        model=after,
        domain=partial(_domain, asked),
        tolerance=lambda found: tolerance,
        settings=settings,
        spec=before,
        match=match,
        text=DIFFERENCE,
    )
    result = answered(question, tell, ready)
    return Step(result, assumed, float(allowed))


def _domain(asked: DomainOptions, graph: Graph, contract: RuntimeContract) -> Domain:
    return read_domain(graph, asked, contract.format_of)


def _renamed(ranges: tuple[str, ...], names: Mapping[str, str]) -> tuple[str, ...]:
    """`NAME=LO..HI` of the model after the step under the names of the one before."""
    parts = (text.rpartition("=") for text in ranges)
    return tuple(f"{names.get(name, name)}{equals}{span}" for name, equals, span in parts)


def _ready(timeout: float | None, start: float, options: Options) -> Options:
    """What is left of the time for both answers."""
    if timeout is None:
        return options
    return replace(options, timeout=max(timeout - (time.monotonic() - start), _SHORTEST))
