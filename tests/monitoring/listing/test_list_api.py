"""Lists over HTTP: filters, counts, ids, facets, files, saved views, and acts over what a search finds."""

from __future__ import annotations

import base64
import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from monitoring.api.app import build_console
from monitoring.api.options import ConsoleOptions
from monitoring.listing.export import cell
from monitoring.reports import ReportOptions, ReportService
from monitoring.store import Store
from tests.support.console_server import client as client_of
from tests.support.console_store import MemoryCatalogue, StillMonitor, fill, manifest

FORMULAS = ("=cmd|'/c calc'!A1", "+1+1", "-2+3", "@SUM(A1)", "\tx", 'a "quoted", text\nof two lines')


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    yield from served(tmp_path_factory.mktemp("lists"), ())


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    yield from served(tmp_path_factory.mktemp("formulas"), FORMULAS)


def served(root: Path, texts: tuple[str, ...]) -> Iterator[httpx.Client]:
    store = Store(f"sqlite:///{root}/m.db")
    fill(store, windows=12, cases=120, texts=texts)
    reports = ReportService(ReportOptions(folder=root / "reports"), lambda *_: (_ for _ in ()).throw(ValueError))
    catalogue = MemoryCatalogue(manifests=(manifest(version="1"), manifest(version="2")))
    app = build_console(store, catalogue, StillMonitor(), list, ConsoleOptions(), reports=reports)
    with client_of(app) as made:
        yield made
    reports.close()
    store.close()


def got(client: httpx.Client, path: str) -> dict[str, object]:
    answer = client.get(path)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_list_count_ids_and_facets_tell_the_same_story(client: httpx.Client):
    query = "q=is:open -reason:audit&min_score=0.3"
    cases = got(client, f"/api/cases?{query}&limit=500")["cases"]
    ids = got(client, f"/api/cases/ids?{query}")["ids"]
    assert cases
    assert [case["id"] for case in cases] == ids
    assert got(client, f"/api/cases/count?{query}") == {"count": len(ids)}
    found = got(client, f"/api/cases/facets?{query}")
    assert found["count"] == len(ids)
    assert {"value": "open", "count": len(ids)} in found["facets"]["is"]
    assert all(case["state"] == "open" and case["p_wrong"] >= 0.3 and "audit" not in case["reasons"] for case in cases)


def test_a_class_is_found_by_its_name_and_by_its_index(client: httpx.Client):
    by_name = got(client, "/api/cases/ids?class=seven")["ids"]
    assert by_name
    assert by_name == got(client, "/api/cases/ids?class=7")["ids"] == got(client, "/api/cases/ids?q=class:SEVEN")["ids"]
    labelled = got(client, "/api/cases/ids?label=three")["ids"]
    assert labelled == got(client, "/api/cases/ids?label=3")["ids"]


@pytest.mark.parametrize("path", ["", "/ids", "/count", "/facets", "/export"])
def test_a_search_that_cannot_be_read_is_refused_everywhere(client: httpx.Client, path: str):
    answer = client.get(f"/api/cases{path}?q=modle:x")
    assert answer.status_code == 400
    assert "did you mean 'model:'" in answer.json()["error"]


def test_json_lines_hold_every_case_with_its_input(client: httpx.Client):
    answer = client.get("/api/cases/export?format=jsonl&order=time&inputs=true")
    assert answer.headers["content-type"].startswith("application/x-ndjson")
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert [line["id"] for line in lines] == got(client, "/api/cases/ids?order=time")["ids"]
    one = next(line for line in lines if line["inputs"])
    raw = base64.b64decode(one["inputs"][0]["data"])
    assert raw == client.get(f"/api/cases/{one['id']}/input").content
    assert np.frombuffer(raw, "<f4").size == 64


def test_no_cell_of_a_csv_file_starts_a_formula(hostile: httpx.Client):
    """S18: what clients sent is text in a spreadsheet, and still the same text."""
    answer = hostile.get("/api/cases/export?format=csv")
    assert 'filename="cases.csv"' in answer.headers["content-disposition"]
    rows = list(csv.DictReader(io.StringIO(answer.content.decode(), newline="")))
    assert len(rows) == 120
    texts = [row[name] for row in rows for name in ("record_id", "predicted_label", "client_tags", "error", "label")]
    assert any("cmd|" in text for text in texts)
    assert not [text for text in texts if text.startswith(("=", "+", "-", "@", "\t", "\r"))]
    assert "'" + FORMULAS[0] in texts
    assert float(min(row["p_wrong"] for row in rows if row["p_wrong"])) > 0
    assert cell(-1.5) == "-1.5"


def test_views_are_kept_replaced_and_deleted(client: httpx.Client):
    body = {"name": "mine", "query": "?q=is%3Aopen&cursor=x&order=time", "shared": True}
    made = client.post("/api/views", json=body).json()
    assert made["query"] == "q=is%3Aopen&order=time"
    again = client.post("/api/views", json=body | {"query": "state=open"}).json()
    assert again["id"] == made["id"]
    assert got(client, "/api/views")["views"] == [again]
    assert again["own"]
    page = got(client, "/cases?state=open&format=json")
    assert [view["name"] for view in page["views"]] == ["mine"]
    assert client.request("DELETE", f"/api/views/{made['id']}").status_code in (200, 413)
    client.request("DELETE", f"/api/views/{made['id']}", json={})
    assert got(client, "/api/views")["views"] == []
    assert client.request("DELETE", f"/api/views/{made['id']}", json={}).status_code == 404


def test_what_a_search_finds_is_tagged_at_once_and_found_by_it(client: httpx.Client):
    wanted = got(client, "/api/cases/ids?q=is:dismissed")["ids"]
    body = {"key": "k-1", "selection": {"filter": {"q": "is:dismissed"}}, "add": ["second look"]}
    act = client.post("/api/review/tags", json=body).json()
    assert act["changed"] == len(wanted)
    assert set(got(client, '/api/cases/ids?q=tag:"second look"')["ids"]) == set(wanted)
    cases = got(client, '/api/cases?q=tag:"second look"&limit=1')["cases"]
    assert cases[0]["case_tags"] == ["second look"]
    client.post(f"/api/review/acts/{act['act']}/undo", json={"key": "k-2"})
    assert got(client, '/api/cases/count?q=tag:"second look"') == {"count": 0}


def test_the_page_says_what_is_wrong_with_a_search(client: httpx.Client):
    answer = client.get("/cases?q=scroe:1", headers={"accept": "text/html"})
    assert answer.status_code == 400
    assert "did you mean &#39;score:&#39;" in answer.text
    assert 'aria-invalid="true"' in answer.text
