"""20 networks whose claims are true over the reals and false of some executions, 8 contracts each.

    python benchmarks/flipped_truths.py [PATTERN ...] [--budget S] [--save FILE]

Beside each answer stands what an arithmetic of this file's own finds: every network is also a
function of it, executed in the orders, with the fused operations, flushes and short factors that
the contract allows, at points of the domain. `verified` is wrong where that breaks the claim, and
so is `violated` over the reals, or where neither that nor a runtime breaks it at the input found.
"""

from __future__ import annotations

import argparse
import fnmatch
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
from measuring import save
from onnx import numpy_helper, parser

import refine
from refine.results.verdict import Execution, Result

CONTRACTS = (
    *("exact", "sequential", "sequential-fma", "pairwise"),
    *("ieee-any", "ort-cpu", "fp16", "cuda-tf32"),
)
POINTS = 40
_TINY = {np.float16: 2.0**-14, np.float32: 2.0**-126}
_TF32_BITS = 11


@dataclass(frozen=True)
class Way:
    """One execution: a format, an order of sums, whether products are fused into sums, whether
    subnormal numbers are read, and written, as zero, factors of products cut to so many bits
    (rounded, or else truncated), sums inside a node in float32."""

    kind: Any = np.float32
    order: str = "forward"
    fused: bool = False
    reads_zero: bool = False
    writes_zero: bool = False
    bits: int | None = None
    nearest: bool = True
    wide: bool = False

    def rounded(self, value: float | Fraction, kind: Any = None) -> float:
        """To the format, or another one."""
        kind = kind or self.kind
        with np.errstate(over="ignore"):
            made = float(kind(float(value)))
        return 0.0 if self.writes_zero and abs(made) < _TINY[self.kind] else made

    def _read(self, value: float) -> float:
        return 0.0 if self.reads_zero and abs(value) < _TINY[self.kind] else value

    def add(self, a: float, b: float) -> float:
        return self.rounded(self._read(a) + self._read(b))

    def mul(self, a: float, b: float) -> float:
        return self.rounded(self._read(a) * self._read(b))

    def div(self, a: float, b: float) -> float:
        return self.rounded(self._read(a) / self._read(b))

    def total(self, terms: Sequence[float]) -> float:
        """The sum of terms."""
        return self.dot(terms, None)

    def dot(
        self, a: Sequence[float], b: Sequence[float] | None, start: float | None = None
    ) -> float:
        """Σ a·b, or Σ a, in this order; `start` is a bias that comes first."""
        pairs = [(x, None) for x in a] if b is None else list(zip(a, b, strict=True))
        kind = np.float32 if self.wide else self.kind
        if self.order == "backward":
            pairs.reverse()
        if self.order == "large first":
            pairs.sort(key=lambda p: -abs(p[0] * (1.0 if p[1] is None else p[1])))
        if self.order == "pairwise":
            leaves = [self._product(x, y, kind) for x, y in pairs]
            return self.rounded(self._tree(leaves if start is None else [start, *leaves], kind))
        sum_ = start
        for x, y in pairs:
            if sum_ is None:
                sum_ = self._product(x, y, kind)
            elif self.fused and y is not None:
                exact = Fraction(self._cut(x)) * Fraction(self._cut(y)) + Fraction(sum_)
                sum_ = self.rounded(exact, kind)
            else:
                sum_ = self.rounded(sum_ + self._product(x, y, kind), kind)
        return self.rounded(sum_ or 0.0)

    def _tree(self, terms: Sequence[float], kind: Any) -> float:
        if len(terms) == 1:
            return terms[0]
        half = (len(terms) + 1) // 2
        left, right = (self._tree(part, kind) for part in (terms[:half], terms[half:]))
        return self.rounded(left + right, kind)

    def _product(self, x: float, y: float | None, kind: Any) -> float:
        x = self._read(x)
        return x if y is None else self.rounded(self._cut(x) * self._cut(self._read(y)), kind)

    def _cut(self, x: float) -> float:
        if self.bits is None or x == 0:
            return x
        scale = 2.0 ** (self.bits - 1 - int(np.floor(np.log2(abs(x)))))
        return float((np.rint if self.nearest else np.trunc)(x * scale) / scale)


ORDERS = ("forward", "backward", "large first", "pairwise")


def ways(contract: str, kind: Any) -> Iterator[Way]:
    """Executions that a contract allows; of `exact`, none that rounds."""
    if contract in ("sequential", "sequential-fma"):
        yield Way(kind, fused=contract == "sequential-fma")
    if contract == "pairwise":
        yield Way(kind, "pairwise")
    if contract in ("ieee-any", "fp16", "cuda-tf32"):
        zero = (False, True) if contract == "ieee-any" else (False,)
        flushes = tuple(itertools.product(zero, zero))
        cuts: tuple[int | None, ...] = (None, _TF32_BITS) if contract == "cuda-tf32" else (None,)
        for order, fused, flush, bits in itertools.product(ORDERS, (False, True), flushes, cuts):
            wide = contract == "fp16"
            cut = bits if kind is np.float32 else None
            for nearest in (True, False) if cut else (True,):
                yield Way(kind, order, fused, *flush, cut, nearest, wide)
    if contract == "ort-cpu":  # products with stored weights go forwards, fused; all else is open
        yield Way(kind, fused=True)


@dataclass(frozen=True)
class Network:
    """A graph in ONNX's text form of an input `x`, a claim that is true over the reals, the same
    network in an arithmetic, and when its outputs break the claim. `open_sums` says that `ort-cpu`
    leaves the order of its sums open."""

    name: str
    outputs: int
    body: str
    sides: tuple[float, float]
    claim: str
    run: Callable[[Way, float], Sequence[float]]
    breaks: Callable[[Sequence[float]], bool]
    weights: Mapping[str, Any] = field(default_factory=dict)
    kind: Any = np.float32
    open_sums: bool = True

    def write(self, path: Path) -> Path:
        """The model as a file."""
        word = {np.float16: "float16", np.float32: "float"}[self.kind]
        text = (
            f'<ir_version: 8, opset_import: ["": 17]> flipped ({word}[1,1] x) => '
            f"({word}[1,{self.outputs}] y) {{ {self.body} }}"
        )
        model = parser.parse_model(text)
        for node in model.graph.node:
            node.name = node.output[0]
        for name, values in self.weights.items():
            stored = np.asarray(values)
            if stored.dtype == np.float64:
                stored = stored.astype(self.kind)
            model.graph.initializer.append(numpy_helper.from_array(stored, name))
        onnx.checker.check_model(model, full_check=True)
        onnx.save(model, path)
        return path

    def points(self) -> list[float]:
        """Numbers of the format in the domain."""
        lo, hi = self.sides
        some = np.random.default_rng(0).uniform(lo, hi, POINTS)
        inside = (float(self.kind(x)) for x in (lo, hi, *some))
        return [x for x in dict.fromkeys(inside) if lo <= x <= hi]

    def allowed(self, contract: str) -> list[Way]:
        """Executions of it."""
        found = list(ways(contract, self.kind))
        if contract == "ort-cpu" and self.open_sums:
            open_ones = ways("ieee-any", self.kind)
            found += [w for w in open_ones if not (w.reads_zero or w.writes_zero)]
        return found

    def broken(self, contract: str, points: Sequence[float]) -> bool:
        """Does an execution break the claim at one of the points?"""
        every = self.allowed(contract)
        return any(self.breaks(self.run(way, x)) for x in points for way in every)


BIG, SMALL = 2.0**24, 2.0**-70
THREE = (BIG, 1.0, -BIG)


def _scaled(a: Way, x: float, by: Sequence[float]) -> list[float]:
    return [a.mul(x, w) for w in by]


def _square_difference(a: Way, x: float) -> list[float]:
    sides = a.add(x, -1.0), a.add(x, 1.0)
    return [a.add(a.mul(x, x), -a.mul(*sides))]


def _variance(a: Way, x: float) -> list[float]:
    """Of x, x + 1/4, x + 1/2 and x + 3/4."""
    values = [a.add(x, k / 4) for k in range(4)]
    mean = a.div(a.total(values), 4.0)
    second = a.div(a.total([a.mul(v, v) for v in values]), 4.0)
    return [a.add(second, -a.mul(mean, mean))]


def _chain(a: Way, x: float, factors: Sequence[float]) -> list[float]:
    for factor in factors:
        x = a.mul(x, factor)
    return [x]


NETWORKS = (
    Network(
        "order: a sum of three terms", 1,
        "t = Mul(x, w) y = ReduceSum(t, axes)", (0.5, 1.0), "Y[0] >= 0.25",
        lambda a, x: [a.total(_scaled(a, x, THREE))], lambda y: y[0] < 0.25,
        {"w": [THREE], "axes": np.array([1])},
    ),
    Network(
        "order: a product with a stored matrix", 1,
        "t = Mul(x, ones) y = MatMul(t, w)", (0.5, 1.0), "Y[0] >= 0.25",
        lambda a, x: [a.dot(_scaled(a, x, (1.0,) * 3), THREE)], lambda y: y[0] < 0.25,
        {"ones": [[1.0] * 3], "w": [[v] for v in THREE]}, open_sums=False,
    ),
    Network(
        "order: a label", 2,
        "t = Mul(x, w) s = ReduceSum(t, axes) p = Mul(x, part) y = Concat <axis = 1> (s, p)",
        (0.5, 1.0), "argmax",
        lambda a, x: [a.total(_scaled(a, x, THREE)), a.mul(x, 0.75)], lambda y: y[1] > y[0],
        {"w": [THREE], "axes": np.array([1]), "part": [0.75]},
    ),
    Network(
        "order: a convolution", 1,
        "t = Mul(x, ones) u = Reshape(t, three) c = Conv(u, k) y = Reshape(c, one)",
        (0.5, 1.0), "Y[0] >= 0.25",
        lambda a, x: [a.dot(_scaled(a, x, (1.0,) * 3), THREE)], lambda y: y[0] < 0.25,
        {
            "ones": [[1.0] * 3], "three": np.array([1, 1, 3]), "one": np.array([1, 1]),
            "k": [[list(THREE)]],
        },
    ),
    Network(
        "order: a mean behind a ReLU", 1,
        "t = Mul(x, w) m = ReduceMean <axes = [1]> (t) y = Relu(m)", (0.5, 1.0), "Y[0] >= 0.1",
        lambda a, x: [max(a.div(a.total(_scaled(a, x, (*THREE, 0.0))), 4.0), 0.0)],
        lambda y: y[0] < 0.1, {"w": [(*THREE, 0.0)]},
    ),
    Network(
        "precision: what a large number swallows", 1,
        "t = Add(x, big) s = Sub(t, big) y = Sub(s, x)", (0.5, 1.0), "Y[0] >= -0.25",
        lambda a, x: [a.add(a.add(a.add(x, BIG), -BIG), -x)], lambda y: y[0] < -0.25,
        {"big": [BIG]},
    ),
    Network(
        "precision: a difference of squares", 1,
        "s = Mul(x, x) b = Sub(x, one) c = Add(x, one) p = Mul(b, c) y = Sub(s, p)",
        (5000.0, 6000.0), "Y[0] >= 0.5",
        _square_difference, lambda y: y[0] < 0.5, {"one": [1.0]},
    ),
    Network(
        "precision: a variance", 1,
        """v = Add(x, steps) m = ReduceMean <axes = [1]> (v) s = Mul(v, v)
        second = ReduceMean <axes = [1]> (s) q = Mul(m, m) y = Sub(second, q)""",
        (4000.0, 5000.0), "Y[0] >= 0.01",
        _variance, lambda y: y[0] < 0.01, {"steps": [[0.0, 0.25, 0.5, 0.75]]},
    ),
    Network(
        "precision: a quotient and its product", 1,
        "q = Div(x, ten) p = Mul(q, ten) y = Sub(p, x)", (1.0, 2.0), "Y[0] >= -0.000000001",
        lambda a, x: [a.add(a.mul(a.div(x, 10.0), 10.0), -x)], lambda y: y[0] < -1e-9,
        {"ten": [10.0]},
    ),
    Network(
        "precision: a label between close scores", 2,
        "t = Add(x, little) y = Concat <axis = 1> (x, t)", (64.0, 127.0), "Y[1] - Y[0] > 0",
        lambda a, x: [x, a.add(x, 2.0**-19)], lambda y: y[1] <= y[0], {"little": [2.0**-19]},
    ),
    Network(
        "flush: a product scaled down and up", 1,
        "a = Mul(x, down) b = Mul(a, down) c = Mul(b, up) y = Mul(c, up)",
        (1.0, 2.0), "Y[0] >= 0.5",
        lambda a, x: _chain(a, x, (SMALL, SMALL, 1 / SMALL, 1 / SMALL)), lambda y: y[0] < 0.5,
        {"down": [SMALL], "up": [1 / SMALL]},
    ),
    Network(
        "flush: a ReLU on subnormal numbers", 1,
        "a = Mul(x, down) r = Relu(a) b = Mul(r, up) y = Mul(b, up)", (1.0, 2.0), "Y[0] >= 0.5",
        lambda a, x: _chain(a, x, (2.0**-130, 2.0**65, 2.0**65)), lambda y: y[0] < 0.5,
        {"down": [2.0**-130], "up": [2.0**65]},
    ),
    Network(
        "flush: a subnormal difference", 1,
        "a = Mul(x, down) d = Sub(a, other) b = Mul(d, up) y = Mul(b, up)",
        (1.0, 1.5), "Y[0] >= 0.1",
        lambda a, x: _chain(a, a.add(a.mul(x, 2.0**-126), -0.75 * 2.0**-126), (2.0**63, 2.0**63)),
        lambda y: y[0] < 0.1,
        {"down": [2.0**-126], "other": [0.75 * 2.0**-126], "up": [2.0**63]},
    ),
    Network(
        "fused: a square and its negative", 1,
        """n = Neg(x) l = Concat <axis = 1> (x, x) r = Concat <axis = 0> (x, n)
        y = MatMul(l, r)""", (1.0, 2.0), "Y[0] <= 0.000000001",
        lambda a, x: [a.dot((x, x), (x, -x))], lambda y: y[0] > 1e-9,
    ),
    Network(
        "fused: a residual", 1,
        """p = Mul(x, x) n = Neg(p) l = Concat <axis = 1> (n, x) r = Concat <axis = 0> (one, x)
        y = MatMul(l, r)""", (1.0, 2.0), "Y[0] >= -0.000000001",
        lambda a, x: [a.dot((-a.mul(x, x), x), (1.0, x))], lambda y: y[0] < -1e-9,
        {"one": [[1.0]]},
    ),
    Network(
        "fused: a bias that comes first", 1,
        "p = Mul(x, x) n = Neg(p) y = Gemm(x, x, n)", (1.0, 2.0), "Y[0] >= -0.000000001",
        lambda a, x: [
            a.dot((x,), (x,), -a.mul(x, x))
            if a.order != "forward"
            else a.add(a.dot((x,), (x,)), -a.mul(x, x))
        ],
        lambda y: y[0] < -1e-9,
    ),
    Network(
        "TF32: a product with one", 1,
        "p = MatMul(x, one) y = Sub(p, x)", (1.0, 2.0), "Y[0] >= -0.000001",
        lambda a, x: [a.add(a.dot((x,), (1.0,)), -x)], lambda y: y[0] < -1e-6,
        {"one": [[1.0]]}, open_sums=False,
    ),
    Network(
        "TF32: weights that become equal", 2,
        "y = MatMul(x, w)", (1.0, 2.0), "Y[0] - Y[1] >= 0.0001",
        lambda a, x: [a.dot((x,), (1.0,)), a.dot((x,), (1 - 2.0**-12,))],
        lambda y: y[0] - y[1] < 1e-4, {"w": [[1.0, 1 - 2.0**-12]]}, open_sums=False,
    ),
    Network(
        "float16: a long sum", 1,
        "t = Mul(x, ones) y = MatMul(t, sum)", (1.0, 1.0), "Y[0] >= 3000",
        lambda a, x: [a.dot(_scaled(a, x, (1.0,) * 4096), (1.0,) * 4096)], lambda y: y[0] < 3000,
        {"ones": [[1.0] * 4096], "sum": [[1.0]] * 4096}, np.float16,
    ),
    Network(
        "float16: a margin", 2,
        "t = Add(x, little) y = Concat <axis = 1> (t, x)", (4.0, 8.0), "Y[0] - Y[1] >= 0.0005",
        lambda a, x: [a.add(x, float(np.float16(0.001))), x], lambda y: y[0] - y[1] < 5e-4,
        {"little": [0.001]}, np.float16,
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Answer:
    """What came of a network under a contract: the verdict, whether the arithmetic here breaks the
    claim, and whether the answer is wrong."""

    verdict: str
    at_hand: bool
    wrong: str


def answered(network: Network, contract: str, model: Path, budget: float) -> Answer:
    """Ask refine, and hold its answer against this file's arithmetic."""
    lo, hi = (repr(side) for side in network.sides)
    result = refine.check(
        model,
        f"{lo}..{hi}",
        claim=network.claim,
        contract=contract,
        budget=budget,
        workers=1,
        z3="none",
        conform=False,
    )
    verdict, at_hand = result.verdict.value, network.broken(contract, network.points())
    wrong = ""
    if verdict == "verified" and at_hand:
        wrong = "an execution breaks it"
    if verdict == "contradiction":
        wrong = "a contradiction"
    if verdict == "violated" and not _confirmed(network, contract, result):
        wrong = "nothing confirms the counterexample"
    return Answer(verdict, at_hand, wrong)


def _confirmed(network: Network, contract: str, result: Result) -> bool:
    """Is the claim broken at the input that was found, by the arithmetic here or a runtime?"""
    if contract == "exact" or result.witness is None:
        return False
    (x,) = (float(v) for v in result.witness.inputs["x"].reshape(-1))
    ran = any(r.confirms(Fraction(0)) for r in result.witness.replays if isinstance(r, Execution))
    return ran or network.broken(contract, [x])


def main() -> None:
    parser_ = argparse.ArgumentParser(description=__doc__)
    parser_.add_argument("patterns", nargs="*")
    parser_.add_argument("--budget", type=float, default=2.0)
    parser_.add_argument("--save", type=Path)
    given = parser_.parse_args()
    chosen = [
        n
        for n in NETWORKS
        if not given.patterns or any(fnmatch.fnmatch(n.name, f"*{p}*") for p in given.patterns)
    ]
    rows: list[dict[str, Any]] = []
    print(f"{'':40}" + "".join(f"{c:>16}" for c in CONTRACTS))
    with TemporaryDirectory() as folder:
        for number, network in enumerate(chosen):
            model = network.write(Path(folder) / f"{number}.onnx")
            cells = []
            for contract in CONTRACTS:
                answer = answered(network, contract, model, given.budget)
                rows.append({"network": network.name, "contract": contract, **answer.__dict__})
                mark = "!" if answer.wrong else "*" if answer.at_hand else ""
                cells.append(f"{answer.verdict + mark:>16}")
            print(f"{network.name:40}" + "".join(cells), flush=True)
    wrong = [r for r in rows if r["wrong"]]
    at_hand = [r for r in rows if r["at_hand"]]
    found = sum(r["verdict"] == "violated" for r in at_hand)
    print(f"{len(rows)} answers, {len(wrong)} wrong; flips at hand (*): {found} of {len(at_hand)}")
    for row in wrong:
        print(f"  ! {row['network']}, {row['contract']}: {row['verdict']}, {row['wrong']}")
    if given.save is not None:
        save(given.save, rows, budget=given.budget)


if __name__ == "__main__":
    main()
