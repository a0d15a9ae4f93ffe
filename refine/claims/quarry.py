"""What a search looks for: the counterexamples of a claim."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from encoders.contract.contract import RuntimeContract
from encoders.program import program_of
from onnx_import.graph import Graph
from refine.bounds.network import InputBox
from refine.results.verdict import Witness
from refine.search.evaluation import Candidate, Hunt, Reference
from refine.search.search import search
from refine.witness.witness import is_huge

_EVALUATED = 4
_MUCH = 5_000_000  # multiply-adds, each in balls

Late = Callable[[], bool]
Leads = Callable[[Hunt, int, Late], Iterator[Candidate]]
Searched = Callable[[Hunt, int, Late, float], Sequence[Candidate]]
Followed = Callable[[Sequence[InputBox]], Sequence[Candidate]]


def _none(hunt: Hunt, seed: int, late: Late) -> Iterator[Candidate]:
    yield from ()


@dataclass(frozen=True)
class Quarry:
    """Inputs of `graph` whose outputs, computed under `contract`, are far from what is meant.

    `references` are the readings of the specification that they are held against in turn (None: the
    real values of `graph` itself). `decide` evaluates a candidate exactly; `replayed` runs a
    witness on real runtimes. At most `most` inputs are evaluated exactly; 0 means that one alone
    takes minutes, and nothing is searched for. `leads` gives candidates beside those that the
    search finds, and `searched` is that search: seed, whether it is late, and effort. `following`
    (seeded) hears of the boxes that a proof leaves open on its way, and gives candidates.
    """

    graph: Graph
    contract: RuntimeContract
    decide: Callable[[Candidate], Witness]
    replayed: Callable[[Witness], Witness]
    most: int
    references: tuple[Reference | None, ...] = (None,)
    leads: Leads = _none
    searched: Searched = search
    following: Callable[[Hunt, int], Followed] | None = None


def evaluations(graph: Graph) -> int:
    """How many inputs are worth evaluating exactly: one of a large network; none, and so no search,
    of a network that would take minutes for each."""
    return 0 if is_huge(graph) else 1 if program_of(graph).work > _MUCH else _EVALUATED
