"""Real runtimes on the user's own file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

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
    a process that changes the whole process, numpy included (gpu_check/isolated.py helps).
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
    """onnxruntime on the CPU, on one model file exactly as given.

    Raises RuntimeUnavailable, with onnxruntime's own words, if it refuses the file.
    """

    def __init__(self, model: Path | bytes, options: OnnxRuntimeOptions | None = None) -> None:
        self.options = options or OnnxRuntimeOptions()
        self._library = _onnxruntime()
        settings = self._library.SessionOptions()
        settings.graph_optimization_level = getattr(
            self._library.GraphOptimizationLevel, OPTIMIZATION_LEVELS[self.options.optimization]
        )
        settings.intra_op_num_threads = self.options.threads
        settings.inter_op_num_threads = 1
        settings.log_severity_level = 4
        if self.options.flush_subnormals:
            settings.add_session_config_entry("session.set_denormal_as_zero", "1")
        source = model if isinstance(model, bytes) else str(model)
        try:
            self._session = self._library.InferenceSession(
                source, settings, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's own classes share no base but Exception
            raise RuntimeUnavailable(f"onnxruntime refuses the model: {error}") from error

    def describe(self) -> str:
        return f"onnxruntime {self._library.__version__} (CPU, {self.options.describe()})"

    def input_shapes(self) -> Mapping[str, tuple[int, ...]]:
        """The shape of every input, symbolic and unknown dimensions read as 1."""
        return {
            i.name: tuple(d if isinstance(d, int) and d > 0 else 1 for d in i.shape)
            for i in self._session.get_inputs()
        }

    def run(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        """All outputs on one input (arrays of the model's shapes and dtypes).

        Raises RuntimeUnavailable if onnxruntime fails on it.
        """
        names = [o.name for o in self._session.get_outputs()]
        feeds = {name: np.ascontiguousarray(value) for name, value in inputs.items()}
        options = self._library.RunOptions()
        options.log_severity_level = 4
        try:
            return dict(zip(names, self._session.run(names, feeds, options), strict=True))
        except Exception as error:
            raise RuntimeUnavailable(f"onnxruntime fails on this input: {error}") from error


def onnxruntime_version() -> str:
    """Raises RuntimeUnavailable where there is no onnxruntime."""
    return str(_onnxruntime().__version__)


def save_optimised(model: Path, level: str, target: Path) -> None:
    """Write the model that onnxruntime runs after its own optimisations, `level` of them.

    Beyond "basic" the file fits this machine only. Raises RuntimeUnavailable if onnxruntime
    refuses the model.
    """
    library = _onnxruntime()
    settings = library.SessionOptions()
    settings.graph_optimization_level = getattr(
        library.GraphOptimizationLevel, OPTIMIZATION_LEVELS[level]
    )
    settings.optimized_model_filepath = str(target)
    settings.log_severity_level = 4
    try:
        library.InferenceSession(str(model), settings, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own classes share no base but Exception
        raise RuntimeUnavailable(f"onnxruntime refuses the model: {error}") from error


def _onnxruntime() -> Any:
    """The library, imported when first needed: that takes a noticeable fraction of a second."""
    try:
        return import_module("onnxruntime")
    except ImportError as error:
        raise RuntimeUnavailable(f"onnxruntime cannot be imported: {error}") from error
