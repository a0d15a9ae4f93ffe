"""TorchLean's convolutions and pools in ONNX operators: nothing dropped, nothing assumed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from onnx_import.torchlean.documents import Reals, Shape
from onnx_import.torchlean.place import Kind, OnnxStep, Place, within

CONV_FIELDS = (
    "spatial_rank",
    "kernel",
    "stride",
    "padding",
    "padding_after",
    "dilation",
    "groups",
    "channel_axis",
    "in_channels",
    "out_channels",
    "input_spatial",
    "weight",
    "bias",
)


def _convolution(
    place: Place, rank: int, channels: tuple[int, int], groups: int, attributes: Mapping[str, Any]
) -> Sequence[OnnxStep]:
    """Conv over the last `rank` axes; the axes before the channels together are its batch."""
    shape, (c, o) = place.parents[0], channels
    if len(shape) <= rank or shape[-rank - 1] != c:
        raise place.wrong(f"its parent has the shape {list(shape)}", f"one with {c} channels")
    if groups < 1 or c % groups or o % groups:
        raise place.wrong(f"attribute 'groups' is {groups}", "a divisor of both channel counts")
    kernel = tuple(attributes["kernel_shape"])
    weight = _grouped(place, o, c, groups, kernel)
    bias = place.tensor("bias", "bias", (o,))
    step = OnnxStep("Conv", (weight, bias), {**attributes, "group": groups})
    inner = (math.prod(shape[: -rank - 1]), *shape[-rank - 1 :])
    outer = (*shape[: -rank - 1], o, *_windows(place, shape[-rank:], attributes))
    return within(inner, (step,), shape, outer)


def _grouped(place: Place, o: int, c: int, groups: int, kernel: Shape) -> Reals:
    """The weight out × in/groups × kernel; TorchLean may store it out × in, group by group."""
    part = (o, c // groups, *kernel)
    given = place.entry.fields.get("weight", place.stored.get("weight"))
    first = given[0] if isinstance(given, (list, np.ndarray)) and len(given) else None
    is_dense = isinstance(first, (list, np.ndarray)) and len(first) == c
    if groups == 1 or place.flat or not is_dense:
        return place.tensor("weight", "weight", part)
    dense = place.tensor("weight", "weight", (o, c, *kernel))
    rows, columns = np.arange(o) // (o // groups), np.arange(c) // (c // groups)
    if np.any(dense[rows[:, None] != columns[None, :]]):
        raise place.wrong("weight 'weight' has numbers between different groups", "zero there")
    return np.stack([dense[i, columns == g] for i, g in enumerate(rows)])


def conv(place: Place) -> Sequence[OnnxStep]:
    """A convolution over any number of axes."""
    entry = place.entry
    rank = _rank(place)
    names = ("kernel", "stride", "padding", "padding_after", "dilation", "input_spatial")
    kernel, stride, before, after, dilation, spatial = (entry.integers(n, rank) for n in names)
    place.agree("attribute 'input_spatial'", spatial, place.parents[0][-rank:])
    place.agree(
        "attribute 'channel_axis'", entry.integer("channel_axis") + rank + 1, len(place.parents[0])
    )
    channels = (entry.integer("in_channels"), entry.integer("out_channels"))
    attributes = {
        "kernel_shape": list(kernel),
        "strides": list(stride),
        "dilations": list(dilation),
        "pads": [*before, *after],
    }
    return _convolution(place, rank, channels, entry.integer("groups"), attributes)


def conv2d(place: Place) -> Sequence[OnnxStep]:
    """A convolution in two dimensions, stride and padding the same for both."""
    integer = place.entry.integer
    attributes = {
        "kernel_shape": [integer("kH"), integer("kW")],
        "strides": [integer("stride")] * 2,
        "pads": [integer("padding")] * 4,
    }
    return _convolution(place, 2, (integer("inC"), integer("outC")), 1, attributes)


def _rank(place: Place) -> int:
    rank = place.entry.integer("spatial_rank")
    if not 1 <= rank < len(place.parents[0]):
        raise place.wrong(f"attribute 'spatial_rank' is {rank}", "less than its parent's axes")
    return rank


def _windows(place: Place, pixels: Shape, attributes: Mapping[str, Any]) -> Shape:
    """How many windows fit along each axis; what is left over at the end is dropped."""
    kernel, stride, pads = (attributes[name] for name in ("kernel_shape", "strides", "pads"))
    dilation = attributes.get("dilations", [1] * len(kernel))
    if min(*kernel, *stride, *dilation) < 1:
        raise place.wrong("its kernel, stride or dilation is 0 somewhere", "1 or more")
    rank = len(kernel)
    counts = tuple(
        (pixels[i] + pads[i] + pads[i + rank] - dilation[i] * (kernel[i] - 1) - 1) // stride[i] + 1
        for i in range(rank)
    )
    if min(counts) < 1:
        raise place.wrong("its window is larger than its padded parent", "within it")
    return counts


def _pooled(
    place: Place, op: str, kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int]
) -> Sequence[OnnxStep]:
    """Pooling over the last axes. Padding is −∞ for a maximum; it counts as 0 in a mean."""
    shape, rank = place.parents[0], len(kernel)
    if len(shape) <= rank:
        raise place.wrong(f"its parent has the shape {list(shape)}", f"of more than {rank} axes")
    attributes: dict[str, Any] = {
        "kernel_shape": list(kernel),
        "strides": list(stride),
        "pads": [*padding, *padding],
    }
    if op == "AveragePool":
        attributes["count_include_pad"] = 1
    inner = shape if len(shape) == rank + 2 else (1, math.prod(shape[:-rank]), *shape[-rank:])
    outer = (*shape[:-rank], *_windows(place, shape[-rank:], attributes))
    return within(inner, (OnnxStep(op, (), attributes),), shape, outer)


def pool(op: str) -> Kind:
    """The kind of node that lowers to a pooling operator over any number of axes."""

    def lower(place: Place) -> Sequence[OnnxStep]:
        rank = _rank(place)
        names = ("kernel", "stride", "padding")
        return _pooled(place, op, *(place.entry.integers(name, rank) for name in names))

    return Kind(1, lower, ("spatial_rank", "kernel", "stride", "padding"))


def pool2d(op: str, padded: bool) -> Kind:
    """The kind of node that lowers to a pooling operator over the last two axes; its padding is a
    field only where `padded`."""

    def lower(place: Place) -> Sequence[OnnxStep]:
        integer = place.entry.integer
        kernel, stride = (integer("kH"), integer("kW")), (integer("stride"),) * 2
        return _pooled(place, op, kernel, stride, ((integer("padding") if padded else 0),) * 2)

    return Kind(1, lower, ("kH", "kW", "stride", *(("padding",) if padded else ())))
