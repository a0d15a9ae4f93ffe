"""A saved counterexample, run again."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from pathlib import Path

from onnx_import import load
from onnx_import.errors import ModelError
from onnx_import.graph import Graph
from refine.claims.kind import ClaimKind, Given
from refine.claims.registry import BATCH_INVARIANT, DIFFERENCE, USUAL, claim_for, claims
from refine.results.verdict import Execution, Refusal, Tolerance, Witness
from refine.witness.file import Saved, Trusted, load_witness
from refine.witness.script import script_of
from refine.witness.witness import is_violation


@dataclass(frozen=True, repr=False)
class Replay:
    """What a saved counterexample gave this time; `bool()` is true where it is one still."""

    saved: Saved
    witness: Witness

    @property
    def violated(self) -> bool:
        """Is the exact error of the emulated execution above ε, its value not finite, or do its
        outputs lie in the unsafe set?"""
        if self.witness.reached is not None:
            return is_violation(self.witness, Tolerance())
        limit = self.saved.epsilon if self.saved.epsilon is not None else Fraction(0)
        return not self.witness.error.finite or self.witness.error.lo > limit

    @property
    def runtimes(self) -> tuple[Execution | Refusal, ...]:
        """What each runtime of this machine gave, or why it gave nothing."""
        return self.witness.replays

    def script(self) -> str:
        """A script that shows the violation with numpy and onnxruntime alone. Raises ModelError
        where onnxruntime does not show it."""
        saved = self.saved
        if saved.claim is not None:
            raise ModelError(f"a script shows errors alone, not that '{saved.claim}' is broken")
        return script_of(self.witness, saved.graph, saved.epsilon, saved.spec)

    def __bool__(self) -> bool:
        return self.violated

    def __repr__(self) -> str:
        witness = self.witness
        said = "confirmed" if self.violated else "not confirmed"
        place = f"{witness.output}{list(witness.index)}"
        return f"counterexample {said}: {witness.value!r} at {place}"


def replayed(file: Path, trusted: Trusted) -> Replay:
    """Run it again on the emulator and on real runtimes.

    Raises ModelError for a file that is no counterexample, or one whose model has changed.
    """
    saved = load_witness(file, partial(load, allowed=trusted.allowed), trusted, _about)
    kind = _kind_of(saved)
    if kind.again is None:
        raise ModelError(f"{file}: claim {kind.name} does not say how to replay a counterexample")
    own = {o.name: saved.given.get(o.name, o.default) for o in kind.options}
    for option in kind.options:
        option.require(own[option.name])
    saved = replace(saved, given=own)
    return Replay(saved, kind.again(saved))


def _about(graph: Graph, text: str, given: Given) -> Graph:
    """What the claim of this text speaks of. Raises ModelError for no claim."""
    made = claim_for(text).about
    return graph if made is None else made(graph, given)


def _kind_of(saved: Saved) -> ClaimKind:
    if saved.claim is not None:
        return claim_for(saved.claim)
    if saved.batch is not None:
        return claims()[BATCH_INVARIANT]
    return claims()[USUAL if saved.spec is None else DIFFERENCE]
