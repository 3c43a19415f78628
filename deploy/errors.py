"""Errors of the command line and their exit codes.

Errors
└── CommandError          1  the operation failed; the text says what to do
    ├── SettingsError     2  hardcase.yaml or an override is wrong: key, line and the nearest right key
    ├── UsageError        2  the arguments contradict each other
    ├── Missing           3  no such model, version, case, record or file
    ├── Refused           4  parity, admission, registry conflict: nothing was changed
    ├── NotRunning        5  needs a running `hardcase up`, or an address that answers
    └── AlreadyRunning    6  a port or the state folder is in use by another process
"""

from __future__ import annotations


class CommandError(Exception):
    """Base: a text for a person, an optional hint on what to do, and the exit code."""

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class SettingsError(CommandError):
    """The settings are wrong; `problems` has one line each."""

    exit_code = 2

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems), "hardcase.schema.json and docs/settings.md list every key")
        self.problems = problems


class UsageError(CommandError):
    """The arguments cannot be followed as given."""

    exit_code = 2


class Missing(CommandError):
    """What the arguments name does not exist."""

    exit_code = 3


class Refused(CommandError):
    """A rule says no; nothing was changed."""

    exit_code = 4


class NotRunning(CommandError):
    """Nothing answers where the settings say that it should."""

    exit_code = 5


class AlreadyRunning(CommandError):
    """Another process has the port or the state folder."""

    exit_code = 6
