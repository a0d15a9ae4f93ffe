"""Which contracts can have produced given numbers, node by node on these numbers themselves.

Every node whose output is known is held against the exact value of what lies between it and the
known tensors before it: where a number is further from that than a contract's bound, no execution
of the contract gives it. One fault does not hide the next, and a contract under which every node
keeps within its bound explains the numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from encoders.contract.contract import RuntimeContract, Subnormals
from encoders.contract.presets import EXACT, PRESETS
from encoders.numbers.enclosure import FloatArray, Interval, point
from encoders.numbers.formats import BFLOAT16, BINARY16, BINARY32, round_array
from encoders.program import program_of
from gpu_check.conformance.regions import Region, region_behind
from onnx_import.errors import ModelError
from onnx_import.graph import Array, DType, Graph, Node
from refine.bounds.evaluated import values_at
from refine.bounds.network import InputBox, Known, network_bounds
from refine.everyday.beyond import furthest_beyond
from refine.options.applicable import require_applicable

_SAMPLE = 256  # numbers of a tensor, below which nothing is said of their spacing
_DISTINCT = 16  # sizes, likewise
_LEVELS = 256.0  # of 8 bits
_NEAR = 1e-3  # relative, of a multiple


@dataclass(frozen=True)
class Overstep:
    """A number that a contract does not allow: at this element of what the node writes, `given` is
    `times` as far from the exact value, which lies in [`low`, `high`], as `allowed`."""

    node: Node
    tensor: str
    point: int
    index: tuple[int, ...]
    given: float
    low: float
    high: float
    allowed: float
    times: float


@dataclass(frozen=True)
class Judgement:
    """A contract beside the numbers: of each node that oversteps it, in order, the worst number;
    how many nodes were compared, and of how many others no bound is known."""

    contract: RuntimeContract
    oversteps: tuple[Overstep, ...]
    compared: int
    open: int

    @property
    def explains(self) -> bool:
        """Was something compared, and is every number within the contract's bounds?"""
        return not self.oversteps and self.compared > 0


@dataclass(frozen=True)
class Judged:
    """All contracts beside the same numbers, those that allow less first. `grids` are tensors whose
    numbers are few multiples of one step, as of devices that quantise to 8 bits."""

    graph: Graph
    judgements: tuple[Judgement, ...]
    unseen: tuple[str, ...]
    grids: tuple[str, ...]

    @property
    def explaining(self) -> tuple[Judgement, ...]:
        """The contracts that can have produced the numbers."""
        return tuple(j for j in self.judgements if j.explains)

    @property
    def all_but(self) -> tuple[Judgement, Node] | None:
        """The first contract that one node alone of several oversteps, and this node."""
        for j in self.judgements:
            if j.explains:
                return None
            if len(j.oversteps) == 1 and j.compared > 1:
                return j, j.oversteps[0].node
        return None

    @property
    def everywhere(self) -> tuple[Node, ...]:
        """Nodes whose numbers no contract allows."""
        every = [{o.node.name for o in j.oversteps} for j in self.judgements if j.compared]
        shared = set.intersection(*every) if every else set()
        return tuple(n for n in self.graph.order if n.name in shared)


def presets_for(graph: Graph) -> dict[str, RuntimeContract]:
    """Contracts that may have produced a model's numbers, by what a user writes of them, those that
    allow less first; those under which the model has no meaning are left out."""
    types = {graph.types[t].dtype for n in graph.order for t in n.outputs if t}
    cuda, tf32 = PRESETS["cuda-fp32"], PRESETS["cuda-tf32"]
    half = replace(PRESETS["cuda-fp16"], compute_format=BINARY16, accumulation=BINARY32)
    brain = replace(PRESETS["bf16"], compute_format=BFLOAT16, accumulation=BINARY32)
    flush = replace(cuda, results=Subnormals.FLUSH, operands=Subnormals.EITHER)
    found = {"ort-cpu": PRESETS["ort-cpu"], "cuda-fp32": cuda}
    if DType.FLOAT16 in types:
        found |= {"fp16": PRESETS["fp16"], "cuda-fp16": PRESETS["cuda-fp16"]}
    if DType.BFLOAT16 in types:
        found["bf16"] = PRESETS["bf16"]
    found |= {"cuda-fp32 --subnormals flush": flush, "ieee-any": PRESETS["ieee-any"]}
    if DType.FLOAT32 in types:
        found |= {
            "cuda-tf32": tf32,
            "cuda-fp16 --format float16": half,
            "bf16 --format bfloat16": brain,
        }
    kept = {}
    for name, contract in found.items():
        try:
            require_applicable(contract, graph)
        except ModelError:
            continue
        kept[name] = replace(contract, name=name)
    return kept


def judge(
    graph: Graph,
    inputs: Mapping[str, Array],
    shown: Mapping[str, Array],
    contracts: Sequence[RuntimeContract],
    tell: Callable[[str], None] = lambda stage: None,
) -> Judged:
    """`inputs` and `shown` are arrays (points, *shape) of the graph's inputs and of some of the
    tensors that it computes.

    Raises UnsupportedModel, naming the node, for what has no meaning.
    """
    _ = program_of(graph).checked
    values = {**shown, **inputs}
    oversteps: list[list[Overstep]] = [[] for _ in contracts]
    compared, opened = [set[str]() for _ in contracts], [set[str]() for _ in contracts]
    unseen = []
    for step in program_of(graph).steps:
        tensors = [t for t in step.writes if t in shown and graph.types[t].dtype.is_float]
        if not tensors:
            unseen.append(step.name)
            continue
        tell(f"judging {step.node.describe()}")
        for tensor in tensors:
            region = region_behind(graph, step.node, tensor, frozenset(values))
            if not all(t in values for t in region.graph.inputs):
                unseen.append(step.name)
                continue
            for case in _cases(region, values, shown[tensor]):
                for k, contract in enumerate(contracts):
                    known, worst = case.beside(contract, step.node)
                    (compared if known else opened)[k].add(step.name)
                    if worst is not None:
                        oversteps[k].append(worst)
    judgements = tuple(
        Judgement(c, _worst_of_each(o), len(seen), len(left - seen))
        for c, o, seen, left in zip(contracts, oversteps, compared, opened, strict=True)
    )
    return Judged(graph, judgements, tuple(unseen), _grids(graph, shown))


def _worst_of_each(found: Sequence[Overstep]) -> tuple[Overstep, ...]:
    """Of each node, the worst."""
    worst: dict[str, Overstep] = {}
    for one in found:
        if one.node.name not in worst or one.times > worst[one.node.name].times:
            worst[one.node.name] = one
    return tuple(worst.values())


@dataclass(frozen=True)
class _Case:
    """One point of one region: exact values of its output, and what was given."""

    region: Region
    held: Mapping[str, FloatArray]
    known: Known
    exact: Interval
    given: FloatArray
    number: int

    def beside(self, contract: RuntimeContract, node: Node) -> tuple[bool, Overstep | None]:
        """Whether any bound is known, and the worst overstep of one."""
        graph = self.region.graph
        errors = {}
        for t, x in self.held.items():
            kind = graph.types[t].dtype
            nearest = round_array(x, contract.format_of(kind)) if kind.is_float else x
            errors[t] = np.abs(nearest - x) * (1.0 + 2.0**-50)
        box = InputBox({t: point(x) for t, x in self.held.items()}, errors)
        with np.errstate(all="ignore"):
            bounds = network_bounds(graph, box, contract, known=self.known)
            allowed = bounds.errors[self.region.output]
        allowed = np.broadcast_to(allowed, self.given.shape)
        worst = furthest_beyond(self.exact, allowed, self.given)
        if worst is None:
            return bool(np.any(np.isfinite(allowed))), None
        return True, Overstep(
            node,
            self.region.output,
            self.number,
            index=worst.index,
            given=worst.given,
            low=worst.low,
            high=worst.high,
            allowed=worst.allowed,
            times=worst.times,
        )


def _cases(region: Region, values: Mapping[str, Array], shown: Array) -> Iterator[_Case]:
    graph = region.graph
    for number, given in enumerate(shown):
        held = {t: np.asarray(values[t][number], np.float64) for t in graph.inputs}
        if not all(np.all(np.isfinite(x)) for x in held.values()):
            continue  # an overflow before this node: bounds speak of finite numbers
        known = _known(region, held)
        exact = known.values[region.output]
        yield _Case(region, held, known, exact, np.asarray(given, np.float64), number)


def _known(region: Region, held: Mapping[str, FloatArray]) -> Known:
    """Where the exact values of a region's tensors lie."""
    box = {t: point(x) for t, x in held.items()}
    found = values_at(region.graph, box)
    if region.output not in found:
        none = {t: np.zeros(x.shape) for t, x in held.items()}
        with np.errstate(all="ignore"):
            whole = network_bounds(region.graph, InputBox(box, none), EXACT)
        found = {**whole.maps.values, **found}
    return Known(found, {})


def _grids(graph: Graph, shown: Mapping[str, Array]) -> tuple[str, ...]:
    """Tensors all of whose numbers are multiples of one, up to as many as 8 bits have."""
    return tuple(t for t, x in shown.items() if graph.types[t].dtype.is_float and _on_grid(x))


def _on_grid(array: Array) -> bool:
    sizes = np.unique(np.abs(np.asarray(array, np.float64)))
    if array.size < _SAMPLE or len(sizes) < _DISTINCT or not np.isfinite(sizes[-1]):
        return False
    parts = sizes / np.min(np.diff(np.concatenate([[0.0], sizes[sizes > 0]])))
    whole = np.abs(parts - np.rint(parts)) < _NEAR * np.maximum(parts, 1)
    return bool(parts[-1] <= _LEVELS and np.all(whole))
