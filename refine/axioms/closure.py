"""The closure of a verdict: a graph from the claim down to what nothing here proves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum


class Kind(Enum):
    """What a node of the graph is. Nothing is below the last four."""

    CLAIM = "claim"
    WITNESS = "counterexample"
    JOINT = "joint"
    APPLICATION = "application"
    CONDITION = "condition"
    CHECK = "cross-check"
    LEMMA = "lemma"
    FORMAT = "format lemma"
    FIELD = "contract field"
    ASSUMPTION = "assumption"
    SOLVER = "solver"
    EVALUATION = "evaluation"


EXACT_EVALUATION = "exact evaluation"
"""How the error of a counterexample is found: rationals, balls, and the run's own bits."""
_IN_BRACKETS = frozenset((Kind.SOLVER, Kind.EVALUATION))
"""Written behind what they decided."""


@dataclass(frozen=True)
class Support:
    """A node: something that the claim rests on.

    `name` is unique within its kind; `text` says it to people. `word` is what a list of what is
    permitted calls it: evidence of a contract field, a solver without its version, else the name.
    `fault` says why nothing may rest on it: it was not discharged, or no such lemma is known.
    """

    kind: Kind
    name: str
    text: str = ""
    word: str = ""
    fault: str = ""

    @property
    def key(self) -> str:
        return f"{self.kind.value}/{self.name}"


@dataclass(frozen=True)
class Closure:
    """The graph: `below` has the keys of what each node rests on directly. It has no cycle, and
    everything is reached from `claim`."""

    claim: Support
    supports: Mapping[str, Support]
    below: Mapping[str, tuple[str, ...]]
    versions: Mapping[str, str]

    def of(self, kind: Kind) -> tuple[Support, ...]:
        return tuple(s for s in self.supports.values() if s.kind is kind)


@dataclass
class Drawing:
    """A graph that is being drawn, from the claim downwards."""

    supports: dict[str, Support] = field(default_factory=dict)
    edges: dict[str, dict[str, None]] = field(default_factory=dict)

    def put(self, support: Support, *above: Support) -> Support:
        """Have what is above rest on this; of two of one name the one with a fault counts."""
        known = self.supports.get(support.key)
        if known is None or (support.fault and not known.fault):
            self.supports[support.key] = support
        for other in above:
            self.edges.setdefault(other.key, {})[support.key] = None
        return self.supports[support.key]

    def __contains__(self, support: Support) -> bool:
        return support.key in self.supports

    def closure(self, claim: Support, versions: Mapping[str, str]) -> Closure:
        below = {key: tuple(named) for key, named in self.edges.items()}
        return Closure(claim, dict(self.supports), below, versions)


def faulty(support: Support, fault: str) -> Support:
    """The same, with a fault."""
    return replace(support, fault=fault)


def lines_of(closure: Closure) -> Iterator[str]:
    """The graph as a tree for people: each node in full where it comes first."""
    seen: set[str] = set()
    waiting = [(closure.claim.key, "", "")]
    while waiting:
        key, lead, branch = waiting.pop()
        support = closure.supports[key]
        rest = closure.below.get(key, ())
        again = key in seen and bool(rest)
        yield f"{lead}{branch}{_line(closure, support)}{' (as above)' * again}"
        if again:
            continue
        seen.add(key)
        lead += {"├─ ": "│  ", "└─ ": "   "}.get(branch, "")
        shown = [k for k in rest if closure.supports[k].kind not in _IN_BRACKETS]
        if support.kind is Kind.FORMAT:  # all of these rest on the same few
            shown = [k for k in shown if k not in seen]
        ends = ["├─ "] * (len(shown) - 1) + ["└─ "] * bool(shown)
        waiting += [(k, lead, end) for k, end in zip(reversed(shown), reversed(ends), strict=True)]


def _line(closure: Closure, support: Support) -> str:
    by = [closure.supports[k] for k in closure.below.get(support.key, ())]
    by_whom = ", ".join(s.name for s in by if s.kind in _IN_BRACKETS)
    parts = [f"{support.kind.value} {support.name}"]
    parts += [f": {support.text}"] * bool(support.text)
    parts += [f" [{by_whom}]"] * bool(by_whom)
    parts += [f" — {support.fault}"] * bool(support.fault)
    return "".join(parts)
