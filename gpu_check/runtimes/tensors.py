"""Every tensor of a model as a runtime computes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import numpy as np
import onnx
from onnx import helper

from gpu_check.runtimes.kernels import Kernels, OnnxKernels, varying_constants
from gpu_check.runtimes.runtimes import OnnxRuntime, OnnxRuntimeOptions
from onnx_import.graph import Array, DType, Graph
from onnx_import.tensors import code_of


class Machine(Protocol):
    """A runtime with one model: its tensors on given inputs, and its nodes one by one."""

    @property
    def kernels(self) -> Kernels:
        """The runtime's kernels, one node at a time."""

    def describe(self) -> str: ...

    def tensors(self, samples: Sequence[Mapping[str, Array]]) -> Mapping[str, Array]:
        """Arrays (samples, *shape) of every tensor that the runtime shows, outputs included.

        Raises RuntimeUnavailable if it refuses the model or fails on a sample.
        """


def comparable(dtype: DType) -> bool:
    """Floating-point and quantised numbers are shown and compared, indices and truth values not."""
    return dtype.is_float or dtype in (DType.INT8, DType.UINT8, DType.INT32)


@dataclass(frozen=True)
class OnnxMachine:
    """onnxruntime on a model file, with all tensors of the graph made outputs.

    Where onnxruntime may fuse nodes (any optimisation level but "none") that would change what it
    does, and only the model's own outputs are asked for.
    """

    graph: Graph
    model: onnx.ModelProto
    options: OnnxRuntimeOptions = field(default_factory=OnnxRuntimeOptions)

    @property
    def kernels(self) -> OnnxKernels:
        return OnnxKernels(self.graph, varying_constants(self.graph), self.options)

    def describe(self) -> str:
        return self.kernels.describe()

    @cached_property
    def _session(self) -> OnnxRuntime:
        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        if self.options.optimization == "none":
            written = [t for node in model.graph.node for t in node.output if t]
            shown = {o.name for o in model.graph.output}
            for tensor in written:
                kind = self.graph.types.get(tensor)
                if tensor not in shown and kind is not None and comparable(kind.dtype):
                    info = helper.make_tensor_value_info(tensor, code_of(kind.dtype), None)
                    model.graph.output.append(info)
        return OnnxRuntime(model.SerializeToString(), self.options)

    def tensors(self, samples: Sequence[Mapping[str, Array]]) -> Mapping[str, Array]:
        runs = [self._session.run(sample) for sample in samples]
        return {
            t: np.stack([run[t].reshape(self.graph.types[t].shape) for run in runs])
            for t in runs[0]
            if t in self.graph.types
        }
