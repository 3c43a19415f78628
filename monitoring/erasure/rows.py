"""Erasing from the database: the rows about a record go; of what it shares with others, only its part.

Counts of windows stay: they say that there was a record, not which.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import sqlalchemy as sa

from monitoring import schema as t
from monitoring.datasets.erasing import mark_snapshots
from monitoring.erasure.requests import digest_of
from monitoring.keys import audit_ranks, printable, record_hash
from monitoring.review.erasure import erase_words
from monitoring.samples import WindowSample

ERASED = "erased:"

# Every table, and what an erasure does to it. A test holds this against the schema: whoever adds a table says here
# what becomes of a record in it.
# Rows are about one record.
DELETED = ("records", "cases", "feedback", "slice_members", "test_set_items", "snapshot_items", "batch_cases",
           "keyed_feedback", "settle_due")  # fmt: skip
# Go with their case, or with their record.
CASCADES = ("case_tensors", "case_tags", "case_answers", "selection_cases", "record_keys")
SAMPLES = ("window_samples",)  # rows of many records: the erased ones are taken out
OWN = ("erasures", "erasure_items")  # the account of the erasure itself
EMPTIED = ("decisions",)  # the trail stays: who decided when, without what was said
# About people and keys; no id of a record is ever written into them.
PEOPLE = ("api_keys", "audit_events", "sessions", "sign_in_tries", "users")
# Nothing in these is about one record; wherever an id stands in a text it becomes "erased:" and part of its digest.
SCRUBBED = (
    "accounting",
    "accuracy_estimates",
    "acts",
    "alarm_events",
    "alarm_watches",
    "alarms",
    "archive_files",
    "audit_labels",  # evidence that was given stays given: without the id
    "audit_windows",
    "batches",
    "case_changes",  # which cases changed, by their ids: what follows lists, and ends with the day
    "case_windows_due",
    "dead_letters",
    "deliveries",
    "events",
    "experiment_imports",
    "experiment_runs",
    "experiment_versions",
    "external_projects",
    "external_tasks",  # the task itself is taken out of the tool: monitoring.integrations.worker
    "external_tools",
    "facts",
    "gate_sets",
    "gates",
    "leases",
    "notices",
    "offsets",
    "purges",
    "replays",
    "report_columns",
    "rollout_events",
    "rollouts",  # counts
    "saved_views",
    "score_fits",
    "selections",
    "signals",
    "silences",
    "slice_events",
    "slice_points",
    "slice_watches",
    "slice_windows",  # sums and histograms
    "slices",
    "snapshots",
    "test_sets",
    "training_events",
    "trainings",
    "trigger_decisions",
    "versions",
    "windows",  # sums and histograms
)


@dataclass(frozen=True, slots=True)
class Hit:
    """A record that was found: enough to find its parts elsewhere."""

    model: str
    version: str
    variant: str
    id_hash: int
    time_ns: int


def erase_rows(connection: sa.Connection, ids: Sequence[str], model: str | None) -> tuple[Counter[str], list[Hit]]:
    """Erase records from every table; returns rows by table, and what was found."""
    counts: Counter[str] = Counter()
    hits: list[Hit] = []
    names = sorted({printable(identity) for identity in ids})
    models = [model] if model is not None else _models(connection)
    for start in range(0, len(names), 200):
        chunk = names[start : start + 200]
        hashes = [record_hash(m, i) for m in models for i in chunk] + [
            record_hash(m, i) for m in models for i in ids if not i.isascii()
        ]
        hits += _found(connection, hashes, chunk)
        counts["batch_cases"] += _take_from_batches(connection, hashes, chunk)
        counts["keyed_feedback"] += _forget_keys(connection, hashes, chunk)
        counts["decisions"] += erase_words(connection, hashes, chunk)
        mark_snapshots(connection, hashes, chunk)
        for table in (
            t.slice_members,
            t.test_set_items,
            t.snapshot_items,
            t.settle_due,
            t.records,
            t.cases,
            t.feedback,
        ):
            c = table.c
            where = [c.id_hash.in_(part) for part in _parts(hashes)]
            named = [c.record_id.in_(chunk)] if "record_id" in c else []
            for condition in where:
                counts[table.name] += connection.execute(table.delete().where(condition, *named)).rowcount
    for hit in hits:
        counts["window_samples"] += _erase_sample(connection, hit)
    for table in t.metadata.sorted_tables:
        if table.name in SCRUBBED:
            for name in names:
                counts[table.name] += _scrub(connection, table, name)
    return Counter({kind: n for kind, n in counts.items() if n}), hits


def _models(connection: sa.Connection) -> list[str]:
    found = {""}
    for column in (t.versions.c.model, t.feedback.c.model, t.cases.c.model):
        found.update(connection.scalars(sa.select(column).distinct()))
    return sorted(found)


def _forget_keys(connection: sa.Connection, hashes: list[int], names: list[str]) -> int:
    """What was said about records by a business key of theirs goes with them."""
    r, k, f = t.records.c, t.record_keys.c, t.keyed_feedback.c
    gone = 0
    for part in _parts(hashes):
        about = sa.select(k.key_hash).join(t.records, r.seq == k.seq)
        about = about.where(r.id_hash.in_(part), r.record_id.in_(names))
        gone += connection.execute(t.keyed_feedback.delete().where(f.key_hash.in_(about))).rowcount
    return gone


def _found(connection: sa.Connection, hashes: list[int], names: list[str]) -> list[Hit]:
    r, v = t.records.c, t.versions.c
    query = sa.select(v.model, v.version, r.variant, r.id_hash, r.time_ns).join(t.versions, r.version_id == v.id)
    rows = [
        row
        for part in _parts(hashes)
        for row in connection.execute(query.where(r.id_hash.in_(part), r.record_id.in_(names)))
    ]
    return [Hit(*row) for row in rows]


def _take_from_batches(connection: sa.Connection, hashes: list[int], names: list[str]) -> int:
    """A batch knows its cases by their ids alone; they go before their cases do."""
    c, b = t.cases.c, t.batch_cases.c
    gone = 0
    for part in _parts(hashes):
        erased = sa.select(c.id).where(c.id_hash.in_(part), c.record_id.in_(names))
        gone += connection.execute(t.batch_cases.delete().where(b.case_id.in_(erased))).rowcount
    return gone


def _erase_sample(connection: sa.Connection, hit: Hit) -> int:
    """Take a record's rows out of the samples of its windows; its lot says which they are."""
    lot = float(audit_ranks(np.array([hit.id_hash]), np.array([hit.time_ns]))[0])
    w, s, v = t.windows.c, t.window_samples.c, t.versions.c
    second = hit.time_ns // 10**9
    query = (
        sa.select(s.window_id, s.data)
        .join(t.windows, w.id == s.window_id)
        .join(t.versions, v.id == w.version_id)
        .where(v.model == hit.model, v.version == hit.version, w.variant == hit.variant)
        .where(w.start_s <= second, w.start_s + w.length_s > second)
    )
    changed = 0
    for window_id, data in list(connection.execute(query)):
        sample = WindowSample.decode(data)
        stay = sample.lots != lot
        if stay.all():
            continue
        rest = WindowSample(
            capacity=sample.capacity,
            columns=sample.columns,
            lots=sample.lots[stay],
            predicted=sample.predicted[stay],
            values=sample.values[stay],
        )
        update = t.window_samples.update().where(s.window_id == window_id)
        connection.execute(update.values(data=rest.encode()))
        changed += 1
    return changed


def _scrub(connection: sa.Connection, table: sa.Table, name: str) -> int:
    """Replace an id wherever it stands in a text of a table that is not about single records."""
    keys = list(table.primary_key.columns)
    instead = ERASED + digest_of(name)[:16]
    spelled = json.dumps(name)[1:-1]
    changed = 0
    for column in table.c:
        if not isinstance(column.type, sa.String | sa.JSON):
            continue
        text = sa.cast(column, sa.Text)
        like = sa.or_(*(text.contains(part, autoescape=True) for part in {name, spelled}))
        for row in list(connection.execute(sa.select(*keys, column.label("value")).where(like))):
            value = row.value
            if isinstance(column.type, sa.JSON):
                new = json.loads(json.dumps(value).replace(spelled, instead))
            else:
                new = value.replace(spelled, instead).replace(name, instead)
            where = [key == row[i] for i, key in enumerate(keys)]
            connection.execute(table.update().where(*where).values({column.name: new}))
            changed += 1
    return changed


def _parts(hashes: list[int], size: int = 400) -> list[list[int]]:
    return [hashes[i : i + size] for i in range(0, len(hashes), size)]
