"""The JSON operations about people, sessions, keys and the audit."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response

from monitoring.api import models
from monitoring.api import people_models as m
from monitoring.api import people_views as views
from monitoring.api.alarm_routes import CHANGE_PROBLEMS as REFUSALS
from monitoring.api.cookies import browser_of, set_session
from monitoring.api.options import ConsoleOptions
from monitoring.api.who import Admin, Viewer
from monitoring.people.audit import Origin
from monitoring.people.contracts import Principal, Role
from monitoring.people.office import Office

UserPath = Annotated[m.UserName, Path(description="Name of the user.")]
KeyPath = Annotated[m.KeyName, Path(description="Name of the key.")]
CHANGE_PROBLEMS: dict[int | str, dict[str, Any]] = REFUSALS | {
    409: {"model": models.ErrorBody, "description": "The name is taken, or no admin would be left."},
    429: {"model": models.ErrorBody, "description": "Too many attempts; Retry-After says when to try again."},
    503: {"model": models.ErrorBody, "description": "Too many passwords are looked at just now."},
}
SessionPath = Annotated[int, Path(ge=1, le=2**62, description="Id of the session.")]


def people_router(office: Office, options: ConsoleOptions) -> APIRouter:
    """Who am I, people, sessions, keys, audit."""
    router = APIRouter(tags=["people"])
    now_ns = office.roster.now_ns

    @router.get("/api/me")
    def me(who: Viewer) -> m.Me:
        """Who asks, and what they may do."""
        return views.me(who)

    @router.post("/api/me/password", responses=CHANGE_PROBLEMS)
    def own_password(asked: m.PasswordChange, who: Viewer, request: Request, response: Response) -> m.Me:
        """Change one's own password: all sessions end, and the one that asks gets a new cookie."""
        value = office.own_password(who, asked.current, asked.new, browser_of(request))
        set_session(response, value, options)
        return views.me(who)

    @router.get("/api/users")
    def users(who: Viewer) -> m.Users:
        """Everybody, so that work can be assigned."""
        return m.Users(users=[views.user(u, who) for u in office.people()])

    @router.post("/api/users", status_code=201, responses=CHANGE_PROBLEMS)
    def add_user(asked: m.UserStart, who: Admin, request: Request) -> m.UserMade:
        """Add somebody; without a password, with a link with which they set one themselves within a week."""
        user, token = office.add(asked.name, asked.role, _by(office, who, request), asked.password)
        return m.UserMade(user=views.user(user, who), link=link_of(options, request, token))

    @router.post("/api/users/{name}", responses=CHANGE_PROBLEMS)
    def change_user(name: UserPath, asked: m.UserChange, who: Admin, request: Request) -> m.User:
        """Another role, or kept out, or let in again, or a password. What they hold open ends where it must."""
        by = _by(office, who, request)
        if asked.password is not None:
            office.set_password(name, asked.password, by)
        return views.user(office.change_user(name, by, role=asked.role, disabled=asked.disabled), who)

    @router.post("/api/users/{name}/invite", responses=CHANGE_PROBLEMS)
    def invite(name: UserPath, who: Admin, request: Request) -> m.UserMade:
        """A link with which somebody sets a password: the first one, or one that was forgotten."""
        token = office.invite(name, _by(office, who, request))
        user = next(u for u in office.people() if u.name == name.strip().lower())
        return m.UserMade(user=views.user(user, who), link=link_of(options, request, token))

    @router.get("/api/sessions")
    def sessions(who: Viewer) -> m.Sessions:
        """Signed-in browsers: one's own, and for an admin everybody's."""
        mine = None if who.role.covers(Role.ADMIN) else who.name
        return m.Sessions(sessions=[views.session(s, who) for s in office.sessions(mine)])

    @router.post("/api/sessions/{session}/end", status_code=204, responses=CHANGE_PROBLEMS)
    def end_session(session: SessionPath, who: Viewer, request: Request) -> None:
        """Sign a browser out: one's own, or as an admin anybody's."""
        office.end_session(session, who, _by(office, who, request))

    @router.get("/api/keys")
    def keys(who: Admin) -> m.Keys:
        """API keys, ended ones too."""
        return m.Keys(keys=[views.key(k, now_ns()) for k in office.api_keys()])

    @router.post("/api/keys", status_code=201, responses=CHANGE_PROBLEMS)
    def make_key(asked: m.KeyStart, who: Admin, request: Request) -> m.KeyMade:
        """Make a key. Its text is in this answer and nowhere else."""
        expires_ns = 0 if asked.expires is None else int(asked.expires.timestamp()) * 1_000_000_000
        by = _by(office, who, request)
        key, text = office.make_key(asked.name, asked.role, by, models=tuple(asked.models), expires_ns=expires_ns)
        return m.KeyMade(key=views.key(key, now_ns()), text=text)

    @router.post("/api/keys/{name}/revoke", responses=CHANGE_PROBLEMS)
    def revoke_key(name: KeyPath, who: Admin, request: Request) -> m.Key:
        """End a key, at once."""
        return views.key(office.revoke_key(name, _by(office, who, request)), now_ns())

    @router.get("/api/audit")
    def audit(query: Annotated[m.AuditQuery, Query()], who: Admin) -> m.AuditEvents:
        """Sign-ins, roles, keys, silences, erasures: newest first. What reviewers did is under /api/review/acts."""
        rows = office.events(
            actor=query.actor, kind=query.kind, subject=query.subject, before=query.before, limit=query.limit + 1
        )
        more = rows[query.limit - 1].id if len(rows) > query.limit else None
        return m.AuditEvents(events=[views.event(row) for row in rows[: query.limit]], next=more)

    return router


def _by(office: Office, who: Principal, request: Request) -> Origin:
    return office.roster.origin(who, request.state.address)


def link_of(options: ConsoleOptions, request: Request, token: str | None) -> str | None:
    """The link with which somebody sets a password; the token stands behind the `#`, which browsers do not send."""
    if token is None:
        return None
    base = options.public_url.rstrip("/") or f"{request.url.scheme}://{request.headers['host']}"
    return f"{base}/invitation#{token}"
