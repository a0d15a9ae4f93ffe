"""Every lemma meets what it speaks of in one of the files of worlds."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from encoders.lemmas.library import LEMMAS


def test_every_lemma_meets_worlds() -> None:
    files = sorted(Path(__file__).parent.glob("test_*_worlds.py"))
    met = {name for file in files for name in import_module(file.stem).WORLDS}
    assert {lemma.name for lemma in LEMMAS} <= met
