"""Entry point: the command tree, and the one place that turns errors into text and exit codes."""

from __future__ import annotations

import importlib
import io
import json
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from deploy.cli.context import Invocation, console
from deploy.errors import CommandError

EXIT_CODES = """
Exit codes: 0 done · 1 failed · 2 wrong arguments or settings · 3 not found · 4 refused by a rule ·
5 nothing is running there · 6 port or state folder in use · 7 undecided (gate) · 130, 143 interrupted (Ctrl-C, SIGTERM)
"""

ROOMS: dict[str, tuple[str, ...]] = {
    "local_commands": ("up", "down", "status", "doctor", "serve", "monitor", "demo"),
    "model_commands": ("export", "import", "registry", "deploy", "rollback", "traffic"),
    "rollout_commands": ("rollout",),
    "gate_commands": ("gate",),
    "data_commands": ("records", "cases", "report", "rescore", "erase"),
    "dataset_commands": ("dataset", "lineage"),
    "alarm_commands": ("alarms",),
    "review_commands": ("review",),
    "slice_commands": ("slices",),
    "notify_commands": ("notify",),
    "accuracy_commands": ("backtest",),
    "people_commands": ("keys", "users"),
    "storage_commands": ("storage", "node"),
    "capacity_commands": ("capacity",),
    "render_commands": ("render",),
    "retrain_commands": ("retrain",),
    "mlflow_commands": ("mlflow",),
    "load_commands": ("bench", "tune"),
}
"""Module to its commands, in the order of the help: a call imports the module of its own command only."""

_COMPLETION = "_HARDCASE_COMPLETE"  # set by a shell that asks what could come next: it may be any command


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"hardcase {version('hardcase')}")
        raise typer.Exit


def _options(
    ctx: typer.Context,
    settings: Annotated[
        Path | None,
        typer.Option("--settings", "-c", metavar="FILE", help="Settings file; default: hardcase.yaml if there is one."),
    ] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and stop.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    ctx.obj = Invocation(settings_file=settings, debug=debug)


def make_app(command: str | None = None) -> typer.Typer:
    """The command tree.

    Args:
        command: The one that will be called; None makes all of them.
    """
    app = typer.Typer(
        name="hardcase",
        help="Serve exported deep-learning models, record every request, find the ones they get wrong.",
        epilog=EXIT_CODES.strip().replace("\n", " "),
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_options)
    for module, commands in ROOMS.items():
        if command is None or command in commands:
            importlib.import_module(f"deploy.cli.{module}").register(app)
    return app


def _called(arguments: Sequence[str]) -> str | None:
    """The command that is called, where it is one of ours and help about all of them is not what is asked for."""
    waiting = iter(arguments)
    for argument in waiting:
        if argument in ("--settings", "-c"):
            next(waiting, None)
        elif not argument.startswith("-"):
            return argument if any(argument in commands for commands in ROOMS.values()) else None
        elif argument in ("--help", "-h"):
            return None
    return None


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns (and as a script exits with) the exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # a log file shows a line when it was printed
    if argv is None:
        _end_in_order()
    try:
        called = None if _COMPLETION in os.environ else _called(arguments)
        make_app(called)(arguments, standalone_mode=True)
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(bool(stop.code))
        return _leave(code, argv)
    except KeyboardInterrupt:
        return _leave(130, argv)
    except BrokenPipeError:
        sys.stderr.close()  # the reader of a pipe went away: nothing to say, and nobody to say it to
        return _leave(1, argv)
    except Exception as error:
        return _leave(_report(error, arguments), argv)
    return _leave(0, argv)


def _end_in_order() -> None:
    """Make SIGTERM and SIGHUP unwind the command like Ctrl-C does: what it started is stopped, what it wrote is whole.

    Commands that run for long (`up`, `serve`, `monitor`) put handlers of their own in their place.
    """

    def leave(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:  # not under `nohup`
            signal.signal(number, leave)


def _leave(code: int, argv: list[str] | None) -> int:
    if argv is None:
        sys.exit(code)
    return code


def _report(error: Exception, arguments: list[str]) -> int:
    """Tell an error to whoever called: people get text and a hint, `--json` gets an object."""
    if "--debug" in arguments:
        traceback.print_exception(error)
    known = _as_command_error(error)
    if known is None:
        message, hint, code = f"unexpected {type(error).__name__}: {error}", "run again with --debug, and report it", 1
    else:
        message, hint, code = known.message, known.hint, known.exit_code
    if "--json" in arguments:
        print(json.dumps({"error": message, "hint": hint, "exit_code": code}))
    else:
        from rich.text import Text

        err = console(stderr=True)
        err.print(Text("error: ", style="bold red") + Text(message))
        if hint:
            err.print(Text(hint, style="dim"))
    return code


def _as_command_error(error: Exception) -> CommandError | None:
    if isinstance(error, CommandError):
        return error
    from export.contracts import errors

    if not isinstance(error, errors.HardcaseError):
        return None
    from deploy.errors import Missing, NotRunning, Refused

    if isinstance(error, errors.NotFound):
        return Missing(error.message)
    if isinstance(error, errors.PackageError | errors.Conflict):
        return Refused(error.message)
    if isinstance(error, errors.Unavailable):
        return NotRunning(error.message)
    return CommandError(error.message)
