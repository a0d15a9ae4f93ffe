"""A witness on real runtimes: what each gives on the user's own file, with the exact error."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from encoders.contract.contract import RuntimeContract
from gpu_check.conformance.divergence import DivergingNode, first_diverging_node
from gpu_check.runtimes.replay import (
    NotReplayed,
    Replayed,
    onnxruntime_options,
    replay_on_onnxruntime,
)
from gpu_check.runtimes.torch_replay import replay_on_torch
from onnx_import.files import is_fpcore, is_json, is_onnx
from onnx_import.graph import Array, Graph
from refine.domain.properties import Property
from refine.pair.pair import Pair
from refine.results.verdict import ErrorEnclosure, Execution, Refusal, Witness
from refine.search.evaluation import Candidate
from refine.witness.reach import reached_at, standing_of
from refine.witness.witness import (
    computed_outputs,
    confirm,
    confirm_enclosed,
    error_between,
    is_huge,
    real_outputs,
    typed_inputs,
)


def replays(
    witness: Witness, graph: Graph, contract: RuntimeContract, unsafe: Property | None = None
) -> tuple[Execution | Refusal, ...]:
    """Run the witness on onnxruntime, as written and optimised, and on torch; where a property is
    claimed, say whether the outputs lie in its unsafe set."""
    found = []
    for outcome in _outcomes(witness, graph):
        judged = _judged(outcome, witness, graph, contract)
        if unsafe is not None and isinstance(judged, Execution) and isinstance(outcome, Replayed):
            arrays = {
                t: np.asarray(outcome.outputs[t]).reshape(graph.types[t].shape)
                for t in graph.outputs
                if t in outcome.outputs
            }
            if len(arrays) == len(graph.outputs):
                within, slack = standing_of(graph, unsafe, witness.real_inputs, arrays)
                judged = replace(judged, within=within, slack=slack)
        found.append(judged)
    return tuple(found)


def _outcomes(witness: Witness, graph: Graph) -> Iterator[Replayed | NotReplayed]:
    if any(v.dtype != graph.types[n].dtype.numpy for n, v in witness.inputs.items()):
        why = "an input is no number of the model's own type, which is all that runtimes take"
        yield NotReplayed("onnxruntime and torch", why)
        return
    if graph.source is None:
        yield NotReplayed("onnxruntime", "the graph was not read from a file")
    elif is_fpcore(graph.source):
        yield NotReplayed("onnxruntime", "it does not read FPCore; only the emulator ran it")
        return
    elif is_json(graph.source):
        yield NotReplayed("onnxruntime", "it does not read TorchLean graphs")
    else:
        for options in onnxruntime_options():
            outcome = replay_on_onnxruntime(graph.source, witness.inputs, options)
            yield outcome
            if isinstance(outcome, NotReplayed):
                break  # it would say the same again
    yield replay_on_torch(graph, witness.inputs)
    yield replay_on_torch(graph, witness.inputs, "cuda")


def _judged(
    outcome: Replayed | NotReplayed, witness: Witness, graph: Graph, contract: RuntimeContract
) -> Execution | Refusal:
    if isinstance(outcome, NotReplayed):
        return Refusal(outcome.runtime, outcome.why)
    if witness.output not in outcome.outputs:
        return Refusal(outcome.runtime, f"it returns no output '{witness.output}'")
    given = np.asarray(outcome.outputs[witness.output]).astype(np.float64)
    value = float(given.reshape(graph.types[witness.output].shape)[witness.index])
    name = outcome.runtime
    if contract.compute_format is not None:
        name += f" (it computes in the model's own types, not in {contract.compute_format.name})"
    return Execution(name, value, error_between(value, witness.real))


def specified(witness: Witness, pair: Pair) -> tuple[Execution | Refusal, ...]:
    """Run the specification's own file on the witness: what it gives where it runs."""
    graph = pair.spec.graph
    inputs = typed_inputs(graph, {pair.inputs[n]: v for n, v in witness.inputs.items()})
    there = replace(witness, inputs=inputs, output=pair.outputs[witness.output])
    outcome = next(_outcomes(there, graph), None)
    if outcome is None:
        return ()
    shown = _judged(outcome, there, graph, pair.spec.contract)
    return (replace(shown, runtime=f"specification on {shown.runtime}"),)


def run_again(graph: Graph, candidate: Candidate, unsafe: Property | None = None) -> Witness:
    """A saved counterexample evaluated anew: exact value, emulation, real runtimes."""
    if unsafe is not None:
        witness = reached_at(graph, unsafe, candidate)
        found = replays(witness, graph, candidate.execution, unsafe)
        return replace(witness, replays=found)
    witness = confirm_enclosed(graph, candidate) if is_huge(graph) else confirm(graph, candidate)
    return replace(witness, replays=replays(witness, graph, candidate.execution))


@dataclass(frozen=True)
class OutputErrors:
    """What a runtime errs by at every output: per output, flat, |f_rt − f_R| of each element."""

    runtime: str
    errors: Mapping[str, tuple[ErrorEnclosure, ...]]


def every_output(witness: Witness, graph: Graph) -> tuple[OutputErrors, ...]:
    """The witness at all outputs: the emulated execution, then every runtime that runs it."""
    real = real_outputs(graph, witness.real_inputs)

    def judged(runtime: str, outputs: Mapping[str, Array]) -> OutputErrors:
        values = {t: outputs[t].astype(np.float64).reshape(-1) for t in real if t in outputs}
        return OutputErrors(
            runtime,
            {
                t: tuple(error_between(float(v), r) for v, r in zip(flat, real[t], strict=True))
                for t, flat in values.items()
            },
        )

    emulated = computed_outputs(graph, witness.inputs, witness.execution)
    given = (o for o in _outcomes(witness, graph) if isinstance(o, Replayed))
    return (
        judged(f"emulated: {witness.execution.name}", emulated),
        *(judged(o.runtime, {t: np.asarray(v) for t, v in o.outputs.items()}) for o in given),
    )


def diverging_node(witness: Witness, graph: Graph) -> DivergingNode | Refusal | None:
    """The first node at which onnxruntime's bits differ from the emulated execution's."""
    if graph.source is None or not is_onnx(graph.source):
        return Refusal("onnxruntime", "it has no file to run")
    if witness.execution.exact:
        return Refusal("onnxruntime", "the execution is the real network, which has no bits")
    if witness.execution.compute_format is not None:
        return Refusal("onnxruntime", "it computes in the model's own types")
    found = first_diverging_node(graph, graph.source, witness.inputs, witness.execution)
    return Refusal(found.runtime, found.why) if isinstance(found, NotReplayed) else found
