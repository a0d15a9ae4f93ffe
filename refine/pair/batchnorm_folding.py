"""A normalisation in the weights of the layer before it, and a sum behind it in the layer's own
sums, as optimisers put them there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from encoders.arithmetic.numpy_arithmetic import two_sum_error
from encoders.numbers.enclosure import FloatArray, Interval, add_up, multiply_up
from encoders.program import Step
from onnx_import.graph import Graph, Node
from refine.pair.node_change import linear_change
from refine.pair.sameness import attributes_of
from refine.pair.summands import Summand


@dataclass(frozen=True)
class Folding:
    """Nodes of a specification that one layer executes: a layer, the normalisation behind it, if
    there is one, and the sum behind that, of which the layer adds the operand `added` in its own
    sums: a `summand`, or a stored bias."""

    layer: Node
    norm: Node | None
    total: Node | None = None
    added: int = 0
    summand: Summand | None = None

    @property
    def nodes(self) -> tuple[Node, ...]:
        """All, in order."""
        return tuple(n for n in (self.layer, self.norm, self.total) if n is not None)


def is_folded(
    spec: Graph,
    layer: Step,
    norm: Step | None,
    impl: Graph,
    executed: Step,
    summand: Summand | None = None,
) -> bool:
    """Can `executed`, but for what it adds in its sums, be the layer with the normalisation behind
    it in its weights?"""
    if layer.operator.likeness.per_weight is None:
        return False
    weighted, other = layer.node, executed.node
    if weighted.op != other.op or attributes_of(layer, False) != attributes_of(executed, False):
        return False
    if any(weighted.attributes.get(k, 1.0) != 1.0 for k in ("alpha", "beta")):
        return False
    constant = [all(map(g.is_constant, n.inputs[1:])) for g, n in ((spec, weighted), (impl, other))]
    if not all(constant) or len(weighted.inputs) < 2 or len(other.inputs) < 2:
        return False
    mine = impl.types[other.inputs[1]].shape if summand is None else summand.weights.shape
    if mine != spec.types[weighted.inputs[1]].shape:
        return False
    if norm is None:
        return len(other.inputs) >= len(weighted.inputs)
    channels_of = norm.operator.likeness.channels
    if channels_of is None or len(other.inputs) != 3:
        return False
    channels = channels_of(norm.site).scale.size
    biases = [impl.types[other.inputs[2]], *(spec.types[t] for t in weighted.inputs[2:] if t)]
    # that of a Gemm may as well have a number per row
    return all(b.shape[-1:] == (b.size,) == (channels,) for b in biases)


@dataclass(frozen=True)
class _Affine:
    """A layer of stored numbers: weights as the layer's kind has them, the name of its bias, and
    the axes of length 1 behind the channels of what it makes."""

    weights: FloatArray
    bias: str
    behind: int


def _affine(step: Step) -> _Affine | None:
    """None for what is no such layer."""
    like, names = step.operator.likeness, step.node.inputs
    product = like.product(step.site)
    if product is not None:
        bias = "" if product.bias is None else names[product.bias]
        return _Affine(np.asarray(product.matrix, np.float64), bias, 0)
    if like.feeding is None or step.site.constant(1) is None:
        return None
    bias = names[2] if len(names) > 2 else ""
    return _Affine(step.site.coefficients(1), bias, len(step.site.outputs[0].shape) - 2)


def is_biased(spec: Graph, layer: Step, bias: str, impl: Graph, executed: Step) -> bool:
    """Can `executed` be the layer with this constant in its bias?"""
    mine, theirs = _affine(executed), _affine(layer)
    if mine is None or theirs is None or mine.weights.shape != theirs.weights.shape:
        return False
    if mine.behind != theirs.behind or not (mine.bias and impl.is_constant(mine.bias)):
        return False
    if mine.behind and attributes_of(layer, False) != attributes_of(executed, False):
        return False
    if layer.operator.likeness.feeding is None and theirs.bias:
        return False
    if not spec.is_constant(bias) or (theirs.bias and not spec.is_constant(theirs.bias)):
        return False
    read, made = executed.node.inputs[0], executed.site.outputs[0].shape
    if impl.types[read].shape != spec.types[layer.node.inputs[0]].shape:
        return False
    channels = made[len(made) - 1 - mine.behind]
    added = spec.types[bias].shape
    along = (1,) * (len(made) - len(added)) + added
    place = len(made) - 1 - mine.behind
    wanted = tuple(channels if i == place else 1 for i in range(len(made)))
    return along == wanted and impl.types[mine.bias].size == channels


def has_bias(spec: Graph, layer: Step, bias: str, impl: Graph, executed: Step) -> bool:
    """Are weights and bias the very same, where `is_biased`?"""
    mine, theirs = _affine(executed), _affine(layer)
    assert mine is not None
    assert theirs is not None
    given, meant = impl.constants[mine.bias].reshape(-1), spec.constants[bias].reshape(-1)
    same = np.array_equal(mine.weights, theirs.weights)
    return same and not theirs.bias and np.array_equal(given, meant)


def biased_change(
    spec: Graph, layer: Step, bias: str, impl: Graph, other: Step, held: Interval
) -> FloatArray:
    """|f_other − (f_layer + bias)| over a range of what both read, where `is_biased`."""
    mine, theirs = _affine(other), _affine(layer)
    assert mine is not None
    assert theirs is not None
    weights, stored = other.node.inputs[1], impl.constants
    meant = np.asarray(spec.constants[bias], np.float64).reshape(-1)
    off = np.zeros_like(meant)
    if theirs.bias:
        first, second = np.asarray(spec.constants[theirs.bias], np.float64).reshape(-1), meant
        meant = first + second
        off = np.abs(two_sum_error(first, second, meant))
    given = np.asarray(stored[mine.bias], np.float64).reshape(-1)
    gaps, lost = [], []
    for ours, wanted in ((mine.weights, theirs.weights), (given, meant)):
        gaps.append(ours - wanted)
        lost.append(np.abs(two_sum_error(ours, -wanted, gaps[-1])))
    lost[1] = add_up(lost[1], off)
    if not any(np.any(v) for v in (*gaps, *lost)):
        return np.zeros(other.site.outputs[0].shape)
    if not np.array_equal(stored[weights], mine.weights):  # a Gemm holds it transposed
        gaps[0], lost[0] = gaps[0].T, lost[0].T
    shapes = stored[weights].shape, stored[mine.bias].shape
    (gap, radius) = (
        {t: v.reshape(s) for t, v, s in zip((weights, mine.bias), each, shapes, strict=True)}
        for each in (gaps, lost)
    )
    return linear_change(impl, other.node, gap, radius, {other.node.inputs[0]: held})


def weights_apart(layer: Step, norm: Step | None, weights: FloatArray) -> float:
    """How far weights are from those that the layer and the normalisation have together, as a part
    of the largest."""
    meant = layer.site.coefficients(1)
    channels = None if norm is None else norm.operator.likeness.channels
    per_weight = layer.operator.likeness.per_weight
    if norm is not None and channels is not None and per_weight is not None:
        meant = meant * per_weight(layer.site, channels(norm.site).scale)
    size = float(np.max(np.abs(meant), initial=0.0))
    gap = float(np.max(np.abs(weights - meant), initial=0.0))
    return gap / size if size else gap


def folded_change(
    layer: Step,
    norm: Step | None,
    impl: Graph,
    other: Step,
    held: Interval,
    summand: Summand | None = None,
) -> FloatArray:
    """|f_other − f_norm ∘ f_layer|, but for what the other adds in its sums, over a range of what
    that reads, where `is_folded`.

    Both are linear in their weights and biases together: w′ − s·w and b′ − (s·b + t) take the
    place of the constants, with scale s and shift t of the normalisation.
    """
    weights = other.site.coefficients(1)
    mine = weights if summand is None else summand.weights.astype(np.float64)
    names = [t for t in other.node.inputs[1:] if t]
    bias = other.site.coefficients(2).reshape(-1) if len(names) > 1 else None
    gap, radius = _gaps(layer, norm, mine, bias)
    if not any(np.any(v) for v in (*gap, *radius)):
        return np.zeros(other.site.outputs[0].shape)
    if summand is not None:
        gap, radius = ((summand.spread(v[0]), *v[1:]) for v in (gap, radius))
    return linear_change(
        impl,
        other.node,
        {t: v.reshape(impl.constants[t].shape) for t, v in zip(names, gap, strict=True)},
        {t: v.reshape(impl.constants[t].shape) for t, v in zip(names, radius, strict=True)},
        {other.node.inputs[0]: held},
    )


def _gaps(
    layer: Step, norm: Step | None, weights: FloatArray, bias: FloatArray | None
) -> tuple[tuple[FloatArray, ...], tuple[FloatArray, ...]]:
    """The weights, and the bias where there is one, less those that are meant, and what that
    misses."""
    meant = [layer.site.coefficients(1)]
    biased = len(layer.node.inputs) > 2 and bool(layer.node.inputs[2])
    if bias is not None:
        meant.append(layer.site.coefficients(2).reshape(-1) if biased else np.zeros_like(bias))
    if norm is None:
        ours = (weights,) if bias is None else (weights, bias)
        gap = tuple(a - b for a, b in zip(ours, meant, strict=True))
        pairs = zip(ours, meant, gap, strict=True)
        return gap, tuple(np.abs(two_sum_error(a, -b, d)) for a, b, d in pairs)
    channels, per_weight = norm.operator.likeness.channels, layer.operator.likeness.per_weight
    assert channels is not None
    assert per_weight is not None
    assert bias is not None
    n = channels(norm.site)
    scaled, moved = meant[0] * per_weight(layer.site, n.scale), meant[1] * n.scale
    shifted = moved + n.shift
    apart = weights - scaled, bias - shifted
    lost = add_up(n.shift_error, multiply_up(np.abs(shifted), 2.0**-52))
    return apart, (_erring(scaled, apart[0]), add_up(_erring(moved, apart[1]), lost))


def _erring(product: FloatArray, difference: FloatArray) -> FloatArray:
    """What a rounded product by a scale within 5 roundings and a rounded difference are off."""
    relative = add_up(
        multiply_up(np.abs(product), 8 * 2.0**-53), multiply_up(np.abs(difference), 2.0**-52)
    )
    return add_up(relative, 2.0**-1070)
