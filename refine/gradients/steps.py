"""One step of training as part of a graph: new weights of old ones and their gradients."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from encoders.gradients.tape import Tape, Term
from onnx_import.errors import ModelError


@dataclass(frozen=True, kw_only=True)
class Sgd:
    """W − rate·gradient."""

    rate: float


@dataclass(frozen=True, kw_only=True)
class Adam:
    """Adam's step number `number`, as PyTorch writes it: with m = β₁·m + (1 − β₁)·g and
    v = β₂·v + (1 − β₂)·g², W − rate/(1 − β₁ⁿ)·m / (√v/√(1 − β₂ⁿ) + ε).

    The moments before step 1 are 0 and no inputs; before a later one they are the inputs m_NAME
    and v_NAME. Factors made of rate, β and n are rounded to the type of the weights, as stored
    numbers of the graph are: the step over the reals is that with these.
    """

    rate: float
    number: int = 1
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8


Step = Sgd | Adam


def stepped(tape: Tape, step: Step, gradients: Mapping[str, Term]) -> tuple[list[str], list[str]]:
    """New weights `next_NAME` (and Adam's moments `next_m_NAME`, `next_v_NAME`) by the gradients
    of these weights: the outputs, and the inputs that are new. Raises ModelError for a rate that is
    none."""
    if not 0 < step.rate < float("inf"):
        raise ModelError(f"the rate of a step is a positive number, not {step.rate}")
    outputs, inputs = list[str](), list[str]()
    for name, gradient in gradients.items():
        if isinstance(step, Sgd):
            moved = {f"next_{name}": tape.term(name) - gradient * _near(tape, step.rate, gradient)}
        else:
            moved, new = _adam(tape, step, name, gradient)
            inputs += new
        outputs += [tape.named(term, output).name for output, term in moved.items()]
    return outputs, inputs


def _adam(tape: Tape, step: Adam, name: str, g: Term) -> tuple[dict[str, Term], list[str]]:
    if step.number < 1:
        raise ModelError(f"Adam's steps are counted from 1 on, not {step.number}")
    kept1, kept2 = 1 - step.beta1**step.number, 1 - step.beta2**step.number

    def times(x: Term, factor: float) -> Term:
        return x * _near(tape, factor, g)

    m, v, inputs = times(g, 1 - step.beta1), times(g * g, 1 - step.beta2), list[str]()
    if step.number > 1:
        old_m, old_v = (tape.given(f"{kind}_{name}", g.kind) for kind in ("m", "v"))
        inputs = [old_m.name, old_v.name]
        m, v = times(old_m, step.beta1) + m, times(old_v, step.beta2) + v
    below = times(v.apply(op="Sqrt"), kept2**-0.5) + _near(tape, step.epsilon, g)
    moved = tape.term(name) - times(m, step.rate / kept1) / below
    return {f"next_{name}": moved, f"next_m_{name}": m, f"next_v_{name}": v}, inputs


def _near(tape: Tape, value: float, like: Term) -> Term:
    return tape.nearest(value, like.kind.dtype)
