"""Answers as findings, for tools that read test results (JUnit) and analyses (SARIF)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

import numpy as np

from refine.results.summary import advice_of, figures_of
from refine.results.verdict import ExitCode, Result, Verdict
from refine.witness.file import replaying


class Outcome(Enum):
    """What a test came to, as the tools tell them apart."""

    PASSED = "passed"
    FAILED = "failed"  # the claim is false
    UNDECIDED = "undecided"
    ERROR = "error"  # nothing was asked: a file could not be read, or an internal error


@dataclass(frozen=True)
class Finding:
    """One answer: `rule` is its kind, such as `violated`; `node` where in the model it hangs, if it
    does anywhere. `message` is a sentence, `more` are lines."""

    name: str
    model: str
    outcome: Outcome
    rule: str
    message: str
    more: tuple[str, ...] = ()
    node: str | None = None
    seconds: float = 0.0


_OUTCOMES = {
    ExitCode.VERIFIED: Outcome.PASSED,
    ExitCode.VIOLATED: Outcome.FAILED,
    ExitCode.INTERNAL_ERROR: Outcome.ERROR,
}


def finding_of(result: Result, name: str) -> Finding:
    """A result under the name of its test. What the exit code says, the finding says."""
    broken = [f"{c.runtime} does not honour the contract: {c.text}" for c in result.broken]
    figures = ", ".join(figures_of(result))
    said = f"{result.word}: {figures}: {result.reason}"
    replay = [] if result.witness_file is None else [f"refine replay {replaying(result)}"]
    return Finding(
        name,
        str(result.graph.source or "model"),
        _OUTCOMES.get(result.exit_code, Outcome.UNDECIDED),
        result.exit_code.name.lower().replace("_", "-"),
        broken[0] if broken and result.verdict is not Verdict.VIOLATED else said,
        (*broken, said, *advice_of(result), *replay),
        _node_of(result),
        result.seconds,
    )


def _node_of(result: Result) -> str | None:
    """The node that gives what is wrong: the output of a counterexample; else the first whose error
    is infinite, else the one that costs most."""
    if result.witness is not None:
        gives = (n.name for n in result.graph.order if result.witness.output in n.outputs)
        return next(gives, None)
    infinite = (n.name for n in result.nodes if not np.isfinite(n.error))
    dearest = max(result.nodes, key=lambda n: n.share, default=None)
    return next(infinite, None if dearest is None else dearest.name)


def counts_of(findings: Iterable[Finding]) -> dict[Outcome, int]:
    """How many there are of each outcome."""
    found = list(findings)
    return {outcome: sum(f.outcome is outcome for f in found) for outcome in Outcome}
