"""The runtime contract: the set of executions a proof speaks about, as plain data.

Nothing about a runtime is implicit: whatever `RuntimeContract` does not pin down is free, and a
proof covers every choice. `EITHER` and `AnyOrder` mean "each time anew, as the runtime likes".
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from enum import Enum

from encoders.contract.functions import CONSERVATIVE, Functions
from encoders.contract.orders import AlignedSteps as AlignedSteps
from encoders.contract.orders import AnyOrder as AnyOrder
from encoders.contract.orders import Blocked as Blocked
from encoders.contract.orders import Order as Order
from encoders.contract.orders import Pairwise as Pairwise
from encoders.contract.orders import Sequential as Sequential
from encoders.contract.orders import without_steps
from encoders.functions.accuracy import Evidence
from encoders.numbers.formats import FORMAT_OF_DTYPE, NARROW_FORMATS, FloatFormat
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


class RoundingMode(Enum):
    """To which of its two neighbours a number between them is rounded.

    NEAREST: the nearer, ties to even. STOCHASTIC: either, each with a probability that falls
    linearly with its distance, independently of every other rounding; the mean is the number
    itself. A number of the format stays what it is.
    """

    NEAREST = "nearest"
    STOCHASTIC = "stochastic"


class FactorRounding(Enum):
    """How the factors of a matrix product are truncated: all of a node's alike. ANY leaves it to
    the runtime, which may also leave them whole (as libraries do with some shapes)."""

    NEAREST = "nearest"
    TRUNCATE = "toward-zero"
    ANY = "any"


_ROUNDING = {
    RoundingMode.NEAREST: "round to nearest even",
    RoundingMode.STOCHASTIC: "round stochastically",
}
_SHOWN = 6  # rules that a description spells out


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
    node, or another one whose kernel computes it as its own would, `plain` that the second factor
    is one matrix, no vector and no batch, and nothing is scaled.

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
    """Multiples of `of` from `least` on, up to and including `most` (None: without end)."""

    least: int = 0
    most: int | None = None
    of: int = 1

    def holds(self, number: int) -> bool:
        within = self.least <= number and (self.most is None or number <= self.most)
        return within and number % self.of == 0

    def describe(self) -> str:
        ends = f"{self.least} or more" if self.most is None else f"{self.least} to {self.most}"
        return ends if self.of == 1 else f"{ends}, multiples of {self.of},"


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
        """Does the rule speak of this reduction: does it agree in everything that the rule says?"""
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
            parts.append("one matrix on the right" if self.plain else "other products")
        if self.written is not None:
            parts.append("a node of the file" if self.written else "a node of a decomposition")
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
        return asked.least <= other.least and below and other.of % asked.of == 0
    return isinstance(other, int) and asked.holds(other)


@dataclass(frozen=True)
class FieldEvidence:
    """Why one field of a contract is believed; `field` is its name in a contract file."""

    field: str
    evidence: Evidence
    source: str = ""


@dataclass(frozen=True, repr=False)
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
    Overflow gives an infinity. `rounding` says how every operation rounds; where it is stochastic,
    executions are many per input, and what is bounded is how they scatter (refine/probable).
    `functions` says how accurate elementary functions are; an execution that is emulated rounds
    them correctly, or stochastically.
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
    rounding: RoundingMode = RoundingMode.NEAREST

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
        """The format in which tensors of this dtype are stored and computed; of a type of at most
        eight bits always its own, since nothing is computed in it.

        Raises KeyError for an integer or boolean dtype.
        """
        return NARROW_FORMATS.get(dtype) or self.compute_format or FORMAT_OF_DTYPE[dtype]

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
        schedules = (self.schedule, *(r.schedule for r in self.rules))
        return self.decided and all(schedule.pinned for schedule in schedules)

    @property
    def decided(self) -> bool:
        """Is nothing left open, or to chance, but schedules and functions?"""
        choices: tuple[Enum, ...] = (self.results, self.operands, self.normalization)
        if self.factor_format is not None:
            choices = (*choices, self.factor_rounding)
        nearest = self.rounding is RoundingMode.NEAREST
        return nearest and all(c.value not in ("either", "any") for c in choices)

    def __repr__(self) -> str:
        return f"<contract {self.describe()}>"

    def to_json(self) -> str:
        """The contract as a result's JSON document has it: the keys of a contract file."""
        from encoders.contract.table import contract_document

        return json.dumps(contract_document(self), indent=2, allow_nan=False) + "\n"

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
        mode = _ROUNDING[self.rounding]
        return (
            f"{self.name}: format {fmt}{wide}; {mode}; {self.schedule.describe()}; "
            f"subnormal results {self.results.value}; subnormal operands {self.operands.value}; "
            f"normalisation {self.normalization.value}; functions {self.functions.name}{ruled}"
        )
