"""What the pages about people show."""

from __future__ import annotations

from dataclasses import dataclass

from monitoring.api import people_models as m
from monitoring.api.notify_models import Notices
from monitoring.api.tool_models import ToolStatus
from monitoring.console.parts import Choice, Fact, Shell


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


@dataclass(frozen=True, kw_only=True, slots=True)
class SettingsPage:
    """Who am I, people, keys, sessions, what is configured.

    Attributes:
        everybody_admitted: Nobody has to sign in, because nobody but this machine reaches the console.
        told: Channels of notifications, and the newest notices.
        problem: Why the last change did not work.
        shown: A link or a key that is shown this once.
    """

    shell: Shell
    me: m.Me
    everybody_admitted: bool
    roles: tuple[Choice, ...]
    users: tuple[m.User, ...]
    keys: tuple[m.Key, ...]
    sessions: tuple[m.Session, ...]
    privacy: tuple[Fact, ...]
    tools: tuple[ToolStatus, ...]
    told: Notices
    effective: tuple[Fact, ...]
    problem: str
    shown: Fact | None


@dataclass(frozen=True, kw_only=True, slots=True)
class ActLine:
    """What somebody did with cases."""

    id: int
    at: str
    actor: str
    kind: str
    cases: int
    text: str
    undone: bool
    href: str


@dataclass(frozen=True, kw_only=True, slots=True)
class EventLine:
    """An audit event."""

    at: str
    actor: str
    kind: str
    subject: str
    text: str
    address: str


@dataclass(frozen=True, kw_only=True, slots=True)
class AuditPage:
    """Who did what, newest first."""

    shell: Shell
    actor: str
    case: str
    kinds: tuple[Choice, ...]
    acts: tuple[ActLine, ...]
    acts_next: str | None
    events_shown: bool
    events: tuple[EventLine, ...]
    events_next: str | None
