"""What is bounded over a box: by default one graph, its runtime against its real semantics."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from encoders.contract.contract import RuntimeContract
from onnx_import.graph import Graph, Remembering
from refine.bounds.alpha import Branching
from refine.bounds.batch import Batches
from refine.bounds.joint.joining import as_it_is
from refine.bounds.many_errors import many_errors
from refine.bounds.network import InputBox, Known, NetworkBounds, network_bounds


class Problem(Protocol):
    """A graph whose outputs' errors can be bounded over any box, again and again, ever better.

    `graph` is the one whose tensors the bounds name. Worker processes receive problems, so they
    can be pickled.
    """

    @property
    def graph(self) -> Graph:
        """The graph whose tensors are bounded."""

    @property
    def contract(self) -> RuntimeContract:
        """The contract whose executions are bounded."""

    @property
    def single(self) -> bool:
        """Is it `graph` itself, alone, that runs and that is meant?"""
        ...

    def bounds(
        self,
        box: InputBox,
        backward: bool = True,
        tick: Callable[[], None] = lambda: None,
        known: Known | None = None,
        branching: Branching | None = None,
    ) -> NetworkBounds:
        """As `network_bounds`; `errors` are what the theorem speaks of."""
        ...


@dataclass(frozen=True)
class Network(Remembering):
    """The error of one network under a contract."""

    graph: Graph
    contract: RuntimeContract
    single: bool = True

    def bounds(
        self,
        box: InputBox,
        backward: bool = True,
        tick: Callable[[], None] = lambda: None,
        known: Known | None = None,
        branching: Branching | None = None,
    ) -> NetworkBounds:
        return network_bounds(
            self.graph,
            box,
            contract=self.contract,
            backward=backward,
            tick=tick,
            known=known,
            together=as_it_is(self.graph, self.contract),
            branching=branching,
        )

    @property
    def batches(self) -> Batches | None:
        """Errors of many boxes at once, where the network takes them."""
        return self.once(_batches)


def _batches(problem: Network) -> Batches | None:
    return many_errors(problem.graph, problem.contract)
