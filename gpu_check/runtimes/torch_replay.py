"""Replaying an input in PyTorch: the graph node by node, each as the call people write for it."""

from __future__ import annotations

from collections.abc import Mapping

from gpu_check.runtimes.library_kernels import LibraryKernels, LibraryMachine, torch_library
from gpu_check.runtimes.replay import NotReplayed, Replayed
from gpu_check.runtimes.runtimes import LibraryOptions, RuntimeUnavailable
from onnx_import.graph import Array, Graph


def replay_on_torch(
    graph: Graph, inputs: Mapping[str, Array], device: str = "cpu"
) -> Replayed | NotReplayed:
    """Run the graph on one input in torch on a device, `cpu` or `cuda`; a node without a call of
    torch's for it, and what torch refuses, are said in the answer."""
    try:
        library = torch_library(LibraryOptions(device=device))
    except RuntimeUnavailable as error:
        return NotReplayed(f"torch ({device})", str(error))
    try:
        values = LibraryMachine(graph, LibraryKernels(graph, library)).tensors([inputs])
    except (RuntimeUnavailable, RuntimeError, TypeError, LookupError, ValueError) as error:
        return NotReplayed(library.title, str(error).splitlines()[0])
    outputs = {t: graph.held(t) if t in graph.constants else values[t][0] for t in graph.outputs}
    return Replayed(library.title, outputs)
