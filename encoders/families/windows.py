"""Sliding windows over spatial axes, as Conv and pooling use them: pads, strides, dilations."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt

from encoders.arithmetic.values import E
from encoders.numbers.enclosure import FloatArray
from encoders.operator import Site


@dataclass(frozen=True)
class Window:
    """Kernel shape, strides, dilations, zero padding before and after, and output extents, one
    number per spatial axis."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]
    output: tuple[int, ...]

    def positions(self) -> list[tuple[slice, ...]]:
        """For each kernel element in row-major order, where it reads in the padded input."""
        return [
            tuple(
                slice(o * d, o * d + (n - 1) * s + 1, s)
                for o, d, s, n in zip(
                    offset, self.dilations, self.strides, self.output, strict=True
                )
            )
            for offset in product(*(range(k) for k in self.kernel))
        ]


def window_of(site: Site, kernel: tuple[int, ...]) -> Window:
    """Read a window from a node's attributes. Raises UnsupportedModel for what it cannot mean."""
    spatial = site.type_of(0).shape[2:]
    rank = len(spatial)
    ones = (1,) * rank
    strides = site.integers("strides", ones) or ones
    dilations = site.integers("dilations", ones) or ones
    given = site.integers("kernel_shape", kernel)
    if given != kernel or len(kernel) != rank:
        raise site.unsupported(f"kernel_shape {given} does not match the weights' {kernel}")
    if len(strides) != rank or len(dilations) != rank:
        raise site.unsupported("strides and dilations need one number per spatial axis")
    before, after = _pads(site, spatial, kernel, strides, dilations)
    output = tuple(
        (n + b + a - (d * (k - 1) + 1)) // s + 1
        for n, b, a, d, k, s in zip(spatial, before, after, dilations, kernel, strides, strict=True)
    )
    return Window(kernel, strides, dilations=dilations, before=before, after=after, output=output)


def require_one_padding(site: Site) -> None:
    """Raises UnsupportedModel for pads beside an 'auto_pad' that gives others."""
    mode = site.node.attributes.get("auto_pad", "NOTSET")
    mode = mode.decode() if isinstance(mode, bytes) else str(mode)
    given = site.integers("pads")
    if given is not None and mode not in ("NOTSET", "") and (any(given) or mode != "VALID"):
        raise site.unsupported(
            f"attributes 'auto_pad' {mode} and 'pads' exclude each other, and runtimes read both "
            "differently; leave one out"
        )


def _pads(
    site: Site,
    spatial: tuple[int, ...],
    kernel: tuple[int, ...],
    strides: tuple[int, ...],
    dilations: tuple[int, ...],
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    rank = len(spatial)
    mode = site.node.attributes.get("auto_pad", "NOTSET")
    mode = mode.decode() if isinstance(mode, bytes) else str(mode)
    if mode in ("NOTSET", ""):
        pads = site.integers("pads", (0,) * (2 * rank)) or (0,) * (2 * rank)
        if len(pads) != 2 * rank or min(pads) < 0:
            raise site.unsupported(f"attribute 'pads' {pads} needs {2 * rank} numbers ≥ 0")
        return pads[:rank], pads[rank:]
    require_one_padding(site)
    if mode == "VALID":
        return (0,) * rank, (0,) * rank
    if mode not in ("SAME_UPPER", "SAME_LOWER"):
        raise site.unsupported(f"auto_pad '{mode}' is not known")
    total = [
        max((-(-n // s) - 1) * s + d * (k - 1) + 1 - n, 0)
        for n, s, d, k in zip(spatial, strides, dilations, kernel, strict=True)
    ]
    less = tuple(t // 2 for t in total)
    more = tuple(t - t // 2 for t in total)
    return (less, more) if mode == "SAME_UPPER" else (more, less)


def fitted(x: npt.NDArray[E], window: Window) -> npt.NDArray[E]:
    """(k, C, *in) padded with zeros, or cut where padding is negative."""
    pads = list(zip(window.before, window.after, strict=True))
    cut = tuple(
        slice(max(-b, 0), n - max(-a, 0)) for (b, a), n in zip(pads, x.shape[2:], strict=True)
    )
    grown = [(max(b, 0), max(a, 0)) for b, a in pads]
    return np.pad(x[(slice(None), slice(None), *cut)], [(0, 0), (0, 0), *grown])


def patches(padded: npt.NDArray[E], window: Window) -> npt.NDArray[E]:
    """(k, C, *padded) → (k, C, kernel elements, *output): every value each window reads."""
    reads = [padded[(slice(None), slice(None), *where)] for where in window.positions()]
    if len(reads) == 1:
        return reads[0][:, :, np.newaxis]
    return np.stack(reads, axis=2)


def scattered(parts: FloatArray, window: Window, spatial: tuple[int, ...]) -> FloatArray:
    """The transpose of padding and `patches`: (k, C, kernel elements, *output) → (k, C, *in).

    What lies side by side has an axis more, the last one of both.
    """
    full = tuple(n + b + a for n, b, a in zip(spatial, window.before, window.after, strict=True))
    if full == window.output == spatial and parts.shape[2] == 1:
        return parts[:, :, 0]
    beside = parts.shape[3 + len(spatial) :]
    out = np.zeros((*parts.shape[:2], *full, *beside), dtype=parts.dtype)
    for position, where in enumerate(window.positions()):
        out[(slice(None), slice(None), *where)] += parts[:, :, position]
    inner = tuple(slice(b, b + n) for b, n in zip(window.before, spatial, strict=True))
    return out[(slice(None), slice(None), *inner)]
