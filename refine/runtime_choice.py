"""What a user writes about a runtime: `numpy`, `onnxruntime`, `onnxruntime:threads=2,flush`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import onnx

from gpu_check.isolated import place_for
from gpu_check.library_kernels import (
    LibraryKernels,
    LibraryMachine,
    numpy_library,
    torch_library,
)
from gpu_check.runtimes import OPTIMIZATION_LEVELS, OnnxRuntimeOptions
from gpu_check.tensors import Machine, OnnxMachine
from onnx_import.errors import ModelError, UnsupportedModel
from onnx_import.graph import Graph
from onnx_import.proto import read_proto
from onnx_import.torchlean import is_json

RUNTIMES = ("onnxruntime", "numpy", "torch")
_MOST_THREADS = 256


@dataclass(frozen=True)
class RuntimeChoice:
    """A runtime by name, with its settings."""

    name: str
    options: OnnxRuntimeOptions


def runtime_choice(text: str) -> RuntimeChoice:
    """Raises ModelError for a runtime or a setting that is not known."""
    name, _, settings = text.partition(":")
    if name not in RUNTIMES:
        raise ModelError(f"there is no runtime '{name}' here; give {', '.join(RUNTIMES)}")
    options = OnnxRuntimeOptions()
    if settings and name != "onnxruntime":
        raise ModelError(f"the runtime {name} has no settings here")
    for setting in filter(None, settings.split(",")):
        options = _changed(options, setting)
    return RuntimeChoice(name, options)


def _changed(options: OnnxRuntimeOptions, setting: str) -> OnnxRuntimeOptions:
    key, _, value = setting.partition("=")
    if setting == "flush":
        return replace(options, flush_subnormals=True)
    if key == "threads" and value.isdecimal() and 1 <= int(value) <= _MOST_THREADS:
        return replace(options, threads=int(value))
    if key == "optimization" and value in OPTIMIZATION_LEVELS:
        return replace(options, optimization=value)
    raise ModelError(
        f"'{setting}' is no setting of onnxruntime here: use threads=N, flush or optimization="
        f"{'|'.join(OPTIMIZATION_LEVELS)}"
    )


@contextmanager
def machine(choice: RuntimeChoice, graph: Graph) -> Iterator[Machine]:
    """The runtime with this model.

    Raises UnsupportedModel where it cannot read the file, RuntimeUnavailable where there is no
    such runtime.
    """
    if choice.name != "onnxruntime":
        library = numpy_library() if choice.name == "numpy" else torch_library()
        yield LibraryMachine(graph, LibraryKernels(graph, library))
        return
    if graph.source is None or is_json(graph.source):
        raise UnsupportedModel(f"{choice.name} runs ONNX files, and this model is none")
    model, _, _ = read_proto(graph.source)
    if any(t.data_location == onnx.TensorProto.EXTERNAL for t in model.graph.initializer):
        raise UnsupportedModel(
            f"'{graph.source}' keeps weights in other files; save it as one file to run its nodes"
        )
    with place_for(choice.options) as place:
        yield OnnxMachine(graph, model, choice.options, place)
