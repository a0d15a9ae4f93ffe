"""Pooling windows and reduced axes as index arrays: which input elements each output reads."""

from __future__ import annotations

from dataclasses import replace
from math import prod

import numpy as np

from encoders.families.gathering import Index
from encoders.families.movement import indices
from encoders.families.parameters import axes_of, integers_at
from encoders.families.windows import Window, patches, window_of
from encoders.gradients.rule import Reverse
from encoders.gradients.tape import Term
from encoders.operator import Site, remembered
from encoders.traits import Extent
from onnx_import.errors import UnsupportedModel

_SAME = ("SAME_UPPER", "SAME_LOWER", b"SAME_UPPER", b"SAME_LOWER")
_VALID = ("VALID", b"VALID")
PADDING, OUTSIDE = -1, -2  # a position in the pads, and one beyond them that ceil_mode reaches


def pool_window(site: Site) -> Window:
    """The window of a pooling node with the inferred output. Raises UnsupportedModel."""
    shape = site.type_of(0).shape
    kernel = site.integers("kernel_shape")
    if len(shape) < 3 or kernel is None or min(kernel) < 1:
        raise site.unsupported("attribute 'kernel_shape' is missing, or there are no pixels")
    window = window_of(site, kernel)
    require_agreed_pads(site, window)
    if min(window.output) < 1:
        raise site.unsupported("its window is longer than the padded input")
    output = site.outputs[0].shape[2:]
    ceiling = site.integer("ceil_mode", 0)
    if output != window.output and not (
        ceiling and all(o in (w, w + 1) for o, w in zip(output, window.output, strict=True))
    ):
        raise site.unsupported("the attributes do not give the inferred output shape")
    if output != window.output and site.node.attributes.get("auto_pad", "") in _VALID:
        raise site.unsupported(
            "its last windows are cut off by 'auto_pad' VALID and kept by 'ceil_mode', as ONNX's "
            "text and onnxruntime have it; state the pads"
        )
    sizes = zip(output, window.strides, window.before, site.type_of(0).shape[2:], strict=True)
    if any((o - 1) * s >= n + before for o, s, before, n in sizes):
        raise site.unsupported(
            "with 'ceil_mode' its last windows start in the padding behind the input, which "
            "onnxruntime and opset 22 leave out; pad less there"
        )
    return replace(window, output=output)


def is_same(site: Site) -> bool:
    """Does attribute 'auto_pad' keep the extents?"""
    return site.node.attributes.get("auto_pad", "") in _SAME


def require_agreed_pads(site: Site, window: Window) -> None:
    """Raises UnsupportedModel where ONNX's text, its reference and onnxruntime pad differently."""
    if not is_same(site):
        return
    sizes = zip(
        site.type_of(0).shape[2:],
        window.kernel,
        window.strides,
        window.dilations,
        strict=True,
    )
    for n, k, s, d in sizes:
        if (-(-n // s) - 1) * s + d * (k - 1) + 1 < n:
            raise site.unsupported(
                "its strides skip elements, and what attribute 'auto_pad' then means differs "
                "between runtimes; state the pads"
            )
        lower = site.node.attributes["auto_pad"] in ("SAME_LOWER", b"SAME_LOWER")
        if d > 1 and k > 1 and lower:
            raise _read_differently(site)


def require_undilated_pads(site: Site) -> None:
    """Raises UnsupportedModel where 'auto_pad' pads a window that is spread out."""
    if is_same(site) and _is_spread(pool_window(site)):
        raise _read_differently(site)


def _is_spread(window: Window) -> bool:
    return any(d > 1 and k > 1 for k, d in zip(window.kernel, window.dilations, strict=True))


def _read_differently(site: Site) -> UnsupportedModel:
    return site.unsupported(
        "attribute 'auto_pad' with dilations is read differently by ONNX's reference and by "
        "onnxruntime; state the pads"
    )


def pad_notes(site: Site) -> tuple[str, ...]:
    """onnxruntime forgets dilations where it pads by itself."""
    window = pool_window(site)
    if not is_same(site) or not _is_spread(window):
        return ()
    return (
        f"{site.node.describe()}: onnxruntime leaves dilations out of the pads of 'auto_pad' and "
        "parts from the specification, which is what is read here",
    )


@remembered
def pool_terms(site: Site) -> Index:
    """(kernel elements, *output): flat positions read, PADDING or OUTSIDE where there are none."""
    window, shape = pool_window(site), site.type_of(0).shape
    none = [(0, 0), (0, 0)]
    inner = [*none, *zip(window.before, window.after, strict=True)]
    padded = np.pad(indices(shape), inner, constant_values=PADDING)
    beyond = [
        max((o - 1) * s + d * (k - 1) + 1 - n, 0)
        for o, s, d, k, n in zip(
            window.output,
            window.strides,
            window.dilations,
            window.kernel,
            padded.shape[2:],
            strict=True,
        )
    ]
    padded = np.pad(padded, [*none, *((0, b) for b in beyond)], constant_values=OUTSIDE)
    return np.moveaxis(patches(padded, window), 2, 0)


def reduced_axes(site: Site) -> tuple[int, ...]:
    """The axes a reduction runs over. Raises UnsupportedModel, also where there are no numbers."""
    rank = len(site.type_of(0).shape)
    if not site.type_of(0).size:
        raise site.unsupported("it reduces an empty tensor")
    axes = integers_at(site, 1, "axes")
    if not axes:
        return () if site.integer("noop_with_empty_axes", 0) else tuple(range(rank))
    return axes_of(site, axes, rank)


def with_reduced(r: Reverse, term: Term) -> Term:
    """What a reduction gives, or its cotangent, with the axes that it went along of length 1."""
    axes = reduced_axes(r.site)
    return term.reshaped([1 if i in axes else n for i, n in enumerate(r.x.shape)])


@remembered
def reduced_terms(site: Site) -> Index:
    """(reduced elements in row-major order, *output): the positions each output reduces."""
    shape, axes = site.type_of(0).shape, reduced_axes(site)
    kept = [i for i in range(len(shape)) if i not in axes]
    index = indices(shape).transpose(*axes, *kept)
    return index.reshape(-1, *site.outputs[0].shape)


def reduced_extent(site: Site) -> Extent:
    """Of the sums of a reduction: results before the reduced axes are rows, those behind them
    columns."""
    shape, axes = site.type_of(0).shape, reduced_axes(site)
    columns = prod(shape[max(axes, default=0) + 1 :])
    rows = site.outputs[0].size // max(columns, 1)
    return Extent(len(reduced_terms(site)), rows=rows, columns=columns)


@remembered
def global_terms(site: Site) -> Index:
    """(pixels, *output): the positions that global pooling reads."""
    n, c = site.type_of(0).shape[:2]
    index = indices(site.type_of(0).shape).reshape(n, c, -1)
    return np.moveaxis(index, 2, 0).reshape(-1, *site.outputs[0].shape)
