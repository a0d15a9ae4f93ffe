"""The rule of normalisations: rows to mean 0 and variance 1, then a scale and a bias."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from encoders.gradients.rule import Carried, Reverse, each
from encoders.gradients.tape import Term


def normalized_back(
    r: Reverse,
    *,
    axes: Sequence[int],
    aligned: Callable[[Term], Term],
    normalized: Callable[[Term], Term],
    centred: bool = True,
) -> Carried:
    """Of z·scale + bias with z = (x − mean)/√(variance + epsilon) along `axes`, mean taken away
    only where `centred`: inv·(g − mean g − z·mean(g·z)) with g = up·scale.

    `aligned` shapes a parameter to broadcast to the input; `normalized(x)` writes z. Parameters
    must broadcast without their own axes being split, so that what they get is a sum over others.
    """
    x, scale = r.x, r.read(1)
    z = normalized(x)

    def to_input() -> Term:
        off = x - x.averaged(axes) if centred else x
        variance = (off * off).averaged(axes) + r.site.real("epsilon", 1e-5)
        g = r.up * aligned(scale)
        rest = g - g.averaged(axes) if centred else g
        inner = rest - z * (g * z).averaged(axes)
        return inner / variance.apply(op="Sqrt")

    def to_parameter(term: Term, like: Term) -> Term:
        return term.unbroadcast(aligned(like).shape).reshaped(like.shape)

    return each(
        (
            (0, to_input),
            (1, lambda: to_parameter(r.up * z, scale)),
            (2, lambda: to_parameter(r.up, r.read(2))),
        ),
        r,
    )
