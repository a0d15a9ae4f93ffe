"""Options that a file sets: `[tool.refine]` of a pyproject.toml, or refine.toml, found upwards from
the working directory. A flag goes before the file, and the environment does."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from onnx_import.errors import ModelError

VARIABLE = "REFINE_CONFIG"
_OWN, _SHARED = "refine.toml", "pyproject.toml"
_META = "refine.configured"
_EXCLUSIVE = (
    (("quiet",), ("verbose",)),
    (("search_seconds",), ("no_search",)),
    (("inputs",), ("ranges",), ("range_",), ("vnnlib",), ("center", "radius", "clip"), ("box",)),
)
"""Parameters of which one kind alone goes: kinds, and what belongs to each."""

_NEVER = ("help", "version", "allow")
"""Not for a file: what may be read outside a model's folder is said by who runs the command."""


@dataclass(frozen=True)
class Configured:
    """What a file sets for one command: values by the parameters' names, and their keys."""

    path: Path
    values: Mapping[str, Any]
    keys: Mapping[str, str]


def configure(
    context: click.Context, command: click.Command, commands: Mapping[str, Callable[[], object]]
) -> Mapping[str, Any]:
    """Give the command of this context's group what a file sets as its defaults, which is returned
    by the parameters' names. `commands` loads every command by name. Raises ModelError, naming
    the file, for what means nothing."""
    found = _found()
    if found is None or command.name is None:
        return {}
    path, table = found
    configured = _configured(path, table, command, commands)
    context.meta[_META] = configured
    context.default_map = {command.name: dict(configured.values)}
    return configured.values


def typed_first(context: click.Context, given: Mapping[str, Any]) -> dict[str, Any]:
    """What a command is given, without what a file sets beside another kind of the same that was
    typed."""
    typed = {n for n in given if context.get_parameter_source(n) is ParameterSource.COMMANDLINE}
    dropped = {
        name
        for kinds in _EXCLUSIVE
        if any(typed.intersection(kind) for kind in kinds)
        for kind in kinds
        if not typed.intersection(kind)
        for name in kind
    }
    return without_file(context, given, dropped)


def without_file(
    context: click.Context, given: Mapping[str, Any], names: Iterable[str]
) -> dict[str, Any]:
    """What a command is given, without what a file sets of these parameters: what is built in
    stands for it."""
    found = dict(given)
    for option in context.command.params:
        name = str(option.name)
        ours = name in found and context.get_parameter_source(name) is ParameterSource.DEFAULT_MAP
        if ours and name in names:
            flag = isinstance(option, click.Option) and option.is_flag and not option.multiple
            plain = option.get_default(click.Context(context.command))
            found[name] = () if option.multiple else bool(plain) if flag else plain
            context.set_parameter_source(name, ParameterSource.DEFAULT)
    return found


def origin(context: click.Context) -> str | None:
    """`options from FILE: contract, budget`: what a file set of the running command, beside its
    flags; None where it set nothing."""
    configured: Configured | None = context.meta.get(_META)
    if configured is None:
        return None
    taken = [
        key
        for name, key in configured.keys.items()
        if context.get_parameter_source(name) is ParameterSource.DEFAULT_MAP
        and context.lookup_default(name) == configured.values[name]
    ]
    return f"options from {configured.path}: {', '.join(taken)}" if taken else None


def _found() -> tuple[Path, Mapping[str, Any]] | None:
    """The nearest file that speaks of refine, and its table."""
    chosen = os.environ.get(VARIABLE)
    if chosen is not None:
        return (Path(chosen), _table(Path(chosen)) or {}) if chosen else None
    with suppress(OSError):  # a working directory that is gone
        here = Path.cwd()
        for folder in (here, *here.parents):
            for path in (folder / _OWN, folder / _SHARED):
                table = _table(path) if _speaks_of_refine(path) else None
                if table is not None:
                    return path, table
    return None


def _speaks_of_refine(path: Path) -> bool:
    """Could it? Reading TOML takes longer than looking for a word."""
    try:
        return path.is_file() and (path.name == _OWN or b"refine" in path.read_bytes())
    except OSError:
        return False


def _table(path: Path) -> Mapping[str, Any] | None:
    from refine.common.toml_file import read_toml

    table: Any = read_toml(path)
    if path.name == _SHARED:
        tools = table.get("tool", {})
        table = tools.get("refine") if isinstance(tools, dict) else None
        if table is not None and not isinstance(table, dict):
            raise ModelError(f"{path}: tool.refine is a table of options")
    found: Mapping[str, Any] | None = table
    return found


def _configured(
    path: Path,
    table: Mapping[str, Any],
    command: click.Command,
    commands: Mapping[str, Callable[[], object]],
) -> Configured:
    options, name = dict(_options(command)), str(command.name)
    given: dict[str, Any] = {}
    for key, value in table.items():
        if key in commands and isinstance(value, dict):
            continue
        if key in options:
            given[key] = value
        else:
            every = _every_key(commands)
            if key in commands and key not in every:
                raise ModelError(f"{path}: {key} is a command, whose options are a table")
            _require_known(path, key, "refine", [*commands, *every])
    of_command: Mapping[str, Any] = table.get(name, {})
    for key in of_command:
        _require_known(path, key, f"refine {name}", list(options))
    given.update(of_command)
    context = click.Context(command, info_name=name)
    values = {
        str(options[key].name): _value(path, key, value, options[key], context)
        for key, value in given.items()
    }
    return Configured(path, values, {str(options[key].name): key for key in given})


def _options(command: click.Command) -> Iterator[tuple[str, click.Option]]:
    """Keys, which are long names, and the options that they set."""
    for option in command.params:
        if isinstance(option, click.Option):
            long = [text[2:] for text in option.opts if text.startswith("--")]
            yield from ((key, option) for key in long if key not in _NEVER)


def _every_key(commands: Mapping[str, Callable[[], object]]) -> list[str]:
    """Options of all commands, which are imported to this end."""
    every = (load() for load in commands.values())
    keys = (key for c in every if isinstance(c, click.Command) for key, _ in _options(c))
    return list(dict.fromkeys(keys))


def _require_known(path: Path, key: str, where: str, names: Sequence[str]) -> None:
    if key in names:
        return
    if key in _NEVER:
        raise ModelError(f"{path}: --{key} is given on the command line alone")
    from difflib import get_close_matches

    near = get_close_matches(key.replace("_", "-"), names, n=1, cutoff=0.0)
    meant = f"; the nearest is '{near[0]}'" if near else ""
    raise ModelError(f"{path}: {where} has no option '{key}'{meant}")


def _value(path: Path, key: str, value: Any, option: click.Option, context: click.Context) -> Any:
    """A value of TOML as the option takes it."""
    if option.is_flag and not option.multiple:
        if not isinstance(value, bool):
            raise ModelError(f"{path}: {key} is true or false")
        return value
    several = value if isinstance(value, list) else [value]
    if not option.multiple and isinstance(value, list):
        raise ModelError(f"{path}: {key} takes one value, not a list")
    texts = [_text(path, key, one, option) for one in several]
    found = texts if option.multiple else texts[0]
    try:
        converted = option.type_cast_value(context, found)
        if option.callback is not None and not option.is_eager:
            option.callback(context, option, converted)
    except click.UsageError as error:
        raise ModelError(f"{path}: {key}: {error.message}") from error
    return found


def _text(path: Path, key: str, value: Any, option: click.Option) -> str:
    """As it would be written on the command line; files are relative to this one's folder."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ModelError(f"{path}: {key} takes a number or text")
    text = str(value)
    metavar = option.metavar or ""
    names_file = isinstance(option.type, click.Path) or metavar.split(".")[0] in ("FILE", "DIR")
    may_name = names_file or ("FILE" in metavar and text.endswith((".toml", ".npy")))
    if may_name and text != "-" and not text.startswith("probe:"):
        if "|" in metavar and not text.endswith((".toml", ".npy")):
            return text
        return str(path.parent / text)
    return text
