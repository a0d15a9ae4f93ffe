"""What a contract does to the stored numbers that something was computed of when a file was read.

A fold (onnx_import/passes/folding/fold.py) takes it that a runtime reads a number as it is written,
or rounds a result as it rounds stored numbers. A contract may have these rounded to another format
first, compute in another format than their types, and flush: `objection` says so.
"""

from __future__ import annotations

import numpy as np

from encoders.arithmetic.number_path import Hop, arrived, stored_path
from encoders.contract.contract import RuntimeContract, Subnormals
from encoders.numbers.formats import FORMAT_OF_DTYPE, round_array
from onnx_import.graph import Handling, Need, Use


def handling_of(*contracts: RuntimeContract) -> Handling:
    """What runtimes that obey one of these do to stored numbers."""

    def handling(need: Need) -> str:
        return next((w for w in (objection(c, need) for c in contracts) if w), "")

    return handling


def objection(contract: RuntimeContract, need: Need) -> str:
    """Why the need does not hold, naming a number; the empty text where it does."""
    if contract.exact:
        return ""
    own, computed = FORMAT_OF_DTYPE[need.dtype], contract.format_of(need.dtype)
    name = f"contract '{contract.name}'"
    values = np.asarray(need.values, np.float64)
    if need.use is Use.COMPUTED:
        return "" if computed == own else f"{name} computes in {computed.name}, not in {own.name}"
    if need.use is Use.COUNTED:
        held = np.max(values, initial=0.0) <= min(2.0**computed.precision, computed.largest_number)
        return "" if held else f"{computed.name} of {name} does not hold {np.max(values):g}"
    operands, results = (s is not Subnormals.KEEP for s in (contract.operands, contract.results))
    path = stored_path(contract, need.dtype)
    wanted = values if need.use is Use.READ else round_array(values, computed)
    if path == (Hop(own),) and (need.use is Use.ROUNDED or need.values.dtype == need.dtype.numpy):
        there = wanted
    else:
        found = arrived(path, values, operands, results)
        there = np.where(found.flushed, 0.0, found.values)
    changed = ~((there == wanted) | (np.isnan(there) & np.isnan(wanted)))
    if np.any(changed):
        was, read, computed_as = (float(v[changed].flat[0]) for v in (values, there, wanted))
        digits = 7 if f"{was:.7g}" != f"{read:.7g}" else 17
        computes = "" if need.use is Use.READ else f", and computes {computed_as:.{digits}g}"
        return f"{name} reads {was:.{digits}g} as {read:.{digits}g}{computes}"
    flushed = (np.abs(there) < 2.0**computed.emin) & (there != 0)
    if (operands or results) and np.any(flushed):
        tiny = float(values[flushed].flat[0])
        return f"{name} may take {tiny:.7g} for zero, unless subnormals are gradual"
    return ""
