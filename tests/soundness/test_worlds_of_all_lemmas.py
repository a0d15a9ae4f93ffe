"""Every lemma on computations meets some in one of the files of worlds."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from encoders.lemmas.claims import LEMMAS as OF_CLAIMS
from encoders.lemmas.library import LEMMAS


def test_every_lemma_on_computations_meets_worlds() -> None:
    """Those of the claim speak of boxes, tolerances and unsafe sets."""
    files = sorted(Path(__file__).parent.glob("test_*_worlds.py"))
    met = {name for file in files for name in import_module(file.stem).WORLDS}
    assert {lemma.name for lemma in LEMMAS} - {lemma.name for lemma in OF_CLAIMS} <= met
