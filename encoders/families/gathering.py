"""Data movement and sums given by index: every output element names the input elements it reads.

An index array holds flat row-major positions in the input; −1 reads nothing. From it come the
forward map, its transpose, and a float64 linear part.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from encoders.arithmetic.exact_fields import ObjectArray
from encoders.arithmetic.runtime import Arithmetic, joined, moved
from encoders.arithmetic.values import E, Inputs, V
from encoders.contract.contract import RuntimeContract
from encoders.families.carried import gathered
from encoders.lemmas.kernel import Radius
from encoders.numbers.enclosure import FloatArray, Interval, LinearPart
from encoders.operator import (
    DifferenceMap,
    Field,
    Operator,
    RoundingBound,
    Site,
    ValueMap,
    remembered,
)
from encoders.relaxations.affine import AffineMap, affine_differences, affine_values
from encoders.rounding.rounding_bounds import no_rounding, rounder, stored_loss
from onnx_import.graph import COMPUTED, Array

Index = npt.NDArray[np.intp]

_LONG = 2**12  # terms of a sum, beyond which they are added many at once
_BLOCK = 2**20  # numbers of them
_FEW = 64  # terms added one by one; more are sorted once and summed in runs


def picked(values: npt.NDArray[E], index: Index) -> npt.NDArray[E]:
    """(k, *in) → (k, *index.shape) for an index without −1, of numbers of any kind."""
    return values.reshape(values.shape[0], -1)[:, index]


def gathered_part(terms: Index, shape: tuple[int, ...]) -> LinearPart:
    """y = Σ_k x.flat[terms[k]] for x of `shape` and terms of shape (K, *out)."""
    if len(terms) > _LONG:
        return _long_part(terms, shape)
    output = terms.shape[1:]
    present = [np.flatnonzero(t.reshape(-1) >= 0) for t in terms]
    reads = [t.reshape(-1)[p] for t, p in zip(terms, present, strict=True)]
    size = math.prod(shape)

    def forward(x: FloatArray) -> FloatArray:
        flat = x.reshape(x.shape[0], -1)
        total = np.zeros((x.shape[0], math.prod(output)))
        for at, read in zip(present, reads, strict=True):
            total[:, at] += flat[:, read]
        return total.reshape(x.shape[0], *output)

    return _counted(terms, shape, forward, _transpose(present, reads, size))


def _counted(
    terms: Index,
    shape: tuple[int, ...],
    forward: Callable[[FloatArray], FloatArray],
    adjoint: Callable[[FloatArray], FloatArray],
) -> LinearPart:
    """The linear part, with the lengths of its sums; `adjoint` maps flat functionals to flat
    ones."""
    most = int(np.max(np.sum(terms >= 0, axis=0), initial=0))
    counts = np.bincount(terms[terms >= 0].reshape(-1), minlength=1)
    spread = int(np.max(counts, initial=0))
    return LinearPart(
        forward,
        forward,
        lambda c: adjoint(c.reshape(c.shape[0], -1)).reshape(c.shape[0], *shape),
        terms=most if most > 1 else 0,
        adjoint_terms=spread if spread > 1 else 0,
    )


def _long_part(terms: Index, shape: tuple[int, ...]) -> LinearPart:
    """The same of sums of many terms: what a term does not read is a zero behind the input."""
    rows = terms.reshape(len(terms), -1)
    size = math.prod(shape)
    there = rows >= 0
    read = np.where(there, rows, size)

    def forward(x: FloatArray) -> FloatArray:
        flat = np.concatenate([x.reshape(x.shape[0], -1), np.zeros((x.shape[0], 1))], axis=1)
        total = np.zeros((x.shape[0], rows.shape[1]))
        step = max(_BLOCK // max(total.size, 1), 1)
        for start in range(0, len(rows), step):
            total += np.sum(flat[:, read[start : start + step]], axis=1)
        return total.reshape(x.shape[0], *terms.shape[1:])

    adjoint = _runs(rows[there], np.nonzero(there)[1], size)
    return _counted(terms, shape, forward, adjoint)


def _transpose(
    present: Sequence[Index], reads: Sequence[Index], size: int
) -> Callable[[FloatArray], FloatArray]:
    """Functionals of the flat output to functionals of the flat input."""
    distinct = len(reads) <= _FEW and all(np.max(np.bincount(r), initial=0) <= 1 for r in reads)
    if distinct:

        def add_each(c: FloatArray) -> FloatArray:
            total = np.zeros((c.shape[0], size))
            for at, read in zip(present, reads, strict=True):
                total[:, read] += c[:, at]
            return total

        return add_each
    return _runs(np.concatenate(reads), np.concatenate(present), size)


def _runs(every: Index, source: Index, size: int) -> Callable[[FloatArray], FloatArray]:
    """c[source] added up at the positions `every` among so many."""
    order = np.argsort(every, kind="stable")
    targets, starts = np.unique(every[order], return_index=True)
    source = source[order]

    def add_runs(c: FloatArray) -> FloatArray:
        total = np.zeros((c.shape[0], size))
        if len(targets):
            total[:, targets] = np.add.reduceat(c[:, source], starts, axis=1)
        return total

    return add_runs


def gather_operator(
    name: str,
    since: int,
    index_of: Callable[[Site], Index],
    *,
    check: Callable[[Site], None],
    fill_of: Callable[[Site], Array] = lambda site: np.zeros((), np.float32),
    filled_by: int | None = None,
) -> Operator:
    """An operator that places elements of its first input; −1 places `fill_of(site)`, a number,
    which is the input `filled_by` where there is one."""

    index_at = remembered(index_of)

    def moving(values: V, site: Site, fill: V) -> V:
        index = index_at(site)
        if not np.any(index < 0):
            return moved(values, lambda v: picked(v, index))
        flat = moved(values, lambda v: v.reshape(v.shape[0], -1))
        filled = joined((flat, moved(fill, lambda v: v.reshape(1, 1))), 1)
        last = site.type_of(0).size
        return moved(filled, lambda v: v[:, np.where(index < 0, last, index)])

    def real(site: Site, inputs: Inputs[ObjectArray], field: Field) -> tuple[ObjectArray, ...]:
        return (moving(inputs[0], site, field.constant(np.asarray(fill_of(site)))),)

    def runtime(
        site: Site, inputs: Inputs[V], arithmetic: Arithmetic[V], contract: RuntimeContract
    ) -> tuple[V, ...]:
        if filled_by is not None and site.constant(filled_by) is not None:
            fill = inputs[filled_by]
        else:
            fill = arithmetic.constant(np.asarray(fill_of(site)))
        return (moving(inputs[0], site, fill),)

    @remembered
    def affine(site: Site) -> AffineMap:
        index = index_at(site)
        fill = float(np.asarray(fill_of(site), np.float64))
        bias = np.where(index < 0, fill, 0.0)
        parts = (gathered_part(index[None], site.type_of(0).shape),) if site.variable else ()
        if not site.variable:
            values = np.asarray(site.constants[0], np.float64).reshape(-1)
            held = np.append(values, 0.0)  # something to read where nothing is
            bias = np.where(index < 0, fill, held[np.maximum(index, 0)])
        return AffineMap(parts, bias, np.zeros(index.shape))

    def values(site: Site, ranges: Sequence[Interval]) -> ValueMap:
        return affine_values(affine(site), ranges)

    def differences(
        site: Site, ranges: Sequence[Interval], errors: Sequence[Radius]
    ) -> DifferenceMap:
        return affine_differences(affine(site), errors)

    def rounding(
        site: Site, inputs: Sequence[Interval], result: Interval, contract: RuntimeContract
    ) -> RoundingBound:
        """Exact, but for a stored number that the compute format cannot hold."""
        if not site.outputs[0].dtype.is_float:
            return no_rounding(site)
        return RoundingBound(stored_loss(rounder(site, contract), affine(site).bias))

    def whole_check(site: Site) -> None:
        check(site)
        found, made = index_at(site).shape, site.outputs[0].shape
        if found != made:
            raise site.unsupported(
                f"its inputs give the shape {list(found)}, and ONNX infers {list(made)}"
            )

    return Operator(
        name,
        since,
        check=whole_check,
        real=real,
        runtime=runtime,
        values=values,
        differences=differences,
        rounding=rounding,
        movement=True,
        affine=True,
        dtypes=COMPUTED,
        gradient=gathered(index_at),
    )
