"""Backward errors of random kernels, beside the nearby inputs themselves.

A kernel in which each linear argument is read once is run in float32. Then its bits are asked of it
exactly, from the result back to the arguments, in numbers of 60 digits: each node hands what its
rounding changed to its operands, by rules written down here. The arguments found so must be as near
as the bound says, and give the bits when the kernel is evaluated with them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal, localcontext
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from encoders.contract.presets import SEQUENTIAL
from onnx_import import load
from refine.perturbed.bound import backward_bound
from refine.perturbed.standing import Laid

Tree: TypeAlias = Any
"""A name, or an operator and its operands."""
Value: TypeAlias = Any
"""A number of float32, or a decimal one."""
DISCRETE = ("p", "q")


@dataclass
class Kernel:
    """A random kernel: arguments x0, x1, … read once each, and p and q as often as it likes."""

    rng: np.random.Generator
    count: int = 0
    names: list[str] = field(default_factory=list)

    def tree(self, depth: int) -> Tree:
        if depth == 0 or self.rng.random() < 0.15:
            self.names.append(f"x{len(self.names)}")
            return self.names[-1]
        kind = self.rng.choice(
            ["+", "-", "*", "/", "sqrt", "scaled", "under", "fabs", "neg", "if", "fmax", "fmin"]
        )
        if kind in ("+", "-", "*", "/"):
            return (str(kind), self.tree(depth - 1), self.tree(depth - 1))
        if kind in ("fmax", "fmin"):
            return (str(kind), self.tree(depth - 1), self.tree(depth - 1))
        if kind in ("scaled", "under"):
            return ("*" if kind == "scaled" else "/", self.tree(depth - 1), self.kept())
        if kind == "if":
            test = ("<", self.kept(), self.kept())
            return ("if", test, self.tree(depth - 1), self.tree(depth - 1))
        if kind == "sqrt":
            return ("sqrt", ("fabs", self.tree(depth - 1)))
        return ("fabs" if kind == "fabs" else "-", self.tree(depth - 1))

    def kept(self) -> str:
        return str(self.rng.choice(DISCRETE))


def text(tree: Tree) -> str:
    return tree if isinstance(tree, str) else f"({' '.join(map(text, tree))})"


def evaluated(tree: Tree, given: dict[str, Value], run: dict[int, Value] | None) -> Value:
    """The value of a tree: float32 operations where `run` takes every node's, else Decimal."""
    if isinstance(tree, str):
        return given[tree]
    op, *rest = tree
    if op == "if":
        (_, a, b), yes, no = rest
        both = [evaluated(t, given, run) for t in (yes, no)]
        found = both[0 if given[a] < given[b] else 1]
    else:
        found = applied(str(op), [evaluated(t, given, run) for t in rest])
    if run is not None:
        run[id(tree)] = found
    return found


def applied(op: str, a: list[Value]) -> Value:
    if op == "-" and len(a) == 1:
        return -a[0]
    if op == "sqrt":
        return np.sqrt(a[0]) if isinstance(a[0], np.float32) else a[0].sqrt()
    if op == "fabs":
        return abs(a[0])
    if op in ("fmax", "fmin"):
        return max(a) if op == "fmax" else min(a)
    with np.errstate(all="ignore"):
        return {
            "+": lambda x, y: x + y,
            "-": lambda x, y: x - y,
            "*": lambda x, y: x * y,
            "/": lambda x, y: x / y,
        }[op](*a)


def exact(value: Value) -> Decimal:
    return Decimal(float(value))


def pushed(
    tree: Tree,
    target: Decimal,
    run: dict[int, Value],
    given: dict[str, Value],
    found: dict[str, Decimal],
) -> None:
    """Ask a tree to be exactly `target`, which is its computed value but for a factor."""
    if isinstance(tree, str):
        found[tree] = target
        return
    op, *rest = tree
    if op == "if":
        (_, a, b), yes, no = rest
        taken = yes if given[a] < given[b] else no
        pushed(taken, target, run, given, found)
        return
    values = [exact(given[t] if isinstance(t, str) else run[id(t)]) for t in rest]
    before = applied(str(op), list(values))
    factor = target / before if before != 0 else Decimal(1)
    kept = [isinstance(t, str) and t in DISCRETE for t in rest]
    for i, (part, value) in enumerate(zip(rest, values, strict=True)):
        if kept[i]:
            continue
        share = factor
        if op == "sqrt":
            share = factor**2
        elif op in ("*", "/"):
            share = factor if any(kept) else factor.sqrt()
            share = 1 / share if op == "/" and i == 1 else share
        pushed(part, value * share, run, given, found)


def test_arguments_within_the_bound_give_the_bits(tmp_path: Path) -> None:
    nearest = [nearness_of(seed, tmp_path) for seed in range(40)]
    assert max(nearest) > 0.5


def nearness_of(seed: int, folder: Path) -> float:
    """The largest change of an argument beside its bound, of a random kernel on random points."""
    rng = np.random.default_rng((5, seed))
    kernel = Kernel(rng)
    tree = kernel.tree(4)
    if isinstance(tree, str):
        return 0.0
    names = [*kernel.names, *DISCRETE]
    path = folder / "k.fpcore"
    path.write_text(f"(FPCore ({' '.join(names)}) :precision binary32 {text(tree)})")
    graph = load(path)
    kept = tuple(t for t in DISCRETE if t in graph.inputs)
    bound = backward_bound(graph, SEQUENTIAL, Laid.INPUTS, kept)
    take = {m.tensor: m.multiples for m in bound.moved}
    assert set(take) == set(kernel.names)
    closest = 0.0
    with localcontext() as context:
        context.prec = 60
        for _ in range(15):
            numbers = rng.uniform(0.5, 2.0, len(names)) * rng.choice([-1.0, 1.0], len(names))
            given: dict[str, Value] = dict(zip(names, numbers.astype(np.float32), strict=True))
            run: dict[int, Value] = {}
            bits = exact(evaluated(tree, given, run))
            if not bits.is_finite() or any(v == 0 for v in run.values()):
                continue
            found: dict[str, Decimal] = {}
            pushed(tree, bits, run, given, found)
            moved = {n: found.get(n, exact(v)) for n, v in given.items()}
            again = evaluated(tree, dict(moved), None)
            assert abs(again - bits) <= abs(bits) * Decimal(10) ** -40
            for name, limit in take.items():
                near = float(abs((moved[name] / exact(given[name])).ln())) * 2.0**24
                assert near <= limit
                closest = max(closest, near / limit if limit else 0.0)
    return closest
