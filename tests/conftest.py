"""Tests bound quickly unless they say otherwise: improving bounds takes the whole budget, and the
runtime is run only where that is what is tested."""

from __future__ import annotations

import gc
import os
import sys
from typing import Any

import pytest

os.environ.setdefault("REFINE_BUDGET", "0")
os.environ.setdefault("REFINE_WORKERS", "1")
os.environ.setdefault("REFINE_CONFORM", "0")

os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # hundreds of processes import these modules
sys.dont_write_bytecode = False

gc.disable()  # thousands of tests are collected, and none of them is garbage

CONFORMANCE = pytest.StashKey[str]()
"""The table that tests/test_conformance.py makes, if it ran."""

TABLE = "conformance"
"""What a process of the suite calls that table when it hands it to the one that prints."""


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


def pytest_sessionfinish(session: pytest.Session) -> None:
    handed = getattr(session.config, "workeroutput", None)
    if handed is not None and CONFORMANCE in session.config.stash:
        handed[TABLE] = session.config.stash[CONFORMANCE]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    if TABLE in (handed := getattr(node, "workeroutput", {})):
        node.config.stash[CONFORMANCE] = handed[TABLE]


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    if CONFORMANCE in config.stash:
        terminalreporter.section("ONNX conformance suite")
        terminalreporter.write_line(config.stash[CONFORMANCE])
