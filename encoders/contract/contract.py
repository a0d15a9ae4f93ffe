"""The runtime contract: the set of executions a proof speaks about, as plain data.

Nothing about a runtime is implicit: whatever `RuntimeContract` does not pin down is free, and a
proof covers every choice. `EITHER` and `AnyOrder` mean "each time anew, as the runtime likes".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from enum import Enum
from typing import TypeVar

from encoders.contract.functions import (
    CONSERVATIVE,
    CORRECTLY_ROUNDED,
    CUDA_FUNCTIONS,
    ORT_FUNCTIONS,
    Evidence,
    Functions,
)
from encoders.contract.orders import AnyOrder as AnyOrder
from encoders.contract.orders import Blocked as Blocked
from encoders.contract.orders import Order as Order
from encoders.contract.orders import Pairwise as Pairwise
from encoders.contract.orders import Sequential as Sequential
from encoders.contract.orders import Steps as Steps
from encoders.contract.orders import without_steps
from encoders.numbers.formats import BINARY32, FORMAT_OF_DTYPE, TENSOR_FLOAT_32, FloatFormat
from onnx_import.graph import DType


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
    RECIPROCAL: as FOLDED, with s = (1/sqrt(var+eps))*gamma.
    DIRECT: y = (x - mean)/sqrt(var+eps)*gamma + beta.
    """

    FOLDED = "folded"
    RECIPROCAL = "reciprocal"
    DIRECT = "direct"
    EITHER = "either"


class FactorRounding(Enum):
    """How the factors of a matrix product are shortened: all of a node's alike. ANY leaves it to
    the runtime, which may also leave them whole (as libraries do with some shapes)."""

    NEAREST = "nearest"
    TRUNCATE = "toward-zero"
    ANY = "any"


_SHOWN = 6  # rules that a description spells out
_BLOCK = 256  # terms that libraries of matrix products add before they start anew


class OpenSchedule(ValueError):
    """An execution was asked for where the contract leaves a choice."""


@dataclass(frozen=True)
class Schedule:
    """How one sum (of products) is computed."""

    order: Order
    contraction: Contraction
    bias: BiasPlacement = BiasPlacement.LAST

    @property
    def pinned(self) -> bool:
        choices = (self.contraction.value, self.bias.value)
        return not isinstance(self.order, AnyOrder) and not {"either", "any"} & set(choices)

    def describe(self) -> str:
        return (
            f"sums in {self.order.describe()}; FMA {self.contraction.value}; bias {self.bias.value}"
        )


@dataclass(frozen=True)
class Reduction:
    """Where a sum stands: its operator and node, the number of its terms, the rows and columns of
    the result (of the matrix product behind a convolution; before and after the reduced axes of a
    reduction), and whether the file stores its weights as constants; None where the operator has no
    such number. `type` is the element type of the result. `written` says that the file has this
    node, `plain` that it is one product of two matrices, unscaled: no vectors, no batch of weights.

    `form` is all that is known of the node without its name: the shapes of its inputs, which of
    them are constant, and its attributes.
    """

    operator: str
    node: str
    terms: int | None = None
    rows: int | None = None
    columns: int | None = None
    constant: bool | None = None
    type: DType | None = None
    written: bool = False
    plain: bool | None = None
    form: str | None = None


@dataclass(frozen=True)
class Span:
    """Numbers from `least` on, up to and including `most` (None: without end)."""

    least: int = 0
    most: int | None = None

    def holds(self, number: int) -> bool:
        return self.least <= number and (self.most is None or number <= self.most)

    def describe(self) -> str:
        return f"{self.least} or more" if self.most is None else f"{self.least} to {self.most}"


@dataclass(frozen=True)
class ScheduleRule:
    """The schedule of the sums that agree with every field that is not None."""

    schedule: Schedule
    operator: str | None = None
    node: str | None = None
    terms: int | Span | None = None
    rows: int | Span | None = None
    columns: int | Span | None = None
    constant: bool | None = None
    type: DType | None = None
    written: bool | None = None
    plain: bool | None = None
    evidence: Evidence = Evidence.DEFINITION
    source: str = ""
    form: str | None = None

    def covers(self, place: Reduction) -> bool:
        return all(_agrees(getattr(self, f.name), getattr(place, f.name)) for f in fields(place))

    def hides(self, other: ScheduleRule) -> bool:
        """Does this rule cover every sum that the other does?"""
        names = [f.name for f in fields(Reduction)]
        return all(_includes(getattr(self, name), getattr(other, name)) for name in names)

    def describe(self) -> str:
        """Where the rule applies, in words."""
        parts = [self.operator or "any operator"]
        parts += [f"node '{self.node}'"] if self.node is not None else []
        for name in ("terms", "rows", "columns"):
            value = getattr(self, name)
            if value is not None:
                parts.append(f"{value.describe() if isinstance(value, Span) else value} {name}")
        if self.constant is not None:
            parts.append("stored weights" if self.constant else "weights that vary")
        if self.type is not None:
            parts.append(self.type.value)
        if self.plain is not None:
            parts.append("one product of matrices" if self.plain else "other products")
        if self.written is not None:
            parts.append("a node of the file" if self.written else "a node written out")
        if self.form is not None:
            parts.append(f"of the form '{self.form}'")
        return ", ".join(parts)


def _agrees(asked: object, found: object) -> bool:
    if isinstance(asked, Span):
        return isinstance(found, int) and asked.holds(found)
    return asked is None or asked == found


def _includes(asked: object, other: object) -> bool:
    """Is whatever agrees with the other among what agrees with the first?"""
    if not isinstance(asked, Span):
        return asked is None or asked == other
    if isinstance(other, Span):
        ends = asked.most, other.most
        below = ends[0] is None or (ends[1] is not None and ends[1] <= ends[0])
        return asked.least <= other.least and below
    return isinstance(other, int) and asked.holds(other)


@dataclass(frozen=True)
class FieldEvidence:
    """Why one field of a contract is believed; `field` is its name in a contract file."""

    field: str
    evidence: Evidence
    source: str = ""


@dataclass(frozen=True)
class RuntimeContract:
    """Which executions are allowed.

    `rules` say how particular sums are computed, the first that covers a sum counting; `order`,
    `contraction` and `bias` hold for all others. `evidence` says why fields are believed (what it
    leaves out is assumed), `provenance` under which circumstances they were found.

    `accumulation` is the format in which a node computes inside where it is wider than that of its
    tensors: operands are read into it, and only the result is rounded to the tensor's own format
    (encoders/rounding/accumulation.py). `stored_format` is what weights are rounded to first, if
    anything; `narrow`, which no file names, is the format of its tensors inside a node that
    accumulates. `encoders.arithmetic.number_path` says which conversions follow from these, in
    order.

    `factor_format` is what the factors of matrix products (MatMul, Gemm, Conv, ConvTranspose) are
    rounded to, as `factor_rounding` says, where it has the range of their own format and fewer
    digits; TF32 is such a format for binary32.

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
    accumulation: FloatFormat | None = None
    stored_format: FloatFormat | None = None
    factor_format: FloatFormat | None = None
    factor_rounding: FactorRounding = FactorRounding.ANY
    exact: bool = False
    functions: Functions = CONSERVATIVE
    rules: tuple[ScheduleRule, ...] = ()
    evidence: tuple[FieldEvidence, ...] = ()
    provenance: tuple[tuple[str, str], ...] = ()
    narrow: FloatFormat | None = None

    @property
    def schedule(self) -> Schedule:
        """The schedule of sums that no rule covers."""
        return Schedule(self.order, self.contraction, self.bias)

    def on(self, places: Iterable[Reduction]) -> RuntimeContract:
        """The contract without the rules that count at none of these places."""
        first = (next((r for r in self.rules if r.covers(p)), None) for p in places)
        used = tuple(dict.fromkeys(r for r in first if r is not None))
        return replace(self, rules=used)

    def at(self, place: Reduction) -> RuntimeContract:
        """The contract without rules that holds for one sum."""
        if not self.rules:
            return self
        found = next((r.schedule for r in self.rules if r.covers(place)), self.schedule)
        return replace(
            self,
            order=found.order,
            contraction=found.contraction,
            bias=found.bias,
            rules=(),
            evidence=(),
            provenance=(),
        )

    def format_of(self, dtype: DType) -> FloatFormat:
        """The format in which tensors of this dtype are stored and computed.

        Raises KeyError for an integer or boolean dtype.
        """
        return self.compute_format or FORMAT_OF_DTYPE[dtype]

    def wider_than(self, dtype: DType) -> FloatFormat | None:
        """The accumulation format, where it is wider than the format of this dtype."""
        wide, own = self.accumulation, self.format_of(dtype)
        return None if self.exact or wide is None or wide == own or not wide.holds(own) else wide

    def shorter_than(self, dtype: DType) -> FloatFormat | None:
        """The format of factors, where it is the format of this dtype with fewer digits."""
        short, own = self.factor_format, self.format_of(dtype)
        if self.exact or short is None or short.precision >= own.precision:
            return None
        return short if (short.emin, short.emax) == (own.emin, own.emax) else None

    def for_sums(self) -> RuntimeContract:
        """What holds for sums that are no matrix products: no steps, and no short factors."""
        order = without_steps(self.order)
        return self if order == self.order else replace(self, order=order)

    def within(self, wide: FloatFormat, own: FloatFormat) -> RuntimeContract:
        """What holds inside a node that accumulates in `wide` what tensors of `own` format hold."""
        return replace(self, compute_format=wide, accumulation=None, narrow=own)

    @property
    def least_factor(self) -> int | None:
        """The exponent of the smallest normal factor of products, None for the computing format's
        own."""
        held = self.factor_format or self.narrow or self.compute_format
        return None if held is None else held.emin

    @property
    def pinned(self) -> bool:
        """True if the contract allows exactly one execution per input, functions apart."""
        choices: tuple[Enum, ...] = (self.results, self.operands, self.normalization)
        if self.factor_format is not None:
            choices = (*choices, self.factor_rounding)
        return all(s.pinned for s in (self.schedule, *(r.schedule for r in self.rules))) and all(
            c.value not in ("either", "any") for c in choices
        )

    def describe(self) -> str:
        """One line for reports: every field, by name."""
        if self.exact:
            return f"{self.name}: real arithmetic, nothing is rounded"
        fmt = self.compute_format.name if self.compute_format else "each tensor's own dtype"
        wide = f", accumulated in {self.accumulation.name}" if self.accumulation else ""
        wide += f", weights rounded to {self.stored_format.name}" if self.stored_format else ""
        ruled = "".join(f"; {r.describe()}: {r.schedule.describe()}" for r in self.rules[:_SHOWN])
        if len(self.rules) > _SHOWN:
            ruled = f"; and {len(self.rules)} rules for sums of certain operators, shapes or nodes"
        if self.factor_format is not None:
            short, rounding = self.factor_format.name, self.factor_rounding.value
            wide += f", factors of matrix products rounded to {short} ({rounding})"
        return (
            f"{self.name}: format {fmt}{wide}; round to nearest even; {self.schedule.describe()}; "
            f"subnormal results {self.results.value}; subnormal operands {self.operands.value}; "
            f"normalisation {self.normalization.value}; functions {self.functions.name}{ruled}"
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

# onnxruntime 1.31 on an x86-64 CPU with FMA, graph optimisations off, one thread. Measured, not
# promised, bit for bit in float32 (benchmarks/ort_cpu.py): products of a matrix with one that the
# file stores (scaled ones only up to 256 terms); other products of several rows with several
# columns, and convolutions with several output channels in a group and several pixels, in blocks
# that grow as the columns become few; BatchNormalization. Open: every other sum, among them
# reductions, pools, products with vectors, depthwise convolutions, nodes that no file has.
_ORT_COLUMNS = ((Span(2, 16), 1024), (Span(17, 32), 512), (Span(33, 64), 256), (Span(65), 128))


def _ort_product(
    operator: str, block: int = _BLOCK, bias: BiasPlacement = BiasPlacement.AFTER_FIRST_BLOCK
) -> ScheduleRule:
    schedule = Schedule(Blocked(block), Contraction.ALWAYS, bias)
    return ScheduleRule(schedule, operator=operator, type=DType.FLOAT32, written=True)


def _ort_products() -> Iterator[ScheduleRule]:
    for operator in ("MatMul", "Gemm"):
        yield replace(_ort_product(operator), constant=True, plain=True)
    yield replace(_ort_product("Gemm"), constant=True, terms=Span(0, _BLOCK))
    yield replace(_ort_product("Gemm", 128), terms=Span(0, 128), rows=Span(2), columns=Span(2))
    for columns, block in _ORT_COLUMNS:
        yield replace(_ort_product("MatMul", block), rows=Span(2), columns=columns)
        yield replace(
            _ort_product("Conv", block, BiasPlacement.LAST), rows=Span(2), columns=columns
        )
    yield ScheduleRule(
        Schedule(Sequential(), Contraction.NEVER),
        operator="BatchNormalization",
        type=DType.FLOAT32,
        written=True,
    )


ORT_CPU = replace(
    IEEE_ANY,
    name="ort-cpu",
    results=Subnormals.KEEP,
    operands=Subnormals.KEEP,
    normalization=Normalization.RECIPROCAL,
    functions=ORT_FUNCTIONS,
    rules=tuple(_ort_products()),
)

# Tensors of 16 bits, nodes that compute in binary32 in whatever order, as libraries for half
# precision do (cuBLAS, cuDNN, PyTorch on CPU and CUDA). Subnormal numbers of binary16 are kept by
# all of them; those of bfloat16 are not (PyTorch's CPU products flush them).
FP16 = replace(
    IEEE_ANY,
    name="fp16",
    results=Subnormals.KEEP,
    operands=Subnormals.KEEP,
    accumulation=BINARY32,
)
BF16 = replace(IEEE_ANY, name="bf16", accumulation=BINARY32)

# CUDA with cuBLAS, cuDNN or kernels of its own, default compilation (no -use_fast_math), no
# Winograd and no Fourier transforms. Tensor cores of V100 to B200 align to 23 bits or more.
CUDA_FP32 = replace(
    IEEE_ANY,
    name="cuda-fp32",
    results=Subnormals.KEEP,
    operands=Subnormals.KEEP,
    functions=CUDA_FUNCTIONS,
)
CUDA_TF32 = replace(CUDA_FP32, name="cuda-tf32", order=AnyOrder(23), factor_format=TENSOR_FLOAT_32)
CUDA_FP16 = replace(CUDA_FP32, name="cuda-fp16", order=AnyOrder(23), accumulation=BINARY32)

PRESETS = {
    c.name: c
    for c in (
        IEEE_ANY,
        SEQUENTIAL,
        SEQUENTIAL_FMA,
        PAIRWISE,
        ORT_CPU,
        FP16,
        BF16,
        CUDA_FP32,
        CUDA_TF32,
        CUDA_FP16,
        EXACT,
    )
}


def members(contract: RuntimeContract) -> tuple[RuntimeContract, ...]:
    """Some pinned contracts that `contract` allows, for search: each is one concrete execution.

    Every value that a field leaves open is that of some member. First come all combinations of
    orders, contractions and short factors; then members in which one thing else differs, or all of
    it at once; last, where they may be in any order, sums as libraries of matrix products add them.
    They round elementary functions correctly, which is within every accuracy of half an ulp or
    more.
    """
    schedules = (contract.schedule, *(r.schedule for r in contract.rules))
    orders = _orders(schedules)
    fused = tuple(dict.fromkeys(c for s in schedules for c in _contractions(s)))
    roundings: tuple[FactorRounding, ...] = (contract.factor_rounding,)
    if contract.factor_format is not None and contract.factor_rounding is FactorRounding.ANY:
        roundings = (FactorRounding.TRUNCATE, FactorRounding.NEAREST)
    plain = _Choice(orders[0], fused[0], roundings[0], short=len(roundings) > 1)
    every = [
        replace(plain, order=o, contraction=c, factors=f)
        for o in orders
        for c in fused
        for f in roundings
    ]
    simple = orders[1] if isinstance(orders[0], Steps) and len(orders) > 1 else orders[0]
    first, last = (replace(plain, order=simple, contraction=c) for c in (fused[0], fused[-1]))
    flush, keep = Subnormals.FLUSH, Subnormals.KEEP
    every += [
        replace(last, results=flush, operands=flush),
        replace(last, results=flush, operands=keep),
        replace(last, results=keep, operands=flush),
        replace(last, bias=BiasPlacement.FIRST),
        replace(last, normalization=Normalization.DIRECT),
        replace(last, normalization=Normalization.RECIPROCAL),
        replace(
            first,
            bias=BiasPlacement.FIRST,
            results=flush,
            operands=flush,
            normalization=Normalization.DIRECT,
        ),
        replace(first, order=Blocked(_BLOCK), bias=BiasPlacement.AFTER_FIRST_BLOCK),
    ]
    found: dict[RuntimeContract, RuntimeContract] = {}
    for choice in every:
        member = choice.of(contract)
        found.setdefault(replace(member, name=""), member)
    return tuple(found.values())


def contrasting(contract: RuntimeContract, count: int = 3) -> tuple[RuntimeContract, ...]:
    """At most so many of the members, the first and those least like the ones before; how sums are
    added weighs most. An exact contract is its own only member."""
    if contract.exact:
        return (contract,)
    rest = list(members(contract))
    chosen = [rest.pop(0)]
    while rest and len(chosen) < count:
        farthest = max(rest, key=lambda m: min(_unlike(m, c) for c in chosen))
        rest.remove(farthest)
        chosen.append(farthest)
    return tuple(chosen)


def _unlike(a: RuntimeContract, b: RuntimeContract) -> int:
    sums = ("order", "contraction", "rules")
    others = ("bias", "results", "operands", "normalization", "factor_rounding")
    weighed = [*((n, len(others)) for n in sums), *((n, 1) for n in others)]
    return sum(weight for name, weight in weighed if getattr(a, name) != getattr(b, name))


@dataclass(frozen=True)
class _Choice:
    """One value for each thing that a contract may leave open."""

    order: Order
    contraction: Contraction
    factors: FactorRounding
    short: bool
    bias: BiasPlacement = BiasPlacement.LAST
    results: Subnormals = Subnormals.KEEP
    operands: Subnormals = Subnormals.KEEP
    normalization: Normalization = Normalization.FOLDED

    def of(self, contract: RuntimeContract) -> RuntimeContract:
        """The contract with what it leaves open chosen so, named after what was chosen."""
        settled = self.settled(contract.schedule)
        pinned = replace(
            contract,
            order=settled.order,
            contraction=settled.contraction,
            bias=settled.bias,
            results=_chosen(contract.results, Subnormals.EITHER, self.results),
            operands=_chosen(contract.operands, Subnormals.EITHER, self.operands),
            normalization=_chosen(contract.normalization, Normalization.EITHER, self.normalization),
            factor_rounding=self.factors,
            functions=CORRECTLY_ROUNDED,
            rules=tuple(replace(r, schedule=self.settled(r.schedule)) for r in contract.rules),
        )
        name = f"{contract.name}/{type(settled.order).__name__.lower()}"
        name += f"/fma-{settled.contraction.value}"
        name += f"/factors-{self.factors.value}" if self.short else ""
        if contract.bias is BiasPlacement.ANY and self.bias is not BiasPlacement.LAST:
            name += f"/bias-{self.bias.value}"
        if contract.results is not pinned.results and self.results is Subnormals.FLUSH:
            name += "/results-flushed"
        if contract.operands is not pinned.operands and self.operands is Subnormals.FLUSH:
            name += "/operands-flushed"
        if contract.normalization is not pinned.normalization:
            folded = self.normalization is Normalization.FOLDED
            name += "" if folded else f"/normalisation-{self.normalization.value}"
        return replace(pinned, name=name)

    def settled(self, s: Schedule) -> Schedule:
        order = s.order
        if isinstance(order, AnyOrder):
            steps = isinstance(self.order, Steps) and self.order.alignment != order.alignment
            order = Sequential() if steps else self.order  # the steps are another rule's
        return Schedule(
            order,
            _chosen(s.contraction, Contraction.EITHER, self.contraction),
            _chosen(s.bias, BiasPlacement.ANY, self.bias),
        )


_Option = TypeVar("_Option", bound=Enum)


def _chosen(stated: _Option, open_: _Option, choice: _Option) -> _Option:
    return choice if stated is open_ else stated


def _orders(schedules: Sequence[Schedule]) -> tuple[Order, ...]:
    """Orders to try where one is open; the contract's own where none is."""
    open_ = [s.order for s in schedules if isinstance(s.order, AnyOrder)]
    if not open_:
        return (schedules[0].order,)
    aligned = dict.fromkeys(o.alignment for o in open_ if o.alignment is not None)
    return (*(Steps(16, a) for a in aligned), Sequential(), Pairwise(), Blocked(4))


def _contractions(s: Schedule) -> tuple[Contraction, ...]:
    if s.contraction is Contraction.EITHER:
        return (Contraction.ALWAYS, Contraction.NEVER)
    return (s.contraction,)
