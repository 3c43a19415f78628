"""A filled console (`console_store.fill`) with slices among its cases, straight into the tables."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import sqlalchemy as sa
from fastapi import FastAPI

from monitoring import schema as t
from monitoring.api.app import build_console
from monitoring.api.options import ConsoleOptions
from monitoring.report_frames import Column, finite_frame
from monitoring.reports import ReportOptions, ReportService
from monitoring.store import Store
from tests.support.console_server import client as connected
from tests.support.console_store import START_S, Day, MemoryCatalogue, StillMonitor, complete, fill, manifest

EIGHTS, DARK, BLURRED = "a" * 12, "b" * 12, "c" * 12
SLICES = (
    (EIGHTS, [["predicted", "eight"]], "predicted is eight", 0.42, 160),
    (DARK, [["x:brightness", "low"]], "x brightness is low", 0.31, 90),
    (BLURRED, [["x:sharpness", "low"]], "x sharpness is low", 0.2, 200),
)


@dataclass(kw_only=True)
class SliceWorld:
    store: Store
    day: Day
    app: FastAPI
    client: httpx.Client

    def get(self, path: str, status: int = 200, **query: Any) -> Any:
        response = self.client.get(path, params=query)
        assert response.status_code == status, response.text
        return response.json()

    def post(self, path: str, body: Any = None, status: int = 200) -> Any:
        response = self.client.post(path, json={} if body is None else body)
        assert response.status_code == status, response.text
        return response.json()


@contextmanager
def slice_world(
    root: Path, *, url: str | None = None, texts: tuple[str, ...] = (), reporting: bool = False
) -> Iterator[SliceWorld]:
    """A console over a store with three slices of forty cases each; `reporting`: reports have rows."""
    store = Store(url or f"sqlite:///{root}/monitor.db")
    day = fill(store, texts=texts)
    fill_slices(store, texts)
    reports = ReportService(ReportOptions(folder=root / "reports"), _frames if reporting else lambda request, most: ())
    catalogue = MemoryCatalogue(manifests=(manifest(version="1"), manifest(version="2"), manifest("fresh", "1")))
    app = build_console(store, catalogue, StillMonitor(), lambda: [], ConsoleOptions(), reports=reports)
    try:
        with connected(app) as client:
            yield SliceWorld(store=store, day=day, app=app, client=client)
    finally:
        reports.close()
        store.close()


def _frames(request: Any, most: int) -> Any:
    rng = np.random.default_rng(2)
    columns = (Column(name="a"), Column(name="b"))
    return tuple(finite_frame(columns, rng.normal(at, 1, size=(200, 2)), 200) for at in (0.0, 3.0))


def fill_slices(store: Store, texts: tuple[str, ...] = ()) -> None:
    """Three slices with trend and members."""
    end_s = START_S + 90 * 60
    with store.write() as connection:
        c = t.cases.c
        keys = connection.execute(sa.select(c.id_hash, c.time_ns).order_by(c.rank.desc(), c.id)).all()
        for number, (identity, conditions, usual, rate, rows) in enumerate(SLICES):
            words = texts[number % len(texts)] if texts else usual
            values = {
                "id": identity,
                "model": "digits",
                "kind": "attributes",
                "conditions": conditions,
                "words": words,
                "state": "new",
                "first_s": end_s - 3000,
                "last_s": end_s if identity != BLURRED else end_s - 600,
                "rows": rows,
                "failure_rate": rate,
                "low": rate - 0.08,
                "high": rate + 0.08,
                "overall_rate": 0.06,
                "labelled": 30 if identity == EIGHTS else 3,
                "labelled_wrong": 12 if identity == EIGHTS else 1,
                "p_value": 0.0004,
                "explains": [],
            }
            connection.execute(t.slices.insert().values(**complete(t.slices, values)))
            for i in range(11):
                at = rate * (0.3 + 0.7 * i / 10)
                point = {"slice_id": identity, "end_s": end_s - 300 * (10 - i), "rows": rows - 5 * i}
                rates = {"failure_rate": at, "low": max(at - 0.08, 0.0), "high": at + 0.08, "overall_rate": 0.06}
                connection.execute(t.slice_points.insert().values(**point, **rates))
            mine = [key for i, key in enumerate(keys) if i % 3 == number][:40]
            connection.execute(
                t.slice_members.insert(),
                [{"slice_id": identity, "id_hash": h, "time_ns": at, "position": i} for i, (h, at) in enumerate(mine)],
            )
