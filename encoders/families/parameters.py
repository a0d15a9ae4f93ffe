"""Parameters that ONNX moved from attributes to constant inputs over the years."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from encoders.operator import Site


def integers_at(site: Site, position: int, attribute: str) -> tuple[int, ...] | None:
    """A list of integers from a constant input, else from an attribute, else None.

    Raises UnsupportedModel if the input is computed from the network's input.
    """
    if position < len(site.inputs) and site.inputs[position] is not None:
        value = site.constant(position)
        if value is None:
            raise site.unsupported(f"input {position} ('{attribute}') must be a constant")
        return tuple(int(v) for v in np.asarray(value).reshape(-1))
    return site.integers(attribute)


def axis_of(site: Site, axis: int, rank: int, name: str = "axis") -> int:
    """A possibly negative axis as one from 0 on. Raises UnsupportedModel if out of range."""
    if not -rank <= axis < rank:
        raise site.unsupported(f"attribute '{name}' is {axis}, out of range for {rank} axes")
    return axis % rank


def axes_of(site: Site, axes: Sequence[int], rank: int) -> tuple[int, ...]:
    """Distinct axes, counted from 0. Raises UnsupportedModel."""
    found = tuple(axis_of(site, a, rank, "axes") for a in axes)
    if len(set(found)) != len(found):
        raise site.unsupported(f"attribute 'axes' {tuple(axes)} names an axis twice")
    return found


def word(site: Site, name: str, default: str, known: Sequence[str]) -> str:
    """A text attribute that must be one of a few. Raises UnsupportedModel naming it."""
    value = site.node.attributes.get(name, default)
    text = value.decode() if isinstance(value, bytes) else str(value)
    if text not in known:
        raise site.unsupported(f"attribute '{name}' is '{text}'; known: {', '.join(known)}")
    return text


def require_shape(site: Site, position: int, shape: tuple[int, ...]) -> None:
    """Raises UnsupportedModel for an input, unless it is left out, of another shape: runtimes do
    not broadcast it."""
    given = site.inputs[position] if position < len(site.inputs) else None
    if given is not None and given.shape != shape:
        raise site.unsupported(
            f"input {position} must have the shape {list(shape)}, not {list(given.shape)}"
        )


def require_broadcast(site: Site, position: int, shape: tuple[int, ...]) -> None:
    """Raises UnsupportedModel for an input, unless it is left out, that does not broadcast to this
    shape."""
    given = site.inputs[position] if position < len(site.inputs) else None
    if given is None:
        return
    fits = len(given.shape) <= len(shape) and all(
        n in (1, m) for n, m in zip(given.shape[::-1], shape[::-1], strict=False)
    )
    if not fits:
        raise site.unsupported(
            f"input {position} of shape {list(given.shape)} does not broadcast to {list(shape)}"
        )
