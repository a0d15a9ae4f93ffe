"""Whether a result is in the language of the checker (`checker/`): the checker itself is asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from checker.arithmetic import Outside
from encoders.contract.contract import RuntimeContract
from encoders.contract.table import contract_table
from onnx_import.graph import Graph
from refine.domain.domain import Domain

if TYPE_CHECKING:
    from checker.model import Model

LARGEST = 2**28  # bytes of a model's file


class NotCertified(Exception):
    """No certificate shows the claim; the message says why."""


@dataclass(frozen=True)
class Subject:
    """A model and a contract as the checker reads them, and how a certificate states them."""

    model: Model
    contract: tuple[bool, bool]
    table: Mapping[str, Any]
    sha256: str


def subject_of(graph: Graph, contract: RuntimeContract, domain: Domain) -> Subject:
    """Raises Outside, naming the node or the field, for what the checker has no meaning for."""
    from checker.model import read_model  # only what is verified asks for these
    from checker.rounding import read_contract

    if graph.source is None or not graph.source.is_file():
        raise Outside("the model was not given as a file")
    if domain.round_inputs:
        raise Outside("inputs that are rounded are not in the checker's language")
    if graph.source.stat().st_size > LARGEST:
        raise Outside("the model's file is larger than 256 MiB")
    data = graph.source.read_bytes()
    found = sha256(data).hexdigest()
    if found != graph.sha256:
        raise Outside("the model's file is not the one that was read")
    shapes = {t: graph.types[t].shape for t in graph.inputs}
    model, table = read_model(data, shapes), contract_table(contract)
    return Subject(model, read_contract(table, model.format), table, found)
