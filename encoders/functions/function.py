"""What an elementary function is: one record of all that is known of it.

Each file of this folder names its own in `FUNCTIONS`; `encoders.functions.registry` walks them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeAlias, TypeVar

import flint
import numpy as np
import numpy.typing as npt

from encoders.functions.accuracy import Evidence, FunctionAccuracy, Transcendental
from encoders.functions.curve import Curve, Formula, Number, Reals

SINGLE = 24  # digits of float32
MIXED = "largest of onnxruntime, torch, numpy, glibc (measured) and CUDA (vendor)"
ORT = "onnxruntime 1.31.1, float32, x86-64 with AVX-512"
_CUDA = "CUDA C++ Programming Guide, float32 without fast math, plus half an ulp"
_WIDE = "float64: onnxruntime 1.31.1 (a sample, at least doubled), else as in float32, doubled"

Series: TypeAlias = flint.arb_series
Floats: TypeAlias = npt.NDArray[np.floating]  # of float64 or wider
T = TypeVar("T")


class ExponentialField(Protocol):
    """A field of formulas, which has exponentials and logarithms."""

    def exponential(self, x: Number) -> Number: ...

    def logarithm(self, x: Number) -> Number: ...


@dataclass(frozen=True)
class Figures:
    """How accurately runtimes compute a function in float32; in float16 the same figures hold.

    `conservative` is what every library seen keeps to, `onnxruntime` what that does; `elsewhere`
    are onnxruntime's figures inside operators that compute the function in their own way, and
    `apart` what every library keeps to inside operators whose kernels are less accurate than the
    function's own. `cuda` is the vendor's bound in ulps, None where the conservative figure serves.
    `wide_ulps` and `wide_units` are for float64.
    """

    conservative: FunctionAccuracy
    onnxruntime: FunctionAccuracy
    wide_ulps: float | None = None
    wide_units: float | None = None
    cuda_ulps: float | None = None
    elsewhere: tuple[tuple[str, FunctionAccuracy], ...] = ()
    apart: tuple[tuple[str, FunctionAccuracy], ...] = ()

    @classmethod
    def in_ulps(cls, conservative: float, *, onnxruntime: float, cuda: float) -> Figures:
        """Of a function whose relative error is bounded everywhere; doubled in float64."""
        return cls(
            FunctionAccuracy(conservative, None, Evidence.VENDOR, MIXED),
            FunctionAccuracy(onnxruntime, None, Evidence.SAMPLED, ORT),
            wide_ulps=2.0 * conservative,
            cuda_ulps=cuda,
        )

    @property
    def wide(self) -> FunctionAccuracy:
        """In float64: what no other figure says anything of."""
        seen = self.conservative
        return replace(
            seen,
            ulps=self.wide_ulps,
            units=self.wide_units,
            evidence=Evidence.SAMPLED,
            source=_WIDE,
            excess=2 * seen.excess if self.wide_units is None else self.wide_units,
            digits=None,
        )

    @property
    def cuda(self) -> FunctionAccuracy:
        """What NVIDIA documents for CUDA's own function, else the conservative figure."""
        seen = self.conservative
        if self.cuda_ulps is None:
            return seen
        return FunctionAccuracy(self.cuda_ulps, None, Evidence.VENDOR, _CUDA, excess=seen.excess)


@dataclass(frozen=True, eq=False)
class Function:
    """An elementary function that a runtime offers as one operation.

    `approximate` takes numpy arrays of float64 or wider numbers and is right to a few ulps;
    infinities and NaN as IEEE 754 recommends. `ball` encloses it on balls, `series` on power series
    over them (None: measured against float64 instead), and `algebraic` says it over the field of
    formulas given, where it is made of exponentials and logarithms. `curve` is its shape, `largest`
    the largest size of its values, None where there is none, `domain` the arguments at which it has
    a value that runtimes compute, None where these are all. A function of several arguments has
    none of these.
    """

    name: str
    figures: Figures
    approximate: Callable[[Floats], Floats] | None = None
    ball: Callable[[flint.arb], flint.arb] | None = None
    series: Callable[[Series], Series] | None = None
    algebraic: Callable[[ExponentialField, Number], Number] | None = None
    curve: Curve | None = field(default=None, repr=False)
    largest: float | None = None
    domain: tuple[float, float] | None = None

    @property
    def operator(self) -> str:
        """ONNX's operator that computes it and nothing else."""
        return self.name.capitalize()

    @property
    def shape(self) -> Curve:
        """Its curve. Raises Transcendental for a function of several arguments, as do the next."""
        return self._of_one(self.curve)

    @property
    def on_balls(self) -> Callable[[flint.arb], flint.arb]:
        """`ball`, of a function of one argument."""
        return self._of_one(self.ball)

    @property
    def in_floats(self) -> Callable[[Floats], Floats]:
        """`approximate`, of a function of one argument."""
        return self._of_one(self.approximate)

    def _of_one(self, known: T | None) -> T:
        if known is None:
            raise Transcendental(f"{self.name} takes more than one argument")
        return known

    def __reduce__(self) -> tuple[Callable[[str], Function], tuple[str]]:
        from encoders.functions.registry import function_named

        return function_named, (self.name,)


def formula(name: str) -> Formula:
    """The function of this name as a formula, for shapes that the function itself is part of."""

    def value(field: Reals, x: Number) -> Number:
        from encoders.functions.registry import function_named

        return field.function(function_named(name), x)

    return value
