"""What the pages about people show."""

from __future__ import annotations

from dataclasses import dataclass

from monitoring.console.parts import Shell


@dataclass(frozen=True, kw_only=True, slots=True)
class SignInPage:
    """The form for name and password, or for a token of the settings.

    Attributes:
        by_name: Whether there are users.
        by_token: Whether the settings have tokens.
        first_start: Nobody can sign in yet: the one-time link makes the first admin.
        problem: Why it did not work; empty at first.
    """

    shell: Shell
    after: str
    name: str
    by_name: bool
    by_token: bool
    first_start: bool
    problem: str


@dataclass(frozen=True, kw_only=True, slots=True)
class WelcomePage:
    """The form behind a one-time link: the first admin, or somebody who sets a password.

    Attributes:
        first: Whether it makes the first admin, who chooses a name too.
        token: What was sent with a password that was refused; empty at first, the page's script puts it in.
        open: Whether such a link can hold at all.
    """

    shell: Shell
    first: bool
    open: bool
    name: str
    token: str
    problem: str
    shortest: int
