"""How far the result of a node may be from its real meaning at the same run-time inputs.

u = 2^-p, v = u/(1 + u), L = 2^emin. Rounding z to nearest errs by at most u·2^⌊log2 |z|⌋, by v·|z|
plus half the smallest subnormal (nothing if z is a sum below L), and, if that may become 0, by L.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from checker.arithmetic import Array, Outside, Rejected, add, mul, positive, raised
from checker.model import Node

FORMATS = {  # precision, emin, emax
    "float16": (11, -14, 15), "bfloat16": (8, -126, 127), "float32": (24, -126, 127),
    "float64": (53, -1022, 1023)}  # fmt: skip
FREE = "schema name functions evidence provenance factor_rounding block blocks lanes"
FIELDS = {  # what fields of a contract may say beside those that may say anything
    "order": "any sequential pairwise blocked blocks lanes", "fma": "always never either",
    "bias": "first last after-first-block any", "normalization": "folded reciprocal direct either",
    "subnormal_results": "gradual flush either", "subnormal_operands": "gradual flush either",
    "exact": "False"}  # fmt: skip


def read_contract(table: Mapping[str, Any], name: str) -> tuple[bool, bool]:
    """Whether results and operands may be flushed, for tensors of this format; every order, FMA
    or not, and every formula of a normalisation is covered. Raises Outside, naming a field."""
    allowed = FIELDS | {"format": f"None {name}"}
    for key in sorted({*table, *allowed} - {*FREE.split()}):
        if str(table.get(key)) not in allowed.get(key, "").split():
            raise Outside(f"contract field '{key}' is not in the checker's language")
    return table["subnormal_results"] != "gradual", table["subnormal_operands"] != "gradual"


class Rounding:
    """Rounding in one format. For each lemma a method gives |computed − meant| and the largest
    magnitudes on the way, from the inputs' ranges and sizes and the `size` of what is meant."""

    def __init__(self, name: str, flushed: tuple[bool, bool]) -> None:
        self.p, self.emin, self.emax = FORMATS[name]
        self.u, self.least = 2.0**-self.p, 2.0**self.emin
        self.v = float(np.nextafter(self.u / (1 + self.u), 1.0))
        self.tiny = max(2.0 ** (self.emin - self.p), 2.0**-1074)
        (self.results, self.operands), self.copies = flushed, any(flushed)
        self.each = self.least if self.results else self.tiny  # of a product that underflows
        self.lost = 2 * self.least if self.operands else 0.0  # by both operands

    def of(self, node: Node, lows: list[Array], highs: list[Array], size: Array) -> Array:
        """|computed − meant| per element. Raises Rejected where something may overflow."""
        rule = getattr(self, "on_" + node.lemma.replace("-", "_"))
        sizes = [np.maximum(-lo, hi) for lo, hi in zip(lows, highs, strict=True)]
        radius, reach = rule(node, lows, highs, sizes, size)
        largest = max(float(np.max(np.abs(x), initial=0)) for x in (reach, *sizes))
        if not largest < (float(2 - self.u) * 2.0**self.emax if self.p < 53 else 2.0**1023):
            raise Rejected(f"{node.title}: a number of size {largest:.6g} may overflow")
        return np.broadcast_to(radius, size.shape)

    def half(self, size: Array) -> Array:
        """Half an ulp of the largest number up to `size`: beyond 2^e, 2^e itself is a neighbour."""
        power = np.ldexp(1.0, np.maximum(np.frexp(size)[1] - 1, self.emin))
        within = np.where(power > self.least, 0.5 * self.u * power, self.u * power)
        half = np.minimum(self.u * power, np.maximum(add(size, -power), within))
        return np.where(np.isfinite(size), np.maximum(half, 2.0**-1074), np.inf)  # u·2^e may be 0

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
        each = self.v * partial + 2 * self.tiny + self.lost + self.least
        trial = np.abs((leaves + m * each) / (1.0 - self.v * m))
        for factor in (1.0 + 2.0**-20, 1.0 + 2.0**-8, 2.0):
            trial = trial * factor
            found = add(leaves, mul(m, add(self.any(add(partial, trial)), self.lost)))
            best = np.where(found <= trial, np.minimum(best, found), best)
            trial = np.where(found <= trial, found, trial)
        return best

    def on_movement(self, node: Node, lows: Any, highs: Any, sizes: Any, size: Array) -> Any:
        return 0.0, size

    def on_maximum(self, node: Node, lows: Any, highs: Any, sizes: Any, size: Array) -> Any:
        return np.max(self.read(lows[0], highs[0], self.copies)[node.index], axis=0), size

    def on_hinge(self, node: Node, lows: Any, highs: Any, sizes: Any, size: Array) -> Any:
        (lo,), (hi,), lost = lows, highs, self.read(lows[0], highs[0], self.copies)
        if node.below == 0:  # only what is above 0 is handed on
            return np.minimum(lost, np.maximum(hi, 0.0)), size
        beneath = np.maximum(-lo, 0.0)
        off = mul(node.below * self.u, beneath) if self.p < 24 else 0.0 * beneath
        error = add(off, self.any(add(mul(node.below, beneath), off)))
        return add(np.where(lo < 0, error, 0.0), mul(2.0, lost)), size

    def on_sum_of_two(self, node: Node, lows: Any, highs: Any, sizes: Any, size: Array) -> Any:
        ends = zip(node.maps, lows, highs, strict=True)
        lost = add(*(m.size(self.read(a, b, self.operands)) for m, a, b in ends))
        one, two = (m.size(x) for m, x in zip(node.maps, sizes, strict=True))
        size = add(size, lost)
        error = np.minimum(self.half(size), mul(self.v, size))  # exact below L, or flushed
        exact = (one == 0) | (two == 0) | (size < self.least)
        error = self.flushed(np.where(exact, 0.0, error), size)
        if not self.copies:  # each operand is a number of the format itself
            error = np.minimum(error, np.minimum(one, two))
        return add(error, lost), size

    def on_sum_any_order(self, node: Node, lows: Any, highs: Any, sizes: Any, size: Array) -> Any:
        (linear,), (lo,), (hi,), (x,), bias = node.maps, lows, highs, sizes, np.abs(node.bias)
        weights, partial = linear.weights, np.zeros(size.shape)
        for *ends, b in ((lo, hi, node.bias), (-hi, -lo, -node.bias)):
            side = raised(positive(linear.forward, weights, *ends), 2 * linear.terms)
            partial = np.maximum(partial, add(side, np.maximum(b, 0.0)))
        count = linear.forward((weights != 0).astype(float), (x > 0).astype(float))
        inexact = np.where(np.abs(np.frexp(weights)[0]) == 0.5, 0.0, linear.absolute)
        leaves = add(mul(self.v, linear.of(inexact, x)), mul(count, self.each))
        read = linear.of(self.read(weights, weights, self.operands), x)
        leaves = add(leaves, add(read, linear.size(self.read(lo, hi, self.operands))))
        leaves = add(leaves, add(self.read(node.bias, node.bias, self.copies), self.lost))
        error = self.summed(leaves, partial, add(linear.size(x), bias), count - 1.0 + (bias != 0))
        return error, add(partial, error)

    def on_product(self, node: Node, lows: Any, highs: Any, sizes: Any, size: Array) -> Any:
        """By a stored factor, or divided by one; a mean, perhaps by its rounded reciprocal."""
        (linear,), (factor,), (x,) = node.maps, node.stored, sizes
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

    def on_normalization(self, node: Node, lows: Any, highs: Any, sizes: Any, size: Array) -> Any:
        """Folded, with a reciprocal or direct: the scale errs by 4 units at most (epsilon, sum and
        root 2, one or two more), its products and the shift by one; underflow counts 2^40 times."""
        (linear, _), (beta, mean, base), (x, _) = node.maps, node.stored, sizes
        scale, centred = linear.absolute, add(x, np.abs(mean))
        small = np.any((scale > 0) & ((scale < 2.0**-40) | (scale > 2.0**40)))
        if self.emin > -100 or small or np.any(base > 2.0**40):
            raise Outside(f"{node.title}: in float16, or of such a scale, it is not understood")
        tiny = mul(4.0 * (self.each + self.lost), mul(add(centred, 2.0), add(scale, 2.0)))
        parts = add(mul(scale, add(mul(x, 5.0), mul(np.abs(mean), 6.0))), np.abs(beta))
        error = add(mul(parts, self.u * (1.0 + 32.0 * self.u)), mul(tiny, 2.0**40))
        error = add(error, self.any(add(size, error)))
        reach = add(add(parts, centred), add(scale, 1.0 / np.sqrt(base) + np.sqrt(base)))
        return error, mul(reach, 2.0)
