"""The CUDA sources, compiled for a card by NVRTC or nvcc; that takes no card."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
SOURCES = ("schedules", "elementary", "tensor_cores")
# contraction and flushing off, division and roots rounded correctly: the compiler's defaults but
# for contraction, and what the kernels' explicit intrinsics do in any case
_FLAGS = ("--fmad=false", "--ftz=false", "--prec-div=true", "--prec-sqrt=true")


class CudaUnavailable(RuntimeError):
    """What is needed here is missing: a compiler, NVRTC, or a card; the message says which."""


class SourceRefused(RuntimeError):
    """A compiler's words about a source that it does not take."""


def source(name: str) -> str:
    """The text of one of SOURCES."""
    return (FOLDER / f"{name}.cu").read_text(encoding="utf-8")


def ptx_of(name: str, architecture: str) -> str:
    """The PTX of one source by NVRTC, for an architecture such as `compute_90`.

    Raises CudaUnavailable without NVRTC, SourceRefused where it does not take the source.
    """
    return _by_nvrtc(name, architecture, "PTX").rstrip(b"\0").decode()


def cubin_of(name: str, architecture: str) -> bytes:
    """Machine code of one source for an architecture such as `sm_90`, by NVRTC or else nvcc.

    Raises CudaUnavailable without either, SourceRefused where they do not take the source.
    """
    try:
        return _by_nvrtc(name, architecture, "CUBIN")
    except CudaUnavailable:
        return cubin_by_nvcc(name, architecture)


def cubin_by_nvcc(name: str, architecture: str) -> bytes:
    """As `cubin_of`, by nvcc."""
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        raise CudaUnavailable("neither NVRTC (pip install 'refine[cuda]') nor nvcc is here")
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "made.cubin"
        command = [nvcc, "-cubin", f"-arch={architecture}", *_FLAGS, str(FOLDER / f"{name}.cu")]
        done = subprocess.run(
            [*command, "-o", str(made)], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise SourceRefused(f"nvcc refuses {name}.cu: {done.stderr.strip()[:1000]}")
        return made.read_bytes()


def compilers() -> dict[str, str]:
    """The versions of NVRTC and nvcc, of those that are here."""
    found: dict[str, str] = {}
    try:
        major, minor = ctypes.c_int(), ctypes.c_int()
        _require(_nvrtc().nvrtcVersion(ctypes.byref(major), ctypes.byref(minor)))
        found["nvrtc"] = f"{major.value}.{minor.value}"
    except CudaUnavailable:
        pass
    nvcc = shutil.which("nvcc")
    if nvcc is not None:
        done = subprocess.run([nvcc, "--version"], capture_output=True, text=True, check=False)
        found["nvcc"] = done.stdout.partition("release ")[2].partition(",")[0]
    return found


def _by_nvrtc(name: str, architecture: str, kind: str) -> bytes:
    nvrtc = _nvrtc()
    program = ctypes.c_void_p()
    text = source(name).encode()
    _require(nvrtc.nvrtcCreateProgram(ctypes.byref(program), text, b"k.cu", 0, None, None))
    flags = (f"--gpu-architecture={architecture}", *_FLAGS)
    options = (ctypes.c_char_p * len(flags))(*(f.encode() for f in flags))
    try:
        if nvrtc.nvrtcCompileProgram(program, len(flags), options) != 0:
            log = _read(nvrtc, program, "ProgramLog").decode(errors="replace")
            raise SourceRefused(f"NVRTC refuses {name}.cu: {log[:1000]}")
        return _read(nvrtc, program, kind)
    finally:
        nvrtc.nvrtcDestroyProgram(ctypes.byref(program))


def _read(nvrtc: Any, program: ctypes.c_void_p, kind: str) -> bytes:
    """What NVRTC keeps of a program: its PTX, CUBIN or ProgramLog."""
    size = ctypes.c_size_t()
    _require(getattr(nvrtc, f"nvrtcGet{kind}Size")(program, ctypes.byref(size)))
    kept = ctypes.create_string_buffer(size.value)
    _require(getattr(nvrtc, f"nvrtcGet{kind}")(program, kept))
    return kept.raw


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
