"""Replaying an input on real runtimes, on the user's own file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gpu_check.runtimes.runtimes import OnnxRuntime, OnnxRuntimeOptions, RuntimeUnavailable
from onnx_import.graph import Array


@dataclass(frozen=True)
class Replayed:
    """What a runtime gave: all outputs by name."""

    runtime: str
    outputs: Mapping[str, Array]


@dataclass(frozen=True)
class NotReplayed:
    """A runtime that could not run the model, and why."""

    runtime: str
    why: str


def replay_on_onnxruntime(
    model: Path | bytes, inputs: Mapping[str, Array], options: OnnxRuntimeOptions | None = None
) -> Replayed | NotReplayed:
    """Run the model file on onnxruntime: by default as written, on one thread."""
    try:
        runtime = OnnxRuntime(model, options)
        return Replayed(runtime.describe(), runtime.run(inputs))
    except RuntimeUnavailable as error:
        return NotReplayed("onnxruntime", str(error))


def onnxruntime_options() -> tuple[OnnxRuntimeOptions, ...]:
    """As written and fully optimised, on one thread and on all processors."""
    threads = sorted({1, os.cpu_count() or 1})
    return tuple(OnnxRuntimeOptions(o, t) for o in ("none", "all") for t in threads)
