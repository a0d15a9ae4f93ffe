"""Worker processes that know nothing of the script that was started."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.context import SpawnContext, SpawnProcess
from types import ModuleType


class _Detached(SpawnProcess):
    """A fresh interpreter. It would import the script first, and a script without the guard
    `if __name__ == "__main__"` would then begin its work again; what is done here needs none of
    it."""

    def start(self) -> None:
        with _no_script():
            super().start()


class DetachedContext(SpawnContext):
    """What `multiprocessing.get_context` gives, for such processes."""

    Process = _Detached


@contextmanager
def _no_script() -> Iterator[None]:
    script = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = script
