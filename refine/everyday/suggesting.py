"""Beside an answer under the default contract: the one that the model's types and the runtime here
ask for, with the bound that it would give."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np

from encoders.contract.presets import IEEE_ANY
from encoders.program import program_of
from onnx_import.errors import ModelError
from refine.claims.conduct import inputs_of
from refine.claims.kinds.accuracy import check
from refine.claims.options import Options
from refine.everyday.advising import setting_for
from refine.lemmas.cache import default_directory
from refine.results.numerals import up
from refine.results.verdict import Result, Tolerance, Verdict

_MOST_WORK = 2**24  # multiply-adds of a model that is bounded again
_LONGEST = 30.0  # seconds that this may take
_WORTHWHILE = 0.9  # of the bound, below which another is said


def suggested(
    result: Result,
    *,
    allowed: tuple[Path, ...] = (),
    left: float = math.inf,
    tell: Callable[[str], None] = lambda stage: None,
) -> str | None:
    """What to ask in place of this, in a sentence; None where the answer is what was hoped for,
    where a contract was chosen, nobody looked at the runtime, or it would take long. `left` is how
    many seconds there are."""
    graph, conduct = result.graph, result.conduct
    hoped = result.tolerance.given and result.verdict is Verdict.VERIFIED and not result.broken
    plain = result.contract == IEEE_ANY and result.spec is None and graph.source is not None
    if hoped or not plain or conduct is None or conduct.honours is None or graph.source is None:
        return None
    if result.verdict not in (Verdict.VERIFIED, Verdict.UNKNOWN, Verdict.VIOLATED):
        return None
    seconds = min(left / 2, _LONGEST)
    if program_of(graph).work > _MOST_WORK or seconds < result.seconds:
        return None
    points = result.domain.boxes[0].sample(np.random.default_rng(result.seed), inputs_of(graph))
    try:
        setting = setting_for(graph.source, graph, points, allowed, tell)
        if not setting.options or setting.conduct is None or setting.conduct.honours is not True:
            return None
        tell(f"bounds with {' '.join(setting.options)}")
        effort = Options(cross_check=None, cache=default_directory(), search=False, timeout=seconds)
        other = check(setting.graph, result.domain, setting.contract, Tolerance(), effort)
    except ModelError:
        return None
    smaller = other.bound < _WORTHWHILE * result.bound or bool(result.broken)
    if not math.isfinite(other.bound) or not smaller:
        return None
    seen = setting.conduct
    return (
        f"{' '.join(setting.options)}: {seen.runtime} keeps to that on {seen.inputs} inputs, and "
        f"the bound is {up(other.bound, 3)}"
    )
