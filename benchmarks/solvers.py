"""What solvers make of every query of the library, and of five whole checks.

    python benchmarks/solvers.py [NAME …] [--seconds S] [--save FILE]

Each check writes its queries (`--dump-smt2`): the lemmas it rests on, each of their applications,
and the sampled rows of each layer that Z3 checks again; every solver that is installed is asked
each of them, S seconds each. A row counts its answers. What is refuted, vacuous or unknown is
printed by name, and `open` counts it. NAME picks rows, `library` among them.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from measuring import save
from onnx import numpy_helper, parser

import refine
from refine.lemmas.agreement import Agreement, agreements, scripts_in, scripts_of
from refine.lemmas.library import prove_library
from refine.proof.solvers import Opinion, Script, Solver, version_of
from refine.results.obligation import Kind

DEMO = Path(__file__).parents[1] / "examples" / "demo" / "pendulum.onnx"
FORMATS = 30.0  # seconds for a format lemma when Z3 proves it
CONVOLUTION = """
<ir_version: 8, opset_import: ["": 17]>
g (float[1, 1, 6, 6] x) => (float[1, 2] y) {
  c = Conv<kernel_shape = [3, 3]>(x, kernel, shift)
  r = Relu(c)
  p = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(r)
  f = Flatten(p)
  y = MatMul(f, last)
}"""
HALF = """
<ir_version: 8, opset_import: ["": 17]>
g (float16[1, 3] x) => (float16[1, 2] y) {
  a = Gemm(x, first, shift)
  r = Relu(a)
  s = Softmax(r)
  y = MatMul(s, last)
}"""
QUANTISED = """
<ir_version: 8, opset_import: ["": 17]>
g (float[1, 3] x) => (float[2, 2] y) {
  q = QuantizeLinear(x, scale, zero)
  r = DequantizeLinear(q, scale, zero)
  w = DequantizeLinear(stored, fine, none)
  m = MatMul(r, w)
  t = Reshape(m, square)
  y = Transpose(t)
}"""
DENSE = """
<ir_version: 8, opset_import: ["": 17]>
g (float[1, 2] x) => (float[1, 1] y) {
  a = Gemm(x, first, shift)
  r = Relu(a)
  b = Gemm(r, second, shift)
  s = Relu(b)
  y = MatMul(s, last)
}"""


@dataclass(frozen=True)
class Check:
    """A whole check: a network, stored numbers of its text, ε, and other words."""

    name: str
    text: str
    stored: Callable[[np.random.Generator], dict[str, Any]]
    epsilon: float
    words: dict[str, Any] = field(default_factory=dict)

    def queries(self, folder: Path) -> tuple[Script, ...]:
        model = DEMO if not self.text else _written(self, folder / f"{self.name}.onnx")
        result = refine.check(
            model, (-1, 1), self.epsilon, dump_smt2=folder / self.name, no_search=True,
            conform=False, workers=1, **{"budget": 0, **self.words},
        )  # fmt: skip
        assert result, result
        return scripts_in(folder / self.name)


def _written(check: Check, path: Path) -> Path:
    model = parser.parse_model(check.text)
    for name, value in check.stored(np.random.default_rng(7)).items():
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    onnx.save(model, path)
    return path


def _normal(kind: Any, **shapes: tuple[int, ...]) -> Callable[[np.random.Generator], Any]:
    return lambda rng: {n: rng.normal(size=s).astype(kind) for n, s in shapes.items()}


def _quantised(rng: np.random.Generator) -> dict[str, Any]:
    return {
        "scale": np.float32(0.02),
        "zero": np.int8(3),
        "stored": rng.integers(-128, 128, (3, 4)).astype(np.int8),
        "fine": np.float32(0.01),
        "none": np.int8(0),
        "square": np.array([2, 2]),
    }


CHECKS = (
    Check("demo", "", lambda rng: {}, 4.3e-4),
    Check(
        "convolution", CONVOLUTION,
        _normal(np.float32, kernel=(2, 1, 3, 3), shift=(2,), last=(8, 2)), 1e-2,
    ),
    Check("float16", HALF, _normal(np.float16, first=(3, 4), shift=(4,), last=(4, 2)), 1.0),
    Check("quantised", QUANTISED, _quantised, 1.0),
    Check(
        "split", DENSE,
        _normal(np.float32, first=(2, 12), second=(12, 12), shift=(12,), last=(12, 1)), 5.5e-5,
        {"budget": 60},
    ),
)  # fmt: skip


def scripts(names: Sequence[str], folder: Path) -> Iterator[tuple[str, tuple[Script, ...]]]:
    if not names or "library" in names:
        yield "library", scripts_of(prove_library((Kind.SCHEMA, Kind.FORMAT), FORMATS))
    for check in CHECKS:
        if not names or check.name in names:
            yield check.name, check.queries(folder)


def row(name: str, solver: Solver, asked: Sequence[Agreement]) -> dict[str, Any]:
    replies = [a.replies[solver] for a in asked]
    counts = {o: sum(r.opinion is o for r in replies) for o in Opinion}
    settled = counts[Opinion.PROVED] + counts[Opinion.NOT_READ]
    return {
        "queries-of": name, "solver": f"{solver.value} {version_of(solver)}",
        "queries": len(replies), "proved": counts[Opinion.PROVED],
        "not-its-logic": counts[Opinion.NOT_READ], "open": len(replies) - settled,
        "seconds": round(sum(r.seconds for r in replies), 1),
        "longest-s": round(max((r.seconds for r in replies), default=0.0), 1),
    }  # fmt: skip


def main() -> None:
    given = argparse.ArgumentParser(description=__doc__)
    given.add_argument("names", nargs="*")
    given.add_argument("--seconds", type=float, default=60.0)
    given.add_argument("--save", type=Path)
    words = given.parse_args()
    here = [s for s in Solver if version_of(s) != "not installed"]
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for name, every in scripts(words.names, Path(folder)):
            asked = list(agreements(every, here, words.seconds, lambda told: None))
            for solver in here:
                rows.append(row(name, solver, asked))
                print(" | ".join(f"{k} {v}" for k, v in rows[-1].items()), flush=True)
            for a in asked:
                if not a.agreed:
                    said = {s.value: (r.opinion.value, r.detail) for s, r in a.replies.items()}
                    print(f"  open: {a.name}: {said}", flush=True)
            if words.save is not None:
                save(words.save, rows, seconds=words.seconds)


if __name__ == "__main__":
    main()
