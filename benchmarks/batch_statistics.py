"""A BatchNormalization in training mode over 128×28×28 numbers, in several orders of summation.

    python benchmarks/batch_statistics.py [--save FILE]

How far two executions may be apart that add the 100,352 numbers of a channel in two orders, proved
at one input, and how far emulated executions and the libraries that are installed are. A published
comparison of two backends on a network with BatchNormalization saw differences of 1.08e-5 to
1.24e-4 and laid them to the trees of these reductions.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from descent import parsed
from measuring import save
from rich.console import Console
from rich.table import Table

from encoders.contract.contract import RuntimeContract
from encoders.contract.orders import AnyOrder, Blocked, Lanes, Order, Pairwise, Sequential
from encoders.contract.presets import SEQUENTIAL
from gpu_check.emulator.emulator import emulate
from gpu_check.runtimes.runtimes import RuntimeUnavailable
from onnx_import import load
from onnx_import.graph import Array, Graph
from refine.options.runtime_choice import machine, runtime_choice
from refine.traces.comparing import joint_bounds

SHAPE = (128, 28, 28)  # one channel
PUBLISHED = (1.08e-5, 1.24e-4)
TENSORS = ("mean", "variance", "y", "grad_shift", "grad_scale", "grad_x")
ORDERS: Mapping[str, Order] = {
    "pairwise": Pairwise(),
    "1024 lanes": Lanes(1024),
    "32 lanes": Lanes(32),
    "blocks of 256": Blocked(256),
    "sequential": Sequential(),
}
"""What is emulated."""
NESTED: Mapping[str, tuple[int, ...]] = {
    "halves, then sevenths": (2,) * 11 + (7, 7),
    "32, 56 and 56 at a time": (32, 56, 56),
    "columns, rows, images": (28, 28, 128),
    "784 of an image, 128 images": (784, 128),
    "any order": (100352,),
}
"""Of which bounds are proved: so many numbers are added in any order, then so many of the sums."""
LIBRARIES = ("onnxruntime", "numpy", "torch", "jax")


def model(shape: tuple[int, ...], levels: tuple[int, ...]) -> onnx.ModelProto:
    """The normalisation of a channel and its gradient, with batch statistics; sums in levels."""
    size = f"float[{','.join(map(str, shape))}]"
    ones = f"float[{','.join('1' for _ in shape)}]"
    outputs = ", ".join(f"{size if t in ('y', 'grad_x') else ones} {t}" for t in TENSORS)
    constants: dict[str, Array] = {
        "epsilon": np.array(1e-5, np.float32),
        "scale": np.array(1, np.float32),
        "shift": np.array(0, np.float32),
        "share": np.array(1 / np.prod(shape), np.float32),
        "levels": np.array(levels[::-1]),
        "ones": np.ones(len(shape), np.int64),
        **{f"axis{k}": np.array([k]) for k in range(len(levels))},
    }

    def added(source: str, target: str) -> str:
        lines, last = [f"{target}_0 = Reshape({source}, levels)"], len(levels)
        for k in range(last):
            lines.append(
                f"{target}_{k + 1} = ReduceSum <keepdims = 0> ({target}_{k}, axis{last - 1 - k})"
            )
        return " ".join([*lines, f"{target} = Reshape({target}_{last}, ones)"])

    body = f"""
        {added("x", "total")}
        mean = Mul(total, share)
        centred = Sub(x, mean)
        squares = Mul(centred, centred)
        {added("squares", "spread")}
        variance = Mul(spread, share)
        raised = Add(variance, epsilon)
        deviation = Sqrt(raised)
        normal = Div(centred, deviation)
        scaled = Mul(normal, scale)
        y = Add(scaled, shift)
        {added("upstream", "grad_shift")}
        weighed = Mul(upstream, normal)
        {added("weighed", "grad_scale")}
        along = Mul(normal, grad_scale)
        both = Add(grad_shift, along)
        shares = Mul(both, share)
        apart = Sub(upstream, shares)
        by_scale = Mul(apart, scale)
        grad_x = Div(by_scale, deviation)
    """
    text = (
        f'<ir_version: 8, opset_import: ["": 18]> statistics ({size} x, {size} upstream) => '
        f"({outputs}) {{ {body} }}"
    )
    return parsed(text, constants)


def contract(name: str, order: Order) -> RuntimeContract:
    """binary32, everything correctly rounded, sums in this order."""
    return replace(SEQUENTIAL, name=name, order=order)


def main() -> None:
    given = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    given.add_argument("--save", type=Path)
    asked = given.parse_args()
    rng = np.random.default_rng(0)
    inputs: dict[str, Array] = {
        "x": rng.normal(0.5, 1, SHAPE).astype(np.float32),
        "upstream": (rng.normal(0, 1, SHAPE) / SHAPE[0]).astype(np.float32),
    }
    rows = [*proved(inputs), *measured(inputs)]
    show(rows)
    if asked.save is not None:
        save(asked.save, rows)


def summed_in(levels: tuple[int, ...], folder: str) -> Graph:
    path = Path(folder) / "statistics.onnx"
    onnx.save(model(SHAPE, levels), path)
    return load(path)


def proved(inputs: Mapping[str, Array]) -> list[dict[str, object]]:
    """The joint bound of two executions whose sums are of one kind."""
    rows: list[dict[str, object]] = []
    side = contract("any order", AnyOrder())
    with TemporaryDirectory() as folder:
        for name, levels in NESTED.items():
            graph = summed_in(levels, folder)
            found = joint_bounds((graph, graph), (inputs, inputs), (side, side))
            largest = {t: float(np.max(found[t])) for t in TENSORS}
            rows.append({"kind": "proved", "order": name, **largest})
    return rows


def measured(inputs: Mapping[str, Array]) -> list[dict[str, object]]:
    """How far executions are from the first one, which adds pairwise."""
    with TemporaryDirectory() as folder:
        return list(_measured(summed_in((100352,), folder), inputs))


def _measured(graph: Graph, inputs: Mapping[str, Array]) -> Iterator[dict[str, object]]:
    samples = {t: x[None] for t, x in inputs.items()}
    runs: dict[str, Mapping[str, Array]] = {}
    for name, order in ORDERS.items():
        found = emulate(graph, samples, contract(name, order), every_tensor=True)
        runs[f"emulated, {name}"] = {t: np.asarray(found[t][0]) for t in TENSORS}
    for name in LIBRARIES:
        try:
            with machine(runtime_choice(name), graph) as one:
                shown = one.tensors([inputs])
        except RuntimeUnavailable as error:
            Console().print(f"{name}: {error}")
            continue
        runs[one.describe()] = {t: shown[t][0] for t in TENSORS}
    names = list(runs)
    first = runs[names[0]]
    for name in names[1:]:
        apart = {
            t: float(np.max(np.abs(np.float64(runs[name][t]) - np.float64(first[t]))))
            for t in TENSORS
        }
        yield {"kind": "measured", "order": name, **apart}


def show(rows: list[dict[str, object]]) -> None:
    """Two tables, and what they say of the published difference."""
    for kind, title in (
        ("proved", "how far two executions may be apart at this input"),
        ("measured", "how far executions are from the one that adds pairwise"),
    ):
        table = Table(title=title)
        for column in ("order", *TENSORS):
            table.add_column(column, justify="left" if column == "order" else "right")
        for row in rows:
            if row["kind"] == kind:
                table.add_row(str(row["order"]), *(f"{row[t]:.2e}" for t in TENSORS))
        Console(width=120).print(table)
    low, high = PUBLISHED
    for row in rows:
        if row["kind"] == "proved":
            most = max(float(str(row[t])) for t in ("mean", "variance", "y"))
            reach = f"reach {low:.2e}" + (f" and {high:.2e}" if most >= high else "")
            short = f", never {high:.2e}" if most < high else ""
            said = f"may {reach}{short}" if most >= low else f"never reach {low:.2e}"
            Console(width=120).print(f"{row['order']}: two executions {said} in one normalisation")


if __name__ == "__main__":
    main()
