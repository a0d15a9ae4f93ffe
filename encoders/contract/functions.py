"""How accurately a runtime computes elementary functions: named tables of error bounds.

IEEE 754 fixes nothing here, so a contract has to say it. Measurements: onnxruntime 1.31.1, torch
2.13, numpy 2.4.6 and glibc 2.36 on x86-64, float32 (all inputs, or all of the interesting binades
and a sample of the rest); CUDA: the vendor's table plus half an ulp, since that table counts from
the correctly rounded result. In float16 the same numbers, in ulps of that format, hold of all
inputs on onnxruntime, torch and numpy (benchmarks/results/functions.json, which a test holds
against them). Of float64 they do not hold: there `WIDE` counts, from a sample of what onnxruntime
does, at least doubled.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

_SINGLE = 24  # digits of float32


class Function(Enum):
    """An elementary function that a runtime offers as one operation."""

    EXP = "exp"
    LOG = "log"
    TANH = "tanh"
    SIGMOID = "sigmoid"
    ERF = "erf"
    SIN = "sin"
    COS = "cos"
    SOFTPLUS = "softplus"
    POW = "pow"

    @property
    def operator(self) -> str:
        """ONNX's operator that computes it and nothing else."""
        return self.value.capitalize()


class Evidence(Enum):
    """Why an accuracy is believed, weakest last."""

    DEFINITION = "by definition of the contract"
    PROVED = "proved"
    EXHAUSTIVE = "measured on all inputs"
    SAMPLED = "measured on a sample of inputs"
    VENDOR = "stated by the vendor, not guaranteed"

    @property
    def conditional(self) -> bool:
        """Does a verdict resting on this hold only if a measurement or a statement does?"""
        return self in (Evidence.SAMPLED, Evidence.VENDOR)


class Transcendental(ValueError):
    """A function with no term in this arithmetic: nothing can be asked of it there."""


@dataclass(frozen=True)
class FunctionAccuracy:
    """|computed − f(x)| ≤ min(`ulps`·ulp(f(x)), `units`·u), for every x whose result is finite.

    ulp(y) is the spacing of the format at y, 2^(max(⌊log2|y|⌋, emin) − p + 1), and u = 2^-p; a
    bound that is None does not count. The reference is the real value at the computed argument.
    `flushes`: a result below the smallest normal number may become zero whatever the contract says
    of subnormal results. `excess`: a result may leave the function's mathematical range by as many
    u; the error bound allows it in any case. Of formats of more than `digits` digits nothing is
    said, and where `alone`, nothing of other operators than the function's own.
    """

    ulps: float | None
    units: float | None
    evidence: Evidence
    source: str
    flushes: bool = False
    excess: float = 0.0
    digits: int | None = None
    alone: bool = False

    def __post_init__(self) -> None:
        if self.ulps is None and self.units is None:
            raise ValueError("an accuracy needs a bound")

    def describe(self) -> str:
        parts = [f"{self.ulps:g} ulp"] if self.ulps is not None else []
        parts += [f"{self.units:g} u absolute"] if self.units is not None else []
        text = " or ".join(parts) + (", whichever is less," if len(parts) > 1 else "")
        return text + (", subnormal results may be flushed" if self.flushes else "")


@dataclass(frozen=True)
class Functions:
    """A named table: one accuracy per function, but another one inside the operators that `within`
    names."""

    name: str
    table: tuple[tuple[Function, FunctionAccuracy], ...]
    within: tuple[tuple[str, Function, FunctionAccuracy], ...] = ()

    def accuracy(self, function: Function) -> FunctionAccuracy:
        """Raises KeyError for a function that the table leaves out."""
        return dict(self.table)[function]

    def at(self, operator: str, digits: int) -> Functions:
        """The table that holds inside one operator in a format of so many digits; where the figure
        of a function says nothing of either, a conservative one."""
        inside = {f: a for op, f, a in self.within if op == operator}
        table = tuple((f, _at(f, inside.get(f, a), operator, digits)) for f, a in self.table)
        return self if table == self.table else Functions(self.name, table)


def _at(function: Function, a: FunctionAccuracy, operator: str, digits: int) -> FunctionAccuracy:
    if a.digits is not None and digits > a.digits:
        return dict(WIDE.table)[function]
    if a.alone and operator != function.operator:
        return dict((CONSERVATIVE if digits <= _SINGLE else WIDE).table)[function]
    return a


def _in_single(functions: Functions) -> Functions:
    table = tuple((f, replace(a, digits=_SINGLE)) for f, a in functions.table)
    within = tuple((op, f, replace(a, digits=_SINGLE)) for op, f, a in functions.within)
    return Functions(functions.name, table, within)


def _half_ulp() -> FunctionAccuracy:
    return FunctionAccuracy(0.5, None, Evidence.DEFINITION, "rounded correctly")


CORRECTLY_ROUNDED = Functions("correctly-rounded", tuple((f, _half_ulp()) for f in Function))

_MIXED = "largest of onnxruntime, torch, numpy, glibc (measured) and CUDA (vendor)"

CONSERVATIVE = _in_single(
    Functions(
        "conservative",
        (
            (Function.EXP, FunctionAccuracy(3.0, None, Evidence.VENDOR, _MIXED, flushes=True)),
            (Function.LOG, FunctionAccuracy(4.0, None, Evidence.VENDOR, _MIXED)),
            (Function.TANH, FunctionAccuracy(128.0, 6.0, Evidence.VENDOR, _MIXED, excess=4.0)),
            (
                Function.SIGMOID,
                FunctionAccuracy(None, 4.0, Evidence.SAMPLED, _MIXED, flushes=True, excess=2.0),
            ),
            (
                Function.ERF,  # torch's in float16, where results are subnormal: 4.93 ulp, or zero
                FunctionAccuracy(5.0, None, Evidence.VENDOR, _MIXED, flushes=True, excess=2.0),
            ),
            (Function.SIN, FunctionAccuracy(None, 4.0, Evidence.VENDOR, _MIXED, excess=2.0)),
            (Function.COS, FunctionAccuracy(None, 4.0, Evidence.VENDOR, _MIXED, excess=2.0)),
            (
                Function.SOFTPLUS,
                FunctionAccuracy(6.0, None, Evidence.SAMPLED, _MIXED, flushes=True),
            ),
            (Function.POW, FunctionAccuracy(4.5, None, Evidence.VENDOR, _MIXED, flushes=True)),
        ),
    )
)

_WIDE = "float64: onnxruntime 1.31.1 (a sample, at least doubled), else as in float32, doubled"
_WIDE_ULPS = {
    Function.EXP: 4.0,
    Function.LOG: 4.0,
    Function.TANH: 128.0,
    Function.ERF: 10.0,
    Function.SOFTPLUS: 12.0,
    Function.POW: 9.0,
}
_WIDE_UNITS = {Function.TANH: 18.0, Function.SIGMOID: 8.0, Function.SIN: 14.0, Function.COS: 14.0}

WIDE = Functions(
    "conservative",
    tuple(
        (
            f,
            replace(
                a,
                ulps=_WIDE_ULPS.get(f),
                units=_WIDE_UNITS.get(f),
                evidence=Evidence.SAMPLED,
                source=_WIDE,
                excess=_WIDE_UNITS.get(f, 2 * a.excess),
                digits=None,
            ),
        )
        for f, a in CONSERVATIVE.table
    ),
)

_ORT = "onnxruntime 1.31.1, float32, x86-64 with AVX-512"

ORT_FUNCTIONS = _in_single(
    Functions(
        "onnxruntime",
        (
            (Function.EXP, FunctionAccuracy(0.87, None, Evidence.EXHAUSTIVE, _ORT)),
            (Function.LOG, FunctionAccuracy(3.5, None, Evidence.SAMPLED, _ORT)),
            (Function.TANH, FunctionAccuracy(104.1, 5.46, Evidence.EXHAUSTIVE, _ORT, excess=4.0)),
            (Function.SIGMOID, FunctionAccuracy(None, 3.0, Evidence.SAMPLED, _ORT, excess=2.0)),
            (Function.ERF, FunctionAccuracy(1.01, None, Evidence.SAMPLED, _ORT)),
            (Function.SIN, FunctionAccuracy(None, 4.0, Evidence.SAMPLED, _ORT, excess=2.0)),
            (Function.COS, FunctionAccuracy(None, 4.0, Evidence.SAMPLED, _ORT, excess=2.0)),
            (Function.SOFTPLUS, FunctionAccuracy(5.0, None, Evidence.SAMPLED, _ORT)),
            (Function.POW, FunctionAccuracy(0.6, None, Evidence.SAMPLED, _ORT)),
        ),
        # Another exponential than Exp's: 1.15 ulp was seen.
        tuple(
            (op, Function.EXP, FunctionAccuracy(2.0, None, Evidence.SAMPLED, f"{op} of {_ORT}"))
            for op in ("Elu", "Celu", "Selu")
        ),
    )
)

_CUDA = "CUDA C++ Programming Guide, float32 without fast math, plus half an ulp"
_CUDA_ULPS = {
    Function.EXP: 2.5,
    Function.LOG: 1.5,
    Function.TANH: 2.5,
    Function.ERF: 2.5,
    Function.POW: 4.5,
}

CUDA_FUNCTIONS = _in_single(
    Functions(
        "cuda",
        tuple(
            (f, FunctionAccuracy(_CUDA_ULPS[f], None, Evidence.VENDOR, _CUDA, excess=a.excess))
            if f in _CUDA_ULPS
            else (f, a)
            for f, a in CONSERVATIVE.table
        ),
    )
)

TABLES = {t.name: t for t in (CORRECTLY_ROUNDED, CONSERVATIVE, ORT_FUNCTIONS, CUDA_FUNCTIONS)}
