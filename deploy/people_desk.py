"""Users and keys for the command line: through the running monitor's API, or in its database while it is down."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote

from deploy.addresses import addresses
from deploy.errors import CommandError, NotRunning
from deploy.monitor_client import MonitorClient
from deploy.paths import StatePaths
from deploy.settings import Settings

if TYPE_CHECKING:
    from monitoring.people.office import Office


class Desk(Protocol):
    """Who may use the console."""

    def users(self) -> list[dict[str, Any]]:
        """Everybody."""
        ...

    def add(self, name: str, role: str, password: str | None) -> dict[str, Any]:
        """Add somebody: `{"user": …, "link": …}`."""
        ...

    def change(self, name: str, **values: object) -> dict[str, Any]:
        """Another role, disabled or not, a password."""
        ...

    def invite(self, name: str) -> dict[str, Any]:
        """A link with which somebody sets a password."""
        ...

    def keys(self) -> list[dict[str, Any]]:
        """All API keys."""
        ...

    def make_key(self, name: str, role: str, models: list[str], days: float | None) -> dict[str, Any]:
        """A key: `{"key": …, "text": …}`."""
        ...

    def revoke_key(self, name: str) -> dict[str, Any]:
        """End a key."""
        ...


@contextmanager
def desk_of(settings: Settings, paths: StatePaths, author: str) -> Iterator[Desk]:
    """The API of the monitor that runs, or its database."""
    client = MonitorClient.of(settings)
    try:
        client.get("/api/health/live")
    except NotRunning:
        with _store_desk(settings, paths, author) as desk:
            yield desk
    else:
        yield ApiDesk(client)


class ApiDesk:
    """Through the running monitor."""

    def __init__(self, client: MonitorClient) -> None:
        self._client = client

    def users(self) -> list[dict[str, Any]]:
        """See `Desk`."""
        found: list[dict[str, Any]] = self._client.get("/api/users")["users"]
        return found

    def add(self, name: str, role: str, password: str | None) -> dict[str, Any]:
        """See `Desk`."""
        return self._post("/api/users", {"name": name, "role": role, "password": password})

    def change(self, name: str, **values: object) -> dict[str, Any]:
        """See `Desk`."""
        return self._post(f"/api/users/{quote(name, safe='')}", values)

    def invite(self, name: str) -> dict[str, Any]:
        """See `Desk`."""
        return self._post(f"/api/users/{quote(name, safe='')}/invite", {})

    def keys(self) -> list[dict[str, Any]]:
        """See `Desk`."""
        found: list[dict[str, Any]] = self._client.get("/api/keys")["keys"]
        return found

    def make_key(self, name: str, role: str, models: list[str], days: float | None) -> dict[str, Any]:
        """See `Desk`."""
        expires = None if days is None else (datetime.now(UTC) + timedelta(days=days)).isoformat()
        return self._post("/api/keys", {"name": name, "role": role, "models": models, "expires": expires})

    def revoke_key(self, name: str) -> dict[str, Any]:
        """See `Desk`."""
        return self._post(f"/api/keys/{quote(name, safe='')}/revoke", {})

    def _post(self, path: str, body: dict[str, object]) -> dict[str, Any]:
        answer: dict[str, Any] = self._client.post(path, body)
        return answer


class StoreDesk:
    """In the database of a monitor that is down."""

    def __init__(self, office: Office, address: str, author: str) -> None:
        from monitoring.people.audit import Origin
        from monitoring.people.contracts import LOCAL

        self._office = office
        self._address = address
        self._by = Origin(actor=f"cli:{author}"[:64], address="", time_ns=time.time_ns())
        self._who = LOCAL

    def users(self) -> list[dict[str, Any]]:
        """See `Desk`."""
        return [self._user(u.name) for u in self._office.people()]

    def add(self, name: str, role: str, password: str | None) -> dict[str, Any]:
        """See `Desk`."""
        user, token = self._office.add(name, self._role(role), self._by, password)
        return {"user": self._user(user.name), "link": self._link(token)}

    def change(self, name: str, **values: object) -> dict[str, Any]:
        """See `Desk`."""
        if values.get("password") is not None:
            self._office.set_password(name, str(values["password"]), self._by)
        role, disabled = values.get("role"), values.get("disabled")
        user = self._office.change_user(
            name,
            self._by,
            role=None if role is None else self._role(str(role)),
            disabled=None if disabled is None else bool(disabled),
        )
        return self._user(user.name)

    def invite(self, name: str) -> dict[str, Any]:
        """See `Desk`."""
        token = self._office.invite(name, self._by)
        return {"user": self._user(name), "link": self._link(token)}

    def keys(self) -> list[dict[str, Any]]:
        """See `Desk`."""
        from monitoring.api import people_views

        return [people_views.key(k, time.time_ns()).model_dump(mode="json") for k in self._office.api_keys()]

    def make_key(self, name: str, role: str, models: list[str], days: float | None) -> dict[str, Any]:
        """See `Desk`."""
        from monitoring.api import people_views

        expires_ns = 0 if days is None else self._by.time_ns + int(days * 86_400 * 1e9)
        key, text = self._office.make_key(name, self._role(role), self._by, models=tuple(models), expires_ns=expires_ns)
        return {"key": people_views.key(key, self._by.time_ns).model_dump(mode="json"), "text": text}

    def revoke_key(self, name: str) -> dict[str, Any]:
        """See `Desk`."""
        from monitoring.api import people_views

        return people_views.key(self._office.revoke_key(name, self._by), time.time_ns()).model_dump(mode="json")

    def _user(self, name: str) -> dict[str, Any]:
        from monitoring.api import people_views

        user = next(u for u in self._office.people() if u.name == name.strip().lower())
        return people_views.user(user, self._who).model_dump(mode="json")

    def _link(self, token: str | None) -> str | None:
        return None if token is None else f"{self._address}/invitation#{token}"

    @staticmethod
    def _role(role: str) -> Any:
        from monitoring.people.contracts import Role

        try:
            return Role(role)
        except ValueError:
            raise CommandError(f"role: {', '.join(Role)} are possible") from None


def console_address(settings: Settings) -> str:
    """Where people open the console."""
    return settings.monitor.public_url.rstrip("/") or addresses(settings)["console"]


@contextmanager
def _store_desk(settings: Settings, paths: StatePaths, author: str) -> Iterator[StoreDesk]:
    from deploy.wiring import monitor_options
    from monitoring.people.office import Office
    from monitoring.people.roster import Roster, RosterOptions
    from monitoring.store import Store

    with closing(Store(monitor_options(settings, paths.make()).database_url)) as store:
        yield StoreDesk(Office(Roster(store, RosterOptions())), console_address(settings), author)
