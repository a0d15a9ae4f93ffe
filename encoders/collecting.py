"""What the files of a package name, found by walking it: adding a file is all that it takes."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from types import ModuleType
from typing import Protocol, TypeVar


class Named(Protocol):
    """Something that is found by its name."""

    @property
    def name(self) -> str: ...


N = TypeVar("N", bound=Named)


def collected(
    package: ModuleType, constant: str, kind: type[N], *, helpers: bool = False
) -> Iterator[N]:
    """What each module below the package has in its tuple `constant`, all of one kind.

    Raises RuntimeError if two have the same name, TypeError for an entry of another kind,
    AttributeError for a module without the tuple unless
    there are `helpers` among them."""
    seen: set[str] = set()
    for module in pkgutil.walk_packages(package.__path__, prefix=f"{package.__name__}."):
        if module.ispkg:
            continue
        found = importlib.import_module(module.name)
        if helpers and not hasattr(found, constant):
            continue
        for entry in getattr(found, constant):
            if not isinstance(entry, kind):
                raise TypeError(f"{module.name} names what is no {kind.__name__}: {entry!r}")
            if entry.name in seen:
                raise RuntimeError(f"two files of {package.__name__} define {entry.name}")
            seen.add(entry.name)
            yield entry
