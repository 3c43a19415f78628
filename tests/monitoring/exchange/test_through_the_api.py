"""Cases out of a running console into files, and labels back: everything or nothing, and never twice."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from PIL import Image

from deploy.errors import Refused
from deploy.exchange import export_cases, import_labels, read_labels
from deploy.monitor_client import MonitorClient
from monitoring import schema as t
from monitoring.api.app import build_console
from monitoring.api.options import ConsoleOptions
from monitoring.exchange.contracts import Labelled, Truth
from monitoring.exchange.formats import FORMATS
from monitoring.reports import ReportOptions, ReportService
from monitoring.store import Store
from tests.support.console_server import client as connected
from tests.support.console_store import MemoryCatalogue, StillMonitor, fill, manifest

NASTY = "=cmd|' /C calc'!A0 \"quoted\",\nnext line"
CLASSES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", NASTY)


@dataclass(kw_only=True)
class World:
    store: Store
    client: MonitorClient
    http: httpx.Client


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    tmp_path = tmp_path_factory.mktemp("exchange")
    store = Store(f"sqlite:///{tmp_path}/monitor.db")
    fill(store, windows=3, cases=40)
    reports = ReportService(ReportOptions(folder=tmp_path / "reports"), lambda *_: None)  # type: ignore[arg-type,return-value]
    catalogue = MemoryCatalogue(manifests=tuple(manifest(version=v, classes=CLASSES) for v in ("1", "2")))
    app = build_console(store, catalogue, StillMonitor(), list, ConsoleOptions(), reports=reports)
    with connected(app) as http:
        yield World(store=store, client=MonitorClient("http://127.0.0.1", client=http), http=http)
    reports.close()
    store.close()


def standings(store: Store) -> dict[str, tuple[str, str]]:
    with store.read() as connection:
        rows = connection.execute(sa.select(t.cases.c.id, t.cases.c.verdict, t.cases.c.decided_label))
        return {row.id: (row.verdict, row.decided_label) for row in rows}


def labels_of(store: Store, cases: Iterable[str]) -> dict[str, Any]:
    found = standings(store)
    return {case: json.loads(found[case][1]) for case in cases}


@pytest.mark.parametrize("name", ["coco", "csv", "cvat", "datumaro", "folders", "jsonl", "labelme", "scalabel"])
def test_what_is_exported_and_labelled_comes_back(name: str, world: World, tmp_path: Path) -> None:
    """Export; label as a tool would, by writing the same format anew with labels; import; again: nothing changes."""
    done = export_cases(world.client, name, tmp_path / "out", model="digits", inputs="true", limit=12)
    assert done.cases == 12
    pictures = list((tmp_path / "out").rglob("*.png"))
    assert len(pictures) == 12
    with Image.open(pictures[0]) as picture:
        assert picture.size == (8, 8)

    shift = sorted(FORMATS).index(name)  # other labels than the last import gave
    given = {p.stem: CLASSES[-1 - (i + shift) % 10] for i, p in enumerate(sorted(pictures))}
    labels = [Labelled(case=case, truth=Truth(label=label), where=case) for case, label in given.items()]
    answer = import_labels(world.client, labels, source=name, dry_run=True)
    assert (answer["labels"], answer["changed"], answer["problems"]) == (12, 0, [])

    export_again = tmp_path / "labelled"
    assert import_labels(world.client, labels, source=name, dry_run=False)["changed"] > 0
    export_cases(world.client, name, export_again, model="digits", inputs="true")
    found, problems = read_labels(name, export_again)
    assert not problems
    assert labels_of(world.store, given) == given
    again = import_labels(world.client, labels, source=name, dry_run=False)
    assert (again["changed"], sum(again["skipped"].values())) == (0, 12)
    assert labels_of(world.store, given) == given
    assert {one.case for one in found} <= set(standings(world.store))


def test_one_problem_and_nothing_is_imported(world: World) -> None:
    before = standings(world.store)
    good, *rest = sorted(before)
    labels = [
        Labelled(case=good, truth=Truth(label="one"), where="f:1"),
        Labelled(case="0" * 16, truth=Truth(label="one"), where="f:2"),
        Labelled(case=rest[0], truth=Truth(label="giraffe"), where="f:3"),
        Labelled(case=rest[1], truth=Truth(labels=("one", "two")), where="f:4"),
    ]
    answer = import_labels(world.client, labels, source="file", dry_run=False)
    assert [p["where"] for p in answer["problems"]] == ["f:2", "f:3", "f:4"]
    assert "giraffe" in answer["problems"][1]["text"]
    assert answer["changed"] == 0
    assert standings(world.store) == before


def test_csv_goes_straight_into_the_api(world: World) -> None:
    case = next(case for case, (verdict, _) in sorted(standings(world.store).items()) if not verdict)
    body = f'case,label,comment\r\n{case},one,"said, by ""ann"""\r\n'
    sent = world.http.post(
        "/api/review/import?key=k1&source=sheet.csv", content=body.encode(), headers={"content-type": "text/csv"}
    )
    assert sent.status_code == 200, sent.text
    assert sent.json()["changed"] == 1
    assert standings(world.store)[case] == ("label", '"one"')
    broken = world.http.post("/api/review/import?key=k2", content=b"\xff\xfe", headers={"content-type": "text/csv"})
    assert broken.json()["problems"][0]["text"] == "not UTF-8"


def test_an_export_never_writes_among_other_files(world: World, tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "mine.txt").write_text("x")
    with pytest.raises(Refused):
        export_cases(world.client, "jsonl", tmp_path / "here", model="digits")
    assert [p.name for p in (tmp_path / "here").iterdir()] == ["mine.txt"]


def test_every_format_has_a_title_and_a_name() -> None:
    assert all(form.name == name and form.title and form.tasks for name, form in FORMATS.items())
