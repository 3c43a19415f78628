"""Lists from columns in memory against the same questions asked of the table row by row."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

from export.contracts.cases import FlagReason
from export.contracts.errors import InvalidRequest, NotFound
from monitoring import schema as t
from monitoring.flags import FLAG_BITS
from monitoring.listing import follow, index
from monitoring.listing.columns import Columns
from monitoring.listing.language import parse
from monitoring.listing.order import Sort, first
from monitoring.listing.terms import Field
from monitoring.slice_queries import slices
from monitoring.store import Store
from tests.monitoring.test_store import case
from tests.support.postgres import postgres

NOW = datetime(2026, 2, 1, tzinfo=UTC)
Row = dict[str, Any]


def made(rng: np.random.Generator, count: int) -> list[Row]:
    """Cases with many ties and gaps."""
    states = ("open", "open", "labelled", "dismissed", "second_opinion")
    rows = []
    for i in range(count):
        scored, answered = rng.random() < 0.9, int(rng.integers(10))
        score = round(float(rng.random()), 1)
        rows.append(
            case(f"{int(rng.integers(1 << 62)):016x}", score)
            | {
                "id_hash": int(rng.integers(-(1 << 62), 1 << 62)),
                "record_id": f"Req-{rng.integers(1 << 20):05x}-{i}",
                "model": f"m{rng.integers(3)}",
                "version": str(rng.integers(2)),
                "time_ns": int(rng.integers(1000)) * 10**9,
                "state": states[int(rng.integers(5))],
                "flags": int(rng.integers(1, 256)),
                "p_wrong": score if scored else None,
                "confidence": 1 - score if scored else None,
                "queue": None if rng.random() < 0.2 else round(float(rng.random()), 1),
                "predicted": answered if scored else None,
                "predicted_label": "Seven" if answered == 7 else None,
                "label": json.dumps(int(rng.integers(10))) if rng.random() < 0.4 else None,
                "correct": None if rng.random() < 0.5 else bool(rng.random() < 0.5),
                "tags": ('{"site": "north"}', "night", None)[int(rng.integers(3))],
                "comment": ("looks blurred", None)[int(rng.integers(2))],
                "assignee": ("anna", "")[int(rng.integers(2))],
                "priority": int(rng.integers(3)),
                "verdict": ("label", "")[int(rng.integers(2))],
                "decided_ns": int(rng.integers(5)),
                "group_id": None,
            }
        )
    return rows


def put(store: Store, rows: Sequence[Row], tags: dict[str, tuple[str, ...]] | None = None) -> None:
    with store.write() as connection:
        connection.execute(t.cases.insert(), list(rows))
        given = [{"case_id": k, "tag": tag} for k, v in (tags or {}).items() for tag in v]
        if given:
            connection.execute(t.case_tags.insert(), given)


def ids(store: Store, text: str = "", sort: Sort = Sort.RANK, size: int = 7) -> list[str]:
    """Every page of a list."""
    found: list[str] = []
    cursor = None
    for _ in itertools.count():
        page = store.index.page(parse(text, NOW), sort, cursor, size)
        found += page.ids
        cursor = page.cursor
        if cursor is None:
            return found
    raise AssertionError


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    if request.param == "sqlite":
        opened = Store(f"sqlite:///{tmp_path_factory.mktemp('index')}/m.db")
        yield opened
        opened.close()
        return
    with postgres() as server:
        opened = Store(server.database("lists"))
        yield opened
        opened.close()


@pytest.fixture
def rows(store: Store) -> Iterator[list[Row]]:
    made_rows = made(np.random.default_rng(7), 400)
    put(store, made_rows, {r["id"]: ("night", "door 3") for r in made_rows[::5]})
    yield made_rows
    with store.write() as connection:
        connection.execute(t.cases.delete())


FITS = {
    "model:m1 is:open": lambda r: r["model"] == "m1" and r["state"] == "open",
    "-version:1": lambda r: r["version"] != "1",
    "reason:audit": lambda r: r["flags"] & FLAG_BITS[FlagReason.AUDIT],
    "picked:random": lambda r: r["flags"] == 64,
    "selection:score -picked:audit": lambda r: r["flags"] & 3 and not r["flags"] & 64,
    "picked:rule": lambda r: r["flags"] & 28,
    "picked:people picked:disagreement": lambda r: r["flags"] & 32 and r["flags"] & 128,
    "class:7": lambda r: r["predicted"] == 7 and not r["predicted_label"],
    "class:seven": lambda r: r["predicted_label"] == "Seven",
    "label:3": lambda r: r["label"] == "3",
    "score:>0.5": lambda r: r["p_wrong"] is not None and r["p_wrong"] > 0.5,
    "confidence:<0.5": lambda r: r["confidence"] is not None and r["confidence"] < 0.5,
    "tag:night": lambda r: r["tags"] == "night" or r["nth"] % 5 == 0,
    "tag:north": lambda r: r["tags"] == '{"site": "north"}',
    "tag:site=north": lambda r: r["tags"] == '{"site": "north"}',
    'tag:"door 3"': lambda r: r["nth"] % 5 == 0,
    "is:wrong": lambda r: r["correct"] is False,
    "is:unknown": lambda r: r["correct"] is None,
    "is:decided assignee:ANNA": lambda r: r["verdict"] and r["assignee"] == "anna",
    "priority:>1": lambda r: r["priority"] > 1,
    "after:1970-01-01T00:01:00 before:1970-01-01T00:10:00": lambda r: 60 <= r["time_ns"] / 1e9 < 600,
    "record:req-0": lambda r: r["record_id"].lower().startswith("req-0"),
    "blurred": lambda r: r["comment"] is not None,
    "eq-": lambda r: True,
    "-7": lambda r: (
        "7" not in f"{r['record_id']} {r['label']}" and (r["predicted"] != 7 or r["predicted_label"] == "Seven")
    ),
    "nowhere": lambda r: False,
}


def test_a_search_finds_what_the_rows_say(store: Store, rows: list[Row], subtests: pytest.Subtests):
    for text, fits in FITS.items():
        with subtests.test(text):
            wanted = {r["id"] for i, r in enumerate(rows) if fits(r | {"nth": i})}
            found = ids(store, text)
            assert set(found) == wanted
            assert len(found) == len(wanted) == store.index.count(parse(text, NOW))


PLACES = {
    Sort.RANK: lambda r: r["rank"],
    Sort.QUEUE: lambda r: (r["priority"], r["queue"] or 0.0),
    Sort.TIME: lambda r: r["time_ns"],
    Sort.OLDEST: lambda r: -r["time_ns"],
    Sort.UNSURE: lambda r: -1.0 if r["confidence"] is None else np.float32(1) - np.float32(r["confidence"]),
    Sort.DECIDED: lambda r: r["decided_ns"],
}


def test_pages_are_the_whole_order_cut_in_pieces(store: Store, rows: list[Row], subtests: pytest.Subtests):
    for sort in Sort:
        with subtests.test(sort.value):
            expected = sorted(rows, key=lambda r, s=sort: (PLACES[s](r), r["id"]), reverse=True)
            assert ids(store, "", sort, size=17) == [r["id"] for r in expected]
            assert ids(store, "", sort, size=400) == [r["id"] for r in expected]


def test_a_page_neither_repeats_nor_hides_a_case_when_others_come_and_go(store: Store, rows: list[Row]):
    first = store.index.page([], Sort.RANK, None, 50)
    more = made(np.random.default_rng(8), 30)
    put(store, more)
    with store.write() as connection:
        connection.execute(t.cases.delete().where(t.cases.c.id == first.ids[3]))
    rest, cursor = [], first.cursor
    while cursor is not None:
        page = store.index.page([], Sort.RANK, cursor, 50)
        rest, cursor = rest + list(page.ids), page.cursor
    assert len(set(first.ids) | set(rest)) == len(first.ids) + len(rest)
    assert {r["id"] for r in rows} <= set(first.ids) | set(rest)


def test_what_anybody_writes_is_in_the_next_answer(store: Store, rows: list[Row]):
    c = t.cases.c
    store.index.warm()
    one, other = rows[0]["id"], rows[1]["id"]
    with store.write() as connection:
        connection.execute(t.cases.update().where(c.id == one).values(assignee="Ben", comment="ümlaut"))
        connection.execute(t.case_tags.delete().where(t.case_tags.c.case_id == one))
        connection.execute(t.case_tags.insert(), [{"case_id": other, "tag": "fresh"}])
    assert ids(store, "assignee:ben ÜMLAUT") == [one]
    assert ids(store, "tag:fresh") == [other]
    assert one not in ids(store, 'tag:"door 3"')
    with store.write() as connection:
        connection.execute(t.cases.delete().where(c.id == one))
    assert ids(store, "assignee:ben") == []
    assert store.index.count([]) == len(rows) - 1
    assert not store.index.page(parse(rows[0]["record_id"], NOW), Sort.RANK, None, 5).ids
    put(store, [rows[0]])  # the same case comes back
    assert ids(store, f"record:{rows[0]['record_id']}") == [one]
    assert store.index.count([]) == len(rows)


@pytest.mark.parametrize("again", [0, follow.AGAIN])
def test_what_a_slow_transaction_wrote_before_a_quick_one_is_not_missed(
    store: Store, rows: list[Row], again: int, monkeypatch: pytest.MonkeyPatch
):
    """PostgreSQL numbers changes before they are committed; SQLite has one writer."""
    monkeypatch.setattr(follow, "AGAIN", again)
    with store.read() as connection:
        if connection.dialect.name == "sqlite":
            pytest.skip("one writer at a time")
        url = connection.engine.url
    store.index.warm()
    engine = sa.create_engine(url)
    slow, quick = made(np.random.default_rng(9), 2)
    with engine.connect() as connection:
        connection.execute(t.cases.insert(), [slow])  # has a number, and is not committed
        put(store, [quick])
        assert store.index.count([]) == len(rows) + 1
        assert store.index.count([]) == len(rows) + 1
        connection.commit()
    assert store.index.count([]) == len(rows) + 2
    engine.dispose()


def test_changes_that_were_pruned_are_read_with_everything_else(
    store: Store, rows: list[Row], monkeypatch: pytest.MonkeyPatch
):
    store.index.warm()
    monkeypatch.setattr(follow, "KEEP_CHANGES", 1)
    put(store, made(np.random.default_rng(10), 20))
    with store.write() as connection:
        follow.prune_changes(connection)
        assert connection.scalar(sa.select(sa.func.count()).select_from(t.case_changes)) == 1
    assert store.index.count([]) == len(rows) + 20


def test_facets_count_what_the_other_fields_leave(store: Store, rows: list[Row]):
    found = store.index.facets(parse("model:m1 is:open", NOW), 50)
    assert dict(found[Field.MODEL]) == {
        m: sum(r["model"] == m and r["state"] == "open" for r in rows) for m in ("m0", "m1", "m2")
    }
    inside = [r for i, r in enumerate(rows) if r["model"] == "m1"]
    for state, n in found[Field.IS]:
        assert n == sum(r["state"] == state for r in inside)
    opened = [r for r in inside if r["state"] == "open"]
    assert dict(found[Field.REASON])["audit"] == sum(bool(r["flags"] & 64) for r in opened)
    assert store.case_counts("m1") == store.index.totals("m1")
    assert sum(n for *_, n in store.case_counts()) == len(rows)
    query = sa.select(t.cases.c.model, t.cases.c.version, t.cases.c.state, t.cases.c.flags, sa.func.count())
    with store.read() as connection:
        counted = connection.execute(query.group_by(*list(query.selected_columns)[:4])).all()
    assert sorted(store.case_counts()) == sorted(tuple(row) for row in counted)


def test_a_lease_is_shown_until_it_ends_also_where_nothing_was_written_since(
    store: Store, rows: list[Row], monkeypatch: pytest.MonkeyPatch
):
    held = [r["id"] for r in rows if r["state"] == "open"][:3]
    with store.write() as connection:
        for n, identity in enumerate(held):
            connection.execute(
                t.cases.update().where(t.cases.c.id == identity).values(lease_by="anna", lease_until_ns=1000 * (n + 1))
            )

    def shown(now_ns: int) -> tuple[set[str], int]:
        monkeypatch.setattr(index, "time", SimpleNamespace(time_ns=lambda: now_ns))
        found = store.index.facets(parse("is:leased", NOW), 50)
        leased = dict(found[Field.IS]).get("leased", 0)
        assert dict(found[Field.MODEL]).keys() == {r["model"] for r in rows if r["id"] in ids(store, "is:leased")}
        return set(ids(store, "is:leased")), leased

    assert shown(10) == (set(held), 3)
    assert shown(999) == (set(held), 3)
    assert shown(1000) == (set(held[1:]), 2)  # nobody wrote anything
    assert shown(2999) == (set(held[2:]), 1)
    assert shown(5) == (set(held), 3)  # a clock that was set back
    assert shown(3000) == (set(), 0)


def test_a_slice_is_the_cases_of_its_records(store: Store, rows: list[Row]):
    values = {c.name: None for c in t.slices.columns} | {"id": "0123456789ab", "model": "m", "version": "", "kind": "k"}
    values |= dict.fromkeys(("first_s", "last_s", "rows", "labelled", "labelled_wrong"), 0)
    values |= dict.fromkeys(("failure_rate", "low", "high", "overall_rate", "p_value"), 0.0)
    values |= {"conditions": [], "words": "w", "state": "new", "explains": []}
    values = {k: v for k, v in values.items() if v is not None or t.slices.c[k].server_default is None}
    inside = rows[::3]
    members = [
        {"slice_id": values["id"], "id_hash": r["id_hash"], "time_ns": r["time_ns"] + (i % 10 == 0), "position": i}
        for i, r in enumerate(inside)
    ]
    with store.write() as connection:
        connection.execute(t.slices.insert().values(**values))
        connection.execute(t.slice_members.insert(), members)
    found = {r["id"] for i, r in enumerate(inside) if i % 10}
    assert set(ids(store, "slice:0123456789ab")) == found
    undecided = {r["id"] for r in rows if r["state"] not in ("labelled", "dismissed")}
    (row,) = slices(store)
    assert 0 < row.waiting == len(found & undecided) < len(found)
    put(store, more := made(np.random.default_rng(11), 5))
    with store.write() as connection:
        connection.execute(
            t.slice_members.insert(),
            [{"slice_id": values["id"], "id_hash": r["id_hash"], "time_ns": r["time_ns"], "position": 0} for r in more],
        )
    assert {r["id"] for r in more} <= set(ids(store, "slice:0123456789ab"))
    with store.write() as connection:
        connection.execute(t.slice_members.delete())
        connection.execute(t.slices.delete())
    with pytest.raises(NotFound):
        ids(store, "slice:0123456789ab")


def test_a_forged_cursor_is_refused(store: Store, rows: list[Row]):
    good = store.index.page([], Sort.RANK, None, 5).cursor
    for cursor in ("x", "", "e30=", "WyJyYW5rIiwgMSwgInp6Il0=", good and good[:-6]):
        with pytest.raises(InvalidRequest):
            store.index.page([], Sort.RANK, cursor, 5)
    with pytest.raises(InvalidRequest, match="another listing"):
        store.index.page([], Sort.TIME, good, 5)


def test_many_hits_are_found_as_few_are(tmp_path: Path):
    from monitoring.listing.words import Names

    names = Names()
    texts = [f"Order-{i:05d}-{'ab' * (i % 4)}" for i in range(9000)]
    names.add(texts[:10])
    names.add(texts[10:])
    for wanted in ("order-", "-0", "abab", "899", "babab", "zz", "0\n"):
        assert names.having(wanted).tolist() == [i for i, x in enumerate(texts) if re.search(wanted, x.lower())]
    assert names.having("order-0000", at_start=True).tolist() == list(range(10))
    names.blank(np.array([3]))
    assert 3 not in names.having("order-")


@pytest.mark.parametrize("kind", ["all differ", "most are equal", "all are equal", "few are above", "sorted"])
def test_a_page_of_very_many_is_cut_where_sorting_them_would_cut_it(kind: str) -> None:
    rng = np.random.default_rng(len(kind))
    count = 60_000
    ids = rng.integers(0, 1 << 62, count).astype(np.uint64)
    decided = {
        "all differ": rng.integers(1, 1 << 60, count),
        "most are equal": np.where(rng.random(count) < 0.2, rng.integers(1, 1 << 60, count), 0),
        "all are equal": np.zeros(count, np.int64),
        "few are above": np.where(np.arange(count) % 3000 == 0, np.arange(count), 0),
        "sorted": np.arange(count),
    }[kind]
    columns = Columns(count=count)
    columns.arrays |= {"id": ids, "decided_ns": decided.astype(np.int64)}
    whole = np.lexsort((ids, decided))[::-1]
    for wanted in (1, 51, 501, 50_001):
        got = first(columns, Sort.DECIDED, np.ones(count, np.bool_), wanted)
        assert got.tolist() == whole[:wanted].tolist()
