"""What a verdict may rest on: a list in a file, or everything that is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType
from typing import Any

from encoders.contract.table import EVIDENCE_WORDS
from onnx_import.errors import ModelError
from refine.axioms.closure import EXACT_EVALUATION, Closure, Kind, Support
from refine.common.told import told
from refine.common.toml_file import read_toml
from refine.common.visible import visible
from refine.lemmas.library import library
from refine.results.obligation import Discharger

SCHEMA = "refine-permit-1"
KEYS: Mapping[str, tuple[Kind, ...]] = MappingProxyType(
    {
        "evidence": (Kind.FIELD,),
        "assumptions": (Kind.ASSUMPTION,),
        "solvers": (Kind.SOLVER,),
        "evaluations": (Kind.EVALUATION,),
        "lemmas": (Kind.LEMMA, Kind.FORMAT),
    }
)
"""The keys of such a file, each a list of words, and the kinds of nodes that it is about."""
ASSUMPTIONS = (
    *("contract", "graph", "semantics", "inputs", "analyser", "solver", "function", "evidence"),
    *("integers", "kinks", "model", "rules", "specification", "specification's contract"),
    *("stored-numbers", "subnormals", "trusted-margins"),
)
"""The names of everything that a result may assume."""
_MANY = 20  # words, beyond which a message does not list them


@dataclass(frozen=True)
class Permit:
    """The words that are permitted, by kind of node; a kind that is left out is permitted whole."""

    words: Mapping[Kind, frozenset[str]]

    def allows(self, support: Support) -> bool:
        """Nothing may rest on what has a fault."""
        if support.fault:
            return False
        return support.kind not in self.words or support.word in self.words[support.kind]

    def offences(self, closure: Closure) -> tuple[Support, ...]:
        """All that the verdict rests on and must not."""
        return tuple(s for s in closure.supports.values() if not self.allows(s))


EVERYTHING = Permit(MappingProxyType({}))


def read_permit(path: Path) -> Permit:
    """Raises ModelError, in one sentence, for a file that is no such list."""
    table, where = read_toml(path), visible(str(path))
    if table.get("schema", SCHEMA) != SCHEMA:
        raise ModelError(f"{where}: schema: this program reads {SCHEMA}")
    words: dict[Kind, frozenset[str]] = {}
    for key, value in table.items():
        if key == "schema":
            continue
        if key not in KEYS:
            raise ModelError(f"{where}: {visible(key)}: no such key; there are {', '.join(KEYS)}")
        words |= dict.fromkeys(KEYS[key], _words(where, key, value))
    return Permit(MappingProxyType(words))


def _words(where: str, key: str, value: Any) -> frozenset[str]:
    if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
        raise ModelError(f"{where}: {key}: a list of words is wanted, not {visible(told(value))}")
    known = _known(key)
    wrong = [word for word in value if word not in known]
    if wrong:
        close = get_close_matches(wrong[0], known, n=1)
        few = ", ".join(known) if len(known) < _MANY else "those that refine lemmas lists"
        meant = f"did you mean {close[0]}?" if close else f"there are {few}"
        raise ModelError(f"{where}: {key}: {visible(wrong[0])}: {meant}")
    return frozenset(value)


def _known(key: str) -> Sequence[str]:
    """The words that a key may have."""
    match key:
        case "evidence":
            return tuple(EVIDENCE_WORDS)
        case "assumptions":
            return ASSUMPTIONS
        case "solvers":
            return ("z3",)
        case "evaluations":
            return (Discharger.ENCLOSURE.value, EXACT_EVALUATION)
    return tuple(dict.fromkeys(name for lemma in library() for name in _names(lemma.name)))


def _names(name: str) -> tuple[str, ...]:
    """A lemma's name, and that of its family where it speaks of one format."""
    return (name, name.partition("[")[0].strip())
