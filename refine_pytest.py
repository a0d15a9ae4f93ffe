"""pytest's side: the fixture `assert_close`, and the setting `refine_contract`.

    def test_the_export(assert_close, session, x):
        assert_close(session.run(None, {"x": x}), "model.onnx", {"x": x})

A module of its own, beside the packages: pytest imports it in every project of an environment, and
`refine` where a test asks for the fixture. A folder that hides a package of refine's is no matter
before that.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """The contract that the fixture takes where a test names none."""
    help = "the runtime contract that the fixture assert_close holds numbers to"
    parser.addini("refine_contract", help, default="ieee-any")


@pytest.fixture(name="assert_close")
def assert_close_fixture(pytestconfig: pytest.Config) -> Callable[..., None]:
    """`refine.testing.assert_close` with the contract of the setting `refine_contract`."""
    from refine.testing import assert_close

    return partial(assert_close, contract=pytestconfig.getini("refine_contract"))
