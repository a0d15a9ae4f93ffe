"""What a CUDA card does beside its contracts; without a card, what can be said without one.

    python benchmarks/cuda.py [--part NAME ...] [--networks PATTERN ...] [--inputs N]
                              [--device cuda|cpu] [--models DIR] [--save FILE]

`compile`: every source by NVRTC and nvcc for three architectures, for which no card is needed.
`kernels`: whole networks on our kernels, one schedule each: bit for bit against the emulator, and
within the bounds of the kernel's contract. `libraries`: the same networks on PyTorch (cuBLAS and
cuDNN) in float32, TF32 and float16, within `cuda-fp32`, `cuda-tf32` and `cuda-fp16`, and what
`refine conform` says of TF32 under `cuda-fp32`. `functions`: all 2^32 float32 inputs. `cores`: how
tensor cores add. What needs a card and finds none is kept as a row that says so; `--device cpu`
runs the kernels' source and PyTorch on the processor instead. What was measured before, and is not
measured now, stays in `--save`.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from conformance import bounded, held, the_domain, typed, widest
from corpus import chosen, float_or_text
from measuring import MODELS, rows_of, save
from rich.console import Console
from rich.table import Table

from encoders.contract.contract import RuntimeContract
from encoders.contract.presets import CUDA_FP16, CUDA_FP32, CUDA_TF32
from encoders.numbers.formats import BINARY16, round_array
from gpu_check.cuda.card import Card, Factors
from gpu_check.cuda.kernels import DotKernels, HostKernels, Schedule
from gpu_check.cuda.network import contract_of, run_graph
from gpu_check.cuda.sources import (
    SOURCES,
    CudaUnavailable,
    SourceRefused,
    compilers,
    cubin_by_nvcc,
    cubin_of,
)
from gpu_check.cuda.tensor_core import probe_core, tiles_of
from gpu_check.emulator.emulator import emulate
from gpu_check.probe.function_probe import measured_call
from gpu_check.probe.reference import CURVES, RSQRT, SQRT, Curve
from gpu_check.runtimes.library_kernels import LibraryKernels, LibraryMachine, torch_library
from gpu_check.runtimes.runtimes import LibraryOptions, RuntimeUnavailable
from onnx_import import load
from onnx_import.graph import Array, DType, Graph
from refine.claims.conforming import judged
from refine.claims.options import Options
from refine.domain.box import Box
from refine.domain.domain import Domain
from refine.lemmas.cache import default_directory
from refine.options.runtime_choice import runtime_choice

NETWORKS = ("acasxu/*", "mnist_fc/*", "oval21/*base*")
ARCHITECTURES = ("sm_80", "sm_90", "sm_100")
FUNCTIONS: Mapping[str, Curve] = {
    **{f.name: CURVES[f] for f in CURVES if f.name in ("exp", "log", "tanh", "erf")},
    "sqrt": SQRT,
    "rsqrt": RSQRT,
}
OPTIONS = Options(None, default_directory(), search=False, budget=0.0, workers=1)
_COMPARED = 200  # inputs of a network that are emulated as well
_JUDGED = 50  # that `refine conform` looks at


@dataclass(frozen=True)
class Asked:
    """What to look at, and with what."""

    models: Path
    networks: Sequence[str]
    inputs: int
    device: str
    kernels: DotKernels | None
    why: str


Row = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS))
    parser.add_argument("--inputs", type=int, default=10**4)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--models", type=Path, default=MODELS)
    parser.add_argument("--save", type=Path)
    given = parser.parse_args()
    table = Table(title=f"CUDA, device {given.device}")
    for title in ("part", "what", "found"):
        table.add_column(title)
    kept_rows = [] if given.save is None else rows_of(given.save)
    again = {(part, given.device) for part in given.part}
    rows = [row for row in kept_rows if (row["part"], row["device"]) not in again]
    with tempfile.TemporaryDirectory() as folder:
        kernels, why = kernels_of(given.device, Path(folder))
        asked = Asked(given.models, given.networks, given.inputs, given.device, kernels, why)
        for part in given.part:
            for row in PARTS[part](asked):
                rows.append({"part": part, "device": given.device, **row})
                print(part, *row.values(), sep="  ", flush=True)
                table.add_row(part, *shown(row))
                if given.save is not None:
                    save(given.save, rows, **compilers())
    Console(width=140).print(table)


def kernels_of(device: str, folder: Path) -> tuple[DotKernels | None, str]:
    """Where the kernels run, or None and why not."""
    try:
        return (Card() if device == "cuda" else HostKernels(folder)), ""
    except CudaUnavailable as missing:
        return None, str(missing)


def compiled(asked: Asked) -> Iterator[Row]:
    for title, compiler in (("nvrtc", cubin_of), ("nvcc", cubin_by_nvcc)):
        if title not in compilers():
            yield {"compiler": title, "not_run": "it is not installed"}
            continue
        for source in SOURCES:
            for architecture in ARCHITECTURES:
                row: Row = {"compiler": f"{title} {compilers()[title]}", "source": source}
                try:
                    row |= {"for": architecture, "bytes": len(compiler(source, architecture))}
                except SourceRefused as error:
                    row |= {"for": architecture, "refused": str(error)}
                yield row


def on_kernels(asked: Asked) -> Iterator[Row]:
    kernels = asked.kernels
    if kernels is None:
        yield {"not_run": asked.why}
        return
    for path in chosen(asked.models, list(asked.networks)):
        graph = load(path)
        domain = the_domain(path, graph)
        for schedule in Schedule:
            contract = contract_of(graph, schedule)
            run = partial(run_graph, graph, kernels=kernels, schedule=schedule)
            few = typed(graph, domain, np.random.default_rng(1), min(_COMPARED, asked.inputs))
            same: bool | None = None
            if all(rule.schedule.pinned for rule in contract.rules):
                ours, theirs = emulate(graph, few, contract), run(few)
                same = all(np.array_equal(ours[t], theirs[t]) for t in graph.outputs)
            yield {
                "network": name_of(asked, path),
                "kernel": schedule.value,
                "on": kernels.describe(),
                "same_bits": same,
                **kept(run, graph, domain, contract, asked.inputs),
            }


def on_libraries(asked: Asked) -> Iterator[Row]:
    modes = (
        ("highest", DType.FLOAT32, CUDA_FP32),
        ("high", DType.FLOAT32, CUDA_TF32),
        ("highest", DType.FLOAT16, CUDA_FP16),
    )
    for path in chosen(asked.models, list(asked.networks)):
        whole = load(path)
        for precision, dtype, contract in modes:
            options = LibraryOptions(1, asked.device, precision)
            try:
                library = torch_library(options)
            except RuntimeUnavailable as error:
                yield {"not_run": str(error)}
                return
            graph, domain = whole, the_domain(path, whole)
            if dtype is not DType.FLOAT32:
                graph, domain = narrowed(whole, dtype), halved(domain)
            machine = LibraryMachine(graph, LibraryKernels(graph, library))
            row = {
                "network": name_of(asked, path),
                "runtime": machine.describe(),
                "type": dtype.value,
                **kept(in_turn(machine), graph, domain, contract, asked.inputs),
            }
            if contract is CUDA_TF32:
                choice = runtime_choice(f"torch:device={asked.device},precision={precision}")
                sampled = typed(graph, domain, np.random.default_rng(3), _JUDGED)
                batch = [{t: v[k] for t, v in sampled.items()} for k in range(_JUDGED)]
                found = judged(graph, choice, CUDA_FP32, batch)
                row["broken_fields_of_cuda_fp32"] = sorted({m.field for m in found.modes})
            yield row


def in_turn(machine: LibraryMachine) -> Callable[[Mapping[str, Array]], Mapping[str, Array]]:
    def run(inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        count = len(next(iter(inputs.values())))
        return machine.tensors([{t: v[k] for t, v in inputs.items()} for k in range(count)])

    return run


def narrowed(graph: Graph, dtype: DType) -> Graph:
    """The graph with every float32 tensor in another type, weights rounded."""
    types = {
        t: replace(kind, dtype=dtype) if kind.dtype is DType.FLOAT32 else kind
        for t, kind in graph.types.items()
    }
    constants = {t: v.astype(types[t].dtype.numpy) for t, v in graph.constants.items()}
    return replace(graph, types=types, constants=constants, source=None)


def halved(domain: Domain) -> Domain:
    """The first box with its ends rounded to float16."""
    box = domain.boxes[0]
    lo, hi = ({t: round_array(v, BINARY16) for t, v in ends.items()} for ends in (box.lo, box.hi))
    formats = dict.fromkeys(lo, BINARY16)
    return Domain((Box(lo, hi, lo, hi, formats),), f"{domain.source}, ends in float16")


def kept(
    run: Callable[[Mapping[str, Array]], Mapping[str, Array]],
    graph: Graph,
    domain: Domain,
    contract: RuntimeContract,
    inputs: int,
) -> Row:
    """Real runs held to the bounds under a contract."""
    bounds = bounded(graph, domain, contract, OPTIONS)
    largest, share, above = held(run, graph, domain, bounds, inputs)
    return {
        "contract": contract.name,
        "bound": float_or_text(widest(bounds)),
        "inputs": inputs,
        "largest_error": largest,
        "largest_share_of_bound": share,
        "above_bound": above,
    }


def functions(asked: Asked) -> Iterator[Row]:
    if not isinstance(asked.kernels, Card):
        yield {"not_run": asked.why or "the functions of the processor are no card's"}
        return
    for name, curve in FUNCTIONS.items():
        found = measured_call(partial(asked.kernels.apply, name), curve)
        yield {
            "function": name,
            "on": asked.kernels.describe(),
            "ulps": float_or_text(found.ulps),
            "units": float_or_text(found.units),
            "flushes": found.flushes,
            "inputs": found.inputs,
            "worst": found.worst.hex(),
        }


def cores(asked: Asked) -> Iterator[Row]:
    if not isinstance(asked.kernels, Card):
        yield {"not_run": asked.why or "the processor has no tensor cores"}
        return
    for factors in Factors:
        core = probe_core(tiles_of(asked.kernels, factors), factors)
        found = core.note if core.steps is None else core.steps.describe()
        on = asked.kernels.describe()
        yield {"factors": factors.value, "on": on, "steps": found, "sums": core.sums}


def name_of(asked: Asked, path: Path) -> str:
    return str(path.relative_to(asked.models).with_suffix(""))


def shown(row: Row) -> tuple[str, str]:
    """What was looked at, and what was found."""
    first, *rest = row.items()
    if first[0] == "not_run":
        return "not run", str(first[1])
    numbers = ((k, f"{v:.3g}" if isinstance(v, float) else v) for k, v in rest)
    return Path(str(first[1])).name, ", ".join(f"{k} {v}" for k, v in numbers)


PARTS: Mapping[str, Callable[[Asked], Iterator[Row]]] = {
    "compile": compiled,
    "kernels": on_kernels,
    "libraries": on_libraries,
    "functions": functions,
    "cores": cores,
}

if __name__ == "__main__":
    main()
