"""From what was found of a runtime to a contract that says so, evidence included."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from encoders.contract.contract import (
    FieldEvidence,
    Reduction,
    RuntimeContract,
    Schedule,
    ScheduleRule,
)
from encoders.contract.functions import CONSERVATIVE, Functions
from encoders.contract.presets import IEEE_ANY
from encoders.functions.accuracy import Evidence
from encoders.functions.function import Function
from encoders.functions.registry import every_function
from encoders.numbers.formats import BFLOAT16, TENSOR_FLOAT_32
from encoders.program import program_of
from gpu_check.probe.function_probe import MEASURABLE, Measured, measured
from gpu_check.probe.modes import Flushes, factor_rounding, probe_flushes, product_bits
from gpu_check.probe.probe import OPEN, WHOLE, Factors, Finding, held_in_file, probe_sums
from gpu_check.runtimes.kernels import Kernels
from gpu_check.runtimes.runtimes import RuntimeUnavailable
from onnx_import.graph import Array, DType, Graph

FULL_BITS = 24
SHORT_FACTORS = {f.precision: f for f in (BFLOAT16, TENSOR_FLOAT_32)}
_TRIED = ("subnormal_results", "subnormal_operands", "factors", "factor_rounding")
_LEFT_OPEN = ("order", "fma", "bias", "normalization")
_CHANGING = "not pinned: it is computed in one way here and in another way there"
_OPEN = "left open where no rule says more: every choice is covered"


class ReducedPrecision(RuntimeUnavailable):
    """A runtime that rounds the factors of products to a format that no contract names."""


@dataclass(frozen=True, repr=False)
class Probed:
    """A contract and what it was made of."""

    contract: RuntimeContract
    findings: tuple[Finding, ...]
    flushes: Flushes
    functions: tuple[tuple[Function, Measured], ...]

    def __repr__(self) -> str:
        return f"<probed: {self.contract!r}, of {len(self.findings)} findings>"


def probe_contract(
    graph: Graph,
    kernels: Kernels,
    threaded: Kernels | None = None,
    *,
    exhaustive: bool = False,
    samples: int = 32,
    seed: int = 0,
    tell: Callable[[str], None] = lambda text: None,
    whole: Mapping[str, Array] | None = None,
) -> Probed:
    """Probe everything that this graph uses; what is not found stays open in the contract.

    `threaded` is the runtime with more threads, to learn whether they change bits. `whole` has
    arrays (samples, *shape) of the tensors that the runtime showed when it ran the file. Raises
    ReducedPrecision, and RuntimeUnavailable where the runtime cannot even multiply.
    """
    tell("probing modes")
    factors = probe_factors(kernels)
    flushes = probe_flushes(kernels)
    findings: list[Finding] = []
    for node in graph.order:
        tell(f"probing {node.describe()}")
        alone = probe_sums(
            graph,
            kernels,
            flushes=flushes,
            samples=samples,
            seed=seed,
            nodes=(node,),
            threaded=threaded,
            factors=factors,
        )
        findings += [held_in_file(graph, f, whole or {}, flushes, factors) for f in alone]
    functions = _functions(graph, kernels, exhaustive, seed, tell)
    source = f"probed on {kernels.describe()}"
    contract = replace(
        IEEE_ANY,
        name=f"probed-{kernels.describe().split()[0]}",
        results=flushes.results,
        operands=flushes.operands,
        order=factors.open.order,
        factor_format=factors.format,
        factor_rounding=factors.rounding,
        functions=_table(functions, source),
        rules=tuple(rules_of(findings, kernels)),
        evidence=(
            *(FieldEvidence(field, Evidence.PROVED, _OPEN) for field in _LEFT_OPEN),
            *(FieldEvidence(field, Evidence.SAMPLED, source) for field in _TRIED),
        ),
        provenance=(
            ("runtime", kernels.describe()),
            ("machine", f"{platform.system()} {platform.machine()} {_processor()}".strip()),
            ("threads_change_bits", _threads_text(findings, threaded)),
            ("batch_changes_bits", _said([(f, f.changed_by_batch) for f in findings])),
            ("position_changes_bits", _said([(f, f.changed_by_position) for f in findings])),
        ),
    )
    return Probed(contract, tuple(findings), flushes, functions)


def probe_factors(kernels: Kernels) -> Factors:
    """What this runtime leaves of the factors of matrix products.

    Raises ReducedPrecision, and RuntimeUnavailable where it cannot even multiply.
    """
    bits = product_bits(kernels)
    if bits == FULL_BITS:
        return WHOLE
    if bits not in SHORT_FACTORS:
        raise ReducedPrecision(
            f"{kernels.describe()} keeps only {bits} of {FULL_BITS} bits of the factors of a "
            "matrix product, which is no format known here (TF32 keeps 11, bfloat16 8)"
        )
    return Factors(SHORT_FACTORS[bits], factor_rounding(kernels, bits))


def rules_of(findings: Sequence[Finding], kernels: Kernels) -> list[ScheduleRule]:
    """One rule per shape; per node where one shape was found to be computed in several ways, or
    where the runtime does not see as constant what the graph does."""
    seen: dict[Reduction, set[Schedule]] = {}
    for f in findings:
        seen.setdefault(replace(f.place, node=""), set()).add(f.schedule)
    rules: dict[tuple[str | None, Reduction], ScheduleRule] = {}
    for f in findings:
        several = len(seen[replace(f.place, node="")]) > 1
        alone = several or bool(kernels.varying & set(f.node.inputs))
        found = (
            f"revealed, and reproduced bit for bit on {f.replayed} random inputs"
            if f.pinned
            else f"not pinned: {f.note}"
        )
        node = f.node.name if alone else None
        rule = ScheduleRule(
            f.schedule,
            operator=f.place.operator,
            node=node,
            terms=f.place.terms,
            rows=f.place.rows,
            columns=f.place.columns,
            constant=f.place.constant,
            form=f.place.form,
            evidence=Evidence.SAMPLED if f.pinned else Evidence.DEFINITION,
            source=found,
        )
        rules.setdefault((node, replace(f.place, node="")), rule)
    return sorted(rules.values(), key=lambda rule: rule.node is None)


def agreed_rules(
    one: Sequence[ScheduleRule], other: Sequence[ScheduleRule]
) -> tuple[ScheduleRule, ...]:
    """The rules of two probes; open where they say different things of one place."""

    def against(rule: ScheduleRule, others: Sequence[ScheduleRule]) -> ScheduleRule:
        opposed = [r for r in others if _overlap(rule, r) and r.schedule != rule.schedule]
        if not opposed:
            return rule
        open_ = next((r.schedule for r in (rule, *opposed) if not r.schedule.pinned), OPEN)
        return replace(rule, schedule=open_, evidence=Evidence.DEFINITION, source=_CHANGING)

    both = [*(against(r, other) for r in one), *(against(r, one) for r in other)]
    return tuple(sorted(dict.fromkeys(both), key=lambda rule: rule.node is None))


def _overlap(a: ScheduleRule, b: ScheduleRule) -> bool:
    names = ("operator", "node", "terms", "rows", "columns", "constant", "form")
    pairs = ((getattr(a, name), getattr(b, name)) for name in names)
    return all(x is None or y is None or x == y for x, y in pairs)


def _functions(
    graph: Graph,
    kernels: Kernels,
    exhaustive: bool,
    seed: int,
    tell: Callable[[str], None],
) -> tuple[tuple[Function, Measured], ...]:
    """Functions that the graph uses only as operators of their own, which are in the file: what
    other operators compute inside is not seen from here."""
    users: dict[Function, set[tuple[str, DType]]] = {}
    for step in program_of(graph).steps:
        for function in step.operator.functions:
            dtype = graph.types[step.output].dtype
            user = "" if step.name in kernels.absent else step.node.op
            users.setdefault(function, set()).add((user, dtype))
    found = []
    for function in sorted(users, key=lambda f: f.name):
        operators = {op for op, _ in users[function]}
        if (
            operators != {function.operator}
            or function not in MEASURABLE
            or len(users[function]) != 1
        ):
            continue
        ((_, dtype),) = users[function]
        tell(f"measuring {function.name} in {dtype.value}")
        try:
            found.append((function, measured(kernels, function, dtype, exhaustive, seed)))
        except (RuntimeUnavailable, ValueError):
            continue  # the conservative figure stays
    return tuple(found)


def _table(functions: Sequence[tuple[Function, Measured]], source: str) -> Functions:
    table = dict(CONSERVATIVE.table)
    for function, figures in functions:
        accuracy = figures.accuracy(source)
        if accuracy is not None:
            table[function] = accuracy
    if table == dict(CONSERVATIVE.table):
        return CONSERVATIVE
    return Functions("measured", tuple((f, table[f]) for f in every_function().values()))


def _threads_text(findings: Sequence[Finding], threaded: Kernels | None) -> str:
    return _said([(f, f.changed_by_threads if threaded else None) for f in findings])


def _said(answers: Sequence[tuple[Finding, bool | None]]) -> str:
    """Where something was seen; "no" where it was tried in vain."""
    changed = [f.node.name for f, seen in answers if seen]
    if changed:
        return f"at {', '.join(changed)}"
    return "no" if any(seen is False for _, seen in answers) else "not tried"


def _processor() -> str:
    """The processor's name where the system tells it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            named = (line.split(":", 1)[1].strip() for line in lines if "model name" in line)
            return next(named, "")
    except OSError:
        return platform.processor()
