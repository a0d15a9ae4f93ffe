"""A network that solves Burgers' equation, and a proof of how well the float32 network does.

    python examples/burgers/burgers.py [--boxes 10] [--limit 0.15] [--folder DIR]

u_t + u·u_x = ν·u_xx for 0 ≤ t ≤ 1 and −1 ≤ x ≤ 1 with ν = 0.1, u(0, x) = −½·sin(πx) and u = 0 at
both ends. A layer of tanh is trained by Levenberg and Marquardt's method on the residual; then
`refine grad` writes its derivatives and the residual as ONNX models, and `refine check` proves of
each box of a grid that the residual, computed in float32, is at most the limit.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper, parser

import refine
from gpu_check.common.writing import write_whole
from onnx_import.onnx.reader import load
from onnx_import.onnx.writer import model_of
from refine.gradients.request import Request

Floats = npt.NDArray[np.float64]
VISCOSITY = 0.1
UNITS = 14
STEPS = 400
WEIGHT = 3.0  # of the ends, beside the residual


class Network:
    """u(t, x) = Σ a·tanh(w·t + v·x + b) + c for parameters p = (w, v, b, a, c), at points."""

    def __init__(self, p: Floats, t: Floats, x: Floats) -> None:
        w, v, b, a = np.split(p[:-1], 4)
        s = np.tanh(np.outer(t, w) + np.outer(x, v) + b)
        one = 1 - s * s
        two, three = -2 * s * one, 4 * s * s * one - 2 * one * one  # further derivatives of tanh
        t, x = t[:, None], x[:, None]
        self.u, self.u_t, self.u_x = s @ a + p[-1], one @ (a * w), one @ (a * v)
        self.u_xx = two @ (a * v * v)
        constant, none = np.ones((len(s), 1)), np.zeros((len(s), 1))
        self.by_u = np.hstack([one * a * t, one * a * x, one * a, s, constant])
        aw, av, avv = a * w, a * v, a * v * v
        self.by_t = np.hstack([one * a + two * aw * t, two * aw * x, two * aw, one * w, none])
        self.by_x = np.hstack([two * av * t, one * a + two * av * x, two * av, one * v, none])
        self.by_xx = np.hstack(
            [three * avv * t, 2 * two * av + three * avv * x, three * avv, two * v * v, none]
        )

    def residual(self) -> tuple[Floats, Floats]:
        """u_t + u·u_x − ν·u_xx at the points, and its derivatives by the parameters."""
        u, u_x = self.u[:, None], self.u_x[:, None]
        found = self.u_t + self.u * self.u_x - VISCOSITY * self.u_xx
        return found, self.by_t + self.by_u * u_x + u * self.by_x - VISCOSITY * self.by_xx


def trained(seed: int = 1) -> Floats:
    """Parameters of a small residual."""
    rng = np.random.default_rng(seed)
    p = np.concatenate([rng.normal(size=UNITS) * scale for scale in (1.0, 2.0, 1.0, 0.3)] + [[0.0]])
    t, x = (g.ravel() for g in np.meshgrid(np.linspace(0, 1, 31), np.linspace(-1, 1, 61)))
    start, along = np.linspace(-1, 1, 41), np.linspace(0, 1, 21)

    def errors(p: Floats) -> tuple[Floats, Floats]:
        inside, by_inside = Network(p, t, x).residual()
        parts, slopes = [inside / len(inside) ** 0.5], [by_inside / len(inside) ** 0.5]
        for at_t, at_x, wanted in (
            (0 * start, start, -0.5 * np.sin(np.pi * start)),
            (along, 0 * along - 1, 0 * along),
            (along, 0 * along + 1, 0 * along),
        ):
            here = Network(p, at_t, at_x)
            parts.append(WEIGHT * (here.u - wanted) / len(at_t) ** 0.5)
            slopes.append(WEIGHT * here.by_u / len(at_t) ** 0.5)
        return np.concatenate(parts), np.vstack(slopes)

    damping = 1e-2
    found, slopes = errors(p)
    for _ in range(STEPS):
        normal = slopes.T @ slopes
        damped = normal + damping * np.diag(np.diag(normal) + 1e-6)
        step = np.linalg.solve(damped, slopes.T @ found)
        there, slopes_there = errors(p - step)
        if there @ there < found @ found:
            p, found, slopes, damping = p - step, there, slopes_there, damping / 3
        else:
            damping = min(damping * 4, 1e12)
    return p


def network(p: Floats) -> onnx.ModelProto:
    """The trained network in float32."""
    w, v, b, a = np.split(p[:-1], 4)
    weights = {"W": np.stack([w, v]), "b": b, "A": a[:, None], "c": p[-1:]}
    made: onnx.ModelProto = parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17]> burgers (float[1,1] t, float[1,1] x) => '
        "(float[1,1] u) { p = Concat <axis = 1> (t, x)  z = Gemm(p, W, b)  h = Tanh(z)"
        "  u = Gemm(h, A, c) }"
    )
    stored = [numpy_helper.from_array(v.astype(np.float32), n) for n, v in weights.items()]
    made.graph.initializer.extend(stored)
    return made


def residual_model(folder: Path, p: Floats) -> Path:
    """The residual as an ONNX model, made in the steps that the command line has:

    refine grad burgers.onnx --wrt t,x --ones --keep -o first.onnx
    refine grad first.onnx --of grad_x --wrt x --ones --keep -o second.onnx
    refine grad second.onnx --value "grad_t + u*grad_x - 0.1*grad_x_of_grad_x" -o residual.onnx
    """
    onnx.save(network(p), folder / "burgers.onnx")
    graph = load(folder / "burgers.onnx")
    for name, request in (
        ("first", Request(wrt="t,x", ones=True, keep=True)),
        ("second", Request(of="grad_x", wrt="x", ones=True, keep=True)),
        ("residual", Request(value=f"grad_t + u*grad_x - {VISCOSITY}*grad_x_of_grad_x")),
    ):
        data = model_of(request.gradient_of(graph), name).SerializeToString()
        path = folder / f"{name}.onnx"
        write_whole(path, lambda file, data=data: file.write(data))  # type: ignore[misc]
        graph = load(path)
    return folder / "residual.onnx"


def proved(path: Path, boxes: int, limit: float, budget: float) -> Iterator[dict[str, Any]]:
    """Each box of a grid over t (so many) and x (twice as many): whether |residual| < limit is
    proved there, as a property in VNN-LIB, and how long that took."""
    for i, j in itertools.product(range(boxes), range(2 * boxes)):
        ranges = ((i, i + 1), (j - boxes, j - boxes + 1))
        lines = [f"(declare-const {name} Real)" for name in ("X_0", "X_1", "Y_0")]
        for name, (lo, hi) in zip(("X_0", "X_1"), ranges, strict=True):
            lines += [f"(assert (>= {name} {lo / boxes}))", f"(assert (<= {name} {hi / boxes}))"]
        lines.append(f"(assert (or (and (>= Y_0 {limit})) (and (<= Y_0 -{limit}))))")
        stated = path.with_suffix(".vnnlib")
        stated.write_text("\n".join(lines), encoding="utf-8")
        begun = time.process_time()
        result = refine.check(
            path, vnnlib=stated, claim="property", budget=budget, no_search=True, conform=False,
            z3="none", workers=1,
        )  # fmt: skip
        (t, u), (x, y) = (tuple(end / boxes for end in ends) for ends in ranges)
        yield {
            "box": f"t {t}..{u}, x {x}..{y}",
            "verdict": result.verdict.value,
            "seconds": time.process_time() - begun,
        }


def main() -> None:
    given = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    given.add_argument("--boxes", type=int, default=10)
    given.add_argument("--limit", type=float, default=0.15)
    given.add_argument("--budget", type=float, default=60.0, help="seconds for a box")
    given.add_argument("--folder", type=Path, help="keep the models here")
    asked = given.parse_args()
    p = trained()
    t, x = (g.ravel() for g in np.meshgrid(np.linspace(0, 1, 201), np.linspace(-1, 1, 401)))
    largest = float(np.max(np.abs(Network(p, t, x).residual()[0])))
    print(f"trained: |residual| is at most {largest:.4f} at {len(t)} points, in float64")
    with TemporaryDirectory() as temporary:
        folder = asked.folder or Path(temporary)
        path = residual_model(folder, p)
        rows = list(proved(path, asked.boxes, asked.limit, asked.budget))
    good = [row for row in rows if row["verdict"] == "verified"]
    seconds = [float(row["seconds"]) for row in rows]
    print(f"|residual| < {asked.limit} is proved of the float32 network in {len(good)} of "
          f"{len(rows)} boxes, in {sum(seconds):.0f} s of one processor, at most "
          f"{max(seconds):.1f} s a box")  # fmt: skip
    for row in rows:
        if row not in good:
            print(f"open: {row['box']}: {row['verdict']}")


if __name__ == "__main__":
    main()
