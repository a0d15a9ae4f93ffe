"""What people can claim of a model: a record for each claim, filled in by one file.

`refine.claims.registry` finds the records; the command line and the Python functions offer what
they find.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TypeAlias

from onnx_import.errors import ModelError
from onnx_import.graph import Graph
from refine.claims.options import Options
from refine.common.told import told
from refine.domain.domain import Domain
from refine.options.settings import require_count
from refine.results.verdict import Result, Side, Tolerance, Witness
from refine.witness.file import Saved

Given: TypeAlias = Mapping[str, object]
Value: TypeAlias = int | str | None


class EpsilonUse(Enum):
    """Whether a claim speaks of an ε."""

    NEEDED = "needed"
    OPTIONAL = "optional"
    NONE = "none"


@dataclass(frozen=True, kw_only=True)
class ClaimOption:
    """An option of a claim: `--name VALUE`, and a keyword in Python.

    With `least` it is an integer from there on, else text. Claims that share an option have equal
    records of it.
    """

    name: str
    default: Value
    metavar: str
    help: str
    least: int | None = None

    def require(self, value: object) -> None:
        """Raises ModelError for what is none of its values."""
        if self.least is not None:
            require_count(self.name, value, least=self.least)
        elif value is not self.default and not isinstance(value, str):
            raise ModelError(f"{self.name}= is text, not {told(value)}")


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What is asked of a claim, everything read.

    `text` is what stands after `--claim`. `side` is the model with its contract, `spec` the other
    one in claims that compare two, and `match` says which of its tensors an input or an output is.
    `given` are the claim's own options by name. `constraint` is the VNN-LIB file that states the
    domain, where one does: it may say more than that. `tell` hears what is being done.
    """

    text: str
    side: Side
    domain: Domain
    tolerance: Tolerance
    options: Options
    given: Given = field(default_factory=dict)
    spec: Side | None = None
    match: Mapping[str, str] | None = None
    constraint: Path | None = None
    tell: Callable[[str], None] = lambda stage: None

    def integer(self, name: str) -> int:
        """An option that is an integer."""
        value = self.given[name]
        assert isinstance(value, int)
        return value

    def words(self, name: str) -> str | None:
        """An option that is text; None where it is not given."""
        value = self.given[name]
        assert value is None or isinstance(value, str)
        return value


@dataclass(frozen=True, kw_only=True)
class ClaimKind:
    """One claim that people can make.

    `name` stands after `--claim`, or any text that it `reads`; `summary` says in a line what is
    claimed. `settle` gives the verdict: through `refine.claims.settle` for all but what joins
    several results. `epsilon` says whether it takes a tolerance, `zero` that this may be 0.
    `compares` marks a claim of two models, which `refine diff` asks; all others are asked by
    `refine check`. `draws`: the model may draw numbers as it runs. `rows(given)` is the number of
    rows of the batch in which it runs, where that is not the file's own. `about(graph, given)` is
    the graph that the claim speaks of, where that is made of the model; `again(saved)` evaluates a
    saved counterexample anew, on the emulator and on runtimes; None where nothing can be.
    """

    name: str
    summary: str
    settle: Callable[[Asked], Result]
    options: tuple[ClaimOption, ...] = ()
    epsilon: EpsilonUse = EpsilonUse.NEEDED
    zero: bool = False
    compares: bool = False
    draws: bool = False
    reads: Callable[[str], bool] = lambda text: False
    rows: Callable[[Given], int | None] = lambda given: None
    about: Callable[[Graph, Given], Graph] | None = None
    again: Callable[[Saved], Witness] | None = None

    def taken(self, every: Given) -> Given:
        """Of the options of all claims, this one's."""
        return {option.name: every[option.name] for option in self.options}
