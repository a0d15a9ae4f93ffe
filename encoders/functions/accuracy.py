"""How accurately a runtime computes an elementary function."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


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

    @property
    def is_rounding(self) -> bool:
        """Is a result the real value, rounded to nearest?"""
        return self.evidence is Evidence.DEFINITION and self.ulps == 0.5

    def describe(self) -> str:
        parts = [f"{self.ulps:g} ulp"] if self.ulps is not None else []
        parts += [f"{self.units:g} u absolute"] if self.units is not None else []
        text = " or ".join(parts) + (", whichever is less," if len(parts) > 1 else "")
        return text + (", subnormal results may be flushed" if self.flushes else "")
