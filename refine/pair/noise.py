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
from functools import cached_property

import numpy as np

from encoders.arithmetic.numpy_arithmetic import two_sum_error
from encoders.contract.contract import RuntimeContract
from encoders.lemmas.claims import REAL_GAP
from encoders.lemmas.combining import EXACT
from encoders.lemmas.differences import BOTH_SIDES, GIVEN_ERROR
from encoders.lemmas.kernel import Radius, apply, exactly_zero, known_at
from encoders.numbers.enclosure import (
    BoolArray,
    FloatArray,
    Interval,
    add_down,
    add_up,
)
from encoders.program import Step, program_of
from encoders.quantizing import Grid
from encoders.scheduling import contract_at
from encoders.site import Site
from encoders.traits import Commuting
from onnx_import.graph import DType, TensorType
from refine.bounds.backward import Maps, pull_back, unit_functionals
from refine.bounds.network import InputBox
from refine.bounds.optimising import CHUNK_BYTES
from refine.bounds.pruning import Effort, Rows, feeds_nonlinear, widths, worth_refining
from refine.pair.lifting import Role
from refine.pair.lockstep import Lockstep
from refine.pair.sameness import attributes_of, is_copy
from refine.pair.through import (
    Ranges,
    Through,
    Walk,
    both,
    known,
    minus,
    plus,
    regridded,
    settled_or_noisy,
    times,
)

_KNOWN = 2.0**-6  # of a difference's bound: a range this narrow is as good as a number
_FEW_STEPS = 4.0  # of a grid: a range that a pull-back may narrow to one of them
_ROWS = 4096  # functionals of one tensor at most


def noise_radii(
    pair: Lockstep,
    box: InputBox,
    contract: RuntimeContract,
    tick: Callable[[], None] = lambda: None,
) -> Mapping[str, Radius]:
    """|x̂ − x| of every output of the copy over a box, each element.

    `tick` is called often and may raise to stop.
    """
    with np.errstate(all="ignore"):  # infinities and NaN mean that nothing is known
        return _Bounding(pair, contract, tick, _start(pair, box)).radii()


def _start(pair: Lockstep, box: InputBox) -> Ranges:
    ranges = Ranges(Maps(program_of(pair.meant).checked, dict(box.values)))
    for tensor, error in box.errors.items():
        around = Interval(-error, np.asarray(error))
        x = box.values[tensor]
        ranges.enter(tensor, plus(x, around), around, apply(GIVEN_ERROR, U=error))
    return ranges


@dataclass
class _Bounding:
    pair: Lockstep
    contract: RuntimeContract
    tick: Callable[[], None]
    ranges: Ranges
    effort: Effort = field(default_factory=Effort)

    @cached_property
    def _copy(self) -> Mapping[str, Step]:
        return {s.name: s for s in program_of(self.pair.copy.graph).steps}

    def radii(self) -> Mapping[str, Radius]:
        program, graph = self.ranges.maps.program, self.pair.meant
        for step in program.steps:
            self.tick()
            self._forward(step)
            out = step.output
            self.effort = self.effort.after(step.work, graph.types[out].size)
            final = out in graph.outputs
            rows = self._worth(out, final)
            if len(rows):
                if not final:
                    self._refine_values(out, rows)
                self._refine_apart(out, rows)
        return {t: self.ranges.radii[t] for t in graph.outputs}

    def _worth(self, out: str, final: bool) -> Rows:
        """Elements that get a pull-back."""
        program, apart = self.ranges.maps.program, self.ranges.apart[out]
        wide = widths(apart)
        if final:
            rows = np.arange(wide.size)
        else:
            readers = [self._copy[s.name] for s in program.readers(out)]
            rows = np.zeros(0, np.intp)
            bends = feeds_nonlinear(program, out)
            roles = [self.pair.copy.roles[s.name] for s in readers]
            if bends:
                rows = worth_refining(program, out, self.ranges.held[out], wide, self.effort)
            elif any(r.own is not None for r in roles):
                rows = np.arange(wide.size)
            else:
                for role in roles:
                    if role.clamps is not None or role.stored is not None:
                        grid = role.clamps or role.stored.written  # type: ignore[union-attr]
                        assert grid is not None
                        held = self.ranges.held[out]
                        steps = np.broadcast_to((held.hi - held.lo) / grid.scale, held.shape)
                        one = self._settled(grid, held)
                        rows = np.flatnonzero((steps < _FEW_STEPS) & ~one)
        if len(rows) > _ROWS:
            order = np.argsort(-wide.reshape(-1)[rows], kind="stable")[:_ROWS]
            rows = np.sort(rows[order])
        return rows

    def _settled(self, grid: Grid, held: Interval) -> BoolArray:
        u = grid.steps(held)
        return np.asarray(np.ceil(u.lo - 0.5) == np.floor(u.hi + 0.5))

    def _forward(self, step: Step) -> None:
        maps, ranges, out = self.ranges.maps, self.ranges, step.output
        copy, role = self._copy[step.name], self.pair.copy.roles[step.name]
        real = [maps.values[t] for t in step.reads]
        mapped = step.operator.values(step.site, real)
        maps.value_maps[step.name] = mapped
        maps.values[out] = known(mapped.range)
        held = [ranges.held[t] for t in step.reads]
        if is_copy(step):
            through, after = self._identity(step, role, held[0])
        else:
            through, after = self._layer(step, copy, role, real, held)
        ranges.through[step.name] = through
        apart, radius = self._left(step, through)
        ranges.enter(out, after, apart, radius)

    def _lost(self, step: Step, role: Role, result: Interval) -> Radius:
        """What the run of a node of the copy loses, over the ranges of what it reads."""
        shape = self.pair.meant.types[step.output].shape
        if role.product is not None and role.step is not None:
            site = role.step.site
            here = contract_at(role.step.running, self.contract)
            (source,) = role.step.reads
            return role.product.rounding(site, self.ranges.held[source], here)
        if role.step is None or role.stored is not None or role.own is not None:
            return exactly_zero(EXACT, shape)
        here = contract_at(role.step.running, self.contract)
        given = [self._read(role.step, t) for t in role.step.reads]
        grid = self.pair.copy.grids.get(step.output)
        if grid is not None:  # integers moved about
            result = grid.integers(result)
        return role.step.operator.rounding(role.step.site, given, result, here).radius

    def _read(self, step: Step, tensor: str) -> Interval:
        """What a step of the copy reads: numbers, or the integers that stand for them."""
        held = self.ranges.held[tensor]
        if self.pair.copy.source.types[tensor].dtype.is_float:
            return held
        return self.pair.copy.grids[tensor].integers(held)

    def _identity(self, step: Step, role: Role, held: Interval) -> tuple[Through, Interval]:
        x = self.ranges.maps.values[step.reads[0]]
        one, none = np.ones(x.shape), np.zeros(x.shape)
        if role.stored is not None:
            return self._stored(role, x, held)
        if role.own is not None:
            assert role.step is not None
            here = contract_at(role.step.running, self.contract)
            noise = role.own.noise(role.step.site, held, here)
            reached = role.own.reached(role.step.site, held, here)
            after = both(reached, held.inflate(noise.bound))
            settled = (reached.hi - reached.lo) < noise.bound
            return settled_or_noisy(settled, reached, noise), after
        if role.regrid is not None:
            return regridded(role.regrid, x, held)
        lost = self._lost(step, role, held)
        return Through(on_d=one, on_x=none, noise=lost), held.inflate(lost.bound)

    def _stored(self, role: Role, x: Interval, held: Interval) -> tuple[Through, Interval]:
        assert role.step is not None
        assert role.stored is not None
        grid, storing = role.stored.written, role.stored.storing
        assert grid is not None
        assert storing is not None
        here = contract_at(role.step.running, self.contract)
        given = [self._read(role.step, t) for t in role.step.reads]
        stored = storing(role.step.site, given, here)
        steps = stored.noise(grid, held).on(held.shape)
        noise = steps.times(np.broadcast_to(grid.scale, held.shape))
        reached = grid.numbers(stored.reached(grid, held))
        settled = (reached.hi - reached.lo) < 2.0 * noise.bound * (1.0 - _KNOWN)
        return settled_or_noisy(settled, reached, noise), reached

    def _layer(
        self,
        step: Step,
        copy: Step,
        role: Role,
        real: Sequence[Interval],
        held: Sequence[Interval],
    ) -> tuple[Through, Interval]:
        errors = [self.ranges.radii[t] for t in step.reads]
        if is_copy(copy):  # the original's clamp, which the copy's grid does as well
            copy = step
        run = copy.operator.values(copy.site, held).range
        lost = self._lost(step, role, run)
        after = known(run).inflate(lost.bound)
        if step.name not in self.pair.changed:
            moved = step.operator.differences(step.site, real, errors)
            through = Through(moved=moved, noise=lost)
            through = self._phases(step, through) or through
        else:
            through = replace(self._changed(step, copy, real, errors, held), noise=lost)
        if role.loose is not None:
            shape = step.site.outputs[0].shape
            loose = np.broadcast_to(role.loose, shape)
            after = after.inflate(loose)
            around = Interval(-loose, loose)
            through = replace(
                through, range=around if through.range is None else plus(through.range, around)
            )
        return self._cut(step, through, after), after

    def _phases(self, step: Step, through: Through) -> Through | None:
        """Where the signs of x and x̂ are known, a Relu does one of four exact things."""
        if step.operator.likeness.limits(step.site) != (0.0, np.inf):
            return None
        (source,) = step.reads
        x, held = self.ranges.maps.values[source], self.ranges.held[source]
        up, down = x.lo >= 0, x.hi <= 0
        run_up, run_down = held.lo >= 0, held.hi <= 0
        known = (up | down) & (run_up | run_down)
        on_d = np.where(known & run_up, 1.0, 0.0)
        on_x = np.where(known, np.where(run_up, 1.0, 0.0) - np.where(up, 1.0, 0.0), 0.0)
        return replace(through, kept=~known, on_d=on_d, on_x=on_x)

    def _cut(self, step: Step, through: Through, after: Interval) -> Through:
        """Where x and x̂ are known so well that d is, through a layer that bends, take it as it is:
        what depends on nothing but its range is lost nowhere else."""
        if step.affine or through.moved is None:
            return through
        apart = minus(after, self.ranges.maps.values[step.output])
        size = through.moved.radius.bound
        cut = (apart.hi - apart.lo) <= _KNOWN * size
        if not np.any(cut):
            return through
        kept = ~cut if through.kept is None else through.kept & ~cut
        range_ = Interval(np.where(cut, apart.lo, 0.0), np.where(cut, apart.hi, 0.0))
        if through.range is not None:
            rest = through.range
            range_ = Interval(np.where(cut, range_.lo, rest.lo), np.where(cut, range_.hi, rest.hi))
        noise = through.noise
        if noise is not None:
            noise = noise.on(cut.shape).times(np.where(cut, 0.0, 1.0))
        on_d, on_x = (
            None if v is None else np.where(cut, 0.0, v) for v in (through.on_d, through.on_x)
        )
        return replace(through, kept=kept, range=range_, noise=noise, on_d=on_d, on_x=on_x)

    def _changed(
        self,
        step: Step,
        copy: Step,
        real: Sequence[Interval],
        errors: Sequence[Radius],
        held: Sequence[Interval],
    ) -> Through:
        """A layer whose constants the copy has changed."""
        places = [i for i, c in enumerate(step.site.constants) if c is None]
        plain = len(places) == 1 and step.node.op == copy.node.op
        weights = [i for i, c in enumerate(step.site.constants) if c is not None]
        same = attributes_of(step, False) == attributes_of(copy, False)
        plain = plain and same
        if plain and step.operator.likeness.linear_in_constants and len(weights) == 1:
            (at,) = weights
            a = np.asarray(copy.site.constants[at], np.float64)
            b = np.asarray(step.site.constants[at], np.float64)
            if a.shape == b.shape:
                moved = copy.operator.differences(copy.site, real, errors)
                less = np.asarray(a - b)
                missed = np.abs(np.asarray(two_sum_error(a, -b, less), np.float64))
                shift = step.operator.values(_with(step, at, less), real)
                range_ = None
                if np.any(missed):
                    wide = [Interval(-x.magnitude, x.magnitude) for x in real]
                    off = step.operator.values(_with(step, at, missed), wide).range.magnitude
                    range_ = Interval(-off, off)
                return Through(moved=moved, shift=shift, range=range_)
        if plain and step.operator.likeness.commuting is Commuting.SUM and len(weights) == 1:
            (at,) = weights
            a, b = (np.asarray(s.site.constants[at], np.float64) for s in (copy, step))
            shape = step.site.outputs[0].shape
            lo, hi = (np.broadcast_to(v, shape) for v in (add_down(a, -b), add_up(a, -b)))
            moved = step.operator.differences(step.site, real, errors)
            return Through(moved=moved, range=Interval(lo, hi))
        after = copy.operator.values(copy.site, held).range
        return Through(range=minus(known(after), self.ranges.maps.values[step.output]))

    def _left(self, step: Step, through: Through) -> tuple[Interval, Radius]:
        """The range of d behind a node, and a radius of it, from those before it."""
        shape = step.site.outputs[0].shape
        radius = exactly_zero(EXACT, shape)
        signed = Interval(np.zeros(shape), np.zeros(shape))
        if through.moved is not None:
            moved = through.moved.radius
            if through.kept is not None:
                moved = moved.on(shape).times(np.where(through.kept, 1.0, 0.0))
            radius = radius + moved
            signed = signed.inflate(moved.bound)
        if through.on_d is not None and through.on_x is not None:
            (source,) = step.reads
            own = plus(
                times(through.on_d, self.ranges.apart[source]),
                times(through.on_x, self.ranges.maps.values[source]),
            )
            radius = radius + apply(REAL_GAP, lo=own.lo, hi=own.hi)
            signed = plus(signed, own)
        for range_ in (None if through.shift is None else through.shift.range, through.range):
            if range_ is not None:
                radius = radius + apply(REAL_GAP, lo=range_.lo, hi=range_.hi)
                signed = plus(signed, range_)
        if through.noise is not None:
            radius = radius + through.noise.on(shape)
            signed = signed.inflate(np.broadcast_to(through.noise.bound, shape))
        return known(signed), radius

    def _refine_values(self, out: str, rows: Rows) -> None:
        """Better ranges of real values."""
        maps = self.ranges.maps
        x = maps.values[out]
        lo, hi = x.lo.reshape(-1).copy(), x.hi.reshape(-1).copy()
        for chunk in self._chunks(rows):
            c = unit_functionals(x.shape, chunk)
            pulled = pull_back(maps, {out: np.concatenate([c, -c])}, {}, self.tick)
            hi[chunk] = np.minimum(hi[chunk], pulled.upper[: len(chunk)])
            lo[chunk] = np.maximum(lo[chunk], -pulled.upper[len(chunk) :])
        maps.values[out] = Interval(lo.reshape(x.shape), hi.reshape(x.shape))
        self.ranges.enter(
            out, self.ranges.held[out], self.ranges.apart[out], self.ranges.radii[out]
        )

    def _refine_apart(self, out: str, rows: Rows) -> None:
        """Better ranges of d, and of x̂ = x + d: of both together, for noise and weights that move d
        move x̂ too, and no less than that."""
        ranges = self.ranges
        d, held = ranges.apart[out], ranges.held[out]
        lo, hi = d.lo.reshape(-1).copy(), d.hi.reshape(-1).copy()
        low, high = held.lo.reshape(-1).copy(), held.hi.reshape(-1).copy()
        final = out in self.pair.meant.outputs
        found: list[tuple[Rows, Radius]] = []
        for chunk in self._chunks(rows):
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
            hi[chunk] = np.minimum(hi[chunk], ends[:k])
            lo[chunk] = np.maximum(lo[chunk], -ends[k:])
            if not final:
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

    def _chunks(self, rows: Rows) -> list[Rows]:
        graph = self.pair.meant
        widest = max(t.size for name, t in graph.types.items() if not graph.is_constant(name))
        size = max(int(CHUNK_BYTES // (8 * max(widest, 1) * 4)), 1)
        return [rows[i : i + size] for i in range(0, len(rows), size)]

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
        return walk.finished()


def _with(step: Step, at: int, values: FloatArray) -> Site:
    constants = list(step.site.constants)
    constants[at] = values
    kinds = list(step.site.inputs)
    kinds[at] = TensorType(DType.FLOAT64, values.shape)
    return replace(step.site, constants=tuple(constants), inputs=tuple(kinds))
