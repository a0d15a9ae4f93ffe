"""Certificates written: claims of every tensor that a nonlinear node reads, part by part.

The claims are those of a plain pass over each part of the domain, a little wider. The checker goes
through them as they are written: where it shows less than the pass did, the claim becomes what it
shows, so that a certificate that is written is one that is accepted. Bounds that were improved by
branching on phases or on slopes are not claimed: a part that needs them is halved again, if that is
possible.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np

from checker.arithmetic import Outside, Rejected
from checker.bounds import Claim, Leaf
from checker.check import SCHEMA, Goal, Row, above, owed, read_goal
from encoders.numbers.enclosure import FloatArray, Interval
from refine import __version__
from refine.bounds.network import InputBox, NetworkBounds
from refine.bounds.problem import Problem
from refine.certificate.language import NotCertified, Subject
from refine.proof.input_splitting import halved, part_of
from refine.proof.proof import Covered

_WIDER = 2.0**-30  # relative, of claims beyond what was proved
_SLACK = 2.0**-36  # relative, beyond what the checker showed
_SMALLEST = 2.0**-400
_MOST_LEAVES = 2**14

Tree: TypeAlias = list[Any] | None


@dataclass(frozen=True)
class _Leaf:
    """A part of the domain with its claims, and the row that is out of reach of each conjunction
    of an unsafe set."""

    box: InputBox
    claims: Mapping[str, Claim]
    rows: Sequence[int]


@dataclass
class Writer:
    """A certificate in the making, of this claim in the checker's form. `tick` is called often and
    may raise to stop."""

    subject: Subject
    problem: Problem
    claim: Mapping[str, Any]
    tick: Callable[[], None] = lambda: None
    leaves: list[_Leaf] = field(default_factory=list)

    def written(self, boxes: Sequence[Covered]) -> bytes:
        """The file's content. Raises NotCertified, and what `tick` raises."""
        trees = [self._divided(c.box, [p.box for p in c.parts], _plain(c)) for c in boxes]
        model = self.subject.model
        shapes = {t: self.problem.graph.types[t].shape for t in model.inputs}
        document = {
            "schema": SCHEMA,
            "model": {"sha256": self.subject.sha256, "file": self._file},
            "contract": self.subject.table,
            "inputs": [{"name": t, "shape": list(shape)} for t, shape in shapes.items()],
            "claim": self.claim,
            "boxes": trees,
            **owed(model),
            "by": {"refine": __version__},
        }
        packed, whole = io.BytesIO(), io.BytesIO()
        arrays: dict[str, Any] = dict(self._arrays([c.box for c in boxes]))
        np.savez_compressed(packed, **arrays)
        with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as zipped:
            zipped.writestr("certificate.json", json.dumps(document, indent=1))
            zipped.writestr("arrays.npz", packed.getvalue())
        return whole.getvalue()

    @cached_property
    def _goal(self) -> Goal:
        return read_goal(self.claim, self.subject.model)

    @property
    def _file(self) -> str:
        source = self.problem.graph.source
        return "" if source is None else source.name

    def _arrays(self, boxes: Sequence[InputBox]) -> dict[str, Any]:
        arrays: dict[str, Any] = {}
        for i, t in enumerate(self.subject.model.inputs):
            arrays[f"box_lo{i}"] = np.stack([_flat(box.values[t])[0] for box in boxes])
            arrays[f"box_hi{i}"] = np.stack([_flat(box.values[t])[1] for box in boxes])
        for i, t in enumerate(owed(self.subject.model)["tensors"]):
            claims = [leaf.claims[t] for leaf in self.leaves]
            for name in Claim._fields:
                arrays[f"{name}{i}"] = np.stack([getattr(c, name) for c in claims])
        rows = [leaf.rows for leaf in self.leaves]
        arrays["row"] = np.array(rows, np.int64).reshape(len(rows), len(self._goal.unsafe))
        return arrays

    def _divided(
        self, box: InputBox, parts: Sequence[InputBox], known: NetworkBounds | None
    ) -> Tree:
        """The tree of a box that these parts cover, as halving made them."""
        if len(parts) <= 1:
            return self._leaf(box, known)
        for name, index, at in _middles(box):
            below = [p for p in parts if p.values[name].hi[index] <= at]
            above = [p for p in parts if p.values[name].lo[index] >= at]
            if len(below) + len(above) == len(parts) and below and above:
                halves = zip(_halves(box, name, index, at), (below, above), strict=True)
                trees = [self._divided(half, some, None) for half, some in halves]
                return self._split(box, name, index, at, trees)
        return self._leaf(box, None)

    def _leaf(self, box: InputBox, known: NetworkBounds | None) -> Tree:
        """One part with its claims, or halves of it where these do not show what is claimed."""
        self.tick()
        bounds = self.problem.bounds(box, tick=self.tick) if known is None else known
        claims, leaf = self._settled(box, bounds)
        rows = [_out_of_reach(leaf, part) for part in self._goal.unsafe]
        try:
            with np.errstate(all="ignore"):
                self._goal.require(leaf, rows)
        except Rejected as error:
            why = error
        else:
            self.leaves.append(_Leaf(box, claims, rows))
            return None
        halves = halved(part_of(box, bounds))
        if halves is None or len(self.leaves) >= _MOST_LEAVES:
            raise NotCertified(
                f"without branching on phases and slopes, which certificates do not hold, of a "
                f"part of the domain {why}"
            )
        name, index, at = _cut(box, halves[0])
        return self._split(box, name, index, at, [self._leaf(half, None) for half in halves])

    def _split(
        self, box: InputBox, name: str, index: tuple[int, ...], at: float, trees: Sequence[Tree]
    ) -> Tree:
        shape = box.values[name].lo.shape
        element = int(np.ravel_multi_index(index, shape)) if shape else 0
        return [self.subject.model.inputs.index(name), element, at.hex(), *trees]

    def _settled(self, box: InputBox, bounds: NetworkBounds) -> tuple[Mapping[str, Claim], Leaf]:
        """Claims that the checker accepts, and what it makes of them."""
        model, below = self.subject.model, _slopes_below(self.subject)
        claims = {t: _claim(bounds, t, below[t]) for t in owed(model)["tensors"]}
        made = {t: {"lo": c.lo, "hi": c.hi, "err": c.err} for t, c in claims.items()}

        def met(tensor: str, what: str, shown: FloatArray, claimed: FloatArray) -> FloatArray:
            self.tick()
            more = shown + np.abs(shown) * _SLACK + _SMALLEST
            found = np.where(shown <= claimed, claimed, more)
            if what.startswith("the negated"):
                made[tensor]["lo"] = -found
            else:
                made[tensor]["hi" if what.startswith("the upper") else "err"] = found
            return found

        try:
            with np.errstate(all="ignore"):
                leaf = Leaf(model, self.subject.contract, claims, met)
                leaf.settle({t: _flat(box.values[t]) for t in model.inputs})
        except (Rejected, Outside) as error:
            raise NotCertified(str(error)) from error
        return {t: Claim(**made[t], slope=c.slope) for t, c in claims.items()}, leaf


def _out_of_reach(leaf: Leaf, rows: Sequence[Row]) -> int:
    """The row of a conjunction that what runs is farthest from."""
    if not rows:
        raise NotCertified("the unsafe set is reached whatever the outputs")
    with np.errstate(all="ignore"):
        low = above(leaf, rows) + np.array([float(row.at_most) for row in rows])
    return int(np.argmin(low))


def _plain(covered: Covered) -> NetworkBounds | None:
    """The bounds of the whole box, where no effort was made that certificates do not hold."""
    return covered.whole if covered.plain and len(covered.parts) == 1 else None


def _flat(x: Interval) -> tuple[FloatArray, FloatArray]:
    return np.ascontiguousarray(x.lo).reshape(-1), np.ascontiguousarray(x.hi).reshape(-1)


def _slopes_below(subject: Subject) -> Mapping[str, float]:
    """By tensor, the slope below zero of the hinge that reads it; 0 where there is none."""
    found = dict.fromkeys(owed(subject.model)["tensors"], 0.0)
    for node in subject.model.nodes:
        if node.kind == "hinge" and node.inputs[0] in found:
            found[node.inputs[0]] = max(found[node.inputs[0]], node.below)
    return found


def _claim(bounds: NetworkBounds, tensor: str, below: float) -> Claim:
    """What was proved of a tensor, a little wider. Raises NotCertified where that is not bounded,
    or where the tensor of the file is none of the graph that was bounded."""
    if tensor not in bounds.maps.values:
        raise NotCertified(f"'{tensor}' is no tensor of the graph that was bounded")
    lo, hi = _flat(bounds.maps.values[tensor])
    err = bounds.maps.errors[tensor].reshape(-1)
    if not (np.all(np.isfinite(lo)) and np.all(np.isfinite(hi)) and np.all(np.isfinite(err))):
        raise NotCertified(f"the range or the error of '{tensor}' is not bounded")
    more = np.maximum(np.abs(lo), np.abs(hi)) * _WIDER + _SMALLEST
    lo, hi = lo - more, hi + more
    slope = np.where(hi > -lo, 1.0, below)
    return Claim(lo, hi, err * (1.0 + _WIDER) + _SMALLEST, slope)


def _middles(box: InputBox) -> list[tuple[str, tuple[int, ...], float]]:
    """Where each element would be halved, as `halved` does it."""
    found = []
    for name, x in box.values.items():
        middle = 0.5 * x.lo + 0.5 * x.hi
        for index in np.ndindex(x.lo.shape):
            if x.lo[index] < middle[index] < x.hi[index]:
                found.append((name, index, float(middle[index])))
    return found


def _halves(box: InputBox, name: str, index: tuple[int, ...], at: float) -> list[InputBox]:
    x = box.values[name]
    below, above = x.hi.copy(), x.lo.copy()
    below[index], above[index] = at, at
    return [
        InputBox({**box.values, name: Interval(lo, hi)}, box.errors)
        for lo, hi in ((x.lo, below), (above, x.hi))
    ]


def _cut(box: InputBox, lower: InputBox) -> tuple[str, tuple[int, ...], float]:
    """Where a box was halved, from its lower half."""
    for name, x in box.values.items():
        moved = np.argwhere(lower.values[name].hi != x.hi)
        if len(moved):
            index = tuple(int(i) for i in moved[0])
            return name, index, float(lower.values[name].hi[index])
    raise NotCertified("a part of the domain was not halved")
