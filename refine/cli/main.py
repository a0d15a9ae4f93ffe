"""The command line: options in, one exit code out, and never a traceback for bad input.

A command's module, which has its name, is imported when the command is asked for; what is written
of all of them together stands here.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from copy import copy
from functools import partial
from importlib import import_module
from types import ModuleType

import click

from onnx_import.errors import ModelError
from refine.common.complaints import complain, complain_of_bug
from refine.process.interruption import Interruption
from refine.process.supervision import Watcher
from refine.results.answers import ExitCode

SUMMARIES: Mapping[str, str] = {
    "advise": "A first look at a model: one page, with the commands that give it.",
    "axioms": "What does the verdict of a result rest on?",
    "bench": "Settle the properties of a list of instances.",
    "bound": "The best bound on |f_rt(x) − f_R(x)| that can be proved.",
    "check": "Is |f_rt(x) − f_R(x)| at most E in every execution?",
    "completion": "What a shell needs to complete commands and options.",
    "conform": "Does a runtime honour a contract on a model?",
    "diff": "Is one model within a tolerance of another?",
    "grad": "The gradient of a model as an ordinary ONNX model.",
    "judge": "Which contracts can have produced the numbers of some device?",
    "lemmas": "Prove the lemma library and print it.",
    "ops": "List the operators that have a meaning here.",
    "plan": "Which nodes may run in 16 bits, proved of the mixed model that it writes.",
    "probe": "Find out how a runtime computes a model: its contract.",
    "recheck": "Check a certificate with the independent checker.",
    "replay": "Run a saved counterexample again, on every runtime.",
    "report": "A result that was saved as JSON, as a page that a browser shows.",
    "stable": "Which decisions of a data set no execution changes.",
    "step": "Did a tool that rewrote a model change more than rounding does?",
    "strengthen": "A property whose proof over the reals gives P for what runs.",
    "tolerance": "The atol that accepts every execution a contract allows.",
    "trace": "What a runtime gives, tensor by tensor, step after step.",
    "trace-diff": "Are two runs as far apart as rounding brings them, or further?",
    "zoo": "Run the bugs of a zoo, each a wrong graph beside the right one.",
}
"""What each command does, in a line."""


_ROOMS: Mapping[str, str] = {
    "advise": "daily.",
    "completion": "setup.",
    "grad": "daily.",
    "judge": "daily.",
    "plan": "daily.",
    "report": "daily.",
    "step": "daily.",
    "tolerance": "daily.",
    "trace": "daily.",
    "trace-diff": "daily.",
}
"""The room of a command that does not stand beside this file."""


_FIRST = ("inputs", "eps", "vnnlib", "center", "radius", "clip", "box", "claim")
"""What is asked: these parameters stand before the others in the help of a command."""


def _place(parameter: click.Parameter) -> int:
    return _FIRST.index(parameter.name) if parameter.name in _FIRST else len(_FIRST)


def _module_of(command: str) -> ModuleType:
    return import_module(f"refine.cli.{_ROOMS.get(command, '')}{_spelled(command)}")


def _spelled(command: str) -> str:
    """A command as a name in Python."""
    return command.replace("-", "_")


class _Commands(click.Group):
    """The commands, each imported when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(SUMMARIES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in SUMMARIES:
            return None
        from refine.cli.setup.journal import announcing, log_option

        command: click.Command = copy(
            getattr(_module_of(cmd_name), f"{_spelled(cmd_name)}_command")
        )
        command.params = [*sorted(command.params, key=_place), log_option()]
        if command.callback is not None:
            command.callback = announcing(command.callback)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        from refine.cli.setup.configuration import configure

        if args and args[0] not in SUMMARIES and not args[0].startswith("-"):
            from difflib import get_close_matches

            near = get_close_matches(args[0], SUMMARIES, n=1)
            meant = f"; did you mean {near[0]}?" if near else "; refine --help lists all"
            raise click.UsageError(f"there is no command '{args[0]}'{meant}")
        name, command, rest = super().resolve_command(ctx, args)
        if command is not None and not {"-h", "--help"} & set(rest):
            every = {n: partial(self.get_command, ctx, n) for n in SUMMARIES}
            values = configure(ctx, command, every)
            watcher: Watcher | None = ctx.obj
            if watcher is not None:
                timeout = values.get("timeout", _limit_of(command))
                asked = 0.0 if timeout is None else float(timeout)
                seconds = asked if 0 < asked < 1e9 else None  # what is no limit is refused later
                ctx.obj = watcher.limited(str(name), seconds, values.get("json_path"))
        return name, command, rest

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, SUMMARIES[name]) for name in self.list_commands(ctx)])


def _limit_of(command: click.Command) -> float | None:
    """The time limit of a command where none is given, in seconds; None where there is none."""
    found = next((p.default for p in command.params if p.name == "timeout"), None)
    return found if isinstance(found, float) else None


def _show_version(context: click.Context, parameter: click.Parameter, asked: bool) -> None:
    if asked:
        from refine.report.console import Reporter
        from refine.results.document import versions

        Reporter().text(f"refine {versions()['refine']}\n")
        context.exit()


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_show_version)
def cli() -> None:
    """How far can the network that runs be from the network that was proved?

    A first look at a model: refine advise MODEL.onnx

    Exit codes: 0 verified, 1 violated, 2 bad input, 3 unknown, 4 time-out, 5 the runtime here
    was seen to leave the contract, 6 conditional on what the answer names, 70 internal error
    or contradiction, 130 interrupted.
    """


def guarded(watcher: Watcher | None) -> ExitCode:
    """The command line of this process. A bug is reported, and never looks like a verdict."""
    for command in SUMMARIES.keys() & set(sys.argv[1:2]):
        _module_of(command)  # until it is there Ctrl-C ends the process at once
    with Interruption() as interruption:
        try:
            return run(sys.argv[1:], watcher)
        except (Exception, KeyboardInterrupt) as error:
            if interruption.pressed:
                complain("interrupted")
                return ExitCode.INTERRUPTED
            complain_of_bug(error)
            return ExitCode.INTERNAL_ERROR


def run(arguments: list[str], watcher: Watcher | None = None) -> ExitCode:
    """One command line to one exit code; every expected failure becomes one sentence. Without
    arguments it is the help that is printed; nothing was verified."""
    if not arguments:
        run(["--help"])
        return ExitCode.INPUT_ERROR
    context: click.Context | None = None
    try:
        with cli.make_context("refine", list(arguments), obj=watcher) as context:
            code, sentence = cli.invoke(context), None
    except click.exceptions.Exit as stop:
        return ExitCode.VERIFIED if stop.exit_code == 0 else ExitCode.INPUT_ERROR
    except (KeyboardInterrupt, click.Abort):
        code, sentence = ExitCode.INTERRUPTED, "interrupted"
    except click.MissingParameter as error:
        code, sentence = ExitCode.INPUT_ERROR, _missing(error)
    except click.ClickException as error:
        code, sentence = ExitCode.INPUT_ERROR, error.format_message()
    except ModelError as error:
        code, sentence = ExitCode.INPUT_ERROR, str(error)
    except OSError as error:
        sentence = f"{error.filename or 'a file'}: {error.strerror or error}"
        code = ExitCode.INPUT_ERROR
    except MemoryError:
        code, sentence = ExitCode.UNKNOWN, "the model needs more memory than this machine gives"
    if sentence is not None:
        complain(sentence)
    code = code if isinstance(code, ExitCode) else ExitCode.VERIFIED
    _note_the_end(context, sentence, code)
    return code


def _missing(error: click.MissingParameter) -> str:
    """What has to be said and what it is, with the command whose help shows how."""
    asked, context = error.param, error.ctx
    if asked is None or context is None:
        return error.format_message()
    named, what = asked.make_metavar(context), ""
    if isinstance(asked, click.Option):
        named = f"{max(asked.opts, key=len)} {named}"
        what = f" ({asked.help.rstrip('.')})" if asked.help else ""
    return f"{named} is missing{what}; {context.command_path} --help shows how it is asked"


def _note_the_end(context: click.Context | None, sentence: str | None, code: ExitCode) -> None:
    """Into the log of the command, if it has one."""
    if context is None or not context.meta:
        return
    from refine.cli.setup.journal import journal_of

    journal = journal_of(context)
    if journal is not None:
        if sentence is not None:
            journal.note(sentence)
        journal.note(f"exit code {code.value}: {code.name.lower().replace('_', ' ')}")
