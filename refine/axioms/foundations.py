"""Which format lemmas a lemma over the reals rests on: those that say what it assumes of rounding.

A schema lemma takes, say, |fl(z) − z| ≤ v·|z| as a hypothesis; that IEEE 754 rounds so is a format
lemma, proved bit for bit of whole small formats (`refine/lemmas/format_lemmas.py`). A lemma that
takes its roundings from premises, which are applications of other lemmas, rests on none itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

OF_OVERFLOW = ("overflow-threshold-sum", "overflow-threshold-product", "overflow-threshold-fma")
"""What it rests on that a range of exact results keeps the computed ones finite."""

_SUMS = ("rounding-no-underflow-sum", "half-ulp-sum")
_PRODUCTS = ("rounding-product", "half-ulp-product", "error-below-result-product")
_FUSED = ("rounding-fma", "half-ulp-fma")
_FLUSHED = ("flush-to-zero-sum", "flush-to-zero-product", "flush-to-zero-fma")
_OPERANDS = ("flush-operand",)
_NEAREST = ("sum-error-below-operands",)
_RANGES = ("monotone", "monotone-sum")

FOUNDATIONS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "rounding-model": (*_PRODUCTS, "rounding-quotient", "rounding-sqrt"),
        "sum-any-order": _SUMS,
        "sum-any-order-relative": _SUMS,
        "sum-any-order-aligned": _SUMS,
        "fma-node": _FUSED,
        "sequential-step": (*_SUMS, *_FUSED),
        "power-step": _SUMS,
        "jeannerod-rump-rounding": (*_SUMS, *_NEAREST),
        "jeannerod-rump-step": (*_SUMS, *_NEAREST),
        "jeannerod-rump-dot": _PRODUCTS,
        "any-order-linear": (*_SUMS, *_FUSED, *_NEAREST),
        "any-order-linear-node": (*_SUMS, *_NEAREST),
        "any-order-linear-fused": _FUSED,
        "any-order-power": _SUMS,
        "underflow-term": (*_PRODUCTS, *_FUSED),
        "accumulated-rounding": (*_SUMS, *_PRODUCTS, "widening-exact"),
        "aligned-step": _SUMS,
        "aligned-rounding": _SUMS,
        "flush": _FLUSHED,
        "flush-relative": _FLUSHED,
        "flush-operand-product": _OPERANDS,
        "flush-operand-sum": _OPERANDS,
        "rounded-result": (*_PRODUCTS, *_FUSED, *_FLUSHED, "rounding-quotient", "rounding-sqrt"),
        "rounded-sum": (*_SUMS, "small-sum-exact", *_FLUSHED),
        "rounded-copy": ("maximum-exact", "relu-exact", *_FLUSHED),
        "rounded-scaling": ("scaling-exact", "halving-exact", *_FLUSHED),
        "no-overflow": OF_OVERFLOW,
        "zero-operand": _SUMS,
        "known-factor": ("scaling-exact", "halving-exact"),
        "held-already": ("widening-exact",),
    }
)
"""Families of format lemmas (`half-ulp-sum`, in every format of the library) by schema lemma."""

OF_RANGES = _RANGES
"""What it rests on that ranges of computed numbers follow from their ends."""

OF_EVERY_FORMAT_LEMMA = (
    "exact-frame-sum", "exact-frame-product", "exact-frame-fma",
    "correctly-rounded-sum", "correctly-rounded-product", "correctly-rounded-fma",
)  # fmt: skip
"""That the format in which format lemmas compare is wide enough, and that the solver's theory of
floating-point numbers rounds to nearest."""

_CORRECTLY_ROUNDED = ("correctly-rounded-sum", "correctly-rounded-product", "correctly-rounded-fma")
_FAMILIES = frozenset(
    (*(name for names in FOUNDATIONS.values() for name in names), *OF_EVERY_FORMAT_LEMMA)
)


def foundations_of(name: str, source: str) -> tuple[str, ...]:
    """Of a schema lemma: those listed; else those that its source names; else, where the source is
    IEEE 754, that operations are rounded correctly."""
    if name in FOUNDATIONS:
        return FOUNDATIONS[name]
    named = tuple(sorted(_FAMILIES & set(source.replace(",", " ").replace(";", " ").split())))
    of_standard = "IEEE 754" in source or "format lemma" in source
    return named or (_CORRECTLY_ROUNDED if of_standard else ())
