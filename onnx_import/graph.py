"""The graph that every other package works on: typed, shaped tensors joined by operator nodes.

Data only. A `Graph` is a DAG of `Node`s plus the types of all tensors and the values of the
constant ones; it holds no meaning of any operator.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeAlias, TypeVar

import ml_dtypes
import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import networkx as nx

T = TypeVar("T")
Shape: TypeAlias = tuple[int, ...]
Array: TypeAlias = npt.NDArray[np.generic]
AttributeValue: TypeAlias = (
    int
    | float
    | str
    | bytes
    | tuple[int, ...]
    | tuple[float, ...]
    | tuple[str | bytes, ...]
    | Array
)


class Remembering:
    """Something immutable that keeps what was worked out of it, for as long as it lives itself.

    What is kept is no part of the value: it is left out of comparisons, of copies made with
    `dataclasses.replace` and of pickles, which all work it out anew. A table at module level would
    keep every graph alive instead, and graphs cannot be the keys of a weak one: they are compared
    by what they hold, which has no hash.
    """

    @cached_property
    def _remembered(self) -> dict[Callable[..., Any], Any]:
        return {}

    def once(self, make: Callable[[Self], T]) -> T:
        """`make(self)`, called the first time only; `make` is a function that always gives the
        same of the same value."""
        if make not in self._remembered:
            self._remembered[make] = make(self)
        found: T = self._remembered[make]
        return found

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_remembered"}


class DType(Enum):
    """Element type of a tensor, named as in ONNX."""

    FLOAT16 = "float16"
    BFLOAT16 = "bfloat16"
    FLOAT32 = "float32"
    FLOAT64 = "float64"
    INT8 = "int8"
    UINT8 = "uint8"
    INT16 = "int16"
    UINT16 = "uint16"
    INT32 = "int32"
    UINT32 = "uint32"
    INT64 = "int64"
    UINT64 = "uint64"
    BOOL = "bool"
    INT4 = "int4"
    UINT4 = "uint4"
    INT2 = "int2"
    UINT2 = "uint2"
    FLOAT8E4M3FN = "float8_e4m3fn"
    FLOAT8E4M3FNUZ = "float8_e4m3fnuz"
    FLOAT8E5M2 = "float8_e5m2"
    FLOAT8E5M2FNUZ = "float8_e5m2fnuz"
    FLOAT8E8M0 = "float8_e8m0fnu"
    FLOAT4E2M1 = "float4_e2m1fn"

    @property
    def numpy(self) -> np.dtype[np.generic]:
        """The numpy element type that holds these values exactly."""
        outside = self is DType.BFLOAT16 or self.is_narrow
        dtype: np.dtype[np.generic] = np.dtype(
            getattr(ml_dtypes, self.value) if outside else self.value
        )
        return dtype

    @property
    def is_narrow(self) -> bool:
        """Is it a type of at most eight bits in which weights are stored and nothing is computed?
        Of these numbers every one is a float64 number, or NaN, or infinite."""
        return self in _NARROW

    @property
    def is_integer(self) -> bool:
        """Is it a type of integers, of whatever width, and not of truth values?"""
        return self.value.startswith(("int", "uint"))

    @property
    def is_float(self) -> bool:
        """Is it a floating-point format, and no type of integers or truth values?"""
        return self in (DType.FLOAT16, DType.BFLOAT16, DType.FLOAT32, DType.FLOAT64)


_NARROW = frozenset(
    (
        *(DType.INT4, DType.UINT4, DType.INT2, DType.UINT2, DType.FLOAT4E2M1, DType.FLOAT8E8M0),
        *(DType.FLOAT8E4M3FN, DType.FLOAT8E4M3FNUZ, DType.FLOAT8E5M2, DType.FLOAT8E5M2FNUZ),
    )
)

_SPELLED: Mapping[str, str] = {
    "DynamicQuantizeConv": "ConvInteger",
    "DynamicQuantizeMatMul": "MatMulInteger",
    "Interpolate": "Resize",
    "Lookup": "Gather",
    "MaskedLogSoftmax": "LogSoftmax",
    "MaskedSoftmax": "Softmax",
    "MaskedWhere": "Where",
    "Narrow": "Cast",
    "RecurrentSigmoid": "Sigmoid",
    "RecurrentTanh": "Tanh",
    "Truncate": "Cast",
    "WholeAdd": "Add",
    "WholeMul": "Mul",
    "WholeSub": "Sub",
}
COMPUTED = tuple(dtype for dtype in DType if dtype not in _NARROW)
"""The types of what is given or computed at run time."""


@dataclass(frozen=True)
class TensorType:
    """Element type and fully known shape of one tensor."""

    dtype: DType
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True)
class Node:
    """One operator application.

    `inputs` keeps ONNX's positions: an omitted optional input is the empty string. `opset` is the
    version of the operator set of `domain` that the model imports, so that an operator can tell
    which of its own versions is meant. `written` says that the file has this node, with these
    inputs and outputs, rather than one that it was decomposed from; `alike` that it is part of one
    whose kernel computes it as this operator's own would. `stored` are the positions of the inputs
    that the file stores as constants: nobody computes them, and no caller replaces them.
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, AttributeValue]
    opset: int
    domain: str = ""
    written: bool = False
    alike: bool = False
    stored: frozenset[int] = frozenset()

    def describe(self) -> str:
        """`node 'conv1' (Conv)`, the way every message names a node."""
        return f"node '{self.name}' ({self.spelled})"

    @property
    def spelled(self) -> str:
        """The operator as ONNX calls it, where graphs here have a name of their own."""
        return _SPELLED.get(self.op, self.op)


class Use(Enum):
    """What is taken of numbers where something is computed of them as a file is read."""

    READ = "stored numbers are what an operation reads, and keeps as its result"
    ROUNDED = "numbers that an operation computes are rounded once, as stored ones are"
    COUNTED = "integers up to the largest of these are numbers of the format of computing"
    COMPUTED = "operations round to the format of the type itself"


@dataclass(frozen=True)
class Need:
    """What must hold at run time of numbers of a floating-point type."""

    use: Use
    dtype: DType
    values: Array


@dataclass(frozen=True)
class Fold:
    """A node that is computed of floating-point constants when the file is read: its result, or how
    many elements it has and which. That is what a runtime finds only where all of `needs` hold."""

    node: str
    output: str
    needs: tuple[Need, ...]


Handling: TypeAlias = Callable[[Need], str]
"""What a runtime does to stored numbers: why a need does not hold, or the empty text."""


def as_written(need: Need) -> str:
    """The reading of a runtime that has stored numbers as they are in the file."""
    return ""


@dataclass(frozen=True)
class InputRange:
    """What a file says of an input: exact bounds (None: none), the ends included or not."""

    lo: Fraction | None = None
    hi: Fraction | None = None
    lo_open: bool = False
    hi_open: bool = False

    def above(self, lo: Fraction, strict: bool) -> InputRange:
        """The part of it above a number, too."""
        if self.lo is not None and (self.lo, self.lo_open) >= (lo, strict):
            return self
        return replace(self, lo=lo, lo_open=strict)

    def below(self, hi: Fraction, strict: bool) -> InputRange:
        """The part of it below a number, too."""
        if self.hi is not None and (self.hi, not self.hi_open) <= (hi, not strict):
            return self
        return replace(self, hi=hi, hi_open=strict)


@dataclass(frozen=True)
class Sizes:
    """What is said of the shapes of a file's inputs.

    `shapes` has whole shapes by input, `dims` sizes by the file's names of dimensions: both stand
    against the file. `arrays` has the shapes of arrays that are given for inputs, and only what is
    still open is taken from these; where they name none of the inputs, they come in the order of
    these. Where they hold `points` along a first axis, an open first dimension is no part of them;
    where integers are `constants` of all points, theirs do not, and what they name is so elsewhere.
    `lenient` passes over names that the file does not have.
    """

    shapes: Mapping[str, Shape] = field(default_factory=dict)
    dims: Mapping[str, int] = field(default_factory=dict)
    arrays: Mapping[str, Shape] = field(default_factory=dict)
    points: bool = False
    constants: bool = False
    lenient: bool = False


@dataclass(frozen=True, repr=False)
class Graph(Remembering):
    """A network: operator nodes in a DAG, tensor types, constants, inputs and outputs.

    `order` holds the operators, each behind those whose results it reads. Graph inputs and
    constants are tensors that no node writes; a constant that the file does not store as it is, but
    dequantises, is an array wider than its type. `random_masks` names the inputs that nobody gives:
    masks that the runtime draws, of numbers from 0 to 1. `notes` says in words what the reader
    decided for the user (a symbolic batch dimension read as 1, say). `ranges` has the range of
    every input where the file states them all, and is empty otherwise. `allowed` are places outside
    the folder of `source` where files that it names may lie, and `sizes` what was said of the
    dimensions that it leaves open. `pinned` are integers of inputs that nothing reads: constants
    stand in their place. `folds` are the nodes that were computed of stored numbers, and `late`
    says of tensors that are computed at run time, of constants alone, why they were not.
    """

    types: Mapping[str, TensorType]
    constants: Mapping[str, Array]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    source: Path | None = None
    sha256: str = ""
    notes: tuple[str, ...] = ()
    order: tuple[Node, ...] = field(default=())
    ranges: Mapping[str, InputRange] = field(default_factory=dict)
    random_masks: tuple[str, ...] = ()
    allowed: tuple[Path, ...] = ()
    sizes: Sizes = field(default_factory=Sizes, compare=False)
    pinned: Mapping[str, Array] = field(default_factory=dict, compare=False)
    folds: tuple[Fold, ...] = field(default=(), compare=False)
    late: Mapping[str, str] = field(default_factory=dict, compare=False)

    def __repr__(self) -> str:
        inputs, outputs = (
            ", ".join(f"{t} {list(self.types[t].shape)}" for t in names)
            for names in (self.inputs, self.outputs)
        )
        name = "" if self.source is None else f" of {self.source.name}"
        return f"<graph{name}: {len(self.order)} operators, {inputs or 'no inputs'} to {outputs}>"

    @cached_property
    def named(self) -> Mapping[str, Node]:
        """Every node by its name."""
        return {node.name: node for node in self.order}

    @cached_property
    def writers(self) -> Mapping[str, Node]:
        """The node that writes a tensor, for every tensor that a node writes."""
        return {t: node for node in self.order for t in node.outputs if t}

    @cached_property
    def dag(self) -> nx.MultiDiGraph[str]:
        """The graph as networkx has it: one vertex per operator, keyed by `Node.name` with the
        `Node` under the attribute `node`; an edge (a, b, tensor) says that `b` reads a tensor that
        `a` writes."""
        import networkx as nx  # takes as long to import as all of numpy

        dag: nx.MultiDiGraph[str] = nx.MultiDiGraph()
        for node in self.order:
            dag.add_node(node.name, node=node)
        for node in self.order:
            for tensor in node.inputs:
                if tensor in self.writers:
                    dag.add_edge(self.writers[tensor].name, node.name, tensor=tensor)
        return dag

    def is_constant(self, tensor: str) -> bool:
        """Is the tensor stored in the file, or computed of what is stored there?"""
        return tensor in self.constants

    def held(self, tensor: str) -> Array:
        """A constant as a runtime holds it: in its own type. `constants` may be more exact."""
        return self.constants[tensor].astype(self.types[tensor].dtype.numpy, copy=False)

    @property
    def parameters(self) -> int:
        """Number of stored floating-point values."""
        floats = (t for t in self.constants if self.types[t].dtype.is_float)
        return sum(self.types[t].size for t in floats)


def build_graph(
    nodes: tuple[Node, ...],
    types: Mapping[str, TensorType],
    constants: Mapping[str, Array],
    *,
    inputs: tuple[str, ...],
    outputs: tuple[str, ...],
    source: Path | None = None,
    sha256: str = "",
    notes: tuple[str, ...] = (),
    ranges: Mapping[str, InputRange] | None = None,
    random_masks: tuple[str, ...] = (),
) -> Graph:
    """Join nodes by the tensors they share, and order them topologically.

    Raises ValueError if two nodes share a name, a tensor has two producers, a tensor that is read
    is neither produced, constant nor an input, or the nodes form a cycle.
    """
    names: set[str] = set()
    producer: dict[str, int] = {}
    for position, node in enumerate(nodes):
        if node.name in names:
            raise ValueError(f"two nodes are named '{node.name}'")
        names.add(node.name)
        for tensor in node.outputs:
            if not tensor:
                continue
            if tensor in producer or tensor in constants or tensor in inputs:
                raise ValueError(f"tensor '{tensor}' is written twice")
            producer[tensor] = position
    for node in nodes:
        for tensor in node.inputs:
            if tensor and not any(tensor in known for known in (producer, constants, inputs)):
                raise ValueError(f"{node.describe()} reads '{tensor}', which nothing writes")
    order = _ordered(nodes, producer)
    known = ranges or {}
    return Graph(
        types, constants, inputs, outputs, source, sha256, notes, order, known, random_masks
    )


def _ordered(nodes: Sequence[Node], producer: Mapping[str, int]) -> tuple[Node, ...]:
    """Each node behind those that it reads from, otherwise as they come; `producer` gives the
    position of the node that writes a tensor. Raises ValueError for a cycle."""
    readers: list[list[int]] = [[] for _ in nodes]
    missing = [0] * len(nodes)
    for position, node in enumerate(nodes):
        for tensor in node.inputs:
            if tensor in producer:
                readers[producer[tensor]].append(position)
                missing[position] += 1
    ready = [position for position, count in enumerate(missing) if not count]
    order: list[Node] = []
    while ready:
        position = heapq.heappop(ready)
        order.append(nodes[position])
        for reader in readers[position]:
            missing[reader] -= 1
            if not missing[reader]:
                heapq.heappush(ready, reader)
    if len(order) < len(nodes):
        raise ValueError("the nodes form a cycle")
    return tuple(order)
