"""What a user writes of a contract: a preset, a file, or a runtime to probe."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from encoders.contract.contract import RuntimeContract
from onnx_import import load
from onnx_import.graph import Sizes
from refine.options.options import changed_contract, contract_of
from refine.options.runtime_choice import runtime_choice

_PROBE = "probe:"


def contract_for(
    name: str,
    fmt: str | None,
    subnormals: str | None,
    model: Path,
    allowed: tuple[Path, ...] = (),
    batch: int | None = None,
    sizes: Sizes | None = None,
) -> RuntimeContract:
    """A preset, a contract file, or `probe:RUNTIME`, with the user's changes.

    With `batch` the model is probed with so many rows, too: libraries decide by the shape; `sizes`
    are of the dimensions that it leaves open. Raises ModelError for what is none of these.
    """
    if not name.startswith(_PROBE):
        return contract_of(name, fmt, subnormals)
    from gpu_check.probe.probed_contract import agreed_rules
    from refine.options.probing import probed

    choice = runtime_choice(name.removeprefix(_PROBE))
    graph = load(model, allowed=allowed, sizes=sizes)
    found = probed(graph, choice).contract
    if batch is not None:
        many = probed(load(model, batch, allowed=allowed, sizes=sizes), choice).contract
        found = replace(found, rules=agreed_rules(found.rules, many.rules))
    return changed_contract(found, fmt, subnormals)
