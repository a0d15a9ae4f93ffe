"""onnxruntime in a process of its own, for settings that change a whole process."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import BrokenExecutor, Executor, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

from gpu_check.children import start_worker
from gpu_check.runtimes import OnnxRuntime, OnnxRuntimeOptions, RuntimeUnavailable
from onnx_import.graph import Array


class Runs(Protocol):
    """A model ready to run."""

    def run(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]: ...


@contextmanager
def place_for(options: OnnxRuntimeOptions) -> Iterator[Executor | None]:
    """Where sessions with these options must run: None means in this process."""
    if not options.flush_subnormals:
        yield None
        return
    fresh = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, fresh, start_worker, (os.getpid(),)) as pool:
        yield pool


def opened(model: bytes, options: OnnxRuntimeOptions, place: Executor | None) -> Runs:
    """A session here or there. Raises RuntimeUnavailable, perhaps only when it first runs, if
    onnxruntime refuses the model."""
    if place is None:
        return OnnxRuntime(model, options)
    return _Elsewhere(model, options, place)


@dataclass(frozen=True)
class _Elsewhere:
    model: bytes
    options: OnnxRuntimeOptions
    place: Executor

    def run(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        try:
            return self.place.submit(_run, self.model, self.options, dict(inputs)).result()
        except BrokenExecutor as error:
            raise RuntimeUnavailable("onnxruntime's own process ended unexpectedly") from error


def _run(
    model: bytes, options: OnnxRuntimeOptions, inputs: Mapping[str, Array]
) -> Mapping[str, Array]:
    return _session(model, options).run(inputs)


@lru_cache(maxsize=64)
def _session(model: bytes, options: OnnxRuntimeOptions) -> OnnxRuntime:
    return OnnxRuntime(model, options)
