"""A specification and an implementation: how each is read, and which tensors they share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy.typing as npt

from encoders.arithmetic.values import E
from onnx_import.errors import ModelError
from refine.domain.domain import unbatched
from refine.pair.alignment import checked
from refine.pair.leading_axes import in_shapes
from refine.results.verdict import Side


@dataclass(frozen=True)
class Pair:
    """Two graphs, and the specification's tensor of each input and output of the implementation.

    `equal` names outputs of the implementation at which both are the same real function, `said`
    inputs and outputs of it that the user paired.
    """

    spec: Side
    impl: Side
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    equal: frozenset[str] = frozenset()
    said: frozenset[str] = frozenset()

    def specified(self, inputs: Mapping[str, npt.NDArray[E]]) -> dict[str, npt.NDArray[E]]:
        """Inputs of the implementation, (k, *shape), as those of the specification."""
        types = self.spec.graph.types
        return {
            b: inputs[a].reshape(len(inputs[a]), *types[b].shape) for a, b in self.inputs.items()
        }


def pair_of(spec: Side, impl: Side, match: Mapping[str, str] | None = None) -> Pair:
    """Match inputs and outputs: as `match` says, implementation to specification; the others by
    name if all names agree, by order if none does. A specification over the reals is read in the
    implementation's shapes where these differ by leading axes of 1.

    Raises ModelError if their numbers, shapes or kinds differ, if only some names agree, or a graph
    cannot be compared.
    """
    checked(spec.graph)
    checked(impl.graph)
    said = match or {}
    _require_known(said, spec, impl)
    inputs = _paired(
        "input", spec, impl=impl, ours=impl.graph.inputs, theirs=spec.graph.inputs, match=said
    )
    outputs = _paired(
        "output", spec, impl=impl, ours=impl.graph.outputs, theirs=spec.graph.outputs, match=said
    )
    types = impl.graph.types
    shapes = {b: types[a].shape for a, b in (*inputs.items(), *outputs.items())}
    spec = replace(spec, graph=in_shapes(spec.graph, shapes))
    return Pair(spec, impl, inputs, outputs, said=frozenset(said))


def shown_pairs(pairs: Mapping[str, str]) -> str:
    """`x = x, z = y`: the implementation's tensor, then the specification's."""
    return ", ".join(f"{a} = {b}" for a, b in pairs.items())


def _require_known(match: Mapping[str, str], spec: Side, impl: Side) -> None:
    kinds = (
        (impl.graph.inputs, spec.graph.inputs),
        (impl.graph.outputs, spec.graph.outputs),
    )
    for a, b in match.items():
        if not any(a in ours and b in theirs for ours, theirs in kinds):
            raise ModelError(
                f"--match {a}={b}: there is no input or output '{a}' of the implementation "
                f"({', '.join((*impl.graph.inputs, *impl.graph.outputs))}) that could be '{b}' of "
                f"the specification ({', '.join((*spec.graph.inputs, *spec.graph.outputs))})"
            )
    if len(set(match.values())) < len(match):
        raise ModelError("--match gives one tensor of the specification to two")


def _matched(
    kind: str, ours: Sequence[str], theirs: Sequence[str], match: Mapping[str, str]
) -> dict[str, str]:
    """Which tensor of the specification each is. Raises ModelError where only some names agree."""
    said = {a: b for a, b in match.items() if a in ours}
    mine = [a for a in ours if a not in said]
    others = [b for b in theirs if b not in said.values()]
    common = set(mine) & set(others)
    by_name = common == set(mine)
    guess = said | {a: a if by_name else b for a, b in zip(mine, others, strict=True)}
    ordered = {a: guess[a] for a in ours}
    if common and not by_name:
        raise ModelError(
            f"only some {kind} names agree ({', '.join(sorted(common))}), so that it is not clear "
            f"which {kind} is which; by order it would be {shown_pairs(ordered)} (implementation = "
            "specification): say so, or otherwise, with --match NAME=NAME for each"
        )
    return ordered


def _paired(
    kind: str,
    spec: Side,
    impl: Side,
    *,
    ours: Sequence[str],
    theirs: Sequence[str],
    match: Mapping[str, str],
) -> dict[str, str]:
    if len(ours) != len(theirs):
        raise ModelError(
            f"the implementation has {len(ours)} {kind}(s), {', '.join(ours)}, the specification "
            f"{len(theirs)}, {', '.join(theirs)}"
        )
    pairs = _matched(kind, ours, theirs, match)
    real = spec.contract.exact
    for a, b in pairs.items():
        mine, other = impl.graph.types[a], spec.graph.types[b]
        both_run = not (spec.contract.exact or impl.contract.exact)
        same = unbatched(mine.shape) == unbatched(other.shape)
        if not (same if real else mine.shape == other.shape):
            raise ModelError(
                f"{kind} '{a}' of the implementation has shape {list(mine.shape)}, "
                f"'{b}' of the specification {list(other.shape)}; two models are compared on the "
                "same tensors, and --match NAME=NAME says which of several correspond"
            )
        if mine.dtype.is_float != other.dtype.is_float:
            raise ModelError(
                f"{kind} '{a}' of the implementation is {mine.dtype.value}, "
                f"'{b}' of the specification {other.dtype.value}"
            )
        if kind == "input" and both_run and mine.dtype is not other.dtype:
            raise ModelError(
                f"both graphs run, and input '{a}' of the implementation is {mine.dtype.value}, "
                f"'{b}' of the specification {other.dtype.value}: read one of them as real"
            )
    return pairs
