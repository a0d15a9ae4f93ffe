"""ONNX's own node tests, run through the import, the real semantics and the bit-exact emulation.

The suite feeds every input of an operator as an input of the graph. Where an operator needs some
of them constant (shapes, axes, scales, weights), the harness stores them in the model instead. A
sequence that is given is made, of as many tensors, in the model; of one that comes out, every
tensor is compared.
"""

from __future__ import annotations

import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from encoders.arithmetic.approximate_field import ApproximateReals
from encoders.contract.presets import SEQUENTIAL
from encoders.numbers.formats import NARROW_FORMATS
from encoders.program import program_of
from gpu_check.emulator.emulator import emulate
from gpu_check.emulator.exact import evaluate_real
from onnx_import import load
from onnx_import.errors import ModelError
from onnx_import.graph import Array, DType, Graph

TENSORS = (np.ndarray, np.generic, onnx.TensorProto)

# Cases that our operators accept and that say nothing about them, by name, with the reason.
_HALVES = (
    "sums in float16, which a contract here prescribes, differ by two ulps; the reference's are in "
    "float32, and the tolerance is less than two ulps"
)
EXCLUDED: Mapping[str, str] = {
    f"test_{name}{expanded}": _HALVES
    for name in (
        "attention_4d_causal_fp16",
        "attention_4d_fp16",
        "attention_4d_gqa_causal_nonpad_decode_fp16",
        "attention_4d_gqa_with_past_and_present_fp16",
        "causal_conv_with_state_silu_fp16",
    )
    for expanded in ("", "_expanded")
} | {
    f"test_dynamicquantizelinear{expanded}": "-2.5 is a tie over the reals, 127.5 steps of 5/255 "
    "below zero; the reference's scale, in float32, is not quite 5/255"
    for expanded in ("", "_expanded")
}


class Outcome(Enum):
    PASSED = "passed"
    FAILED = "failed"
    REFUSED = "not covered"
    EXCLUDED = "excluded"


@dataclass(frozen=True)
class Finding:
    """What became of one test case. `operator` is the one that the case is about.

    `folded`: the import alone computes the outputs, which are constant. `partial`: only the first
    output was asked for, because our operators refuse the others.
    """

    name: str
    operator: str
    outcome: Outcome
    reason: str = ""
    folded: bool = False
    partial: bool = False


@cache
def suite() -> tuple[Any, ...]:
    """Every node test of the installed onnx package."""
    from onnx.backend.test.loader import load_model_tests

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return tuple(sorted(load_model_tests(kind="node"), key=lambda case: str(case.name)))


def operator_under_test(case: Any, cases: Mapping[str, Any]) -> str:
    """The operator that a case is about; of an expanded function, the function itself."""
    origin = cases.get(case.name.split("_expanded")[0], case)
    ops = [node.op_type for node in origin.model.graph.node]
    return ops[0] if len(ops) == 1 else "+".join(dict.fromkeys(ops))


def run_suite(folder: Path) -> tuple[Finding, ...]:
    """Every case of the suite, in order of name. Models are written to `folder`."""
    cases = {case.name: case for case in suite()}
    return tuple(run_case(case, operator_under_test(case, cases), folder) for case in suite())


def run_case(case: Any, operator: str, folder: Path) -> Finding:
    if case.name in EXCLUDED:
        return Finding(case.name, operator, Outcome.EXCLUDED, EXCLUDED[case.name])
    for inputs, wanted in case.data_sets:
        model, tensors = spelled(case.model, inputs)
        expected = [t for v in wanted for t in (v if isinstance(v, list) else [v])]
        if not all(isinstance(v, TENSORS) for v in (*tensors, *expected)):
            return Finding(case.name, operator, Outcome.REFUSED, "its data are not all tensors")
        try:
            graph, given = imported(model, [array(v) for v in tensors], folder)
        except ModelError as error:
            return Finding(case.name, operator, Outcome.REFUSED, str(error))
        except Exception as error:
            return Finding(case.name, operator, Outcome.FAILED, f"import: {error!r}")
        try:
            compare(case, graph, given, [array(v) for v in expected])
        except Exception as error:
            kind = "" if isinstance(error, AssertionError) else f"{type(error).__name__}: "
            return Finding(case.name, operator, Outcome.FAILED, f"{kind}{error}")
        folded = not graph.order
        partial = len(graph.outputs) < len(expected)
    return Finding(case.name, operator, Outcome.PASSED, "", folded, partial)


def spelled(model: onnx.ModelProto, inputs: Sequence[Any]) -> tuple[onnx.ModelProto, list[Any]]:
    """The model with sequences and optionals among its inputs made of tensors, and these."""
    if all(isinstance(v, TENSORS) for v in inputs):
        return model, list(inputs)
    made = onnx.ModelProto.FromString(model.SerializeToString())
    values, tensors, nodes = list(made.graph.input), [], []
    del made.graph.input[:]
    for value, held in zip(values, inputs, strict=True):
        kind = value.type
        if kind.HasField("optional_type"):
            kind = kind.optional_type.elem_type
        if held is None:
            nodes.append(onnx.helper.make_node("Optional", [], [value.name], type=kind))
            continue
        parts = held if isinstance(held, list) else [held]
        names = [f"{value.name}.{i}" for i in range(len(parts))]
        for name, part in zip(names, map(array, parts), strict=True):
            code = onnx.helper.np_dtype_to_tensor_dtype(part.dtype)
            made.graph.input.append(onnx.helper.make_tensor_value_info(name, code, part.shape))
        tensors += parts
        if not isinstance(held, list):
            nodes.append(onnx.helper.make_node("Identity", names, [value.name]))
        elif parts:
            nodes.append(onnx.helper.make_node("SequenceConstruct", names, [value.name]))
        else:
            code = kind.sequence_type.elem_type.tensor_type.elem_type
            nodes.append(onnx.helper.make_node("SequenceEmpty", [], [value.name], dtype=code))
    nodes += made.graph.node
    del made.graph.node[:]
    made.graph.node.extend(nodes)
    return made, tensors


def array(value: Any) -> Array:
    is_proto = isinstance(value, onnx.TensorProto)
    return np.asarray(numpy_helper.to_array(value) if is_proto else value)


def imported(
    model: onnx.ModelProto, inputs: Sequence[Array], folder: Path
) -> tuple[Graph, Mapping[str, Array]]:
    """The graph with as few inputs stored as our operators need, and values of the others.

    Where no such graph is accepted, the same with the first output only. Raises ModelError if our
    operators refuse every one of them, with what they say of the most constant one that is not
    constant altogether.
    """
    given = dict(zip((value.name for value in model.graph.input), inputs, strict=False))
    refusals: dict[tuple[str, ...], ModelError] = {}
    for outputs in dict.fromkeys((len(model.graph.output), 1)):
        for kept in ways(given):
            path = folder / "model.onnx"
            path.write_bytes(stored(model, given, kept, outputs).SerializeToString())
            try:
                graph = program_of(load(path)).checked.graph
                return graph, {name: given[name] for name in graph.inputs}
            except ModelError as error:
                refusals.setdefault(kept, error)
    telling = [error for kept, error in refusals.items() if kept]
    raise (telling or list(refusals.values()))[-1]


def ways(given: Mapping[str, Array]) -> Iterator[tuple[str, ...]]:
    """The names of the inputs that stay: all; the floats; the first float; the first; none."""
    floats = tuple(name for name, value in given.items() if value.dtype.kind in "fV")
    yield from dict.fromkeys((tuple(given), floats, floats[:1], tuple(given)[:1], ()))


def stored(
    model: onnx.ModelProto, given: Mapping[str, Array], kept: Sequence[str], outputs: int
) -> onnx.ModelProto:
    """The model with its first outputs, its inputs that are not kept turned into initializers."""
    made: onnx.ModelProto = onnx.ModelProto.FromString(model.SerializeToString())
    made.ir_version = max(made.ir_version, 4)
    dropped = {value.name for value in made.graph.output[outputs:]}
    del made.graph.output[outputs:]
    read = {t for node in made.graph.node for t in node.input}
    for node in made.graph.node:  # an output nobody reads is left out, where there is a choice
        names = ["" if t in dropped - read else t for t in node.output]
        while names and not names[-1]:
            names.pop()
        if names:
            node.output[:] = names
    for value in list(made.graph.input):
        if value.name in given and value.name not in kept:
            made.graph.input.remove(value)
            made.graph.initializer.append(numpy_helper.from_array(given[value.name], value.name))
    return made


def compare(case: Any, graph: Graph, given: Mapping[str, Array], expected: Sequence[Array]) -> None:
    """Raises AssertionError where a meaning of the graph is not what the suite expects.

    The real semantics speaks of finite numbers only, so it is left out where the case has others.
    """
    samples = {name: value[np.newaxis] for name, value in given.items()}
    with np.errstate(all="ignore"):
        computed = emulate(graph, samples, SEQUENTIAL)
    for tensor, want in zip(graph.outputs, expected, strict=False):
        got = np.asarray(computed[tensor])[0]
        assert got.dtype == want.dtype, f"emulation: {got.dtype}, not {want.dtype}"
        close(got, want, case, "emulation")
    if not all(finite(v) for v in (*given.values(), *expected)):
        return
    field = ApproximateReals()
    reals = {name: field.constant(value) for name, value in given.items()}
    meanings = evaluate_real(graph, reals, field)
    for tensor, want in zip(graph.outputs, expected, strict=False):
        got = np.asarray(meanings[tensor])[0]
        narrow = NARROW_FORMATS.get(DType(want.dtype.name))
        if narrow is None:
            close(got, want, case, "real semantics")
        else:  # half a spacing, the rounding that a type of eight bits makes of a real number
            close_to(got, want, narrow.unit_roundoff, narrow.smallest_subnormal / 2)


def close_to(got: Array, want: Array, relative: Fraction, absolute: Fraction) -> None:
    """As far apart as one rounding."""
    assert got.shape == want.shape, f"real semantics: shape {got.shape}, not {want.shape}"
    np.testing.assert_allclose(
        got.astype(np.float64),
        want.astype(np.float64),
        rtol=float(relative) * 1.01,
        atol=float(absolute),
        err_msg="real semantics",
    )


def finite(values: Array) -> bool:
    return bool(np.all(np.isfinite(values.astype(np.float64))))


def close(got: Array, want: Array, case: Any, what: str) -> None:
    """The suite's own comparison: its tolerances, and two ulps of bfloat16."""
    assert got.shape == want.shape, f"{what}: shape {got.shape}, not {want.shape}"
    rtol = max(case.rtol, 2**-6) if want.dtype.name == "bfloat16" else case.rtol
    wide = np.float64 if want.dtype.kind in "fV" else want.dtype
    np.testing.assert_allclose(
        got.astype(np.float64), want.astype(wide), rtol=rtol, atol=case.atol, err_msg=what
    )


def table(findings: Sequence[Finding]) -> str:
    """Covered, passed and not covered by operator.

    Of those passed: "folded" were computed by the import, "first" speak of the first output only.
    """
    groups: dict[str, list[Finding]] = defaultdict(list)
    for finding in findings:
        groups[finding.operator].append(finding)
    title = f"{'operator':31}{'covered':>9}{'passed':>8}{'folded':>8}{'first':>7}{'excluded':>10}"
    lines = [title + f"{'not covered':>13}"]
    for operator, group in (*sorted(groups.items()), ("all", list(findings))):
        count = Counter(finding.outcome for finding in group)
        folded, first = (sum(getattr(f, kind) for f in group) for kind in ("folded", "partial"))
        lines.append(
            f"{operator[:30]:31}{count[Outcome.PASSED] + count[Outcome.FAILED]:9}"
            f"{count[Outcome.PASSED]:8}{folded:8}{first:7}{count[Outcome.EXCLUDED]:10}"
            f"{count[Outcome.REFUSED]:13}"
        )
    return "\n".join(lines)
