"""A normalisation in the weights of the layer before it, as optimisers put it there."""

from __future__ import annotations

import numpy as np

from encoders.numbers.enclosure import FloatArray, Interval, add_up, multiply_up
from encoders.program import Step
from onnx_import.graph import Graph
from refine.pair.node_change import linear_change
from refine.pair.sameness import attributes_of


def is_folded(spec: Graph, layer: Step, norm: Step, impl: Graph, executed: Step) -> bool:
    """Can `executed` be the layer with the normalisation behind it in its weights?"""
    channels_of = norm.operator.likeness.channels
    if channels_of is None or layer.operator.likeness.per_weight is None:
        return False
    weighted, other = layer.node, executed.node
    if weighted.op != other.op or attributes_of(layer, False) != attributes_of(executed, False):
        return False
    if any(weighted.attributes.get(k, 1.0) != 1.0 for k in ("alpha", "beta")):
        return False
    constant = [all(map(g.is_constant, n.inputs[1:])) for g, n in ((spec, weighted), (impl, other))]
    if not all(constant) or len(other.inputs) != 3 or len(weighted.inputs) < 2:
        return False
    channels = channels_of(norm.site).scale.size
    biases = [impl.types[other.inputs[2]], *(spec.types[t] for t in weighted.inputs[2:] if t)]
    same = impl.types[other.inputs[1]].shape == spec.types[weighted.inputs[1]].shape
    # that of a Gemm may as well have a number per row
    return same and all(b.shape[-1:] == (b.size,) == (channels,) for b in biases)


def folded_change(layer: Step, norm: Step, impl: Graph, other: Step, held: Interval) -> FloatArray:
    """|f_other − f_norm ∘ f_layer| over a range of their input, where `is_folded`.

    Both are linear in their weights and biases together: w′ − s·w and b′ − (s·b + t) take the
    place of the constants, with scale s and shift t of the normalisation.
    """
    channels = norm.operator.likeness.channels
    per_weight = layer.operator.likeness.per_weight
    assert channels is not None
    assert per_weight is not None
    n = channels(norm.site)
    weight = layer.site.coefficients(1)
    bias = np.zeros_like(n.scale)
    if len(layer.node.inputs) > 2:
        bias = layer.site.coefficients(2).reshape(-1)
    names = other.node.inputs[1:]
    new_weight, new_bias = (other.site.coefficients(i) for i in (1, 2))
    scaled, moved = weight * per_weight(layer.site, n.scale), bias * n.scale
    shifted = moved + n.shift
    apart = new_weight - scaled, new_bias.reshape(-1) - shifted
    lost = add_up(n.shift_error, multiply_up(np.abs(shifted), 2.0**-52))
    radius = _erring(scaled, apart[0]), add_up(_erring(moved, apart[1]), lost)
    return linear_change(
        impl,
        other.node,
        {t: v.reshape(impl.constants[t].shape) for t, v in zip(names, apart, strict=True)},
        {t: v.reshape(impl.constants[t].shape) for t, v in zip(names, radius, strict=True)},
        {other.node.inputs[0]: held},
    )


def _erring(product: FloatArray, difference: FloatArray) -> FloatArray:
    """What a rounded product by a scale within 5 roundings and a rounded difference are off."""
    relative = add_up(
        multiply_up(np.abs(product), 8 * 2.0**-53), multiply_up(np.abs(difference), 2.0**-52)
    )
    return add_up(relative, 2.0**-1070)
