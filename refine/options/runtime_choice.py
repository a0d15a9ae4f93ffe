"""What a user writes about a runtime: `numpy`, `onnxruntime:threads=2`, `torch:device=cuda`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace

import onnx

from gpu_check.runtimes.library_kernels import (
    Library,
    LibraryKernels,
    LibraryMachine,
    jax_library,
    numpy_library,
    torch_library,
)
from gpu_check.runtimes.runtimes import (
    DEVICES,
    OPTIMIZATION_LEVELS,
    PRECISIONS,
    LibraryOptions,
    OnnxRuntimeOptions,
)
from gpu_check.runtimes.tensors import Machine, OnnxMachine
from onnx_import.errors import ModelError, UnsupportedModel
from onnx_import.files import is_json
from onnx_import.graph import Graph
from onnx_import.onnx.proto import read_proto

RUNTIMES = ("onnxruntime", "numpy", "torch", "jax")
_MOST_THREADS = 256
_KEYS = {"flush_subnormals": "flush"}


@dataclass(frozen=True)
class RuntimeChoice:
    """A runtime by name, with its settings."""

    name: str
    options: OnnxRuntimeOptions | LibraryOptions

    def written(self) -> str:
        """What `runtime_choice` reads as this choice."""
        plain, settings = type(self.options)(), []
        for field in fields(self.options):
            value = getattr(self.options, field.name)
            if value != getattr(plain, field.name):
                key = _KEYS.get(field.name, field.name)
                settings.append(key if value is True else f"{key}={value}")
        return ":".join([self.name, *([",".join(settings)] if settings else [])])

    def with_threads(self, threads: int) -> RuntimeChoice:
        """The same runtime with so many threads."""
        return replace(self, options=replace(self.options, threads=threads))


def runtime_choice(text: str) -> RuntimeChoice:
    """Raises ModelError for a runtime or a setting that is not known."""
    name, _, settings = text.partition(":")
    if name not in RUNTIMES:
        raise ModelError(f"there is no runtime '{name}' here; give {', '.join(RUNTIMES)}")
    if settings and name == "numpy":
        raise ModelError(f"the runtime {name} has no settings here")
    options = OnnxRuntimeOptions() if name == "onnxruntime" else LibraryOptions()
    choice = RuntimeChoice(name, options)
    for setting in filter(None, settings.split(",")):
        choice = _changed(choice, setting)
    return choice


def _changed(choice: RuntimeChoice, setting: str) -> RuntimeChoice:
    key, _, value = setting.partition("=")
    if key == "threads" and value.isdecimal() and 1 <= int(value) <= _MOST_THREADS:
        return choice.with_threads(int(value))
    match choice.options:
        case OnnxRuntimeOptions() as options:
            if setting == "flush":
                return replace(choice, options=replace(options, flush_subnormals=True))
            if key == "optimization" and value in OPTIMIZATION_LEVELS:
                return replace(choice, options=replace(options, optimization=value))
            known = f"threads=N, flush or optimization={'|'.join(OPTIMIZATION_LEVELS)}"
        case LibraryOptions() as library:
            if key == "device" and value in DEVICES:
                return replace(choice, options=replace(library, device=value))
            if key == "precision" and value in PRECISIONS:
                return replace(choice, options=replace(library, precision=value))
            known = f"threads=N, device={'|'.join(DEVICES)} or precision={'|'.join(PRECISIONS)}"
    raise ModelError(f"'{setting}' is no setting of {choice.name} here: use {known}")


@contextmanager
def machine(choice: RuntimeChoice, graph: Graph) -> Iterator[Machine]:
    """The runtime with this model.

    Raises UnsupportedModel where it cannot read the file, RuntimeUnavailable where there is no
    such runtime.
    """
    options = choice.options
    if isinstance(options, LibraryOptions):
        library = _library(choice.name, options)
        yield LibraryMachine(graph, LibraryKernels(graph, library))
        return
    if graph.source is None or is_json(graph.source):
        raise UnsupportedModel(f"{choice.name} runs ONNX files, and this model is none")
    model, _, _ = read_proto(graph.source, graph.allowed)
    if any(t.data_location == onnx.TensorProto.EXTERNAL for t in model.graph.initializer):
        raise UnsupportedModel(
            f"'{graph.source}' keeps weights in other files; save it as one file to run its nodes"
        )
    yield OnnxMachine(graph, model, options)


def _library(name: str, options: LibraryOptions) -> Library:
    """Raises RuntimeUnavailable where it is not installed."""
    match name:
        case "numpy":
            return numpy_library()
        case "jax":
            return jax_library(options)
        case _:
            return torch_library(options)
