"""The gradients of a framework beside the rules: torch.autograd or JAX on the same numbers.

Node by node, backward from the outputs: at the numbers that the node reads, with drawn cotangents,
what onnxruntime gives of the rule, and what the framework gives that differentiates its own call
for the operator. Then the whole network at once. Both are held to what is proved of two executions
of the rule from these numbers. A node that is outside takes the derivative by another formula, less
accurately, or of something else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from encoders.arithmetic.exact_fields import Balls
from encoders.contract.presets import IEEE_ANY, SEQUENTIAL
from encoders.numbers.enclosure import FloatArray, add_up, point
from encoders.program import program_of
from gpu_check.emulator.emulator import emulate
from gpu_check.runtimes.autograd import own_gradient
from gpu_check.runtimes.library_kernels import Library
from gpu_check.runtimes.runtimes import OnnxRuntime, RuntimeUnavailable
from onnx_import import load
from onnx_import.errors import UnsupportedModel
from onnx_import.graph import Array, Graph, build_graph
from onnx_import.onnx.writer import model_of
from refine.bounds.evaluated import values_at
from refine.bounds.network import InputBox, Known, network_bounds
from refine.gradients.checking import TIED, Alone, alone, tied, whole
from refine.gradients.differentiate import OWN

WHOLE = "the whole network"
_BALLS = Balls(128)
_FEW = 2**12  # numbers of a graph that are bounded one by one, back to the inputs


@dataclass(frozen=True)
class Beside:
    """One node, or all of them: the largest difference between the rule and the framework, the
    bound where the most of it is taken, and what share that is; `same` says that all bits are.
    Where nothing was compared `why` says why."""

    node: str
    op: str
    apart: float = np.nan
    bound: float = np.nan
    share: float = np.nan
    same: bool = False
    why: str = ""

    @property
    def outside(self) -> bool:
        """Are they further apart than is proved of two executions?"""
        return not self.why and not self.share <= 1

    @property
    def status(self) -> str:
        """In a word or two how they stand to each other."""
        if self.why:
            return self.why
        if self.same:
            return "the same bits"
        return "outside" if self.outside else "within"


def beside(
    graph: Graph,
    inputs: Mapping[str, Array],
    library: Library,
    *,
    rules: str = OWN,
    seed: int = 0,
) -> Iterator[Beside]:
    """Every node that has a derivative, the last first, and then the whole network by its inputs.

    Raises UnsupportedModel for an operator without a meaning.
    """
    rng = np.random.default_rng(seed)
    given = {t: np.asarray(inputs[t]).astype(graph.types[t].dtype.numpy) for t in graph.inputs}
    samples = {t: v[np.newaxis] for t, v in given.items()}
    values = {t: v[0] for t, v in emulate(graph, samples, SEQUENTIAL, every_tensor=True).items()}
    for step in reversed(program_of(graph).steps):
        if not graph.types[step.output].dtype.is_float:
            continue
        try:
            both = alone(graph, step, rules=rules)
        except UnsupportedModel as error:
            yield Beside(step.name, step.node.op, why=str(error))
            continue
        if both is not None:
            held = {**graph.constants, **values}
            at = {t: np.asarray(held[t]) for t in both.forward.inputs}
            fixed = frozenset(t for t in at if graph.is_constant(t))
            found = _compared(both, at, fixed, library, step.name, step.node.op, rng)
            if found.outside and tied(both, {t: _BALLS.constant(v) for t, v in at.items()}):
                found = replace(found, why=TIED)
            yield found
    yield from _whole(graph, given, library, rules, rng)


def _whole(
    graph: Graph,
    given: Mapping[str, Array],
    library: Library,
    rules: str,
    rng: np.random.Generator,
) -> Iterator[Beside]:
    outputs = [t for t in graph.outputs if graph.types[t].dtype.is_float]
    wrt = [t for t in graph.inputs if graph.types[t].dtype.is_float]
    if len(outputs) != 1 or len(graph.outputs) != 1:
        why = "it has several outputs: --of is not asked here"
        yield Beside(WHOLE, "", why=why)
        return
    try:
        both = whole(graph, wrt, rules=rules)
    except UnsupportedModel as error:
        yield Beside(WHOLE, "", why=str(error))
        return
    yield _compared(both, given, frozenset(), library, WHOLE, "", rng)


def _compared(
    both: Alone,
    at: Mapping[str, Array],
    fixed: frozenset[str],
    library: Library,
    node: str,
    op: str,
    rng: np.random.Generator,
) -> Beside:
    (output,) = both.forward.outputs
    kind = both.forward.types[output]
    up = (rng.integers(1, 17, kind.shape) / 16 * rng.choice([-1, 1], kind.shape)).astype(
        kind.dtype.numpy
    )
    try:
        _, theirs = own_gradient(library, both.forward, at, up, tuple(both.wrt))
    except (RuntimeUnavailable, RuntimeError, TypeError, LookupError, ValueError) as error:
        return Beside(node, op, why=f"not compared: {str(error).splitlines()[0]}")
    try:
        ours, allowed = _rule(both, at, fixed, up)
    except (RuntimeUnavailable, UnsupportedModel) as error:
        return Beside(node, op, why=f"not compared: {str(error).splitlines()[0]}")
    apart, share, bound, same = 0.0, 0.0, 0.0, True
    for t, name in both.wrt.items():
        a, b = np.asarray(ours[name]), theirs[t].reshape(ours[name].shape)
        same &= a.tobytes() == b.astype(a.dtype).tobytes()
        off = np.abs(np.float64(a) - np.float64(b))
        with np.errstate(all="ignore"):
            taken = np.where(off == 0, 0.0, off / allowed[name])
        most = float(np.max(np.where(np.isnan(taken), np.inf, taken), initial=0.0))
        apart = max(apart, float(np.max(off, initial=0.0)))
        if most >= share:
            share, bound = most, float(np.max(allowed[name], initial=0.0))
    return Beside(node, op, apart, bound, share, same)


def _rule(
    both: Alone, at: Mapping[str, Array], fixed: frozenset[str], up: Array
) -> tuple[Mapping[str, Array], Mapping[str, FloatArray]]:
    """What onnxruntime gives of the rule, and how far two executions of it may be apart; numbers
    that it stores rounded count as the exact ones there, and `fixed` tensors are constants."""
    back = both.backward
    constants = {**back.constants, **{t: at[t] for t in back.inputs if t in fixed}}
    inputs = tuple(t for t in back.inputs if t not in fixed)
    back = build_graph(back.order, back.types, constants, inputs=inputs, outputs=back.outputs)
    data = model_of(back, "rule").SerializeToString()
    with TemporaryDirectory(prefix="refine-rule-") as folder:
        path = Path(folder) / "rule.onnx"
        path.write_bytes(data)
        graph = load(path)  # as a runtime reads it: products of two tensors are written out
    roots: dict[str, Array] = {}
    errors = {t: np.zeros(graph.types[t].shape) for t in graph.inputs}
    for t, (square, power) in both.roots.items():
        with _BALLS.working():
            exact = float((_BALLS.number(square) * _BALLS.pi() ** power).sqrt())
        stored = np.asarray(exact).astype(graph.types[t].dtype.numpy)
        roots[t] = stored.reshape(graph.types[t].shape)
        off = abs(float(stored) - exact) + abs(exact) * 2.0**-50
        errors[t] = np.full(graph.types[t].shape, off)
    given = {**at, both.upstream: up, **roots}
    given = {t: np.asarray(given[t]) for t in graph.inputs}
    box = InputBox({t: point(np.asarray(v, np.float64)) for t, v in given.items()}, errors)
    known = Known(values_at(graph, box.values), {})
    few = sum(graph.types[t].size for n in graph.order for t in n.outputs if t) <= _FEW
    maps = network_bounds(graph, box, IEEE_ANY, backward=few, known=known).maps
    found = {t: np.asarray(v) for t, v in OnnxRuntime(data).run(given).items()}
    once = {t: np.asarray(maps.errors[t]) for t in graph.outputs if t in maps.errors}
    allowed = {
        t: np.broadcast_to(add_up(once[t], once[t]), graph.types[t].shape)
        if t in once
        else np.zeros(graph.types[t].shape)
        for t in graph.outputs
    }
    return found, allowed
