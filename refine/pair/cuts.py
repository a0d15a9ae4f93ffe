"""Where two graphs part: pairs of tensors that play one part and are not the same real function.

The implementation is walked through once. Each of its tensors is written in terms
(`encoders.arithmetic.term_field`) of the inputs and of the pairs that were cut before, as those of
the specification are. Where it has the same terms as a tensor of the specification, it is the same
function of these; where it only has nearly the same values at some points, both are cut there: what
comes behind reads one new variable, which stands for the specified value. Values at points decide
what is tried, and terms what is equal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from encoders.arithmetic.approximate_field import ApproximateReals
from encoders.arithmetic.term_field import TermField
from encoders.numbers.enclosure import FloatArray
from encoders.program import Step, program_of, real_step
from gpu_check.emulator.exact import evaluate_real
from onnx_import.graph import Graph
from refine.pair.pair import Pair
from refine.pair.terms import terms_of

_TERMS = 5_000_000  # parts of terms that are made, of both graphs together
_NEAR = 0.03  # largest relative difference of tensors that play one part
_ALIKE = 3.0  # a pair may be as many times as far apart as the nearest one
_SAME = 1e-12  # differences that are none
_RESTARTS = 4


@dataclass(frozen=True)
class Cuts:
    """The specification's tensor at which each of the implementation's is cut, in the order of the
    implementation, and the implementation's tensor that each of some others is equal to."""

    pairs: Mapping[str, str]
    same: Mapping[str, str]


def cuts_of(
    pair: Pair, points: Mapping[str, FloatArray], tick: Callable[[], None] = lambda: None
) -> Cuts | None:
    """Cuts behind which all outputs are equal; None where some output cannot be cut.

    `points` are inputs of the implementation, (points, *shape). `tick` is called often and may
    raise to stop.
    """
    forced: dict[str, str] = {}
    reals = ApproximateReals()
    specified = evaluate_real(pair.spec.graph, pair.specified(points), reals, every_tensor=True)
    for _ in range(_RESTARTS):
        walk = _Walk(pair, points, specified, reals, tick=tick, forced=forced)
        failing = walk.failing()
        if failing is None:
            return Cuts(walk.pairs, walk.same)
        new = walk.parting(failing)
        if new is None or new[0] in forced:
            return None
        forced[new[0]] = new[1]
    return None


class _Walk:
    """One walk through the implementation; `forced` are cuts that are made in any case."""

    def __init__(
        self,
        pair: Pair,
        points: Mapping[str, FloatArray],
        specified: Mapping[str, FloatArray],
        reals: ApproximateReals,
        *,
        tick: Callable[[], None],
        forced: Mapping[str, str],
    ) -> None:
        self.pair, self.specified, self.reals, self.forced = pair, specified, reals, forced
        spec, impl = pair.spec.graph, pair.impl.graph
        self.mine, self.theirs = terms_of(pair, TermField(_TERMS, tick))
        self.place = {t: i for i, s in enumerate(program_of(spec).steps) for t in s.writes}
        self.pairs: dict[str, str] = {}
        self.same = {b: a for a, b in pair.inputs.items()}
        self.partners = dict(pair.inputs)
        self.values: dict[str, Any] = dict(points)
        for step in program_of(impl).steps:
            tick()
            self._take(step)

    def _take(self, step: Step) -> None:
        """One step of the implementation."""
        with self.reals.working():
            self.values |= zip(step.writes, real_step(step, self.values, self.reals), strict=True)
        for tensor in step.writes:
            self.mine.of(tensor)
            self._find(tensor)

    def _find(self, tensor: str) -> None:
        forced = self.forced.get(tensor)
        if forced is not None:
            self._cut(tensor, forced)
            return
        near = self._near(tensor)
        for other in near:
            if self.theirs.key(other) == self.mine.key(tensor):
                self.same.setdefault(other, tensor)
                self.partners[tensor] = other
                return
        free = [b for b in near if b not in self.same and self._may_cut(tensor, b)]
        if free:
            other = min(free, key=lambda b: self.place[b])
            mine = self.values[tensor].astype(np.float64)
            parted = _apart(mine, self.specified[other]) > _SAME
            if parted and not self._goes_on(tensor, other):
                self._cut(tensor, self._last(tensor, other))

    def _goes_on(self, tensor: str, other: str) -> bool:
        """Is what alone reads the tensor, and has as many elements, as near to the other?"""
        step = _only_reader(self.pair.impl.graph, tensor)
        if step is None or not all(t in self.values for t in step.reads):
            return False
        with self.reals.working():
            (values, *_) = real_step(step, self.values, self.reals)
        theirs = self.specified[other]
        most = _apart(self.values[tensor].astype(np.float64), theirs) + _SAME
        return values.size == theirs.size and _apart(values.astype(np.float64), theirs) <= most

    def _last(self, tensor: str, other: str) -> str:
        """The last of the specification's tensors from this one on that alone read each other and
        are as near."""
        mine = self.values[tensor].astype(np.float64)
        most = _apart(mine, self.specified[other]) + _SAME
        while True:
            step = _only_reader(self.pair.spec.graph, other)
            if step is None or step.output in self.same or not self._may_cut(tensor, step.output):
                return other
            theirs = self.specified[step.output]
            if theirs.size != mine.size or _apart(mine, theirs) > most:
                return other
            other = step.output

    def _near(self, tensor: str) -> list[str]:
        """Tensors of the specification with nearly these values, up to twice as far as the nearest
        one."""
        mine = self.values[tensor].astype(np.float64)
        found: dict[str, float] = {}
        for other in self.place:
            theirs = self.specified[other]
            if theirs.size == mine.size:
                apart = _apart(mine, theirs)
                if apart <= _NEAR:
                    found[other] = apart
        least = min(found.values(), default=0.0)
        near = [b for b, apart in found.items() if apart <= 2 * least + 1e-9]
        return sorted(near, key=lambda b: found[b])

    def _may_cut(self, tensor: str, other: str) -> bool:
        mine, theirs = self.pair.impl.graph.types[tensor], self.pair.spec.graph.types[other]
        return mine.dtype.is_float and theirs.dtype.is_float

    def _cut(self, tensor: str, other: str) -> None:
        impl, spec = self.pair.impl.graph.types, self.pair.spec.graph.types
        self.pairs[tensor] = other
        self.same[other] = tensor
        self.partners[tensor] = other
        fresh = self.mine.numbers.variables(impl[tensor].shape)
        for side, name, shape in (
            (self.mine, tensor, impl[tensor].shape),
            (self.theirs, other, spec[other].shape),
        ):
            side.put(name, fresh.reshape(1, *shape))
        shape = self.values[tensor].shape
        self.values[tensor] = self.specified[other].reshape(shape)

    def failing(self) -> tuple[str, str] | None:
        """A pair of outputs that are not equal."""
        for mine, theirs in self.pair.outputs.items():
            if self.mine.key(mine) != self.theirs.key(theirs):
                return mine, theirs
        return None

    def parting(self, outputs: tuple[str, str]) -> tuple[str, str] | None:
        """The first pair on the ways to two outputs, of what has no partner yet, that read the same
        and are about as near as any."""
        ours, theirs = (
            _open(graph, end, known)
            for graph, end, known in (
                (self.pair.impl.graph, outputs[0], self.partners),
                (self.pair.spec.graph, outputs[1], self.same),
            )
        )
        scores: dict[tuple[str, str], float] = {}
        for a, reads in ours.items():
            wanted = {self.partners[t] for t in reads}
            for b, others in theirs.items():
                fits = self.values[a].size == self.specified[b].size and self._may_cut(a, b)
                if fits and (wanted == others or (a, b) == outputs):
                    scores[a, b] = _mostly(self.values[a].astype(np.float64), self.specified[b])
        if not scores:
            return None
        apart = {pair: by for pair, by in scores.items() if by > _SAME}
        if apart:
            most = _ALIKE * min(apart.values())
            tensor = next(a for (a, _), by in apart.items() if by <= most)
            return min((p for p in apart if p[0] == tensor), key=lambda p: apart[p])
        first = min((b for _, b in scores), key=lambda b: self.place[b])
        return [pair for pair in scores if pair[1] == first][-1]


def _only_reader(graph: Graph, tensor: str) -> Step | None:
    """The step that reads a tensor, if it is the only one and the tensor is no output."""
    readers = program_of(graph).readers(tensor)
    return readers[0] if len(readers) == 1 and tensor not in graph.outputs else None


def _open(graph: Graph, end: str, known: Mapping[str, str]) -> dict[str, set[str]]:
    """Tensors on the ways to `end` behind all that are known, in order, and which of these each
    comes of."""
    steps = program_of(graph).steps
    wanted = {end}
    for step in reversed(steps):
        if wanted.intersection(step.writes):
            wanted.update(t for t in step.reads if t not in known)
    found: dict[str, set[str]] = {}
    for step in steps:
        for tensor in step.writes:
            if tensor in wanted and tensor not in known:
                parts = ({t} if t in known else found.get(t, set()) for t in step.reads)
                found[tensor] = set().union(*parts)
    return found


def _mostly(a: FloatArray, b: FloatArray) -> float:
    """The mean difference as a part of the mean number of b: one channel that is far off does not
    hide which tensors play one part."""
    if not np.isfinite(_apart(a, b)):
        return np.inf
    mine, other = a.reshape(-1), b.astype(np.float64).reshape(-1)
    gap, size = float(np.mean(np.abs(mine - other))), float(np.mean(np.abs(other)))
    return 0.0 if gap == 0.0 else gap / size if size else np.inf


def _apart(a: FloatArray, b: FloatArray) -> float:
    """The largest difference as a part of the largest number of b; infinite where one has no
    value."""
    mine, other = a.reshape(-1), b.astype(np.float64).reshape(-1)
    if not (np.all(np.isfinite(mine)) and np.all(np.isfinite(other))):
        return np.inf
    size = float(np.max(np.abs(other), initial=0.0))
    gap = float(np.max(np.abs(mine - other), initial=0.0))
    return 0.0 if gap == 0.0 else gap / size if size else np.inf
