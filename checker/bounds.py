"""One leaf of the domain: every range and error of the network, recomputed from claimed ones.

Over the reals x lies in [lo, hi], at run time x̂ = x + d with |d| ≤ err. Each claim is shown from
those of tensors before it: by the image of the node, or by pulling functionals ±e_i back to the
inputs through linear bounds (DeepPoly, CROWN), and e_i·d through slopes with remainders.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from checker.arithmetic import Array, Linear, Rejected, add, chosen, last_bits, mul, upper
from checker.model import Model, Node
from checker.rounding import Rounding

_COEFFICIENTS = 2**21  # of the functionals that are pulled back at once


class Claim(NamedTuple):
    """What a certificate says of one tensor in one leaf; `slope` are lower slopes of a hinge."""

    lo: Array
    hi: Array
    err: Array
    slope: Array


class Lines(NamedTuple):
    """A node's output, or how it differs at run time: between low·x + least and up·x + most, x what
    the maps make of the inputs, or of how these differ."""

    maps: tuple[Linear, ...]
    low: Array
    up: Array
    least: Array
    most: Array


def down(x: Array, factor: Array | float) -> Array:
    """A lower bound of x·factor, neither negative."""
    return np.maximum(np.nextafter(np.multiply(x, factor), -np.inf), 0.0)


def demand(tensor: str, what: str, shown: Array, claimed: Array) -> Array:
    """Raises Rejected unless everything shown is at most what is claimed; gives the claim."""
    if np.any(bad := ~(shown <= claimed)):
        at = int(np.argmax(bad))
        numbers = f"at most {claimed[at]:.9g}, and {shown[at]:.9g} is shown"
        raise Rejected(f"{what} of '{tensor}', element {at}, is claimed to be {numbers}")
    return claimed


@dataclass
class Leaf:
    """The facts of one leaf as they are shown, in the order of the file. `met` hears of every
    claim what is shown of it."""

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
        if claim is not None and np.any(np.abs(claim.slope - 0.5) > 0.5):
            raise Rejected(f"a slope claimed for '{t}' is not between 0 and 1")
        if claim is not None:
            shown = self.pulled(t, hi, claim.hi, 1.0, True)
            self.hi[t] = np.minimum(hi, self.met(t, "the upper end", shown, claim.hi))
            shown = self.pulled(t, -lo, -claim.lo, -1.0, True)
            self.lo[t] = -np.minimum(-lo, self.met(t, "the negated lower end", shown, -claim.lo))
        lines = self.lines(node, False)
        moved = lines.most  # |f(x̂) − f(x)|, rounding left out
        for i, linear in zip(node.inputs, lines.maps, strict=True):
            moved = add(moved, mul(lines.up, linear.size(self.err[i])))
        size = add(self._size(t, True), moved)
        lows = [-add(-self.lo[i], self.err[i]) for i in node.inputs]
        highs = [add(self.hi[i], self.err[i]) for i in node.inputs]
        self.own[t] = Rounding(self.model.format, self.contract).of(node, lows, highs, size)
        self.err[t] = add(moved, self.own[t])
        if not np.all(np.isfinite(self.hi[t] - self.lo[t] + self.err[t])):
            raise Rejected(f"{node.title}: its range or error is not bounded")
        if claim is not None:
            shown = self.pulled(t, self.err[t], claim.err, 1.0, False)
            self.err[t] = np.minimum(self.err[t], self.met(t, "the error", shown, claim.err))

    def _ends(self, t: str, real: bool) -> tuple[Array, Array]:
        """Of real values, or of differences."""
        return (self.lo[t], self.hi[t]) if real else (-self.err[t], self.err[t])

    def _size(self, t: str, real: bool) -> Array:
        return np.maximum(-self.lo[t], self.hi[t]) if real else self.err[t]

    def _image(self, node: Node) -> tuple[Array, Array]:
        if node.kind == "affine":
            lo, hi = add(-node.bias, node.unsure), add(node.bias, node.unsure)
            for t, linear in zip(node.inputs, node.maps, strict=True):
                lo = add(lo, linear.over(-self.hi[t], -self.lo[t]))
                hi = add(hi, linear.over(self.lo[t], self.hi[t]))
            return -lo, hi
        lo, hi, b = self.lo[node.inputs[0]], self.hi[node.inputs[0]], node.below
        if node.kind == "maximum":
            return np.max(lo[node.index], axis=0), np.max(hi[node.index], axis=0)
        return np.where(lo < 0, -mul(-lo, b), lo), np.where(hi < 0, -down(-hi, b), hi)

    def lines(self, node: Node, real: bool) -> Lines:
        lines: Lines = getattr(self, f"_{node.kind}")(node, real)
        return lines

    def pulled(self, t: str, known: Array, enough: Array | float, sign: float, real: bool) -> Array:
        """What is known of sign·x, or of |d|, and where that is not enough what pulling it back
        shows, if that is less."""
        rows, shown, n = np.flatnonzero(~(known <= enough)), known.copy(), known.size
        most = max(_COEFFICIENTS // max(self.model.sizes.values()), 1)
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
        """Functionals of a node's output become some of its inputs, which are left in `pending`,
        and this constant."""
        maps, low, up, least, most = self.lines(node, real)
        total = upper(came, least, most)
        if node.kind != "affine":
            size = maps[0].size(self._size(node.inputs[0], real))
            came = came * np.where(came > 0, up, low)
            total = add(total, last_bits(came, size))
        for t, linear in zip(node.inputs, maps, strict=True):
            size = self._size(t, real)
            sent, cost = linear.back(came, size)
            total = add(total, cost)
            if t in pending:
                sent = pending[t] + sent
                total = add(total, last_bits(sent, size))
            pending[t] = sent
        return total

    def _affine(self, node: Node, real: bool) -> Lines:
        one, own = np.ones(node.bias.shape), self.own[node.output]
        ends = (-add(-node.bias, node.unsure), add(node.bias, node.unsure))
        return Lines(node.maps, one, one, *(ends if real else (-own, own)))

    def _hinge(self, node: Node, real: bool) -> Lines:
        """The chord above, and below any slope between b and 1, which the certificate chooses.

        f(x̂) − f(x) = slope·d + r with |r| ≤ rest: 1, b, or between, whichever is best. With
        f = b·x + (1 − b)·max(x, 0), what is left of slope 1 is (1 − b) times the change of
        max(−x, 0), of slope b that of max(x, 0), of (1 + b)/2 that of |x|/2.
        """
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
            return Lines(node.maps, slope, slope, -rest, rest)
        bent, stable, none = (lo < 0) & (hi > 0), np.where(lo >= 0, 1.0, b), np.zeros(lo.shape)
        steep = b + (1.0 - b) * np.clip(np.where(bent, hi / np.where(bent, hi - lo, 1.0), 0), 0, 1)
        over = np.maximum(add(mul(steep, -lo), -down(-lo, b)), add(hi, -down(hi, steep)))
        low = np.where(hi > -lo, 1.0, b) if claim is None else claim.slope
        if not np.all((low >= b) & (low <= 1.0)):
            raise Rejected(f"{node.title}: a slope claimed for '{t}' is not between {b} and 1")
        up, low = np.where(bent, steep, stable), np.where(bent, low, stable)
        return Lines(node.maps, low, up, none, np.where(bent, np.maximum(over, 0.0), 0.0))

    def _maximum(self, node: Node, real: bool) -> Lines:
        """The element whose lower end is highest, where no other can rise above it. Where one can,
        at least that element and at most the highest end; of differences, the largest of those of
        elements that can be the maximum."""
        t, index = node.inputs[0], node.index
        error = np.zeros(self.err[t].shape) if real else self.err[t]
        lows, highs = (-add(-self.lo[t], error))[index], add(self.hi[t], error)[index]
        place = np.take_along_axis(index, np.argmax(lows, axis=0)[None], axis=0)[0]
        low, rival = np.max(lows, axis=0), np.max(np.where(index == place, -np.inf, highs), axis=0)
        linear, alone = chosen(place, self.model.sizes[t], 1.0), (rival <= low).astype(float)
        if real:
            most = np.where(alone, 0.0, np.max(highs, axis=0))
            return Lines((linear,), np.ones(low.shape), alone, np.zeros(low.shape), most)
        rest = np.where(alone, 0.0, np.max(np.where(highs >= low, error[index], 0.0), axis=0))
        rest = add(rest, self.own[node.output])
        return Lines((linear,), alone, alone, -rest, rest)
