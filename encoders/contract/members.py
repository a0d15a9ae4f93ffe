"""Pinned contracts among the executions that a contract allows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import TypeVar

from encoders.contract.contract import (
    BiasPlacement,
    Contraction,
    FactorRounding,
    Normalization,
    RuntimeContract,
    Schedule,
    Subnormals,
)
from encoders.contract.functions import (
    CORRECTLY_ROUNDED,
)
from encoders.contract.orders import AlignedSteps, AnyOrder, Blocked, Order, Pairwise, Sequential
from encoders.contract.presets import LIBRARY_BLOCK


def members(contract: RuntimeContract) -> tuple[RuntimeContract, ...]:
    """Some pinned contracts that `contract` allows, for search: each is one concrete execution.

    Every value that a field leaves open is that of some member. First come all combinations of
    orders, contractions and short factors; then members in which one thing else differs, or all of
    it at once; last, where they may be in any order, sums as libraries of matrix products add them.
    They round elementary functions correctly, which is within every accuracy of half an ulp or
    more.
    """
    schedules = (contract.schedule, *(r.schedule for r in contract.rules))
    orders = _orders(schedules)
    fused = tuple(dict.fromkeys(c for s in schedules for c in _contractions(s)))
    roundings: tuple[FactorRounding, ...] = (contract.factor_rounding,)
    if contract.factor_format is not None and contract.factor_rounding is FactorRounding.ANY:
        roundings = (FactorRounding.TRUNCATE, FactorRounding.NEAREST)
    plain = _Choice(orders[0], fused[0], roundings[0], short=len(roundings) > 1)
    every = [
        replace(plain, order=o, contraction=c, factors=f)
        for o in orders
        for c in fused
        for f in roundings
    ]
    simple = orders[1] if isinstance(orders[0], AlignedSteps) and len(orders) > 1 else orders[0]
    first, last = (replace(plain, order=simple, contraction=c) for c in (fused[0], fused[-1]))
    flush, keep = Subnormals.FLUSH, Subnormals.KEEP
    every += [
        replace(last, results=flush, operands=flush),
        replace(last, results=flush, operands=keep),
        replace(last, results=keep, operands=flush),
        replace(last, bias=BiasPlacement.FIRST),
        replace(last, normalization=Normalization.DIRECT),
        replace(last, normalization=Normalization.RECIPROCAL),
        replace(
            first,
            bias=BiasPlacement.FIRST,
            results=flush,
            operands=flush,
            normalization=Normalization.DIRECT,
        ),
        replace(first, order=Blocked(LIBRARY_BLOCK), bias=BiasPlacement.AFTER_FIRST_BLOCK),
    ]
    if len(roundings) > 1:  # a runtime may leave factors as they are, too
        every += [replace(plain, order=simple, contraction=c, whole=True) for c in fused]
    found: dict[RuntimeContract, RuntimeContract] = {}
    for choice in every:
        member = choice.of(contract)
        found.setdefault(replace(member, name=""), member)
    return tuple(found.values())


def contrasting(contract: RuntimeContract, count: int = 3) -> tuple[RuntimeContract, ...]:
    """At most so many of the members, the first and those least like the ones before; how sums are
    added weighs most. An exact contract is its own only member."""
    if contract.exact:
        return (contract,)
    rest = list(members(contract))
    chosen = [rest.pop(0)]
    while rest and len(chosen) < count:
        farthest = max(rest, key=lambda m: min(_unlike(m, c) for c in chosen))
        rest.remove(farthest)
        chosen.append(farthest)
    return tuple(chosen)


def _unlike(a: RuntimeContract, b: RuntimeContract) -> int:
    sums = ("order", "contraction", "rules")
    others = ("bias", "results", "operands", "normalization", "factor_rounding")
    weighed = [*((n, len(others)) for n in sums), *((n, 1) for n in others)]
    return sum(weight for name, weight in weighed if getattr(a, name) != getattr(b, name))


@dataclass(frozen=True)
class _Choice:
    """One value for each thing that a contract may leave open."""

    order: Order
    contraction: Contraction
    factors: FactorRounding
    short: bool
    whole: bool = False
    bias: BiasPlacement = BiasPlacement.LAST
    results: Subnormals = Subnormals.KEEP
    operands: Subnormals = Subnormals.KEEP
    normalization: Normalization = Normalization.FOLDED

    def of(self, contract: RuntimeContract) -> RuntimeContract:
        """The contract with what it leaves open chosen so, named after what was chosen."""
        settled = self.settled(contract.schedule)
        pinned = replace(
            contract,
            order=settled.order,
            contraction=settled.contraction,
            bias=settled.bias,
            results=_chosen(contract.results, Subnormals.EITHER, self.results),
            operands=_chosen(contract.operands, Subnormals.EITHER, self.operands),
            normalization=_chosen(contract.normalization, Normalization.EITHER, self.normalization),
            factor_rounding=self.factors,
            factor_format=None if self.whole else contract.factor_format,
            functions=CORRECTLY_ROUNDED,
            rules=tuple(replace(r, schedule=self.settled(r.schedule)) for r in contract.rules),
        )
        name = f"{contract.name}/{type(settled.order).__name__.lower()}"
        name += f"/fma-{settled.contraction.value}"
        how = "whole" if self.whole else self.factors.value
        name += f"/factors-{how}" if self.short else ""
        if contract.bias is BiasPlacement.ANY and self.bias is not BiasPlacement.LAST:
            name += f"/bias-{self.bias.value}"
        if contract.results is not pinned.results and self.results is Subnormals.FLUSH:
            name += "/results-flushed"
        if contract.operands is not pinned.operands and self.operands is Subnormals.FLUSH:
            name += "/operands-flushed"
        if contract.normalization is not pinned.normalization:
            folded = self.normalization is Normalization.FOLDED
            name += "" if folded else f"/normalisation-{self.normalization.value}"
        return replace(pinned, name=name)

    def settled(self, s: Schedule) -> Schedule:
        order = s.order
        if isinstance(order, AnyOrder):
            steps = isinstance(self.order, AlignedSteps) and self.order.alignment != order.alignment
            order = Sequential() if steps else self.order  # the steps are another rule's
        return Schedule(
            order,
            _chosen(s.contraction, Contraction.EITHER, self.contraction),
            _chosen(s.bias, BiasPlacement.ANY, self.bias),
        )


_Option = TypeVar("_Option", bound=Enum)


def _chosen(stated: _Option, open_: _Option, choice: _Option) -> _Option:
    return choice if stated is open_ else stated


def _orders(schedules: Sequence[Schedule]) -> tuple[Order, ...]:
    """Orders to try where one is open; the contract's own where none is."""
    open_ = [s.order for s in schedules if isinstance(s.order, AnyOrder)]
    if not open_:
        return (schedules[0].order,)
    aligned = dict.fromkeys(o.alignment for o in open_ if o.alignment is not None)
    return (*(AlignedSteps(16, a) for a in aligned), Sequential(), Pairwise(), Blocked(4))


def _contractions(s: Schedule) -> tuple[Contraction, ...]:
    if s.contraction is Contraction.EITHER:
        return (Contraction.ALWAYS, Contraction.NEVER)
    return (s.contraction,)
