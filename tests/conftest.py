"""Tests bound quickly unless they say otherwise: improving bounds takes the whole budget, and the
runtime is run only where that is what is tested."""

from __future__ import annotations

import os

import pytest

os.environ.setdefault("REFINE_BUDGET", "0")
os.environ.setdefault("REFINE_WORKERS", "1")
os.environ.setdefault("REFINE_CONFORM", "0")

CONFORMANCE = pytest.StashKey[str]()
"""The table that tests/test_conformance.py makes, if it ran."""


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    if CONFORMANCE in config.stash:
        terminalreporter.section("ONNX conformance suite")
        terminalreporter.write_line(config.stash[CONFORMANCE])
