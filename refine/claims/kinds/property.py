"""A VNN-LIB property, of what runs: no allowed execution reaches the file's unsafe set."""

from __future__ import annotations

from pathlib import Path

from onnx_import.errors import ModelError
from refine.claims.kind import Asked, ClaimKind, EpsilonUse
from refine.claims.outputs.with_leaves import MARGIN_FROM
from refine.claims.unsafe import kept_out, reached_again
from refine.domain.domain import tensors_of
from refine.domain.properties import read_property, received
from refine.results.verdict import Result


def _settled(asked: Asked) -> Result:
    if asked.constraint is None:
        raise ModelError("the claim 'property' needs --vnnlib FILE, whose unsafe set it speaks of")
    graph, contract = asked.side.graph, asked.side.contract
    unsafe = read_property(asked.constraint, tensors_of(graph))
    unsafe = received(unsafe, graph, asked.domain)
    if unsafe.real and not contract.exact:
        raise ModelError(
            f"{asked.constraint} speaks of a network of real numbers; ask with --contract exact"
        )
    many = len(unsafe.unsafe)
    parts = "1 conjunction" if many == 1 else f"any of {many} conjunctions"
    statement = f"no execution reaches the unsafe set of {unsafe.source} ({parts})"
    leaves, stated = asked.words(MARGIN_FROM.name), asked.constraint
    if leaves is None:
        return kept_out(asked, unsafe, statement, stated=stated)
    return kept_out(asked, unsafe, statement, leaves=Path(leaves), stated=stated)


CLAIMS = (
    ClaimKind(
        name="property",
        summary="no execution reaches the unsafe set of the VNN-LIB file",
        settle=_settled,
        again=reached_again,
        epsilon=EpsilonUse.NONE,
        options=(MARGIN_FROM,),
    ),
)
