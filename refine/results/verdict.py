"""The answer and everything that goes with it, as data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

from encoders.contract.contract import RuntimeContract
from encoders.numbers.enclosure import FloatArray, Interval
from encoders.numbers.radius import is_radius, largest_radius, radius_of
from onnx_import.graph import Array, Graph
from refine.domain.domain import Domain
from refine.domain.properties import Conjunction
from refine.results.answers import ExitCode as ExitCode
from refine.results.answers import Verdict as Verdict
from refine.results.certification import Certification
from refine.results.compared import Compared
from refine.results.obligation import Obligation
from refine.results.relative import RelativeFigures
from refine.results.remedy import Remedy
from refine.results.theorem import Theorem


@dataclass(frozen=True)
class Assumption:
    """Something the result rests on and does not prove."""

    name: str
    text: str


@dataclass(frozen=True)
class Side:
    """A graph, and the contract under which it runs; the contract `exact` reads it as real."""

    graph: Graph
    contract: RuntimeContract


@dataclass(frozen=True)
class Pairing:
    """The specification's tensor of each input and output of the implementation; `said` are those
    that the user paired."""

    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    said: frozenset[str] = frozenset()

    def by(self, pairs: Mapping[str, str]) -> str:
        """How these were matched: `said`, by `name` or by `order`."""
        if any(a in self.said for a in pairs):
            return "said"
        return "name" if all(a == b for a, b in pairs.items()) else "order"


@dataclass(frozen=True)
class RealValue:
    """Exact bounds lo ≤ f_R(x) ≤ hi at one output element."""

    lo: Fraction
    hi: Fraction


@dataclass(frozen=True)
class ErrorEnclosure:
    """Exact bounds lo ≤ |f_rt(x) − f_R(x)| ≤ hi at one output element; `finite` False says that
    the runtime's own value is an infinity or NaN, and lo and hi are then meaningless."""

    lo: Fraction
    hi: Fraction
    finite: bool = True


@dataclass(frozen=True)
class Execution:
    """What one runtime gave on the witness at the witnessed output element; `within` says whether
    its outputs lie in the unsafe set, where a property is claimed, and `slack` how far they are
    from it."""

    runtime: str
    value: float
    error: ErrorEnclosure
    within: bool | None = None
    slack: Fraction | None = None

    def confirms(self, epsilon: Fraction) -> bool:
        """This runtime's own error is above ε too, or its value is not finite; where a property is
        claimed, its outputs lie in the unsafe set."""
        if self.within is not None:
            return self.within or not self.error.finite
        return not self.error.finite or self.error.lo > epsilon


@dataclass(frozen=True)
class Refusal:
    """A runtime that could not be asked, and why."""

    runtime: str
    why: str

    def confirms(self, epsilon: Fraction) -> bool:
        """Always false: nothing ran."""
        return False


@dataclass(frozen=True)
class Reached:
    """How an input stands to the unsafe set of a property, decided on exact numbers.

    `unsafe` is the conjunction that the outputs lie in, or are nearest to; `slack` is
    the largest left side minus right side of its rows. `within` says that they lie in it; `real`
    whether those of the real network do, None where that cannot be told, and `real_slack` is theirs
    at most. `outputs` are all outputs of the execution.
    """

    unsafe: Conjunction
    slack: Fraction
    within: bool
    real: bool | None
    outputs: Mapping[str, Array]
    real_slack: Fraction | None = None


@dataclass(frozen=True)
class ProvedMargin:
    """By how much a conjunction of the unsafe set stays out of reach over the domain, at least:
    of every allowed execution, and of the real network. Negative where it may be reached."""

    unsafe: str
    run: float
    real: float


@dataclass(frozen=True)
class LayerValue:
    """What a counterexample gives after one node, at the element `index` of `tensor` that is
    furthest off: the `value` that was computed, the real one (None: it has none), and the error."""

    name: str
    op: str
    tensor: str
    index: tuple[int, ...]
    value: float
    real: RealValue | None
    error: ErrorEnclosure


@dataclass(frozen=True)
class Witness:
    """An input in the domain, an execution the contract allows, and the exact error it makes.

    `inputs` are arrays of the model's shapes and dtypes; the real network receives `real_inputs`
    (float64, the same numbers unless inputs are rounded; then also rationals, as objects).
    `execution` is a pinned contract; under it the output element `output`[`index`] is `value`,
    while the real one lies in `real`; None: the real network has no value there.

    Of a property, `reached` says how the input stands to its unsafe set.
    In a comparison of two graphs, `real` is what the specification gives; `spec_execution` is
    the pinned contract under which it ran, `exact` where it is read over the reals.
    `relative`: errors, those of `replays` too, are in parts of the magnitude of the real value.
    `layers` are the nodes of the graph that ran, in order, beside its own real values; empty where
    nobody looked.
    """

    inputs: Mapping[str, Array]
    real_inputs: Mapping[str, Array]
    execution: RuntimeContract
    output: str
    index: tuple[int, ...]
    value: float
    real: RealValue | None
    error: ErrorEnclosure
    replays: tuple[Execution | Refusal, ...] = ()
    spec_execution: RuntimeContract | None = None
    reached: Reached | None = None
    layers: tuple[LayerValue, ...] = ()
    relative: bool = False


@dataclass(frozen=True)
class NodeReport:
    """One line of the per-layer account.

    `low` and `high` enclose all its real output values, `error` bounds |d| after it, `local` its
    own rounding error, `change` by how much another layer in its place differs (in a difference),
    `inherited` what it has of its inputs' (each: largest element); `share` is its part, between 0
    and 1, of the bound of the worst output element: `rounding_share` by its own rounding and
    change, the rest by relaxation. `reads` are the tensors among its inputs that vary, `writes` its
    outputs.
    """

    name: str
    op: str
    low: float
    high: float
    error: float
    local: float
    share: float
    obligations: tuple[Obligation, ...] = field(repr=False)
    rounding_share: float = 0.0
    inherited: float = 0.0
    change: float = 0.0
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()

    @property
    def relaxation_share(self) -> float:
        """What its relaxation costs of the bound of the worst output element."""
        return max(self.share - self.rounding_share, 0.0)


@dataclass(frozen=True)
class Tolerance:
    """ε for every output, or one per output name; exact. None where only a bound is asked."""

    common: Fraction | None = None
    by_output: Mapping[str, Fraction] = field(default_factory=dict)

    @property
    def given(self) -> bool:
        """Was a tolerance given at all?"""
        return self.common is not None or bool(self.by_output)

    def of(self, output: str) -> Fraction | None:
        """ε for an output; None where it has none."""
        return self.by_output.get(output, self.common)

    def all_of(self, outputs: Iterable[str]) -> Mapping[str, Fraction | None] | None:
        """ε of each of these outputs; None where none was given at all."""
        return {t: self.of(t) for t in outputs} if self.given else None

    def excess(self, output: str, error: FloatArray) -> float:
        """The largest of the errors divided by ε, about; where there is no ε, the largest."""
        epsilon, largest = self.of(output), largest_radius(error)
        if epsilon is None:
            return largest
        return largest / max(float(min(epsilon, Fraction(10**300))), 1e-300)


@dataclass(frozen=True)
class Conduct:
    """What a runtime of this machine did on a few inputs of the domain, beside the contract.

    `honours` False: it left the contract, on this model; True: it did not where that was compared;
    None: nobody looked. `text` says where, or how much was compared, or why nobody looked.
    """

    runtime: str
    inputs: int
    honours: bool | None
    text: str


@dataclass(frozen=True)
class Shown:
    """The largest error of a runtime on inputs that it was shown, rounded down; infinite for a
    value that is not finite."""

    runtime: str
    error: float


@dataclass(frozen=True)
class Claimed:
    """What was claimed, in words, and what made it: the text after `--claim` and the claim's
    own options."""

    statement: str
    text: str = ""
    given: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, repr=False)
class Result:
    """A verdict with its reason, its bounds, what was assumed and how each part was shown.

    `bool()` is true where the answer is `verified` and no runtime here was seen to leave the
    contract, as the exit code 0 of the command line is, so that `assert result` says what it seems
    to say.
    `claimed` says what was claimed, where it is not that errors are at most ε.
    `batch` is how many rows `graph` was read with, where the witness holds so many. `reals`
    encloses the real values of outputs over the domain, where they are bounded. `remedies` are the
    changes to three nodes that would make the largest bound smaller. Bounds pass the
    gate (`encoders.numbers.radius`): nothing is verified by one that was negative or NaN.
    `relative` has the figures of each output where relative errors are claimed: `bounds` are these.
    A `suggestion` says which options the model's types and the runtime here ask for.
    A `theorem` is what `verified` says: without one, or with bounds below what it proves, there is
    no such answer, and making one raises ValueError.
    """

    verdict: Verdict
    reason: str
    tolerance: Tolerance
    bounds: Mapping[str, FloatArray]
    worst_found: float | None
    domain: Domain
    contract: RuntimeContract
    assumptions: tuple[Assumption, ...]
    nodes: tuple[NodeReport, ...]
    obligations: tuple[Obligation, ...]
    graph: Graph
    seed: int
    seconds: float
    notes: tuple[str, ...] = ()
    witness: Witness | None = None
    witness_file: Path | None = None
    timed_out: bool = False
    spec: Side | None = None
    conduct: Conduct | None = None
    spec_conduct: Conduct | None = None
    batch: int | None = None
    pairing: Pairing | None = None
    compared: Compared | None = None
    shown: Shown | None = None
    margins: tuple[ProvedMargin, ...] | None = None
    claimed: Claimed | None = None
    certification: Certification | None = None
    reals: Mapping[str, Interval] = field(default_factory=dict, repr=False)
    theorem: Theorem | None = None
    remedies: tuple[Remedy, ...] = ()
    suggestion: str | None = None
    relative: tuple[RelativeFigures, ...] = ()

    def __bool__(self) -> bool:
        return self.exit_code is ExitCode.VERIFIED

    @property
    def only_bounded(self) -> bool:
        """Were two models compared, and held to no tolerance: is a bound all that is proved?"""
        verified = self.verdict is Verdict.VERIFIED
        return verified and self.compared is not None and not self.tolerance.given

    @property
    def word(self) -> str:
        """The answer in a word: the verdict, or `bounded` where there was nothing to verify."""
        return "bounded" if self.only_bounded else self.verdict.value

    def __repr__(self) -> str:
        from refine.results.summary import summary_of

        return summary_of(self)

    def _repr_html_(self) -> str:
        """What a notebook shows: the page that `--report` writes, without its data."""
        from refine.results.document import document_of
        from refine.results.page.writing import fragment_of

        return fragment_of(document_of(self))

    def to_json(self) -> str:
        """The document that `--json` writes, as text."""
        from refine.results.document import json_text

        return json_text(self)

    def to_html(self) -> str:
        """The page that `--report` writes: one file, which needs nothing else."""
        from refine.results.document import document_of
        from refine.results.page.writing import page_of

        return page_of(document_of(self))

    @property
    def largest_found(self) -> float | None:
        """The largest error found: by the search, or of a runtime on what it was shown."""
        if self.shown is None or self.worst_found is None:
            return self.worst_found
        return max(self.worst_found, self.shown.error)

    @property
    def found_by(self) -> str | None:
        """Whose error that is."""
        if self.worst_found is None:
            return None
        theirs = self.shown is not None and self.shown.error > self.worst_found
        return self.shown.runtime if self.shown is not None and theirs else "emulated execution"

    def __post_init__(self) -> None:
        if all(is_radius(b) for b in self.bounds.values()):
            self._require_theorem()
            return
        object.__setattr__(self, "bounds", {t: radius_of(b) for t, b in self.bounds.items()})
        said = "a bound was negative or no number, an internal error: please report it"
        object.__setattr__(self, "notes", (*self.notes, said))
        if self.verdict is Verdict.VERIFIED:
            object.__setattr__(self, "verdict", Verdict.UNKNOWN)
            object.__setattr__(self, "reason", said)

    def _require_theorem(self) -> None:
        if self.verdict is not Verdict.VERIFIED:
            return
        shown = self.theorem
        if shown is None or not shown.shows(self.bounds, self.tolerance.all_of(shown.bounds)):
            raise ValueError("nothing is verified without a theorem that shows these bounds")

    @property
    def every_obligation(self) -> tuple[Obligation, ...]:
        """The lemmas and what else is owed by no node, then what each node owes."""
        return (*self.obligations, *(o for node in self.nodes for o in node.obligations))

    @property
    def bound(self) -> float:
        """The largest bound over all output elements."""
        return max((largest_radius(b) for b in self.bounds.values()), default=0.0)

    @property
    def broken(self) -> tuple[Conduct, ...]:
        """What runtimes of this machine did that were seen to leave the contract on the model, the
        implementation's before the specification's."""
        looked = (self.conduct, self.spec_conduct)
        return tuple(c for c in looked if c is not None and c.honours is False)

    @property
    def exit_code(self) -> ExitCode:
        """A violation stands whatever else was seen. Any other answer speaks of runtimes that
        honour the contract, and is no plain one where the runtime here was seen not to."""
        if self.verdict is Verdict.VIOLATED:
            return ExitCode.VIOLATED
        if self.verdict is Verdict.CONTRADICTION:
            return ExitCode.INTERNAL_ERROR
        if self.broken:
            return ExitCode.CONTRACT_BROKEN
        if self.verdict is Verdict.VERIFIED:
            return ExitCode.VERIFIED
        if self.verdict is Verdict.CONDITIONAL:
            return ExitCode.CONDITIONAL
        return ExitCode.TIME_OUT if self.timed_out else ExitCode.UNKNOWN
