"""`refine grad`: the gradient of a model as an ordinary ONNX model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fractions import Fraction
from pathlib import Path

import click
import numpy as np

from encoders.numbers.formats import FORMAT_OF_DTYPE
from gpu_check.common.writing import require_writable, write_whole
from gpu_check.runtimes.library_kernels import jax_library, torch_library
from gpu_check.runtimes.runtimes import RuntimeUnavailable
from onnx_import import load
from onnx_import.errors import ModelError, shorten
from onnx_import.graph import Array, Graph
from onnx_import.passes.newer import with_newer_operators
from refine.common.arrays import stored_arrays
from refine.domain.domain import DomainOptions, read_domain
from refine.gradients.checking import checked
from refine.gradients.derived import serialised
from refine.gradients.differentiate import FRAMEWORKS, OWN, require_meaning
from refine.gradients.frameworks import beside
from refine.gradients.request import ADAM, SGD, Request
from refine.options.options import allowing
from refine.options.sizes import sizes_of, sizing
from refine.report.console import Reporter
from refine.results.verdict import ExitCode


@click.command("grad")
@click.argument("model", type=click.Path(path_type=Path))
@sizing
@click.option("--of", metavar="OUTPUT[,…]", help="What is differentiated; default: every output.")
@click.option(
    "--loss",
    metavar="cross-entropy|mse|EXPR",
    help="One number instead: a loss of the output against a new input target of its shape, or an "
    "expression of outputs and inputs such as mean(Y*Y).",
)
@click.option(
    "--value",
    metavar="EXPR",
    help="No gradient, but such an expression, element by element, as a residual of derivatives.",
)
@click.option(
    "--wrt",
    metavar="NAME[,…]",
    help="Inputs and weights; default: every input. Weights stay constants of the file.",
)
@click.option(
    "--ones",
    is_flag=True,
    help="The cotangents of the outputs are 1: the gradient of their sum; default: new inputs "
    "upstream.",
)
@click.option("--keep", is_flag=True, help="The model's own outputs are outputs too.")
@click.option(
    "--step",
    type=click.Choice([SGD, ADAM]),
    help="Also the weights after one step of training.",
)
@click.option("--lr", "rate", type=float, metavar="RATE", help="The rate of that step.")
@click.option(
    "--step-number",
    "number",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="N",
    help="Which step of Adam; from the second on its moments are inputs.",
)
@click.option(
    "--rules",
    type=click.Choice([OWN, *FRAMEWORKS]),
    default=OWN,
    show_default=True,
    help="Whose formulas: a framework's where they differ.",
)
@click.option(
    "--given",
    type=click.Path(path_type=Path),
    metavar="FILE.npz",
    help="Inputs of integers or truth values, such as labels, which become constants.",
)
@click.option(
    "--check",
    "checking",
    is_flag=True,
    help="Hold the rule of each node to exact derivatives instead, at inputs of the domain.",
)
@click.option(
    "--against",
    metavar="torch|jax",
    help="With --check, hold them to a framework instead, where it is installed: each node, and "
    "the whole network, as it differentiates them, within what is proved of two executions.",
)
@click.option(
    "--input",
    "inputs",
    metavar="[NAME=]LO..HI",
    multiple=True,
    help="With --check, where inputs are drawn from; default: -1..1.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of what --check draws.")
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path),
    metavar="VJP.onnx",
    help="Where the gradient is written.",
)
@allowing
@click.option("--quiet", "-q", is_flag=True, help="Only errors.")
def grad_command(
    *,
    model: Path,
    shape: tuple[str, ...],
    dim: tuple[str, ...],
    of: str | None,
    loss: str | None,
    value: str | None,
    wrt: str | None,
    ones: bool,
    keep: bool,
    step: str | None,
    rate: float | None,
    number: int,
    rules: str,
    given: Path | None,
    checking: bool,
    against: str | None,
    inputs: tuple[str, ...],
    seed: int,
    output: Path | None,
    allowed: tuple[Path, ...],
    quiet: bool,
) -> ExitCode:
    """The gradient of a model as an ordinary ONNX model.

    Its inputs are the model's and the cotangents of its outputs, its outputs the derivatives by
    what --wrt names. Every other command works on it.

    \b
    refine grad net.onnx --wrt x,W1 -o vjp.onnx
    refine grad net.onnx --loss cross-entropy --wrt W2 --step sgd --lr 0.01 -o step.onnx
    refine bound vjp.onnx --input -1..1
    refine grad net.onnx --check

    Exit code 0 where the file was written, 2 for what cannot be differentiated; of --check 0 where
    every rule is right, 1 where one is contradicted, 3 where one was not compared.
    """
    if output is None and not checking:
        raise ModelError("-o says where the gradient is written; --check holds rules instead")
    if inputs and not checking:
        raise ModelError("--input belongs to --check; the gradient is of the whole model")
    if against is not None and not checking:
        raise ModelError("--against belongs to --check")
    if output is not None:
        require_writable(output)
    request = Request(
        of=of, loss=loss, wrt=wrt, step=step, rate=rate, number=number, rules=rules, ones=ones,
        keep=keep, value=value,
    )  # fmt: skip
    graph = load(
        model,
        random=True,
        allowed=allowed,
        given=None if given is None else _arrays(given),
        sizes=sizes_of(shape, dim),
    )
    if checking:
        graph, point = _drawn(graph, inputs, seed)
        if against is not None:
            return _against(graph, point, rules, against, seed, Reporter(quiet))
        return _check(graph, point, rules, seed, Reporter(quiet))
    assert output is not None
    made = request.gradient_of(graph)
    data = serialised(made, f"gradient of {model.name}")
    write_whole(output, lambda file: file.write(data))
    if not quiet:
        Reporter(quiet).lines(_lines(made, output))
    return ExitCode.VERIFIED


def _drawn(graph: Graph, inputs: tuple[str, ...], seed: int) -> tuple[Graph, Mapping[str, Array]]:
    """The graph that is differentiated, and an input drawn from the domain."""
    require_meaning(graph)
    graph = with_newer_operators(graph)
    domain = read_domain(
        graph, DomainOptions(inputs=inputs or _usual(graph)), FORMAT_OF_DTYPE.__getitem__
    )
    box, rng = domain.boxes[0], np.random.default_rng(seed)
    share = {name: rng.random(lo.shape) for name, lo in box.lo.items()}
    point = {
        name: box.nearest(name, lo * (1.0 - share[name]) + box.hi[name] * share[name])
        for name, lo in box.lo.items()
    }
    return graph, point


def _against(
    graph: Graph,
    point: Mapping[str, Array],
    rules: str,
    name: str,
    seed: int,
    reporter: Reporter,
) -> ExitCode:
    made = {"torch": torch_library, "jax": jax_library}.get(name)
    if made is None:
        raise ModelError(f"there is nothing called '{shorten(name)}' here; there is torch, jax")
    try:
        library = made()
    except RuntimeUnavailable as error:
        raise ModelError(f"{error}; nothing was compared") from error
    rows = list(beside(graph, point, library, rules=rules, seed=seed))
    outside = [row for row in rows if row.outside]
    open_ = [row for row in rows if row.why]
    same = sum(row.same for row in rows)
    if outside:
        where = f"{outside[0].node} ({outside[0].op})" if outside[0].op else outside[0].node
        answer = f"violated: {where} is outside of what is proved, the first from the outputs on"
    elif open_:
        answer = f"unknown: {open_[0].node} ({open_[0].op}) was {open_[0].why}"
    else:
        answer = f"every rule is within what is proved, {same} of {len(rows)} to the bit"
    columns = ("node", "operator", "apart", "bound", library.title)
    cells = ((r.node, r.op, _figure(r.apart), _figure(r.bound), r.status) for r in rows)
    reporter.table("rules beside a framework", columns, cells, answer)
    return ExitCode.VIOLATED if outside else ExitCode.UNKNOWN if open_ else ExitCode.VERIFIED


def _figure(value: float) -> str:
    return "—" if np.isnan(value) else f"{value:.1e}" if value else "0"


def _check(
    graph: Graph, point: Mapping[str, Array], rules: str, seed: int, reporter: Reporter
) -> ExitCode:
    rows = list(checked(graph, point, rules=rules, seed=seed))
    wrong = [row for row in rows if row.wrong]
    open_ = [row for row in rows if not row.right and not row.wrong]
    proved = sum(row.identity is True for row in rows)
    if wrong:
        answer = f"violated: the rule of {wrong[0].node} ({wrong[0].op}) is not its derivative"
    elif open_:
        answer = f"unknown: {open_[0].node} ({open_[0].op}) was not compared: {open_[0].why}"
    else:
        answer = f"every rule is right: {proved} proved by Z3, {len(rows) - proved} tested"
    columns = ("node", "operator", "jets", "differences", "status")
    cells = ((r.node, r.op, _power(r.jet), _power(r.difference), r.status) for r in rows)
    reporter.table("rules of differentiation", columns, cells, answer)
    return ExitCode.VIOLATED if wrong else ExitCode.UNKNOWN if open_ else ExitCode.VERIFIED


def _usual(graph: Graph) -> tuple[str, ...]:
    given = [t for t in graph.inputs if t not in graph.random_masks]
    return tuple(f"{t}={'-1..1' if graph.types[t].dtype.is_float else '0..1'}" for t in given)


def _power(apart: Fraction | None) -> str:
    if apart is None:
        return "—"
    return "0" if apart == 0 else f"{float(apart):.1e}"


def _arrays(path: Path) -> Mapping[str, Array]:
    found = stored_arrays(path)
    if not isinstance(found, Mapping):
        raise ModelError(f"{path} is one array without a name; --given takes a .npz file")
    return {name: stored.values() for name, stored in found.items()}


def _lines(graph: Graph, output: Path) -> Iterator[str]:
    for word, names in (("from", graph.inputs), ("to", graph.outputs)):
        parts = (f"{name} {list(graph.types[name].shape)}" for name in names)
        yield f"{word}: {', '.join(parts)}"
    yield f"wrote {output}: {len(graph.order)} nodes"
