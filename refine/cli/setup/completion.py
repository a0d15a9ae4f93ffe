"""`refine completion`: what a shell needs to complete commands, options and their values. It is
made of the commands themselves, so that a shell asks nobody while somebody types."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence

import click

from encoders.contract.presets import PRESETS
from refine.report.console import Reporter
from refine.results.answers import ExitCode

_SHELLS = ("bash", "zsh", "fish")
_CONTRACTS = ("contract", "spec_contract")
_ZSH = "autoload -U +X bashcompinit && bashcompinit\n"
_BASH = """_refine() {
  local current="${COMP_WORDS[COMP_CWORD]}" last="${COMP_WORDS[COMP_CWORD-1]}" command="" i words=""
  for ((i = 1; i < COMP_CWORD; i++)); do
    case "${COMP_WORDS[i]}" in
      -*) ;;
      *) command="${COMP_WORDS[i]}"; break ;;
    esac
  done
  case "$command $last" in
%(values)s
    *)
      case "$command" in
%(options)s
      esac ;;
  esac
  case "$words" in
    FILES) COMPREPLY=() ;;
    --*) [[ "$current" == -* ]] && COMPREPLY=( $(compgen -W "$words" -- "$current") ) ;;
    *) COMPREPLY=( $(compgen -W "$words" -- "$current") ) ;;
  esac
}
complete -o default -F _refine refine
"""


@click.command("completion")
@click.argument("shell", type=click.Choice(_SHELLS))
def completion_command(shell: str) -> ExitCode:
    """Print what a shell needs to complete commands, options and their values.

    \b
    refine completion bash > ~/.local/share/bash-completion/completions/refine
    refine completion fish > ~/.config/fish/completions/refine.fish
    refine completion zsh >> ~/.zshrc

    In zsh, compinit comes before it.
    """
    from refine.cli.main import SUMMARIES, cli

    context = click.Context(cli)
    commands = {name: cli.get_command(context, name) for name in SUMMARIES}
    known = {name: c for name, c in commands.items() if c is not None}
    Reporter().text(_fish(known, SUMMARIES) if shell == "fish" else _bash(known, shell == "zsh"))
    return ExitCode.VERIFIED


def _options(command: click.Command) -> Iterator[click.Option]:
    context = click.Context(command)
    for parameter in command.get_params(context):
        if isinstance(parameter, click.Option) and not parameter.hidden:
            yield parameter


def _values(option: click.Parameter) -> Sequence[str]:
    """What an option may be, where that is a list of words."""
    if option.name in _CONTRACTS:
        return list(PRESETS)
    if isinstance(option.type, click.Choice):
        return [str(choice) for choice in option.type.choices if " " not in str(choice)]
    return []


def _arguments(command: click.Command) -> Sequence[str]:
    """The words that an argument may be."""
    return [v for p in command.params if isinstance(p, click.Argument) for v in _values(p)]


def _bash(commands: Mapping[str, click.Command], zsh: bool) -> str:
    options, cases = [], dict[str, list[str]]()
    top = [*sorted(commands), "--help", "--version"]
    options.append(f'        "") words={shlex.quote(" ".join(top))} ;;')
    for name, command in sorted(commands.items()):
        flags = []
        for option in _options(command):
            flags += [*option.opts, *option.secondary_opts]
            if option.is_flag:
                continue
            texts = (f'"{name} {text}"' for text in option.opts)
            cases.setdefault(" ".join(_values(option)) or "FILES", []).extend(texts)
        words = [*_arguments(command), *sorted(flags, key=lambda f: not f.startswith("--"))]
        options.append(f"        {name}) words={shlex.quote(' '.join(words))} ;;")
    values = [f"    {'|'.join(c)}) words={shlex.quote(w)} ;;" for w, c in cases.items()]
    script = _BASH % {"values": "\n".join(values), "options": "\n".join(options)}
    return _ZSH + script if zsh else script


def _fish(commands: Mapping[str, click.Command], summaries: Mapping[str, str]) -> str:
    lines = ["complete -c refine -n __fish_use_subcommand -l help -d 'Show the help.'"]
    lines.append("complete -c refine -n __fish_use_subcommand -l version -d 'Show the version.'")
    for name, command in sorted(commands.items()):
        first = f"complete -c refine -f -n __fish_use_subcommand -a {name}"
        lines.append(f"{first} -d {_quoted(summaries[name])}")
        seen = f"complete -c refine -n '__fish_seen_subcommand_from {name}'"
        if words := _arguments(command):
            lines.append(f"{seen} -f -a {_quoted(' '.join(words))}")
        for option in _options(command):
            for text in (*option.opts, *option.secondary_opts):
                flag = f"-l {text[2:]}" if text.startswith("--") else f"-s {text[1:]}"
                first = (option.help or "").partition(";")[0].partition(". ")[0]
                line = f"{seen} {flag} -d {_quoted(first)}"
                if not option.is_flag:
                    words = _values(option)
                    line += f" -x -a {_quoted(' '.join(words))}" if words else " -r"
                lines.append(line)
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    """In single quotes, as fish reads them."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
