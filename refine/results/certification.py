"""Whether a result can be checked by somebody else, as data."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Certification:
    """`outside` says why no certificate of the result can be checked, naming the node or the field
    of the contract that the checker has no meaning for; None where one can. `content` is the
    certificate, where one was asked for, of `leaves` parts of the domain; `file` is where it is."""

    outside: str | None
    content: bytes | None = field(default=None, repr=False)
    leaves: int = 0
    file: Path | None = None
