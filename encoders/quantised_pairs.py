"""QuantizeLinear followed by its DequantizeLinear, against the identity.

Over the reals and at run time alike the pair moves its input by half a step at most, and by the
distance to the grid's end beyond that: no jump, wherever the boundaries lie. This is what quantised
tensors cost when a quantised network is compared with the one it was made from.
"""

from __future__ import annotations

import numpy as np

from encoders.contract import RuntimeContract
from encoders.enclosure import FloatArray, Interval, add_up
from encoders.grid_steps import steps_of
from encoders.operator import Site
from encoders.ops import dequantize_linear, quantize_linear
from encoders.quantisation import Grid, along_axis, quantisation_error
from onnx_import.graph import Array


def grid_of(site: Site) -> Grid | None:
    """The grid of a QuantizeLinear or DequantizeLinear with stored parameters, else None.

    `site` must have passed its operator's check.
    """
    kinds = (site.type_of(0).dtype, site.outputs[0].dtype)
    steps = steps_of(kinds[1] if kinds[0].is_float else kinds[0])
    scale, zero = site.constant(1), site.constant(2)
    if scale is None or 2 in site.variable:
        return None
    return Grid(
        _placed(site, scale),
        np.zeros(()) if zero is None else _placed(site, zero),
        steps.lowest,
        steps.highest,
    )


def _placed(site: Site, stored: Array) -> FloatArray:
    return np.asarray(along_axis(site, np.asarray(stored, np.float64)[None])[0])


def are_inverse(quantize: Site, dequantize: Site) -> bool:
    """Do the two have the same grid, number by number?"""
    a, b = grid_of(quantize), grid_of(dequantize)
    if a is None or b is None or (a.lowest, a.highest) != (b.lowest, b.highest):
        return False
    shape = quantize.outputs[0].shape
    return all(
        np.array_equal(np.broadcast_to(mine, shape), np.broadcast_to(other, shape))
        for mine, other in ((a.scale, b.scale), (a.zero_point, b.zero_point))
    )


def pair_error(
    quantize: Site, dequantize: Site, x: Interval, contract: RuntimeContract
) -> FloatArray:
    """|x̃ − x̂| for run-time x̂ in the ranges `x`, x̃ being what the pair computes, per element.

    Includes what the division and the product round. The grids must be the same (`are_inverse`).
    With the exact contract this is the distance over the reals.
    """
    grid = grid_of(quantize)
    if grid is None:
        return np.full(x.shape, np.inf)
    moved = quantize_linear.quotient_error(quantize, x, contract)
    stored = grid.stored(x, moved)
    after = dequantize_linear.rounding(dequantize, [stored], grid.values(stored), contract)
    return add_up(quantisation_error(x, grid, moved), after.radius)
