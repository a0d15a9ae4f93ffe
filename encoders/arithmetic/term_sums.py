"""Sums of products of terms and numbers, as matrix products are made of, in a normal form.

A long sum is an atom, known by a digest of the atoms that it adds up, in ascending order, and of
their coefficients as whole numbers without a common divisor, the first one positive.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import flint
import numpy as np
import numpy.typing as npt

from encoders.arithmetic.canonical_terms import (
    ONE,
    ZERO,
    Factors,
    Pool,
    Term,
    factors_of,
    in_order,
    is_constant,
    monomial,
)
from encoders.arithmetic.exact_fields import ObjectArray

Integers: TypeAlias = npt.NDArray[np.int64]
_Key: TypeAlias = tuple[bytes, tuple[int, ...]]

_SPREAD = 16  # longer sums of products keep their terms to themselves


@dataclass(frozen=True, eq=False)
class _Column:
    """Weights of one sum: primitive whole numbers, by `Pool.signed_size`, times `content`."""

    sizes: Integers
    content: flint.fmpq


@dataclass(frozen=True, eq=False)
class Weights:
    """The weights of one sum, `numbers` times a `factor` that all have, a constant and no number;
    and as columns where some of them are left out."""

    numbers: list[flint.fmpq]
    factor: Term | None = None
    columns: dict[_Key, _Column] = field(default_factory=dict)

    def column(self, pool: Pool, terms: _Plain) -> _Column:
        """Those that are used, times the contents of what they are used for."""
        if terms.key not in self.columns:
            pool.spend(len(self.numbers))
            products = zip(self.numbers, terms.contents, terms.used.tolist(), strict=True)
            self.columns[terms.key] = _primitive(pool, [w * c for w, c, u in products if u])
        return self.columns[terms.key]


@dataclass(frozen=True, eq=False)
class _Plain:
    """Terms c_k·a_k, no atom twice, or zero where they are not `used`; the `contents` c_k have a
    common `factor` taken out, and `key` says what they and `used` are."""

    atoms: Integers
    contents: list[flint.fmpq]
    factor: flint.fmpq
    used: npt.NDArray[np.bool_]
    key: _Key


def _primitive(pool: Pool, weights: Sequence[flint.fmpq]) -> _Column:
    content = ZERO
    for w in weights:
        content = content.gcd(w) if content != 0 else abs(w)
    if content == 0:
        return _Column(np.zeros(len(weights), np.int64), ONE)
    sizes = [0 if w == 0 else pool.signed_size(int((w / content).p)) for w in weights]
    return _Column(np.array(sizes, np.int64), content)


def sums_of(pool: Pool, terms: list[Term], weights: Sequence[Weights]) -> list[Term]:
    """Σ w_k·x_k for several rows of weights."""
    made = _unscaled(pool, terms, weights)
    return [t if w.factor is None else t * w.factor for t, w in zip(made, weights, strict=True)]


def _unscaled(pool: Pool, terms: list[Term], weights: Sequence[Weights]) -> list[Term]:
    """With the numbers alone."""
    pool.spend(8 * len(weights) + len(terms))
    plain = _plain(terms)
    if plain is None:
        return [sum_of(pool, zip(terms, w.numbers, strict=True)) for w in weights]
    used = plain.used
    atoms = plain.atoms[used]
    order = np.argsort(atoms)
    made: list[Term] = []
    for w in weights:
        column = w.column(pool, plain)
        sizes = column.sizes[order]
        there = sizes != 0
        count = int(np.count_nonzero(there))
        if count <= _SPREAD:
            made.append(sum_of(pool, zip(terms, w.numbers, strict=True)))
            continue
        signed = sizes[there]
        sign = 1 if signed[0] > 0 else -1
        digest = _digest(atoms[order][there], signed * sign)
        made.append(pool.single(pool.atom("sums", digest), column.content * plain.factor * sign))
    return made


def _plain(terms: list[Term]) -> _Plain | None:
    """None where a term is a number, or an atom is there twice."""
    atoms = np.full(len(terms), -1, np.int64)
    contents = [ZERO] * len(terms)
    for k, term in enumerate(terms):
        if term.parts:
            contents[k], atoms[k] = term.content
        elif term.constant != 0:
            return None
    used = atoms >= 0
    if not np.any(used) or len(np.unique(atoms[used])) < np.count_nonzero(used):
        return None
    factor = contents[int(np.argmax(used))]
    if all(c == factor for c, u in zip(contents, used.tolist(), strict=True) if u):
        return _Plain(atoms, [ONE] * len(terms), factor, used, (used.tobytes(), ()))
    key = used.tobytes(), tuple(n for c in contents for n in (int(c.p), int(c.q)))
    return _Plain(atoms, contents, ONE, used, key)


def sum_of(pool: Pool, products: Iterable[tuple[Term, flint.fmpq]]) -> Term:
    """Σ w·x."""
    known = ZERO
    total: dict[int, flint.fmpq] = {}
    for term, weight in products:
        if weight == 0:
            continue
        if not term.parts:
            known += term.constant * weight
            continue
        content, atom = term.content
        total[atom] = total.get(atom, ZERO) + content * weight
    parts = in_order(total)
    pool.spend(len(parts) + 1)
    lengths = (len(pool.sums[a].parts) if a in pool.sums else 1 for a, _ in parts)
    if len(parts) == 1 or sum(lengths) <= _SPREAD:
        result = pool.number(known)
        for atom, c in parts:
            whole = pool.sums.get(atom)
            result = result + (pool.single(atom, c) if whole is None else whole.scaled(c))
        return result
    if len(parts) <= _SPREAD:
        return Term(pool, known, parts)
    column = _primitive(pool, [c for _, c in parts])
    sign = 1 if column.sizes[0] > 0 else -1
    atoms = np.array([a for a, _ in parts], np.int64)
    digest = _digest(atoms, column.sizes * sign)
    return pool.single(pool.atom("sums", digest), column.content * sign) + pool.number(known)


def _digest(atoms: Integers, sizes: Integers) -> bytes:
    return hashlib.sha256(atoms.tobytes() + b"|" + sizes.tobytes()).digest()


def weights_of(rows: ObjectArray) -> list[Weights] | None:
    """The weights of each row; None where one is no constant, or has no factor in common."""
    found: list[Weights] = []
    for row in rows:
        weights = _row_weights(row.tolist())
        if weights is None:
            return None
        found.append(weights)
    return found


def _row_weights(terms: Sequence[Term]) -> Weights | None:
    numbers: list[flint.fmpq] = []
    common: Factors | None = None
    for term in terms:
        if not term.parts and term.constant == 0:
            numbers.append(ZERO)
            continue
        number, factors = (term.constant, {}) if not term.parts else factors_of(term)
        if common is None and all(is_constant(term.pool, atom) for atom in factors):
            common = factors
        if factors != common:
            return None
        numbers.append(number)
    return Weights(numbers, monomial(terms[0].pool, ONE, common) if common else None)
