"""Everything that changes who may do what. Each change and its line in the audit are one transaction."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from export.contracts.errors import Forbidden, InvalidRequest, NotFound, Unauthenticated
from monitoring.people import api_keys, first_start, sessions, throttle, users
from monitoring.people.api_keys import ApiKey
from monitoring.people.audit import AuditEvent, AuditKind, Origin, list_events, note
from monitoring.people.contracts import Principal, Role
from monitoring.people.passwords import check_password, hash_password, password_holds
from monitoring.people.roster import Roster, TooSoon
from monitoring.people.sessions import Browser, Session
from monitoring.people.users import User

LINK_ENDED = "this link does not hold: it was used, or is too old; ask for a new one"


@dataclass(frozen=True, slots=True)
class Office:
    """The changes.

    Args:
        roster: Whose caches end with a change.
    """

    roster: Roster

    # ----- people

    def people(self) -> tuple[User, ...]:
        """Everybody."""
        with self.roster.store.read() as connection:
            return users.list_users(connection)

    def first_start_open(self) -> bool:
        """Whether a first admin is still to be made with the one-time link."""
        return self.roster.options.state_dir is not None and self.roster.look_if_open()

    def first_admin(self, token: str, name: str, password: str, browser: Browser) -> str:
        """Make the first admin and sign them in; returns the cookie's value.

        Raises:
            TooSoon: this address tried too often.
            Unauthenticated: the link does not hold.
            InvalidRequest: name or password cannot be one.
        """
        folder = self.roster.options.state_dir
        by_address = self._try(browser)
        now_ns = self.roster.now_ns()
        if folder is None or not self.first_start_open() or not first_start.link_holds(folder, token, now_ns):
            raise Unauthenticated(LINK_ENDED)
        clean = users.clean_name(name)
        check_password(password, clean)
        kept = hash_password(password)
        by = Origin(actor=clean, address=browser.address, time_ns=now_ns)

        def make(connection: sa.Connection) -> str:
            if users.any_user(connection):  # two at once: the writing transaction is one at a time
                raise Unauthenticated(LINK_ENDED)
            user = users.add_user(connection, clean, Role.ADMIN, clean, now_ns, kept)
            note(connection, by, AuditKind.FIRST_START, clean, role=Role.ADMIN.value)
            return self._welcome(connection, user, by_address, browser, by)

        value = self.roster.change(make)
        first_start.end_link(folder)
        return value

    def add(self, name: str, role: Role, by: Origin, password: str | None = None) -> tuple[User, str | None]:
        """Add somebody: with a password, or with the token of a link with which they set one themselves."""
        clean = users.clean_name(name)
        if password is not None:
            check_password(password, clean)
        kept = "" if password is None else hash_password(password)

        def add(connection: sa.Connection) -> tuple[User, str | None]:
            user = users.add_user(connection, clean, role, by.actor, by.time_ns, kept)
            note(connection, by, AuditKind.USER_ADDED, clean, role=role.value)
            if password is not None:
                return user, None
            token = users.invite(connection, user, by.time_ns)
            note(connection, by, AuditKind.INVITED, clean)
            return users.find_user(connection, clean), token

        return self.roster.change(add)

    def change_user(self, name: str, by: Origin, *, role: Role | None = None, disabled: bool | None = None) -> User:
        """Give another role, keep somebody out, or let them in again."""

        def change(connection: sa.Connection) -> User:
            user = users.find_user(connection, name)
            if role is not None and role is not user.role:
                users.set_role(connection, user, role)
                note(connection, by, AuditKind.USER_ROLE, user.name, before=user.role.value, after=role.value)
                user = users.find_user(connection, name)
            if disabled is not None and disabled is not user.disabled:
                users.set_disabled(connection, user, disabled)
                note(connection, by, AuditKind.USER_DISABLED if disabled else AuditKind.USER_ENABLED, user.name)
            return users.find_user(connection, name)

        return self.roster.change(change)

    def invite(self, name: str, by: Origin) -> str:
        """The token of a link with which somebody sets a password: the first one, or one that was forgotten."""

        def make(connection: sa.Connection) -> str:
            user = users.find_user(connection, name)
            if user.disabled:
                raise Forbidden(f"{user.name} is disabled")
            note(connection, by, AuditKind.INVITED, user.name)
            return users.invite(connection, user, by.time_ns)

        return self.roster.change(make)

    def redeem(self, token: str, password: str, browser: Browser) -> str:
        """Set a password with a link, and sign in; returns the cookie's value. The link holds once.

        Raises:
            TooSoon: this address tried too often.
            Unauthenticated: the link does not hold.
            InvalidRequest: the password cannot be one.
        """
        by_address = self._try(browser)
        with self.roster.store.read() as connection:
            user = users.invited(connection, token, self.roster.now_ns())
        if user is None:
            raise Unauthenticated(LINK_ENDED)
        check_password(password, user.name)
        kept = hash_password(password)
        by = Origin(actor=user.name, address=browser.address, time_ns=self.roster.now_ns())

        def set_it(connection: sa.Connection) -> str:
            still = users.invited(connection, token, by.time_ns)
            if still is None:
                raise Unauthenticated(LINK_ENDED)
            users.set_password(connection, still.id, kept, by.time_ns)
            note(connection, by, AuditKind.PASSWORD_SET, still.name)
            return self._welcome(connection, still, by_address, browser, by)

        return self.roster.change(set_it)

    def own_password(self, principal: Principal, current: str, new: str, browser: Browser) -> str:
        """Change one's own password: every session ends, and a new one begins; returns its cookie's value.

        Raises:
            Forbidden: whoever asks is no user.
            TooSoon: tried too often.
            Unauthenticated: the current password is wrong.
            InvalidRequest: the new one cannot be one.
        """
        if principal.user is None:
            raise Forbidden("only a user who signed in has a password")
        user_id, name = principal.user, principal.name
        by_address = self._try(browser, throttle.by_name(name))
        with self.roster.store.read() as connection:
            _, kept = users.kept_password(connection, name)
        if not password_holds(kept, current):
            raise Unauthenticated("current: this is not your password")
        check_password(new, name)
        fresh = hash_password(new)
        by = self.roster.origin(principal, browser.address)

        def change(connection: sa.Connection) -> str:
            users.set_password(connection, user_id, fresh, by.time_ns)
            note(connection, by, AuditKind.PASSWORD_SET, name)
            return self._welcome(connection, users.find_user(connection, name), by_address, browser, by)

        return self.roster.change(change)

    def set_password(self, name: str, password: str, by: Origin) -> User:
        """Set somebody's password; their sessions end."""
        clean = users.clean_name(name)
        check_password(password, clean)
        kept = hash_password(password)

        def change(connection: sa.Connection) -> User:
            user = users.find_user(connection, clean)
            users.set_password(connection, user.id, kept, by.time_ns)
            note(connection, by, AuditKind.PASSWORD_SET, clean)
            return users.find_user(connection, clean)

        return self.roster.change(change)

    # ----- sessions

    def sessions(self, user: str | None = None) -> list[Session]:
        """Living sessions."""
        with self.roster.store.read() as connection:
            return sessions.list_sessions(connection, self.roster.options.limits, self.roster.now_ns(), user)

    def end_session(self, session: int, principal: Principal, by: Origin) -> None:
        """End a session of one's own, or as an admin anybody's.

        Raises:
            NotFound: there is none, or it is somebody else's and whoever asks is no admin.
        """
        mine = None if principal.role.covers(Role.ADMIN) else principal.name
        owner = next((s.user for s in self.sessions(mine) if s.id == session), None)
        if owner is None:
            raise NotFound("there is no session with this id")

        def end(connection: sa.Connection) -> None:
            if sessions.end_session(connection, session):
                note(connection, by, AuditKind.SESSION_ENDED, owner)

        self.roster.change(end)

    # ----- keys

    def api_keys(self) -> tuple[ApiKey, ...]:
        """All of them."""
        with self.roster.store.read() as connection:
            return api_keys.list_keys(connection)

    def make_key(
        self, name: str, role: Role, by: Origin, *, models: tuple[str, ...] = (), expires_ns: int = 0
    ) -> tuple[ApiKey, str]:
        """A key, and its text: shown now and never again."""

        def make(connection: sa.Connection) -> tuple[ApiKey, str]:
            made = api_keys.make_key(connection, name, role, by.actor, by.time_ns, models=models, expires_ns=expires_ns)
            note(connection, by, AuditKind.KEY_MADE, name, role=role.value, models=sorted(models))
            return made

        return self.roster.change(make)

    def revoke_key(self, name: str, by: Origin) -> ApiKey:
        """End a key."""

        def revoke(connection: sa.Connection) -> ApiKey:
            key = api_keys.find_key(connection, name)
            if not key.revoked_ns:
                api_keys.revoke_key(connection, key, by.time_ns)
                note(connection, by, AuditKind.KEY_REVOKED, name)
            return api_keys.find_key(connection, name)

        return self.roster.change(revoke)

    # ----- audit

    def events(
        self,
        *,
        actor: str | None = None,
        kind: AuditKind | None = None,
        subject: str | None = None,
        before: int | None = None,
        limit: int = 100,
    ) -> tuple[AuditEvent, ...]:
        """Audit events, newest first."""
        wanted = None if kind is None else kind.value
        with self.roster.store.read() as connection:
            return list_events(connection, actor=actor, kind=wanted, subject=subject, before=before, limit=limit)

    def note(self, principal: Principal, address: str, kind: AuditKind, subject: str, **detail: object) -> None:
        """Tell of something that was done elsewhere."""
        by = self.roster.origin(principal, address)
        self.roster.change(lambda connection: note(connection, by, kind, subject, **detail), forget=False)

    def _try(self, browser: Browser, *more: throttle.Subject) -> throttle.Subject:
        subject = throttle.by_address(browser.address)
        now_ns = self.roster.now_ns()
        wait_s = self.roster.change(
            lambda connection: throttle.begin_try(connection, (subject, *more), now_ns), forget=False
        )
        if wait_s:
            raise TooSoon(wait_s)
        return subject

    def _welcome(
        self, connection: sa.Connection, user: User, address: throttle.Subject, browser: Browser, by: Origin
    ) -> str:
        if user.disabled:
            raise InvalidRequest("name: this user is disabled")
        throttle.end_try(connection, throttle.by_name(user.name), address)
        users.signed_in(connection, user.id, by.time_ns)
        note(connection, by, AuditKind.SIGN_IN)
        limits = self.roster.options.limits
        return sessions.begin_session(connection, browser, limits, by.time_ns, user_id=user.id)
