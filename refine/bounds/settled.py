"""Networks in which stored numbers are computed with at run time, read as if they were stored.

A graph may compute tensors of nothing but stored numbers: weights in float16 that a runtime casts
to float32, say, where the contract lets it take subnormal ones for zero. Such a tensor has one real
value, and executions differ from it by a bound that no input changes. The real network is then the
one that stores that value; what runs in place of a node which reads it is the node of the file,
and by how much the tensor's error moves its result is charged there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from encoders.contract.contract import RuntimeContract
from encoders.lemmas.combining import EXACT
from encoders.lemmas.kernel import exactly_zero
from encoders.numbers.enclosure import Interval
from encoders.program import Program, Step, program_of
from onnx_import.graph import Graph
from refine.bounds.backward import Maps
from refine.bounds.batch import batch_bounds
from refine.bounds.influence import Shares
from refine.bounds.local.errors import Run, Runs, bound_errors
from refine.bounds.local.values import bound_values
from refine.bounds.network import InputBox, Known, NetworkBounds, NodeBounds
from refine.bounds.widened import widened_step


@dataclass(frozen=True)
class Settled:
    """`program` stores what is computed of stored numbers alone; `file` computes it, by nodes that
    are bounded in `besides`, None where there are none."""

    program: Program
    file: Program
    besides: NetworkBounds | None = None

    def runs(self, wide: Graph, contract: RuntimeContract) -> Runs | None:
        """What executes in place of the steps of a program that reads many rows; None where that
        is these steps themselves."""
        if self.besides is None:
            return None
        values, radii = self.besides.maps.values, self.besides.maps.radii
        types = {**self.file.graph.types, **wide.types}
        here = replace(self.file.graph, types=types)

        def run(step: Step, held: Sequence[Interval]) -> Run:
            own = self.file.step(step.node)
            none = np.zeros(step.site.outputs[0].shape)
            if own.reads == step.reads:
                return Run(step, none, contract)
            given = iter(held)
            ranges = [values[t] if t in values else next(given) for t in own.reads]
            errors = [
                radii[t] if t in radii else exactly_zero(EXACT, x.shape)
                for t, x in zip(own.reads, ranges, strict=True)
            ]
            ran = widened_step(here, own)
            change = ran.operator.differences(ran.site, ranges, errors).radius
            reached = [x.inflate(e.bound) for x, e in zip(ranges, errors, strict=True)]
            return Run(ran, np.broadcast_to(change.bound, none.shape), contract, tuple(reached))

        return run

    def batch(
        self,
        wide: Program,
        boxes: Sequence[InputBox],
        contract: RuntimeContract,
        *,
        around: Known,
        ranges: Sequence[Mapping[str, Interval]],
        errors_too: bool = False,
    ) -> tuple[NetworkBounds, Shares]:
        """`batch_bounds` of the program, widened to as many rows as there are boxes, with what the
        file executes."""
        return batch_bounds(
            wide,
            boxes,
            contract,
            around=around,
            ranges=ranges,
            runs=self.runs(wide.graph, contract),
            besides=self.besides,
            errors_too=errors_too,
        )


def settled(graph: Graph, contract: RuntimeContract) -> Settled | None:
    """The network with what is computed of stored numbers alone stored; itself where there is none
    of that; None where a real value of that is not known exactly.

    Raises UnsupportedModel, naming the node, for what has no meaning.
    """
    program = program_of(graph)
    maps, nodes = Maps(program), list[NodeBounds]()
    late = set[str]()
    for step in program.steps:
        if not all(t in late for t in step.reads):
            continue
        late.update(step.writes)
        if len(step.writes) != 1:
            return None
        bound_values(maps, step)
        rounding, assumed, run = bound_errors(maps, step, contract, None)
        x = maps.values[step.output]
        number = graph.types[step.output].dtype.is_float
        if not np.array_equal(x.lo, x.hi) or not np.all(np.isfinite(x.lo)) or not number:
            return None
        nodes.append(NodeBounds(step, x, maps.errors[step.output], rounding, assumed, run))
    if not nodes:
        return Settled(program, program)
    if any(t in late for t in graph.outputs):
        return None
    constants = {**graph.constants, **{t: maps.values[t].lo for t in late}}
    order = tuple(n for n in graph.order if not any(t in late for t in n.outputs))
    folded = replace(graph, constants=constants, order=order)
    return Settled(program_of(folded), program, NetworkBounds(maps, tuple(nodes), {}, {}, {}))
