"""How far a quantised copy's run is from its original, by functionals of values and noise at once.

For every tensor of the copy: x is its real value in the original, x̂ what the copy holds, and
d = x̂ − x. A layer with weights ŵ in place of w makes Σŵ·d + Σ(ŵ − w)·x of that, the second part a
functional of real values, whose signs are kept all the way to the inputs. Rounding to a grid adds a
noise of half a step; where x̂ is known so well that only one integer can be stored, d becomes that
number less x, and nothing is lost at all: at a point the copy's run is followed integer by integer.

Ranges of x, x̂ and d are kept side by side, each taken from the two others where that is tighter;
those that a nonlinear layer reads are bounded again by pulling functionals back, as those of a
single network are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial

import numpy as np

from encoders.contract.contract import RuntimeContract
from encoders.lemmas.combining import EXACT
from encoders.lemmas.differences import BOTH_SIDES
from encoders.lemmas.kernel import Radius, apply, exactly_zero, known_at
from encoders.lemmas.ranges.making import both_ranges, pulled_range
from encoders.lemmas.ranges.placing import range_of
from encoders.numbers.enclosure import FloatArray, Interval, add_up
from encoders.numbers.leaning import Leaning
from encoders.operator import RoundingBound
from encoders.program import Step, program_of
from encoders.scheduling import contract_at
from refine.bounds.backward import pull_back, unit_functionals
from refine.bounds.joint.joining import Joining, Ran
from refine.bounds.local.errors import Run
from refine.bounds.network import InputBox, Known, NetworkBounds, NodeBounds
from refine.bounds.optimising import chunks
from refine.bounds.pruning import (
    Effort,
    Rows,
    bends_at_zero,
    feeds_nonlinear,
    widths,
    worth_refining,
)
from refine.pair.quantised.bends import cut, ordered, phases, undecided
from refine.pair.quantised.changed_layers import changed_layer
from refine.pair.quantised.lifting import Role
from refine.pair.quantised.lockstep import Lockstep
from refine.pair.quantised.parting import parting
from refine.pair.quantised.through import (
    Meeting,
    Ranges,
    Spent,
    Through,
    Walk,
    both,
    called,
    known,
    on_grid,
    plus,
    regridded,
    settled_on,
    settled_or_noisy,
    started,
)
from refine.pair.sameness import is_copy

_FEW_STEPS = 4.0  # of a grid: a range that a pull-back may narrow to one of them
_ROWS = 4096  # functionals of one tensor at most
_MUCH = 2**26  # coefficients carried past nodes, beyond which a pass is made but once
_MOST = 2**27  # beyond which all tensors but the outputs share what is left
_COMPARED = 2**22  # of coefficients, of numbers that are compared
_LITTLE = 2**17  # of coefficients, for which numbers that a grid cuts are bounded again
_SHARE = 0.25  # of what is left, for each


def noise_bounds(
    pair: Lockstep,
    box: InputBox,
    contract: RuntimeContract,
    *,
    backward: bool = True,
    tick: Callable[[], None] = lambda: None,
    known: Known | None = None,
) -> NetworkBounds:
    """|x̂ − x| of every tensor of the copy over a box, each element, as `network_bounds` gives it.

    `backward` False composes forward only. `tick` is called often and may raise to stop. `known`
    are bounds proved over a box that contains this one.
    """
    with np.errstate(all="ignore"):  # infinities and NaN mean that nothing is known
        whole = Known({}, {}) if known is None else known
        bounding = _Bounding(
            pair, contract, tick, started(program_of(pair.meant).checked, box), backward, whole
        )
        bounds = bounding.bounds()
        if not (backward and bounding.saturated) or bounding.carried > _MUCH:
            return bounds
        other = replace(
            bounding,
            ranges=started(program_of(pair.meant).checked, box),
            steep=False,
            effort=Effort(),
            worst={},
            carried=0,
            last=None,
        ).bounds()
        best, worse = sorted((bounds, other), key=lambda b: b.largest)
        radii = {t: r.and_also(worse.radii[t]) for t, r in best.radii.items()}
        return replace(best, radii=radii)


@dataclass
class _Bounding:
    pair: Lockstep
    contract: RuntimeContract
    tick: Callable[[], None]
    ranges: Ranges
    backward: bool
    known: Known
    steep: bool = True
    saturated: bool = False
    effort: Effort = field(default_factory=Effort)
    worst: dict[str, Spent] = field(default_factory=dict)
    carried: int = 0
    last: Walk | None = None
    joining: Joining = field(default_factory=lambda: Joining({}, {}, lambda steps: None))

    def _ran(self, steps: tuple[Step, ...]) -> Ran | None:
        """What runs in place of steps of the original, where the copy has the same."""
        copies = tuple(self._copy[step.name] for step in steps)
        for step in copies:
            own = self.pair.copy.roles[step.name].plain
            if step.name in self.pair.changed or own is None:
                return None
            if own.reads != step.reads or own.running != step.running:
                return None
        return Ran(self.pair.copy.graph, copies, self.contract)

    def _stands(self, step: Step) -> tuple[Step, Role]:
        """The copy's step, or one in place of several, and what it stands for."""
        if step.name in self.joining.joined:
            return step, Role(step)
        return self._copy[step.name], self.pair.copy.roles[step.name]

    @cached_property
    def _copy(self) -> Mapping[str, Step]:
        return {s.name: s for s in program_of(self.pair.copy.graph).steps}

    def bounds(self) -> NetworkBounds:
        """Of all tensors, one step after the other."""
        maps, graph, ranges = self.ranges.maps, self.pair.meant, self.ranges
        made: list[tuple[Step, RoundingBound, Mapping[str, Interval]]] = []
        self.joining = Joining.of(maps.program, self._ran, ways=False)
        for alone in maps.program.steps:
            self.tick()
            for tensor in alone.reads:
                maps.err_by(tensor, ranges.radii[tensor])
            maps, step = self.joining.at(alone, maps)
            ranges.maps = maps
            held = {t: ranges.held[t] for t in step.reads}
            made.append((step, self._forward(step), held))
            out = step.output
            self.effort = self.effort.after(step.work, graph.types[out].size)
            final = out in graph.outputs
            rows = self._worth(out, final)
            if self.backward and len(rows):
                if not final:
                    self._refine_values(out, rows)
                self._refine_apart(out, rows)
        for tensor, radius in ranges.radii.items():
            maps.err_by(tensor, radius)
        nodes = tuple(self._node(*each) for each in made)
        radii = {t: ranges.radii[t] for t in graph.outputs}
        worst = max(radii, key=lambda t: radii[t].largest)
        spent = self.worst.get(worst, Spent({}, {}))
        return NetworkBounds(
            maps, nodes, radii, spent.costs, spent.influence, running=dict(ranges.held)
        )

    def _node(
        self, step: Step, rounding: RoundingBound, held: Mapping[str, Interval]
    ) -> NodeBounds:
        """A node as it is shown: under the name of the operator that runs."""
        (_, role), maps = self._stands(step), self.ranges.maps
        shown = step if role.step is None else called(step, role.step.node.op)
        return NodeBounds(
            shown,
            maps.values[step.output],
            errors=maps.errors[step.output],
            rounding=rounding,
            assumed=held,
            run=self._run(step, role, tuple(held[t] for t in step.reads)),
        )

    def _run(self, step: Step, role: Role, held: tuple[Interval, ...]) -> Run:
        """What executes: the copy's own step, where it is one and reads numbers."""
        own, none = role.step, np.zeros(())
        if own is step:
            return Run(step, none, self.contract)
        if own is not None and own.reads == step.reads and own.output == step.output:
            types = self.pair.copy.source.types
            if all(types[t].dtype.is_float for t in (*own.reads, own.output)):
                return Run(own, none, self.contract)
        return Run(self._copy[step.name], none, self.contract, held)

    def _worth(self, out: str, final: bool) -> Rows:
        """Elements that get a pull-back."""
        program, apart = self.ranges.maps.program, self.ranges.apart[out]
        wide = widths(apart)
        if program.writers[out].name in self.joining.inside:
            return np.zeros(0, np.intp)
        if final:
            rows = np.arange(wide.size)
        else:
            readers = [self._copy[s.name] for s in program.readers(out)]
            rows = np.zeros(0, np.intp)
            bends = feeds_nonlinear(program, out)
            roles = [self.pair.copy.roles[s.name] for s in readers]
            if bends:
                rows = worth_refining(program, out, self.ranges.held[out], wide, self.effort)
                if bends_at_zero(program, out):  # else on one side, where nothing is lost
                    ends = (self.ranges.maps.values[out], self.ranges.held[out])
                    rows = rows[undecided(*ends).reshape(-1)[rows]]
            elif any(r.own is not None for r in roles):
                rows = np.arange(wide.size)
            else:
                for role in roles:
                    if role.grid is not None:
                        held = self.ranges.held[out]
                        steps = np.broadcast_to((held.hi - held.lo) / role.grid.scale, held.shape)
                        one = settled_on(role.grid, held)
                        rows = np.flatnonzero((steps < _FEW_STEPS) & ~one)
                        beyond = np.flatnonzero(role.grid.cuts(held))
                        if len(beyond) * self.effort.elements <= _LITTLE:
                            rows = np.union1d(rows, beyond)
        most = _ROWS
        if not final:
            left = int(_SHARE * (_MOST - self.carried)) // max(self.effort.elements, 1)
            most = min(most, max(left, 0))
        if len(rows) > most:
            order = np.argsort(-wide.reshape(-1)[rows], kind="stable")[:most]
            rows = np.sort(rows[order])
        self.carried += len(rows) * self.effort.elements
        return rows

    def _forward(self, step: Step) -> RoundingBound:
        """Enters what is known behind a node; what its run loses."""
        maps, ranges, out = self.ranges.maps, self.ranges, step.output
        copy, role = self._stands(step)
        real: list[Interval] = [maps.values[t] for t in step.reads]
        real[:1] = [self._rows(step)] if step.operator.normalizes is not None else real[:1]
        mapped = step.operator.values(step.site, real)
        maps.value_maps[step.name] = mapped
        maps.values[out] = range_of(known(mapped.range))
        if out in self.known.values:
            maps.values[out] = both_ranges(maps.values[out], self.known.values[out])
        held = [ranges.held[t] for t in step.reads]
        if is_copy(step):
            through, after, lost = self._identity(step, role, held[0])
        else:
            through, after, lost = self._layer(step, copy, role, real, held)
        ranges.through[step.name] = through
        apart, radius = ranges.left(step, through)
        if out in self.known.radii:
            radius = radius.and_also(self.known.radii[out])
        ranges.enter(out, after, apart, radius)
        shape = self.pair.meant.types[out].shape
        maps.local[step.name] = exactly_zero(EXACT, shape)
        if through.noise is not None:
            maps.local[step.name] = through.noise.on(shape)
        moved = None if step.name in self.pair.changed else through.moved
        if moved is None:
            errors = [ranges.radii[t] for t in step.reads]
            moved = step.operator.differences(step.site, real, errors)
        maps.difference_maps[step.name] = moved
        return replace(lost, radius=maps.local[step.name])

    def _lost(self, step: Step, role: Role, result: Interval) -> RoundingBound:
        """What the run of a node of the copy loses, over the ranges of what it reads."""
        shape = self.pair.meant.types[step.output].shape
        if role.product is not None and role.step is not None:
            site = role.step.site
            here = contract_at(role.step.running, self.contract)
            (source,) = role.step.reads
            return RoundingBound(role.product.rounding(site, self.ranges.held[source], here))
        if role.step is None or role.stored is not None or role.own is not None:
            return RoundingBound(exactly_zero(EXACT, shape))
        here = contract_at(role.step.running, self.contract)
        given = [self._read(role.step, t) for t in role.step.reads]
        grid = self.pair.copy.grids.get(step.output)
        if grid is not None:  # integers moved about
            result = grid.integers(result)
        return role.step.operator.rounding(role.step.site, given, result, here)

    def _read(self, step: Step, tensor: str) -> Interval:
        """What a step of the copy reads: numbers, or the integers that stand for them."""
        held = self.ranges.held[tensor]
        if self.pair.copy.source.types[tensor].dtype.is_float:
            return held
        return self.pair.copy.grids[tensor].integers(held)

    def _identity(
        self, step: Step, role: Role, held: Interval
    ) -> tuple[Through, Interval, RoundingBound]:
        x = self.ranges.maps.values[step.reads[0]]
        nothing = RoundingBound(exactly_zero(EXACT, x.shape))
        if role.stored is not None:
            return (*self._stored(step, role, held), nothing)
        if role.own is not None:
            assert role.step is not None
            here = contract_at(role.step.running, self.contract)
            noise = role.own.noise(role.step.site, held, here)
            reached = role.own.reached(role.step.site, held, here)
            after = both(reached, held.inflate(noise.bound))
            settled = (reached.hi - reached.lo) < noise.bound
            return settled_or_noisy(settled, reached, noise), after, nothing
        if role.regrid is not None:
            return (*regridded(role.regrid, x, held), nothing)
        lost = self._lost(step, role, held)
        self._keep_grid(step, lost)
        one, none = np.ones(x.shape), np.zeros(x.shape)
        through = Through(on_d=one, on_x=none, noise=lost.radius)
        return through, held.inflate(lost.radius.bound), lost

    def _stored(self, step: Step, role: Role, held: Interval) -> tuple[Through, Interval]:
        assert role.step is not None
        assert role.stored is not None
        grid, storing = role.stored.written, role.stored.storing
        assert grid is not None
        assert storing is not None
        here = contract_at(role.step.running, self.contract)
        given = [self._read(role.step, t) for t in role.step.reads]
        stored = storing(role.step.site, given, here)
        x = self.ranges.maps.values[step.reads[0]]
        steps = stored.noise(grid).on(held.shape)
        slope, rest = grid.clamped(held, self.steep)
        self.saturated |= bool(np.any(rest.lo != rest.hi))
        before = self.ranges.gridded.get(step.reads[0])
        if before is not None and before[0].like(grid):
            again = stored.again(grid, before[1]).on(held.shape)
            same = np.isfinite(again.bound)  # the very numbers, which nothing clamps
            slope = np.where(same, 1.0, slope)
            rest = Interval(np.where(same, 0.0, rest.lo), np.where(same, 0.0, rest.hi))
            steps = steps.and_also(again)
        self.ranges.gridded[step.output] = grid, exactly_zero(EXACT, held.shape)
        noise = steps.times(np.broadcast_to(grid.scale, held.shape))
        reached = grid.numbers(stored.reached(grid, held))
        return on_grid(reached, slope, rest, noise, add_up(x.magnitude, held.magnitude)), reached

    def _layer(
        self,
        step: Step,
        copy: Step,
        role: Role,
        real: Sequence[Interval],
        held: Sequence[Interval],
    ) -> tuple[Through, Interval, RoundingBound]:
        errors = [self.ranges.radii[t] for t in step.reads]
        if step.operator.normalizes is not None:
            meeting = (Meeting(x.lo, x.hi, run) for x, run in zip(real, held, strict=True))
            real = [x if isinstance(x, Leaning) else m for x, m in zip(real, meeting, strict=True)]
        elif self.backward and len(real) == 1 and not step.affine:
            most = _COMPARED // max(self.effort.elements, 1)
            real = [ordered(real[0], partial(self._highest, step.reads[0]), most)]
        if is_copy(copy):  # the original's clamp, which the copy's grid does as well
            copy = step
        run = copy.operator.values(copy.site, held).range
        lost = self._lost(step, role, run)
        after = known(run).inflate(lost.radius.bound)
        if step.name not in self.pair.changed:
            moved = step.operator.differences(step.site, real, errors)
            through = Through(moved=moved, noise=lost.radius)
            if len(step.reads) == 1:
                through = phases(step, through, real[0], held[0]) or through
        else:
            through = replace(
                changed_layer(step, copy, real, errors, held, self.ranges.maps.values[step.output]),
                noise=lost.radius,
            )
        if role.loose is not None:
            shape = step.site.outputs[0].shape
            loose = np.broadcast_to(role.loose, shape)
            after = after.inflate(loose)
            around = Interval(-loose, loose)
            through = replace(
                through, range=around if through.range is None else plus(through.range, around)
            )
        self._keep_grid(step, lost)
        return cut(step, through, after, self.ranges.maps.values[step.output]), after, lost

    def _rows(self, step: Step) -> Interval:
        """Ranges of rows that are normalised, and what else there is time to know of these."""
        left = _MOST - self.carried if self.backward and self.carried <= _MUCH else 0
        affordable = int(_SHARE * left) // max(self.effort.elements, 1)
        x = parting(self.ranges, step, self.tick, affordable)
        self.carried += 4 * x.lo.size * self.effort.elements if isinstance(x, Leaning) else 0
        return x

    def _keep_grid(self, step: Step, lost: RoundingBound) -> None:
        """Numbers of a grid that are moved about, or converted, are that still, up to what is lost
        of them."""
        if len(step.reads) != 1 or step.reads[0] not in self.ranges.gridded:
            return
        like, source = step.operator.likeness, step.reads[0]
        grid, off = self.ranges.gridded[source]
        shape = self.pair.meant.types[step.output].shape
        if is_copy(step):
            self.ranges.gridded[step.output] = grid, off + lost.radius.on(shape)
        elif (like.reshapes or like.selects) and grid.scale.size == grid.zero.size == 1:
            self.ranges.gridded[step.output] = grid, off.worst().on(shape) + lost.radius.on(shape)

    def _refine_values(self, out: str, rows: Rows) -> None:
        """Better ranges of real values."""
        maps = self.ranges.maps
        x = maps.values[out]
        lo, hi = x.lo.reshape(-1).copy(), x.hi.reshape(-1).copy()
        for chunk in chunks(self.pair.meant, rows, copies=4):
            c = unit_functionals(x.shape, chunk)
            pulled = pull_back(maps, {out: np.concatenate([c, -c])}, {}, self.tick)
            hi[chunk] = np.minimum(hi[chunk], pulled.upper[: len(chunk)])
            lo[chunk] = np.maximum(lo[chunk], -pulled.upper[len(chunk) :])
        maps.values[out] = pulled_range(x, lo, hi)
        self.ranges.enter(
            out, self.ranges.held[out], self.ranges.apart[out], self.ranges.radii[out]
        )

    def _refine_apart(self, out: str, rows: Rows) -> None:
        """Better ranges of d, and of x̂ = x + d: where there is work to spare of both together, for
        noise and weights that move d move x̂ too, and no less than that."""
        ranges = self.ranges
        d, held = ranges.apart[out], ranges.held[out]
        lo, hi = d.lo.reshape(-1).copy(), d.hi.reshape(-1).copy()
        low, high = held.lo.reshape(-1).copy(), held.hi.reshape(-1).copy()
        final = out in self.pair.meant.outputs
        found: list[tuple[Rows, Radius]] = []
        for chunk in chunks(self.pair.meant, rows, copies=4):
            c = unit_functionals(d.shape, chunk)
            k = len(chunk)
            signs = np.concatenate([c, -c])
            upper, cost = self._pulled(out, None, signs)
            radius = apply(
                BOTH_SIDES,
                U=upper[:k],
                V=upper[k:],
                e=cost.taken(np.arange(k)),
                f=cost.taken(np.arange(k, 2 * k)),
            )
            found.append((chunk, radius))
            ends = add_up(upper, cost.bound)
            if final:
                self._blame(out, radius)
            hi[chunk] = np.minimum(hi[chunk], ends[:k])
            lo[chunk] = np.maximum(lo[chunk], -ends[k:])
            if not final and self.carried <= _MUCH:
                upper, cost = self._pulled(out, signs, signs)
                ends = add_up(upper, cost.bound)
                high[chunk] = np.minimum(high[chunk], ends[:k])
                low[chunk] = np.maximum(low[chunk], -ends[k:])
        radius = ranges.radii[out].and_also(known_at(d.shape, found))
        ranges.enter(
            out,
            both(held, Interval(low.reshape(d.shape), high.reshape(d.shape))),
            both(d, Interval(lo.reshape(d.shape), hi.reshape(d.shape))),
            radius,
        )

    def _blame(self, out: str, radius: Radius) -> None:
        """What the largest bound of an output is made of."""
        if self.last is None or not radius.bound.size:
            return
        place = int(np.argmax(radius.bound))
        before = self.worst.get(out)
        if before is None or before.total < radius.bound[place]:
            self.worst[out] = self.last.spent(place, float(radius.bound[place]))

    def _highest(self, tensor: str, c: FloatArray) -> FloatArray:
        """What functionals of a tensor are at most, of real and of run-time values."""
        self.carried += 2 * len(c) * self.effort.elements
        upper, cost = self._pulled(tensor, c, c)
        real = pull_back(self.ranges.maps, {tensor: c}, {}, self.tick).upper
        return np.maximum(real, add_up(upper, cost.bound))

    def _pulled(
        self, out: str, on_x: FloatArray | None, on_d: FloatArray
    ) -> tuple[FloatArray, Radius]:
        """Functionals (k, *shape) of a tensor's x and d, carried back to the inputs: at most the
        first, up to the second."""
        walk = Walk(self.ranges, self.tick)
        walk.put(walk.on_d, out, on_d)
        walk.total = np.zeros(len(on_d))
        if on_x is not None:
            walk.put(walk.on_x, out, on_x)
        for step in reversed(self.ranges.maps.program.steps):
            walk.carry(step)
        self.last = walk
        return walk.finished()
