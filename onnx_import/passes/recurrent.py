"""RNN, GRU and LSTM unrolled over time: matrix products, activations and moved data, step by step.

Every step reads the same weights. What is summed before an activation is one sum of products, of
the step's input, the state, ones for a second bias and, with peepholes, the cell behind a diagonal
matrix, so that a contract that leaves the order of sums open leaves this one open, too: runtimes
add these parts in several orders. Where ONNX is silent it is onnxruntime that is followed: a clip
acts on what is summed for a gate, not on the cell before its own activation; coupled gates are
f = 1 - i; activations take of `activation_alpha` and `activation_beta` what each needs, in turn.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from onnx_import.graph import Array
from onnx_import.passes.body import Body

_MOST_STEPS = 4096
_DEFAULTS: Mapping[str, tuple[float | None, ...]] = {
    "Affine": (None, None),
    "Elu": (1.0,),
    "HardSigmoid": (0.2, 0.5),
    "LeakyRelu": (0.01,),
    "Relu": (),
    "ScaledTanh": (None, None),
    "Sigmoid": (),
    "Softplus": (),
    "Softsign": (),
    "Tanh": (),
    "ThresholdedRelu": (1.0,),
}
"""Activations with alpha and beta as far as they have them; None where they must be given."""

_APART = {"Sigmoid": (("GRU", 1),), "Tanh": (("RNN", 0), ("GRU", 1))}
"""Where, in which operators, an activation is less accurate than the function elsewhere."""

Unary = Callable[[str], str]
State = tuple[str, ...]


def rnn(body: Body) -> None:
    """H = f(x·Wᵀ + H·Rᵀ + biases)."""
    _unrolled(body, 1, ("Tanh",), _rnn_cell)


def gru(body: Body) -> None:
    """Gates z, r and a candidate; H = (1 - z)·candidate + z·H."""
    _unrolled(body, 3, ("Sigmoid", "Tanh"), _gru_cell)


def lstm(body: Body) -> None:
    """Gates i, o, f and a candidate; C = f·C + i·candidate, H = o·h(C)."""
    _unrolled(body, 4, ("Sigmoid", "Tanh", "Tanh"), _lstm_cell)


def quantised_lstm(body: Body) -> None:
    """onnxruntime's DynamicQuantizeLSTM: all inputs are quantised by one scale, and every state by
    its own. What runtimes do with several rows depends on their threads."""
    if body.shape(0)[1] != 1 or (len(body.node.inputs) > 7 and body.node.inputs[7]):
        raise body.unsupported("supported is one row, without peepholes")

    def products(d: _Direction, x: str) -> str:
        flat = body.reshape(x, -1, body.shape(0)[2])
        return body.reshape(d.quantised(flat, 1, 8), -1, 1, 4 * d.hidden)

    def cell(d: _Direction) -> Step:
        def sums(x: str, h: str) -> str:
            held = body.constants.get(h)  # a state of zeros adds nothing
            parts = [x] if held is not None and not np.any(held) else [x, d.quantised(h, 2, 10)]
            parts += d.biases([0, 1, 2, 3])
            return d.clipped(body.add("Sum", *parts) if len(parts) > 1 else x)

        return _lstm_cell(d, sums)

    _unrolled(body, 4, ("Sigmoid", "Tanh", "Tanh"), cell, products)


@dataclass
class _Direction:
    """One direction of a layer over some rows of the batch, with its weights and activations."""

    body: Body
    number: int
    gates: int
    rows: int
    activations: tuple[Unary, ...]
    clipped: Unary
    indices: dict[tuple[int, ...], str] = field(default_factory=dict)

    @cached_property
    def hidden(self) -> int:
        return _hidden(self.body)

    @cached_property
    def kind(self) -> np.dtype[np.generic]:
        return self.body.types[self.body.node.inputs[0]].dtype.numpy

    def present(self, position: int) -> bool:
        inputs = self.body.node.inputs
        return position < len(inputs) and bool(inputs[position])

    def pick(self, tensor: str, places: Sequence[int], axis: int) -> str:
        """These places along an axis."""
        key = tuple(places)
        if key not in self.indices:
            self.indices[key] = self.body.store(np.array(key, np.int64))
        return self.body.add("Gather", tensor, self.indices[key], axis=axis)

    def columns(self, tensor: str, part: int, parts: int = 1) -> str:
        """Of gates beside each other, those from the `part`th on."""
        start = part * self.hidden
        return self.pick(tensor, range(start, start + parts * self.hidden), 1)

    def own(self, position: int) -> str:
        """An input's numbers for this direction, without their axis of directions."""
        number = self.body.store(np.array(self.number, np.int64))
        return self.body.add("Gather", self.body.node.inputs[position], number, axis=0)

    def weights(self, position: int, gates: Sequence[int]) -> str:
        """Rows of W (1) or R (2) for these gates, shape (gates·hidden, columns)."""
        return self.pick(self.own(position), self._places(gates), 0)

    def quantised(self, x: str, weights: int, scale: int) -> str:
        """x, quantised by its own range, times the weights in input `weights`; their scale is input
        `scale`, and their zero the next one."""
        zero = [self.own(scale + 1)] if self.present(scale + 1) else []
        return self.body.add("DynamicQuantizeMatMul", x, self.own(weights), self.own(scale), *zero)

    def biases(self, gates: Sequence[int], halves: Sequence[int] = (0, 1)) -> list[str]:
        """The biases Wb (half 0) and Rb (1) for these gates, those that are all zero left out."""
        if not self.present(3):
            return []
        known = self.body.known.get(self.body.node.inputs[3])
        found = []
        for half in halves:
            places = [half * self.gates * self.hidden + p for p in self._places(gates)]
            if known is None or np.any(known[self.number][places] != 0):
                found.append(self.pick(self.own(3), places, 0))
        return found

    def diagonal(self, parts: Sequence[int | None]) -> str:
        """Peepholes of these parts of P (i, o, f; None for none), diagonal matrices in a column."""
        nothing = self.body.store(np.zeros(1, self.kind))
        numbers = self.body.add("Concat", self.own(7), nothing, axis=0)
        places = np.full((len(parts), self.hidden, self.hidden), 3 * self.hidden, np.int64)
        for block, part in zip(places, parts, strict=True):
            if part is not None:
                np.fill_diagonal(block, part * self.hidden + np.arange(self.hidden))
        index = self.body.store(places.reshape(-1, self.hidden))
        return self.body.add("Gather", numbers, index, axis=0)

    def summed(
        self, matrices: Sequence[str], biases: Sequence[str], clipped: Unary | None = None
    ) -> Callable[..., str]:
        """A function of as many (rows, columns) tensors as there are matrices: the sum of their
        products with these, transposed, and of the biases, all in one sum; then the clip, or what
        stands in its place."""
        after = clipped or self.clipped
        ones: list[str] = []
        parts = list(matrices)
        if len(biases) > 1:
            ones = [self.body.store(np.ones((self.rows, len(biases) - 1), self.kind))]
            parts += [self.body.reshape(b, -1, 1) for b in biases[1:]]
        whole = self.body.add("Concat", *parts, axis=1) if len(parts) > 1 else parts[0]

        def product(*tensors: str) -> str:
            given = [*tensors, *ones]
            joined = self.body.add("Concat", *given, axis=1) if len(given) > 1 else given[0]
            return after(self.body.add("Gemm", joined, whole, *biases[:1], transB=1))

        return product

    def _places(self, gates: Sequence[int]) -> list[int]:
        return [g * self.hidden + i for g in gates for i in range(self.hidden)]


Step = Callable[[str, State], State]
Cell = Callable[[_Direction], Step]


def _hidden(body: Body) -> int:
    """The length of the state, by R: (directions, gates·hidden, hidden), quantised transposed."""
    return body.shape(2)[1 if body.node.domain else 2]


def _rnn_cell(d: _Direction) -> Step:
    (f,) = d.activations
    gate = d.summed([d.weights(1, [0]), d.weights(2, [0])], d.biases([0]))
    return lambda x, state: (f(gate(x, state[0])),)


def _gru_cell(d: _Direction) -> Step:
    f, g = d.activations
    both = d.summed([d.weights(1, [0, 1]), d.weights(2, [0, 1])], d.biases([0, 1]))
    one = d.body.store(np.ones((), d.kind))
    if d.body.number("linear_before_reset", 0):
        linear = d.summed([d.weights(2, [2])], d.biases([2], [1]), clipped=str)
        through = d.body.store(np.eye(d.hidden, dtype=d.kind))
        last = d.summed([d.weights(1, [2]), through], d.biases([2], [0]))
    else:
        linear = str
        last = d.summed([d.weights(1, [2]), d.weights(2, [2])], d.biases([2]))

    def step(x: str, state: State) -> State:
        (h,) = state
        gates = f(both(x, h))
        z, r = d.columns(gates, 0), d.columns(gates, 1)
        candidate = g(last(x, d.body.add("Mul", r, linear(h))))
        new = d.body.add("Mul", d.body.add("Sub", one, z), candidate)
        return (d.body.add("Add", new, d.body.add("Mul", z, h)),)

    return step


def _lstm_cell(d: _Direction, sums_of: Callable[[str, str], str] | None = None) -> Step:
    """`sums_of` x and H gives what is summed for all gates, where that is not as usual."""
    f, g, h_of = d.activations
    coupled = bool(d.body.number("input_forget", 0))
    one = d.body.store(np.ones((), d.kind)) if coupled else ""
    peepholes = d.present(7)
    if peepholes:
        gates = [0, 2, 3]
        early = d.summed(
            [d.weights(1, gates), d.weights(2, gates), d.diagonal([0, 2, None])], d.biases(gates)
        )
        late = d.summed([d.weights(1, [1]), d.weights(2, [1]), d.diagonal([1])], d.biases([1]))
    else:
        gates = [0, 1, 2, 3]
        early = sums_of or d.summed([d.weights(1, gates), d.weights(2, gates)], d.biases(gates))

    def step(x: str, state: State) -> State:
        h, c = state
        sums = early(x, h, c) if peepholes else early(x, h)
        opened = f(d.columns(sums, 0, len(gates) - 1))
        i, forget = d.columns(opened, 0), d.columns(opened, len(gates) - 2)
        if coupled:
            forget = d.body.add("Sub", one, i)
        candidate = g(d.columns(sums, len(gates) - 1))
        kept, added = d.body.add("Mul", forget, c), d.body.add("Mul", i, candidate)
        cell = d.body.add("Add", kept, added)
        o = f(late(x, h, cell)) if peepholes else d.columns(opened, 1)
        return d.body.add("Mul", o, h_of(cell)), cell

    return step


def _unrolled(
    body: Body,
    gates: int,
    defaults: tuple[str, ...],
    cell: Cell,
    prepared: Callable[[_Direction, str], str] = lambda direction, x: x,
) -> None:
    """Writes all outputs that the node has: every state in time, and the last ones."""
    numbers = _directions(body, gates)
    x, layout = body.node.inputs[0], body.number("layout", 0)
    if layout not in (0, 1):
        raise body.unsupported(f"attribute 'layout' is {layout}; supported are 0 and 1")
    if layout:
        x = body.add("Transpose", x, perm=[1, 0, 2])
    steps, batch = (body.shape(0)[i] for i in ((1, 0) if layout else (0, 1)))
    if not 0 < steps <= _MOST_STEPS:
        raise body.unsupported(f"it runs over {steps} steps; supported are 1 to {_MOST_STEPS}")
    activations = _activations(body, defaults, len(numbers))
    states = 2 if gates == 4 else 1
    whole: list[str] = []
    last: list[list[str]] = []
    for number, reverse in enumerate(numbers):
        parts: list[tuple[str, State]] = []
        order: list[int] = []
        for length, rows in _groups(body, steps, batch):
            direction = _Direction(
                body, number, gates, len(rows), activations[number], _clipping(body)
            )
            part = direction.pick(x, rows, 1) if len(rows) < batch else x
            first = tuple(_initial(direction, 5 + s, rows, batch, layout) for s in range(states))
            part = prepared(direction, part)
            times = range(length)[::-1] if reverse else range(length)
            parts.append(_run(direction, cell, part, first, times, steps))
            order += rows
        joined = [_in_order(body, [p[0] for p in parts], 2, order)]
        joined += [_in_order(body, [p[1][s] for p in parts], 1, order) for s in range(states)]
        whole.append(joined[0])
        last.append(joined[1:])
    _written(body, 0, whole, 1, (2, 0, 1, 3) if layout else None)
    for s in range(states):
        _written(body, 1 + s, [f[s] for f in last], 0, (1, 0, 2) if layout else None)


def _directions(body: Body, gates: int) -> tuple[bool, ...]:
    """Of each direction, whether it runs backwards. Raises UnsupportedModel for shapes that do not
    fit it."""
    word = body.number("direction", "forward")
    text = word.decode() if isinstance(word, bytes) else str(word)
    known = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}
    if text not in known:
        raise body.unsupported(f"attribute 'direction' is '{text}', which has no meaning here")
    hidden, n = _hidden(body), len(known[text])
    size = body.number("hidden_size", hidden)
    batch, inputs = body.shape(0)[0 if body.number("layout", 0) else 1], body.shape(0)[-1]
    states = (batch, n, hidden) if body.number("layout", 0) else (n, batch, hidden)
    wanted = {
        1: (n, gates * hidden, inputs), 2: (n, gates * hidden, hidden), 3: (n, 2 * gates * hidden),
        4: (batch,), 5: states, 6: states, 7: (n, 3 * hidden),
    }  # fmt: skip
    if body.node.domain:
        wanted |= {1: (n, inputs, gates * hidden), 2: (n, hidden, gates * hidden)}
    for position, tensor in enumerate(body.node.inputs[: len(wanted) + 1]):
        if position and tensor and body.shape(position) != wanted[position]:
            raise body.unsupported(
                f"input {position} must have the shape {list(wanted[position])}, not "
                f"{list(body.shape(position))}"
            )
    if size != hidden:
        raise body.unsupported(f"attribute 'hidden_size' is {size}, and R is for {hidden}")
    return known[text]


def _groups(body: Body, steps: int, batch: int) -> list[tuple[int, list[int]]]:
    """Lengths in time, with the rows of the batch that have them."""
    if len(body.node.inputs) < 5 or not body.node.inputs[4]:
        return [(steps, list(range(batch)))]
    lengths = body.constant(4, "the lengths of sequences").astype(np.int64)
    if np.any((lengths < 1) | (lengths > steps)):
        raise body.unsupported(f"a length of a sequence (input 4) is not from 1 to {steps}")
    return [(int(n), np.flatnonzero(lengths == n).tolist()) for n in np.unique(lengths)]


def _initial(d: _Direction, position: int, rows: list[int], batch: int, layout: int) -> str:
    """The state before the first step, shape (rows, hidden)."""
    if not d.present(position):
        return d.body.store(np.zeros((len(rows), d.hidden), d.kind))
    number = d.body.store(np.array(d.number, np.int64))
    tensor = d.body.node.inputs[position]
    state = d.body.add("Gather", tensor, number, axis=1 if layout else 0)
    return d.pick(state, rows, 0) if len(rows) < batch else state


def _run(
    d: _Direction,
    cell: Cell,
    x: str,
    state: State,
    times: Sequence[int],
    steps: int,
) -> tuple[str, State]:
    """Every H in time, shape (steps, 1, rows, hidden), zero behind the end; and the last state."""
    step = cell(d)
    written = {}
    for time in times:
        now = d.body.add("Gather", x, d.body.store(np.array(time, np.int64)), axis=0)
        state = step(now, state)
        written[time] = d.body.reshape(state[0], 1, 1, d.rows, d.hidden)
    every = [written[time] for time in range(len(times))]
    if len(times) < steps:
        nothing = np.zeros((steps - len(times), 1, d.rows, d.hidden), d.kind)
        every.append(d.body.store(nothing))
    return (d.body.add("Concat", *every, axis=0) if len(every) > 1 else every[0]), state


def _in_order(body: Body, parts: list[str], axis: int, order: list[int]) -> str:
    """Rows of the batch that were computed apart, in their order; those of states get an axis of
    directions before them."""
    if len(parts) > 1:
        joined = body.add("Concat", *parts, axis=axis - (axis == 1))
        where = body.store(np.argsort(order).astype(np.int64))
        parts = [body.add("Gather", joined, where, axis=axis - (axis == 1))]
    return parts[0] if axis == 2 else body.reshape(parts[0], 1, len(order), _hidden(body))


def _written(
    body: Body, position: int, parts: list[str], axis: int, perm: Sequence[int] | None
) -> None:
    """An output of the node: the directions, joined along an axis, in the layout it has."""
    output = body.node.outputs[position] if position < len(body.node.outputs) else ""
    if not output:
        return
    joined = body.add("Concat", *parts, axis=axis) if len(parts) > 1 else parts[0]
    if perm:
        body.add("Transpose", joined, perm=list(perm), output=output)
    else:
        body.add("Identity", joined, output=output)


def _clipping(body: Body) -> Unary:
    """What is summed for an activation, within the threshold where there is one."""
    limit = body.number("clip", None)
    if limit is None:
        return str
    if not limit >= 0:
        raise body.unsupported(f"attribute 'clip' is {limit:g}, and must not be negative")
    if body.node.opset < 11:
        return lambda x: body.add("Clip", x, min=-float(limit), max=float(limit))
    ends = [body.store(_held(body, "clip", v)) for v in (-limit, limit)]
    return lambda x: body.add("Clip", x, *ends)


def _held(body: Body, name: str, value: float) -> Array:
    """A number of the type computed in. Raises UnsupportedModel for one that is none."""
    kind = body.types[body.node.inputs[0]].dtype.numpy
    number = np.float32(value)
    if float(number.astype(kind)) != float(number):
        raise body.unsupported(f"attribute '{name}' {float(number):g} is no {kind.name} number")
    return np.asarray(number.astype(kind))


def _activations(body: Body, defaults: tuple[str, ...], directions: int) -> list[tuple[Unary, ...]]:
    """The activations of each direction. Raises UnsupportedModel for those not known."""
    given = body.number("activations", None) or defaults * directions
    words = [w.decode() if isinstance(w, bytes) else str(w) for w in given]
    if len(words) == len(defaults) and directions == 2:
        words *= 2
    if len(words) != len(defaults) * directions:
        raise body.unsupported(
            f"attribute 'activations' names {len(words)}; needed are {len(defaults) * directions}"
        )
    spelled = {name.lower(): name for name in _DEFAULTS}
    for word in words:
        if word.lower() not in spelled:
            raise body.unsupported(f"activation '{word}' is not supported")
    names = [spelled[word.lower()] for word in words]
    alphas = _consumed(body, "activation_alpha", names, 0)
    betas = _consumed(body, "activation_beta", names, 1)
    n = len(defaults)
    each = zip(names, alphas, betas, strict=True)
    made = [_activation(body, *given, place=k % n) for k, given in enumerate(each)]
    return [tuple(made[i * n : (i + 1) * n]) for i in range(directions)]


def _consumed(body: Body, name: str, activations: Sequence[str], which: int) -> list[float]:
    """The number that each activation gets, 0 where it has none."""
    takes = [len(_DEFAULTS[a]) > which for a in activations]
    given = list(body.number(name, ()))
    if given and len(given) != sum(takes):
        raise body.unsupported(
            f"attribute '{name}' has {len(given)} numbers, and its activations take {sum(takes)}"
        )
    numbers = iter(given)
    found = []
    for activation, taken in zip(activations, takes, strict=True):
        value = (next(numbers) if given else _DEFAULTS[activation][which]) if taken else 0.0
        if value is None:
            raise body.unsupported(f"activation '{activation}' needs attribute '{name}'")
        found.append(float(value))
    return found


def _activation(body: Body, name: str, alpha: float, beta: float, place: int) -> Unary:
    """The activation in this place of a layer's. Of an RNN's Tanh, and of a GRU's second, kernels
    compute tanh in ways of their own; so does onnxruntime wherever one is scaled."""
    if name == "Affine":
        scale = body.store(_held(body, "activation_alpha", alpha))
        shift = body.store(_held(body, "activation_beta", beta))
        return lambda x: body.add("Add", body.add("Mul", x, scale), shift)
    if name == "ScaledTanh":
        if not np.isfinite(np.float32(2) * np.float32(beta)):  # as onnxruntime holds it
            raise body.unsupported(f"attribute 'activation_beta' {beta:g} is too large")
        scale, inner = (
            body.store(_held(body, f"activation_{word}", v))
            for word, v in (("alpha", alpha), ("beta", beta))
        )
        return lambda x: body.add(
            "Mul", body.add("RecurrentTanh", body.add("Mul", x, inner)), scale
        )
    if name == "Softplus":  # unlike the operator, log(1 + e^x) overflows, and vanishes below -17
        one = body.store(_held(body, "activations", 1.0))
        return lambda x: body.add("Log", body.add("Add", body.add("Exp", x), one))
    if (body.node.op, place) in _APART.get(name, ()):
        return lambda x: body.add(f"Recurrent{name}", x)
    both: dict[str, Any] = {"alpha": alpha, "beta": beta}
    given = dict(list(both.items())[: len(_DEFAULTS[name])])
    return lambda x: body.add(name, x, **given)
