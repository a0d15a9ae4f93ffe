"""The runtime contract: the set of executions a proof speaks about, as plain data.

Nothing about a runtime is implicit: whatever `RuntimeContract` does not pin down is free, and a
proof covers every choice. `EITHER` and `AnyOrder` mean "each time anew, as the runtime likes".
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import TypeAlias

from encoders.formats import FORMAT_OF_DTYPE, FloatFormat
from encoders.functions import CONSERVATIVE, CORRECTLY_ROUNDED, ORT_FUNCTIONS, Functions
from onnx_import.graph import DType


@dataclass(frozen=True)
class AnyOrder:
    """Additions associate in any order, chosen anew for every output element."""


@dataclass(frozen=True)
class Sequential:
    """Terms are added from first to last into one accumulator."""


@dataclass(frozen=True)
class Pairwise:
    """The terms are halved recursively (first half ceil(n/2)) and the two sums added."""


@dataclass(frozen=True)
class Blocked:
    """Blocks of `size` consecutive terms, each summed sequentially from its first product; the
    block sums are then added in order."""

    size: int


Order: TypeAlias = AnyOrder | Sequential | Pairwise | Blocked


class Contraction(Enum):
    """May `a*b + c` be computed with one rounding (fused multiply-add)?"""

    NEVER = "never"
    ALWAYS = "always"
    EITHER = "either"


class Subnormals(Enum):
    """What happens to numbers below the smallest normal one."""

    KEEP = "gradual"
    FLUSH = "flush"
    EITHER = "either"


class BiasPlacement(Enum):
    """Where the bias of Gemm or Conv enters its sum."""

    FIRST = "first"
    LAST = "last"
    AFTER_FIRST_BLOCK = "after-first-block"
    ANY = "any"


class Normalization(Enum):
    """Which formula BatchNormalization computes at run time.

    FOLDED: s = gamma/sqrt(var+eps), t = beta - mean*s, y = x*s + t.
    DIRECT: y = (x - mean)/sqrt(var+eps)*gamma + beta.
    """

    FOLDED = "folded"
    DIRECT = "direct"
    EITHER = "either"


@dataclass(frozen=True)
class RuntimeContract:
    """Which executions are allowed.

    `compute_format` None means that each tensor is computed in the format of its own dtype;
    otherwise every floating-point tensor, stored weights included, is first rounded to that
    format. `exact` is the degenerate contract whose unit roundoff is 0: no operation rounds.
    Overflow gives an infinity; rounding is to nearest, ties to even. `functions` says how accurate
    elementary functions are; an execution that is emulated rounds them correctly.
    """

    name: str
    order: Order
    contraction: Contraction
    bias: BiasPlacement = BiasPlacement.LAST
    results: Subnormals = Subnormals.KEEP
    operands: Subnormals = Subnormals.KEEP
    normalization: Normalization = Normalization.FOLDED
    compute_format: FloatFormat | None = None
    exact: bool = False
    functions: Functions = CONSERVATIVE

    def format_of(self, dtype: DType) -> FloatFormat:
        """The format in which tensors of this dtype are stored and computed.

        Raises KeyError for an integer or boolean dtype.
        """
        return self.compute_format or FORMAT_OF_DTYPE[dtype]

    @property
    def pinned(self) -> bool:
        """True if the contract allows exactly one execution per input, functions apart."""
        choices = (self.contraction, self.results, self.operands, self.bias, self.normalization)
        return not isinstance(self.order, AnyOrder) and all(
            c.value not in ("either", "any") for c in choices
        )

    def describe(self) -> str:
        """One line for reports: every field, by name."""
        if self.exact:
            return f"{self.name}: real arithmetic, nothing is rounded"
        order = {
            AnyOrder: "any order",
            Sequential: "sequential",
            Pairwise: "pairwise",
            Blocked: f"blocks of {getattr(self.order, 'size', '')}",
        }[type(self.order)]
        fmt = self.compute_format.name if self.compute_format else "each tensor's own dtype"
        return (
            f"{self.name}: format {fmt}; round to nearest even; sums in {order}; "
            f"FMA {self.contraction.value}; bias {self.bias.value}; "
            f"subnormal results {self.results.value}; subnormal operands {self.operands.value}; "
            f"normalisation {self.normalization.value}; functions {self.functions.name}"
        )


IEEE_ANY = RuntimeContract(
    "ieee-any",
    AnyOrder(),
    Contraction.EITHER,
    BiasPlacement.ANY,
    Subnormals.EITHER,
    Subnormals.EITHER,
    Normalization.EITHER,
)
SEQUENTIAL = RuntimeContract(
    "sequential", Sequential(), Contraction.NEVER, functions=CORRECTLY_ROUNDED
)
SEQUENTIAL_FMA = RuntimeContract(
    "sequential-fma", Sequential(), Contraction.ALWAYS, functions=CORRECTLY_ROUNDED
)
PAIRWISE = RuntimeContract("pairwise", Pairwise(), Contraction.NEVER, functions=CORRECTLY_ROUNDED)
EXACT = RuntimeContract("exact", Sequential(), Contraction.NEVER, exact=True)

# onnxruntime 1.31 on an x86-64 CPU with FMA, graph optimisations off, one thread, float32.
# Measured, not promised: bit for bit on MatMul and Gemm whose right factor is constant (any number
# of rows and columns; alpha other than 1 only up to 256 terms), on convolutions of at most 128
# terms with several output channels and pixels, and on + − × ÷ and Relu. Not covered: a right
# factor that is not constant and other convolutions (block sizes that depend on the shape, lanes
# without FMA), BatchNormalization (no FMA), transcendental functions, optimised graphs.
ORT_CPU = RuntimeContract(
    "ort-cpu",
    Blocked(256),
    Contraction.ALWAYS,
    BiasPlacement.AFTER_FIRST_BLOCK,
    functions=ORT_FUNCTIONS,
)

PRESETS = {c.name: c for c in (IEEE_ANY, SEQUENTIAL, SEQUENTIAL_FMA, PAIRWISE, ORT_CPU, EXACT)}


def members(contract: RuntimeContract) -> tuple[RuntimeContract, ...]:
    """Some pinned contracts that `contract` allows, for search: each is one concrete execution.

    They round elementary functions correctly, which is within every accuracy of half an ulp or
    more.
    """
    orders: tuple[Order, ...] = (
        (Sequential(), Pairwise(), Blocked(4))
        if isinstance(contract.order, AnyOrder)
        else (contract.order,)
    )
    fused = (
        (Contraction.ALWAYS, Contraction.NEVER)
        if contract.contraction is Contraction.EITHER
        else (contract.contraction,)
    )
    fixed = replace(
        contract,
        bias=BiasPlacement.LAST if contract.bias is BiasPlacement.ANY else contract.bias,
        results=_keep(contract.results),
        operands=_keep(contract.operands),
        normalization=Normalization.FOLDED
        if contract.normalization is Normalization.EITHER
        else contract.normalization,
        functions=CORRECTLY_ROUNDED,
    )
    return tuple(
        replace(
            fixed,
            name=f"{contract.name}/{type(o).__name__.lower()}/fma-{c.value}",
            order=o,
            contraction=c,
        )
        for o in orders
        for c in fused
    )


def _keep(choice: Subnormals) -> Subnormals:
    return Subnormals.KEEP if choice is Subnormals.EITHER else choice
