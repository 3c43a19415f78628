"""The audit events: who signed in, changed a role, made a key, held back an alarm. Only ever added to.

What reviewers do with cases is in `acts` (`monitoring.schema_review`); the page *Audit* shows both. No event holds a
password, a token, a key, or what somebody typed into a sign-in form.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from monitoring import schema as t


class AuditKind(StrEnum):
    """What happened."""

    FIRST_START = "first_start"  # the first admin was made with the one-time link
    SIGN_IN = "sign_in"
    SIGN_IN_FAILED = "sign_in_failed"
    SIGN_OUT = "sign_out"
    SESSION_ENDED = "session_ended"  # by somebody, before its time
    USER_ADDED = "user_added"
    USER_ROLE = "user_role"
    USER_DISABLED = "user_disabled"
    USER_ENABLED = "user_enabled"
    INVITED = "invited"  # a link was made with which the user sets a password
    PASSWORD_SET = "password_set"
    KEY_MADE = "key_made"
    KEY_REVOKED = "key_revoked"
    SILENCE_STARTED = "silence_started"
    SILENCE_ENDED = "silence_ended"
    ERASURE_ASKED = "erasure_asked"


@dataclass(frozen=True, kw_only=True, slots=True)
class Origin:
    """Who does something, from where, when.

    Attributes:
        actor: As in the trail: a principal's name.
        address: Of the client; "" on the command line.
        time_ns: Now.
    """

    actor: str
    address: str
    time_ns: int


@dataclass(frozen=True, kw_only=True, slots=True)
class AuditEvent:
    """One event."""

    id: int
    time_ns: int
    actor: str
    kind: str
    subject: str
    detail: Mapping[str, Any]
    address: str


def note(connection: sa.Connection, by: Origin, kind: AuditKind, subject: str = "", **detail: Any) -> None:
    """Add an event, in the transaction of what it tells of."""
    connection.execute(
        t.audit_events.insert().values(
            time_ns=by.time_ns,
            actor=by.actor,
            kind=kind.value,
            subject=subject[:100],
            detail=detail,
            address=by.address[:64],
        )
    )


def list_events(
    connection: sa.Connection,
    *,
    actor: str | None = None,
    kind: str | None = None,
    subject: str | None = None,
    before: int | None = None,
    limit: int = 100,
) -> tuple[AuditEvent, ...]:
    """Events, newest first; `before` is the id of the last one of the page before."""
    e = t.audit_events.c
    query = sa.select(t.audit_events).order_by(e.id.desc()).limit(limit)
    for column, wanted in ((e.actor, actor), (e.kind, kind), (e.subject, subject)):
        if wanted is not None:
            query = query.where(column == wanted)
    if before is not None:
        query = query.where(e.id < before)
    return tuple(AuditEvent(**row) for row in connection.execute(query).mappings())
