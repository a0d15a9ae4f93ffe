"""Lemmas proved once for a whole run of a fuzzer, not once for every graph."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from unittest.mock import patch

import refine.check
import refine.diff
from refine.lemmas.cache import default_directory
from refine.lemmas.library import prove_lemmas
from refine.obligation import Obligation


@contextmanager
def lemmas_once() -> Iterator[None]:
    @cache
    def proved(name: str) -> Obligation:
        return prove_lemmas((name,), default_directory())[0]

    def remembered(names: Iterable[str], directory: Path | None) -> tuple[Obligation, ...]:
        return tuple(map(proved, names))

    with (
        patch.object(refine.check, "prove_lemmas", remembered),
        patch.object(refine.diff, "prove_lemmas", remembered),
    ):
        yield
