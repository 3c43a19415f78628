"""People, sessions, keys and audit events as the API's answers."""

from __future__ import annotations

from datetime import datetime

from monitoring.api import people_models as m
from monitoring.api.fields import from_ns
from monitoring.people.api_keys import ApiKey
from monitoring.people.audit import AuditEvent, AuditKind
from monitoring.people.contracts import Principal, Role
from monitoring.people.sessions import Session
from monitoring.people.users import User


def me(principal: Principal) -> m.Me:
    """Who asks."""
    return m.Me(
        name=principal.name,
        role=principal.role,
        models=list(principal.models),
        user=principal.user is not None,
        session=principal.session,
    )


def user(row: User, to: Principal) -> m.User:
    """Somebody, as `to` may see them."""
    full = to.role.covers(Role.ADMIN)
    return m.User(
        name=row.name,
        role=row.role,
        disabled=row.disabled,
        has_password=row.has_password,
        created_at=_time(row.created_ns) if full else None,
        created_by=row.created_by if full else None,
        password_at=_time(row.password_ns) if full else None,
        signed_in_at=_time(row.signed_in_ns) if full else None,
        invited_until=_time(row.invited_until_ns) if full else None,
    )


def session(row: Session, to: Principal) -> m.Session:
    """A session."""
    return m.Session(
        id=row.id,
        user=row.user,
        begun_at=from_ns(row.begun_ns),
        seen_at=from_ns(row.seen_ns),
        ends_at=from_ns(row.ends_ns),
        agent=row.agent,
        address=row.address,
        current=row.id == to.session,
    )


def key(row: ApiKey, now_ns: int) -> m.Key:
    """A key."""
    return m.Key(
        name=row.name,
        hint=row.hint,
        role=row.role,
        models=list(row.models),
        created_at=from_ns(row.created_ns),
        created_by=row.created_by,
        expires_at=_time(row.expires_ns),
        used_at=_time(row.used_ns),
        revoked_at=_time(row.revoked_ns),
        holds=not row.revoked_ns and not 0 < row.expires_ns <= now_ns,
    )


def event(row: AuditEvent) -> m.AuditEvent:
    """An audit event."""
    return m.AuditEvent(
        id=row.id,
        at=from_ns(row.time_ns),
        actor=row.actor,
        kind=AuditKind(row.kind),
        subject=row.subject,
        detail=dict(row.detail),
        address=row.address,
    )


def _time(time_ns: int) -> datetime | None:
    return from_ns(time_ns) if time_ns else None
