"""Contracts in TOML files."""

from __future__ import annotations

from pathlib import Path

import tomli_w

from encoders.contract.contract import RuntimeContract
from encoders.contract.table import ContractError, contract_of_table, contract_table
from gpu_check.common.writing import write_text
from onnx_import.errors import ModelError
from refine.common.toml_file import read_toml


def read_contract(path: Path) -> RuntimeContract:
    """The contract in a file. Raises ModelError, naming file and field, if there is none."""
    try:
        return contract_of_table(read_toml(path))
    except ContractError as error:
        raise ModelError(f"{path}: {error}") from error


def contract_text(contract: RuntimeContract) -> str:
    """The contract as TOML, which `read_contract` reads back."""
    return tomli_w.dumps(contract_table(contract))


def write_contract(contract: RuntimeContract, path: Path) -> None:
    """Write the file whole or not at all. Raises OSError."""
    text = contract_text(contract)
    write_text(path, text)
