"""Rational rules as identities, proved by Z3 for all numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction

import numpy as np
import z3

from encoders.arithmetic.exact_fields import ObjectArray, object_array
from encoders.arithmetic.real_terms import RealTerms, rational_term
from encoders.functions.accuracy import Transcendental
from encoders.program import forward, program_of, real_step
from onnx_import.graph import Graph
from refine.gradients.jets import Jets
from refine.proof.z3_solver import Fact, Query, solve
from refine.results.obligation import Kind, Outcome

_STEPS = 2_000_000


def proved(
    function: Graph,
    back: Graph,
    wrt: Mapping[str, str],
    *,
    upstream: str,
    roots: Mapping[str, tuple[Fraction, int]],
    name: str,
    timeout: float = 10.0,
) -> bool | None:
    """Is ⟨up, J·v⟩ = ⟨Jᵀ·up, v⟩ for all inputs of `function`, v and up? `back` writes Jᵀ·up by the
    names in `wrt`, of the inputs of the function, of `upstream` and of `roots`. Both sides are
    linear in v, so that it is asked for v with a single 1.

    True where Z3 proves it where no divisor is 0, roots are of positive numbers and nothing that
    is compared is equal, False
    where it finds numbers at which it does not hold, None where it stays open.

    Raises Transcendental, and what object arrays raise, for what is no rational function.
    """
    field = RealTerms()
    jets = Jets(field)
    at = {t: _variables(t, function.types[t].shape) for t in function.inputs}
    along = {t: _variables(f"{t}'", function.types[t].shape) for t in wrt}
    (output,) = function.outputs
    up = _variables("up", function.types[output].shape)
    given = {t: jets.of(v, along.get(t, _zeros(v.shape))) for t, v in at.items()}
    values = forward(program_of(function), given, lambda s, v: real_step(s, v, jets))
    tangent = jets.parts(values[output])[1]
    known = {**at, upstream: up, **{t: _rational(*root) for t, root in roots.items()}}
    found = forward(
        program_of(back),
        {t: known[t] for t in back.inputs},
        lambda s, v: real_step(s, v, field),
    )
    left = _inner(up, tangent)
    hypotheses = [Fact("a divisor is not 0", d != 0) for d in jets.divisors if z3.is_expr(d)]
    hypotheses += [Fact("a root is of more than 0", r > 0) for r in jets.roots if z3.is_expr(r)]
    hypotheses += [
        Fact("what is compared differs", a != b)
        for a, b in jets.compared
        if z3.is_expr(a) and z3.is_expr(b) and not z3.eq(a, b)
    ]
    every = [v for t in wrt for v in along[t].ravel().tolist()]
    for tensor, gradient in wrt.items():
        cells = zip(along[tensor].ravel().tolist(), found[gradient].ravel().tolist(), strict=True)
        for position, (direction, cotangent) in enumerate(cells):
            chosen = [(v, z3.RealVal(int(v is direction))) for v in every]
            asked = z3.simplify(z3.substitute(left, *chosen) == cotangent)
            query = Query(
                f"gradient/{name}/{tensor}/{position}",
                Kind.SCHEMA,
                tuple(hypotheses),
                Fact("Σ up·∂f/∂x = its cotangent", asked),
                timeout=timeout,
                rlimit=_STEPS,
            )
            outcome = solve(query).outcome
            if outcome is not Outcome.DISCHARGED:
                return False if outcome is Outcome.REFUTED else None
    return True


def _rational(square: Fraction, pi: int) -> ObjectArray:
    """√(square·π^pi) as a term. Raises Transcendental for no rational number."""
    whole = Fraction(math.isqrt(square.numerator), math.isqrt(square.denominator))
    if pi or whole**2 != square:
        raise Transcendental("a number of the rule is not rational")
    return object_array((rational_term(whole),), (1,))


def _variables(name: str, shape: tuple[int, ...]) -> ObjectArray:
    size = int(np.prod(shape, dtype=np.int64))
    plain = "".join(c if c.isalnum() else "_" for c in name)
    return object_array((z3.Real(f"{plain}.{i}") for i in range(size)), (1, *shape))


def _zeros(shape: tuple[int, ...]) -> ObjectArray:
    return object_array((z3.RealVal(0) for _ in range(int(np.prod(shape)))), shape)


def _inner(a: ObjectArray, b: ObjectArray) -> z3.ExprRef:
    pairs = zip(a.ravel().tolist(), b.ravel().tolist(), strict=True)
    total: z3.ExprRef = z3.Sum([x * y for x, y in pairs])
    return total
