"""A result in few words."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from encoders.contract.presets import IEEE_ANY
from encoders.numbers.radius import largest_radius
from refine.results.numerals import down, plain, up
from refine.results.verdict import ProvedMargin, Result, Tolerance, Verdict

_LONGEST_REASON = 200  # characters


def figures_of(result: Result) -> Iterator[str]:
    """`bound 1e-4`, `eps 1e-3`, `worst found 2e-5`: what the answer rests on, as far as known."""
    if result.margins is not None:
        yield from _margin(result.margins)
        return
    if result.only_bounded and result.compared is not None:
        yield result.compared.relation.value
    shown = result.theorem is not None and not result.bounds
    yield "without a bound" if shown else f"bound {up(result.bound, 6)}"
    for f in result.relative:
        of = f" of '{f.output}'" if len(result.relative) > 1 else ""
        yield f"precision{of} {up(f.precision, 6)} ({up(f.ulps, 4)} ulp)"
        if f.while_normal is not None:
            units = f.while_normal / f.unit
            yield f"precision {up(f.while_normal, 6)} ({up(units, 4)} u) where all is normal"
        if f.atol and math.isfinite(f.atol):
            yield f"or rtol {up(f.rtol, 4)} with atol {up(f.atol, 4)}"
    yield from _eps(result.tolerance)
    if result.largest_found is not None:
        whose = result.shown is not None and result.found_by == result.shown.runtime
        by = f" by {result.found_by}" if whose else ""
        yield f"worst found {down(result.largest_found, 6)}{by}"


def _margin(margins: Sequence[ProvedMargin]) -> Iterator[str]:
    """The least margin of all conjunctions, and what rounding takes of it."""
    if not margins:
        yield "no input of the domain is within the limits of the unsafe set"
        return
    least = min(margins, key=lambda m: m.run)
    yield f"margin {down(least.run, 6)}"
    yield f"over the reals {down(min(m.real for m in margins), 6)}"


def advice_of(result: Result) -> Iterator[str]:
    """What outputs that are decisions make of a bound; of an answer that is not known: which output
    it hangs on, where the bound comes from, and what may settle it."""
    yield from decided(result)
    if result.verdict is not Verdict.UNKNOWN or not result.nodes:
        return
    worst = max(
        result.bounds, key=lambda t: result.tolerance.excess(t, result.bounds[t]), default=None
    )
    if worst is not None and len(result.bounds) > 1:
        wanted = result.tolerance.of(worst)
        least = "" if wanted is None else f", eps {plain(wanted)}"
        bound = up(largest_radius(result.bounds[worst]), 6)
        yield f"it hangs on output '{worst}': bound {bound}{least}"
    dearest = max(result.nodes, key=lambda n: n.share)
    ways = ["a longer --timeout" if result.timed_out else "a longer --budget", "a smaller domain"]
    real = min((m.real for m in result.margins or ()), default=1.0) <= 0.0
    real = real and not result.contract.exact
    if result.contract.name == IEEE_ANY.name and result.suggestion is None and not real:
        ways.append("a contract that allows less (ort-cpu, or one that was probed)")
    if result.relative and not math.isfinite(result.bound):
        ways = [
            "a smaller domain, on which results keep away from 0",
            "an atol beside the rtol (refine tolerance --rtol proved)",
            "an absolute bound (without --relative)",
        ]
    source = ""
    infinite = next((n for n in result.nodes if not math.isfinite(n.error)), None)
    if infinite is not None:
        source = f"no bound is known from '{infinite.name}' ({infinite.op}) on; "
    elif real:  # rounding is not to blame
        source = "the real network is not shown to hold it either, its ranges being too wide; "
    elif dearest.share > 0:  # nothing costs anything where no error is allowed
        node = f"'{dearest.name}' ({dearest.op})"
        source = f"the largest part of the bound ({100 * dearest.share:.0f} %) comes from {node}; "
    yield f"{source}to go on: {', '.join(ways)}"


def decided(result: Result) -> Iterator[str]:
    """Outputs of whole numbers, whose bound is that of a decision that may change: it says nothing
    of the others, beside which it is large."""
    steps = undecided(result)
    if not steps or result.claimed is not None or result.margins is not None or result.relative:
        return
    named = ", ".join(f"'{t}'" for t in steps)
    others = [largest_radius(b) for t, b in result.bounds.items() if t not in steps]
    rest = f"; the largest bound of the other outputs is {up(max(others), 6)}" if others else ""
    yield (
        f"{named}: whole numbers, such as labels, which change by steps where a decision is "
        f"close: refine stable tells at which of your samples one is{rest}"
    )


def undecided(result: Result) -> tuple[str, ...]:
    """Outputs of whole numbers or truth values that an execution may have otherwise."""
    types = result.graph.types
    return tuple(
        t
        for t, bound in result.bounds.items()
        if t in types and not types[t].dtype.is_float and largest_radius(bound) > 0
    )


def summary_of(result: Result) -> str:
    """Two lines: the answer with its figures, and why; a runtime here that was seen to leave the
    contract comes first."""
    broken = "".join(f"broken ({c.runtime} leaves the contract): " for c in result.broken)
    reason = result.reason
    if len(reason) > _LONGEST_REASON:
        reason = reason[: _LONGEST_REASON - 1] + "…"
    late = ", out of time" if result.timed_out and result.verdict is Verdict.UNKNOWN else ""
    figures = ", ".join(figures_of(result))
    return f"{broken}{result.word}: {figures}{late}\n  {reason}"


def _eps(tolerance: Tolerance) -> Iterator[str]:
    if tolerance.common is not None:
        yield f"eps {plain(tolerance.common)}"
    for output, epsilon in tolerance.by_output.items():
        yield f"eps {output}={plain(epsilon)}"
