"""The backward error of a network or kernel: by how much each parameter or input is moved, at most,
in a network whose exact output is the bits that ran."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from encoders.contract.contract import RuntimeContract
from encoders.lemmas.backward.rows import ROW_RATIO
from encoders.lemmas.kernel import Radius, apply
from onnx_import.errors import ModelError
from onnx_import.graph import Graph
from refine.perturbed.amounts import of_log, relative_of
from refine.perturbed.laying import Laying, Layout, Place
from refine.perturbed.standing import Laid, NothingTakesThem, Standing

FINITE = "of every execution in which all values are finite"
FUNCTIONS = "what the contract says of rounding in {}, which holds for every finite input"
NORMAL = (
    "of every execution in which no number but 0 is below the normal range: what comes of an "
    "underflow cannot be bounded without knowing by what it is multiplied"
)


@dataclass(frozen=True, eq=False)
class Moved:
    """By how much one parameter or input is moved, element by element.

    `log` bounds |ln(w̃/w)|, u being `unit`; `relative` bounds |w̃ − w|/|w|. Where the node's sum is
    the only error, these are of two different choices of w̃; either is one for all tensors at once.
    `besides` is what is added to it absolutely, where products underflow; None: nothing.
    """

    tensor: str
    shape: tuple[int, ...]
    node: str
    unit: float
    log: Radius
    relative: Radius
    besides: Radius | None

    @property
    def multiples(self) -> float:
        """The bound on |ln(w̃/w)| in units of u."""
        return self.log.largest / self.unit


@dataclass(frozen=True, eq=False)
class BackwardBound:
    """The answer: what each parameter or input takes, what outputs without a bias are off by
    besides (by name), how what each node writes stands, of which nodes only an absolute bound on
    their rounding is known, what is assumed of the execution, and what it is a claim about.
    """

    laid: Laid
    contract: RuntimeContract
    graph: Graph
    moved: tuple[Moved, ...]
    mixed: dict[str, Radius]
    made: Mapping[str, Standing]
    absolute: tuple[str, ...]
    assumed: tuple[str, ...]

    @property
    def largest(self) -> float:
        """The largest relative change of any element."""
        return max((m.relative.largest for m in self.moved), default=0.0)

    @property
    def multiples(self) -> float:
        """The largest |ln(w̃/w)| in units of u."""
        return max((m.multiples for m in self.moved), default=0.0)


def backward_bound(
    graph: Graph, contract: RuntimeContract, laid: Laid, discrete: tuple[str, ...] = ()
) -> BackwardBound:
    """The backward error under a contract; tensors named `discrete` are not moved.

    Raises ModelError for a discrete name that the graph does not have, NothingTakesThem, naming
    the node or tensor, where an error can be laid on nothing.
    """
    known = {*graph.inputs, *graph.constants}
    wrong = next((name for name in discrete if name not in known), None)
    if wrong is not None:
        raise ModelError(
            f"--discrete {wrong}: the model has no input or stored tensor '{wrong}'; it has "
            f"{', '.join(graph.inputs)}"
        )
    kept, assumed = frozenset(discrete), [FINITE]
    layout = _with_underflow(Laying(graph, contract, laid, kept))
    if layout is None:
        layout = Laying(graph, contract, laid, kept, underflow=False).layout()
        if not _known(layout):
            raise NothingTakesThem(
                "errors of functions come beside what they round, and where that is multiplied by "
                "values that vary they have no bound"
            )
        assumed.append(NORMAL)
    if layout.absolute:
        assumed.append(FUNCTIONS.format(", ".join(layout.absolute)))
    moved = tuple(_moved(place, graph) for place in layout.places)
    return BackwardBound(
        laid=laid,
        contract=contract,
        graph=graph,
        moved=moved,
        mixed=dict(layout.outputs),
        made=layout.made,
        absolute=layout.absolute,
        assumed=tuple(assumed),
    )


def _with_underflow(laying: Laying) -> Layout | None:
    """None where what underflows cannot be bounded; if there is nothing on which errors can be laid
    at all, the other layout says so."""
    try:
        layout = laying.layout()
    except NothingTakesThem:
        return None
    return layout if _known(layout) else None


def _known(layout: Layout) -> bool:
    every = [p.besides for p in layout.places if p.besides is not None]
    return all(np.all(np.isfinite(r.bound)) for r in (*every, *layout.outputs.values()))


def _moved(place: Place, graph: Graph) -> Moved:
    log = of_log(place.log, place.unit)
    if place.row is None:
        relative = relative_of(place.log, place.unit)
    else:
        relative = apply(ROW_RATIO, m=float(place.row - 1), u=place.unit)
    shape = graph.types[place.tensor].shape
    return Moved(place.tensor, shape, place.node, place.unit, log, relative, place.besides)
