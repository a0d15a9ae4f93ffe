"""Sources compiled into a shared library by whatever compiler the machine has."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

C = ("cc", "gcc", "clang")
CXX = ("g++", "clang++")


class NoCompiler(RuntimeError):
    """There is none, or it refuses the source; the message says which."""


def compile_library(
    source: Path, compilers: Sequence[str], flags: Sequence[str], library: Path
) -> None:
    """Compile one source with the first of these compilers that is there, into `library`.

    Raises NoCompiler.
    """
    compiler = next(filter(None, map(shutil.which, compilers)), None)
    if compiler is None:
        raise NoCompiler(f"there is no compiler ({' or '.join(compilers)})")
    command = [compiler, *flags, "-shared", "-fPIC", str(source), "-o", str(library), "-lm"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise NoCompiler(f"{source.name} does not compile: {done.stderr.strip()[:500]}")


def load_library(library: Path) -> ctypes.CDLL:
    """Raises NoCompiler for what is no library of this machine."""
    try:
        return ctypes.CDLL(str(library))
    except OSError as error:
        raise NoCompiler(f"{library.name} cannot be loaded: {error}") from error
