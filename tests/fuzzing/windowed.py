"""Convolutions, pools and resized images, read window by window."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import product
from math import ceil, floor, prod
from typing import Any

import numpy as np
from reading import Array, Meaning, Reading, Unread


def windows(r: Reading, kernel: Sequence[int]) -> tuple[Array, tuple[int, ...]]:
    """Places in the flat spatial input for (output, kernel), −1 where padded; explicit pads."""
    spatial = r.x[0].shape[3:]
    n = len(spatial)
    strides, dilations = r.get("strides") or [1] * n, r.get("dilations") or [1] * n
    pads = r.get("pads") or [0] * (2 * n)
    if r.get("auto_pad", "NOTSET") != "NOTSET" or r.get("ceil_mode", 0):
        raise Unread("auto_pad")
    grids, out = [], []
    for k in range(n):
        span = dilations[k] * (kernel[k] - 1) + 1
        size = (spatial[k] + pads[k] + pads[n + k] - span) // strides[k] + 1
        at = (np.arange(size)[:, None] * strides[k] - pads[k]
              + np.arange(kernel[k])[None] * dilations[k])  # fmt: skip
        grids.append(np.where((at >= 0) & (at < spatial[k]), at, -1))
        out.append(size)
    place = np.zeros((*out, *kernel), np.int64)
    bad = np.zeros(place.shape, bool)
    for k, grid in enumerate(grids):
        shape = [1] * (2 * n)
        shape[k], shape[n + k] = grid.shape
        g = grid.reshape(shape)
        place = place * spatial[k] + np.maximum(g, 0)
        bad |= g < 0
    return np.where(bad, -1, place).reshape(prod(out), prod(kernel)), tuple(out)


def taken(r: Reading, places: Array, missing: Array) -> Array:
    """(samples, batch, channels, outputs, kernel)."""
    flat = r.x[0].reshape(*r.x[0].shape[:3], -1)
    found = flat[..., np.maximum(places, 0)]
    return np.where(places >= 0, found, np.broadcast_to(missing.reshape(-1)[0], found.shape))


def conv(r: Reading) -> Array:
    w = r.x[1]
    groups, kernel = r.get("group", 1), w.shape[3:]
    places, out = windows(r, kernel)
    x = taken(r, places, r.number(0.0))
    s, batch, channels, outputs, size = x.shape
    x = x.reshape(s, batch, groups, channels // groups, outputs, size)
    x = np.moveaxis(x, 3, 4).reshape(s, batch, groups, 1, outputs, -1)
    m = w.shape[1]
    w = w.reshape(w.shape[0], 1, groups, m // groups, 1, -1)
    bias = None
    if len(r.x) > 2 and r.x[2] is not None:
        bias = r.x[2].reshape(-1, 1, groups, m // groups, 1)
    place = r.place(terms=w.shape[-1], rows=m // groups, columns=outputs,
                    constant=r.stored[1] is not None)  # fmt: skip
    total = r.a.products(x, w, bias, place, True)
    return total.reshape(total.shape[0], batch, m, *out)


def _pool(r: Reading) -> Array:
    kernel = r.get("kernel_shape")
    places, out = windows(r, kernel)
    if r.node.op_type == "MaxPool":
        if np.any(places < 0):
            x = taken(r, places, r.number(0.0))
            parts = [r.a.extreme(x[..., k, :][..., np.flatnonzero(p >= 0)], 1)
                     for k, p in enumerate(places)]  # fmt: skip
            found = np.stack(parts, axis=-1)
        else:
            found = r.a.extreme(taken(r, places, r.number(0.0)), 1)
    else:
        every = r.get("count_include_pad", 0)
        parts = []
        x = taken(r, places, r.number(0.0))
        for k, p in enumerate(places):
            total = r.a.total(x[..., k, :], r.place())
            count = places.shape[1] if every else np.count_nonzero(p >= 0)
            parts.append(r.a.divide(total, r.number(float(count))))
        found = np.stack(parts, axis=-1)
    return found.reshape(*found.shape[:3], *out)


def _global_pool(r: Reading) -> Array:
    x = r.x[0].reshape(*r.x[0].shape[:3], -1)
    ones = (1,) * (r.rank - 2)
    if r.node.op_type == "GlobalMaxPool":
        return r.a.extreme(x, 1).reshape(*x.shape[:3], *ones)
    total = r.a.total(x, r.place())
    return r.a.divide(total, r.number(float(x.shape[-1]))).reshape(*x.shape[:3], *ones)


def _conv_transpose(r: Reading) -> Array:
    """Every output is a sum over channels and kernel; where no input reaches, of zeros too."""
    x, w = r.x[:2]
    spatial, kernel, n = x.shape[3:], w.shape[3:], x.ndim - 3
    groups = r.get("group", 1)
    strides, dilations = r.get("strides") or [1] * n, r.get("dilations") or [1] * n
    pads, extra = r.get("pads") or [0] * (2 * n), r.get("output_padding") or [0] * n
    if r.get("auto_pad", "NOTSET") != "NOTSET" or r.get("output_shape"):
        raise Unread("auto_pad")
    out = [
        s * (m - 1) + e + d * (k - 1) + 1 - p - q
        for m, s, e, d, k, p, q in zip(
            spatial, strides, extra, dilations, kernel, pads[:n], pads[n:], strict=True)
    ]  # fmt: skip
    places = np.full((prod(out), prod(kernel)), -1, np.int64)
    for o, at in enumerate(np.ndindex(*out)):
        for k, offset in enumerate(np.ndindex(*kernel)):
            steps = [at[i] + pads[i] - offset[i] * dilations[i] for i in range(n)]
            if all(s % t == 0 and 0 <= s // t < m
                   for s, t, m in zip(steps, strides, spatial, strict=True)):  # fmt: skip
                index = [s // t for s, t in zip(steps, strides, strict=True)]
                places[o, k] = int(np.ravel_multi_index(index, spatial))
    v = taken(r, places, r.number(0.0))
    s, batch, channels, outputs, size = v.shape
    v = np.moveaxis(v.reshape(s, batch, groups, channels // groups, outputs, size), 3, 4)
    v = v.reshape(s, batch, groups, 1, outputs, -1)
    m = w.shape[2]
    w = w.reshape(w.shape[0], groups, channels // groups, m, -1)
    w = np.moveaxis(w, 3, 2).reshape(w.shape[0], 1, groups, m, 1, -1)
    bias = r.optional(2)
    bias = None if bias is None else bias.reshape(-1, 1, groups, m, 1)
    total = r.a.products(v, w, bias, r.place(terms=w.shape[-1]), True)
    return total.reshape(total.shape[0], batch, groups * m, *out)


def _norm(r: Reading, x: Array) -> Array:
    p = r.get("p", 2)
    if p == 1:
        return r.a.total(r.a.absolute(x), r.place())
    if p == 2:
        return r.a.sqrt(r.a.products(x, x, None, r.place(), False))
    size = r.a.absolute(x)
    powers = size
    for _ in range(p - 1):
        powers = r.a.multiply(powers, size)
    return r.a.root(r.a.total(powers, r.place()), p)


def _lp_pool(r: Reading) -> Array:
    places, out = windows(r, r.get("kernel_shape"))
    found = _norm(r, taken(r, places, r.number(0.0)))
    return found.reshape(*found.shape[:3], *out)


def _max_unpool(r: Reading) -> Array:
    """Of places in the tensor that its attributes make; a larger one is not read."""
    if len(r.x) > 2:
        raise Unread("MaxUnpool of a stated shape")
    shape, kernel = r.x[0].shape[1:], r.get("kernel_shape")
    pads = r.get("pads", [0] * 2 * len(kernel))
    strides = r.get("strides", [1] * len(kernel))
    sizes = [
        (n - 1) * s + k - pads[i] - pads[i + len(kernel)]
        for i, (n, s, k) in enumerate(zip(shape[2:], strides, kernel, strict=True))
    ]
    samples = r.x[0].shape[0]
    made = np.broadcast_to(r.number(0.0).reshape(1, 1), (samples, prod((*shape[:2], *sizes))))
    made = made.copy()
    made[:, np.ravel(r.stored[1])] = r.x[0].reshape(samples, -1)
    return made.reshape(samples, *shape[:2], *sizes)


def _global_lp_pool(r: Reading) -> Array:
    found = _norm(r, r.x[0].reshape(*r.x[0].shape[:3], -1))
    return found.reshape(*found.shape[:3], *(1,) * (r.rank - 2))


def _sizes(r: Reading) -> tuple[list[Any], list[int], list[Fraction]]:
    """float32 scales (None where sizes are given), output lengths and exact scales, per axis."""
    shape = r.x[0].shape[1:]
    old = r.node.op_type == "Upsample" or r.opset < 11
    at = 1 if old else 2
    given = r.stored[at] if at < len(r.stored) else None
    if r.get("axes") is not None or r.get("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise Unread("axes")
    if given is None or not np.size(given):
        if len(r.stored) < 4 or r.stored[3] is None:
            raise Unread("sizes")
        out = [int(v) for v in r.stored[3]]
        return ([np.float32(o) / np.float32(n) for o, n in zip(out, shape, strict=True)], out,
                [Fraction(o, n) for o, n in zip(out, shape, strict=True)])  # fmt: skip
    scales = [np.float32(v) for v in given]
    exact = [Fraction(float(v)) for v in scales]
    return scales, [floor(s * n) for s, n in zip(exact, shape, strict=True)], exact


def _coordinate(mode: str, o: Any, n: int, out: int, scale: Any, half: Any) -> Any:
    """Where output o stands, in exact or in float32 numbers."""
    if mode == "asymmetric":
        return o / scale
    if mode == "half_pixel":
        return (o + half) / scale - half
    if mode == "pytorch_half_pixel":
        return (o + half) / scale - half if out > 1 else 0 * scale
    if mode == "align_corners":
        return (o * (n - 1 + 0 * scale)) / (out - 1 + 0 * scale) if out > 1 else 0 * scale
    raise Unread("coordinates")


def _resize(r: Reading) -> Array:
    scales, out, exact = _sizes(r)
    old = r.node.op_type == "Upsample" or r.opset < 11
    mode = "asymmetric" if old else r.get("coordinate_transformation_mode", "half_pixel")
    if r.get("antialias", 0):
        return _wide(r, mode, scales, out, exact)
    if r.get("mode", "nearest") == "linear":
        return _linear(r, mode, scales, out, exact)
    if r.get("mode", "nearest") != "nearest":
        raise Unread("cubic")
    near = r.get("nearest_mode", "round_prefer_floor")
    x = r.x[0]
    for axis, (n, length, scale) in enumerate(zip(x.shape[1:], out, exact, strict=True)):
        if scale == 1:
            continue
        where = [_coordinate(mode, o, n, length, scale, Fraction(1, 2)) for o in range(length)]
        way = ("ceil" if scale < 1 else "floor") if old else near
        whole = {
            "floor": floor, "ceil": ceil,
            "round_prefer_floor": lambda v: ceil(v - Fraction(1, 2)),
            "round_prefer_ceil": lambda v: floor(v + Fraction(1, 2)),
        }[way]  # fmt: skip
        x = x.take([min(max(whole(v), 0), n - 1) for v in where], axis + 1)
    return x


def _wide(r: Reading, mode: str, scales: list[Any], out: list[int], exact: list[Any]) -> Array:
    """Antialiased and linear, the last axis first: a hat over all pixels that it sees, those beyond
    the edge added to the one at it, divided by its sum; in float32 where it runs."""
    x, shape = r.x[0], r.x[0].shape[1:]
    number: Callable[[Any], Any] = Fraction if r.a.exact else np.float32
    half, one, zero = number(0.5), number(1), number(0)
    for k in reversed([k for k, s in enumerate(exact) if s != 1 or shape[k] != out[k]]):
        n, scale = shape[k], exact[k] if r.a.exact else scales[k]
        wide = one / scale
        support, narrow = (wide, one / wide) if wide >= one else (one, one)
        rows: list[tuple[int, list[Any]]] = []
        for o in range(out[k]):
            middle = half + _coordinate(mode, number(o), n, out[k], scale, half)
            low, high = floor(middle - support + half), floor(middle + support + half)
            row = [max(one - abs((number(i) - middle + half) * narrow), zero)
                   for i in range(low, high)]  # fmt: skip
            total = zero
            for w in row:
                total = total + w
            before, after = max(-low, 0), max(high - n, 0)
            for w in row[:before]:
                row[before] = row[before] + w
            for w in row[len(row) - after :]:
                row[len(row) - after - 1] = row[len(row) - after - 1] + w
            rows.append((low + before, [w * (one / total)
                                        for w in row[before : len(row) - after]]))  # fmt: skip
        most = max(len(row) for _, row in rows)
        at = np.array([[min(low + j, n - 1) for j in range(most)] for low, _ in rows])
        table = np.array([row + [zero] * (most - len(row)) for _, row in rows], dtype=object)
        held = _numbers(r, table).reshape(1, *table.shape)
        seen = np.moveaxis(x.take(at.ravel(), k + 1), k + 1, -1)
        seen = seen.reshape(*seen.shape[:-1], *table.shape)
        weights = np.broadcast_to(held.reshape((1,) * (seen.ndim - 2) + table.shape), seen.shape)
        x = np.moveaxis(r.a.products(weights, seen, None, r.place(), False), -1, k + 1)
    return x


def _numbers(r: Reading, table: Array) -> Array:
    """Weights as numbers of the arithmetic."""
    if not r.a.exact:
        return np.asarray(r.a.constant(table.astype(np.float64)))
    import flint

    made = [flint.arb(flint.fmpq(v.numerator, v.denominator)) for v in map(Fraction, table.ravel())]
    return np.array(made, dtype=object).reshape(table.shape)


def _linear(r: Reading, mode: str, scales: list[Any], out: list[int], exact: list[Any]) -> Array:
    """A sum over the corners around each place, in float32 weights where it runs."""
    x, shape = r.x[0], r.x[0].shape[1:]
    axes = [k for k, s in enumerate(exact) if s != 1 or shape[k] != out[k]]
    index, weight = {}, {}
    for k in axes:
        n, length = shape[k], out[k]
        half, end = (Fraction(1, 2), Fraction(n - 1)) if r.a.exact else (
            np.float32(0.5), np.float32(n - 1))  # fmt: skip
        number: Callable[[Any], Any] = Fraction if r.a.exact else np.float32
        scale = exact[k] if r.a.exact else scales[k]
        where = [_coordinate(mode, number(o), n, length, scale, half) for o in range(length)]
        kept = [min(max(number(v), number(0)), end) for v in where]
        first = [min(floor(v), n - 1) for v in kept]
        second = [min(i + 1, n - 1) for i in first]
        near = [abs(v - number(j)) if i != j else half
                for v, i, j in zip(kept, first, second, strict=True)]  # fmt: skip
        far = [abs(v - number(i)) if i != j else half
               for v, i, j in zip(kept, first, second, strict=True)]  # fmt: skip
        index[k], weight[k] = (first, second), (near, far)
    pairs: list[tuple[Array, Array]] = []
    for corner in product((0, 1), repeat=len(axes)):
        part, factor = x, np.ones((1,) * len(shape), dtype=object if r.a.exact else np.float32)
        for k, which in reversed(list(zip(axes, corner, strict=True))):
            part = part.take(index[k][which], k + 1)
            w = np.array(weight[k][which], dtype=factor.dtype)
            factor = factor * w.reshape([-1 if i == k else 1 for i in range(len(shape))])
        if r.a.exact:
            import flint

            balls = [flint.arb(flint.fmpq(v.numerator, v.denominator))
                     for v in map(Fraction, factor.ravel())]  # fmt: skip
            held: Any = np.array(balls, dtype=object).reshape(1, *factor.shape)
        else:
            held = r.a.constant(factor.astype(np.float64))
        pairs.append((held, part))
    whole = (x.shape[0], *(len(index[k][0]) if k in index else shape[k]
                           for k in range(len(shape))))  # fmt: skip
    left, right = (np.stack([np.broadcast_to(p[i], whole) for p in pairs], axis=-1) for i in (0, 1))
    return r.a.products(left, right, None, r.place(), False)


def _roi_align(r: Reading) -> Array:
    """Point by point, four pixels each; places and weights in the type of the regions."""
    x, rois, which = r.x[0], r.stored[1], r.stored[2]
    kind, lengths = rois.dtype.type, x.shape[3:]
    number: Callable[[Any], Any] = Fraction if r.a.exact else kind
    scale = number(float(np.float32(r.get("spatial_scale", 1.0))))
    usual = "half_pixel" if r.opset >= 16 else "output_half_pixel"
    whole = r.get("coordinate_transformation_mode", usual) != "half_pixel"
    sizes = r.get("output_height", 1), r.get("output_width", 1)
    one, half, ratio = number(1), number(0.5), r.get("sampling_ratio", 0)
    if not ratio:
        raise Unread("as often as regions are long")

    def points(low: Any, high: Any, count: int, length: int) -> list[list[Any]]:
        """For each element the pixels and weights of its samples along an axis."""
        low, high = (number(float(v)) * scale - (0 * half if whole else half) for v in (low, high))
        extent = max(high - low, one) if whole else high - low
        size = extent / number(count)
        made: list[list[Any]] = []
        for p in range(count):
            made.append([])
            for k in range(ratio):
                at = low + number(p) * size + number(k + 0.5) * size / number(ratio)
                if not -1 <= at <= length:
                    made[-1].append(((0, 0), (0 * one, 0 * one)))
                    continue
                at = min(max(at, 0 * one), number(length - 1))
                i = floor(at)
                r_ = at - number(i)
                made[-1].append(((i, min(i + 1, length - 1)), (one - r_, r_)))
        return made

    regions = []
    for roi, image in zip(rois, which, strict=True):
        down, across = (points(roi[1 - k], roi[3 - k], sizes[k], lengths[k]) for k in (0, 1))
        rows = []
        for y in down:
            for c in across:
                taps = [(i, j, a * b) for (ii, aa), (jj, bb) in product(y, c)
                        for (i, a), (j, b) in product(list(zip(ii, aa, strict=True)),
                                                  list(zip(jj, bb, strict=True)))]  # fmt: skip
                seen = np.stack([x[:, int(image), :, i, j] for i, j, _ in taps], axis=-1)
                held = _numbers(r, np.array([w for _, _, w in taps], dtype=object))
                rows.append((seen, np.broadcast_to(held, seen.shape)))
        left, right = (np.stack([row[k] for row in rows], axis=2) for k in (0, 1))
        if r.get("mode", "avg") == "max":
            found = r.a.extreme(r.a.multiply(left, right), 1)
        else:
            parts = [left[..., 4 * k : 4 * k + 4] for k in range(ratio * ratio)]
            weights = [right[..., 4 * k : 4 * k + 4] for k in range(ratio * ratio)]
            sums = [r.a.products(w, p, None, r.place(), False)
                    for p, w in zip(parts, weights, strict=True)]  # fmt: skip
            found = r.a.total(np.stack(sums, axis=-1), r.place()) if len(sums) > 1 else sums[0]
            if len(sums) > 1:
                found = r.a.divide(found, r.number(float(len(sums))))
        regions.append(found.reshape(*found.shape[:2], *sizes))
    return np.stack(regions, axis=1)


def _grid_sample(r: Reading) -> Array:
    """Axis by axis, the last innermost; coordinates and weights in float32 where it runs."""
    x, grid = r.x[0], r.stored[1]
    lengths, kind = x.shape[3:], grid.dtype.type
    number: Callable[[Any], Any] = Fraction if r.a.exact else kind
    given = r.get("mode", "linear")
    mode = {"bilinear": "linear", "bicubic": "cubic"}.get(given, given)
    padding, aligned = r.get("padding_mode", "zeros"), r.get("align_corners", 0)
    one, two = number(1), number(2)

    def coordinate(n: Any, length: int) -> Any:
        n = number(float(n))
        if aligned:
            return (n + one) / two * number(length - 1)
        return ((n + one) * number(length) - one) / two

    def pixel(i: int, length: int) -> int:
        if padding == "border":
            return min(max(i, 0), length - 1)
        while padding == "reflection" and not 0 <= i < length:
            i = (-i if i < 0 else 2 * (length - 1) - i) if aligned else (
                -1 - i if i < 0 else 2 * length - 1 - i)  # fmt: skip
        return i if 0 <= i < length else -1

    def kernel(t: Any) -> Any:
        a, t = number(-0.75), abs(t)
        if mode == "linear":
            return one - t
        if t <= 1:
            return ((a + two) * t - (a + two + one)) * t * t + one
        return ((a * t - number(5) * a) * t + number(8) * a) * t - number(4) * a

    steps = {"nearest": [0], "linear": [0, 1], "cubic": [-1, 0, 1, 2]}[mode]

    def held(weights: list[Any]) -> Any:
        if r.a.exact:
            import flint

            balls = [flint.arb(flint.fmpq(v.numerator, v.denominator)) for v in weights]
            return np.array(balls, dtype=object).reshape(1, 1, 1, -1)
        return r.a.constant(np.array(weights, np.float64).reshape(1, 1, -1))

    def value(image: Array, at: list[Any], axis: int) -> Array:
        """(samples, 1, channels) of an image (samples, 1, channels, *rest)."""
        if axis == len(lengths):
            return image
        length = lengths[axis]
        first = round(at[axis]) if mode == "nearest" else floor(at[axis])
        found, weights = [], []
        for step in steps:
            place = pixel(int(first) + step, length)
            part = value(image[:, :, :, max(place, 0)], at, axis + 1)
            found.append(part)
            weight = one if mode == "nearest" else kernel(at[axis] - number(int(first) + step))
            weights.append(weight if place >= 0 else number(0))
        if mode == "nearest":
            return found[0] if weights[0] else found[0] * 0
        return r.a.products(np.stack(found, axis=-1), held(weights), None, r.place(), False)

    points = grid.reshape(grid.shape[0], -1, len(lengths))
    made = [
        np.stack(
            [
                value(x[:, b : b + 1],
                      [coordinate(n, k) for n, k in zip(p[::-1], lengths, strict=True)], 0)
                for p in points[b]
            ],
            axis=-1,
        )
        for b in range(len(points))
    ]  # fmt: skip
    whole = np.concatenate(made, axis=1)
    return whole.reshape(*whole.shape[:3], *grid.shape[1:-1])


WINDOWED: dict[str, Meaning] = {
    "Conv": conv, "ConvTranspose": _conv_transpose, "MaxPool": _pool, "AveragePool": _pool,
    "GlobalAveragePool": _global_pool, "GlobalMaxPool": _global_pool, "LpPool": _lp_pool,
    "GlobalLpPool": _global_lp_pool, "Resize": _resize, "Upsample": _resize,
    "MaxUnpool": _max_unpool, "GridSample": _grid_sample, "RoiAlign": _roi_align,
}  # fmt: skip
