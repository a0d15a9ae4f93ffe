"""How accurately a runtime computes elementary functions: named tables of error bounds.

IEEE 754 fixes nothing here, so a contract has to say it. Measurements: onnxruntime 1.31.1, torch
2.13, numpy 2.4.6 and glibc 2.36 on x86-64, float32 (all inputs, or all of the interesting binades
and a sample of the rest); CUDA: the vendor's table plus half an ulp, since that table counts from
the correctly rounded result. For other formats the same numbers, in ulps of that format, are taken
on trust: such evidence is never better than "sampled". In float16 they hold of all inputs on
onnxruntime, torch and numpy (benchmarks/results/functions.json, which a test holds against them).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


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
    u; the error bound allows it in any case.
    """

    ulps: float | None
    units: float | None
    evidence: Evidence
    source: str
    flushes: bool = False
    excess: float = 0.0

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
    """A named table: one accuracy per function."""

    name: str
    table: tuple[tuple[Function, FunctionAccuracy], ...]

    def accuracy(self, function: Function) -> FunctionAccuracy:
        """Raises KeyError for a function that the table leaves out."""
        return dict(self.table)[function]


def _half_ulp() -> FunctionAccuracy:
    return FunctionAccuracy(0.5, None, Evidence.DEFINITION, "rounded correctly")


CORRECTLY_ROUNDED = Functions("correctly-rounded", tuple((f, _half_ulp()) for f in Function))

_MIXED = "largest of onnxruntime, torch, numpy, glibc (measured) and CUDA (vendor)"

CONSERVATIVE = Functions(
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

_ORT = "onnxruntime 1.31.1, float32, x86-64 with AVX-512"

ORT_FUNCTIONS = Functions(
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
)

_CUDA = "CUDA C++ Programming Guide, float32 without fast math, plus half an ulp"
_CUDA_ULPS = {
    Function.EXP: 2.5,
    Function.LOG: 1.5,
    Function.TANH: 2.5,
    Function.ERF: 2.5,
    Function.POW: 4.5,
}

CUDA_FUNCTIONS = Functions(
    "cuda",
    tuple(
        (f, FunctionAccuracy(_CUDA_ULPS[f], None, Evidence.VENDOR, _CUDA, excess=a.excess))
        if f in _CUDA_ULPS
        else (f, a)
        for f, a in CONSERVATIVE.table
    ),
)

TABLES = {t.name: t for t in (CORRECTLY_ROUNDED, CONSERVATIVE, ORT_FUNCTIONS, CUDA_FUNCTIONS)}
