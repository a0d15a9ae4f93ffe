"""Every model under ../shared/models: does it import, run like onnxruntime, and get a bound?

    python benchmarks/corpus.py [PATTERN ...] [--budget SECONDS] [--save FILE]

Each file is bounded on the first VNN-LIB box that is its own (its folder's, if none bears its
name; a ball of radius 0.01 around ½ where there is none), taking real inputs, rounded, where a
decimal fixes an input that is no float32; where no finite bound is found there, also on the middle
of the box, a 64th as wide (or 64 times less). Small files come first, each is saved when it is
done, and a run goes on from what FILE holds. Under `ort-cpu` it is emulated at random points of the
domain beside onnxruntime (no graph optimisations, one thread): how many outputs agree in every
bit, the largest difference between the two, and the largest error of onnxruntime, which the bound
must exceed. Where not all agree, the contract is probed on the model, and the emulation repeated
under that, if it pins every schedule.
"""

from __future__ import annotations

import argparse
import fnmatch
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import onnx
from measuring import MODELS, earlier, one_pass, save
from onnx import TensorProto, helper
from rich.console import Console
from rich.table import Table

from encoders.arithmetic.approximate_field import ApproximateReals
from encoders.contract.contract import RuntimeContract
from encoders.contract.members import members
from encoders.contract.presets import ORT_CPU, PRESETS
from gpu_check.emulator.emulator import emulate
from gpu_check.emulator.exact import evaluate_real
from gpu_check.runtimes.runtimes import OnnxRuntime
from onnx_import import load
from onnx_import.errors import ModelError
from onnx_import.graph import Array, Graph
from refine.claims.kinds.accuracy import check
from refine.claims.options import Options
from refine.domain.box import Box
from refine.domain.domain import Domain, DomainError, DomainOptions, read_domain
from refine.lemmas.cache import default_directory
from refine.options.probing import probed
from refine.options.runtime_choice import runtime_choice
from refine.results.verdict import Tolerance

CONTRACTS = ("ieee-any", "ort-cpu")
WIDTHS = (1.0, 2.0**-6, 2.0**-12)
COLUMNS = (
    "network",
    "domain",
    "contract",
    "bound",
    "found",
    "ratio",
    "s",
    "ort s",
    "same bits",
    "probed",
)


@dataclass(frozen=True)
class Agreement:
    """The emulated `ort-cpu` beside onnxruntime at `points` random points.

    `equal` of `elements` output elements have the same bits; `difference` is the largest between
    the two, `error` onnxruntime's largest distance from the real network (by float64).
    """

    points: int
    elements: int
    equal: int
    difference: float
    error: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("patterns", nargs="*", default=["*"], help="of files, such as 'acasxu/*'")
    parser.add_argument("--budget", type=float, default=0.0)
    parser.add_argument("--timeout", type=float, default=1200.0)
    parser.add_argument("--points", type=int, default=100)
    parser.add_argument("--models", type=Path, default=MODELS)
    parser.add_argument("--save", type=Path)
    given = parser.parse_args()
    options = Options(
        None, default_directory(), timeout=given.timeout, budget=given.budget, workers=1
    )
    table = Table(title=f"every model, budget {given.budget:g} s, {given.points} points")
    for title in COLUMNS:
        table.add_column(title)
    kept = (
        [] if given.save is None else earlier(given.save, "network", "domain", "contract").values()
    )
    rows: list[Mapping[str, object]] = list(kept)
    done = {row["network"] for row in rows}
    for path in chosen(given.models, given.patterns):
        if name_of(given.models, path) in done:
            continue
        for found in measured(given.models, path, options, given.points):
            rows.append(found)
            print(*shown(found), sep="  ", flush=True)
        if given.save is not None:
            rows.sort(key=lambda row: str(row["network"]))
            save(given.save, rows, budget=given.budget, points=given.points)
    for row in rows:
        table.add_row(*shown(row))
    Console(width=160).print(table)


def chosen(models: Path, patterns: list[str]) -> list[Path]:
    """The files that fit a pattern, small ones first."""
    every = sorted(models.rglob("*.onnx"), key=lambda path: (path.stat().st_size, path))
    return [
        path
        for path in every
        if any(fnmatch.fnmatch(str(path.relative_to(models)), p) for p in patterns)
    ]


def name_of(models: Path, path: Path) -> str:
    return str(path.relative_to(models).with_suffix(""))


def measured(
    models: Path, path: Path, options: Options, points: int
) -> Iterator[dict[str, object]]:
    """One row per contract and domain; a file that is refused gets one that says why."""
    name = name_of(models, path)
    try:
        graph = load(path, random=True)
    except ModelError as error:
        yield {"network": name, "domain": "", "contract": "", "refused": str(error)}
        return
    runtime, domain = runtime_of(path, graph), domain_of(path, graph)
    pass_seconds = one_pass(runtime, graph)
    for width in WIDTHS:
        here = middle(domain, width)
        agreement = agreement_of(graph, runtime, here, points)
        again = equal_when_probed(graph, runtime, here, agreement)
        results = {c: check(graph, here, PRESETS[c], Tolerance(), options) for c in CONTRACTS}
        for contract, result in results.items():
            found = result.worst_found or 0.0
            yield {
                "network": name,
                "domain": here.source.replace(f"{models}/", ""),
                "round_inputs": here.round_inputs,
                "contract": contract,
                "bound": float_or_text(result.bound),
                "worst_found": found,
                "ratio": float_or_text(result.bound / found if found else np.inf),
                "seconds": result.seconds,
                "onnxruntime_seconds": pass_seconds,
                "onnxruntime_within_bound": max(agreement.difference, agreement.error)
                <= result.bound,
                **asdict(agreement),
                "equal_probed": again,
            }
        if all(np.isfinite(result.bound) for result in results.values()):
            return


def runtime_of(path: Path, graph: Graph) -> OnnxRuntime:
    """onnxruntime on the file; where it draws masks, they are outputs too."""
    if not graph.random_masks:
        return OnnxRuntime(path)
    proto = onnx.load(path)
    dropouts = [node for node in proto.graph.node if node.op_type == "Dropout"]
    for node, mask in zip(dropouts, graph.random_masks, strict=True):
        node.output[1:] = [mask]
        proto.graph.output.append(helper.make_tensor_value_info(mask, TensorProto.BOOL, None))
    return OnnxRuntime(proto.SerializeToString())


def middle(domain: Domain, width: float) -> Domain:
    """The middles of its boxes, of this width against the whole."""
    if width == 1.0:
        return domain
    boxes = tuple(_shrunk(box, width) for box in domain.boxes)
    source = f"the middle {width:g} of {domain.source}"
    return Domain(boxes, source)


def _shrunk(box: Box, width: float) -> Box:
    lo, hi = {}, {}
    for name, low in box.lo.items():
        centre, radius = 0.5 * low + 0.5 * box.hi[name], 0.5 * width * (box.hi[name] - low)
        lo[name] = box.nearest(name, centre - radius)
        hi[name] = box.nearest(name, centre + radius)
    return replace(box, lo=lo, hi=hi, real_lo=lo, real_hi=hi)


def domain_of(path: Path, graph: Graph, contract: RuntimeContract = ORT_CPU) -> Domain:
    """The first box that goes with a model, or a small ball."""
    beside = sorted(path.parent.glob("*.vnnlib"))
    own = [p for p in beside if p.stem.startswith(path.stem)]
    if not beside:
        return read_domain(graph, DomainOptions(center="0.5", radius="0.01"), contract.format_of)
    source = str((own or beside)[0])
    try:
        return read_domain(graph, DomainOptions(vnnlib=source), contract.format_of)
    except DomainError:
        whole = DomainOptions(vnnlib=source, round_inputs=True)
        return read_domain(graph, whole, contract.format_of)


def equal_when_probed(
    graph: Graph, runtime: OnnxRuntime, domain: Domain, agreement: Agreement
) -> int | str:
    """Output elements with the same bits under the contract probed on the model, or why none is
    computed; as they are where all agree already."""
    if agreement.equal == agreement.elements:
        return agreement.equal
    contract = probed(graph, runtime_choice("onnxruntime")).contract
    try:
        return agreement_of(graph, runtime, domain, agreement.points, contract).equal
    except ValueError as error:  # an OpenSchedule too
        return str(error)


def agreement_of(
    graph: Graph,
    runtime: OnnxRuntime,
    domain: Domain,
    points: int,
    contract: RuntimeContract = ORT_CPU,
) -> Agreement:
    """onnxruntime beside its emulation and beside the real network, at points it can receive."""
    sampled = domain.boxes[0].sample(np.random.default_rng(0), points)
    inputs = {t: x.astype(graph.types[t].dtype.numpy) for t, x in sampled.items()}
    shapes = runtime.input_shapes()
    runs = [
        runtime.run({t: inputs[t][i].reshape(shape) for t, shape in shapes.items()})
        for i in range(points)
    ]
    for mask in graph.random_masks:
        masks = np.stack([np.asarray(run[mask]) for run in runs])
        inputs[mask] = masks.astype(graph.types[mask].dtype.numpy)
        sampled[mask] = masks.astype(np.float64)
    emulated = emulate(graph, inputs, members(contract)[0])
    real = evaluate_real(graph, sampled, ApproximateReals())
    elements = equal = 0
    difference = error = 0.0
    for i, actual in enumerate(runs):
        for tensor in graph.outputs:
            ran = np.asarray(actual[tensor]).reshape(graph.types[tensor].shape)
            ours = emulated[tensor][i]
            equal += int(np.count_nonzero(same_bits(ran, ours)))
            elements += ran.size
            wide = ran.astype(np.float64)
            exact = np.broadcast_to(np.asarray(real[tensor], np.float64), (points, *wide.shape))[i]
            difference = max(difference, float(np.max(np.abs(wide - ours), initial=0.0)))
            error = max(error, float(np.max(np.abs(wide - exact), initial=0.0)))
    return Agreement(points, elements, equal, difference, error)


def same_bits(a: Array, b: Array) -> Array:
    """Equal, with the sign of zero."""
    same: Array = (a == b) & (np.signbit(a) == np.signbit(b))
    return same


def float_or_text(value: float) -> float | str:
    """JSON has no infinity."""
    return float(value) if np.isfinite(value) else str(value)


def short(domain: str) -> str:
    part, of, source = domain.rpartition(" of ")
    return part + of + Path(source.split(" around")[0]).name


def shown(row: Mapping[str, object]) -> tuple[str, ...]:
    if "refused" in row:
        return (str(row["network"]), f"refused: {row['refused']}")
    rounded = " (rounded)" if row["round_inputs"] else ""
    beyond = "" if row["onnxruntime_within_bound"] else " BEYOND THE BOUND"
    numbers = (row[k] for k in ("bound", "worst_found", "ratio", "seconds", "onnxruntime_seconds"))
    return (
        str(row["network"]),
        short(str(row["domain"])) + rounded,
        str(row["contract"]),
        *(f"{float(str(v)):.3g}" for v in numbers),
        f"{row['equal']}/{row['elements']}{beyond}",
        str(row["equal_probed"]),
    )


if __name__ == "__main__":
    main()
