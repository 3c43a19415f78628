"""Who asks, and may they: credentials to principals, signing in and out. What changes is in `monitoring.people.office`.

Every request asks here, so what was found is remembered for two seconds; a change made through this process is seen
at once, one made by another monitor on the same database after those two seconds.
"""

from __future__ import annotations

import hmac
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import sqlalchemy as sa

from export.contracts.errors import Unauthenticated
from monitoring.people import api_keys, sessions, throttle, users
from monitoring.people.audit import AuditKind, Origin, note
from monitoring.people.contracts import SHARED, Principal
from monitoring.people.passwords import password_holds
from monitoring.people.sessions import Browser, Limits
from monitoring.people.tokens import KEY_PREFIX, digest_of
from monitoring.store import Store

T = TypeVar("T")

REMEMBER_S = 2.0
MOST_REMEMBERED = 4096
ATTEMPTS = 5  # of a transaction that another monitor crossed
REFUSED = "the name or the password is wrong"
_NS = 1_000_000_000


class TooSoon(Unauthenticated):
    """Somebody tried too often. `retry_after_s` says when it may be tried again."""

    code = "too_soon"
    http_status = 429
    grpc_status = "RESOURCE_EXHAUSTED"

    def __init__(self, retry_after_s: int) -> None:
        super().__init__(f"too many attempts to sign in: wait {retry_after_s} s")
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, kw_only=True, slots=True)
class RosterOptions:
    """Of `monitoring.api.options.ConsoleOptions`, what is about people."""

    tokens: tuple[str, ...] = ()
    always: bool = False
    idle_s: float = 7200.0
    most_s: float = 43_200.0
    state_dir: Path | None = None

    @property
    def limits(self) -> Limits:
        """Of a session."""
        return Limits(idle_s=self.idle_s, most_s=self.most_s)


class Roster:
    """Everybody who may use console and API.

    Args:
        store: The monitor's database.
        options: See there.
        now_ns: Clock of everything that is kept.
    """

    def __init__(
        self,
        store: Store,
        options: RosterOptions,
        *,
        now_ns: Callable[[], int] = time.time_ns,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.store = store
        self.options = options
        self.now_ns = now_ns
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._known: dict[str, tuple[Principal, float]] = {}
        self._owed: dict[tuple[Callable[[sa.Connection, int, int], None], int], int] = {}
        self._changes = 0
        self._somebody = False
        self._asked_at = float("-inf")

    # ----- what the guard asks

    def open_to_all(self) -> bool | None:
        """Whether nobody needs a credential; None: look with `look_if_open`, which reads the database."""
        if self.options.tokens or self.options.always or self._somebody:
            return False
        return True if self._monotonic() < self._asked_at + REMEMBER_S else None

    def look_if_open(self) -> bool:
        """The same, from the database."""
        with self.store.read() as connection:
            somebody = users.any_user(connection)
        with self._lock:
            self._somebody = self._somebody or somebody  # users are never removed
            self._asked_at = self._monotonic()
        return not self._somebody

    def remembered(self, credential: str) -> Principal | None:
        """Whose credential this is, if that was found lately."""
        found = self._known.get(digest_of(credential))
        return found[0] if found is not None and self._monotonic() < found[1] else None

    def look_up(self, credential: str, *, cookie: bool) -> Principal | None:
        """Whose cookie, key or token this is, from settings and database."""
        before, digest, now_ns = self._changes, digest_of(credential), self.now_ns()
        if not cookie and self.token_holds(credential) is not None:
            found: Principal | None = SHARED
        elif cookie:
            found = self._session(digest, now_ns)
        else:
            found = self._key(digest, now_ns) if credential.startswith(KEY_PREFIX) else None
        with self._lock:
            if found is not None and before == self._changes:
                if len(self._known) >= MOST_REMEMBERED:
                    self._known.clear()
                self._known[digest] = (found, self._monotonic() + REMEMBER_S)
        return found

    def token_holds(self, token: str) -> str | None:
        """The digest of the settings' token that this is, compared in constant time."""
        given = digest_of(token)
        same = [known for known in self.options.tokens if hmac.compare_digest(given, known)]
        return same[0] if same else None

    def _session(self, digest: str, now_ns: int) -> Principal | None:
        with self.store.read() as connection:
            found = sessions.session_of(connection, digest, self.options.tokens, self.options.limits, now_ns)
        if found is None:
            return None
        principal, seen_ns = found
        assert principal.session is not None
        if now_ns - seen_ns >= sessions.SEEN_S * _NS:
            with self._lock:
                self._owed[sessions.touch_session, principal.session] = now_ns
        return principal

    def _key(self, digest: str, now_ns: int) -> Principal | None:
        with self.store.read() as connection:
            found = api_keys.key_of(connection, digest, now_ns)
        if found is None:
            return None
        principal, key = found
        if now_ns - key.used_ns >= sessions.SEEN_S * _NS:
            with self._lock:
                self._owed[api_keys.touch_key, key.id] = now_ns
        return principal

    @property
    def owes(self) -> bool:
        """Whether uses are to be noted: after the answer, so that no request waits for the writing transaction."""
        return bool(self._owed)

    def note_uses(self) -> None:
        """Note when sessions and keys were used last."""
        with self._lock:
            owed, self._owed = self._owed, {}

        def write(connection: sa.Connection) -> None:
            for (touch, identity), now_ns in owed.items():
                touch(connection, identity, now_ns)

        self.change(write, forget=False)

    # ----- signing in and out

    def sign_in(self, name: str, password: str, browser: Browser) -> str:
        """A session of a user; returns the cookie's value.

        Raises:
            TooSoon: this name or address tried too often.
            Unauthenticated: wrong name or password, which of them is not said.
        """
        by_name, by_address = throttle.by_name(name.strip().lower()), throttle.by_address(browser.address)
        self._begin((by_name, by_address))
        with self.store.read() as connection:
            user_id, kept = users.kept_password(connection, name)
        if not password_holds(kept, password) or user_id is None:
            self._note_failure(name if user_id is not None else "", browser)
            raise Unauthenticated(REFUSED)
        shown = name.strip().lower()

        def begin(connection: sa.Connection) -> str:
            now_ns = self.now_ns()
            throttle.end_try(connection, by_name, by_address)
            users.signed_in(connection, user_id, now_ns)
            note(connection, Origin(actor=shown, address=browser.address, time_ns=now_ns), AuditKind.SIGN_IN)
            return sessions.begin_session(connection, browser, self.options.limits, now_ns, user_id=user_id)

        return self.change(begin)

    def sign_in_by_token(self, token: str, browser: Browser) -> str:
        """A session of whoever shows a token of the settings.

        Raises:
            TooSoon: this address tried too often.
            Unauthenticated: it is none.
        """
        by_address = throttle.by_address(browser.address)
        self._begin((by_address,))
        known = self.token_holds(token)
        if known is None:
            self._note_failure("", browser)
            raise Unauthenticated("this is not the configured token")

        def begin(connection: sa.Connection) -> str:
            now_ns = self.now_ns()
            throttle.end_try(connection, None, by_address)
            by = Origin(actor=SHARED.name, address=browser.address, time_ns=now_ns)
            note(connection, by, AuditKind.SIGN_IN)
            return sessions.begin_session(connection, browser, self.options.limits, now_ns, token_sha256=known)

        return self.change(begin)

    def sign_out(self, principal: Principal, address: str) -> None:
        """End the session with which somebody asks."""
        if principal.session is None:
            return
        session = principal.session
        by = self.origin(principal, address)

        def end(connection: sa.Connection) -> None:
            if sessions.end_session(connection, session):
                note(connection, by, AuditKind.SIGN_OUT)

        self.change(end)

    # ----- changes

    def origin(self, principal: Principal, address: str) -> Origin:
        """Who does something now, for the audit."""
        return Origin(actor=principal.name, address=address, time_ns=self.now_ns())

    def change(self, work: Callable[[sa.Connection], T], *, forget: bool = True) -> T:
        """A transaction; with several monitors it is tried again when another one's crossed it."""
        for attempt in range(ATTEMPTS):
            try:
                with self.store.write() as connection:
                    done = work(connection)
                break
            except sa.exc.OperationalError as error:
                if getattr(error.orig, "sqlstate", None) != "40001" or attempt == ATTEMPTS - 1:
                    raise
        if forget:
            with self._lock:
                self._changes += 1
                self._known.clear()
                self._asked_at = float("-inf")
        return done

    def _begin(self, subjects: tuple[throttle.Subject, ...]) -> None:
        now_ns = self.now_ns()
        wait_s = self.change(lambda connection: throttle.begin_try(connection, subjects, now_ns), forget=False)
        if wait_s:
            raise TooSoon(wait_s)

    def _note_failure(self, name: str, browser: Browser) -> None:
        by = Origin(actor="nobody", address=browser.address, time_ns=self.now_ns())
        subject = name.strip().lower()
        self.change(lambda connection: note(connection, by, AuditKind.SIGN_IN_FAILED, subject), forget=False)
