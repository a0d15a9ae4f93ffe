"""Assertions for tests: what a runtime gave, held against what the model means.

The tolerance is proved for every element at the test's own input, so that no reference run is
needed and none of it is guessed. `refine_pytest.py` offers the same as a fixture.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from encoders.contract.contract import RuntimeContract
from encoders.numbers.enclosure import FloatArray
from onnx_import.errors import ModelError
from onnx_import.graph import Array, Graph, Sizes
from refine.claims.python_values import contract_value, path_of, places_of
from refine.everyday.allowance import Allowance
from refine.everyday.beyond import furthest_beyond
from refine.everyday.judging import Judged, judge, presets_for
from refine.everyday.numbers import fitting
from refine.everyday.points import Given, given_by, numbers_of
from refine.everyday.tolerances import Tolerances, dearest, tolerances
from refine.options.applicable import require_applicable
from refine.options.contract_choice import contract_for
from refine.options.keywords import PathText, sentences
from refine.options.models import Model, opened, read_as
from refine.options.sizes import shown_by
from refine.results.numerals import down, up

__all__ = ["assert_close"]


@sentences
def assert_close(
    actual: object,
    model: Model,
    inputs: Mapping[str, Any],
    *,
    contract: object = "ieee-any",
    intermediates: Mapping[str, Any] | None = None,
    allow: PathText | Sequence[PathText] = (),
) -> None:
    """Every number of `actual` is one that some execution under the contract could give.

    `actual` is an array, one for each output in order, or a mapping by name, of what a runtime
    gave for `inputs` (arrays by name, the numbers that it received). Raises AssertionError, which
    says where, how far outside, which nodes carry the tolerance and which contract explains the
    numbers; where `intermediates` has tensors inside, also the first layer outside its budget.
    Raises ModelError where no tolerance can be proved.

    >>> import numpy as np, onnxruntime
    >>> demo, x = "examples/demo/pendulum.onnx", np.array([[0.25, -0.5]], np.float32)
    >>> (y,) = onnxruntime.InferenceSession(demo).run(None, {"state": x})
    >>> assert_close(y, demo, {"state": x}, contract="cuda-fp32")
    """
    __tracebackhide__ = True
    places = places_of(allow)
    chosen = contract_value("contract", contract)
    with opened(model) as source:
        if not isinstance(inputs, Mapping):
            raise ModelError("inputs: a mapping of arrays by name, {name: array}")
        arrays = {str(t): numbers_of(x, f"inputs: '{t}'") for t, x in inputs.items()}
        sizes = shown_by(Sizes(), arrays)
        if not isinstance(chosen, RuntimeContract):
            chosen = contract_for(chosen, None, None, path_of(source), places, sizes=sizes)
        graph = read_as(source, chosen, allowed=places, given=arrays, sizes=sizes)
        require_applicable(chosen, graph)
        given = given_by(arrays, graph, chosen.format_of, "inputs")
        outputs = fitting(_by_name(actual, graph), graph, len(given.points), "actual")
        numbers = range(len(given.points))
        domains = [given.domain(graph, k, chosen.format_of) for k in numbers]
        found = tolerances(graph, chosen, domains)
        inside = {t: numbers_of(x, f"inside: '{t}'") for t, x in (intermediates or {}).items()}
        text = _complaint(found, given, outputs, fitting(inside, graph, len(numbers), "inside"))
    if text:
        raise AssertionError(text)


def _by_name(actual: object, graph: Graph) -> dict[str, Array]:
    """Raises ModelError for what names no output, or not one array for each."""
    if isinstance(actual, Mapping):
        found = {str(name): numbers_of(v, f"actual: '{name}'") for name, v in actual.items()}
    elif isinstance(actual, list | tuple) and len(graph.outputs) == len(actual):
        pairs = zip(graph.outputs, actual, strict=True)
        found = {t: numbers_of(v, f"actual: '{t}'") for t, v in pairs}
    else:
        found = {graph.outputs[0]: numbers_of(actual, "actual")}
    if not found or any(name not in graph.outputs for name in found):
        raise ModelError(f"the outputs of the model are {', '.join(graph.outputs)}")
    if not isinstance(actual, Mapping) and len(found) != len(graph.outputs):
        raise ModelError(
            f"the model has {len(graph.outputs)} outputs: give a list of arrays or a mapping"
        )
    return found


def _complaint(
    found: Tolerances,
    given: Given,
    outputs: Mapping[str, Array],
    inside: Mapping[str, Array],
) -> str:
    """What is wrong, in lines; nothing where all is right. Raises ModelError where no tolerance is
    known."""
    lines: list[str] = []
    for number, part in enumerate(found.parts):
        for a in part.allowances:
            if a.output not in outputs:
                continue
            if not np.all(np.isfinite(a.bound)):
                node = found.open_node
                where = "" if node is None else f", from node '{node[0].name}' on: {node[1]}"
                raise ModelError(
                    f"no tolerance of '{a.output}' is known under {found.contract.name}{where}"
                )
            actual = np.asarray(outputs[a.output][number], np.float64)
            several = f" of point {number}" if given.several else ""
            lines += _outside(a, actual, f"'{a.output}'{several}", found.contract.name)
        if lines:
            carried = [f"{100 * n.share:.0f} % '{n.name}' ({n.op})" for n in dearest(part.result)]
            lines.append(f"  the tolerance is carried by: {', '.join(carried)}")
            points = {t: np.stack([p[t] for p in given.points]) for t in found.graph.inputs}
            return "\n".join([*lines, *explained(found, points, outputs, inside)])
    return ""


def _outside(a: Allowance, actual: FloatArray, what: str, contract: str) -> Iterator[str]:
    worst = furthest_beyond(a.real, a.bound, actual)
    if worst is None:
        return
    yield (
        f"{worst.count} of {actual.size} numbers of {what} are none that contract "
        f"{contract} allows; the worst:"
    )
    yield f"  element   {list(worst.index)}"
    yield f"  actual    {worst.given!r} ({worst.given.hex()})"
    yield f"  real      {down(worst.low, 12)} … {up(worst.high, 12)}"
    yield (
        f"  off by    {worst.off:.4g}, {worst.times:.3g} times the tolerance {up(worst.allowed, 3)}"
    )


def explained(
    found: Tolerances,
    points: Mapping[str, Array],
    outputs: Mapping[str, Array],
    inside: Mapping[str, Array],
) -> Iterator[str]:
    """The first layer outside its budget, and which contracts explain the numbers."""
    others = presets_for(found.graph)
    asked = [found.contract, *(c for name, c in others.items() if name != found.contract.name)]
    judged = judge(found.graph, points, {**outputs, **inside}, asked)
    if inside:
        yield f"  {first_layer(judged)}"
    known = [j.contract.name for j in judged.judgements[1:] if j.explains]
    if known:
        yield f"  explained by contract {known[0]}" + (
            f" (and {', '.join(known[1:])})" if known[1:] else ""
        )
    else:
        yield "  no preset contract explains the numbers: other weights, inputs or operators?"


def first_layer(judged: Judged) -> str:
    """Where the first of the contracts is first overstepped."""
    mine = judged.judgements[0]
    if not mine.oversteps:
        return f"no layer alone is outside its budget ({mine.compared} compared)"
    one = mine.oversteps[0]
    return (
        f"the first layer outside its budget: {one.node.describe()}, element {list(one.index)} of "
        f"'{one.tensor}' is {one.times:.3g} times its budget of {up(one.allowed, 3)} off"
    )
