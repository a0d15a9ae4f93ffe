"""A runtime held to a contract on many inputs of a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from encoders.contract.contract import RuntimeContract
from gpu_check.conformance.conformance import Conformance, NodeCheck, WrongMode, conformance
from gpu_check.runtimes.runtimes import RuntimeUnavailable
from onnx_import.errors import ModelError
from onnx_import.graph import Array, Graph
from refine.bounds.point_bounds import bound_at
from refine.options.runtime_choice import RuntimeChoice, machine


def judged(
    graph: Graph,
    choice: RuntimeChoice,
    contract: RuntimeContract,
    batch: Sequence[Mapping[str, Array]],
    tell: Callable[[str], None] = lambda text: None,
    seen: Callable[[NodeCheck], None] = lambda check: None,
) -> Conformance:
    """The outcome; a number of threads that explains every difference is named as the cause.
    `seen` is told of every node that has been judged.

    Raises ModelError where the runtime cannot run the model.
    """
    try:
        outcome = _run(graph, choice, contract, batch=batch, tell=tell, seen=seen)
        threads = dict(contract.provenance).get("threads", "")
        if not outcome.divergences or threads in ("", str(choice.options.threads)):
            return outcome
        other = choice.with_threads(int(threads))
        if _run(
            graph, other, contract, batch=batch, tell=tell, seen=lambda check: None
        ).divergences:
            return outcome
    except RuntimeUnavailable as error:
        raise ModelError(str(error)) from error
    cause = WrongMode("threads", threads, str(choice.options.threads))
    return replace(outcome, modes=(*outcome.modes, cause))


def _run(
    graph: Graph,
    choice: RuntimeChoice,
    contract: RuntimeContract,
    *,
    batch: Sequence[Mapping[str, Array]],
    tell: Callable[[str], None],
    seen: Callable[[NodeCheck], None],
) -> Conformance:
    with machine(choice, graph) as one:
        return conformance(
            graph, one, contract, samples=batch, tell=tell, bound=bound_at, seen=seen
        )
