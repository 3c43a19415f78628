"""A console with people: a store, an application, and browsers that sign in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI

from monitoring.api.app import build_console
from monitoring.api.options import ConsoleOptions
from monitoring.people.audit import Origin
from monitoring.people.contracts import Role
from monitoring.people.office import Office
from monitoring.people.roster import Roster
from monitoring.reports import ReportOptions, ReportService
from monitoring.store import Store
from tests.support.console_server import listening
from tests.support.console_store import Day, MemoryCatalogue, StillMonitor, fill, manifest

PASSWORD = "seven mild otters sing"
BY = Origin(actor="test", address="", time_ns=1_772_000_000_000_000_000)


@dataclass(kw_only=True)
class PeopleConsole:
    """What a test has in its hands."""

    store: Store
    app: FastAPI
    address: str
    office: Office
    day: Day
    state_dir: Path

    @contextmanager
    def browser(self, name: str | None = None, password: str = PASSWORD) -> Iterator[httpx.Client]:
        """A client with cookies, signed in when it has a name."""
        with httpx.Client(base_url=self.address, trust_env=False, timeout=30) as client:
            if name is not None:
                answer = client.post("/sign-in", data={"name": name, "password": password})
                assert answer.status_code == 303, answer.text
            yield client

    def with_key(self, text: str) -> httpx.Client:
        return httpx.Client(
            base_url=self.address, trust_env=False, timeout=30, headers={"authorization": f"Bearer {text}"}
        )


def refuse(request: object, most: int) -> Any:
    raise AssertionError("no report is wanted here")


@contextmanager
def people_console(
    root: Path,
    *,
    people: dict[str, Role] | None = None,
    options: dict[str, Any] | None = None,
    cases: int = 20,
    **more: Any,
) -> Iterator[PeopleConsole]:
    """A console on a free port, with these people (all with PASSWORD); `more` goes to `build_console`."""
    store = Store(f"sqlite:///{root}/m.db")
    day = fill(store, windows=6, cases=cases) if cases else Day(windows=0, case_ids=(), record_ids=())
    chosen = ConsoleOptions(state_dir=root / "state", **(options or {}))
    (root / "state").mkdir(exist_ok=True)
    office = Office(Roster(store, chosen.roster))
    for name, role in (people or {}).items():
        office.add(name, role, BY, PASSWORD)
    reports = ReportService(ReportOptions(folder=root / "reports"), refuse)
    catalogue = MemoryCatalogue(manifests=(manifest(version="2"), manifest("other", "1")))
    app = build_console(store, catalogue, StillMonitor(), list, chosen, reports=reports, **more)
    try:
        with listening(app) as address:
            yield PeopleConsole(store=store, app=app, address=address, office=office, day=day, state_dir=root / "state")
    finally:
        reports.close()
        store.close()
