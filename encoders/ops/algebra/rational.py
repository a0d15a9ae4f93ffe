"""Rational: a number that the file writes as a fraction; the runtime holds its nearest float.

Not an ONNX operator: readers whose files hold decimals, not floats, make it. The attribute `value`
is the number as text, `1/10`.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from encoders.arithmetic.exact_fields import ObjectArray
from encoders.arithmetic.runtime import Arithmetic
from encoders.arithmetic.values import Inputs, V
from encoders.contract.contract import RuntimeContract
from encoders.lemmas.combining import EXACT
from encoders.lemmas.functions import FORMULA_APART
from encoders.lemmas.kernel import apply, exactly_zero
from encoders.numbers.enclosure import Interval
from encoders.numbers.formats import FORMAT_OF_DTYPE, round_fraction
from encoders.operator import Field, Operator, RoundingBound, Site
from encoders.relaxations.affine import AffineMap, affine_semantics
from encoders.rounding.rounding_bounds import finish, formula_loss, rounder
from encoders.traits import Absorbing, Absorption


def number(site: Site) -> Fraction:
    """The exact value."""
    text = site.node.attributes.get("value")
    if not isinstance(text, str):
        raise site.unsupported("attribute 'value' is not the text of a number")
    return Fraction(text)


def _stored(site: Site) -> np.float64:
    """The number of the tensor's own type nearest to the exact value."""
    return np.float64(round_fraction(number(site), FORMAT_OF_DTYPE[site.outputs[0].dtype]))


def check(site: Site) -> None:
    kind = site.outputs[0]
    if kind.shape or kind.dtype not in FORMAT_OF_DTYPE:
        raise site.unsupported(f"its result is one floating-point number, not {kind}")
    if not np.isfinite(_stored(site)):
        raise site.unsupported(f"its value overflows {kind.dtype.value}")


def real(site: Site, inputs: Inputs[ObjectArray], field: Field) -> tuple[ObjectArray, ...]:
    made = field.constant(np.zeros(()))
    made[0] = field.number(number(site))
    return (made,)


def runtime(
    site: Site, inputs: Inputs[V], arithmetic: Arithmetic[V], contract: RuntimeContract
) -> tuple[V, ...]:
    return (arithmetic.constant(np.asarray(_stored(site))),)


def _rest(site: Site) -> np.float64:
    """|stored − exact|, rounded up."""
    apart = abs(Fraction(float(_stored(site))) - number(site))
    return np.float64(0.0) if apart == 0 else np.nextafter(np.float64(apart), np.inf)


def _affine(site: Site) -> AffineMap:
    shape = site.outputs[0].shape
    return AffineMap((), np.full(shape, _stored(site)), np.full(shape, _rest(site)))


values, differences = affine_semantics(_affine)


def rounding(
    site: Site, inputs: Sequence[Interval], result: Interval, contract: RuntimeContract
) -> RoundingBound:
    r = rounder(site, contract)
    stored = np.broadcast_to(_stored(site), site.outputs[0].shape)
    if r.exact:
        return RoundingBound(exactly_zero(EXACT, stored.shape))
    apart = apply(FORMULA_APART, U=np.broadcast_to(_rest(site), stored.shape))
    return finish(r, formula_loss(r, stored) + apart, np.abs(stored))


OPERATORS = (
    Operator(
        "Rational",
        since=1,
        check=check,
        real=real,
        runtime=runtime,
        values=values,
        differences=differences,
        rounding=rounding,
        affine=True,
        per_element=True,
        absorbs=Absorbing(Absorption.NUMBER),
    ).reading("value"),
)
