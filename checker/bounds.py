"""One leaf of the domain: every range and error of the network, recomputed from claimed ones.

Over the reals x lies in [lo, hi], at run time x̂ = x + d with |d| ≤ err. Each claim is shown from
those of tensors before it: by the image of the node, or by pulling functionals ±e_i back to the
inputs through linear bounds (DeepPoly, CROWN), and e_i·d through slopes with remainders.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from checker.exact import Array, Rejected, Rows, add, dot_up, inner_up, joined, middle, mul, sum_up
from checker.maps import chosen
from checker.model import Model, Node
from checker.rounding import Rounding

_COEFFICIENTS = 2**21  # of the functionals that are pulled back at once
_Bend = tuple[Any, Array, Array, Array, Array]
"""(map, up, low, over, rest): f ≤ up·x + over and f ≥ low·x, x chosen by the map; of differences
both slopes are one, and rest bounds what it leaves."""


class Claim(NamedTuple):
    """What a certificate says of one tensor in one leaf; `slope` are lower slopes of a hinge."""

    lo: Array
    hi: Array
    err: Array
    slope: Array


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

    def settle(self, box: Mapping[str, tuple[Array, Array]]) -> dict[str, Array]:
        """Check every claim; upper bounds of |d| of every output element."""
        for name, (lo, hi) in box.items():
            self.lo[name], self.hi[name], self.err[name] = lo, hi, np.zeros(lo.shape)
        for node in self.model.nodes:
            self._node(node)
        return {t: self._pulled(t, self.err[t], -np.inf, 1.0, False) for t in self.model.outputs}

    def _node(self, node: Node) -> None:
        t, claim = node.output, self.claims.get(node.output)
        self.lo[t], self.hi[t] = lo, hi = self._image(node)
        if claim is not None:
            shown = self._pulled(t, hi, claim.hi, 1.0, True)
            self.hi[t] = np.minimum(hi, self.met(t, "the upper end", shown, claim.hi))
            shown = self._pulled(t, -lo, -claim.lo, -1.0, True)
            self.lo[t] = -np.minimum(-lo, self.met(t, "the negated lower end", shown, -claim.lo))
        moved = self._moved(node)
        size = add(self._size(t, True), moved)
        lows = [-add(-self.lo[i], self.err[i]) for i in node.inputs]
        highs = [add(self.hi[i], self.err[i]) for i in node.inputs]
        self.own[t] = Rounding(self.model.format, self.contract).of(node, lows, highs, size)
        self.err[t] = add(moved, self.own[t])
        if not np.all(np.isfinite(self.hi[t] - self.lo[t] + self.err[t])):
            raise Rejected(f"{node.title}: its range or error is not bounded")
        if claim is not None:
            shown = self._pulled(t, self.err[t], claim.err, 1.0, False)
            self.err[t] = np.minimum(self.err[t], self.met(t, "the error", shown, claim.err))

    def _size(self, t: str, real: bool) -> Array:
        return np.maximum(-self.lo[t], self.hi[t]) if real else self.err[t]

    def _image(self, node: Node) -> tuple[Array, Array]:
        if node.kind != "affine":
            lo, hi, b = self.lo[node.inputs[0]], self.hi[node.inputs[0]], node.below
            if node.kind == "maximum":
                return np.max(lo[node.index], axis=0), np.max(hi[node.index], axis=0)
            return np.where(lo < 0, -mul(-lo, b), lo), np.where(hi < 0, -down(-hi, b), hi)
        ends = [-add(-node.bias, node.unsure), add(node.bias, node.unsure)]
        lo, hi = (np.where(node.unsure == 0, node.bias, end) for end in ends)
        for t, linear in zip(node.inputs, node.maps, strict=True):
            if linear.moves:
                ends = [
                    linear.forward(linear.weights, x[None])[0] for x in (self.lo[t], self.hi[t])
                ]
                low, high = np.minimum(*ends), np.maximum(*ends)
            else:
                mid, radius = middle(self.lo[t], self.hi[t])
                centre, off = linear.at(mid)
                around = add(off, linear.size(radius))
                low, high = -add(-centre, around), add(centre, around)
            lo = np.where(lo == 0, low, -add(-lo, -low))
            hi = np.where(hi == 0, high, add(hi, high))
        return lo, hi

    def _moved(self, node: Node) -> Array:
        """|f(x̂) − f(x)|, rounding left out."""
        if node.kind != "affine":
            bend = self._bend(node, False)
            return add(mul(bend[1], bend[0].size(self.err[node.inputs[0]])), bend[4])
        total = np.zeros(node.bias.shape)
        for t, linear in zip(node.inputs, node.maps, strict=True):
            total = add(total, linear.size(self.err[t]))
        return total

    # --- backward

    def _pulled(self, t: str, known: Array, enough: Any, sign: float, real: bool) -> Array:
        """What is known of sign·x, or of |d|, and where that is not enough what pulling it back
        shows, if that is less."""
        rows, shown, n = np.flatnonzero(~(known <= enough)), known.copy(), known.size
        most = max(_COEFFICIENTS // max(self.model.sizes.values()), 1)
        for part in (rows[i : i + most] for i in range(0, len(rows), most)):
            c = np.zeros((len(part), n))
            c[np.arange(len(part)), part] = sign
            units = Rows(c, np.full((len(part), 1), 2.0**-40))
            shown[part] = np.minimum(shown[part], self._pull(t, units, real))
        return shown

    def _pull(self, target: str, rows: Rows, real: bool) -> Array:
        """Upper bounds of functionals of a tensor's real values, or of its differences."""
        total, pending = np.zeros(len(rows.c)), {target: rows}
        for node in reversed(self.model.nodes):
            if node.output in pending:
                total = add(total, self._step(node, pending.pop(node.output), pending, real))
        for t, came in pending.items():
            mid, radius = middle(self.lo[t], self.hi[t])
            total = add(total, inner_up(came, mid)) if real else total
            total = add(total, dot_up(came.c, radius if real else self.err[t]))
        return np.where(np.isnan(total), np.inf, total)

    def _step(self, node: Node, came: Rows, pending: dict[str, Rows], real: bool) -> Array:
        """Functionals of a node's output become some of its inputs, which are left in `pending`,
        and this constant."""
        total, maps = dot_up(came.c, node.unsure if real else self.own[node.output]), node.maps
        total = add(total, inner_up(came, node.bias)) if real else total
        if node.kind != "affine":
            linear, up, low, over, rest = self._bend(node, real)
            total, maps = add(total, dot_up(came.c, rest)), (linear,)
            total = add(total, inner_up(Rows(np.maximum(came.c, 0.0), came.grid), over))
            slope = np.where(came.c > 0, up, low)
            bent = np.any((slope != 0) & (slope != 1), axis=0)
            off = linear.forward(linear.weights, self._size(node.inputs[0], real)[None])[0][bent]
            total = add(total, mul(came.grid[:, 0], sum_up(off)))
            came = Rows(np.rint(came.c * slope / came.grid) * came.grid, came.grid)
        for t, linear in zip(node.inputs, maps, strict=True):
            size = self._size(t, real)
            sent, cost = linear.back(came, size)
            total = add(total, cost)
            if t in pending:
                sent, loss = joined([pending[t].c, sent.c])
                total = add(total, mul(loss[:, 0], sum_up(size)))
            pending[t] = sent
        return total

    # --- hinges and maxima

    def _bend(self, node: Node, real: bool) -> _Bend:
        if node.kind == "maximum":
            return self._maximum(node, real)
        return self._lines(node) if real else self._secant(node)

    def _lines(self, node: Node) -> _Bend:
        """The chord above, and below any slope between b and 1, which the certificate chooses."""
        t, b = node.inputs[0], node.below
        lo, hi, claim = self.lo[t], self.hi[t], self.claims.get(t)
        bent, stable, none = (lo < 0) & (hi > 0), np.where(lo >= 0, 1.0, b), np.zeros(lo.shape)
        steep = b + (1.0 - b) * np.clip(np.where(bent, hi / np.where(bent, hi - lo, 1.0), 0), 0, 1)
        over = np.maximum(add(mul(steep, -lo), -down(-lo, b)), add(hi, -down(hi, steep)))
        low = np.where(hi > -lo, 1.0, b) if claim is None else claim.slope
        if not np.all((low >= b) & (low <= 1.0)):
            raise Rejected(f"{node.title}: a slope claimed for '{t}' is not between {b} and 1")
        up, low = np.where(bent, steep, stable), np.where(bent, low, stable)
        return node.maps[0], up, low, np.where(bent, np.maximum(over, 0.0), 0.0), none

    def _secant(self, node: Node) -> _Bend:
        """f(x̂) − f(x) = slope·d + r with |r| ≤ rest: 1, b, or between, whichever is best.

        With f = b·x + (1 − b)·max(x, 0), what is left of slope 1 is (1 − b) times the change of
        max(−x, 0), of slope b that of max(x, 0), of (1 + b)/2 that of |x|/2.
        """
        t, b = node.inputs[0], node.below
        error, none = self.err[t], np.zeros(self.err[t].shape)
        above = np.minimum(error, np.maximum(add(-self.lo[t], error), 0.0))
        beneath = np.minimum(error, np.maximum(add(self.hi[t], error), 0.0))
        half = np.minimum(above, beneath) > 0.5 * error
        slope = np.where(half, 0.5 + 0.5 * b, np.where(above <= beneath, 1.0, b))
        rest = np.where(half, 0.5 * error, np.minimum(above, beneath))
        rest = rest if b == 0 else add(mul(rest, add(1.0, -b)), mul(error, 2.0**-52))
        return node.maps[0], slope, slope, none, rest

    def _maximum(self, node: Node, real: bool) -> _Bend:
        """The element whose lower end is highest, where no other can rise above it. Where one can,
        at least that element and at most the highest end or, of differences, that element's up to
        how far another may rise above it, or the largest in question, whichever is less."""
        t, index = node.inputs[0], node.index
        error = np.zeros(self.err[t].shape) if real else self.err[t]
        lows, highs = (-add(-self.lo[t], error))[index], add(self.hi[t], error)[index]
        place = np.take_along_axis(index, np.argmax(lows, axis=0)[None], axis=0)[0]
        low, rival = np.max(lows, axis=0), np.max(np.where(index == place, -np.inf, highs), axis=0)
        gap, none = np.maximum(add(rival, -low), 0.0), np.zeros(low.shape)
        linear = chosen(place[None], self.model.sizes[t], np.ones(()))
        if real:
            alone = (rival <= low).astype(np.float64)
            over = np.where(alone > 0, 0.0, np.maximum(self.hi[t][place], rival))
            return linear, alone, none + 1.0, over, none
        radius = np.max(np.where(highs >= low, error[index], 0.0), axis=0)
        kept = ((gap < radius) | (gap == 0)).astype(np.float64)
        return linear, kept, kept, none, np.where(kept > 0, gap, radius)
