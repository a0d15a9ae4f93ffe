"""One leaf of the domain: every range and error of the network, recomputed from claimed ones.

Tensors are treated in the order of the file. Over the reals x lies in [lo, hi], at run time
x̂ = x + d with |d| ≤ err. What a certificate claims of a tensor is used for those after it, so each
claim is shown from those before: by the image of the node, or by pulling functionals ±e_i back to
the inputs through linear bounds (DeepPoly, CROWN), and e_i·d through slopes with remainders.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from checker.exact import (
    Array,
    Index,
    Linear,
    Rejected,
    Rows,
    add,
    dot_up,
    down,
    inner_up,
    joined,
    middle,
    mul,
    raised,
)
from checker.maps import chosen
from checker.model import Model, Node
from checker.rounding import Rounding

_COEFFICIENTS = 2**21  # of the functionals that are pulled back at once


@dataclass(frozen=True)
class Claim:
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


@dataclass(frozen=True)
class Bend:
    """f(x) ≤ `up`·x + `over` and f(x) ≥ `low`·x, for x chosen by `linear`; for differences, both
    slopes are one, and `rest` bounds what it leaves."""

    linear: Linear
    up: Array
    low: Array
    over: Array
    rest: Array


class Leaf:
    """The facts of one leaf as they are shown, in the order of the file. `met` hears of every
    claim what is shown of it."""

    def __init__(
        self,
        model: Model,
        contract: tuple[bool, bool],
        claims: Mapping[str, Claim],
        met: Callable[[str, str, Array, Array], Array] = demand,
    ) -> None:
        self.model, self.contract, self.claims, self.met = model, contract, claims, met
        self.lo: dict[str, Array] = {}
        self.hi: dict[str, Array] = {}
        self.err: dict[str, Array] = {}
        self.own: dict[str, Array] = {}

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
            upper = self.met(t, "the upper end", shown, claim.hi)
            shown = self._pulled(t, -lo, -claim.lo, -1.0, True)
            lower = -self.met(t, "the negated lower end", shown, -claim.lo)
            self.lo[t], self.hi[t] = np.maximum(lo, lower), np.minimum(hi, upper)
        moved = self._moved(node)
        size = add(np.maximum(-self.lo[t], self.hi[t]), moved)
        lows = [-add(-self.lo[i], self.err[i]) for i in node.inputs]
        highs = [add(self.hi[i], self.err[i]) for i in node.inputs]
        self.own[t] = Rounding(node.format, self.contract).of(node, lows, highs, size)
        self.err[t] = add(moved, self.own[t])
        if not np.all(np.isfinite(self.hi[t] - self.lo[t] + self.err[t])):
            raise Rejected(f"{node.title}: its range or error is not bounded")
        if claim is not None:
            shown = self._pulled(t, self.err[t], claim.err, 1.0, False)
            claimed = self.met(t, "the error", shown, claim.err)
            self.err[t] = np.minimum(self.err[t], claimed)

    def _pulled(
        self, t: str, known: Array, enough: Array | float, sign: float, real: bool
    ) -> Array:
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

    # --- one node forward

    def _image(self, node: Node) -> tuple[Array, Array]:
        if node.kind == "maximum":
            t = node.inputs[0]
            return np.max(self.lo[t][node.index], axis=0), np.max(self.hi[t][node.index], axis=0)
        if node.kind == "hinge":
            lo, hi, b = self.lo[node.inputs[0]], self.hi[node.inputs[0]], node.below
            return np.where(lo < 0, -mul(-lo, b), lo), np.where(hi < 0, -down(-hi, b), hi)
        lo, hi = -add(-node.bias, node.unsure), add(node.bias, node.unsure)
        lo, hi = (np.where(node.unsure == 0, node.bias, end) for end in (lo, hi))
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
        if node.kind == "maximum":
            return self._follow(node)[2]
        if node.kind == "hinge":
            bend, error = self._bend(node, False), self.err[node.inputs[0]]
            return add(mul(bend.up, error), bend.rest)
        total = np.zeros(node.bias.shape)
        for t, linear in zip(node.inputs, node.maps, strict=True):
            total = add(total, linear.size(self.err[t]))
        return total

    # --- backward

    def _pull(self, target: str, rows: Rows, real: bool) -> Array:
        """Upper bounds of functionals of a tensor's real values, or of its differences."""
        total, pending = np.zeros(len(rows.c)), {target: rows}
        for node in reversed(self.model.nodes):
            if node.output in pending:
                total = add(total, self._step(node, pending.pop(node.output), pending, real))
        for t, came in pending.items():
            if real:
                mid, radius = middle(self.lo[t], self.hi[t])
                total = add(total, add(inner_up(came, mid), dot_up(came.c, radius)))
            else:
                total = add(total, dot_up(came.c, self.err[t]))
        return np.where(np.isnan(total), np.inf, total)

    def _step(self, node: Node, came: Rows, pending: dict[str, Rows], real: bool) -> Array:
        """Functionals of a node's output become some of its inputs, which are left in `pending`,
        and this constant."""
        total = dot_up(came.c, node.unsure if real else self.own[node.output])
        total = add(total, inner_up(came, node.bias)) if real else total
        maps = node.maps
        if node.kind != "affine":
            bend, (t,) = self._bend(node, real), node.inputs
            size, maps = self._size(t, real), (bend.linear,)
            total = add(total, dot_up(came.c, bend.rest))
            total = add(total, inner_up(Rows(np.maximum(came.c, 0.0), came.grid), bend.over))
            slope = np.where(came.c > 0, bend.up, bend.low)
            c = np.rint(came.c * slope / came.grid) * came.grid
            off = (bend.linear.forward(bend.linear.weights, size[None])[0])[
                np.any((slope != 0) & (slope != 1), axis=0)
            ]
            total = add(total, mul(came.grid[:, 0], raised(np.sum(off), off.size)))
            came = Rows(c, came.grid)
        for t, linear in zip(node.inputs, maps, strict=True):
            size = self._size(t, real)
            sent, cost = linear.back(came, size)
            total = add(total, cost)
            if t in pending:
                sent, loss = joined([pending[t].c, sent.c])
                total = add(total, mul(loss[:, 0], raised(np.sum(size), size.size)))
            pending[t] = sent
        return total

    def _size(self, t: str, real: bool) -> Array:
        return np.maximum(-self.lo[t], self.hi[t]) if real else self.err[t]

    # --- hinges and maxima

    def _bend(self, node: Node, real: bool) -> Bend:
        if node.kind == "maximum":
            return self._chord(node) if real else self._followed(node)
        return self._lines(node) if real else self._secant(node)

    def _lines(self, node: Node) -> Bend:
        """The chord above, and below any slope between b and 1, which the certificate chooses."""
        t, b = node.inputs[0], node.below
        lo, hi, claim = self.lo[t], self.hi[t], self.claims.get(t)
        bent, stable = (lo < 0) & (hi > 0), np.where(lo >= 0, 1.0, b)
        steep = b + (1.0 - b) * np.clip(np.where(bent, hi / np.where(bent, hi - lo, 1.0), 0), 0, 1)
        over = np.maximum(add(mul(steep, -lo), -down(-lo, b)), add(hi, -down(hi, steep)))
        low = np.where(hi > -lo, 1.0, b) if claim is None else claim.slope
        if not np.all((low >= b) & (low <= 1.0)):
            raise Rejected(f"{node.title}: a slope claimed for '{t}' is not between {b} and 1")
        over, none = np.where(bent, np.maximum(over, 0.0), 0.0), np.zeros(lo.shape)
        up, low = np.where(bent, steep, stable), np.where(bent, low, stable)
        return Bend(node.maps[0], up, low, over, none)

    def _secant(self, node: Node) -> Bend:
        """f(x̂) − f(x) = slope·d + r with |r| ≤ rest: 1, b, or between, whichever is best.

        With f = b·x + (1 − b)·max(x, 0), what is left of slope 1 is (1 − b) times the change of
        max(−x, 0), of slope b that of max(x, 0), of (1 + b)/2 that of |x|/2.
        """
        t, b = node.inputs[0], node.below
        error, none = self.err[t], np.zeros(self.err[t].shape)
        above = np.minimum(error, np.maximum(add(-self.lo[t], error), 0.0))
        beneath = np.minimum(error, np.maximum(add(self.hi[t], error), 0.0))
        best = np.minimum(above, beneath)
        half = best > 0.5 * error
        slope = np.where(half, 0.5 + 0.5 * b, np.where(above <= beneath, 1.0, b))
        rest = mul(np.where(half, 0.5 * error, best), 1.0 if b == 0 else add(1.0, -b))
        rest = rest if b == 0 else add(rest, np.where(half, mul(error, 2.0**-52), 0.0))
        return Bend(node.maps[0], slope, slope, none, rest)

    def _leader(self, node: Node, error: Array) -> tuple[Index, Array, Array]:
        """Of every window the element whose lower end is highest, that end, and the highest upper
        end of the others."""
        t, index = node.inputs[0], node.index
        lows, highs = -add(-self.lo[t], error)[index], add(self.hi[t], error)[index]
        place = np.take_along_axis(index, np.argmax(lows, axis=0)[None], axis=0)[0]
        rival = np.max(np.where(index == place, -np.inf, highs), axis=0)
        return place, np.max(lows, axis=0), rival

    def _chord(self, node: Node) -> Bend:
        """max ≥ leader, and max ≤ slope·leader + over, exact at both ends of the leader."""
        t, none = node.inputs[0], np.zeros(node.index.shape[1])
        place, _, rival = self._leader(node, np.zeros(1))
        low, high = self.lo[t][place], self.hi[t][place]
        alone = rival <= low
        slope = np.where(high > rival, (high - rival) / np.where(high > low, high - low, 1.0), 0.0)
        slope = np.where(alone, 1.0, np.clip(slope, 0.0, 1.0))
        over = [
            add(np.maximum(x, rival), np.where(x > 0, -down(np.abs(x), slope), mul(-x, slope)))
            for x in (low, high)
        ]
        linear = chosen(place[None], self.model.sizes[t], np.ones(()))
        return Bend(linear, slope, none + 1.0, np.where(alone, 0.0, np.maximum(*over)), none)

    def _follow(self, node: Node) -> tuple[Index, Array, Array]:
        """The leader, how far a rival may rise above it, and the largest difference in question."""
        error = self.err[node.inputs[0]]
        place, low, rival = self._leader(node, error)
        possible = add(self.hi[node.inputs[0]], error)[node.index] >= low
        radius = np.max(np.where(possible, error[node.index], 0.0), axis=0)
        return place, np.maximum(add(rival, -low), 0.0), radius

    def _followed(self, node: Node) -> Bend:
        """The leader's difference where no rival can rise far above it, else the largest."""
        place, gap, radius = self._follow(node)
        kept = ((gap < radius) | (gap == 0)).astype(np.float64)
        linear = chosen(place[None], self.model.sizes[node.inputs[0]], np.ones(()))
        rest = np.where(kept > 0, gap, radius)
        return Bend(linear, kept, kept, np.zeros(rest.shape), rest)
