"""What a verdict may rest on: a list in a file, or everything that is known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from encoders.contract.table import EVIDENCE_WORDS
from onnx_import.errors import ModelError
from refine.axioms.closure import Closure, Kind, Support
from refine.common.told import told
from refine.common.toml_file import read_toml
from refine.common.visible import visible

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
    wrong = [word for word in value if key == "evidence" and word not in EVIDENCE_WORDS]
    if wrong:
        known = ", ".join(EVIDENCE_WORDS)
        raise ModelError(f"{where}: evidence: {visible(wrong[0])}: there are {known}")
    return frozenset(value)
