"""The kernels of schedules.cu, and their source compiled for a processor.

`HostKernels` runs the source that a card would run on the processor, one thread after another: it
is how the kernels are tested against the emulator where there is no card.
"""

from __future__ import annotations

import ctypes
from dataclasses import replace
from enum import Enum
from functools import reduce
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from encoders.contract.contract import Blocked, Contraction, RuntimeContract
from encoders.contract.orders import Tree
from encoders.contract.presets import CUDA_FP32, PAIRWISE, SEQUENTIAL, SEQUENTIAL_FMA
from gpu_check.common.compiling import CXX, NoCompiler, compile_library, load_library
from gpu_check.cuda.sources import FOLDER, CudaUnavailable

FloatArray = npt.NDArray[np.float32]

BLOCK = 256  # terms of a block of split-K, unless said otherwise
_WARP = 32
_FLAGS = ("-O2", "-std=c++17", "-ffp-contract=off")


class Schedule(Enum):
    """A kernel of schedules.cu, by its name there."""

    SEQUENTIAL = "sequential"
    SEQUENTIAL_FMA = "sequential_fma"
    PAIRWISE = "pairwise"
    WARP_TREE = "warp_tree"
    SPLIT_K = "split_k"

    def contract(self, terms: int, block: int = BLOCK) -> RuntimeContract:
        """What the kernel does to sums of so many products: pinned, but for warp trees with lanes
        of a single product, which no order of a contract is."""
        match self:
            case Schedule.SEQUENTIAL:
                return SEQUENTIAL
            case Schedule.SEQUENTIAL_FMA:
                return SEQUENTIAL_FMA
            case Schedule.PAIRWISE:
                return PAIRWISE
            case Schedule.SPLIT_K:
                return replace(SEQUENTIAL_FMA, name="split-k", order=Blocked(block))
        order = warp_tree(terms) if terms >= 2 * _WARP else CUDA_FP32.order
        fused = Contraction.ALWAYS if terms >= 2 * _WARP else Contraction.EITHER
        return replace(SEQUENTIAL_FMA, name="warp-tree", order=order, contraction=fused)


class DotKernels(Protocol):
    """Where the kernels run."""

    def describe(self) -> str: ...

    def dot(
        self, schedule: Schedule, a: FloatArray, b: FloatArray, block: int = BLOCK
    ) -> FloatArray:
        """a (rows, terms) times b (terms, columns); `block` is the length of split-K's blocks."""

    def apply(self, function: str, x: FloatArray) -> FloatArray:
        """A kernel of elementary.cu, such as `exp`, on one axis of numbers."""


def warp_tree(terms: int) -> Tree:
    """The tree of the kernel of that name where every lane has two terms or more."""
    merges: list[tuple[int, int]] = []

    def merge(left: int, right: int) -> int:
        merges.append((left, right))
        return terms + len(merges) - 1

    lanes = [reduce(merge, range(lane, terms, _WARP)) for lane in range(_WARP)]
    while len(lanes) > 1:
        half = len(lanes) // 2
        lanes = [merge(lanes[i], lanes[i + half]) for i in range(half)]
    return Tree(tuple(merges))


class HostKernels:
    """schedules.cu and elementary.cu compiled for this processor into `folder`.

    Raises CudaUnavailable without a C++ compiler.
    """

    def __init__(self, folder: Path) -> None:
        library = folder / "schedules.so"
        try:
            compile_library(FOLDER / "host.cpp", CXX, _FLAGS, library)
            self._library = load_library(library)
        except NoCompiler as missing:
            raise CudaUnavailable(str(missing)) from missing

    def describe(self) -> str:
        return "the CUDA kernels on this processor"

    def dot(
        self, schedule: Schedule, a: FloatArray, b: FloatArray, block: int = BLOCK
    ) -> FloatArray:
        a, b = np.ascontiguousarray(a, np.float32), np.ascontiguousarray(b, np.float32)
        (rows, terms), columns = a.shape, b.shape[1]
        y = np.empty((rows, columns), np.float32)
        run = getattr(self._library, f"run_{schedule.value}")
        run(_pointer(a), _pointer(b), _pointer(y), rows, terms, columns, block)
        return y

    def apply(self, function: str, x: FloatArray) -> FloatArray:
        x = np.ascontiguousarray(x, np.float32)
        y = np.empty_like(x)
        getattr(self._library, f"run_apply_{function}")(_pointer(x), _pointer(y), x.size)
        return y


def _pointer(array: FloatArray) -> Any:
    return array.ctypes.data_as(ctypes.c_void_p)
