"""Finds every claim by walking `refine/claims/kinds`: each module there names its own."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import cache

from encoders.collecting import collected
from onnx_import.errors import ModelError
from refine.claims import kinds
from refine.claims.kind import ClaimKind, ClaimOption, Given, Value
from refine.common.told import told

USUAL = "accuracy"
"""What is claimed where nothing is said."""
DIFFERENCE = "difference"
"""What `refine diff` asks."""
BATCH_INVARIANT = "batch-invariant"
"""What rows of a batch are asked."""
MARGIN = "margin"
"""What `refine bound --margin` asks."""
RELATIVE = "relative"
"""What `refine bound --relative` asks."""


@cache
def claims() -> Mapping[str, ClaimKind]:
    """Every claim by name. Raises RuntimeError if two files claim one, or two claims give one
    option two meanings."""
    found: dict[str, ClaimKind] = {c.name: c for c in collected(kinds, "CLAIMS", ClaimKind)}
    options: dict[str, ClaimOption] = {}
    for option in (o for claim in found.values() for o in claim.options):
        if options.setdefault(option.name, option) != option:
            raise RuntimeError(f"two claims have an option '{option.name}' of their own")
    return found


def checked_claims() -> tuple[ClaimKind, ...]:
    """Those of one model, as `refine check` offers them, the usual one first."""
    single = (c for c in claims().values() if not c.compares)
    return tuple(sorted(single, key=lambda c: (c.name != USUAL, c.name)))


def own_options() -> dict[str, ClaimOption]:
    """The options of the claims of one model, by name."""
    return {option.name: option for claim in checked_claims() for option in claim.options}


def own_defaults() -> dict[str, Value]:
    """These options with their defaults."""
    return {name: option.default for name, option in own_options().items()}


def taken_of(claim: ClaimKind, every: Given) -> Given:
    """Of the options of all claims, this one's. Raises ModelError for one of another claim that is
    given."""
    require_own(claim.name, claim.options, every)
    return claim.taken(every)


def require_own(claim: str, mine: Collection[ClaimOption], every: Given) -> None:
    """Raises ModelError where an option of another claim is given than this one's, which are
    `mine`."""
    for name, option in own_options().items():
        if option not in mine and every.get(name, option.default) != option.default:
            whose = " or ".join(c.name for c in checked_claims() if option in c.options)
            raise ModelError(f"{name} is an option of the claim {whose}, and this is {claim}")


def claim_for(text: object) -> ClaimKind:
    """The claim of one model that a text makes. Raises ModelError for what makes none."""
    offered = checked_claims()
    if isinstance(text, str):
        for claim in offered:
            if text == claim.name or claim.reads(text):
                return claim
    raise ModelError(f"claim= is one of {', '.join(c.name for c in offered)}, not {told(text)}")
