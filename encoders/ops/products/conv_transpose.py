"""ConvTranspose: the transpose of a convolution.

Terms are summed input channel by input channel, kernel positions in row-major order, where a
contract pins the order; a position that no input element reaches contributes a product with zero.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import numpy.typing as npt

from encoders.arithmetic.exact_fields import ObjectArray
from encoders.arithmetic.runtime import Arithmetic, joined, moved, sum_of_products
from encoders.arithmetic.values import E, Inputs, V
from encoders.contract.contract import RuntimeContract
from encoders.families.carried import window_products
from encoders.families.convolving import (
    convolution_semantics,
    has_computed_weights,
    require_computed,
)
from encoders.families.gathering import Index
from encoders.families.parameters import require_shape, word
from encoders.families.products import Action, Map
from encoders.families.signed_sum import check_float
from encoders.families.windows import Window, fitted, require_one_padding
from encoders.gradients.rule import Carried, Gradient, Reverse, each
from encoders.gradients.tape import Term
from encoders.numbers.enclosure import FloatArray
from encoders.operator import Field, Operator, Site, remembered
from encoders.traits import Likeness


@dataclass(frozen=True)
class Spread:
    """Where each kernel element sends each input pixel.

    `target` (kernel elements, input pixels) holds flat output pixels, `source` (kernel elements,
    output pixels) the input pixel that reaches it; −1 where there is none.
    """

    kernel: tuple[int, ...]
    output: tuple[int, ...]
    target: Index
    source: Index


def check(site: Site) -> None:
    check_float(site)
    require_computed(site)
    groups, x, w = site.integer("group", 1), site.type_of(0).shape, site.type_of(1).shape
    if x[1] != w[0] or w[0] % groups:
        raise site.unsupported(f"{groups} groups do not fit input {x} and weights {w}")
    if site.outputs[0].shape[1] != w[1] * groups:
        raise site.unsupported("the weights do not give the inferred output channels")
    require_shape(site, 2, (w[1] * groups,))
    _begins(site)


def _begins(site: Site) -> tuple[int, ...]:
    """How much is cut off before each spatial axis. Raises UnsupportedModel."""
    spatial, kernel = site.type_of(0).shape[2:], site.type_of(1).shape[2:]
    rank = len(spatial)
    ones = (1,) * rank
    if site.integers("kernel_shape", kernel) != kernel:
        raise site.unsupported("attribute 'kernel_shape' does not match the weights")
    strides = site.integers("strides", ones) or ones
    dilations = site.integers("dilations", ones) or ones
    extra = site.integers("output_padding", (0,) * rank) or (0,) * rank
    pads = site.integers("pads", (0,) * (2 * rank)) or (0,) * (2 * rank)
    wanted = site.integers("output_shape")
    mode = word(site, "auto_pad", "NOTSET", ("NOTSET", "", "VALID", "SAME_UPPER", "SAME_LOWER"))
    output = site.outputs[0].shape[2:]
    require_one_padding(site)
    full = [
        s * (n - 1) + e + d * (k - 1) + 1
        for n, s, e, d, k in zip(spatial, strides, extra, dilations, kernel, strict=True)
    ]
    if wanted is None and mode in ("NOTSET", "", "VALID"):
        if mode == "VALID":
            pads = (0,) * (2 * rank)
        expected = tuple(f - a - b for f, a, b in zip(full, pads[:rank], pads[rank:], strict=True))
        if expected != output:
            raise site.unsupported("the attributes do not give the inferred output shape")
        return pads[:rank]
    total = [max(f - o, 0) for f, o in zip(full, output, strict=True)]
    if mode == "SAME_UPPER":
        return tuple(t // 2 for t in total)
    return tuple(t - t // 2 for t in total)


def notes(site: Site) -> tuple[str, ...]:
    """Where ONNX's reference has other pads than its text and onnxruntime."""
    mode = word(site, "auto_pad", "NOTSET", ("NOTSET", "", "VALID", "SAME_UPPER", "SAME_LOWER"))
    if site.integers("output_shape") is None or mode in ("SAME_UPPER", "SAME_LOWER"):
        return ()
    return (
        f"{site.node.describe()}: pads follow from 'output_shape', as ONNX's text and onnxruntime "
        "have it; its reference evaluator takes those of the attribute 'pads'",
    )


@remembered
def _spread(site: Site) -> Spread:
    spatial, kernel = site.type_of(0).shape[2:], site.type_of(1).shape[2:]
    output = site.outputs[0].shape[2:]
    ones = (1,) * len(spatial)
    strides = site.integers("strides", ones) or ones
    dilations = site.integers("dilations", ones) or ones
    begins = _begins(site)
    places = np.stack(
        [g.reshape(-1) for g in np.meshgrid(*(np.arange(n) for n in spatial), indexing="ij")]
    )
    targets, sources = [], []
    for offset in product(*(range(k) for k in kernel)):
        at = [
            places[i] * strides[i] + offset[i] * dilations[i] - begins[i]
            for i in range(len(spatial))
        ]
        inside = np.all([(a >= 0) & (a < o) for a, o in zip(at, output, strict=True)], axis=0)
        kept = tuple(np.where(inside, a, 0) for a in at)
        target = np.where(inside, np.ravel_multi_index(kept, output), -1)
        source = np.full(int(np.prod(output)), -1, dtype=np.intp)
        source[target[inside]] = np.flatnonzero(inside)
        targets.append(target)
        sources.append(source)
    return Spread(kernel, output, np.stack(targets).astype(np.intp), np.stack(sources))


def _window(site: Site) -> Window:
    """The windows of the transposed action: one over the output for every input pixel."""
    spatial, kernel = site.type_of(0).shape[2:], site.type_of(1).shape[2:]
    output = site.outputs[0].shape[2:]
    ones = (1,) * len(spatial)
    strides = site.integers("strides", ones) or ones
    dilations = site.integers("dilations", ones) or ones
    before = _begins(site)
    after = tuple(
        (n - 1) * s + (k - 1) * d + 1 - b - o
        for n, s, k, d, b, o in zip(
            spatial, strides, kernel, dilations, before, output, strict=True
        )
    )
    return Window(kernel, strides, dilations=dilations, before=before, after=after, output=spatial)


def _grouped(site: Site, weights: npt.NDArray[E]) -> npt.NDArray[E]:
    """Weights (k, *weights) as (k, groups, outputs per group, inputs per group, kernel
    elements)."""
    groups, (count, inputs, outputs) = site.integer("group", 1), weights.shape[:3]
    return np.swapaxes(weights.reshape(count, groups, inputs // groups, outputs, -1), 2, 3)


def _columns(site: Site, values: npt.NDArray[E], source: Index) -> npt.NDArray[E]:
    """(k, N, C, pixels + a zero) → (k, N, groups, inputs per group · kernel elements, output)."""
    groups, channels = site.integer("group", 1), site.type_of(0).shape[1]
    read = np.where(source < 0, values.shape[-1] - 1, source)
    terms = channels // groups * source.shape[0]
    return values[:, :, :, read].reshape(*values.shape[:2], groups, terms, source.shape[1])


def _with_zero(site: Site, values: V, zero: V) -> V:
    """(k, *in) → (k, N, C, pixels + 1), a zero at the end."""
    n, c = site.type_of(0).shape[:2]
    flat = moved(values, lambda v: v.reshape(v.shape[0], n, c, -1))
    zeros = moved(zero, lambda v: np.broadcast_to(v.reshape(1, 1, 1, 1), (1, n, c, 1)))
    return joined((flat, zeros), 3)


def real(site: Site, inputs: Inputs[ObjectArray], field: Field) -> tuple[ObjectArray, ...]:
    x, w = inputs[0], inputs[1]
    assert x is not None
    assert w is not None
    padded = _with_zero(site, x, field.constant(np.zeros(())))
    columns = _columns(site, padded, _spread(site).source)
    weights = _grouped(site, w)
    weights = weights.reshape(len(w), 1, *weights.shape[1:3], -1)
    out = field.matmul(weights, columns)
    out = out.reshape(len(out), *site.outputs[0].shape)
    bias = inputs.optional(2)
    if bias is not None:
        out = out + bias.reshape(len(bias), 1, -1, *(1,) * (out.ndim - 3))
    return (out,)


def runtime(
    site: Site, inputs: Inputs[V], arithmetic: Arithmetic[V], contract: RuntimeContract
) -> tuple[V, ...]:
    spread, groups = _spread(site), site.integer("group", 1)
    padded = _with_zero(site, inputs[0], arithmetic.constant(np.zeros((), np.float32)))
    x = moved(padded, lambda v: _columns(site, v, spread.source)[:, :, :, None])

    def weights(v: npt.NDArray[E]) -> npt.NDArray[E]:
        grouped = _grouped(site, v)
        return grouped.reshape(len(v), 1, *grouped.shape[1:3], -1, 1)

    w = moved(inputs[1], weights)
    bias = inputs.optional(2)
    if bias is not None:
        bias = moved(bias, lambda v: v.reshape(len(v), 1, groups, -1, 1))

    def term(k: int) -> tuple[V, V]:
        return moved(x, lambda v: v[:, :, :, :, k]), moved(w, lambda v: v[:, :, :, :, k])

    total = sum_of_products(arithmetic, contract, [term(k) for k in range(w.shape[4])], bias)
    return (moved(total, lambda v: v.reshape(len(v), *site.outputs[0].shape)),)


def _action(site: Site) -> Action:
    """How weights act on the input."""
    spread, groups = _spread(site), site.integer("group", 1)
    shape, output = site.type_of(0).shape, site.outputs[0].shape
    pixels, results = int(np.prod(shape[2:])), int(np.prod(output[2:]))
    per_group = site.type_of(1).shape[1]
    reached = [np.flatnonzero(t >= 0) for t in spread.target]

    def flat(w: FloatArray) -> FloatArray:
        """(groups, outputs per group · kernel elements, inputs per group)."""
        rows = np.swapaxes(_grouped(site, w[None])[0], 2, 3)
        return np.asarray(rows.reshape(groups, -1, rows.shape[-1]))

    def apply(w: FloatArray) -> Map:
        rows = flat(w)

        def forward(x: FloatArray) -> FloatArray:
            columns = rows @ x.reshape(x.shape[0] * shape[0], groups, -1, pixels)
            columns = columns.reshape(-1, groups, per_group, len(reached), pixels)
            out = np.zeros((*columns.shape[:3], results))
            for k, at in enumerate(reached):
                out[..., spread.target[k][at]] += columns[..., k, at]
            return out.reshape(x.shape[0], *output)

        return forward

    window = _window(site)

    def adjoint(w: FloatArray) -> Map:
        columns = np.swapaxes(flat(w), -1, -2)

        def back(c: FloatArray) -> FloatArray:
            """One matrix product: each input pixel gathers what it was spread to."""
            folded = fitted(c.reshape(-1, *output[1:]), window)
            read = np.empty((output[1], len(reached), folded.shape[0], *shape[2:]))
            for k, where in enumerate(window.positions()):
                part = folded[(slice(None), slice(None), *where)]
                read[:, k] = np.swapaxes(part, 0, 1)
            pulled = columns @ read.reshape(groups, per_group * len(reached), -1)
            moved_back = np.swapaxes(pulled.reshape(shape[1], folded.shape[0], *shape[2:]), 0, 1)
            return np.ascontiguousarray(moved_back).reshape(c.shape[0], *shape)

        return back

    kernel = len(reached)
    return Action(apply, adjoint, kernel * shape[1] // groups, kernel * per_group)


def _action_on_weights(site: Site) -> Action:
    """How the input acts on weights."""
    spread, groups = _spread(site), site.integer("group", 1)
    shape, output, held = site.type_of(0).shape, site.outputs[0].shape, site.type_of(1).shape
    inputs, outputs, kernel = held[0] // groups, held[1], len(spread.source)

    def columns(x: FloatArray) -> FloatArray:
        flat = x.reshape(1, *shape[:2], -1)
        padded = np.concatenate((flat, np.zeros((*flat.shape[:3], 1))), 3)
        return np.asarray(_columns(site, padded, spread.source)[0])

    def apply(x: FloatArray) -> Map:
        read = columns(x)

        def forward(w: FloatArray) -> FloatArray:
            rows = _grouped(site, w).reshape(len(w), 1, groups, outputs, -1)
            return np.asarray((rows @ read).reshape(len(w), *output))

        return forward

    def adjoint(x: FloatArray) -> Map:
        read = np.swapaxes(columns(x), -1, -2)

        def back(c: FloatArray) -> FloatArray:
            rows = c.reshape(len(c), shape[0], groups, outputs, -1)
            found = (rows @ read).sum(axis=1).reshape(len(c), groups, outputs, inputs, kernel)
            return np.asarray(np.swapaxes(found, 2, 3).reshape(len(c), *held))

        return back

    return Action(apply, adjoint, kernel * inputs, shape[0] * int(np.prod(output[2:])))


values, differences, rounding = convolution_semantics(_action, _action_on_weights, runtime)


def _work(site: Site) -> int:
    shape, w = site.type_of(0).shape, site.type_of(1).shape
    return int(np.prod(shape)) * int(np.prod(w[1:]))


def _per_weight(site: Site, scale: FloatArray) -> FloatArray:
    groups, shape = site.integer("group", 1), site.type_of(1).shape
    each = np.repeat(scale.reshape(groups, 1, -1), shape[0] // groups, axis=1)
    return each.reshape(shape[0], shape[1], *(1,) * (len(shape) - 2))


def gradient(r: Reverse) -> Carried:
    """Of the input: the convolution. Of weights: a product of the input with the windows that the
    cotangent is read in."""
    site, w = r.site, r.read(1)
    groups, window = site.integer("group", 1), _positive_window(site)

    def to_input() -> Term:
        return r.tape.node(
            r.up,
            w,
            op="Conv",
            kind=r.x.kind,
            dilations=window.dilations,
            group=groups,
            kernel_shape=window.kernel,
            pads=(*window.before, *window.after),
            strides=window.strides,
        )

    def to_weights() -> Term:
        per_group = (groups, r.x.shape[1] // groups)
        return window_products(r.up, r.x, window, per_group).reshaped(w.shape)

    return each(((0, to_input), (1, to_weights), (2, r.up.per_channel)), r)


def _positive_window(site: Site) -> Window:
    """The windows of the transposed action with pads that a convolution may have."""
    window = _window(site)
    after = tuple(max(a, 0) for a in window.after)
    if min(window.before) < 0:
        raise site.unsupported("its output begins before what it computes, which has no gradient")
    return replace(window, after=after)


OPERATORS = (
    Operator(
        "ConvTranspose",
        since=1,
        check=check,
        real=real,
        runtime=runtime,
        values=values,
        differences=differences,
        rounding=rounding,
        gradient=Gradient(rule=gradient),
        affine=True,
        affine_where=lambda site: not has_computed_weights(site),
        factors=(0, 1),
        work=_work,
        notes=notes,
        likeness=Likeness(
            implied=frozenset({"kernel_shape"}), linear_in_constants=True, per_weight=_per_weight
        ),
    ).reading(
        "auto_pad",
        "dilations",
        "group",
        "kernel_shape",
        "output_padding",
        "output_shape",
        "pads",
        "strides",
    ),
)
