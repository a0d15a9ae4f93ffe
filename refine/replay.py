"""A witness on real runtimes: what each gives on the user's own file, with the exact error."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from encoders.contract import RuntimeContract
from gpu_check.replay import NotReplayed, replay_on_onnxruntime
from onnx_import.fpcore import is_fpcore
from onnx_import.graph import Graph
from onnx_import.torchlean import is_json
from refine.search import Candidate
from refine.verdict import Execution, Refusal, Witness
from refine.witness import confirm, error_between


def replays(
    witness: Witness, graph: Graph, contract: RuntimeContract
) -> tuple[Execution | Refusal, ...]:
    """Run the witness on onnxruntime: the file as written, one thread."""
    if graph.source is None:
        return (Refusal("onnxruntime", "the graph was not read from a file"),)
    if is_fpcore(graph.source):
        return (Refusal("onnxruntime", "it does not read FPCore; only the emulator ran it"),)
    if is_json(graph.source):
        return (Refusal("onnxruntime", "it does not read TorchLean graphs"),)
    outcome = replay_on_onnxruntime(graph.source, witness.inputs)
    if isinstance(outcome, NotReplayed):
        return (Refusal(outcome.runtime, outcome.why),)
    if witness.output not in outcome.outputs:
        return (Refusal(outcome.runtime, f"it returns no output '{witness.output}'"),)
    given = np.asarray(outcome.outputs[witness.output]).astype(np.float64)
    value = float(given.reshape(graph.types[witness.output].shape)[witness.index])
    name = outcome.runtime
    if contract.compute_format is not None:
        name += f" (it computes in the model's own types, not in {contract.compute_format.name})"
    return (Execution(name, value, error_between(value, witness.real_lo, witness.real_hi)),)


def run_again(graph: Graph, candidate: Candidate) -> Witness:
    """A saved counterexample evaluated anew: exact value, emulation, real runtimes."""
    witness = confirm(graph, candidate)
    return replace(witness, replays=replays(witness, graph, candidate.execution))
