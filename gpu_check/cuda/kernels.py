"""The CUDA kernels: their source, compiled for a processor or, by NVRTC, for a card.

`HostKernels` runs the source that a card would run on the processor, one thread after another: it
is how the kernels are tested against the emulator where there is no card. `ptx_of` compiles for a
card; a card is not needed for that.
"""

from __future__ import annotations

import ctypes
from enum import Enum
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gpu_check.compiling import CXX, NoCompiler, compile_library, load_library

FloatArray = npt.NDArray[np.float32]

_FOLDER = Path(__file__).parent
_FLAGS = ("-O2", "-std=c++17", "-ffp-contract=off")


class CudaUnavailable(RuntimeError):
    """What is needed here is missing: a compiler, NVRTC, or a card; the message says which."""


class Schedule(Enum):
    """A kernel of schedules.cu, by its name there."""

    SEQUENTIAL = "sequential"
    SEQUENTIAL_FMA = "sequential_fma"
    PAIRWISE = "pairwise"
    WARP_TREE = "warp_tree"
    SPLIT_K = "split_k"


class HostKernels:
    """schedules.cu compiled for this processor into `folder`.

    Raises CudaUnavailable without a C++ compiler.
    """

    def __init__(self, folder: Path) -> None:
        library = folder / "schedules.so"
        try:
            compile_library(_FOLDER / "host.cpp", CXX, _FLAGS, library)
            self._library = load_library(library)
        except NoCompiler as missing:
            raise CudaUnavailable(str(missing)) from missing

    def dot(self, schedule: Schedule, a: FloatArray, b: FloatArray, block: int = 256) -> FloatArray:
        """a (rows, terms) times b (terms, columns); `block` is the length of split-K's blocks."""
        a, b = np.ascontiguousarray(a, np.float32), np.ascontiguousarray(b, np.float32)
        (rows, terms), columns = a.shape, b.shape[1]
        y = np.empty((rows, columns), np.float32)
        run = getattr(self._library, f"run_{schedule.value}")
        run(_pointer(a), _pointer(b), _pointer(y), rows, terms, columns, block)
        return y


def _pointer(array: FloatArray) -> Any:
    return array.ctypes.data_as(ctypes.c_void_p)


def source(name: str) -> str:
    """The text of `schedules` or `elementary`."""
    return (_FOLDER / f"{name}.cu").read_text(encoding="utf-8")


def ptx_of(name: str, architecture: str) -> str:
    """`name`.cu compiled by NVRTC for an architecture such as `compute_90`.

    Contraction and flushing are off and division and roots are rounded correctly, which matters to
    nothing but the elementary functions. Raises CudaUnavailable without NVRTC, and with the
    compiler's words where it refuses the source.
    """
    nvrtc = _nvrtc()
    program = ctypes.c_void_p()
    text = source(name).encode()
    _require(nvrtc.nvrtcCreateProgram(ctypes.byref(program), text, b"k.cu", 0, None, None))
    flags = [f"--gpu-architecture={architecture}", "--fmad=false", "--ftz=false"]
    options = (ctypes.c_char_p * len(flags))(*(f.encode() for f in flags))
    code = nvrtc.nvrtcCompileProgram(program, len(flags), options)
    size = ctypes.c_size_t()
    if code != 0:
        nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size))
        log = ctypes.create_string_buffer(size.value)
        nvrtc.nvrtcGetProgramLog(program, log)
        raise CudaUnavailable(f"NVRTC refuses {name}.cu: {log.value.decode()[:1000]}")
    _require(nvrtc.nvrtcGetPTXSize(program, ctypes.byref(size)))
    ptx = ctypes.create_string_buffer(size.value)
    _require(nvrtc.nvrtcGetPTX(program, ptx))
    nvrtc.nvrtcDestroyProgram(ctypes.byref(program))
    return ptx.value.decode()


def nvrtc_version() -> str:
    """Raises CudaUnavailable without NVRTC."""
    major, minor = ctypes.c_int(), ctypes.c_int()
    _require(_nvrtc().nvrtcVersion(ctypes.byref(major), ctypes.byref(minor)))
    return f"{major.value}.{minor.value}"


def _require(code: int) -> None:
    if code != 0:
        raise CudaUnavailable(f"NVRTC fails with error {code}")


def _nvrtc() -> Any:
    """The library of the package nvidia-cuda-nvrtc, or the system's."""
    found: list[str] = []
    try:
        folders = import_module("nvidia").__path__
        found = [str(p) for f in folders for p in sorted(Path(f).glob("*/lib/libnvrtc.so.*"))]
    except ImportError:
        pass
    for name in (*found, "libnvrtc.so", "libnvrtc.so.13", "libnvrtc.so.12"):
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    raise CudaUnavailable("NVRTC is not installed: pip install 'refine[cuda]'")
