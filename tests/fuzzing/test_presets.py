"""Every operator under presets, with Z3 asked: nothing escapes, and no answer opposes another."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import chain

import numpy as np
import pytest
from graphs import RECIPES, one_operator
from trial import Trial, box_of, graph_of

from encoders.contract.presets import PRESETS
from encoders.lemmas.rounding import ROUNDED
from encoders.numbers.formats import BINARY16, small_format
from onnx_import.errors import ModelError
from refine.claims.kinds.accuracy import check
from refine.claims.options import Options
from refine.domain.domain import Domain
from refine.lemmas.cache import default_directory
from refine.proof.cross_check import EVERYTHING, SAMPLE, Effort
from refine.results.obligation import Outcome
from refine.results.verdict import Result, Tolerance, Verdict

NAMES, OPERATORS = list(PRESETS), sorted(RECIPES)
FORMATS = (None, None, BINARY16, small_format(4, 4), small_format(2, 3), small_format(5, 2))
EFFORTS = {
    "sample": replace(SAMPLE, queries=4, rlimit=300_000),
    "all": replace(EVERYTHING, rows=2, largest=200, queries=4, undecided=1, rlimit=300_000),
}
STRICT = Tolerance(Fraction(1, 10**30))  # so that errors are searched for


def tried(op: str, preset: str, seed: int, effort: Effort) -> Result | None:
    """None where the operator is refused."""
    rng = np.random.default_rng(seed)
    contract = replace(PRESETS[preset], compute_format=FORMATS[seed % len(FORMATS)])
    model = one_operator(rng, op)
    graph = graph_of(model)
    shapes = {n: graph.types[n].shape for n in graph.inputs}
    lo, hi = ({n: np.full(s, end) for n, s in shapes.items()} for end in (-1.0, 1.0))
    trial = Trial(model, contract, lo, hi, seed)
    domain = Domain((box_of(trial, graph),), "unit")
    options = Options(effort, default_directory(), search_seconds=0.02)
    try:
        return check(graph, domain, contract, STRICT, options)
    except ModelError:
        return None


def opposed(result: Result) -> object:
    """What contradicts what in an answer, if anything does."""
    if result.verdict is Verdict.CONTRADICTION:
        return result.reason
    if not all(np.all(np.isfinite(bound)) for bound in result.bounds.values()):
        return None  # nothing was claimed
    obligations = chain(*(node.obligations for node in result.nodes))
    return [o for o in obligations if o.outcome is Outcome.REFUTED] or None


@pytest.mark.parametrize("op", OPERATORS)
def test_nothing_escapes_and_nothing_is_opposed(op: str) -> None:
    """Every operator meets a preset here, and every preset each kind of cross-check."""
    place = OPERATORS.index(op)
    preset, kind = NAMES[place % len(NAMES)], list(EFFORTS)[place % len(EFFORTS)]
    result = tried(op, preset, place, EFFORTS[kind])
    assert result is None or opposed(result) is None, preset


def test_an_answer_that_opposes_itself_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    from encoders.rounding import rounding_bounds

    exact = replace(ROUNDED, radius=0 * ROUNDED.reach)
    monkeypatch.setattr(rounding_bounds, "ROUNDED", exact)
    results = [tried("Mul", "sequential", seed, EFFORTS["sample"]) for seed in range(12)]
    assert any(result is not None and opposed(result) for result in results)
