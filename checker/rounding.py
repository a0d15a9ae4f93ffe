"""How far the result of a node may be from its real meaning at the same run-time inputs.

u = 2^-p, v = u/(1 + u), L = 2^emin. Rounding z to nearest errs by at most u·2^⌊log2 |z|⌋, by v·|z|
plus half the smallest subnormal number (nothing if z is a sum below L), and, if a result below L
may become 0, by L. Reading an operand below L as 0 loses less than L.
README.md has the induction that `summed` closes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from checker.arithmetic import Array, Outside, Rejected, add, mul, positive, raised
from checker.model import Node

FORMATS = {  # precision, emin, emax
    "float16": (11, -14, 15), "bfloat16": (8, -126, 127), "float32": (24, -126, 127),
    "float64": (53, -1022, 1023),
}  # fmt: skip
GRADUAL = ("gradual", "flush", "either")
FIELDS: dict[str, tuple[Any, ...] | None] = {  # what fields of a contract may say; None: anything
    "order": ("any", "sequential", "pairwise", "blocked", "blocks", "lanes"),
    "fma": ("always", "never", "either"), "bias": ("first", "last", "after-first-block", "any"),
    "subnormal_results": GRADUAL, "subnormal_operands": GRADUAL, "exact": (False,),
    "normalization": ("folded", "reciprocal", "direct", "either"), "schema": None, "name": None,
    "functions": None, "evidence": None, "provenance": None, "factor_rounding": None,
    "block": None, "blocks": None, "lanes": None,
}  # fmt: skip


def read_contract(table: Mapping[str, Any], name: str) -> tuple[bool, bool]:
    """Whether results and operands may be flushed, for tensors of this format; every order, FMA
    or not, and every formula of a normalisation is covered. Raises Outside, naming a field."""
    allowed = FIELDS | {"format": (None, name)}
    for key in sorted({*table, *allowed}):
        if (words := allowed.get(key, ())) is not None and table.get(key) not in words:
            raise Outside(f"contract field '{key}' is not in the checker's language")
    return table["subnormal_results"] != "gradual", table["subnormal_operands"] != "gradual"


class Rounding:
    """Rounding in one format, where subnormal results and operands may be flushed or not. For each
    lemma a method gives |computed − meant| per element and the largest magnitudes on the way, from
    the ranges [lo, hi] of the inputs at run time and the `size` of what is meant."""

    def __init__(self, name: str, flushed: tuple[bool, bool]) -> None:
        self.p, self.emin, self.emax = FORMATS[name]
        self.u, self.least = 2.0**-self.p, 2.0**self.emin
        self.v = float(np.nextafter(self.u / (1 + self.u), 1.0))
        self.tiny = max(2.0 ** (self.emin - self.p), 2.0**-1074)
        (self.results, self.operands), self.copies = flushed, any(flushed)
        self.each = self.least if self.results else self.tiny  # of a product that underflows
        self.lost = 2 * self.least if self.operands else 0.0  # by both operands

    def half(self, size: Array) -> Array:
        """Half an ulp of the largest number up to `size`: beyond 2^e, 2^e itself is a neighbour."""
        power = np.ldexp(1.0, np.maximum(np.frexp(size)[1] - 1, self.emin))
        within = np.where(power > self.least, 0.5 * self.u * power, self.u * power)
        half = np.minimum(self.u * power, np.maximum(add(size, -power), within))
        return np.where(np.isfinite(size), half, np.inf)

    def flushed(self, error: Array, size: Array) -> Array:
        return np.minimum(np.maximum(error, self.least) if self.results else error, size)

    def any(self, size: Array) -> Array:
        """Of rounding any number up to `size`."""
        return self.flushed(np.minimum(self.half(size), add(mul(self.v, size), self.tiny)), size)

    def read(self, lo: Array, hi: Array, flushed: bool) -> Array:
        """Of a number that is read, or handed on, where it may be flushed."""
        touches = (lo < self.least) & (hi > -self.least) & flushed
        return np.where(touches, np.minimum(np.maximum(-lo, hi), self.least), 0.0)

    def summed(self, leaves: Array, partial: Array, total: Array, additions: Array) -> Array:
        """E with leaves + additions·(rounding up to partial + E) ≤ E, or without a feedback."""
        m = np.maximum(additions, 0.0)
        off = add(leaves, mul(m, self.each + 2 * self.lost))
        best = add(off, mul(mul(m, self.v), add(total, off)))
        trial = leaves + m * (self.v * partial + 2 * self.tiny + self.lost + self.least)
        trial = np.abs(trial / (1.0 - self.v * m))
        for factor in (1.0 + 2.0**-20, 1.0 + 2.0**-8, 2.0):
            trial = trial * factor
            found = add(leaves, mul(m, add(self.any(add(partial, trial)), self.lost)))
            best = np.where(found <= trial, np.minimum(best, found), best)
            trial = np.where(found <= trial, found, trial)
        return best

    def of(self, node: Node, lows: list[Array], highs: list[Array], size: Array) -> Array:
        """|computed − meant| per element. Raises Rejected where something may overflow."""
        rule = getattr(self, "on_" + node.lemma.replace("-", "_"))
        radius, reach = rule(node, lows, highs, size)
        sizes = [np.maximum(-lo, hi) for lo, hi in zip(lows, highs, strict=True)]
        largest = max(float(np.max(np.abs(x), initial=0)) for x in (reach, *sizes, *node.stored))
        if not largest < (float(2 - self.u) * 2.0**self.emax if self.p < 53 else 2.0**1023):
            raise Rejected(f"{node.title}: a number of size {largest:.6g} may overflow")
        return np.broadcast_to(radius, size.shape)

    def on_movement(self, node: Node, lows: Any, highs: Any, size: Array) -> Any:
        return np.zeros(size.shape), size

    def on_sum_any_order(self, node: Node, lows: Any, highs: Any, size: Array) -> Any:
        (linear,), (lo,), (hi,), x = node.maps, lows, highs, np.maximum(-lows[0], highs[0])
        weights, bias = linear.weights, np.abs(node.bias)
        # partial sums lie between the sums of all negative and of all positive parts
        partial = np.zeros(size.shape)
        for *ends, b in ((lo, hi, node.bias), (-hi, -lo, -node.bias)):
            side = raised(positive(linear.forward, weights, *ends), 2 * linear.terms)
            partial = np.maximum(partial, add(side, np.maximum(b, 0.0)))
        count = linear.forward((weights != 0).astype(float), (x > 0).astype(float))
        inexact = np.where(np.abs(np.frexp(weights)[0]) == 0.5, 0.0, linear.absolute)
        leaves = add(mul(self.v, linear.of(inexact, x)), mul(count, self.each))
        leaves = add(leaves, linear.of(self.read(weights, weights, self.operands), x))
        leaves = add(leaves, linear.size(self.read(lo, hi, self.operands)))
        leaves = add(leaves, add(self.read(node.bias, node.bias, self.copies), self.lost))
        total = add(linear.size(x), bias)
        error = self.summed(leaves, partial, total, count - 1.0 + (bias != 0))
        return error, add(partial, error)

    def on_sum_of_two(self, node: Node, lows: Any, highs: Any, size: Array) -> Any:
        ends = list(zip(node.maps, lows, highs, strict=True))
        lost = add(*(m.size(self.read(a, b, self.operands)) for m, a, b in ends))
        sizes = [m.size(np.maximum(-a, b)) for m, a, b in ends]
        none = (sizes[0] == 0) | (sizes[1] == 0)
        size = add(size, lost)
        error = np.minimum(self.half(size), mul(self.v, size))  # exact below L, or flushed
        error = self.flushed(np.where(none | (size < self.least), 0.0, error), size)
        if not self.copies:  # each operand is a number of the format itself
            error = np.minimum(error, np.minimum(*sizes))
        return add(error, lost), size

    def on_product(self, node: Node, lows: Any, highs: Any, size: Array) -> Any:
        """By a stored factor, or divided by one; a mean, perhaps by its rounded reciprocal."""
        (linear,), (factor,), x = node.maps, node.stored, np.maximum(-lows[0], highs[0])
        small = self.read(factor, factor, self.operands)
        if node.lemma != "product" and np.any(small):
            raise Outside(f"{node.title}: a divisor is subnormal")
        lost = add(linear.size(self.read(lows[0], highs[0], self.operands)), linear.of(small, x))
        exact, drift = np.abs(np.frexp(factor)[0]) == 0.5, mul(add(size, lost), self.v)
        drift = np.where(exact | (node.lemma != "mean"), 0.0, drift)
        error = self.any(add(add(size, lost), drift))
        error = np.where(factor == 0, 0.0, np.where(exact, np.minimum(error, self.each), error))
        return add(add(error, drift), lost), add(size, add(error, drift))

    on_quotient = on_mean = on_product

    def on_normalization(self, node: Node, lows: Any, highs: Any, size: Array) -> Any:
        """Folded, with a reciprocal or direct: the scale errs by 4 units at most (epsilon, sum and
        root 2, one or two more), its products by one more, the shift by one, then the result;
        direct, by 5 in all of the centred input. Whatever underflows is charged 2^40 times."""
        (linear,), (beta, mean, base), x = node.maps, node.stored, np.maximum(-lows[0], highs[0])
        scale, deviation = linear.absolute, np.sqrt(base)
        small = np.any((scale > 0) & ((scale < 2.0**-40) | (scale > 2.0**40)))
        if self.emin > -100 or small or np.any(base > 2.0**40):
            raise Outside(f"{node.title}: in float16, or of such a scale, it is not understood")
        centred = add(x, np.abs(mean))
        whole = add(mul(scale, centred), np.abs(beta))
        tiny = mul(4.0 * (self.each + self.lost), mul(add(centred, 2.0), add(scale, 2.0)))
        parts = add(mul(scale, add(mul(x, 5.0), mul(np.abs(mean), 6.0))), np.abs(beta))
        error = add(mul(parts, self.u * (1.0 + 32.0 * self.u)), mul(tiny, 2.0**40))
        error = add(error, self.any(add(size, error)))
        reach = add(add(whole, centred), add(scale, add(1.0 / deviation, deviation)))
        return error, mul(reach, 2.0)

    def on_hinge(self, node: Node, lows: Any, highs: Any, size: Array) -> Any:
        (lo,), (hi,) = lows, highs
        lost = self.read(lo, hi, self.copies)
        if node.below == 0:  # only what is above 0 is handed on
            return np.minimum(lost, np.maximum(hi, 0.0)), np.maximum(-lo, hi)
        beneath = np.maximum(-lo, 0.0)
        off = mul(node.below * self.u, beneath) if self.p < 24 else np.zeros(lo.shape)
        error = add(off, self.any(add(mul(node.below, beneath), off)))
        return add(np.where(lo < 0, error, 0.0), mul(2.0, lost)), np.maximum(-lo, hi)

    def on_copy(self, node: Node, lows: Any, highs: Any, size: Array) -> Any:
        lost = self.read(lows[0], highs[0], self.copies)
        return np.max(lost[node.index], axis=0), np.maximum(-lows[0], highs[0])
