"""One leaf: ranges lo ≤ x ≤ hi and errors |x̂ − x| ≤ err recomputed; README.md says how."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from checker.arithmetic import Array, Linear, Rejected, add, chosen, last_bits, mul, upper
from checker.model import Model, Node
from checker.rounding import Rounding

Lines = tuple[tuple[Linear, ...], Array, Array, Array, Array]
"""(maps, low, up, least, most): an output, or how it differs at run time, is between low·x + least
and up·x + most, x being what the maps make of the inputs, or of how these differ."""


class Claim(NamedTuple):
    """What a certificate says of one tensor in one leaf; `slope` are lower slopes of a hinge."""

    lo: Array
    hi: Array
    err: Array
    slope: Array


def demand(tensor: str, what: str, shown: Array, claimed: Array) -> Array:
    """Raises Rejected unless everything shown is at most what is claimed; gives the claim."""
    if np.any(bad := ~(shown <= claimed)):
        at = int(np.argmax(bad))
        numbers = f"at most {claimed[at]:.9g}, and {shown[at]:.9g} is shown"
        raise Rejected(f"{what} of '{tensor}', element {at}, is claimed to be {numbers}")
    return claimed


@dataclass
class Leaf:
    """What is shown of one leaf, in the order of the file; `met` hears of every claim."""

    model: Model
    contract: tuple[bool, bool]
    claims: Mapping[str, Claim]
    met: Callable[[str, str, Array, Array], Array] = demand
    lo: dict[str, Array] = field(default_factory=dict)
    hi: dict[str, Array] = field(default_factory=dict)
    err: dict[str, Array] = field(default_factory=dict)
    own: dict[str, Array] = field(default_factory=dict)

    def settle(self, box: Mapping[str, tuple[Array, Array]]) -> None:
        """Check every claim."""
        for name, (lo, hi) in box.items():
            self.lo[name], self.hi[name], self.err[name] = lo, hi, np.zeros(lo.shape)
        for node in self.model.nodes:
            self._node(node)

    def _node(self, node: Node) -> None:
        t, claim = node.output, self.claims.get(node.output)
        self.lo[t], self.hi[t] = lo, hi = self._image(node)
        self.own[t] = np.zeros(lo.shape)

        def shown(what: str, known: Array, claimed: Array, sign: float, real: bool = True) -> Array:
            found = self.pulled(t, known, claimed, sign, real)
            return np.minimum(known, self.met(t, what, found, claimed))

        if claim is not None:
            demand(t, "|slope - 1/2|", np.abs(claim.slope - 0.5), np.full(lo.shape, 0.5))
            self.hi[t] = shown("the upper end", hi, claim.hi, 1.0)
            self.lo[t] = -shown("the negated lower end", -lo, -claim.lo, -1.0)
        maps, _, up, _, moved = getattr(self, node.kind)(node, False)
        for i, linear in zip(node.inputs, maps, strict=True):  # |f(x̂) − f(x)|, without rounding
            moved = add(moved, mul(up, linear.size(self.err[i])))
        size = add(np.maximum(-self.lo[t], self.hi[t]), moved)
        lows = [-add(-self.lo[i], self.err[i]) for i in node.inputs]
        highs = [add(self.hi[i], self.err[i]) for i in node.inputs]
        self.own[t] = Rounding(self.model.format, self.contract).of(node, lows, highs, size)
        self.err[t] = add(moved, self.own[t])
        if not np.all(np.isfinite(self.hi[t] - self.lo[t] + self.err[t])):
            raise Rejected(f"{node.title}: its range or error is not bounded")
        if claim is not None:
            self.err[t] = shown("the error", self.err[t], claim.err, 1.0, False)

    def _ends(self, t: str, real: bool) -> tuple[Array, Array]:
        return (self.lo[t], self.hi[t]) if real else (-self.err[t], self.err[t])

    def _image(self, node: Node) -> tuple[Array, Array]:
        if node.kind == "affine":
            lo, hi = -node.bias, node.bias
            for t, linear in zip(node.inputs, node.maps, strict=True):
                lo = add(lo, linear.over(-self.hi[t], -self.lo[t]))
                hi = add(hi, linear.over(self.lo[t], self.hi[t]))
            return -lo, hi
        lo, hi, b = self.lo[node.inputs[0]], self.hi[node.inputs[0]], node.below
        if node.kind == "maximum":
            return np.max(lo[node.index], axis=0), np.max(hi[node.index], axis=0)
        return np.where(lo < 0, -mul(-lo, b), lo), np.where(hi < 0, mul(hi, b), hi)

    def pulled(self, t: str, known: Array, enough: Array | float, sign: float, real: bool) -> Array:
        """What is known of sign·x, or of |d|, or where that is not enough pulling back shows."""
        rows, shown, n = np.flatnonzero(~(known <= enough)), known.copy(), known.size
        most = max(2**21 // max(self.model.sizes.values()), 1)  # functionals at once
        for part in (rows[i : i + most] for i in range(0, len(rows), most)):
            c = np.zeros((len(part), n))
            c[np.arange(len(part)), part] = sign
            shown[part] = np.minimum(shown[part], self.pull({t: c}, real))
        return shown

    def pull(self, pending: dict[str, Array], real: bool) -> Array:
        """Upper bounds of functionals of tensors' real values, or of their differences."""
        total = np.zeros(1)
        for node in reversed(self.model.nodes):
            if node.output in pending:
                total = add(total, self._step(node, pending.pop(node.output), pending, real))
        for t, came in pending.items():
            total = add(total, upper(came, *self._ends(t, real)))
        return np.where(np.isnan(total), np.inf, total)

    def _step(self, node: Node, came: Array, pending: dict[str, Array], real: bool) -> Array:
        """Functionals of a node's output become some of its inputs, `pending`, and a constant."""
        maps, low, up, least, most = getattr(self, node.kind)(node, real)
        total, came = upper(came, least, most), came * np.where(came > 0, up, low)
        for t, linear in zip(node.inputs, maps, strict=True):
            size = np.maximum(*np.abs(self._ends(t, real)))
            sent, cost = linear.back(came, size)
            pending[t] = pending.get(t, 0.0) + sent
            total = add(total, add(cost, last_bits(np.abs(sent) + np.abs(pending[t]), size)))
        return total

    def affine(self, node: Node, real: bool) -> Lines:
        one, own = np.ones(node.bias.shape), self.own[node.output]
        return node.maps, one, one, *((node.bias, node.bias) if real else (-own, own))

    def hinge(self, node: Node, real: bool) -> Lines:
        """The chord above, and below any slope between b and 1, which the certificate chooses. Of
        differences a slope 1, b or between: f = b·x + (1 − b)·max(x, 0) leaves (1 − b) times the
        change of max(−x, 0) beside slope 1, of max(x, 0) beside b, of |x|/2 beside (1 + b)/2."""
        t, b = node.inputs[0], node.below
        lo, hi, error, claim = self.lo[t], self.hi[t], self.err[t], self.claims.get(t)
        if not real:
            above = np.minimum(error, np.maximum(add(-lo, error), 0.0))
            beneath = np.minimum(error, np.maximum(add(hi, error), 0.0))
            half = np.minimum(above, beneath) > 0.5 * error
            slope = np.where(half, 0.5 + 0.5 * b, np.where(above <= beneath, 1.0, b))
            rest = np.where(half, 0.5 * error, np.minimum(above, beneath))
            rest = rest if b == 0 else add(mul(rest, add(1.0, -b)), mul(error, 2.0**-52))
            rest = add(rest, self.own[node.output])
            return node.maps, slope, slope, -rest, rest
        bent, stable, none = (lo < 0) & (hi > 0), np.where(lo >= 0, 1.0, b), np.zeros(lo.shape)
        steep = b + (1.0 - b) * np.clip(np.where(bent, hi / np.where(bent, hi - lo, 1.0), 0), 0, 1)
        over = np.maximum(add(mul(steep, -lo), mul(lo, b)), add(hi, mul(-hi, steep)))
        low = np.where(hi > -lo, 1.0, b) if claim is None else claim.slope
        if not np.all((low >= b) & (low <= 1.0)):
            raise Rejected(f"{node.title}: a slope claimed for '{t}' is not between {b} and 1")
        up, low = np.where(bent, steep, stable), np.where(bent, low, stable)
        return node.maps, low, up, none, np.where(bent, np.maximum(over, 0.0), 0.0)

    def maximum(self, node: Node, real: bool) -> Lines:
        """The element whose lower end is highest, where no other can rise above it. Else at least
        that one and at most the highest end; of differences, the largest of any in question."""
        t, index = node.inputs[0], node.index
        error = np.zeros(self.err[t].shape) if real else self.err[t]
        lows, highs = (-add(-self.lo[t], error))[index], add(self.hi[t], error)[index]
        place = np.take_along_axis(index, np.argmax(lows, axis=0)[None], axis=0)[0]
        low, rival = np.max(lows, axis=0), np.max(np.where(index == place, -np.inf, highs), axis=0)
        linear, alone = chosen(place, self.model.sizes[t]), (rival <= low).astype(float)
        if real:
            most = np.where(alone, 0.0, np.max(highs, axis=0))
            return (linear,), np.ones(low.shape), alone, np.zeros(low.shape), most
        rest = np.where(alone, 0.0, np.max(np.where(highs >= low, error[index], 0.0), axis=0))
        rest = add(rest, self.own[node.output])
        return (linear,), alone, alone, -rest, rest
