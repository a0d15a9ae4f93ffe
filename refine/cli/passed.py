"""Options of `refine check` that commands of many claims have too."""

from __future__ import annotations

import click

from refine.cli.check import check_command

_PASSED = (
    *("contract", "fmt", "subnormals", "as_optimised", "workers", "cluster", "seed"),
    *(
        "search_seconds",
        "no_search",
        "cross_check",
        "no_cache",
        "conform",
        "allowed",
        "shape",
        "dim",
    ),
)


def passing(command: click.Command) -> click.Command:
    """The command with the options of `refine check` that each of its claims is given."""
    command.params += [p for p in check_command.params if p.name in _PASSED]
    return command
