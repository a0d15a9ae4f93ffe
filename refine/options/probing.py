"""A runtime's contract for one model, found out by running it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from encoders.program import program_of
from gpu_check.probe.probed_contract import Probed, probe_contract
from gpu_check.runtimes.runtimes import OnnxRuntimeOptions, RuntimeUnavailable
from gpu_check.runtimes.tensors import Machine
from onnx_import.errors import ModelError, UnsupportedModel
from onnx_import.graph import Array, Graph
from refine.domain.random_inputs import sampled_inputs
from refine.options.runtime_choice import RuntimeChoice, machine

_IN_FILE = "-1..1"
_SAMPLES_IN_FILE = 4


def probed(
    graph: Graph,
    choice: RuntimeChoice,
    samples: int = 32,
    exhaustive: bool = False,
    seed: int = 0,
    tell: Callable[[str], None] = lambda text: None,
) -> Probed:
    """Probe the runtime on every node. Raises ModelError where that cannot be done, and for a node
    that has no meaning."""
    _ = program_of(graph).checked
    options = choice.options
    if isinstance(options, OnnxRuntimeOptions) and options.optimization != "none":
        raise UnsupportedModel(
            "an optimising runtime rewrites the graph before it computes, so its nodes cannot be "
            "probed one by one; use optimization=none, or probe the model that it saves"
        )
    more = choice.with_threads(options.threads + max(os.cpu_count() or 1, 2))
    try:
        with machine(choice, graph) as one, machine(more, graph) as two:
            threaded = None if choice.name == "numpy" else two.kernels
            whole = _whole(graph, one, seed)
            found = probe_contract(
                graph,
                one.kernels,
                threaded=threaded,
                exhaustive=exhaustive,
                samples=samples,
                seed=seed,
                tell=tell,
                whole=whole,
            )
    except RuntimeUnavailable as error:
        raise ModelError(str(error)) from error
    run_as = (("threads", str(options.threads)), ("run_as", choice.written()))
    provenance = (*found.contract.provenance, *run_as)
    return replace(found, contract=replace(found.contract, provenance=provenance))


def _whole(graph: Graph, one: Machine, seed: int) -> Mapping[str, Array]:
    """Every tensor that the runtime shows when it runs the file on a few random inputs; nothing,
    where it does not run them."""
    try:
        batch = sampled_inputs(graph, (_IN_FILE,), _SAMPLES_IN_FILE, seed)
        shown = one.tensors(batch)
    except (ModelError, RuntimeUnavailable):
        return {}
    return {**{t: np.stack([s[t] for s in batch]) for t in graph.inputs}, **shown}
