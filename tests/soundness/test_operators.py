"""Every registered operator: all its semantics against each other and against runtimes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from operator_checks import Example, graph_of, model_of
from semantics import CHECKS, Stand, stand

from encoders.arithmetic.values import Inputs
from encoders.contract.presets import SEQUENTIAL
from encoders.lemmas.combining import EXACT
from encoders.lemmas.kernel import exactly_zero
from encoders.lemmas.ranges.placing import range_of
from encoders.numbers.enclosure import Interval
from encoders.operator import Contribution, Operator, RoundingBound
from encoders.registry import operators
from examples import EXAMPLES
from gpu_check.emulator.emulator import emulate

FOLDER = Path(__file__).resolve().parents[1]
PAIRS = [(name, i) for name, examples in EXAMPLES.items() for i in range(len(examples))]


def test_every_operator_has_an_example() -> None:
    """Here, or in the tests of a family of operators beside this folder; of those that are made
    when a file is read, where what they are made of is tested."""
    more = ("masks", "quantised_layers", "operator_slips", "narrow_numbers", "recurrent")
    families = (*FOLDER.glob("test_operators_*.py"), *(FOLDER / f"test_{n}.py" for n in more))
    texts = "".join(p.read_text() for p in families)
    elsewhere = {name for name in operators() if f'"{name}"' in texts}
    assert set(operators()) - elsewhere <= set(EXAMPLES)
    assert set(EXAMPLES) <= set(operators())


def failures(operator: Operator, example: Example) -> list[str]:
    here = stand(operator, example)
    here.operator.check(here.site)
    return [f"{check.__name__}: {f}" for check in CHECKS for f in check(here)]


@pytest.mark.parametrize(("name", "index"), PAIRS, ids=lambda v: str(v))
def test_meanings(name: str, index: int) -> None:
    assert not failures(operators()[name], EXAMPLES[name][index])


def _perturbed_runtime(operator: Operator) -> Operator:
    def runtime(site: Any, inputs: Any, arithmetic: Any, contract: Any) -> Any:
        (y,) = operator.runtime(site, inputs, arithmetic, contract)
        return (arithmetic.multiply(y, arithmetic.constant(np.full((), 1 + 2.0**-18))),)

    return replace(operator, runtime=runtime)


def _reversed_runtime(operator: Operator) -> Operator:
    def runtime(site: Any, inputs: Any, arithmetic: Any, contract: Any) -> Any:
        (y,) = operator.runtime(site, inputs, arithmetic, contract)
        return (y[..., ::-1],)

    return replace(operator, runtime=runtime)


def _shifted_real(operator: Operator) -> Operator:
    def real(site: Any, inputs: Any, field: Any) -> Any:
        (y,) = operator.real(site, inputs, field)
        return (y + field.constant(np.full((1,) * (y.ndim - 1), 2.0**-9)),)

    return replace(operator, real=real)


def _narrow_range(operator: Operator) -> Operator:
    def values(site: Any, ranges: Any) -> Any:
        mapped = operator.values(site, ranges)
        range_ = mapped.range
        middle = 0.5 * range_.lo + 0.5 * range_.hi
        return replace(mapped, range=range_of(Interval(middle, range_.hi)))

    return replace(operator, values=values)


def _pulled(f: Callable[[Contribution], Contribution]) -> Callable[[Any], Any]:
    def changed(mapped: Any) -> Any:
        return replace(mapped, backward=lambda c: f(mapped.backward(c)))

    return changed


def _negated(c: Contribution) -> Contribution:
    return replace(c, coefficients=tuple(None if v is None else -v for v in c.coefficients))


def _wrong_adjoint_of_values(operator: Operator) -> Operator:
    change = _pulled(_negated)
    return replace(operator, values=lambda *a: change(operator.values(*a)))


def _wrong_adjoint_of_differences(operator: Operator) -> Operator:
    change = _pulled(_negated)
    return replace(operator, differences=lambda *a: change(operator.differences(*a)))


def _half_radius(operator: Operator) -> Operator:
    def differences(site: Any, ranges: Any, errors: Any) -> Any:
        mapped = operator.differences(site, ranges, errors)
        return replace(mapped, radius=mapped.radius.times(0.5))

    return replace(operator, differences=differences)


def _no_rounding(operator: Operator) -> Operator:
    def rounding(site: Any, *_: Any) -> RoundingBound:
        return RoundingBound(exactly_zero(EXACT, site.outputs[0].shape))

    return replace(operator, rounding=rounding)


def _bias_dropped(operator: Operator) -> Operator:
    def runtime(site: Any, inputs: Any, arithmetic: Any, contract: Any) -> Any:
        return operator.runtime(site, Inputs((*inputs[:2], inputs[2] * 0)), arithmetic, contract)

    return replace(operator, runtime=runtime)


WRONG = (
    _perturbed_runtime,
    _reversed_runtime,
    _shifted_real,
    _narrow_range,
    _wrong_adjoint_of_values,
    _wrong_adjoint_of_differences,
    _half_radius,
    _no_rounding,
)


def _attempts() -> Iterator[tuple[str, Callable[[Operator], Operator]]]:
    for name in EXAMPLES:
        operator = operators()[name]
        for wrong in WRONG:
            if wrong is not _no_rounding or not operator.movement:
                yield name, wrong
    yield from (("Conv", _bias_dropped), ("Gemm", _bias_dropped))


@pytest.mark.parametrize(
    ("name", "wrong"), list(_attempts()), ids=lambda v: getattr(v, "__name__", v)
)
def test_a_wrong_encoding_is_caught(name: str, wrong: Callable[[Operator], Operator]) -> None:
    """Each of its semantics, made wrong, fails the checks on the operator's first example."""
    assert _first_failure(wrong(operators()[name]), EXAMPLES[name][0])


def _first_failure(operator: Operator, example: Example) -> str | None:
    here: Stand = stand(operator, example)
    return next((f for check in CHECKS for f in check(here)), None)


def test_relu_on_special_numbers_as_onnxruntime() -> None:
    """NaN, infinities, signed zeros and subnormal numbers, bit for bit."""
    tiny = np.float32(1e-45)
    special = np.array(
        [np.nan, np.inf, -np.inf, 0.0, -0.0, tiny, -tiny, np.finfo(np.float32).tiny], np.float32
    )
    row = np.stack([special, -special])
    (example,) = EXAMPLES["Relu"]
    session = onnxruntime.InferenceSession(model_of(example).SerializeToString())
    actual = np.asarray(session.run(None, {"x": row})[0])
    emulated = emulate(graph_of(example)[0], {"x": row[None]}, SEQUENTIAL)["y"][0]
    both_nan = np.isnan(actual) & np.isnan(emulated)
    assert np.all((actual.view(np.uint32) == emulated.view(np.uint32)) | both_nan)
