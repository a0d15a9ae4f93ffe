"""A first look at a model: the contract that its types and the runtime here ask for, a domain read
off samples, a bound, a tolerance, which labels are stable, and which nodes cost most."""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from encoders.contract.contract import RuntimeContract
from encoders.contract.presets import IEEE_ANY, PRESETS
from encoders.numbers.enclosure import FloatArray, add_up
from onnx_import import is_onnx
from onnx_import.errors import ModelError
from onnx_import.graph import Array, DType, Graph, Sizes
from onnx_import.passes.folding.tables import rows_picked
from refine.claims.conduct import conduct_on, inputs_of
from refine.claims.kinds.accuracy import check
from refine.claims.options import Options
from refine.domain.domain import DomainOptions, read_domain
from refine.everyday.numbers import device_numbers
from refine.everyday.points import Given, given_by
from refine.everyday.tolerances import Tolerances, dearest, tolerances
from refine.lemmas.cache import default_directory
from refine.options.models import read_as
from refine.options.optimised import optimised_into
from refine.options.sizes import shown_by, written
from refine.results.verdict import Conduct, NodeReport, Result, Tolerance

_ASSUMED = "-1..1"  # where nothing is said of the inputs
_DIGITS = 3  # of the ends of a domain that is read off samples
_MOST_POINTS = 8  # samples whose tolerance is proved
_FEW_SAMPLES = 8  # from so many on their ranges are looked at one by one
_MUCH_NARROWER = 4.0  # than that of all features: a range of its own
_BUDGET = 5.0  # seconds for the bound over the domain
_SHORT = (DType.FLOAT16, DType.BFLOAT16)


@dataclass(frozen=True)
class Setting:
    """A contract, what of the file is read under it (after onnxruntime optimised it so far, where
    a `level` says so), and what the runtime here did beside it."""

    level: str | None
    contract: RuntimeContract
    graph: Graph
    conduct: Conduct | None

    @property
    def options(self) -> tuple[str, ...]:
        """As a user writes it on the command line."""
        optimised = () if self.level is None else ("--as-optimised", self.level)
        default = self.contract.name == IEEE_ANY.name
        return optimised if default else (*optimised, "--contract", self.contract.name)


@dataclass(frozen=True)
class Label:
    """Of how many samples no execution changes which score of an output is the largest."""

    output: str
    stable: int
    points: int


@dataclass(frozen=True)
class Advice:
    """What is advised of a model. `domain` is `--input` of the command line, one for each input,
    which was `assumed` where neither samples nor the model say anything, or `boxed`, the smallest
    box of the samples, where features have ranges of their own; `sized` says on the
    command line what the model leaves open of its shapes. There is no `result` as long as nothing
    has been bounded over the domain."""

    model: Path
    samples: Path | None
    setting: Setting
    domain: tuple[str, ...]
    assumed: bool
    result: Result | None
    at_samples: Tolerances | None
    labels: tuple[Label, ...]
    sized: tuple[str, ...] = ()
    boxed: bool = False

    @property
    def over(self) -> tuple[str, ...]:
        """The domain, as options of a command line."""
        if self.boxed:
            return (f"--box={self.samples}",)
        return tuple(f"--input={text}" for text in self.domain)

    @property
    def graph(self) -> Graph:
        """What of the file is spoken of."""
        return self.setting.graph

    @property
    def bound(self) -> float:
        """The bound over the domain; +∞ where none is known."""
        return math.inf if self.result is None else self.result.bound

    def command(self, name: str, *more: str) -> str:
        """A command line that asks about the model under the advised contract."""
        return shlex.join(
            ["refine", name, str(self.model), *self.sized, *more, *self.setting.options]
        )

    @property
    def conforming(self) -> str:
        """The command that holds the runtime here to the contract."""
        name = self.setting.contract.name  # which conform is always told
        named = [] if "--contract" in self.setting.options else ["--contract", name]
        return self.command("conform", *self.over, *named)

    @property
    def dearest(self) -> list[NodeReport]:
        """The nodes worth fixing, those that cost most."""
        return [] if self.result is None else dearest(self.result)


def advised(
    model: Path,
    samples: Path | None,
    *,
    allowed: tuple[Path, ...] = (),
    sizes: Sizes | None = None,
    timeout: float | None = None,
    tell: Callable[[str], None] = lambda stage: None,
    so_far: Callable[[Advice], None] = lambda advice: None,
) -> Advice:
    """Advice on a model file. What is known before the bounds, which may take long, is heard by
    `so_far`. Raises ModelError for what cannot be read or has no meaning."""
    arrays = None if samples is None else device_numbers(samples)
    said = sizes or Sizes()
    graph = read_as(model, allowed=allowed, sizes=shown_by(said, arrays or {}))
    sized = _sized(model, graph, said, allowed) if arrays else tuple(written(said))
    given = None
    if arrays is not None:
        given = given_by(arrays, graph, IEEE_ANY.format_of, str(samples), whole=True)
    ranges, assumed = ranges_of(graph, given)
    points = _points(graph, given, ranges)
    setting = setting_for(model, graph, points, allowed, tell)
    graph, contract = setting.graph, setting.contract
    boxed = samples is not None and given is not None and _of_features(graph, arrays, given)
    found = Advice(model, samples, setting, ranges, assumed, None, None, (), sized, boxed)
    so_far(found)
    if given is not None:
        tell("tolerances at the samples")
        few = range(min(len(given.points), _MOST_POINTS))
        domains = [given.domain(graph, k, contract.format_of) for k in few]
        at_samples = tolerances(graph, contract, domains, source=str(samples))
        found = replace(found, at_samples=at_samples, labels=tuple(_labels(at_samples)))
        so_far(found)
    tell("bounds over the domain")
    asked = DomainOptions(box=str(samples)) if boxed else DomainOptions(inputs=ranges)
    domain = read_domain(graph, asked, contract.format_of)
    effort = Options(cross_check=None, cache=default_directory(), budget=_BUDGET, timeout=timeout)
    return replace(found, result=check(graph, domain, contract, Tolerance(), effort))


def _sized(model: Path, graph: Graph, said: Sizes, allowed: tuple[Path, ...]) -> tuple[str, ...]:
    """What a command has to say of the shapes: what was said, or those of the samples, where the
    model cannot be read without."""
    try:
        read_as(model, allowed=allowed, sizes=said)
    except ModelError:
        return tuple(written(Sizes(shapes={t: graph.types[t].shape for t in graph.inputs})))
    return tuple(written(said))


def ranges_of(graph: Graph, given: Given | None) -> tuple[tuple[str, ...], bool]:
    """Ranges that hold the samples, with few digits; else what the model states, else a guess."""
    if given is None:
        if set(graph.ranges) >= set(graph.inputs):
            return (), False
        return tuple(f"{name}={_guess(graph, name)}" for name in graph.inputs), True
    found = []
    for name in graph.inputs:
        every = np.stack([p[name] for p in given.points])
        low = _few_digits(float(np.min(every, initial=np.inf)), ROUND_FLOOR)
        high = _few_digits(float(np.max(every, initial=-np.inf)), ROUND_CEILING)
        found.append(f"{name}={low}..{high}")
    return tuple(found), False


def _of_features(graph: Graph, arrays: Mapping[str, Array] | None, given: Given) -> bool:
    """Are the inputs rows of features, whose ranges in the samples are not much alike? Pixels and
    samples of sound are all of one kind, however few of them were seen."""
    if set(arrays or ()) != set(graph.inputs) or len(given.points) < _FEW_SAMPLES:
        return False
    apart = False
    for name in graph.inputs:
        kind = graph.types[name]
        if not kind.dtype.is_float or len(kind.shape) > 2 or kind.size != kind.shape[-1]:
            return False
        every = np.stack([p[name].reshape(-1) for p in given.points])
        low, high = np.min(every, axis=0), np.max(every, axis=0)
        whole = float(np.max(high) - np.min(low))
        apart = apart or bool(np.any(high - low < whole / _MUCH_NARROWER))
    return apart


def _guess(graph: Graph, name: str) -> str:
    """A range for an input of which nothing is said: the rows of the table that it picks from,
    truth values, or what inputs of networks often are."""
    if graph.types[name].dtype is DType.BOOL:
        return "0..1"
    rows = rows_picked(graph, name)
    return _ASSUMED if rows is None else f"0..{rows - 1}"


def _few_digits(value: float, rounding: str) -> str:
    return format(Context(_DIGITS, rounding).plus(Decimal(value)).normalize(), "f")


def _points(graph: Graph, given: Given | None, ranges: tuple[str, ...]) -> dict[str, FloatArray]:
    """Inputs on which the runtime is looked at, (inputs, *shape)."""
    count = inputs_of(graph)
    if given is not None:
        return {t: np.stack([p[t] for p in given.points[:count]]) for t in graph.inputs}
    box = read_domain(graph, DomainOptions(inputs=ranges), IEEE_ANY.format_of).boxes[0]
    return box.sample(np.random.default_rng(0), count)


def setting_for(
    model: Path,
    graph: Graph,
    points: Mapping[str, FloatArray],
    allowed: tuple[Path, ...],
    tell: Callable[[str], None],
) -> Setting:
    """The first contract that the runtime here was not seen to leave; the default, where it leaves
    all."""
    settings: list[Setting] = []
    for level, name in _offered(graph, model):
        tell(f"is the runtime here within {name}?")
        contract = PRESETS[name]
        try:
            with TemporaryDirectory(prefix="refine-") as folder:
                source = model
                if level is not None:
                    source = optimised_into(model, level, Path(folder) / model.name, allowed)
                read = read_as(source, contract, allowed=allowed, sizes=graph.sizes)
                conduct = conduct_on(read, contract, points)
        except ModelError:
            continue
        settings.append(Setting(level, contract, replace(read, source=model), conduct))
        if conduct is None or conduct.honours is not False:
            return settings[-1]
    if not settings:
        raise ModelError(f"{model}: no contract was found under which it has a meaning")
    return settings[-1]


def _offered(graph: Graph, model: Path) -> Iterator[tuple[str | None, str]]:
    """Levels of onnxruntime's optimisation and presets, those that allow less first."""
    short = in_16_bits(graph)
    if short and is_onnx(model):
        yield "none", "ort-cpu"
        yield "none", IEEE_ANY.name
    if short:
        kinds = {k.dtype for k in graph.types.values()}
        yield None, "fp16" if DType.FLOAT16 in kinds else "bf16"
    yield None, "ort-cpu"
    yield None, IEEE_ANY.name


def in_16_bits(graph: Graph, *, of_16_bits: bool = False) -> bool:
    """Does a node give numbers of 16 bits: `of_16_bits`, and not of a cast?"""

    def short(tensors: Iterable[str]) -> bool:
        return any(graph.types[t].dtype in _SHORT for t in tensors if t)

    return any(short(n.outputs) and (not of_16_bits or short(n.inputs)) for n in graph.order)


def _labels(found: Tolerances) -> Iterator[Label]:
    """Outputs that are rows of scores, and the samples at which one score stays the largest."""
    for name in found.graph.outputs:
        kind = found.graph.types[name]
        if not kind.dtype.is_float or kind.size < 2 or kind.size != kind.shape[-1]:
            continue
        stable = 0
        for part in found.parts:
            a = part.of(name)
            low = -add_up(-a.real.lo, a.bound).reshape(-1)
            first = int(np.argmax(low))
            others = np.delete(add_up(a.real.hi, a.bound).reshape(-1), first)
            stable += bool(np.all(low[first] > others))
        yield Label(name, stable, len(found.parts))
