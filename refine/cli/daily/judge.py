"""`refine judge`: which contracts can have produced given numbers, and which cannot?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import numpy as np

from encoders.contract.contract import RuntimeContract
from onnx_import.graph import Array, Graph, Sizes
from refine.cli.answering import finish, hearing, require_json_place, tell_json
from refine.everyday.judging import Judged, Judgement, Overstep, judge, presets_for
from refine.everyday.numbers import device_numbers, fitting, taken_for_output
from refine.everyday.points import given_by
from refine.options.applicable import require_applicable
from refine.options.contract_choice import contract_for
from refine.options.models import read_for
from refine.options.options import allowing, limiting
from refine.options.sizes import shown_by, sizes_of, sizing
from refine.process.supervision import Watcher
from refine.report.console import Reporter
from refine.results.document import strict_json, versions
from refine.results.numerals import down, plain_number, up
from refine.results.verdict import ExitCode

SCHEMA = "refine-judgement-1"
_FILE = click.Path(path_type=Path)
_SHOWN = 8


@click.command("judge")
@click.argument("model", type=_FILE)
@click.option(
    "--inputs",
    type=_FILE,
    required=True,
    metavar="FILE.npz",
    help="What the device was given: arrays by input, or Polygraphy's --save-inputs (.json).",
)
@click.option(
    "--outputs",
    type=_FILE,
    required=True,
    metavar="FILE.npz",
    help="What it gave: arrays by output, or Polygraphy's --save-outputs (.json).",
)
@click.option(
    "--intermediate",
    type=_FILE,
    metavar="FILE.npz",
    help="Tensors inside, by name: every layer is then judged alone.",
)
@click.option(
    "--contract",
    "names",
    multiple=True,
    metavar="NAME|FILE.toml|probe:RUNTIME",
    help="Contracts to hold the numbers to; repeat. Default: presets that fit the model's types.",
)
@click.option("--json", "json_path", metavar="FILE", help="Write the answer; - for stdout.")
@limiting
@allowing
@sizing
@click.option("--quiet", "-q", is_flag=True, help="Only the first line.")
def judge_command(
    *,
    model: Path,
    inputs: Path,
    outputs: Path,
    intermediate: Path | None,
    names: tuple[str, ...],
    json_path: str | None,
    timeout: float | None,
    allowed: tuple[Path, ...],
    shape: tuple[str, ...],
    dim: tuple[str, ...],
    quiet: bool,
) -> ExitCode:
    """Numbers that some device gave: which contracts can have produced them, which cannot?

    Each layer whose numbers are known is held against the exact value of what the device gave it,
    so that one fault does not hide the next. A contract explains the numbers if every layer keeps
    within its bound; where none does, the layers that no contract allows are named.

    \b
    refine judge net.onnx --inputs in.npz --outputs out.npz
    refine judge net.onnx --inputs in.npz --outputs out.npz --intermediate dump.npz
    refine judge net.onnx --inputs in.json --outputs trt.json --contract cuda-fp32

    Exit code 0 if some contract explains the numbers, 1 if none does, 3 if nothing was compared.
    """
    require_json_place(json_path)
    reporter = Reporter(quiet, silent=json_path == "-")
    watcher: Watcher | None = click.get_current_context().obj
    with reporter.progress("reading the model", hearing(quiet)) as progress:
        arrays = device_numbers(inputs)
        sizes = shown_by(sizes_of(shape, dim), arrays)
        graph, contracts = _sides(model, names, allowed, arrays, sizes)
        given = given_by(arrays, graph, contracts[0].format_of, str(inputs))
        points = len(given.points)
        numbers, said = taken_for_output(device_numbers(outputs), graph.outputs)
        shown = fitting(numbers, graph, points, str(outputs))
        if intermediate is not None:
            inside = device_numbers(intermediate)
            shown = {**fitting(inside, graph, points, str(intermediate)), **shown}
        if watcher is not None:
            watcher.read()
        received = {t: np.stack([p[t] for p in given.points]) for t in graph.inputs}
        found = judge(graph, received, shown, contracts, progress.tell)
    finish(watcher)
    tell_json(strict_json(document_of_judged(found)), json_path, reporter)
    if json_path != "-":
        lines = list(account(found, intermediate is not None))
        lines = [*lines[:1], *([said] if said else []), *lines[1:]]
        reporter.lines(lines[:1] if quiet else lines)
    if not any(j.compared for j in found.judgements):
        return ExitCode.UNKNOWN
    return ExitCode.VERIFIED if found.explaining else ExitCode.VIOLATED


def _sides(
    model: Path,
    names: tuple[str, ...],
    allowed: tuple[Path, ...],
    arrays: Mapping[str, Array],
    sizes: Sizes,
) -> tuple[Graph, list[RuntimeContract]]:
    """The graph, read as all the contracts have it, and these. Integers among the arrays are
    constants."""
    if names:
        contracts = [contract_for(n, None, None, model, allowed, sizes=sizes) for n in names]
        graph = read_for(model, contracts, allowed=allowed, given=arrays, sizes=sizes)
        for contract in contracts:
            require_applicable(contract, graph)
        return graph, contracts
    plain = read_for(model, (), allowed=allowed, given=arrays, sizes=sizes)
    offered = list(presets_for(plain).values())
    graph = read_for(model, offered, allowed=allowed, given=arrays, sizes=sizes)
    return graph, list(presets_for(graph).values())


def account(found: Judged, inside: bool) -> Iterator[str]:
    """The answer first, then each contract with the first node that oversteps it."""
    explaining = [j.contract.name for j in found.explaining]
    if not any(j.compared for j in found.judgements):
        yield "nothing was compared: no bound is known of what the numbers were computed with"
        return
    if explaining:
        others = f" (and {', '.join(explaining[1:])})" if explaining[1:] else ""
        yield f"{explaining[0]} explains the numbers{others}"
        if found.all_but is not None:
            near, node = found.all_but
            yield (
                f"but every node except {node.describe()} is within {near.contract.name}: another "
                "weight or attribute there explains them, too"
            )
    else:
        yield f"no contract explains the numbers: {_why(found, inside)}"
    for judgement in found.judgements:
        yield from _of_contract(judgement)
    if not inside and not explaining:
        yield "with --intermediate, tensors inside by name, the layer is found"
    elif not inside and len(explaining) > 1 and len(found.graph.order) > 1:
        yield (
            "only the outputs were compared, which the bounds of all layers allow together: "
            "--intermediate, tensors inside by name, tells more contracts and faults apart"
        )
    if found.unseen and inside:
        yield f"{len(found.unseen)} nodes gave no numbers and were judged with what they lead to"


def _why(found: Judged, inside: bool) -> str:
    if found.grids:
        some = ", ".join(f"'{t}'" for t in found.grids[:3])
        return (
            f"the numbers of {len(found.grids)} tensors ({some}) are at most 256 multiples of one "
            "step, as of a device that quantises to 8 bits"
        )
    wrong = found.everywhere
    if not wrong:
        return "each is overstepped by another node"
    if not inside and len(found.graph.order) > len(wrong):
        some = ", ".join(f"'{t}'" for n in wrong[:_SHOWN] for t in n.outputs if t)
        return (
            f"{some}, an output, is outside of all of them: another weight, attribute or input of "
            "a layer that leads there?"
        )
    within = _best_but(found)
    every = ", ".join(n.describe() for n in wrong[:_SHOWN])
    held = "is" if len(wrong) == 1 else "are"
    rest = f"; every other node is within {within}" if within else ""
    return f"{every} {held} outside of all of them{rest}: another weight, attribute or input there?"


def _best_but(found: Judged) -> str:
    """The first contract that only the nodes outside of all contracts overstep."""
    wrong = {n.name for n in found.everywhere}
    for j in found.judgements:
        if j.compared > len(wrong) and {o.node.name for o in j.oversteps} == wrong:
            return j.contract.name
    return ""


def _of_contract(j: Judgement) -> Iterator[str]:
    opened = f", {j.open} without a bound" if j.open else ""
    if j.explains:
        yield f"  {j.contract.name}: {j.compared} {_nodes(j.compared)} within{opened}"
    elif not j.compared:
        yield f"  {j.contract.name}: nothing was compared{opened}"
    else:
        first = j.oversteps[0]
        yield (
            f"  not {j.contract.name}: {first.node.describe()} is {first.times:.3g} times outside "
            f"its budget; {len(j.oversteps)} of {j.compared} {_nodes(j.compared)} outside{opened}"
        )
        yield f"    {_number(first)}"


def _nodes(count: int) -> str:
    return "node" if count == 1 else "nodes"


def _number(one: Overstep) -> str:
    return (
        f"point {one.point}, element {list(one.index)} of '{one.tensor}' is {one.given!r}, the "
        f"exact value {down(one.low, 9)} … {up(one.high, 9)}, the budget {up(one.allowed, 3)}"
    )


def document_of_judged(found: Judged) -> dict[str, Any]:
    """The answer as JSON values."""
    return {
        "schema": SCHEMA,
        "model": None if found.graph.source is None else str(found.graph.source),
        "explains": [j.contract.name for j in found.explaining],
        "contracts": [
            {
                "contract": j.contract.name,
                "explains": j.explains,
                "compared": j.compared,
                "open": j.open,
                "oversteps": [_overstep(o) for o in j.oversteps],
            }
            for j in found.judgements
        ],
        "all_but": None
        if found.all_but is None
        else {"contract": found.all_but[0].contract.name, "node": found.all_but[1].name},
        "outside_of_all": [n.name for n in found.everywhere],
        "unseen": list(found.unseen),
        "quantised": sorted(found.grids),
        "versions": versions(),
    }


def _overstep(one: Overstep) -> dict[str, Any]:
    return {
        "node": one.node.name,
        "op": one.node.op,
        "tensor": one.tensor,
        "point": one.point,
        **overstep_numbers(one),
        "given_hex": one.given.hex(),
    }


def overstep_numbers(one: Overstep) -> dict[str, Any]:
    """The element that oversteps its budget, and by how much, as JSON values."""
    return {
        "element": list(one.index),
        "given": plain_number(one.given),
        "real": [plain_number(one.low), plain_number(one.high)],
        "allowed": plain_number(one.allowed),
        "times": plain_number(one.times),
    }
