"""How hard is tried, in a word."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click
from click.core import ParameterSource

EFFORTS: Mapping[str, Mapping[str, Any]] = {
    "fast": {"budget": 1.0, "search_seconds": 0.5, "cross_check": "none"},
    "thorough": {"budget": 120.0, "search_seconds": 30.0, "cross_check": "sample"},
}
"""What a preset sets, by the parameters' names, where no flag does."""

_META = "refine.preset"


def _chosen(context: click.Context, parameter: click.Parameter, name: str | None) -> None:
    if name is None:
        return
    earlier = context.default_map or {}
    typed = context.get_parameter_source("preset") is ParameterSource.COMMANDLINE
    context.meta[_META] = name if typed else None
    both = {**earlier, **EFFORTS[name]} if typed else {**EFFORTS[name], **earlier}
    context.default_map = both


preset_option = click.option(
    "--preset",
    type=click.Choice(list(EFFORTS)),
    is_eager=True,
    expose_value=False,
    callback=_chosen,
    help="Defaults of --budget, --search and --z3: fast is 1 s, 0.5 s and none; thorough is "
    "120 s, 30 s and sample.",
)


class Budget(click.Option):
    """An option whose default from the environment a preset of the command line replaces."""

    def resolve_envvar_value(self, ctx: click.Context) -> str | None:
        """None where a preset was asked for."""
        return None if ctx.meta.get(_META) else super().resolve_envvar_value(ctx)


def search_of(context: click.Context, given: Mapping[str, Any]) -> dict[str, Any]:
    """The options with one of --search and --no-search, whichever was typed. Raises UsageError
    where both were."""
    if given["search_seconds"] is None or not given["no_search"]:
        return dict(given)
    typed = {
        name: context.get_parameter_source(name) is ParameterSource.COMMANDLINE
        for name in ("search_seconds", "no_search")
    }
    if typed["search_seconds"] == typed["no_search"]:
        raise click.UsageError("--search does not go with --no-search")
    dropped = "search_seconds" if typed["no_search"] else "no_search"
    return {**given, dropped: None if typed["no_search"] else False}
