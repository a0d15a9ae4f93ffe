"""Which numbers a node's sums multiply: found by running its run-time semantics on indices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from encoders.arithmetic.values import Inputs
from encoders.contract.contract import Contraction, RuntimeContract, Sequential
from encoders.program import Step
from encoders.traits import Sums
from onnx_import.graph import Array

Index = npt.NDArray[np.intp]

_NOTHING = -1
_IN_ORDER = RuntimeContract("terms", Sequential(), Contraction.NEVER)


class NoTerms(ValueError):
    """A node that is not one sum per output element, or that does more than add it up."""


@dataclass(frozen=True)
class Terms:
    """For every term and flat output element, the flat position it reads in each factor.

    Arrays (terms, output size); −1 where padding is read. `factors` are positions among the
    node's inputs, one for a plain sum and two for a sum of products; `bias` is a position or None.
    """

    factors: tuple[int, ...]
    reads: tuple[Index, ...]
    bias: int | None


def sums_of(step: Step) -> Sums:
    """Raises NoTerms where the node's results are no sums."""
    if step.operator.sums is None:
        raise NoTerms(f"{step.node.op} has no sum of its own")
    return step.operator.sums


def terms_of(step: Step) -> Terms:
    """Raises NoTerms where the node's sums cannot be written this way."""
    site, sums = step.site, sums_of(step)
    if sums.summands is not None:
        index = sums.summands(site)
        return Terms((0,), (index.reshape(len(index), -1),), None)
    if not sums.products:
        raise NoTerms(f"{step.node.op} has sums that are not probed")
    recorder = _Recorder()
    inputs = Inputs(None if t is None else _indices(t.shape) for t in site.inputs)
    step.operator.runtime(site, inputs, recorder, _IN_ORDER)
    size = site.outputs[0].size
    shape = np.broadcast_shapes(*(v.shape for pair in recorder.pairs for v in pair))
    reads = [
        np.stack([np.broadcast_to(pair[i], shape).reshape(size) for pair in recorder.pairs])
        for i in (0, 1)
    ]
    bias = 2 if len(site.inputs) > 2 and site.inputs[2] is not None else None
    return Terms((0, 1), (reads[0], reads[1]), bias)


def _indices(shape: tuple[int, ...]) -> Index:
    return np.arange(int(np.prod(shape, dtype=np.int64)), dtype=np.intp).reshape(1, *shape)


@dataclass
class _Recorder:
    """An arithmetic on indices that knows one operation: a sum of products, written down."""

    pairs: list[tuple[Index, Index]] = field(default_factory=list)

    def constant(self, values: Array) -> Index:
        return np.full((1, *values.shape), _NOTHING, np.intp)

    def sum_of_products(self, pairs: Sequence[tuple[Index, Index]], bias: Index | None) -> Index:
        """In whatever order: what it reads is the same."""
        self.pairs = list(pairs)
        return np.zeros(np.broadcast_shapes(*(v.shape for p in pairs for v in p)), np.intp)

    def sum_of_terms(self, terms: Sequence[Index]) -> Index:
        raise NoTerms("it adds up more than products")

    def __getattr__(self, name: str) -> Any:
        raise NoTerms(f"its sum is followed by the operation '{name}'")
