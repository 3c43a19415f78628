"""What the pages *Settings* and *Audit* show."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import TypeVar
from urllib.parse import urlencode, urlsplit

from export.contracts.errors import InvalidRequest
from export.contracts.privacy import policy_of
from monitoring.api import people_models as m
from monitoring.api import people_views, tool_routes
from monitoring.api.fields import from_ns, to_text
from monitoring.api.notify_models import Notices
from monitoring.console.build import Builder
from monitoring.console.parts import Choice, Fact
from monitoring.console.people_parts import ActLine, AuditPage, EventLine, SettingsPage
from monitoring.integrations.options import IntegrationOptions
from monitoring.people.audit import AuditKind
from monitoring.people.contracts import Principal, Role
from monitoring.people.office import Office
from monitoring.review import trail
from monitoring.review.contracts import ActKind

E = TypeVar("E", bound=StrEnum)

SECRET = ("token", "secret", "password", "sha256", "webhook")  # a setting with one of these in its name is not shown
HIDDEN = "(hidden)"
LINES = 50


def settings_page(
    builder: Builder,
    office: Office,
    who: Principal,
    integrations: IntegrationOptions,
    effective: tuple[Fact, ...],
    told: Notices,
    *,
    problem: str = "",
    shown: Fact | None = None,
) -> SettingsPage:
    """Who am I, people, keys, sessions, what is configured. People and keys are an admin's."""
    admin = who.role.covers(Role.ADMIN)
    view = builder.view
    mine = None if admin else who.name
    return SettingsPage(
        shell=builder.shell("settings"),
        me=people_views.me(who),
        everybody_admitted=office.roster.open_to_all() is not False and office.roster.look_if_open(),
        roles=tuple(Choice(value=r.value, label=r.value, chosen=r is Role.REVIEWER) for r in Role),
        users=tuple(people_views.user(u, who) for u in office.people()) if admin else (),
        keys=tuple(people_views.key(k, office.roster.now_ns()) for k in office.api_keys()) if admin else (),
        sessions=tuple(people_views.session(s, who) for s in office.sessions(mine)),
        privacy=tuple(Fact(name=name, value=policy_of(view.privacy, name).text) for name in view.models()),
        tools=tuple(tool_routes.tool_states(view.store, integrations)) if admin else (),
        told=told,
        effective=effective if admin else (),
        problem=problem,
        shown=shown,
    )


def audit_page(builder: Builder, office: Office, who: Principal, given: Mapping[str, str]) -> AuditPage:
    """Acts on cases, for everybody; sign-ins, roles, keys, silences, for admins.

    Raises:
        InvalidRequest: a filter that is none, or a value that it cannot have.
    """
    unknown = next((name for name in given if name not in ("actor", "case", "kind", "cursor", "before")), None)
    if unknown is not None:
        raise InvalidRequest(f"'{unknown[:64]}' is no filter of the audit: actor, case, kind")
    actor, case, kind = given.get("actor"), given.get("case"), given.get("kind")
    of_act = _member(ActKind, kind)
    of_event = _member(AuditKind, kind)
    if kind and of_act is None and of_event is None:
        raise InvalidRequest("kind: there is none of this name")
    rows, after = (
        ([], None)
        if kind and of_act is None
        else trail.acts(
            builder.view.store, actor=actor, case=case, kind=of_act, cursor=given.get("cursor"), limit=LINES
        )
    )
    admin = who.role.covers(Role.ADMIN)
    wanted = admin and not case and (not kind or of_event is not None)
    before = int(given["before"]) if given.get("before", "").isdecimal() else None
    events = office.events(actor=actor, kind=of_event, before=before, limit=LINES + 1) if wanted else ()
    same = {name: value for name, value in (("actor", actor), ("case", case), ("kind", kind)) if value}
    older = events[LINES - 1].id if len(events) > LINES else None
    return AuditPage(
        shell=builder.shell("audit"),
        actor=actor or "",
        case=case or "",
        kinds=tuple(
            Choice(value=k.value, label=k.value.replace("_", " "), chosen=k.value == kind)
            for k in (*ActKind, *(AuditKind if admin else ()))
        ),
        acts=tuple(
            ActLine(
                id=row.id,
                at=to_text(from_ns(row.time_ns)),
                actor=row.actor,
                kind=row.kind,
                cases=row.cases,
                text=_text(row.detail),
                undone=row.undone_by is not None,
                href=f"/cases/{case}" if case else "",
            )
            for row in rows
        ),
        acts_next=None if after is None else "/audit?" + urlencode(same | {"cursor": after}),
        events_shown=admin,
        events=tuple(_event(people_views.event(e)) for e in events[:LINES]),
        events_next=None if older is None else "/audit?" + urlencode(same | {"before": str(older)}),
    )


def effective_settings(options: object) -> tuple[Fact, ...]:
    """An options record line by line; what opens something is hidden."""
    return tuple(Fact(name=name, value=value) for name, value in _flat(options, ""))


def _flat(options: object, prefix: str) -> Iterator[tuple[str, str]]:
    for field in dataclasses.fields(options):  # type: ignore[arg-type]  # called with records alone
        name, value = prefix + field.name, getattr(options, field.name)
        if dataclasses.is_dataclass(value):
            yield from _flat(value, name + ".")
        elif isinstance(value, tuple) and any(dataclasses.is_dataclass(item) for item in value):
            for number, item in enumerate(value):
                yield from _flat(item, f"{name}[{number}].")
        elif any(word in field.name for word in SECRET):
            yield name, HIDDEN if value else "–"  # noqa: RUF001  # a dash for what is not set
        else:
            yield name, _place(str(value)) if field.name.endswith("url") else str(value)


def _place(url: str) -> str:
    """Where an address leads, without what may open something: the path of a chat's address is its secret."""
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return HIDDEN
    if not parts.scheme or not parts.hostname:
        return url if url.startswith("sqlite:") else HIDDEN if url else ""
    return f"{parts.scheme}://{parts.hostname}{port}" + ("/…" if parts.path.strip("/") else "")


def _member(kind: type[E], value: str | None) -> E | None:
    return next((k for k in kind if k.value == value), None)


def _event(event: m.AuditEvent) -> EventLine:
    return EventLine(
        at=to_text(event.at),
        actor=event.actor,
        kind=event.kind.value.replace("_", " "),
        subject=event.subject,
        text=_text(event.detail),
        address=event.address,
    )


def _text(detail: Mapping[str, object]) -> str:
    plain = (f"{k} {v}" for k, v in sorted(detail.items()) if v not in (None, "", [], {}) and k != "key")
    return ", ".join(plain)[:200]
