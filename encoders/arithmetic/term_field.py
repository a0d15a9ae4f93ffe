"""The field of terms in a normal form: what operators mean, as `canonical_terms` has it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from functools import partial
from typing import Any

import flint
import numpy as np

from encoders.arithmetic.canonical_terms import (
    ONE,
    ZERO,
    Pool,
    Term,
    factors_of,
    members_of,
    monomial,
)
from encoders.arithmetic.exact_fields import ObjectArray, Rationals, object_array
from encoders.arithmetic.runtime import Relation
from encoders.arithmetic.term_sums import sum_of, sums_of, weights_of
from encoders.functions.function import Function
from onnx_import.graph import Array

_EXPONENT = 8  # terms of an exponent, up to which it is a product of powers


class TermField:
    """`Field` of terms; beyond so much `work` operations raise TermsTooLarge."""

    def __init__(self, work: int, tick: Callable[[], None] = lambda: None) -> None:
        """`tick` is called often and may raise to stop."""
        self._pool = Pool(work, tick)

    @contextmanager
    def working(self) -> Iterator[None]:
        yield

    def variables(self, shape: tuple[int, ...]) -> ObjectArray:
        """An array of new variables, with a sample axis of length 1."""
        size = int(np.prod(shape))
        return object_array((self._pool.fresh() for _ in range(size)), (1, *shape))

    def opaque(self, made_of: bytes, shape: tuple[int, ...]) -> ObjectArray:
        """An array of what nothing is known of but that it is made of this."""
        pool, size = self._pool, int(np.prod(shape))
        items = (pool.single(pool.atom("opaque", made_of, place)) for place in range(size))
        return object_array(items, (1, *shape))

    def constant(self, values: Array) -> ObjectArray:
        self._pool.spend(values.size)
        rational = Rationals().constant(values)
        return object_array(map(self._pool.number, rational.ravel().tolist()), rational.shape)

    def number(self, value: Fraction) -> Term:
        return self._pool.number(flint.fmpq(value.numerator, value.denominator))

    def maximum(self, a: ObjectArray, b: ObjectArray) -> ObjectArray:
        return self._each(lambda x, y: self._largest((x, y)), a, b)

    def sqrt(self, a: ObjectArray) -> ObjectArray:
        return self._each(self._root, a)

    def pi(self) -> Term:
        return self._pool.single(self._pool.atom("pi"))

    def function(self, f: Function, a: ObjectArray) -> ObjectArray:
        if f.algebraic is not None:
            return self._each(partial(f.algebraic, self), a)
        return self._each(lambda x: self._applied("function", f.name, x), a)

    def floor(self, a: ObjectArray) -> ObjectArray:
        return self._each(lambda x: self._stepped("floor", x), a)

    def nearest(self, a: ObjectArray) -> ObjectArray:
        return self._each(lambda x: self._stepped("nearest", x), a)

    def compare(self, relation: Relation, a: ObjectArray, b: ObjectArray) -> ObjectArray:
        return self._each(lambda x, y: self._compared(relation, x - y), a, b)

    def select(self, condition: ObjectArray, a: ObjectArray, b: ObjectArray) -> ObjectArray:
        return self._each(self._selected, condition, a, b)

    def matmul(self, a: ObjectArray, b: ObjectArray) -> ObjectArray:
        lead = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        rows, inner, columns = a.shape[-2], a.shape[-1], b.shape[-1]
        wide = np.broadcast_to(a, (*lead, rows, inner)).reshape(-1, rows, inner)
        tall = np.broadcast_to(b, (*lead, inner, columns)).reshape(-1, inner, columns)
        items: list[Term] = []
        for left, right in zip(wide, tall, strict=True):
            if (weights := weights_of(right.T)) is not None:
                items += [
                    t for i in range(rows) for t in sums_of(self._pool, left[i].tolist(), weights)
                ]
            elif (weights := weights_of(left)) is not None:
                made = [sums_of(self._pool, right[:, j].tolist(), weights) for j in range(columns)]
                items += [made[j][i] for i in range(rows) for j in range(columns)]
            else:
                items += [
                    sum_of(
                        self._pool,
                        [(x * y, ONE) for x, y in zip(left[i], right[:, j], strict=True)],
                    )
                    for i in range(rows)
                    for j in range(columns)
                ]
        return object_array(items, (*lead, rows, columns))

    def exponential(self, x: Term) -> Term:
        """exp(c + Σ c_k·a_k), as powers of e and of exp(a_k)."""
        if len(x.parts) > _EXPONENT:
            return self._applied("function", "exp", x)
        powers = {self._pool.atom("exp", atom): c for atom, c in x.parts}
        if x.constant != 0:
            powers[self._pool.atom("e")] = x.constant
        return monomial(self._pool, ONE, powers)

    def logarithm(self, x: Term) -> Term:
        """log x, of which exponentials that are factors are taken out."""
        pool, total = self._pool, self._pool.number(ZERO)
        factor, factors = factors_of(x)
        for atom, power in tuple(factors.items()):
            made_of = pool.made_of[atom]
            if made_of[0] == "exp":
                total = total + pool.single(made_of[1], power)
            elif made_of[0] == "e":
                total = total + pool.number(power)
            else:
                continue
            del factors[atom]
        if not factors and factor == 1:
            return total
        if factors and all(p < 0 for p in factors.values()):
            turned = monomial(pool, 1 / factor, {a: -p for a, p in factors.items()})
            return total - self._applied("function", "log", turned)
        return total + self._applied("function", "log", monomial(pool, factor, factors))

    def _each(self, f: Callable[..., Term], *arrays: ObjectArray) -> ObjectArray:
        together = np.broadcast_arrays(*arrays)
        self._pool.spend(together[0].size)
        items = zip(*(x.ravel().tolist() for x in together), strict=True)
        return object_array((f(*item) for item in items), together[0].shape)

    def _applied(self, *made_of: Any) -> Term:
        numbers = (m.number if isinstance(m, Term) else m for m in made_of)
        return self._pool.single(self._pool.atom(*numbers))

    def _stepped(self, kind: str, x: Term) -> Term:
        if x.parts:
            return self._applied(kind, x)
        below = x.constant.p // x.constant.q
        if kind == "floor":
            return self._pool.number(flint.fmpq(below))
        return self._pool.number(flint.fmpq(round(Fraction(int(x.constant.p), int(x.constant.q)))))

    def _largest(self, terms: Iterable[Term]) -> Term:
        """The largest of some terms."""
        pool = self._pool
        members: dict[int, Term] = {}
        known: flint.fmpq | None = None
        todo = list(terms)
        while todo:
            term = todo.pop()
            inner = members_of(pool, term)
            if inner is not None:
                todo += inner
            elif not term.parts:
                known = term.constant if known is None else max(known, term.constant)
            else:
                members[term.number] = term
        if not members:
            assert known is not None
            return pool.number(known)
        if known is None:
            return self._maximum(tuple(members.values()), None)
        if len(members) == 1:
            ((term,)) = members.values()
            clipped = self._clipped(term, known)
            if clipped is not None:
                return clipped
        return self._maximum(tuple(members.values()), known)

    def _clipped(self, term: Term, low: flint.fmpq) -> Term | None:
        """max(l, min(x, h)), l ≤ h, as that of −x where this is the one that is kept: the one of a
        term with a positive first coefficient."""
        bounded = members_of(self._pool, term.scaled(-ONE))
        if bounded is None or len(bounded) != 2 or bounded[1].parts:
            return None
        x, high = bounded[0].scaled(-ONE), -bounded[1].constant
        if low >= high:
            return self._pool.number(low)
        least = members_of(self._pool, x)
        if least is not None and not least[-1].parts and least[-1].constant >= low:
            return term  # x is no smaller than l
        if x.parts[0][1] > 0:
            return None
        raised = self._largest((x, self._pool.number(low)))
        return self._maximum((raised.scaled(-ONE),), -high).scaled(-ONE)

    def _maximum(self, members: Sequence[Term], known: flint.fmpq | None) -> Term:
        if known is None and len(members) == 1:
            return members[0]
        key = frozenset(t.number for t in members), known
        atom = self._pool.atom("maximum", *key)
        self._pool.members[atom] = (
            *members,
            *(() if known is None else (self._pool.number(known),)),
        )
        return self._pool.single(atom)

    def _root(self, x: Term) -> Term:
        pool = self._pool
        if not x.parts:
            if x.constant < 0:
                raise ValueError("the square root of a negative number")
            return self._root_of_number(x.constant)
        leading = abs(x.parts[0][1])
        base = x.scaled(1 / leading)
        if base.constant == 0 and len(base.parts) == 1 and base.parts[0][1] == 1:
            atom = base.parts[0][0]
        else:
            atom = pool.sum_atom(base)
        half = flint.fmpq(1, 2)
        return self._root_of_number(leading) * pool.single(pool.product(((atom, half),)))

    def _root_of_number(self, value: flint.fmpq) -> Term:
        """√(p/q) = √(p·q)/q, the squares of 2 taken out."""
        if value == 0:
            return self._pool.number(value)
        whole, outside = value.p * value.q, flint.fmpq(1) / value.q
        while whole % 4 == 0:
            whole, outside = whole // 4, outside * 2
        if whole.is_square():
            return self._pool.number(outside * whole.isqrt())
        atom = self._pool.atom("number", int(whole))
        return monomial(self._pool, outside, {atom: flint.fmpq(1, 2)})

    def _compared(self, relation: Relation, x: Term) -> Term:
        if x.parts:
            return self._applied("compare", relation, x.scaled(1 / abs(x.parts[0][1])))
        holds = {
            Relation.LESS: x.constant < 0,
            Relation.AT_MOST: x.constant <= 0,
            Relation.EQUAL: x.constant == 0,
        }
        return self._pool.number(flint.fmpq(int(holds[relation])))

    def _selected(self, condition: Term, a: Term, b: Term) -> Term:
        if not condition.parts:
            return a if condition.constant != 0 else b
        if a.number == b.number:
            return a
        if condition.constant == 1 and self._comparison(-(condition - 1)) is not None:
            return self._selected(1 - condition, b, a)
        extreme = self._extreme(condition, a, b)
        return self._applied("choice", condition, a, b) if extreme is None else extreme

    def _comparison(self, condition: Term) -> tuple[Relation, int] | None:
        """The relation to zero and the term, if it is the truth value of one, 0 or 1."""
        if condition.constant != 0 or len(condition.parts) != 1 or condition.parts[0][1] != 1:
            return None
        made_of = self._pool.made_of[condition.parts[0][0]]
        return (made_of[1], made_of[2]) if made_of[0] == "compare" else None

    def _extreme(self, condition: Term, a: Term, b: Term) -> Term | None:
        """Where d < 0 or d ≤ 0 chooses a, with a − b = k·d: the larger for k < 0, else the smaller
        of both."""
        compared = self._comparison(condition)
        if compared is None or compared[0] is Relation.EQUAL:
            return None
        apart = a - b
        if not apart.parts:
            return None
        leading = apart.parts[0][1]
        scaled = apart.scaled(1 / abs(leading))
        if scaled.number == compared[1]:
            return self._largest((-a, -b)).scaled(-ONE)
        if scaled.scaled(-ONE).number == compared[1]:
            return self._largest((a, b))
        return None
