"""What is known of a tensor while errors are laid on parameters: how the exact value in the
perturbed network stands to the bits that ran."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

import numpy as np

from encoders.arithmetic.exact_fields import Rationals
from encoders.arithmetic.values import Inputs
from encoders.contract.contract import RuntimeContract
from encoders.contract.orders import AnyOrder, Order, Sequential, alignment_of, merges_of
from encoders.lemmas.combining import EXACT
from encoders.lemmas.kernel import Radius, exactly_zero
from encoders.numbers.enclosure import FloatArray, add_up
from encoders.program import Step, program_of
from encoders.rounding.rounding_bounds import Rounder, held, rounder_of
from encoders.traits import Absorption
from onnx_import.errors import UnsupportedModel
from onnx_import.graph import Array, DType, Graph

_FAR = 2**53 + 1  # where places are counted from: not at a float32 number, as a Pad fills with


class Laid(Enum):
    """On what errors are laid."""

    WEIGHTS = "weights"
    INPUTS = "inputs"


class NothingTakesThem(UnsupportedModel):
    """Errors that can be laid on nothing; the message names the node or tensor, and why."""


@dataclass(frozen=True, eq=False)
class Standing:
    """x̂ is x̃·exp(θ) + ν element by element, x̃ the exact value in the perturbed network.

    `free`: whatever θ is asked for can be had, since errors before it can be laid on something.
    Else |θ| ≤ `apart`; +∞ where nothing is known, and `why` says what is in the way. |ν| ≤
    `besides`. `leaf` is a parameter or an input itself, `shared` a parameter of several sums.
    """

    besides: Radius
    free: bool = False
    apart: float = 0.0
    why: str = ""
    leaf: bool = False
    shared: bool = False

    @property
    def exact(self) -> bool:
        """Is it, or can it be made, the very bits that ran?"""
        return (self.free or self.apart == 0.0) and not np.any(self.besides.bound)


def unmoved(shape: tuple[int, ...]) -> Radius:
    """Nothing comes beside."""
    return exactly_zero(EXACT, shape)


def plus(a: float, b: float) -> float:
    """a + b, rounded up only where it is inexact."""
    total = a + b
    back = total - a
    missed = (a - (total - back)) + (b - back)
    return math.nextafter(total, math.inf) if missed > 0 or math.isnan(missed) else total


def times(a: float, count: float) -> float:
    """a·count for count a small integer, or a half, rounded up only where it is inexact."""
    product = a * count
    if not math.isfinite(product) or a == 0.0 or (product / count == a and _short(a) + 24 <= 53):
        return product
    return math.nextafter(product, math.inf)


def _short(a: float) -> int:
    """How many bits a number has."""
    mantissa = int(math.ldexp(math.frexp(a)[0], 53))
    return mantissa.bit_length() - ((mantissa & -mantissa).bit_length() - 1)


@dataclass(frozen=True)
class Roundings:
    """How one node rounds: inside, in the format in which it accumulates, and once at its end where
    that is another one."""

    inner: Rounder
    own: Rounder

    @property
    def twice(self) -> bool:
        return self.inner.format != self.own.format

    def of(self, count: int) -> float:
        """|ln| of so many roundings on one path, and of the conversion at the end."""
        if self.inner.exact:
            return 0.0
        inside = times(self.inner.unit, count)
        return plus(inside, self.own.unit) if self.twice else inside


def roundings_of(dtype: DType, contract: RuntimeContract) -> Roundings:
    """Of a node with results of this type, under the contract that holds there."""
    own = rounder_of(dtype, contract)
    wide = contract.wider_than(dtype)
    if wide is None:
        return Roundings(own, own)
    return Roundings(rounder_of(dtype, contract.within(wide, own.format)), own)


def refused_arithmetic(contract: RuntimeContract, dtype: DType) -> str:
    """What of this contract's products has no rule here; empty if nothing."""
    if alignment_of(contract.order) is not None:
        return "products are added in aligned steps, which truncate"
    if contract.shorter_than(dtype) is not None:
        return "factors of products are cut short"
    return ""


def additions_on_a_path(order: Order, terms: int) -> int:
    """The most additions that a term of a sum goes through."""
    if isinstance(order, AnyOrder | Sequential) or terms < 2:
        return max(terms - 1, 0)
    depth = [0] * terms
    for left, right in merges_of(order, terms):
        depth.append(max(depth[left], depth[right]) + 1)
    return depth[-1]


def stored(values: Array, rounder: Rounder) -> tuple[float, FloatArray]:
    """How far a stored array is from what a runtime holds of it: |ln(ŵ/w)| at most, and what is
    lost of numbers that it may take for zero."""
    exact = np.asarray(values, np.float64)
    if rounder.exact:
        return 0.0, np.zeros(exact.shape)
    there = held(rounder, exact)
    lost = np.where(there.flushed | (there.values == 0.0), np.abs(exact), 0.0)
    kept = lost == 0.0
    change = np.abs(np.where(kept, there.values - exact, 0.0))
    if not np.any(change) or not exact.size:
        return 0.0, lost
    least = np.minimum(np.abs(there.values), np.abs(exact))
    with np.errstate(all="ignore"):
        ratio = np.where(change > 0.0, add_up(change, 0.0) / least, 0.0)
    return float(np.nextafter(np.max(ratio), np.inf)), lost


def reads_of(step: Step, position: int) -> int:
    """How often, at most, an element of this input is read for an element of the result."""
    kind, made = step.site.type_of(position), step.site.outputs[0]
    absorbing = step.operator.absorbs
    if kind.size == 0 or made.size == 0:
        return 0
    if step.operator.movement:
        return _copies(step, position)
    if absorbing is None:
        return 1
    if absorbing.by is Absorption.MATRIX and position < 2:
        sums = step.operator.sums
        assert sums is not None
        return -(-made.size * sums.extent(step.site).terms // kind.size)
    if absorbing.terms_of(step.site) is not None and len(step.site.inputs) == 1:
        return 1
    if made.size < kind.size or (
        absorbing.by is Absorption.ALIKE and not step.operator.per_element
    ):
        return 1 if made.shape == kind.shape else 2
    return -(-made.size // kind.size)


def _copies(step: Step, position: int) -> int:
    """How often data movement copies the most copied element of an input."""
    if step.operator.likeness.reshapes:
        return 1
    field, start = Rationals(), _FAR
    given: list[np.ndarray[tuple[int, ...], np.dtype[np.object_]] | None] = []
    for kind, constant in zip(step.site.inputs, step.site.constants, strict=True):
        if kind is None:
            given.append(None)
        elif kind.dtype.is_float:
            places = np.arange(start, start + kind.size, dtype=object)
            given.append(places.reshape(1, *kind.shape))
            start += kind.size
        else:
            given.append(None if constant is None else field.constant(constant))
    if any(g is None and k is not None for g, k in zip(given, step.site.inputs, strict=True)):
        return 2
    made = np.concatenate([v.ravel() for v in step.operator.real(step.site, Inputs(given), field)])
    before = sum(
        kind.size
        for kind in step.site.inputs[:position]
        if kind is not None and kind.dtype.is_float
    )
    size = step.site.type_of(position).size
    first, said = _FAR + before, map(str, made.tolist())  # a fraction is what a Pad fills with
    read = [int(v) - first for v in said if "/" not in v]
    mine = np.array([place for place in read if 0 <= place < size], np.int64)
    return int(np.max(np.bincount(mine), initial=0))


def uses_of(graph: Graph) -> Mapping[str, tuple[int, tuple[str, ...]]]:
    """How often an element of each tensor is read, and by which nodes, outputs included."""
    found: dict[str, tuple[int, tuple[str, ...]]] = {}
    for step in program_of(graph).steps:
        for position, tensor in enumerate(step.node.inputs):
            kind = step.site.inputs[position] if tensor else None
            if kind is None or not kind.dtype.is_float:
                continue
            count, readers = found.get(tensor, (0, ()))
            said = step.node.describe()
            named = readers if said in readers else (*readers, said)
            found[tensor] = (count + reads_of(step, position), named)
    for tensor in graph.outputs:
        count, readers = found.get(tensor, (0, ()))
        found[tensor] = (count + 1, (*readers, "the output"))
    return found
