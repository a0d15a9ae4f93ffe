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

from encoders.arithmetic.canonical_terms import ONE, ZERO, Pool, Term, in_order
from encoders.arithmetic.exact_fields import ObjectArray

Integers: TypeAlias = npt.NDArray[np.int64]

_SPREAD = 16  # longer sums of products keep their terms to themselves


@dataclass(frozen=True, eq=False)
class _Column:
    """Weights of one sum: primitive whole numbers, by `Pool.signed_size`, times `content`."""

    sizes: Integers
    content: flint.fmpq


@dataclass(frozen=True, eq=False)
class Weights:
    """The weights of one sum, and as columns where some of them are left out."""

    numbers: list[flint.fmpq]
    columns: dict[bytes, _Column] = field(default_factory=dict)

    def column(self, pool: Pool, used: npt.NDArray[np.bool_]) -> _Column:
        """Those that are used."""
        key = used.tobytes()
        if key not in self.columns:
            pool.spend(len(self.numbers))
            kept = [w for w, u in zip(self.numbers, used.tolist(), strict=True) if u]
            self.columns[key] = _primitive(pool, kept)
        return self.columns[key]


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
    pool.spend(8 * len(weights) + len(terms))
    plain = _plain(terms)
    if plain is None:
        return [sum_of(pool, zip(terms, w.numbers, strict=True)) for w in weights]
    atoms, factor, used = plain
    order = np.argsort(atoms[used])
    made: list[Term] = []
    for w in weights:
        column = w.column(pool, used)
        sizes = column.sizes[order]
        there = sizes != 0
        count = int(np.count_nonzero(there))
        if count <= _SPREAD:
            made.append(sum_of(pool, zip(terms, w.numbers, strict=True)))
            continue
        signed = sizes[there]
        sign = 1 if signed[0] > 0 else -1
        digest = _digest(atoms[used][order][there], signed * sign)
        made.append(pool.single(pool.atom("sums", digest), column.content * factor * sign))
    return made


def _plain(terms: list[Term]) -> tuple[Integers, flint.fmpq, npt.NDArray[np.bool_]] | None:
    """The atoms of terms that are all c·a with one c, apart from zeros; None where they are
    not, or one is there twice."""
    atoms = np.full(len(terms), -1, np.int64)
    factor: flint.fmpq | None = None
    for k, term in enumerate(terms):
        if not term.parts:
            if term.constant != 0:
                return None
            continue
        content, atom = term.content
        if factor is not None and content != factor:
            return None
        atoms[k], factor = atom, content
    used = atoms >= 0
    if factor is None or len(np.unique(atoms[used])) < np.count_nonzero(used):
        return None
    return atoms, factor, used


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


def all_numbers(terms: ObjectArray) -> bool:
    """Are they all numbers?"""
    return all(not t.parts for t in terms.ravel().tolist())


def weights_of(numbers: ObjectArray) -> Weights:
    """The numbers of a row or column."""
    return Weights([t.constant for t in numbers.tolist()])
