"""The range of what one node makes, over the reals."""

from __future__ import annotations

from encoders.contract.presets import EXACT
from encoders.lemmas.ranges.making import kept_range
from encoders.lemmas.ranges.placing import range_of
from encoders.numbers.enclosure import lowest
from encoders.program import Step
from refine.bounds.backward import Maps


def bound_values(maps: Maps, step: Step) -> None:
    """Enter a step's map of values and range; UnsupportedModel where ONNX has another shape."""
    ranges, site = maps.ranges(step), step.site
    mapped = step.operator.values(site, ranges)
    found, made = mapped.range.lo.shape, site.outputs[0].shape
    if found != made:
        raise site.unsupported(
            f"its values have the shape {list(found)}, and ONNX infers {list(made)}; "
            "please report it"
        )
    maps.value_maps[step.name] = mapped
    range_ = range_of(mapped.range)
    if step.operator.keeps is not None and lowest(range_.lo) < 0.0:
        kept = step.operator.keeps(site, ranges, EXACT)
        range_ = range_ if kept is None else kept_range(range_, kept)
    maps.values[step.output] = range_
