"""Does the runtime of this machine honour the contract that a verdict rests on? A quick look.

What was proved holds for runtimes that honour the contract, and is not changed by what is seen
here. `refine conform` looks longer, and says which field of the contract is wrong.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np

from encoders.contract.contract import RuntimeContract
from encoders.program import program_of
from gpu_check.conformance.conformance import BRIEF, Conformance, How, conformance
from gpu_check.runtimes.runtimes import RuntimeUnavailable
from onnx_import import is_onnx
from onnx_import.errors import ModelError
from onnx_import.graph import Array, Graph
from refine.bounds.point_bounds import bound_at
from refine.domain.domain import Domain
from refine.options.runtime_choice import RuntimeChoice, machine, runtime_choice
from refine.results.verdict import Conduct

_INPUTS = 16
_WORK = 2**26  # multiply-adds
_MOST_SAMPLED = 2**22  # elements of all inputs
_LARGEST = 2**28  # of one input, beyond which nobody looks


def conduct_of(
    graph: Graph,
    domain: Domain,
    contract: RuntimeContract,
    seed: int,
    names: Mapping[str, str] | None = None,
) -> Conduct | None:
    """The runtime on which the contract was probed, else onnxruntime on one thread, on a few random
    inputs of the domain; None for a contract without rounding and for what is no ONNX file.

    `names` gives the graph's own name of each input of the domain, where they differ. Whatever
    happens while a runtime is looked at is said in the answer, and raises nothing.
    """
    sampled = domain.boxes[0].sample(np.random.default_rng(seed), inputs_of(graph))
    return conduct_on(
        graph, contract, {t if names is None else names[t]: v for t, v in sampled.items()}
    )


def inputs_of(graph: Graph) -> int:
    """How many inputs a quick look takes."""
    sampled = sum(graph.types[t].size for t in graph.inputs)
    few = min(_WORK // max(program_of(graph).work, 1), _MOST_SAMPLED // max(sampled, 1))
    return int(np.clip(few, 1, _INPUTS))


def conduct_on(
    graph: Graph, contract: RuntimeContract, points: Mapping[str, Array]
) -> Conduct | None:
    """As `conduct_of`, on given inputs, (inputs, *tensor shape)."""
    if contract.exact or graph.source is None or not is_onnx(graph.source):
        return None
    choice = _choice(contract)
    if program_of(graph).work > _LARGEST:
        return Conduct(choice.name, 0, None, "the model is large; refine conform looks")
    typed = {t: v.astype(graph.types[t].dtype.numpy) for t, v in points.items()}
    count = min((len(v) for v in typed.values()), default=1)
    batch: list[Mapping[str, Array]] = [{t: v[k] for t, v in typed.items()} for k in range(count)]
    try:
        with machine(choice, graph) as one, np.errstate(all="ignore"):
            return _conduct(
                conformance(graph, one, contract, samples=batch, depth=BRIEF, bound=bound_at)
            )
    except (ModelError, RuntimeUnavailable) as error:
        return Conduct(choice.name, 0, None, " ".join(str(error).split()))
    except MemoryError:
        return Conduct(choice.name, 0, None, "running it needs more memory than there is")
    except Exception as error:  # the proof is finished, and its answer comes out
        return Conduct(choice.name, 0, None, f"looking at it failed, a bug of ours: {error!r}")


def _choice(contract: RuntimeContract) -> RuntimeChoice:
    provenance = dict(contract.provenance)
    written = provenance.get("run_as", provenance.get("runtime", "").partition(" ")[0])
    try:
        return runtime_choice(written)
    except ModelError:
        return runtime_choice("onnxruntime")


def _conduct(outcome: Conformance) -> Conduct:
    broken = [f"its {m.field} is {m.found}, not {m.stated}" for m in outcome.modes]
    for first in outcome.divergences[:1]:
        d = first.divergence
        assert d is not None
        given, expected = (
            (d.given.hex(), d.expected.hex())
            if repr(d.given) == repr(d.expected)
            else (repr(d.given), repr(d.expected))
        )
        broken.append(
            f"first at {first.node.describe()}, element {list(d.index)}: it gives {given}, the "
            f"contract {expected}"
        )
    if broken:
        return Conduct(outcome.runtime, outcome.samples, False, "; ".join(broken))
    counted = {how: sum(n.how is how for n in outcome.nodes) for how in How}
    unseen = Counter(n.note for n in outcome.nodes if n.how is How.UNSEEN)
    left = [(count, f"not compared ({why})") for why, count in unseen.most_common()]
    parts = (
        (counted[How.BITS], "bit for bit"),
        (counted[How.ENCLOSURE], f"within their rounding error on {BRIEF.enclosed} of the inputs"),
        (counted[How.THROUGH], "with what they lead to"),
        *left,
    )
    text = ", ".join(f"{n} {what}" for n, what in parts if n)
    if not outcome.compared:
        text = "no layer could be compared" + (f": {text}" if text else "")
        return Conduct(outcome.runtime, outcome.samples, None, text)
    return Conduct(outcome.runtime, outcome.samples, True, f"layers: {text}")
