"""A store with very many cases, quickly: `python -m benchmarks.review_world URL [--cases N]`.

Twenty versions of four models over ninety days, with the columns that lists filter, search and sort by, embeddings of
64 numbers in clusters, reviewers' tags, a slice, and a record for each case. Seeded; a million cases are written in
about a minute and a half to SQLite and to PostgreSQL.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import sqlalchemy as sa

from monitoring import schema as t
from monitoring.keys import case_id, record_hash
from monitoring.store import Store

START_S = 1_772_000_040
BLOCK = 20_000
CLASSES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
STATES, STATE_SHARES = ("open", "labelled", "dismissed", "second_opinion"), (0.7, 0.2, 0.08, 0.02)
FLAGS, FLAG_SHARES = (1, 2, 3, 4, 32, 33, 64, 128), (0.4, 0.15, 0.1, 0.05, 0.1, 0.05, 0.1, 0.05)
PEOPLE = ("", "", "", "anna", "ben", "chloe")
COMMENTS = (None, None, None, "label smudged, read it off the parcel", "two digits in one picture", "wrong crop")
WIDTH = 64
SLICE = "0123456789ab"


def rows_of(cases: int, seed: int = 1) -> Iterator[tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]]:
    """Rows of `cases` and of `records` in blocks, values in the order of their columns."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(200, WIDTH)).astype(np.float32)
    names = [c.name for c in t.cases.columns]
    record_names = [c.name for c in t.records.columns]
    scores, timing = json.dumps({"msp": 0.5, "margin": 0.2, "entropy": 1.2}), json.dumps({"queue": 40, "compute": 180})
    flat = json.dumps([0.1] * 10)
    for start in range(0, cases, BLOCK):
        n = min(BLOCK, cases - start)
        p = rng.beta(2, 3, n)
        times = START_S * 10**9 + rng.integers(0, 90 * 86_400 * 10**9, n)
        predicted, truth = rng.integers(0, 10, n), rng.integers(0, 10, n)
        versions, state = rng.integers(0, 20, n), rng.choice(len(STATES), n, p=STATE_SHARES)
        flags = rng.choice(FLAGS, n, p=FLAG_SHARES)
        vectors = centres[rng.integers(0, 200, n)] + 0.6 * rng.normal(size=(n, WIDTH)).astype(np.float32)
        whole = np.rint(vectors * (127 / np.abs(vectors).max(axis=1, keepdims=True))).astype(np.int8).tobytes()
        queue, who, said = rng.random(n), rng.integers(0, len(PEOPLE), n), rng.integers(0, len(COMMENTS), n)
        made, records = [], []
        for i in range(n):
            # The first version has half of all cases: the worst case of everything that works by version.
            number = int(versions[i]) if i % 2 else 0
            model, record_id, time_ns = (
                f"model{number % 4}",
                f"req-{start + i:08d}-{int(p[i] * 1e6):06x}",
                int(times[i]),
            )
            known, identity, hashed = state[i] == 1, case_id(model, record_id, time_ns), record_hash(model, record_id)
            vector = whole[i * WIDTH : (i + 1) * WIDTH]
            values: dict[str, Any] = {
                "id": identity, "id_hash": hashed, "record_id": record_id, "model": model,
                "version": str(1 + number // 4), "variant": "champion", "time_ns": time_ns,
                "window_start_s": time_ns // 60_000_000_000 * 60, "state": STATES[state[i]], "flags": int(flags[i]),
                "rank": float(p[i]), "p_wrong": float(p[i]), "confidence": float(1 - p[i]),
                "predicted": int(predicted[i]), "predicted_label": CLASSES[predicted[i]],
                "label": str(int(truth[i])) if known else None,
                "correct": bool(predicted[i] == truth[i]) if known else None,
                "scores": scores, "probabilities": flat, "outcome": "ok", "rows": 1, "row": 0, "timing_us": timing,
                "tags": "night" if i % 9 == 0 else None, "comment": COMMENTS[said[i]], "source": "r-1",
                "input_state": "kept" if start + i < 2000 else "expired", "vector": vector, "group_id": identity,
                "likeness": 1.0, "queue": float(queue[i]), "edition": 0, "lease_by": "", "lease_until_ns": 0,
                "assignee": PEOPLE[who[i]], "priority": int(i % 50 == 0), "opinions": 1,
                "verdict": "label" if known else "", "decided_by": "anna" if known else "",
                "decided_ns": time_ns if known else 0, "decided_label": "",
            }  # fmt: skip
            made.append(tuple(values.get(name) for name in names))
            record = {
                "seq": start + i + 1, "id_hash": hashed, "time_ns": time_ns, "record_id": record_id,
                "version_id": number + 1, "variant": "champion", "outcome": "ok", "rows": 1, "worst_row": 0,
                "flags": int(flags[i]), "predicted": int(predicted[i]), "p_wrong": float(p[i]),
                "confidence": float(1 - p[i]), "probability": 1.0, "source": "r-1", "segment": 1,
                "offset": 0, "sequence": 0, "vector": vector,
                "label": values["label"], "correct_rows": None,
            }  # fmt: skip
            records.append(tuple(record.get(name, _empty(t.records.c[name])) for name in record_names))
        yield made, records


def _empty(column: sa.Column[Any]) -> Any:
    return (
        None if column.nullable else {int: 0, float: 0.0, str: "", bool: False, bytes: b""}.get(column.type.python_type)
    )


def build(store: Store, cases: int) -> float:
    """Fill an empty store; returns the seconds it took."""
    started = time.perf_counter()
    with store.write() as connection:
        sqlite = connection.dialect.name == "sqlite"
        triggers = _silence(connection, sqlite)
        connection.execute(t.versions.insert(), [
            {"id": n + 1, "model": f"model{n % 4}", "version": str(1 + n // 4), "digest": "",
             "first_ns": START_S * 10**9, "last_ns": (START_S + 90 * 86_400) * 10**9} for n in range(20)
        ])  # fmt: skip
        for made, records in rows_of(cases):
            _put(connection, t.cases, made, sqlite)
            _put(connection, t.records, records, sqlite)
            place = {c.name: i for i, c in enumerate(t.cases.columns)}
            tagged = [(row[place["id"]], ("checked", "crop", "door-3")[i % 3]) for i, row in enumerate(made[::20])]
            _put(connection, t.case_tags, tagged, sqlite)
            if records and records[0][0] == 1:
                _slice(connection, [(row[place["id_hash"]], row[place["time_ns"]]) for row in made[::4]])
        _speak(connection, sqlite, triggers)
        connection.exec_driver_sql("ANALYZE")
    return time.perf_counter() - started


def _slice(connection: sa.Connection, members: Sequence[tuple[int, int]]) -> None:
    values: dict[str, Any] = {
        c.name: _plain(c) for c in t.slices.columns if not c.nullable and c.server_default is None
    }
    values |= {"id": SLICE, "model": "model0", "kind": "attributes", "words": "tag is night", "state": "new"}
    connection.execute(t.slices.insert().values(**values))
    rows = [{"slice_id": SLICE, "id_hash": h, "time_ns": n, "position": i} for i, (h, n) in enumerate(members)]
    connection.execute(t.slice_members.insert(), rows)


def _plain(column: sa.Column[Any]) -> Any:
    return [] if isinstance(column.type, sa.JSON) else _empty(column)


def _put(connection: sa.Connection, table: sa.Table, rows: Sequence[tuple[Any, ...]], sqlite: bool) -> None:
    names = [c.name for c in table.columns]
    raw = connection.connection.dbapi_connection
    assert raw is not None
    cursor = raw.cursor()
    columns = ", ".join(f'"{name}"' for name in names)
    if sqlite:
        cursor.executemany(f"INSERT INTO {table.name} ({columns}) VALUES ({', '.join('?' * len(names))})", rows)
    else:
        with cursor.copy(f"COPY {table.name} ({columns}) FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)
    cursor.close()


def _silence(connection: sa.Connection, sqlite: bool) -> list[str]:
    """Triggers would note a million changes that nobody follows yet."""
    if not sqlite:
        for table in ("cases", "case_tags"):
            connection.exec_driver_sql(f"ALTER TABLE {table} DISABLE TRIGGER USER")
        return []
    rows = connection.exec_driver_sql("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").all()
    for name, _ in rows:
        connection.exec_driver_sql(f"DROP TRIGGER {name}")
    return [sql for _, sql in rows]


def _speak(connection: sa.Connection, sqlite: bool, triggers: Sequence[str]) -> None:
    for sql in triggers:
        connection.exec_driver_sql(sql)
    if not sqlite:
        for table in ("cases", "case_tags"):
            connection.exec_driver_sql(f"ALTER TABLE {table} ENABLE TRIGGER USER")


def main(arguments: Sequence[str] | None = None) -> int:
    """Fill a database."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.review_world", description="a store with many cases")
    parser.add_argument("url", help="SQLAlchemy URL of an empty database")
    parser.add_argument("--cases", type=int, default=1_000_000)
    options = parser.parse_args(arguments)
    store = Store(options.url)
    print(f"{options.cases:,} cases in {build(store, options.cases):.0f} s")
    store.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
