"""Slips that a maintainer could make, each put into the code under test by a monkeypatch."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from encoders.families import products
from encoders.lemmas.combining import EXACT
from encoders.lemmas.functions import HINGE_LINES
from encoders.lemmas.kernel import Radius, exactly_zero
from encoders.lemmas.operations import WITHIN_RANGE
from encoders.lemmas.rounding import ROUNDED
from encoders.lemmas.terms import term
from encoders.numbers import enclosure
from encoders.operator import Contribution
from encoders.ops.movement import concat
from encoders.ops.products import gemm
from encoders.relaxations import affine, elementwise, hinges
from encoders.relaxations.elementwise import through_linear_bounds
from encoders.rounding import any_order, rounding_bounds
from encoders.rounding.error_arithmetic import ErrorArithmetic
from encoders.rounding.rounding_bounds import Rounder
from refine.bounds import backward as pullback
from refine.bounds import network as bounds
from refine.bounds.local import errors as node_errors

Patch = pytest.MonkeyPatch
Mutant = Callable[[Patch], None]
MUTANTS: dict[str, Mutant] = {}


def mutant(f: Mutant) -> Mutant:
    MUTANTS[f.__name__] = f
    return f


def everywhere(patch: Patch, old: Any, new: Any) -> None:
    """Replace a function in every module that has imported it."""
    for name, module in list(sys.modules.items()):
        if name.split(".")[0] in ("encoders", "refine"):
            for attribute, value in list(vars(module).items()):
                if value is old:
                    patch.setattr(module, attribute, new)


def nothing_lost(shape: tuple[int, ...]) -> Radius:
    return exactly_zero(EXACT, shape)


def scaled(f: Callable[..., Any], factor: float) -> Callable[..., Any]:
    return lambda *a, **k: f(*a, **k) * factor


@mutant
def local_errors_left_out_of_pull_backs(patch: Patch) -> None:
    old = node_errors.bound_errors

    def changed(maps: Any, node: Any, *rest: Any) -> Any:
        result = old(maps, node, *rest)
        maps.local[node.name] = nothing_lost(maps.local[node.name].shape)
        return result

    patch.setattr(bounds, "bound_errors", changed)


@mutant
def later_coefficients_replace_earlier_ones(patch: Patch) -> None:
    def put(self: Any, tensor: str, c: Any) -> None:
        if c is not None:
            self.coefficients[tensor] = c

    patch.setattr(pullback._Pending, "put", put)


@mutant
def adjoint_of_scaling_has_the_wrong_sign(patch: Patch) -> None:
    old = affine.scaled_part

    def changed(*a: Any, **k: Any) -> Any:
        part = old(*a, **k)
        return replace(part, adjoint=lambda c: -part.adjoint(c))

    everywhere(patch, old, changed)


@mutant
def adjoint_of_products_has_the_wrong_sign(patch: Patch) -> None:
    old = products.linear_part

    def changed(*a: Any, **k: Any) -> Any:
        part = old(*a, **k)
        return replace(part, adjoint=lambda c: -part.adjoint(c))

    everywhere(patch, old, changed)


@mutant
def one_addition_is_not_counted(patch: Patch) -> None:
    old = any_order.any_order_sum

    def changed(r: Any, partial: Any, additions: Any, *more: Any, **named: Any) -> Any:
        return old(r, partial, np.maximum(additions - 1.0, 0.0), *more, **named)

    everywhere(patch, old, changed)


def getter(owner: type, name: str) -> Callable[[Any], Any]:
    """What a property of a class calls."""
    found: Callable[[Any], Any] = vars(owner)[name].fget
    return found


@mutant
def unit_roundoff_is_halved(patch: Patch) -> None:
    unit, relative = getter(Rounder, "unit"), getter(Rounder, "relative")
    patch.setattr(Rounder, "unit", property(lambda self: 0.5 * unit(self)))
    patch.setattr(Rounder, "relative", property(lambda self: 0.5 * relative(self)))


@mutant
def onlyhalf_ulps_are_halved(patch: Patch) -> None:
    for name in ("ROUNDED", "ROUNDED_SUM"):
        lemma = getattr(rounding_bounds, name)
        patch.setattr(rounding_bounds, name, replace(lemma, radius=lemma.radius / 2))


@mutant
def rounding_is_taken_to_be_below_the_binade(patch: Patch) -> None:
    """Half an ulp of the number just below M instead of M, and nobody checks the hypothesis."""
    old = Rounder._power
    patch.setattr(Rounder, "_power", lambda self, m: old(self, np.nextafter(m / 2, 0.0)))
    for name in ("ROUNDED", "ROUNDED_SUM"):
        lemma = getattr(rounding_bounds, name)
        below = lemma.hypotheses[:-1]
        patch.setattr(rounding_bounds, name, replace(lemma, hypotheses=below))


@mutant
def sums_round_inward(patch: Patch) -> None:
    everywhere(patch, enclosure.add_up, lambda a, b: np.nextafter(np.asarray(a + b), -np.inf))


@mutant
def float64_sums_are_taken_to_be_exact(patch: Patch) -> None:
    everywhere(patch, enclosure.gamma, lambda terms: 0.0)


@mutant
def midpoints_have_no_radius(patch: Patch) -> None:
    old = enclosure.midpoint_radius

    def changed(x: Any) -> Any:
        mid, radius = old(x)
        return mid, np.zeros_like(radius)

    everywhere(patch, old, changed)


@mutant
def relu_remainder_dropped(patch: Patch) -> None:
    def changed(secant: Any, *rest: Any) -> Any:
        none = replace(secant, remainder=nothing_lost(secant.remainder.shape))
        return elementwise.elementwise_differences(none, *rest)

    patch.setattr(hinges, "elementwise_differences", changed)


@mutant
def relu_line_is_too_low(patch: Patch) -> None:
    old = hinges.hinge_relaxation

    def changed(below: Any, x: Any) -> Any:
        return replace(old(below, x), high=0.75 * old(below, x).high)

    patch.setattr(hinges, "hinge_relaxation", changed)
    unchecked = tuple(h | (term(0) <= 0) for h in HINGE_LINES.hypotheses)
    patch.setattr(hinges, "HINGE_LINES", replace(HINGE_LINES, hypotheses=unchecked))


@mutant
def relu_charges_nothing_on_values(patch: Patch) -> None:
    def changed(range_: Any, bounds: Any, x: Any, choice: Any = None, **more: Any) -> Any:
        mapped = through_linear_bounds(range_, bounds, x, choice, **more)

        def backward(c: Any) -> Contribution:
            pulled = mapped.backward(c)
            return replace(pulled, constant=np.zeros_like(pulled.constant))

        return replace(mapped, backward=backward, carry=None)

    patch.setattr(hinges, "through_linear_bounds", changed)


@mutant
def stored_bias_and_weights_are_taken_to_be_exact(patch: Patch) -> None:
    patch.setattr(products, "stored_loss", lambda r, values: nothing_lost(values.shape))


@mutant
def rounded_weights_are_taken_to_be_exact(patch: Patch) -> None:
    old = products._product_errors

    def changed(r: Any, s: Any, loss: Any, **more: Any) -> Any:
        more["stored"] = np.abs(s.weights)
        return old(r, s, loss=np.zeros_like(loss), **more)

    patch.setattr(products, "_product_errors", changed)


@mutant
def joined_constants_are_taken_to_be_exact(patch: Patch) -> None:
    patch.setattr(concat, "stored_loss", lambda r, values: nothing_lost(values.shape))


@mutant
def scaled_bias_is_always_last(patch: Patch) -> None:
    patch.setattr(gemm, "_free_rounding", gemm._scaled_rounding)


@mutant
def partial_sums_are_halved(patch: Patch) -> None:
    patch.setattr(products, "_largest_partial", scaled(products._largest_partial, 0.25))


@mutant
def flushing_is_ignored(patch: Patch) -> None:
    old = rounding_bounds.rounder_of
    everywhere(patch, old, lambda *a: replace(old(*a), flush_results=False, flush_operands=False))


@mutant
def flushed_operands_are_ignored(patch: Patch) -> None:
    patch.setattr(Rounder, "lost_operands", property(lambda self: 0.0))
    patch.setattr(Rounder, "operand_loss", lambda self, x: nothing_lost(x.shape))


@mutant
def the_last_flush_is_ignored(patch: Patch) -> None:
    patch.setattr(Rounder, "flushed", property(lambda self: 0.0))


@mutant
def underflow_is_ignored(patch: Patch) -> None:
    patch.setattr(Rounder, "underflow", property(lambda self: 0.0))
    u = next(p for p in ROUNDED.given if p.name == "u")
    relative = u / (1 + u) * ROUNDED.reach
    patch.setattr(rounding_bounds, "ROUNDED", replace(ROUNDED, radius=relative))


@mutant
def errors_do_not_propagate_through_products(patch: Patch) -> None:
    old = ErrorArithmetic._product

    def changed(self: Any, a: Any, b: Any) -> Any:
        ideal, moved = old(self, a, b)
        return ideal, nothing_lost(moved.shape)

    patch.setattr(ErrorArithmetic, "_product", changed)


@mutant
def errors_do_not_propagate_through_quotients(patch: Patch) -> None:
    old = ErrorArithmetic.divide

    def changed(self: Any, a: Any, b: Any) -> Any:
        exact = [replace(t, error=nothing_lost(t.error.shape)) for t in (a, b)]
        return old(self, *exact)

    patch.setattr(ErrorArithmetic, "divide", changed)


@mutant
def overflow_is_not_looked_for(patch: Patch) -> None:
    unchecked = replace(WITHIN_RANGE, hypotheses=())
    patch.setattr(rounding_bounds, "WITHIN_RANGE", unchecked)


@mutant
def steps_of_a_chain_are_halved(patch: Patch) -> None:
    from encoders.rounding.sequential_chain import _Chain

    steps = _Chain._steps
    patch.setattr(_Chain, "_steps", lambda self, error: steps(self, error).times(0.5))
