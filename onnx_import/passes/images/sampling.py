"""Where a GridSample reads: the coordinates that a stored grid names, exactly, and its pixels.

A grid has numbers from −1 to 1, the last axis first. What lies outside is padded pixel by pixel,
as ONNX's text and onnxruntime do it.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from onnx_import.graph import Array
from onnx_import.passes.body import Body

ATTRIBUTES = "align_corners mode padding_mode"
NOWHERE = -1  # a pixel that is read as 0
FARTHEST = 2**20  # from there on floats are too coarse to say which pixel is meant
MOST = 2**18  # coordinates of a grid, each of which is looked at
Pixels = npt.NDArray[np.int64]
N = TypeVar("N", float, npt.NDArray[np.float64])


def mode_of(given: object) -> str:
    """The mode by its newer name, of opset 20."""
    text = given.decode() if isinstance(given, bytes) else str(given)
    return {"bilinear": "linear", "bicubic": "cubic"}.get(text, text)


def coordinate(n: Fraction, length: int, aligned: bool) -> Fraction:
    """Where a number of the grid stands along an axis of `length` pixels."""
    return (n + 1) * (length - 1) / 2 if aligned else ((n + 1) * length - 1) / 2


def doubt(n: N, length: int, unit: float) -> N:
    """How far coordinates may be from exact ones where each operation errs by `unit`: one of
    n + 1, one of its product with the length, one more where 1 or a half is taken off."""
    return 2.0 * unit * (abs(n) + 1.0) * (length + 1.0)


def pixels(at: Pixels, length: int, padding: str, aligned: bool) -> Pixels:
    """The pixels that are read at these places along an axis, `NOWHERE` where that is 0."""
    if padding == "zeros":
        return np.where((at >= 0) & (at < length), at, NOWHERE)
    if padding == "border":
        return np.clip(at, 0, length - 1)
    # mirrored at the first and last pixel, or half a pixel beyond them
    period = 2 * (length - 1) if aligned else 2 * length
    folded = at % max(period, 1)
    return np.where(folded < length, folded, period - folded - (0 if aligned else 1))


def flat(places: list[Pixels], lengths: tuple[int, ...]) -> Pixels:
    """Row-major positions of pixels given axis by axis, the first first."""
    found = np.zeros((), np.int64)
    for place, length in zip(places, lengths, strict=True):
        outside = (found == NOWHERE) | (place == NOWHERE)
        found = np.where(outside, NOWHERE, found * length + place)
    return found


def why_unread(shape: tuple[int, ...], grid: Array, mode: str, padding: str, aligned: bool) -> str:
    """Why a GridSample by this stored grid has no meaning here; the empty text where it has."""
    dims = len(shape) - 2
    if dims not in (2, 3) or grid.ndim != dims + 2 or grid.shape[-1] != dims:
        return f"its data have {dims} axes of pixels and its grid has {grid.shape[-1]}"
    if grid.shape[0] != shape[0]:
        return f"its grid (input 1) is for a batch of {grid.shape[0]}, not of {shape[0]}"
    if padding not in ("zeros", "border", "reflection"):
        return f"attribute 'padding_mode' is '{padding}'"
    if mode not in ("nearest", "linear", "cubic") or (mode == "cubic" and dims == 3):
        return f"attribute 'mode' is '{mode}', for {dims} axes of pixels"
    if padding == "reflection" and aligned and 1 in shape[2:]:
        return "it mirrors a single pixel at its middle, which has no meaning"
    if grid.size > MOST:
        return f"its grid has {grid.size} numbers; supported are {MOST}"
    wide = grid.astype(np.float64)
    far = np.max((np.abs(wide) + 1.0) * (np.array(shape[:1:-1], np.float64) + 1.0), initial=0.0)
    if not far < FARTHEST:
        return f"its grid (input 1) leads {float(far):.3g} pixels away, too far to be told apart"
    return ""


def nearest_by_grid(body: Body) -> None:
    """A GridSample of mode nearest by a stored grid as a Gather of the pixels; others stay."""
    grid = body.known.get(body.node.inputs[1])
    mode, padding = (
        mode_of(body.number("mode", "linear")),
        mode_of(body.number("padding_mode", "zeros")),
    )
    if grid is None or mode != "nearest":
        return
    shape, aligned = body.shape(0), bool(body.number("align_corners", 0))
    why = why_unread(shape, grid, mode, padding, aligned)
    if why:
        raise body.unsupported(why)
    lengths, dims = shape[2:], len(shape) - 2
    unit = {"float32": 2.0**-24, "float64": 2.0**-53}.get(grid.dtype.name)
    if unit is None or body.types[body.node.inputs[0]].dtype.numpy != grid.dtype:
        raise body.unsupported("its data and its grid must both be float32, or float64")
    places = []
    for axis, length in enumerate(lengths):
        given = grid[..., dims - 1 - axis]
        at = np.zeros(given.shape, np.int64)
        for k, n in np.ndenumerate(given):
            at[k] = _nearest(body, float(n), length, padding, aligned, unit)
        places.append(pixels(at, length, padding, aligned))
    count = math.prod(lengths)
    chosen = flat(places, lengths)[:, None]
    maps = np.arange(math.prod(shape[:2])).reshape(*shape[:2], *(1,) * dims) * count
    data = body.reshape(body.node.inputs[0], -1)
    zero = body.store(np.zeros(1, body.types[body.node.inputs[0]].dtype.numpy))
    padded = body.add("Concat", data, zero, axis=0)
    index = np.where(chosen == NOWHERE, math.prod(shape), maps + chosen)
    body.add("Gather", padded, body.store(index.astype(np.int64)), axis=0)


def _nearest(body: Body, n: float, length: int, padding: str, aligned: bool, unit: float) -> int:
    """The pixel nearest to a coordinate, the even one of two. Raises UnsupportedModel where
    rounding, or what is done first, may lead elsewhere."""
    exact = coordinate(Fraction(n), length, aligned)
    from_tie = float(abs(exact - math.floor(exact) - Fraction(1, 2)))
    outside = not -1 < exact < length
    # a tie that no operation rounds is one for every runtime, but for those that mirror it first
    certain = _unrounded(n, length, unit) and not (outside and padding == "reflection")
    if from_tie <= doubt(n, length, unit) and not (certain and from_tie in (0.0, 0.5)):
        raise body.unsupported(
            f"its grid's number {n!r} (input 1) stands so near to the middle between two of "
            f"{length} pixels that rounding decides; move the grid, or use mode linear"
        )
    return round(exact)


def _unrounded(n: float, length: int, unit: float) -> bool:
    """Are n + 1 and its products with lengths numbers of few enough digits that nothing rounds?"""
    bits = Fraction(n).denominator * (abs(int(n)) + 2) * 2 * (length + 1)
    return bits < 1.0 / unit
