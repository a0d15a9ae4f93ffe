"""Dot products and a dense layer on [-1, 1], float32, left to right, without FMA; beside Gappa.

    python benchmarks/dot_product.py [--longest N] [--save FILE]

First the dot product of two vectors of numbers in [-1, 1], beside the closed form that Gappa 1.4.1
proves (n·2⁻²⁵ + Σ_{k=2..n} 2^(⌈log₂k⌉−25)); then a dense layer of fixed weights on [-1, 1], the
largest bound over its neurons. Where the program `gappa` is installed (it is a Debian package), it
is given the same sums, dot products up to length `--longest`. Seconds are those of a processor.
"""

from __future__ import annotations

import argparse
import re
import resource
import shutil
import subprocess
import time
from collections.abc import Sequence
from fractions import Fraction
from math import ceil, log2
from pathlib import Path
from typing import Any

import numpy as np
from measuring import save
from rich.console import Console
from rich.table import Table

from encoders.contract.presets import SEQUENTIAL
from encoders.numbers.enclosure import Interval
from onnx_import.graph import Array, DType, Graph, Node, TensorType, build_graph
from refine.bounds.network import InputBox, network_bounds

LENGTHS = (4, 16, 64, 256, 1024, 4096)
LAYERS = (16, 64)
PUBLISHED = (
    "Gappa 1.4.1 on a dense layer of other weights, measured for this project on 2 shared cores: "
    "16 to 16 1.188e-6 in 1.8 s, 64 to 64 7.319e-6 in 64 s; FPTaylor about 770 s"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--longest", type=int, default=64, help="dot product given to Gappa")
    parser.add_argument("--save", type=Path)
    given = parser.parse_args()
    gappa = shutil.which("gappa")
    rows = [_dot_row(n, gappa if n <= given.longest else None) for n in LENGTHS]
    rows += [_layer_row(width, gappa) for width in LAYERS]
    table = Table(title="float32, sequential, on [-1, 1]")
    for title in ("sum", "bound", "s", "Gappa", "Gappa s", "closed form", "bound / Gappa"):
        table.add_column(title, justify="right")
    for row in rows:
        rival = row["gappa"] or row["closed_form"]
        table.add_row(
            str(row["sum"]),
            f"{row['bound']:.6g}",
            f"{row['seconds']:.3f}",
            *("-" if row[k] is None else f"{row[k]:.6g}" for k in ("gappa", "gappa_seconds")),
            "-" if row["closed_form"] is None else f"{row['closed_form']:.6g}",
            "-" if rival is None else f"{row['bound'] / rival:.9f}",
        )
    Console(width=110).print(table)
    if gappa is None:
        print(f"gappa is not installed. {PUBLISHED}")
    if given.save is not None:
        save(given.save, rows)


def _dot_row(terms: int, gappa: str | None) -> dict[str, Any]:
    start = time.process_time()
    bound = dot_bound(terms)
    seconds = time.process_time() - start
    closed = terms * 2.0**-25 + sum(2.0 ** (ceil(log2(k)) - 25) for k in range(2, terms + 1))
    row = {"sum": f"dot product {terms}", "bound": bound, "seconds": seconds, "closed_form": closed}
    return row | _asked(gappa, [_gappa_sum([f"y{k}" for k in range(terms)])])


def _layer_row(width: int, gappa: str | None) -> dict[str, Any]:
    weights = layer_weights(width)
    start = time.process_time()
    bound = layer_bound(weights)
    seconds = time.process_time() - start
    row = {"sum": f"{width} to {width}", "bound": bound, "seconds": seconds, "closed_form": None}
    exact = [[_dyadic(w) for w in column] for column in weights.T]
    return row | _asked(gappa, [_gappa_sum(column) for column in exact])


def dot_bound(terms: int) -> float:
    """The proved bound for vectors of this length."""
    types = {
        "x": TensorType(DType.FLOAT32, (1, terms)),
        "y": TensorType(DType.FLOAT32, (terms, 1)),
        "z": TensorType(DType.FLOAT32, (1, 1)),
    }
    node = Node("dot", "MatMul", inputs=("x", "y"), outputs=("z",), attributes={}, opset=17)
    return _bound(build_graph((node,), types, {}, inputs=("x", "y"), outputs=("z",)))


def layer_weights(width: int) -> Array:
    """Fixed weights (inputs, neurons), normal with variance 2/inputs, float32."""
    rng = np.random.default_rng(7)
    normal: Array = rng.standard_normal((width, width)) * np.sqrt(2.0 / width)
    return normal.astype(np.float32)


def layer_bound(weights: Array) -> float:
    """The proved bound of x·W, the largest over the neurons."""
    inputs, neurons = weights.shape
    types = {
        "x": TensorType(DType.FLOAT32, (1, inputs)),
        "w": TensorType(DType.FLOAT32, (inputs, neurons)),
        "z": TensorType(DType.FLOAT32, (1, neurons)),
    }
    node = Node("layer", "MatMul", inputs=("x", "w"), outputs=("z",), attributes={}, opset=17)
    return _bound(build_graph((node,), types, {"w": weights}, inputs=("x",), outputs=("z",)))


def _bound(graph: Graph) -> float:
    """All inputs in [-1, 1], the same on both sides."""
    shapes = {name: graph.types[name].shape for name in graph.inputs}
    ranges = {name: Interval(-np.ones(s), np.ones(s)) for name, s in shapes.items()}
    box = InputBox(ranges, {name: np.zeros(s) for name, s in shapes.items()})
    return network_bounds(graph, box, SEQUENTIAL).largest


def _asked(gappa: str | None, scripts: Sequence[str]) -> dict[str, float | None]:
    """The largest bound Gappa proves of these sums, and the processor seconds all of them took."""
    if gappa is None:
        return {"gappa": None, "gappa_seconds": None}
    start = _of_children()
    bounds = [_proved_by(gappa, script) for script in scripts]
    return {"gappa": max(bounds), "gappa_seconds": _of_children() - start}


def _of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _proved_by(gappa: str, script: str) -> float:
    done = subprocess.run([gappa], input=script, capture_output=True, text=True, check=True)
    (interval,) = re.findall(r" in \[(.*)\]$", done.stdout + done.stderr, re.MULTILINE)
    ends = re.sub(r" \{[^}]*\}", "", interval).split(", ")  # the braces hold approximations
    return max(abs(_number(end)) for end in ends)


def _number(text: str) -> float:
    """Gappa writes mantissa`b`exponent, the exponent that of two."""
    mantissa, _, exponent = text.partition("b")
    return float(mantissa) * 2.0 ** int(exponent or 0)


def _dyadic(weight: np.floating) -> str:
    """An exact number as Gappa reads it."""
    exact = Fraction(float(weight))
    return f"{exact.numerator}b-{exact.denominator.bit_length() - 1}"


def _gappa_sum(weights: Sequence[str]) -> str:
    """Σ x_k·w_k left to right in float32, minus the exact sum; variables are floats in [-1, 1]."""
    names = [f"x{k}" for k in range(len(weights))]
    names += [w for w in weights if w.startswith("y")]
    lines = ["@rnd = float<ieee_32, ne>;"]
    lines += [f"{name} = rnd({name.upper()});" for name in names]
    total = ""
    for k, weight in enumerate(weights):
        lines.append(f"p{k} = rnd(x{k} * {weight});")
        total = f"p{k}" if k == 0 else f"s{k}"
        if k:
            before = "p0" if k == 1 else f"s{k - 1}"
            lines.append(f"s{k} = rnd({before} + p{k});")
    exact = " + ".join(f"x{k} * {weight}" for k, weight in enumerate(weights))
    ranges = " -> ".join(f"{name} in [-1, 1]" for name in names)
    return "\n".join([*lines, f"{{ {ranges} -> {total} - ({exact}) in ? }}"])


if __name__ == "__main__":
    main()
