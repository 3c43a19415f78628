"""The same on PostgreSQL: sessions, keys, throttling, and an audit that the database itself keeps from changing."""

from __future__ import annotations

from contextlib import closing

import pytest
import sqlalchemy as sa

from export.contracts.errors import Unauthenticated
from monitoring import schema as t
from monitoring.people.contracts import Role
from monitoring.people.office import Office
from monitoring.people.roster import Roster, RosterOptions, TooSoon
from monitoring.people.sessions import Browser
from monitoring.store import Store
from tests.support.people_console import BY, PASSWORD
from tests.support.postgres import postgres


def test_people_on_postgresql() -> None:
    here = Browser(agent="test", address="192.0.2.1")
    with postgres() as server, closing(Store(server.database("people"))) as store:
        roster = Roster(store, RosterOptions())
        office = Office(roster)
        office.add("ann", Role.ADMIN, BY, PASSWORD)
        cookie = roster.sign_in("ann", PASSWORD, here)
        found = roster.look_up(cookie, cookie=True)
        assert found is not None
        assert found.name == "ann"
        _, text = office.make_key("k", Role.VIEWER, BY, models=("digits",))
        key = roster.look_up(text, cookie=False)
        assert key is not None
        assert key.models == ("digits",)
        assert roster.owes
        roster.note_uses()
        for _ in range(5):
            with pytest.raises(Unauthenticated):
                roster.sign_in("ann", "wrong", here)
        with pytest.raises(TooSoon):
            roster.sign_in("ann", PASSWORD, here)
        for change in (t.audit_events.update().values(actor="x"), t.audit_events.delete()):
            with pytest.raises(sa.exc.DatabaseError, match="only ever added"), store.write() as connection:
                connection.execute(change)
        assert len(office.events()) == 8  # added, in, key, five failures
