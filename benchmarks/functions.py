"""How accurate the elementary functions of the runtimes here are, in float16 and in float32.

    python benchmarks/functions.py [--runtime NAME ...] [--type float16|float32 ...]
                                   [--function NAME ...] [--exhaustive] [--save FILE]

Float16 is measured on all of its numbers. So is float32 with `--exhaustive` (five minutes and more
of processor time for each function), else on samples of every binade. Errors are in ulps of the
real value and in units u = 2^-p; `beyond` is how far results leave the range of the function. A
runtime that is not installed, or that lacks an operator for a type, is left out. What was measured
before and is not measured now stays in `--save`.
"""

from __future__ import annotations

import argparse
import datetime
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from measuring import earlier, save
from rich.console import Console
from rich.table import Table

from encoders.functions.function import Function
from encoders.functions.registry import every_function, function_named
from gpu_check.probe.function_probe import MEASURABLE, Measured, measured
from gpu_check.runtimes.kernels import Kernels, OnnxKernels
from gpu_check.runtimes.library_kernels import LibraryKernels, numpy_library, torch_library
from gpu_check.runtimes.runtimes import RuntimeUnavailable
from onnx_import.graph import DType, build_graph

RUNTIMES = ("onnxruntime", "torch", "numpy")
TYPES = ("float16", "float32")
KEYS = ("runtime", "type", "function")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runtime", nargs="+", choices=RUNTIMES, default=RUNTIMES)
    parser.add_argument("--type", nargs="+", choices=TYPES, default=TYPES, dest="types")
    names = [f.name for f in every_function().values() if f in MEASURABLE]
    parser.add_argument("--function", nargs="+", choices=names, default=names)
    parser.add_argument("--exhaustive", action="store_true")
    parser.add_argument("--save", type=Path)
    given = parser.parse_args()
    rows = {} if given.save is None else earlier(given.save, *KEYS)
    for row in measured_rows(given):
        rows[tuple(row[k] for k in KEYS)] = row
        print(*(str(row[k]) for k in (*KEYS, "ulps", "inputs")), sep="  ", flush=True)
        if given.save is not None:
            save(given.save, [rows[key] for key in sorted(rows)])
    table = Table(title="largest errors of elementary functions")
    for title in ("runtime", "type", "function", "ulps", "u", "beyond", "flushes", "inputs"):
        table.add_column(title)
    for key in sorted(rows):
        r = rows[key]
        numbers = (f"{r[k]:.4g}" for k in ("ulps", "units", "beyond"))
        kind = "all" if r["exhaustive"] else "a sample of"
        table.add_row(*key, *numbers, "yes" if r["flushes"] else "", f"{kind} {r['inputs']}")
    Console(width=140).print(table)


def measured_rows(given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    for name in given.runtime:
        try:
            kernels = kernels_of(name)
        except RuntimeUnavailable as error:
            print(error)
            continue
        for dtype in map(DType, given.types):
            for function in map(function_named, given.function):
                start = time.process_time()
                try:
                    figures = measured(kernels, function, dtype, given.exhaustive)
                except RuntimeUnavailable as error:
                    print(str(error).splitlines()[0][:200])
                    continue
                seconds = time.process_time() - start
                yield row_of(kernels.describe(), dtype, function, figures, seconds)


def kernels_of(name: str) -> Kernels:
    empty = build_graph((), {}, {}, inputs=(), outputs=())
    if name == "onnxruntime":
        return OnnxKernels(empty)
    return LibraryKernels(empty, numpy_library() if name == "numpy" else torch_library())


def row_of(
    runtime: str, dtype: DType, function: Function, figures: Measured, seconds: float
) -> dict[str, Any]:
    return {
        "runtime": runtime,
        "type": dtype.value,
        "function": function.name,
        "ulps": number(figures.ulps),
        "units": number(figures.units),
        "beyond": figures.excess,
        "flushes": figures.flushes,
        "inputs": figures.inputs,
        "worst": figures.worst.hex(),
        "exhaustive": figures.exhaustive,
        "seconds": seconds,
        "date": datetime.date.today().isoformat(),
    }


def number(value: float) -> float:
    """JSON has no infinity: the largest float64 stands for no bound at all."""
    return min(value, 1.7976931348623157e308)


if __name__ == "__main__":
    main()
