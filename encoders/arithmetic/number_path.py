"""What happens to a number between the file, or a tensor, and the operation that uses it.

A contract's formats are read here and nowhere else: each path lists the conversions in order, as
the emulator makes them, Z3's terms spell them out and proofs bound them. A conversion that is not
in a path is made by none of them.

A stored number is rounded to the format of weights, if there is one, and to that in which its
tensor is held. A node that accumulates reads its operands into a wider format, and only its results
are rounded back. The factors of a matrix product are truncated last, before they are so read. A
number that a formula or an attribute names is no stored one: the runtime has it in the format in
which it computes, or where that holds less than float32, in float32, always the same for a node.
ONNX leaves that open: its attributes are float32 numbers, and their operators' tensors may be
float16. The emulator takes the format; bounds cover both (`rounding_bounds.formula_loss`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from encoders.arithmetic.runtime import Arithmetic, mixes_formats, truncates_operands
from encoders.arithmetic.values import V
from encoders.contract.contract import FactorRounding, RuntimeContract
from encoders.numbers.formats import FloatFormat, truncated_operands
from onnx_import.graph import Array, DType

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Hop:
    """One conversion, to `target`.

    With a `source`, the number is read as one of that format first: a runtime that flushes operands
    takes a subnormal one for zero. `result` says that the converted number is the result of an
    operation: a runtime that flushes results takes a subnormal one for zero.
    """

    target: FloatFormat
    source: FloatFormat | None = None
    rounding: FactorRounding = FactorRounding.NEAREST
    result: bool = False


Path: TypeAlias = tuple[Hop, ...]


def stored_path(contract: RuntimeContract, dtype: DType) -> Path:
    """Of a stored number of this type into the operation that uses it."""
    weights, computed = contract.stored_format, contract.format_of(dtype)
    narrow = computed if contract.narrow is None else contract.narrow
    first = () if weights is None else (Hop(weights),)
    path = (*first, Hop(narrow, result=bool(first)))
    return path if contract.narrow is None else (*path, into(computed, narrow))


def into(wide: FloatFormat, narrow: FloatFormat) -> Hop:
    """Of an operand that a node reads into the format in which it accumulates."""
    return Hop(wide, source=narrow, result=True)


def back(narrow: FloatFormat) -> Hop:
    """Of the result of a node that accumulates."""
    return Hop(narrow, result=True)


def factor(own: FloatFormat, short: FloatFormat, rounding: FactorRounding) -> Hop:
    """Of a factor of a matrix product, in the format of its tensor."""
    return Hop(short, source=own, rounding=rounding)


def carried(arithmetic: Arithmetic[V], value: V, path: Sequence[Hop]) -> V:
    """Numbers of an arithmetic of mixed formats along a path, as bits or as terms.

    Only what is no result may be rounded otherwise than to nearest.
    """
    assert mixes_formats(arithmetic)
    for hop in path:
        if hop.result:
            read = value if hop.source is None else arithmetic.in_format(hop.source).read(value)
            value = arithmetic.in_format(hop.target).converted(read)
        else:
            assert hop.source is not None
            here = arithmetic.in_format(hop.source)
            assert truncates_operands(here)
            value = here.truncated_operands(value, hop.target, hop.rounding)
    return value


def stored(arithmetic: Arithmetic[V], values: Array, contract: RuntimeContract, dtype: DType) -> V:
    """Stored numbers as the runtime holds them, in an arithmetic of bits or of terms."""
    assert mixes_formats(arithmetic)
    first, *rest = stored_path(contract, dtype)
    return carried(arithmetic, arithmetic.in_format(first.target).constant(values), rest)


def flushed_below(hop: Hop, flush_operands: bool, flush_results: bool) -> float:
    """The size below which a number other than zero may be lost on a hop, its rounding apart."""
    read = 2.0**hop.source.emin if hop.source is not None and flush_operands else 0.0
    return max(read, 2.0**hop.target.emin if hop.result and flush_results else 0.0)


@dataclass(frozen=True)
class Arrived:
    """Known numbers at the end of a path if none of them is flushed, and which of them may be."""

    values: FloatArray
    flushed: npt.NDArray[np.bool_]


def arrived(
    path: Sequence[Hop], values: FloatArray, flush_operands: bool, flush_results: bool
) -> Arrived:
    """Where a path takes stored numbers under a contract that may flush so."""
    flushed = np.zeros(np.shape(values), bool)
    for hop in path:
        if hop.source is not None and flush_operands:
            flushed |= np.abs(values) < 2.0**hop.source.emin
        values = truncated_operands(values, hop.target, hop.rounding is FactorRounding.TRUNCATE)
        if hop.result and flush_results:
            flushed |= np.abs(values) < 2.0**hop.target.emin
    return Arrived(values, flushed)
