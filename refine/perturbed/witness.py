"""The witness of a backward error: weights with which the exact output is the bits that ran.

For each row, w̃ = w·(1 + ω·sgn(w·x̂)) with ω = e/S, e what the row's sum erred by and S = Σ|w·x̂|
plus |b| (Oettli & Prager 1964), all in rational numbers; what ω would have to exceed its bound for
is added to the bias. Where x̂ is not exactly what the perturbed layers before give, x̃, weights also
take x̂/x̃. Each row is checked again by the sums of its positive and of its negative terms.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction

import flint
import numpy as np
import numpy.typing as npt

from encoders.arithmetic.exact_fields import ObjectArray, Rationals, fraction, object_array
from encoders.arithmetic.values import Inputs
from encoders.numbers.enclosure import FloatArray
from encoders.program import Program, Step, arguments, forward, program_of
from encoders.traits import Absorption, Product
from onnx_import.errors import ModelError, UnsupportedModel
from onnx_import.graph import Array, Graph
from refine.perturbed.amounts import slope_rounded
from refine.perturbed.bound import BackwardBound, Moved
from refine.perturbed.integers import row_sums
from refine.perturbed.standing import Laid, roundings_of

_FIELD = Rationals()


class OutsideBound(ModelError):
    """What ran has no witness within the bound: the runtime left the contract, or the bound is
    wrong; the message names the row."""


@dataclass(frozen=True)
class Layer:
    """The rows of one matrix product, sample by sample: `omega` (samples, columns), that of the
    bias, `of_bias`, what is added to the bias, `beside`, and per sample x̂/x̃ of what it reads, None
    where all are 1.

    `places` (terms, columns) are where its weights stand in the stored tensor.
    """

    node: str
    weights: str
    bias: str | None
    unit: float
    bound: Fraction
    places: npt.NDArray[np.intp]
    signs: npt.NDArray[np.int8]  # of x̂, (samples, terms)
    omega: tuple[tuple[flint.fmpq, ...], ...]
    of_bias: tuple[tuple[flint.fmpq, ...], ...]
    beside: tuple[tuple[flint.fmpq, ...], ...]
    ratios: tuple[tuple[flint.fmpq, ...], ...] | None

    @property
    def observed(self) -> Fraction:
        """The largest relative change of a weight, in all samples."""
        return fraction(max((abs(w) for row in self.omega for w in row), default=flint.fmpq(0)))

    @property
    def multiples(self) -> float:
        """The largest |ω| in units of u."""
        return float(self.observed / Fraction(self.unit))

    @property
    def underflows(self) -> int:
        """How many rows needed something beside."""
        return sum(v != 0 for row in self.beside for v in row)


@dataclass(frozen=True)
class Witness:
    """Of each sample a network whose exact output is the bits that ran, layer by layer."""

    layers: tuple[Layer, ...]
    samples: int


@dataclass
class _Build:
    found: BackwardBound
    ran: Mapping[str, Array]
    exact: dict[str, ObjectArray | None] = field(default_factory=dict)  # None: the bits that ran
    pending: dict[str, Step] = field(default_factory=dict)
    layers: list[Layer] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.program: Program = program_of(self.found.graph)
        self.moved: dict[str, Moved] = {m.tensor: m for m in self.found.moved}

    def bits(self, tensor: str) -> FloatArray:
        return np.asarray(self.ran[tensor], np.float64)

    def numbers(self, tensor: str) -> ObjectArray:
        """The exact values of a tensor of the perturbed network."""
        exact = self.exact[tensor]
        return _rationals(self.bits(tensor)) if exact is None else exact

    def put(self, tensor: str, exact: ObjectArray) -> None:
        """The exact value, which may be the bits themselves."""
        equal = bool(np.all(exact == _rationals(self.bits(tensor))))
        self.exact[tensor] = None if equal else exact

    def run(self) -> Witness:
        graph = self.found.graph
        for tensor in graph.inputs:
            self.exact[tensor] = None
        for step in self.program.steps:
            self._step(step)
        for tensor in graph.outputs:
            exact = self.exact.get(tensor)
            if exact is not None:
                self._left(tensor, exact)
        samples = max((len(self.ran[t]) for t in graph.inputs), default=0)
        return Witness(tuple(self.layers), samples)

    def _left(self, tensor: str, exact: ObjectArray) -> None:
        """An output that is not exact may be off by what comes beside it."""
        ran, held = _rationals(self.bits(tensor)), self.found.mixed.get(tensor)
        limits = np.zeros(ran.shape[1:]) if held is None else held.bound
        for off, limit in zip((ran - exact).reshape(-1), itertools.cycle(limits.flat)):
            if abs(fraction(off)) > Fraction(limit):
                raise OutsideBound(f"the exact output '{tensor}' is not the bits that ran")

    def _step(self, step: Step) -> None:
        by = None if step.operator.absorbs is None else step.operator.absorbs.by
        product = step.operator.likeness.product(step.site)
        if by is Absorption.MATRIX and product is not None and step.node.inputs[1] in self.moved:
            reader = self._adding(step)
            if reader is not None:
                self.pending[step.output] = step
                return
            bias = None if product.bias is None else step.node.inputs[product.bias]
            self._solve(step, product, bias, step.output)
            return
        waiting = [t for t in step.reads if t in self.pending]
        if waiting:
            matrix = self.pending[waiting[0]]
            product = matrix.operator.likeness.product(matrix.site)
            assert product is not None
            (bias,) = step.constants
            self._solve(matrix, product, bias, step.output)
            return
        if any(t in self.moved and self.moved[t].log.largest > 0.0 for t in step.constants):
            raise UnsupportedModel(f"{step.node.describe()}: no witness is built of its parameters")
        given = {t: self.numbers(t) for t in step.reads}
        try:
            made = step.operator.real(
                step.site, arguments(step, given, lambda held, _: _FIELD.constant(held)), _FIELD
            )
        except ValueError as error:  # no rational: a root, or a transcendental function
            raise UnsupportedModel(
                f"{step.node.describe()}: no witness is built of a network whose exact values are "
                f"not rational ({error}); without --witness its bound is still proved"
            ) from error
        for tensor, value in zip(step.writes, made, strict=True):
            self.put(tensor, value)

    def _adding(self, step: Step) -> Step | None:
        """The sum that adds the bias of a matrix product, if a node of its own does."""
        readers = self.program.readers(step.output)
        if len(readers) != 1 or step.output in self.found.graph.outputs:
            return None
        (reader,) = readers
        absorbs = reader.operator.absorbs
        if absorbs is None or absorbs.by is not Absorption.TERMS or len(reader.constants) != 1:
            return None
        (constant,) = reader.constants
        return reader if constant in self.moved and len(reader.node.inputs) == 2 else None

    def _target(self, step: Step, written: str) -> ObjectArray:
        """What the row has to come to: the bits, or what makes a scaled copy of it the bits."""
        bits = _rationals(self.bits(written))
        readers = self.program.readers(written)
        if len(readers) != 1 or written in self.found.graph.outputs:
            return bits
        (reader,) = readers
        absorbs = reader.operator.absorbs
        if absorbs is None or absorbs.by is not Absorption.SCALED:
            return bits
        given = arguments(reader, {written: bits}, lambda held, _: _FIELD.constant(held))
        (scaled,) = reader.operator.real(reader.site, given, _FIELD)
        ran = _rationals(self.bits(reader.output))
        made = self.found.made[reader.output]
        reach = self._reach(1 if made.free else 0, reader)
        factors = [
            _clamped(a, b, reach)
            for a, b in zip(ran.ravel().tolist(), scaled.ravel().tolist(), strict=True)
        ]
        return np.asarray(bits * object_array(factors, bits.shape))

    def _reach(self, count: int, step: Step) -> flint.fmpq:
        """By what factor a number may be moved for so many roundings of a scaled copy."""
        unit = Fraction(max((m.unit for m in self.moved.values()), default=0.0))
        twice = slope_rounded(roundings_of(step.site.outputs[0].dtype, self.found.contract))
        return _FIELD.number((1 + unit) ** (count * (2 if twice else 1)))

    def _solve(self, step: Step, product: Product, bias: str | None, written: str) -> None:
        names = step.node.inputs
        places = _places(step)
        weights = np.asarray(product.matrix, np.float64)
        read = names[0]
        samples = len(self.ran[read])
        x = self.bits(read).reshape(samples, -1)
        columns = weights.shape[1]
        targets = self._target(step, written).reshape(samples, columns)
        added = np.zeros(columns)
        if bias is not None:
            constant = self.found.graph.constants[bias]
            added = np.broadcast_to(np.asarray(constant, np.float64).reshape(-1), (columns,))
        offsets = [_FIELD.number(Fraction(v)) for v in added.tolist()]
        sums = row_sums(x, weights)
        ratios, apart = self._ratios(read, x)
        moved = self.moved[names[1]]
        bound = Fraction(moved.relative.largest)
        limits = self._limits(bound, ratios, samples)
        besides = self._besides(bias, written, columns)
        held = self.moved.get(bias or "")
        of_offset = _FIELD.number(Fraction(0.0 if held is None else held.relative.largest))
        omegas, biases, extras = [], [], []
        exact: list[flint.fmpq] = []
        for k in range(samples):
            omega, tilt, extra = [], [], []
            missed = _carried(apart[k], x[k], weights) if apart is not None else None
            for j in range(columns):
                row = _Row(
                    sums.positive[k][j],
                    sums.negative[k][j],
                    offsets[j],
                    flint.fmpq(0) if missed is None else missed[0][j],
                    flint.fmpq(0) if missed is None else missed[1][j],
                )
                target = targets[k, j]
                error = target - (sums.total[k][j] + offsets[j] - row.off)
                turn, turn_b, rest = row.solved(error, limits[k], of_offset)
                if abs(rest) > besides[j]:
                    off, size, more = (float(fraction(v)) for v in (error, row.size, besides[j]))
                    raise OutsideBound(
                        f"row {j} of {step.node.describe()} ran farther from its exact sum, by "
                        f"{off:.4g}, than the bound allows: {float(bound):.4g} of {size:.4g}, and "
                        f"{more:.4g}"
                    )
                if row.value(turn, turn_b) + rest != target:
                    raise OutsideBound("a row of the witness is not exact: an error of ours")
                kept = bias is not None or written in self.found.mixed
                exact.append(target if kept else target - rest)
                omega.append(turn)
                tilt.append(turn_b)
                extra.append(rest if kept else flint.fmpq(0))
            omegas.append(tuple(omega))
            biases.append(tuple(tilt))
            extras.append(tuple(extra))
        self.layers.append(
            Layer(
                node=step.node.name,
                weights=names[1],
                bias=bias,
                unit=moved.unit,
                bound=bound,
                places=places,
                signs=np.sign(x).astype(np.int8),
                omega=tuple(omegas),
                of_bias=tuple(biases),
                beside=tuple(extras),
                ratios=ratios,
            )
        )
        self.put(written, object_array(exact, self.bits(written).shape))

    def _ratios(
        self, read: str, x: FloatArray
    ) -> tuple[tuple[tuple[flint.fmpq, ...], ...] | None, list[dict[int, flint.fmpq]] | None]:
        """x̂/x̃ of what a product reads, as far as its standing allows it, and what x̂ is off by
        then."""
        exact = self.exact[read]
        if exact is None:
            return None, None
        made = self.found.made.get(read)
        apart = 0.0 if made is None or made.free else made.apart
        unit = max((m.unit for m in self.moved.values()), default=1.0)
        reach = _FIELD.number((1 + Fraction(unit)) ** math.ceil(apart / unit))
        ratios, off = [], []
        for run, real in zip(x.tolist(), exact.reshape(x.shape).tolist(), strict=True):
            pairs = [(_FIELD.number(Fraction(a)), b) for a, b in zip(run, real, strict=True)]
            row = [_clamped(a, b, reach) for a, b in pairs]
            rests = [a - r * b for (a, b), r in zip(pairs, row, strict=True)]
            ratios.append(tuple(row))
            off.append({i: d for i, d in enumerate(rests) if d})
        return tuple(ratios), off

    @staticmethod
    def _limits(
        bound: Fraction, ratios: tuple[tuple[flint.fmpq, ...], ...] | None, samples: int
    ) -> list[flint.fmpq]:
        """How large |ω| may be, sample by sample, for weights to stay within the bound."""
        if ratios is None:
            return [_FIELD.number(bound)] * samples
        limits, most = [], _FIELD.number(bound)
        for row in ratios:
            high, low = max(row, default=flint.fmpq(1)), min(row, default=flint.fmpq(1))
            limits.append(max(min((1 + most) / high - 1, 1 - (1 - most) / low), flint.fmpq(0)))
        return limits

    def _besides(self, bias: str | None, written: str, columns: int) -> list[flint.fmpq]:
        held = self.moved[bias].besides if bias in self.moved else self.found.made[written].besides
        if held is None:
            found = np.zeros(columns)
        else:
            found = np.broadcast_to(held.bound.reshape(-1), (columns,))
        if not np.all(np.isfinite(found)):
            raise UnsupportedModel(f"no witness is built of '{written}': its own part has no bound")
        return [_FIELD.number(Fraction(v)) for v in found.tolist()]


@dataclass(frozen=True)
class _Row:
    """One row: the sums of its positive and negative products of what ran, its bias; what comes off
    since x̂ is off by d, Σ w·d, and the same with the sign of w·x̂ in each term."""

    positive: flint.fmpq
    negative: flint.fmpq
    offset: flint.fmpq
    off: flint.fmpq
    sided: flint.fmpq

    @property
    def products(self) -> flint.fmpq:
        """By how much the products move for ω = 1."""
        return self.positive - self.negative - self.sided

    @property
    def size(self) -> flint.fmpq:
        """By how much the row moves for ω = 1."""
        return self.products + abs(self.offset)

    def solved(
        self, error: flint.fmpq, limit: flint.fmpq, of_offset: flint.fmpq
    ) -> tuple[flint.fmpq, flint.fmpq, flint.fmpq]:
        """ω of the products, at most `limit`, and of the bias, the same if that is at most its own
        limit; and what is left to be added."""
        alike = error / self.size if self.size > 0 else flint.fmpq(0)
        tilt = max(min(alike, of_offset), -of_offset)
        rest = error - tilt * abs(self.offset)
        turn = rest / self.products if self.products > 0 else flint.fmpq(0)
        turn = max(min(turn, limit), -limit)
        return turn, tilt, rest - turn * self.products

    def value(self, turn: flint.fmpq, tilt: flint.fmpq) -> flint.fmpq:
        """The row with its new weights, term by term in four parts."""
        facing = 1 if self.offset >= 0 else -1
        made = self.positive * (1 + turn) + self.negative * (1 - turn)
        return made + self.offset * (1 + tilt * facing) - self.off - turn * self.sided


def _clamped(run: flint.fmpq, real: flint.fmpq, reach: flint.fmpq) -> flint.fmpq:
    """run/real if that is a factor between 1/reach and reach, else the nearest; 1 of no use."""
    if run * real <= 0:
        return flint.fmpq(1)
    return min(max(run / real, 1 / reach), reach)


def _carried(
    off: dict[int, flint.fmpq], x: FloatArray, weights: FloatArray
) -> tuple[list[flint.fmpq], list[flint.fmpq]]:
    """Σ w·d over what is off, column by column, and Σ |w|·sgn(x̂)·d."""
    columns = weights.shape[1]
    total, sided = [flint.fmpq(0)] * columns, [flint.fmpq(0)] * columns
    for i, d in off.items():
        row = [_FIELD.number(Fraction(w)) for w in weights[i].tolist()]
        facing = int(np.sign(x[i]))
        total = [t + w * d for t, w in zip(total, row, strict=True)]
        sided = [t + abs(w) * facing * d for t, w in zip(sided, row, strict=True)]
    return total, sided


def _places(step: Step) -> npt.NDArray[np.intp]:
    """Where the weights (terms, columns) of a product stand in the stored tensor."""
    held = step.site.constants[1]
    assert held is not None
    numbered = np.arange(held.size, dtype=np.float64).reshape(held.shape)
    constants = (step.site.constants[0], numbered, *step.site.constants[2:])
    found = step.operator.likeness.product(replace(step.site, constants=constants))
    assert found is not None
    return np.asarray(found.matrix, np.intp)


def places_of(graph: Graph, node: str) -> npt.NDArray[np.intp]:
    """Where the weights (terms, columns) of a node's product stand in its stored tensor. Raises
    KeyError for a name that no node has."""
    return _places(program_of(graph).step(graph.named[node]))


def _rationals(values: FloatArray) -> ObjectArray:
    return np.asarray(_FIELD.constant(values)[0])


def witness_of(found: BackwardBound, ran: Mapping[str, Array]) -> Witness:
    """The witness of a backward error on weights, for the tensors of runs: `ran` has an array
    (samples, *shape) for every tensor that varies.

    Raises ModelError for a run that is not finite, UnsupportedModel for parameters of which no
    witness is built, OutsideBound for a run that has none.
    """
    if found.laid is not Laid.WEIGHTS:
        raise UnsupportedModel("a witness is built of weights: --backward weights")
    for tensor, values in ran.items():
        if np.asarray(values).dtype.kind == "f" and not np.all(np.isfinite(values)):
            raise ModelError(f"the run is not finite: '{tensor}' holds an infinity or NaN")
    return _Build(found, ran).run()


def perturbed_constants(
    found: BackwardBound, witness: Witness, sample: int
) -> dict[str, ObjectArray]:
    """The weights and biases of the witness of one sample, as rational numbers."""
    made: dict[str, ObjectArray] = {}
    for layer in witness.layers:
        stored = found.graph.constants[layer.weights]
        weights = np.asarray(_FIELD.constant(np.asarray(stored, np.float64))[0]).reshape(-1)
        turned = weights.copy()
        turns = list(layer.omega[sample])
        up, down = [1 + t for t in turns], [1 - t for t in turns]
        ratios = None if layer.ratios is None else layer.ratios[sample]
        signs = np.sign(np.asarray(stored, np.float64)).reshape(-1)
        for i, row in enumerate(layer.places.tolist()):
            facing = int(layer.signs[sample, i])
            for j, place in enumerate(row):
                side = facing * int(signs[place])
                number = weights[place]
                if side:
                    number = number * (up[j] if side > 0 else down[j])
                turned[place] = number if ratios is None else number * ratios[i]
        made[layer.weights] = turned.reshape(stored.shape)
        if layer.bias is not None:
            held = found.graph.constants[layer.bias]
            offsets = np.asarray(_FIELD.constant(np.asarray(held, np.float64))[0])
            flat = offsets.reshape(-1).copy()
            for j, value in enumerate(flat.tolist()):
                beside = layer.beside[sample][j]
                tilt = layer.of_bias[sample][j]
                flat[j] = value * (1 + tilt if value >= 0 else 1 - tilt) + beside
            made[layer.bias] = flat.reshape(held.shape)
    return made


def exact_outputs(
    found: BackwardBound,
    witness: Witness,
    constants: Mapping[str, ObjectArray],
    inputs: Mapping[str, Array],
    sample: int = 0,
) -> dict[str, ObjectArray]:
    """The outputs of the perturbed network on one input, in rational numbers throughout: by the
    operators' own real semantics, of `constants` in place of those that the file stores. Rows
    without a bias get what the witness adds to them."""
    added = {
        layer.node: layer.beside[sample]
        for layer in witness.layers
        if layer.bias is None and any(layer.beside[sample])
    }
    program = program_of(found.graph)

    def known(tensor: str, values: Mapping[str, ObjectArray]) -> ObjectArray:
        if tensor in values:
            return values[tensor]
        if tensor in constants:
            return constants[tensor][np.newaxis]
        return _FIELD.constant(found.graph.constants[tensor])

    def transform(step: Step, values: Mapping[str, ObjectArray]) -> tuple[ObjectArray, ...]:
        given = [known(t, values) if t else None for t in step.node.inputs]
        made = step.operator.real(step.site, Inputs(given), _FIELD)
        beside = added.get(step.node.name)
        if beside is None:
            return made
        more = object_array(beside, made[0].shape)
        return (made[0] + more,)

    start = {t: _FIELD.constant(np.asarray(inputs[t])) for t in found.graph.inputs}
    values = forward(program, start, transform)
    return {t: np.asarray(values[t][0]) for t in found.graph.outputs if t in values}
