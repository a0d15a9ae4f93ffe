"""RNN, GRU and LSTM of one direction, step by step, every sum before an activation being one.

Each part is a node: where a contract accumulates in a wider format, each rounds its result.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from machine import Machine, Place, accumulated
from reading import Array, Meaning, Reading


class Parts:
    """An algebra whose operations are nodes."""

    def __init__(self, algebra: Any) -> None:
        self._own = algebra
        self._wide = accumulated(algebra) if isinstance(algebra, Machine) else None

    def multiply(self, x: Array, y: Array) -> Array:
        return self._node(lambda a, *v: a.multiply(*v), x, y)

    def add(self, x: Array, y: Array) -> Array:
        return self._node(lambda a, *v: a.add(*v), x, y)

    def subtract(self, x: Array, y: Array) -> Array:
        return self._node(lambda a, *v: a.subtract(*v), x, y)

    def function(self, name: str, x: Array) -> Array:
        return self._node(lambda a, v: a.function(name, v), x)

    def products(self, x: Array, w: Array, bias: Array | None) -> Array:
        place = Place("Gemm", "", written=False)
        given = [x, w] if bias is None else [x, w, bias]
        return self._node(lambda a, x, w, b=None: a.products(x, w, b, place, True), *given)

    def _node(self, compute: Any, *operands: Array) -> Array:
        if self._wide is None:
            return compute(self._own, *operands)
        wide = [self._wide.converted(self._own.read(v)) for v in operands]
        return self._own.converted(compute(self._wide, *wide))


def _sum(r: Reading, parts: list[tuple[Array, Array]], biases: list[Array]) -> Array:
    """Σ over the pairs of x·wᵀ, and the biases, which are terms like any other."""
    samples = max(p[0].shape[0] for p in parts)
    x = np.concatenate([np.broadcast_to(p, (samples, *p.shape[1:])) for p, _ in parts], -1)
    w = np.concatenate([p[1] for p in parts], -1)
    ones = [np.broadcast_to(r.number(1.0), (*x.shape[:-1], 1)) for _ in biases[1:]]
    x = np.concatenate([x, *ones], -1)
    w = np.concatenate([w, *(b[..., None] for b in biases[1:])], -1)
    first = biases[0][:, None] if biases else None
    return Parts(r.a).products(x[:, :, None, :], w[:, None], first)


def _layer(r: Reading) -> Any:
    op, a = r.node.op_type, Parts(r.a)
    x, w, u = r.x[0], r.x[1][:, 0], r.x[2][:, 0]
    n = u.shape[-1]
    gates = w.shape[1] // n
    bias = r.optional(3)
    h = np.broadcast_to(r.number(0.0), (x.shape[0], x.shape[2], n))
    cell, one, every = h, r.number(1.0), []

    def rows(v: Array, gate: int) -> Array:
        return v[:, gate * n : (gate + 1) * n]

    def total(gate: int, parts: str, state: Array) -> Array:
        pairs = [(now, rows(w, gate))] if "w" in parts else []
        pairs += [(state, rows(u, gate))] if "r" in parts else []
        halves = [] if bias is None else [rows(bias[:, 0], gates * (p == "r") + gate)
                                          for p in parts]  # fmt: skip
        return _sum(r, pairs, [b for b, p in zip(halves, parts, strict=True) if np.any(b != 0)]
                    if halves else [])  # fmt: skip

    def function(name: str, v: Array) -> Array:
        return a.function(name, v)

    times = range(x.shape[1])
    for t in times if r.get("direction", "forward") == "forward" else reversed(times):
        now = x[:, t]
        if op == "RNN":
            h = function("tanh", total(0, "wr", h))
        elif op == "GRU":
            z, reset = (function("sigmoid", total(g, "wr", h)) for g in (0, 1))
            if r.get("linear_before_reset", 0):
                linear = a.multiply(reset, total(2, "r", h))
                through = np.broadcast_to(
                    np.where(np.eye(n, dtype=bool), one, r.number(0.0)), (1, n, n)
                )
                halves = [] if bias is None else [rows(bias[:, 0], 2)]
                inner = _sum(r, [(now, rows(w, 2)), (linear, through)], halves)
            else:
                inner = total(2, "wr", a.multiply(reset, h))
            fresh = a.multiply(a.subtract(one, z), function("tanh", inner))
            h = a.add(fresh, a.multiply(z, h))
        else:
            i, o, forget = (function("sigmoid", total(g, "wr", h)) for g in (0, 1, 2))
            fresh = a.multiply(i, function("tanh", total(3, "wr", h)))
            cell = a.add(a.multiply(forget, cell), fresh)
            h = a.multiply(o, function("tanh", cell))
        every.append(h)
    backwards = r.get("direction", "forward") != "forward"
    y = np.stack(every[::-1] if backwards else every, axis=1)[:, :, None]
    return [y, h[:, None], cell[:, None]][: len(r.node.output)]


RECURRENT: dict[str, Meaning] = dict.fromkeys(("RNN", "GRU", "LSTM"), _layer)
