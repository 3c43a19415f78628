"""What the API asks and answers about people, sessions, keys and the audit."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, StringConstraints

from monitoring.api.fields import Answer, Asked, AskedTime, Name, Time
from monitoring.people.audit import AuditKind
from monitoring.people.contracts import Role

UserName = Annotated[str, StringConstraints(min_length=1, max_length=60)]
KeyName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,58}$")]
Password = Annotated[str, StringConstraints(min_length=1, max_length=512)]


class Me(Answer):
    """Who asks."""

    name: str
    role: Role
    models: list[str] = Field(description="The only models that are seen; empty: every one.")
    user: bool = Field(description="Whether this is a named user, who has a password.")
    session: int | None


class User(Answer):
    """Somebody. Times are for admins; others see null."""

    name: str
    role: Role
    disabled: bool
    has_password: bool
    created_at: Time | None
    created_by: str | None
    password_at: Time | None
    signed_in_at: Time | None
    invited_until: Time | None


class Users(Answer):
    """Everybody, by name."""

    users: list[User]


class UserStart(Asked):
    """Add somebody. Without a password the answer has a link with which they set one themselves."""

    name: UserName
    role: Role
    password: Password | None = None


class UserMade(Answer):
    """Somebody new, or somebody's new link. The link is shown now and never again."""

    user: User
    link: str | None


class UserChange(Asked):
    """What shall be different."""

    role: Role | None = None
    disabled: bool | None = None
    password: Password | None = Field(None, description="Their sessions end.")


class PasswordChange(Asked):
    """One's own password."""

    current: Password
    new: Password


class Session(Answer):
    """A signed-in browser."""

    id: int
    user: str
    begun_at: Time
    seen_at: Time
    ends_at: Time
    agent: str
    address: str
    current: bool = Field(description="Whether it is the one that asks.")


class Sessions(Answer):
    """Living sessions, newest first."""

    sessions: list[Session]


class Key(Answer):
    """An API key, without the key."""

    name: str
    hint: str = Field(description="How the key begins.")
    role: Role
    models: list[str] = Field(description="The only models that it may see or change; empty: every one.")
    created_at: Time
    created_by: str
    expires_at: Time | None
    used_at: Time | None
    revoked_at: Time | None
    holds: bool


class Keys(Answer):
    """All keys, by name."""

    keys: list[Key]


class KeyStart(Asked):
    """Make a key."""

    name: KeyName
    role: Role
    models: list[Name] = Field(default_factory=list, max_length=64)
    expires: AskedTime | None = None


class KeyMade(Answer):
    """A new key. Its text is shown now and never again."""

    key: Key
    text: str


class AuditQuery(Asked):
    """Which events."""

    actor: Annotated[str, StringConstraints(max_length=64)] | None = None
    kind: AuditKind | None = None
    subject: Annotated[str, StringConstraints(max_length=100)] | None = None
    before: int | None = Field(None, ge=1, le=2**62, description="`next` of the page before.")
    limit: int = Field(100, ge=1, le=500)


class AuditEvent(Answer):
    """One event."""

    id: int
    at: Time
    actor: str
    kind: AuditKind
    subject: str
    detail: dict[str, Any]
    address: str


class AuditEvents(Answer):
    """Events, newest first."""

    events: list[AuditEvent]
    next: int | None
