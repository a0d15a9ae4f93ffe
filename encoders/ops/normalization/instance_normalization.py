"""InstanceNormalization over the pixels of each channel; GroupNormalization over channel groups.

A runtime may fold mean, deviation, scale and bias into one affine map per channel, or not, as the
contract's normalisation says. From opset 21 on groups are normalised in the type `stash_type`
(float32 unless the file says otherwise), and the result is scaled in the input's type.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import prod

import numpy as np
import numpy.typing as npt

from encoders.arithmetic.values import E
from encoders.families.parameters import require_shape
from encoders.families.rows.normalizing import Layout, normalizing_operator, stash_type
from encoders.gradients.rows import normalized_back
from encoders.gradients.rule import Carried, Gradient, Reverse
from encoders.gradients.tape import Term
from encoders.operator import Site
from encoders.relaxations.rows import Rows, rows_along
from onnx_import.graph import DType


def _instance_rows(site: Site) -> Rows:
    shape = site.type_of(0).shape
    return rows_along(shape, tuple(range(2, len(shape))))


def _per_channel(site: Site, parameter: npt.NDArray[E]) -> npt.NDArray[E]:
    rank = len(site.type_of(0).shape)
    return parameter.reshape(parameter.shape[0], 1, -1, *(1,) * (rank - 2))


def _groups(site: Site) -> int:
    return site.integer("num_groups", 0)


def _group_rows(site: Site) -> Rows:
    shape = site.type_of(0).shape
    n, c, *spatial = shape
    view = (n, _groups(site), c // _groups(site), prod(spatial))
    return Rows(shape, view, (2, 3))


def _per_channel_or_group(site: Site, parameter: npt.NDArray[E]) -> npt.NDArray[E]:
    """Up to opset 20 there is one scale per group, from then on one per channel."""
    if site.node.opset < 21:
        channels = site.type_of(0).shape[1] // _groups(site)
        parameter = np.repeat(parameter, channels, axis=1)
    return _per_channel(site, parameter)


def _stash(site: Site) -> DType:
    return stash_type(site) if site.node.opset >= 21 else site.outputs[0].dtype


def check_instance(site: Site) -> None:
    """Raises UnsupportedModel, naming the node, for axes, scales or biases that do not fit."""
    if len(site.type_of(0).shape) < 3:
        raise site.unsupported("its input needs a batch, a channel and spatial axes")
    for position in (1, 2):
        require_shape(site, position, (site.type_of(0).shape[1],))


def check_group(site: Site) -> None:
    """Raises UnsupportedModel, naming the node, for axes, groups, scales or biases that do not
    fit."""
    if len(site.type_of(0).shape) < 3:
        raise site.unsupported("its input needs a batch, a channel and spatial axes")
    channels, groups = site.type_of(0).shape[1], _groups(site)
    if groups < 1 or channels % groups:
        raise site.unsupported(f"attribute 'num_groups' is {groups}, for {channels} channels")
    for position in (1, 2):
        require_shape(site, position, (groups if site.node.opset < 21 else channels,))


def group_notes(site: Site) -> tuple[str, ...]:
    """onnxruntime has no kernel of it and executes the function that ONNX defines."""
    return (
        f"{site.node.describe()}: onnxruntime takes the variance for the mean of squares less the "
        "square of the mean, which cancels where numbers are far from 0; bounds in any order cover "
        "that, contracts that pin an order take the mean away first",
    )


def gradient(r: Reverse) -> Carried:
    rank = len(r.x.shape)

    def aligned(parameter: Term) -> Term:
        return parameter.reshaped((1, -1, *(1,) * (rank - 2)))

    return _back(r, aligned)


def group_gradient(r: Reverse) -> Carried:
    """That of instances whose channels are the groups, over channels and pixels."""
    view = _group_rows(r.site).view
    per_channel = r.site.node.opset >= 21

    def aligned(parameter: Term) -> Term:
        return parameter.reshaped((1, view[1], view[2] if per_channel else 1, 1))

    of_groups = replace(r, inputs=(r.x.reshaped(view), *r.inputs[1:]), up=r.up.reshaped(view))
    carried = _back(of_groups, aligned)
    return {i: t.reshaped(r.x.shape) if i == 0 else t for i, t in carried.items()}


def _back(r: Reverse, aligned: Callable[[Term], Term]) -> Carried:
    kind, channels = r.x.kind.dtype.numpy, r.x.shape[1]

    def normalized(x: Term) -> Term:
        ones, zeros = r.stored(np.ones(channels, kind)), r.stored(np.zeros(channels, kind))
        epsilon = r.site.real("epsilon", 1e-5)
        return r.tape.node(x, ones, zeros, op="InstanceNormalization", kind=x.kind, epsilon=epsilon)

    axes = range(2, len(r.x.shape))
    return normalized_back(r, axes=axes, aligned=aligned, normalized=normalized)


OPERATORS = (
    normalizing_operator(
        "InstanceNormalization",
        6,
        Layout(_instance_rows, _per_channel, _per_channel, centred=True, foldable=True),
        check_instance,
    )
    .reading("epsilon")
    .derived(Gradient(rule=gradient))
    .by_version(),
    replace(
        normalizing_operator(
            "GroupNormalization",
            18,
            Layout(
                _group_rows,
                _per_channel_or_group,
                _per_channel_or_group,
                centred=True,
                foldable=True,
                stash=_stash,
                one_pass=True,
            ),
            check_group,
        )
        .reading("epsilon", "num_groups", "stash_type")
        .derived(Gradient(rule=group_gradient))
        .by_version(),
        notes=group_notes,
    ),
)
