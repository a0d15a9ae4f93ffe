"""A CUDA card through the driver's own library: no toolkit and no other package is needed."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from enum import Enum
from typing import Any

import numpy as np
import numpy.typing as npt

from gpu_check.cuda.kernels import BLOCK, FloatArray, Schedule
from gpu_check.cuda.sources import SOURCES, CudaUnavailable, cubin_of

DRIVER = "libcuda.so.1"
TILE = 16  # rows and columns
_THREADS = 128
_WARP = 32
_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_*


class Factors(Enum):
    """The types of factors of tensor cores tried: a kernel of tensor_cores.cu, by its name."""

    FLOAT16 = "float16"
    BFLOAT16 = "bfloat16"
    TF32 = "tf32"

    @property
    def length(self) -> int:
        """Terms of one instruction of the kernel."""
        return 8 if self is Factors.TF32 else 16


class Card:
    """The first card of this machine, with the kernels of this folder.

    `code` compiles a source for an architecture. Raises CudaUnavailable where there is no driver,
    no card or no compiler.
    """

    def __init__(self, driver: str = DRIVER, code: Callable[[str, str], bytes] = cubin_of) -> None:
        try:
            self._driver: Any = ctypes.CDLL(driver)
        except OSError as error:
            raise CudaUnavailable(f"there is no CUDA driver here: {error}") from error
        self._do("cuInit", 0)
        device, context, version = ctypes.c_int(), ctypes.c_void_p(), ctypes.c_int()
        self._do("cuDeviceGet", ctypes.byref(device), 0)
        self._do("cuDriverGetVersion", ctypes.byref(version))
        title = ctypes.create_string_buffer(256)
        self._do("cuDeviceGetName", title, len(title), device)
        self.title = title.value.decode()
        self.driver_version = f"{version.value // 1000}.{version.value % 1000 // 10}"
        self.architecture = f"sm_{self._attribute(device, _MAJOR)}{self._attribute(device, _MINOR)}"
        self._do("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
        self._do("cuCtxSetCurrent", context)
        self._modules: dict[str, ctypes.c_void_p] = {}
        for name in SOURCES:
            module = ctypes.c_void_p()
            self._do("cuModuleLoadData", ctypes.byref(module), code(name, self.architecture))
            self._modules[name] = module

    def describe(self) -> str:
        return f"{self.title} ({self.architecture}, CUDA driver {self.driver_version})"

    def dot(
        self, schedule: Schedule, a: FloatArray, b: FloatArray, block: int = BLOCK
    ) -> FloatArray:
        (rows, terms), columns = a.shape, b.shape[1]
        sizes = [rows, terms, columns, *([block] if schedule is Schedule.SPLIT_K else [])]
        y = np.empty((rows, columns), np.float32)
        given = [np.ascontiguousarray(v, np.float32) for v in (a, b)]
        self._run("schedules", schedule.value, given, y, sizes, y.size)
        return y

    def apply(self, function: str, x: FloatArray) -> FloatArray:
        y = np.empty(x.shape, np.float32)
        given = [np.ascontiguousarray(x, np.float32)]
        self._run("elementary", f"apply_{function}", given, y, [y.size], y.size)
        return y

    def tile(
        self, factors: Factors, a: npt.NDArray[Any], b: npt.NDArray[Any], c: FloatArray
    ) -> FloatArray:
        """a·b + c on tensor cores: a (16, terms) and b (terms, 16) in the factors' type (TF32 in
        float32 arrays), c (16, 16); terms is a multiple of an instruction's."""
        terms = a.shape[1]
        if (a.shape, b.shape, c.shape) != ((TILE, terms), (terms, TILE), (TILE, TILE)):
            raise ValueError(f"tiles have {TILE} rows and columns, not {a.shape}, {b.shape}")
        if terms % factors.length:
            raise ValueError(f"{terms} terms are not steps of {factors.length} each")
        d = np.empty((TILE, TILE), np.float32)
        given = [np.ascontiguousarray(v) for v in (a, b.T, np.asarray(c, np.float32))]
        self._run("tensor_cores", f"tile_{factors.value}", given, d, [terms], None)
        return d

    def _run(
        self,
        module: str,
        kernel: str,
        inputs: Sequence[npt.NDArray[Any]],
        output: FloatArray,
        sizes: Sequence[int],
        threads: int | None,
    ) -> None:
        """One launch: pointers to the inputs and the output, then integers; None threads are
        one warp."""
        if not output.size:
            return
        function = ctypes.c_void_p()
        self._do(
            "cuModuleGetFunction", ctypes.byref(function), self._modules[module], kernel.encode()
        )
        with ExitStack() as stack:
            places = [stack.enter_context(self._memory(v.nbytes)) for v in (*inputs, output)]
            for place, values in zip(places, inputs, strict=False):
                self._do("cuMemcpyHtoD_v2", place, _address(values), _size(values.nbytes))
            arguments: list[Any] = [*places, *(ctypes.c_int(n) for n in sizes)]
            pointers = (ctypes.c_void_p * len(arguments))(*(ctypes.addressof(v) for v in arguments))
            blocks = 1 if threads is None else -(-threads // _THREADS)
            wide = _WARP if threads is None else _THREADS
            grid = [ctypes.c_uint(n) for n in (blocks, 1, 1, wide, 1, 1, 0)]
            self._do("cuLaunchKernel", function, *grid, None, pointers, None)
            self._do("cuCtxSynchronize")
            self._do("cuMemcpyDtoH_v2", _address(output), places[-1], _size(output.nbytes))

    @contextmanager
    def _memory(self, count: int) -> Iterator[ctypes.c_uint64]:
        place = ctypes.c_uint64()
        self._do("cuMemAlloc_v2", ctypes.byref(place), _size(count))
        try:
            yield place
        finally:
            self._do("cuMemFree_v2", place)

    def _attribute(self, device: ctypes.c_int, number: int) -> int:
        found = ctypes.c_int()
        self._do("cuDeviceGetAttribute", ctypes.byref(found), number, device)
        return found.value

    def _do(self, call: str, *arguments: Any) -> None:
        code = getattr(self._driver, call)(*arguments)
        if code != 0:
            said = ctypes.c_char_p()
            self._driver.cuGetErrorString(code, ctypes.byref(said))
            words = said.value.decode() if said.value else f"error {code}"
            raise CudaUnavailable(f"{call}: {words}")


def _size(count: int) -> ctypes.c_size_t:
    return ctypes.c_size_t(count)


def _address(values: npt.NDArray[Any]) -> ctypes.c_void_p:
    return ctypes.c_void_p(values.ctypes.data)
