"""Dense ReLU networks run many times from one input, every sum in a random order (random_orders.c).

Each of these executions is one that `ieee-any` allows, chosen without looking at its roundings.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gpu_check.common.compiling import C, compile_library, load_library
from onnx_import.graph import Graph

Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Dense:
    """Weights (inputs, outputs) and biases of the layers, a ReLU between every two."""

    weights: tuple[Float32, ...]
    biases: tuple[Float32, ...]

    @property
    def sizes(self) -> tuple[int, ...]:
        """Of the input, of the hidden layers and of the output."""
        return (self.weights[0].shape[0], *(w.shape[1] for w in self.weights))


def dense_of(graph: Graph) -> Dense:
    """The layers of a chain of Gemm or of MatMul and Add, Relu between them, of one row.

    Raises ValueError for any other graph.
    """
    weights: list[Float32] = []
    biases: list[Float32] = []
    for node in graph.order:
        held = [np.asarray(graph.constants[t]) for t in node.inputs if graph.is_constant(t)]
        if node.op == "Gemm" and len(held) == 2:
            w = held[0].T if node.attributes.get("transB", 0) else held[0]
            weights.append(np.ascontiguousarray(w, np.float32))
            biases.append(np.ascontiguousarray(held[1].reshape(-1), np.float32))
        elif node.op not in ("Relu", "Flatten", "Reshape", "Identity"):
            raise ValueError(f"{node.describe()} is no layer of a dense network")
    return Dense(tuple(weights), tuple(biases))


def compiled(scratch: Path) -> ctypes.CDLL:
    """The runs in C, compiled in this folder. Raises NoCompiler where there is none."""
    source, library = Path(__file__).with_suffix(".c"), scratch / "random_orders.so"
    compile_library(source, C, ["-O3", "-march=native", "-ffp-contract=off"], library)
    return load_library(library)


def runs_of(library: ctypes.CDLL, dense: Dense, x: Float32, runs: int, seed: int) -> Float32:
    """Outputs (runs, outputs) of so many runs from the input x."""
    sizes = np.array(dense.sizes, np.int32)
    widest = int(sizes.max())
    results = np.empty((runs, dense.sizes[-1]), np.float32)
    pointers = ctypes.c_void_p * len(dense.weights)
    flat = np.ascontiguousarray(x.reshape(-1), np.float32)
    here, there = np.empty(widest, np.float32), np.empty(widest, np.float32)
    order = np.empty(widest + 1, np.int32)
    library.run(
        flat.ctypes.data_as(ctypes.c_void_p),
        pointers(*(w.ctypes.data for w in dense.weights)),
        pointers(*(b.ctypes.data for b in dense.biases)),
        sizes.ctypes.data_as(ctypes.c_void_p),
        ctypes.c_int32(len(dense.weights)),
        ctypes.c_int64(runs),
        ctypes.c_uint64(seed + 1),
        here.ctypes.data_as(ctypes.c_void_p),
        there.ctypes.data_as(ctypes.c_void_p),
        order.ctypes.data_as(ctypes.c_void_p),
        results.ctypes.data_as(ctypes.c_void_p),
    )
    return results
