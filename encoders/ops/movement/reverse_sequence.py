"""ReverseSequence: the first so many elements along one axis reversed, how many by a batch axis."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from encoders.families.gathering import Index, gather_operator
from encoders.families.movement import indices
from encoders.families.parameters import integers_at
from encoders.operator import Site
from onnx_import.graph import COMPUTED, DType


def _lengths(site: Site) -> tuple[int, ...]:
    return integers_at(site, 1, "sequence_lens") or ()


def index_of(site: Site) -> Index:
    """For each output element the flat position of the input element it is."""
    shape = site.type_of(0).shape
    time, batch = site.integer("time_axis", 0), site.integer("batch_axis", 1)
    place = np.arange(shape[time])[:, None]
    lengths = np.array(_lengths(site), np.intp)[None, :]
    source = np.where(place < lengths, lengths - 1 - place, place)  # (time, batch)
    along = source if time < batch else source.T
    rest = tuple(n if axis in (time, batch) else 1 for axis, n in enumerate(shape))
    return np.take_along_axis(indices(shape), along.reshape(rest), axis=time)


def check(site: Site) -> None:
    shape = site.type_of(0).shape
    axes = {site.integer("time_axis", 0), site.integer("batch_axis", 1)}
    if len(shape) < 2 or axes != {0, 1}:
        raise site.unsupported(
            "attributes 'time_axis' and 'batch_axis' are not 0 and 1 in some order, or its input "
            "has not two axes"
        )
    time, batch = site.integer("time_axis", 0), site.integer("batch_axis", 1)
    lengths = _lengths(site)
    if len(lengths) != shape[batch] or not all(0 <= n <= shape[time] for n in lengths):
        raise site.unsupported(
            f"sequence_lens (input 1) is {list(lengths)}, not {shape[batch]} lengths from 0 to "
            f"{shape[time]}"
        )


OPERATORS = (
    replace(
        gather_operator("ReverseSequence", 10, index_of, check=check),
        dtypes=tuple(dtype for dtype in COMPUTED if dtype is not DType.BFLOAT16),
    ).reading("batch_axis", "time_axis"),
)
