"""Entry point: the command tree, and the one place that turns errors into text and exit codes."""

from __future__ import annotations

import io
import json
import signal
import sys
import traceback
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from deploy.cli import (
    accuracy_commands,
    alarm_commands,
    capacity_commands,
    data_commands,
    dataset_commands,
    gate_commands,
    load_commands,
    local_commands,
    model_commands,
    notify_commands,
    people_commands,
    render_commands,
    retrain_commands,
    review_commands,
    rollout_commands,
    slice_commands,
    storage_commands,
)
from deploy.cli.context import Invocation, console
from deploy.errors import CommandError

EXIT_CODES = """
Exit codes: 0 done · 1 failed · 2 wrong arguments or settings · 3 not found · 4 refused by a rule ·
5 nothing is running there · 6 port or state folder in use · 7 undecided (gate) · 130, 143 interrupted (Ctrl-C, SIGTERM)
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


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"hardcase {version('hardcase')}")
        raise typer.Exit


@app.callback()
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


local_commands.register(app)
model_commands.register(app)
rollout_commands.register(app)
gate_commands.register(app)
data_commands.register(app)
dataset_commands.register(app)
alarm_commands.register(app)
review_commands.register(app)
slice_commands.register(app)
notify_commands.register(app)
accuracy_commands.register(app)
people_commands.register(app)
storage_commands.register(app)
capacity_commands.register(app)
render_commands.register(app)
retrain_commands.register(app)
load_commands.register(app)


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns (and as a script exits with) the exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # a log file shows a line when it was printed
    if argv is None:
        _end_in_order()
    try:
        app(arguments, standalone_mode=True)
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
