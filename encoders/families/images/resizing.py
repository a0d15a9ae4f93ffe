"""Where the elements of a resized tensor stand in the tensor they are computed from."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from encoders.families.parameters import axes_of, integers_at, word
from encoders.operator import Site

COORDINATES = (
    "half_pixel",
    "half_pixel_symmetric",
    "pytorch_half_pixel",
    "align_corners",
    "asymmetric",
    "tf_half_pixel_for_nn",
)
ATTRIBUTES = (
    *("antialias", "axes", "coordinate_transformation_mode", "cubic_coeff_a", "exclude_outside"),
    *("extrapolation_value", "keep_aspect_ratio_policy", "mode", "nearest_mode"),
)
_POLICIES = ("stretch", "not_larger", "not_smaller")
SIMPLE = 10  # up to this opset coordinates are asymmetric
Float32s = npt.NDArray[np.float32]


def is_cubic(site: Site) -> bool:
    """Does it interpolate by cubic polynomials?"""
    return site.node.attributes.get("mode") == "cubic"


def keys_parameter(site: Site) -> Fraction:
    """The free parameter of Keys' kernel (1981), as the float32 number that attributes hold."""
    given = site.node.attributes.get("cubic_coeff_a", -0.75)
    assert isinstance(given, float)
    return Fraction(float(np.float32(given)))


def scales_of(site: Site) -> Float32s:
    """One scale per axis, from attribute or input, else from the sizes."""
    shape, output = site.type_of(0).shape, site.outputs[0].shape
    found = _given(site)
    if not found.size and proportioned(site):
        asked = np.ones(len(shape), np.float32)
        chosen = list(resized_axes(site))
        each = [np.float32(size) / np.float32(shape[a]) for a, size in _asked(site)]
        asked[chosen] = max(each) if _policy(site) == "not_smaller" else min(each)
        return asked
    if not found.size:
        return np.asarray(np.divide(output, shape, dtype=np.float32))
    axes = resized_axes(site)
    if len(found) != len(axes):
        raise site.unsupported(f"'scales' needs one number for each of {len(axes)} axes")
    scales = np.ones(len(shape), np.float32)
    scales[list(axes)] = found
    return scales


def _policy(site: Site) -> str:
    return word(site, "keep_aspect_ratio_policy", "stretch", _POLICIES)


def proportioned(site: Site) -> bool:
    """Are the sizes that it states kept in the proportion of the input's?"""
    return _policy(site) != "stretch"


def _asked(site: Site) -> tuple[tuple[int, int], ...]:
    """The axes and the sizes that are stated for them, which need not be those that come out.
    Raises UnsupportedModel where they do not fit each other."""
    sizes, axes = integers_at(site, 3, "sizes") or (), resized_axes(site)
    if len(sizes) != len(axes):
        raise site.unsupported(f"'sizes' needs one number for each of {len(axes)} axes")
    return tuple(zip(axes, sizes, strict=True))


def _common(site: Site) -> Fraction:
    """The one scale of all axes that are resized in proportion."""
    shape = site.type_of(0).shape
    each = [Fraction(size, shape[a]) for a, size in _asked(site)]
    return max(each) if _policy(site) == "not_smaller" else min(each)


def _given(site: Site) -> Float32s:
    """The scales that the node states, none where it states sizes."""
    stored = site.constant(1 if simple(site) else 2)
    given = site.node.attributes.get("scales", ()) if stored is None else stored
    return np.asarray(given, np.float32).reshape(-1)


def resized_axes(site: Site) -> tuple[int, ...]:
    """The axes that sizes and scales speak of, all where the node names none."""
    rank = len(site.type_of(0).shape)
    given = site.integers("axes")
    return tuple(range(rank)) if given is None else axes_of(site, given, rank)


def coordinates(mode: str, scale: np.float32, n: int, out: int) -> Float32s:
    """As onnxruntime computes them, one mode with steps in float64."""
    x = np.arange(out, dtype=np.float32)
    half, one = np.float32(0.5), np.float32(1)
    match mode:
        case "asymmetric":
            return x / scale
        case "half_pixel":
            return (x + half) / scale - half
        case "pytorch_half_pixel":
            return (x + half) / scale - half if out > 1 else np.zeros_like(x)
        case "tf_half_pixel_for_nn":
            return (x + half) / scale
        case "align_corners":
            return x * np.float32(n - 1) / np.float32(out - 1) if out > 1 else np.zeros_like(x)
        case _:
            adjustment = np.float32(out) / (scale * np.float32(n))
            offset = np.float32(n) / np.float32(2) * (one - adjustment)
            wide = offset + (x + 0.5).astype(np.float64) / np.float64(scale) - 0.5
            return np.asarray(wide, np.float32)


def simple(site: Site) -> bool:
    """Is it an Upsample, or a Resize of the first opset that has one?"""
    return site.node.opset <= SIMPLE


def mode_of(site: Site) -> str:
    """How coordinates are transformed. Raises UnsupportedModel."""
    if simple(site):
        return "asymmetric"
    return word(site, "coordinate_transformation_mode", "half_pixel", COORDINATES)


def exact_coordinates(mode: str, scale: Fraction, n: int, out: int) -> list[Fraction]:
    """What `coordinates` rounds."""
    half = Fraction(1, 2)
    places = [Fraction(x) for x in range(out)]
    match mode:
        case "asymmetric":
            return [x / scale for x in places]
        case "half_pixel":
            return [(x + half) / scale - half for x in places]
        case "pytorch_half_pixel":
            return [(x + half) / scale - half if out > 1 else Fraction(0) for x in places]
        case "tf_half_pixel_for_nn":
            return [(x + half) / scale for x in places]
        case "align_corners":
            return [x * (n - 1) / (out - 1) if out > 1 else Fraction(0) for x in places]
        case _:
            offset = Fraction(n, 2) * (1 - out / (scale * n))
            return [offset + (x + half) / scale - half for x in places]


def exact_scales(site: Site) -> tuple[Fraction, ...]:
    """One scale per axis: the number that is given, else the quotient of the sizes, one for all
    axes that are resized in proportion."""
    shape, output = site.type_of(0).shape, site.outputs[0].shape
    if not _given(site).size and proportioned(site):
        chosen, common = resized_axes(site), _common(site)
        return tuple(common if a in chosen else Fraction(1) for a in range(len(shape)))
    if not _given(site).size:
        return tuple(Fraction(o, n) for o, n in zip(output, shape, strict=True))
    return tuple(Fraction(float(s)) for s in scales_of(site))


def check_sizes(site: Site) -> None:
    """Raises UnsupportedModel for scales or sizes that are computed, or that runtimes may read
    otherwise."""
    if any(p in site.variable for p in range(1, len(site.inputs))):
        raise site.unsupported("scales and sizes must be constants")
    integers_at(site, 3, "sizes")
    if proportioned(site):
        _check_proportion(site)
    lengths = zip(exact_scales(site), site.type_of(0).shape, site.outputs[0].shape, strict=True)
    cut = any(out > 1 and scale * n != out for scale, n, out in lengths)
    if mode_of(site) == "align_corners" and cut:
        raise site.unsupported(
            "with aligned corners its scales give lengths that are no integers, which "
            "runtimes read differently; state the sizes"
        )


def _check_proportion(site: Site) -> None:
    """Raises UnsupportedModel where lengths are not the nearest to the scale's, or nearly ties."""
    if _given(site).size:
        raise site.unsupported("'keep_aspect_ratio_policy' speaks of sizes, and it has scales")
    if min(site.integers("axes") or (0,)) < 0:
        raise site.unsupported(
            "attribute 'axes' is negative, where onnxruntime does not keep proportions; count from "
            "the front"
        )
    shape, output, common = site.type_of(0).shape, site.outputs[0].shape, _common(site)
    for axis in resized_axes(site):
        exact = common * shape[axis]
        from_tie = abs(exact - math.floor(exact) - Fraction(1, 2))
        held = not from_tie and Fraction(float(np.float32(float(common)))) == common
        if from_tie < Fraction(shape[axis] + 1, 2**20) and not held:
            raise site.unsupported(
                f"in proportion axis {axis} has a length of {float(exact):g}, which runtimes round "
                "differently; state the sizes that are meant"
            )
        if math.floor(exact + Fraction(1, 2)) != output[axis]:
            raise site.unsupported("its sizes do not give the inferred output shape")


def copy_notes(site: Site) -> tuple[str, ...]:
    """onnxruntime copies where no length changes, whatever the scales are."""
    kept = site.type_of(0).shape == site.outputs[0].shape
    if not kept or all(scale == 1 for scale in exact_scales(site)):
        return ()
    return (
        f"{site.node.describe()}: its scales change no length, and onnxruntime copies its input; "
        "it parts from the specification, which is what is read here",
    )
