"""The output shape of ConvTranspose as ONNX's text has it, which ONNX's own inference has not.

With auto_pad SAME_UPPER or SAME_LOWER and no output_shape the text says input·stride, and inference
adds output_padding; an output_shape smaller than the input is not inferred at all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx

from onnx_import.errors import UnsupportedModel
from onnx_import.graph import TensorType

_SAME = (b"SAME_UPPER", b"SAME_LOWER")


def transposed_shape(
    proto: onnx.NodeProto, place: str, types: Mapping[str, TensorType]
) -> tuple[int, ...] | None:
    """The output shape (N, channels, *spatial); None where attributes do not fit their input.

    Raises UnsupportedModel, naming the node, where nothing is left, and where padding would be
    negative, which onnxruntime and ONNX's reference divide between both ends in their own ways.
    """
    data, weights = (types[t].shape for t in proto.input[:2])
    rank = len(data) - 2
    given = {a.name: onnx.helper.get_attribute_value(a) for a in proto.attribute}

    def numbers(name: str, default: Sequence[int]) -> list[int]:
        return list(given.get(name) or default)

    kernel, ones = weights[2:], [1] * rank
    strides, dilations = numbers("strides", ones), numbers("dilations", ones)
    extra, pads = numbers("output_padding", [0] * rank), numbers("pads", [0] * (2 * rank))
    lengths = {len(v) for v in (kernel, strides, dilations, extra, pads[rank:])}
    if rank < 1 or lengths != {rank} or len(weights) < 3 or min((*strides, *dilations)) < 1:
        return None
    if any(e >= max(s, d) for e, s, d in zip(extra, strides, dilations, strict=True)):
        raise UnsupportedModel(
            f"{place}: attribute 'output_padding' {extra} must be smaller than its stride or "
            "dilation; export the model again"
        )
    full = [
        s * (n - 1) + e + d * (k - 1) + 1
        for n, s, e, d, k in zip(data[2:], strides, extra, dilations, kernel, strict=True)
    ]
    wanted = numbers("output_shape", [])[-rank:]
    mode = given.get("auto_pad", b"NOTSET")
    # one element missing from a stated shape is put at the end by all
    beyond = 1 if wanted and mode != b"SAME_UPPER" else 0
    if not wanted and mode in _SAME:
        wanted = [n * s for n, s in zip(data[2:], strides, strict=True)]
    if wanted and len(wanted) != rank:
        return None
    if mode == b"VALID":
        pads = [0] * (2 * rank)
    made = wanted or [f - a - b for f, a, b in zip(full, pads[:rank], pads[rank:], strict=True)]
    if min(made) < 1:
        raise UnsupportedModel(f"{place}: its pads leave nothing of its output ({made})")
    if wanted and any(f + beyond < w for f, w in zip(full, wanted, strict=True)):
        raise UnsupportedModel(
            f"{place}: its output of {wanted} is longer than the {full} that its kernel reaches, "
            "which runtimes read differently; give the missing elements as 'output_padding'"
        )
    return (data[0], weights[1] * int(given.get("group", 1)), *made)
