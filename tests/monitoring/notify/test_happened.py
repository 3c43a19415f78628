"""What the monitor itself announces: tools that are away, batches that are done."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

from monitoring import schema as t
from monitoring.integrations import tool_rows
from monitoring.integrations.names import Tool
from monitoring.notify.happened import announce_batches
from monitoring.store import Store
from tests.support.console_store import fill

SECOND = 10**9


def told(store: Store) -> list[tuple[str, str]]:
    with store.read() as connection:
        rows = connection.execute(sa.select(t.notices.c.kind, t.notices.c.text).order_by(t.notices.c.id))
        return [(row.kind, row.text) for row in rows]


def test_a_tool_that_stays_away_is_announced_once_and_so_is_its_return(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path}/monitor.db")
    for i in range(2):
        tool_rows.note_failed(store, Tool.LABEL_STUDIO, "no connection", i * SECOND + 1, 0)
    tool_rows.note_answered(store, Tool.LABEL_STUDIO, 5 * SECOND)
    assert told(store) == []  # a hiccup
    for outage in range(2):
        for i in range(6):
            tool_rows.note_failed(store, Tool.LABEL_STUDIO, "no connection", (100 * outage + 10 + i) * SECOND, 0)
        tool_rows.note_answered(store, Tool.LABEL_STUDIO, (100 * outage + 50) * SECOND)
        tool_rows.note_answered(store, Tool.LABEL_STUDIO, (100 * outage + 51) * SECOND)
    assert told(store) == [("integration.down", "no connection"), ("integration.up", "")] * 2
    store.close()


def test_a_batch_is_done_when_its_last_case_is_decided(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path}/monitor.db")
    day = fill(store, windows=2, cases=12)
    cases = day.case_ids[:3]
    with store.write() as connection:
        row = {"id": "0" * 12, "name": "night", "model": "digits", "slice_id": "", "state": "open", "note": ""}
        times = {"created_ns": 1, "created_by": "ann", "changed_ns": 1, "cases": 3}
        connection.execute(t.batches.insert().values(**row, **times))
        places = [{"batch_id": "0" * 12, "case_id": case, "position": i} for i, case in enumerate(cases)]
        connection.execute(t.batch_cases.insert(), places)
        connection.execute(t.cases.update().where(t.cases.c.id.in_(cases)).values(state="open"))
        announce_batches(connection, SECOND)
        connection.execute(t.cases.update().where(t.cases.c.id.in_(cases[1:])).values(state="labelled"))
        announce_batches(connection, SECOND)
    assert told(store) == []
    with store.write() as connection:
        connection.execute(t.cases.update().where(t.cases.c.id == cases[0]).values(state="dismissed"))
        announce_batches(connection, SECOND)
        announce_batches(connection, 2 * SECOND)
    assert told(store) == [("batch.done", "3 cases were in it.")]
    store.close()
