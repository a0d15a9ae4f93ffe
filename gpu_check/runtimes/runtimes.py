"""Real runtimes on the user's own file."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from gpu_check.runtimes.isolated import Forgotten, Lost, NotInstalled, Refused, all_held, server_for
from onnx_import.graph import Array

OPTIMIZATION_LEVELS = {
    "none": "ORT_DISABLE_ALL",
    "basic": "ORT_ENABLE_BASIC",
    "extended": "ORT_ENABLE_EXTENDED",
    "all": "ORT_ENABLE_ALL",
}


class RuntimeUnavailable(RuntimeError):
    """A runtime that cannot run this model here; the message says which and why."""


@dataclass(frozen=True)
class OnnxRuntimeOptions:
    """`optimization` is a key of OPTIMIZATION_LEVELS; `threads` counts intra-operator threads.

    `flush_subnormals` asks onnxruntime to treat subnormal numbers as zero. On the first session of
    a process that changes the whole process, so that such sessions share one with no others.
    """

    optimization: str = "none"
    threads: int = 1
    flush_subnormals: bool = False

    def describe(self) -> str:
        flushing = ", subnormals flushed" if self.flush_subnormals else ""
        return f"optimisation {self.optimization}, {self.threads} thread(s){flushing}"


DEVICES = ("cpu", "cuda")
PRECISIONS = ("highest", "high", "medium")


@dataclass(frozen=True)
class LibraryOptions:
    """How a library of tensors runs; numpy has no choice.

    `precision` is torch's for products in float32: with "high" and "medium" cards use TF32, and
    processors may use bfloat16; only with "highest" are sums in 16 bits kept in float32 throughout.
    """

    threads: int = 1
    device: str = "cpu"
    precision: str = "highest"

    def describe(self) -> str:
        coarse = "" if self.precision == "highest" else f", precision {self.precision}"
        if self.device == "cpu":
            return f"CPU, {self.threads} thread(s){coarse}"
        return f"{self.device}{coarse}"


class OnnxRuntime:
    """onnxruntime on the CPU, on one model file exactly as given, in a process of its own.

    Raises RuntimeUnavailable, with onnxruntime's own words, if it refuses the file or crashes.
    """

    def __init__(self, model: Path | bytes, options: OnnxRuntimeOptions | None = None) -> None:
        self.options = options or OnnxRuntimeOptions()
        self._server = server_for(self.options if self.options.flush_subnormals else None)
        self._source = model if isinstance(model, bytes) else str(model.resolve())
        self._key = next(self._server.keys)
        weakref.finalize(self, self._server.leaving.append, self._key)
        self._inputs = self._opened()

    def describe(self) -> str:
        return f"onnxruntime {onnxruntime_version()} (CPU, {self.options.describe()})"

    def input_shapes(self) -> Mapping[str, tuple[int, ...]]:
        """The shape of every input, symbolic and unknown dimensions read as 1."""
        return {
            name: tuple(d if isinstance(d, int) and d > 0 else 1 for d in shape)
            for name, shape in self._inputs
        }

    def run(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        """All outputs on one input (arrays of the model's shapes and dtypes).

        Raises RuntimeUnavailable if onnxruntime fails or crashes on it.
        """
        asked = (self._key, all_held(inputs))
        with _telling("onnxruntime fails on this input: "):
            try:
                outputs: Mapping[str, Array] = self._server.ask("run", *asked)
            except Forgotten:  # another model has ended the process since
                self._inputs = self._opened()
                outputs = self._server.ask("run", *asked)
        return outputs

    def _opened(self) -> Sequence[tuple[str, Sequence[object]]]:
        level = OPTIMIZATION_LEVELS[self.options.optimization]
        with _telling("onnxruntime refuses the model: "):
            inputs: Sequence[tuple[str, Sequence[object]]] = self._server.ask(
                "open",
                self._key,
                self._source,
                level,
                self.options.threads,
                self.options.flush_subnormals,
            )
        return inputs


def onnxruntime_version() -> str:
    """Raises RuntimeUnavailable where there is no onnxruntime."""
    with _telling(""):
        return str(server_for().ask("version"))


def save_optimised(model: Path, level: str, target: Path) -> None:
    """Write the model that onnxruntime runs after its own optimisations, `level` of them.

    Beyond "basic" the file fits this machine only. Raises RuntimeUnavailable if onnxruntime
    refuses the model or crashes on it.
    """
    files = str(model.resolve()), OPTIMIZATION_LEVELS[level], str(target.resolve())
    with _telling("onnxruntime refuses the model: "):
        server_for().ask("optimise", *files)


@contextmanager
def _telling(refused: str) -> Iterator[None]:
    """Whatever becomes of a request is said in a sentence."""
    try:
        yield
    except Refused as error:
        raise RuntimeUnavailable(f"{refused}{error}") from error
    except NotInstalled as error:
        raise RuntimeUnavailable(f"onnxruntime cannot be imported: {error}") from error
    except Lost as error:
        raise RuntimeUnavailable(str(error)) from error
    except MemoryError as error:
        raise RuntimeUnavailable("onnxruntime needs more memory than there is") from error
