"""Where the errors of each node are laid: a walk forwards finds what can take them, and one
backwards says how much each takes.

Bean's inference (Kellison, Zielinski, Bindel & Hsu 2025), with one thing more: a value that is read
several times, or that nothing before it may move, is met to the bit by what computes it, and what
reads it takes it as it is. So each layer of a chain answers for its own sums only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from encoders.contract.contract import BiasPlacement, RuntimeContract
from encoders.lemmas.backward.paths import GROWN_BESIDES
from encoders.lemmas.kernel import Radius, apply
from encoders.program import Step
from encoders.rounding.rounding_bounds import rounder_of
from encoders.scheduling import contract_at
from encoders.traits import Absorption
from refine.perturbed.amounts import grown, is_zero, of_log, slope_rounded
from refine.perturbed.forwards import Forwards
from refine.perturbed.standing import (
    Standing,
    additions_on_a_path,
    plus,
    roundings_of,
    stored,
    times,
)

_CHANNEL = {1: 12, 2: 2, 3: 3}
"""Half roundings of the scale, roundings of shift and mean, of any formula of a normalisation."""


@dataclass(frozen=True, eq=False)
class Place:
    """What one parameter or input takes: |ln(w̃/w)| in all, and `besides` absolutely, None where
    nothing comes so. `row` counts the roundings m + 1 of the sum of products that it is in, where
    it takes no other error; `node` reads it."""

    tensor: str
    node: str
    log: float
    unit: float
    besides: Radius | None
    row: int | None


@dataclass(frozen=True, eq=False)
class Layout:
    """What all take, in the order of the program, what is left beside outputs (rows whose products
    underflow and which have no bias), how what each step writes stands, and the nodes of whose
    rounding only an absolute bound is known."""

    places: tuple[Place, ...]
    outputs: Mapping[str, Radius]
    made: Mapping[str, Standing]
    absolute: tuple[str, ...]


class Laying(Forwards):
    """Both walks over one program."""

    def layout(self) -> Layout:
        """Raises NothingTakesThem, naming what is in the way, where an error can be laid on
        nothing."""
        for tensor in self.graph.inputs:
            self.standing[tensor] = self._input(tensor)
        for step in self.program.steps:
            for tensor, constant in step.constants.items():
                if tensor not in self.standing:
                    self.standing[tensor] = self._constant(tensor, constant)
            found = self._forward(step)
            for tensor in step.writes:
                self.made[tensor] = found
                self.standing[tensor] = self._as_read(tensor, found)
        left = {tensor: self._output(tensor) for tensor in self.graph.outputs}
        for step in reversed(self.program.steps):
            if any(self.made[t].free for t in step.writes):
                self._backward(step)
        places = tuple(self._place(tensor) for tensor in self._leaves())
        mixed = {t: r for t, r in left.items() if np.any(r.bound)}
        return Layout(places, mixed, self.made, tuple(self.absolute))

    # --- backwards ---------------------------------------------------------------------------

    def _ask(self, tensor: str, amount: float, step: Step, row: int | None = None) -> None:
        """A free tensor is asked to be off by so much, |ln|; `row` as in `Place`."""
        if not self.standing[tensor].free:
            return
        self.asked[tensor] = max(self.asked.get(tensor, 0.0), amount)
        self.rows[tensor] = row
        self.nodes[tensor] = step.node.name

    def _backward(self, step: Step) -> None:
        """What a step asks of what it reads, given what is asked of what it writes."""
        asked = max(self.asked.get(t, 0.0) for t in step.writes)
        here = contract_at(step.site, self.contract)
        rounding, absorbing = self._rounding(step, here), step.operator.absorbs
        names = [t for t in step.node.inputs if t]
        by = Absorption.ALIKE if absorbing is None else absorbing.by
        if by is Absorption.MATRIX:
            return self._matrix_asks(step, here, asked)
        if by is Absorption.CHANNELS:
            return self._channels_ask(step, here, asked)
        amount, shares = asked, names
        if by is Absorption.TERMS:
            assert absorbing is not None
            zero = any(is_zero(step.site.constant(i)) for i in range(len(names)))
            terms = absorbing.terms_of(step.site) or len(names)
            deep = additions_on_a_path(here.for_sums().order, terms)
            amount = asked if zero and len(names) == 2 else plus(asked, rounding.of(deep))
        elif by in (Absorption.FACTORS, Absorption.QUOTIENT):
            amount = plus(asked, rounding.of(1))
            shares = [t for t in names if self.standing[t].free]
            for t in names:
                if not self.standing[t].free:
                    amount = plus(amount, self.standing[t].apart)
            amount = times(amount, 0.5) if len(shares) == 2 else amount
        elif by is Absorption.ROOT:
            amount = times(plus(asked, rounding.of(1)), 2.0)
        elif by is Absorption.SCALED:
            amount = plus(asked, rounding.of(2 if slope_rounded(rounding) else 1))
        elif by is Absorption.CHOSEN:
            shares = names[1:]
        row = by is Absorption.TERMS and len(names) == 2 and asked == 0.0 < amount
        row = row and not rounding.twice
        for tensor in shares:
            self._ask(tensor, amount, step)
            if row:
                self.added[tensor] = tuple(t for t in names if t != tensor)

    def _matrix_asks(self, step: Step, here: RuntimeContract, asked: float) -> None:
        names, taker = step.node.inputs, self._taker(step)
        assert taker is not None
        assert step.operator.absorbs is not None
        assert step.operator.sums is not None
        other = self.standing[names[1 - taker]]
        rounding = self._rounding(step, here)
        bias = len(names) > 2 and bool(names[2]) and not is_zero(step.site.constant(2))
        deep = additions_on_a_path(here.order, step.operator.sums.extent(step.site).terms)
        products, of_bias = step.operator.absorbs.scalings(step.site)
        apart = 0.0 if other.free else other.apart
        count = deep + 1 + int(bias) + products
        own = plus(asked, rounding.of(count))
        added = self.added.get(step.output, ())
        leaves = all(self.standing[t].leaf for t in added)
        plain = (asked == 0.0 or bool(added)) and leaves and apart == 0.0
        plain = plain and not rounding.twice and products == of_bias == 0
        count += len(added)
        for tensor in added if plain else ():
            self.rows[tensor] = count
        self._ask(names[taker], plus(own, apart), step, count if plain else None)
        if bias:
            alone = here.bias is BiasPlacement.LAST and not of_bias
            amount = plus(
                asked, rounding.of(1 if alone else count - len(added) - products + of_bias)
            )
            self._ask(names[2], amount, step, count if plain else None)

    def _channels_ask(self, step: Step, here: RuntimeContract, asked: float) -> None:
        names = step.node.inputs
        rounding = self._rounding(step, here)
        x = self.standing[names[0]]
        apart = plus(0.0 if x.free else x.apart, self.standing[names[4]].apart)
        scale = times(rounding.of(_CHANNEL[1]), 0.5)
        self._ask(names[1], plus(plus(asked, scale), apart), step)
        self._ask(names[2], plus(asked, rounding.of(_CHANNEL[2])), step)
        self._ask(names[3], plus(rounding.of(_CHANNEL[3]), apart), step)

    # --- what came of it ---------------------------------------------------------------------

    def _leaves(self) -> list[str]:
        order: dict[str, None] = dict.fromkeys(self.graph.inputs)
        for step in self.program.steps:
            order.update(dict.fromkeys(t for t in step.node.inputs if t))
        return [t for t in order if t in self.standing and self.standing[t].leaf]

    def _place(self, tensor: str) -> Place:
        kind = self.graph.types[tensor]
        rounder = rounder_of(kind.dtype, self.contract)
        log, row = self.asked.get(tensor, 0.0), self.rows.get(tensor)
        if self.graph.is_constant(tensor):
            inner = roundings_of(kind.dtype, self.contract).inner
            apart, _ = stored(self.graph.constants[tensor], inner)
            log, row = plus(log, apart), row if apart == 0.0 else None
        besides = self.besides.get(tensor)
        if besides is not None and row is None:
            divided = apply(GROWN_BESIDES, g=of_log(log, rounder.unit), A=besides)
            besides = divided.and_also(besides.times(grown(log, rounder.unit)))
        return Place(tensor, self.nodes.get(tensor, ""), log, rounder.unit, besides, row)
