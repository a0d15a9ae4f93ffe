"""Slice: a strided part of a tensor (bounds as attributes before opset 10, then as inputs)."""

from __future__ import annotations

from encoders.families.gathering import Index, gather_operator
from encoders.families.movement import indices
from encoders.families.parameters import axis_of, integers_at
from encoders.operator import Site, remembered
from onnx_import.passes.folding.fold import clamped


def _cut(site: Site) -> tuple[slice, ...]:
    rank = len(site.type_of(0).shape)
    starts, ends = integers_at(site, 1, "starts"), integers_at(site, 2, "ends")
    if starts is None or ends is None:
        raise site.unsupported("attributes 'starts' and 'ends' are missing")
    axes = integers_at(site, 3, "axes")
    axes = tuple(range(len(starts))) if axes is None else axes
    steps = integers_at(site, 4, "steps") or (1,) * len(starts)
    if len({len(starts), len(ends), len(axes), len(steps)}) != 1:
        raise site.unsupported("'starts', 'ends', 'axes' and 'steps' differ in length")
    cut = [slice(None)] * rank
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        if step == 0:
            raise site.unsupported("a step is 0")
        where = axis_of(site, axis, rank, "axes")
        cut[where] = clamped(start, end, step, site.type_of(0).shape[where])
    return tuple(cut)


@remembered
def index_of(site: Site) -> Index:
    """For each output element the flat position of the input element it is."""
    return indices(site.type_of(0).shape)[_cut(site)]


def check(site: Site) -> None:
    if index_of(site).shape != site.outputs[0].shape:
        raise site.unsupported("its bounds do not give the inferred output shape")


OPERATORS = (gather_operator("Slice", 1, index_of, check=check).reading("axes", "ends", "starts"),)
