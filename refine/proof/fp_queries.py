"""FloatingPoint obligations put to Z3: one element's run-time formula, bit for bit.

Asked for operators that are scalar formulas per element. The inputs are floats in the run-time
range that was proved of them; the goal is that every execution the contract allows is finite.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from enum import Enum
from fractions import Fraction
from itertools import product
from typing import Any, TypeVar

import numpy as np
import z3

from encoders.arithmetic import fp_theory
from encoders.arithmetic.exact_fields import object_array
from encoders.arithmetic.number_path import stored, stored_path
from encoders.contract.contract import (
    BiasPlacement,
    Contraction,
    FactorRounding,
    Normalization,
    RuntimeContract,
    Sequential,
    Subnormals,
)
from encoders.functions.accuracy import Transcendental
from encoders.numbers.formats import FloatFormat, round_down, round_up
from encoders.operator import Operator
from encoders.scheduling import contract_at
from encoders.site import Element
from refine.bounds.network import NodeBounds
from refine.proof.z3_solver import Fact, Query
from refine.results.obligation import Kind

E = TypeVar("E", bound=Enum)


def finiteness_queries(node: NodeBounds, row: int, timeout: float, rlimit: int) -> Iterator[Query]:
    """Is flat output element `row` finite whenever its inputs are floats in the proved ranges?

    One query per execution that differs. None for operators that are not scalar formulas, for
    formats that Z3's theory does not have, without rounding, for unbounded ranges, and where what
    executes reads other tensors than the node.
    """
    run = node.run
    operator, site, contract = run.step.operator, run.step.site, run.contract
    if run.held is not None or len(run.step.reads) != len(node.step.reads):
        return
    if operator.element is None or contract.exact or not site.outputs[0].dtype.is_float:
        return
    fmt = contract.format_of(site.outputs[0].dtype)
    wide = contract.wider_than(site.outputs[0].dtype)
    kinds = [
        k.dtype for k, c in zip(site.inputs, site.constants, strict=True) if k and c is not None
    ]
    ways = [stored_path(contract, dtype) for dtype in kinds if dtype.is_float]
    others = {hop.target for way in ways for hop in way} | ({wide} if wide else set())
    if not all(fp_theory.has_sort(f) for f in (fmt, *others)):
        return
    if not all(fp_theory.can_narrow(f) for f in others - {fmt}):
        return
    element: Element = operator.element(site, row)
    ranges, places = [], {}
    for i, (tensor, position) in enumerate(zip(node.step.reads, element.positions, strict=True)):
        held = node.assumed[tensor]
        lo, hi = (float(v.reshape(-1)[position]) for v in (held.lo, held.hi))
        if not (np.isfinite(lo) and np.isfinite(hi)):
            return
        ranges.append((f"x{i}", lo, hi))
        places[f"x{i}"] = (tensor, int(position))
    if not ranges:
        return
    hypotheses = [_in_range(name, lo, hi, fmt) for name, lo, hi in ranges]
    names = [name for name, _, _ in ranges]
    seen: set[str] = set()
    for execution in _executions(contract_at(site, contract)):
        try:
            term = _output(operator, element, names, fmt, execution)
        except Transcendental:  # not asked: no bits of it are fixed
            return
        text = term.sexpr()
        if text not in seen:
            seen.add(text)
            yield Query(
                f"finite/{node.node.name}[{row}]/{len(seen)}",
                Kind.FLOATING_POINT,
                hypotheses=tuple(hypotheses),
                goal=Fact(
                    "the computed element is finite, with FMA "
                    f"{execution.contraction.value}, normalisation "
                    f"{execution.normalization.value}, subnormal results "
                    f"{execution.results.value} and operands {execution.operands.value}",
                    fp_theory.is_finite(term),
                ),
                node=node.node.name,
                timeout=timeout,
                rlimit=rlimit,
                logic="QF_FP",
                places=places,
            )


def _in_range(name: str, lo: float, hi: float, fmt: FloatFormat) -> Fact:
    x = fp_theory.variable(name, fmt)
    largest = fmt.largest_finite
    low = max(round_down(Fraction(lo), fmt), -float(largest))
    high = min(round_up(Fraction(hi), fmt), float(largest))
    return Fact(
        f"{name} is a {fmt.name} number in [{low!r}, {high!r}]",
        z3.And(
            fp_theory.less_equal(fp_theory.constant(low, fmt), x),
            fp_theory.less_equal(x, fp_theory.constant(high, fmt)),
        ),
    )


def _output(
    operator: Operator,
    element: Element,
    names: list[str],
    fmt: FloatFormat,
    execution: RuntimeContract,
) -> fp_theory.Term:
    arithmetic = fp_theory.FpTermArithmetic(fmt, execution)
    site = element.site
    shapes = [site.type_of(i).shape for i in site.variable]
    variables: Iterator[Any] = (
        object_array([fp_theory.variable(name, fmt)], (1, *shape))
        for name, shape in zip(names, shapes, strict=True)
    )
    given = site.arguments(
        variables, lambda held, kind: stored(arithmetic, held, execution, kind.dtype)
    )
    (out,) = operator.runtime(site, given, arithmetic, execution)
    return np.asarray(out).reshape(-1)[0]


def _executions(contract: RuntimeContract) -> Iterator[RuntimeContract]:
    """Every pinned choice that matters to a scalar formula; it has no factors to truncate."""
    fused = _choices(contract.contraction, Contraction.EITHER)
    formulas = _choices(contract.normalization, Normalization.EITHER)
    results = _choices(contract.results, Subnormals.EITHER)
    operands = _choices(contract.operands, Subnormals.EITHER)
    for c, n, r, o in product(fused, formulas, results, operands):
        yield replace(
            contract,
            order=Sequential(),
            bias=BiasPlacement.LAST,
            contraction=c,
            normalization=n,
            results=r,
            operands=o,
            factor_rounding=FactorRounding.NEAREST,
        )


def _choices(chosen: E, either: E) -> list[E]:
    return [e for e in type(either) if e is not either] if chosen is either else [chosen]
