"""Feedback at the monitor's API: late, in bulk, by id and by business key, before its record or after, once."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from export.contracts.errors import InvalidRequest
from export.contracts.privacy import PrivacyPolicy
from monitoring import schema as t
from monitoring.cycle import Loop, make_loop
from monitoring.erasure.rows import erase_rows
from monitoring.feedback_held import Held, standings
from monitoring.feedback_in import FeedbackDesk, ItemState, read_lines
from monitoring.store import Store
from tests.support import monitor_world as w
from tests.support.monitor_child import drain

NOW = (w.START_S + 4 * 86_400) * w.SECOND  # days after the requests


@pytest.fixture
def world(tmp_path: Path) -> Iterator[tuple[Loop, w.Replica]]:
    options = w.options(tmp_path, keys=("order_id",))
    loop = make_loop(options, Store(options.database_url), w.catalogue(tmp_path / "reference"))
    replica = w.Replica(options.records_root)
    yield loop, replica
    replica.close()
    loop.store.close()


def desk(loop: Loop, *privacy: PrivacyPolicy) -> FeedbackDesk:
    return FeedbackDesk(loop.store, loop.options.keys, privacy, lambda: NOW)


def requests(replica: w.Replica, *ids: str, order: str | None = None) -> None:
    times = [(w.START_S + i) * w.SECOND for i, _ in enumerate(ids)]
    made = w.batch(w.digits().images[: len(ids)], list(ids), times)
    params = None if order is None else [json.dumps({"order_id": order}).encode()] * len(ids)
    replica.offer(dataclasses.replace(made, params=params))


def labels(loop: Loop) -> dict[str, Any]:
    with loop.store.read() as connection:
        rows = connection.execute(sa.select(t.records.c.record_id, t.records.c.label))
        return {row.record_id: None if row.label is None else json.loads(row.label) for row in rows}


def states(results: list[Any]) -> list[str]:
    return [x.state.value for x in results]


def test_an_item_is_kept_once_and_settles_its_record(world: tuple[Loop, w.Replica]) -> None:
    loop, replica = world
    requests(replica, "a", "b")
    drain(loop)
    items = [{"id": "a", "label": "two", "source": "till"}, {"id": "later", "score": -1}, {"id": "b"}, 7]
    found = desk(loop).take(items, "digits")
    assert states(found) == ["accepted", "waiting", "invalid", "invalid"]
    assert "needed" in (found[2].error or "")
    assert states(desk(loop).take(items, "digits")) == ["duplicate", "duplicate", "invalid", "invalid"]
    drain(loop)
    assert labels(loop) == {"a": "two", "b": None}


def test_two_sources_disagree_the_newest_holds_and_both_are_shown(world: tuple[Loop, w.Replica]) -> None:
    loop, replica = world
    requests(replica, "a")
    drain(loop)
    for label, source, moment in (("two", "till", "2026-02-27T10:00:00Z"), ("three", "audit", "2026-02-26T10:00:00Z")):
        item = {"id": "a", "label": label, "source": source, "time": moment}
        assert states(desk(loop).take([item], "digits")) == ["accepted"]
        assert states(desk(loop).take([item], "digits")) == ["duplicate"]
    drain(loop)
    assert labels(loop) == {"a": "two"}  # the newer one, which came first
    shown = loop.store.feedback("digits", "a")
    assert [(f.author, f.label) for f in shown] == [("audit", "three"), ("till", "two")]
    assert [s.held for s in standings(shown, w.START_S * w.SECOND)] == [Held.OVERTAKEN, Held.COUNTS]
    assert standings(shown, 0)[0].because.startswith("it came last, but speaks of a time 1 d before")
    again = [{"id": "a", "label": "two", "source": "till"}, {"id": "a", "label": "one", "source": "till"}]
    assert states(desk(loop).take(again, "digits")) == ["duplicate", "accepted"]


@pytest.mark.parametrize("first", [True, False], ids=["records first", "feedback first"])
def test_a_business_key_finds_every_record_that_has_it(world: tuple[Loop, w.Replica], first: bool) -> None:
    loop, replica = world
    item = {"key": {"order_id": "A-17"}, "label": "five", "source": "shop"}
    if first:
        requests(replica, "a", "b", order="A-17")
        drain(loop)
        found = desk(loop).take([item], "digits")
        assert (states(found), found[0].records) == (["accepted"], 2)
    else:
        assert states(desk(loop).take([item], "digits")) == ["waiting"]
        requests(replica, "a", "b", order="A-17")
    assert states(desk(loop).take([item], "digits")) == ["duplicate"]
    drain(loop)
    requests(replica, "c", order="B-1")
    drain(loop)
    assert labels(loop) == {"a": "five", "b": "five", "c": None}
    requests(replica, "d", order="A-17")  # the same order, asked about later
    drain(loop)
    assert labels(loop)["d"] == "five"


def test_erasing_a_record_takes_its_keys_and_what_was_said_by_them(world: tuple[Loop, w.Replica]) -> None:
    loop, replica = world
    requests(replica, "a", order="A-17")
    drain(loop)
    desk(loop).take([{"key": {"order_id": "A-17"}, "label": "five"}], "digits")
    with loop.store.write() as connection:
        counts, _ = erase_rows(connection, ["a"], "digits")
        left = [connection.scalar(sa.select(sa.func.count()).select_from(x)) for x in (t.record_keys, t.keyed_feedback)]
    assert counts["keyed_feedback"] == 1
    assert left == [0, 0]


@pytest.mark.parametrize(
    ("item", "says"),
    [
        ({"key": {"user": "x"}, "label": "a"}, "monitor.keys"),
        ({"key": {"order_id": ""}, "label": "a"}, "1 to 128"),
        ({"key": {"order_id": True}, "label": "a"}, "whole number"),
        ({"key": {"order_id": "x", "b": "y"}, "label": "a"}, "one name"),
        ({"key": {"order_id": "x"}, "id": "b", "label": "a"}, "exclude"),
        ({"id": "b", "label": "a", "time": "2099-01-01T00:00:00Z"}, "future"),
        ({"id": "b", "label": "a", "time": "2026-01-01"}, "zone"),
        ({"id": "b", "label": "a", "model": 7}, "model"),
    ],
)
def test_what_is_wrong_with_an_item_is_said(world: tuple[Loop, w.Replica], item: Any, says: str) -> None:
    (found,) = desk(world[0]).take([item], "digits")
    assert found.state is ItemState.INVALID
    assert says in (found.error or "")


def test_a_key_that_privacy_hides_is_refused(world: tuple[Loop, w.Replica]) -> None:
    policy = PrivacyPolicy(model="digits", redact=("/parameters/order_id",))
    (found,) = desk(world[0], policy).take([{"key": {"order_id": "x"}, "label": "a"}], "digits")
    assert found.state is ItemState.INVALID


def test_bodies_are_an_object_an_array_or_lines() -> None:
    assert read_lines(b'{"id": "a"}') == [{"id": "a"}]
    assert read_lines(b'[{"id": "a"}, {"id": "b"}]') == read_lines(b'{"id": "a"}\n\n{"id": "b"}\n')
    for bad in (b"", b"[]", b'{"id": "a"}\nnope', b"[" * 100_000, json.dumps([{}] * 10_001).encode()):
        with pytest.raises(InvalidRequest):
            read_lines(bad)
