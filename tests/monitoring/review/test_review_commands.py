"""`hardcase review` against a monitor's API: the commands, and the session in a terminal."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rich.console import Console

from deploy.cli.main import main
from deploy.cli.review_session import ReviewSession
from deploy.monitor_client import MonitorClient
from monitoring.api.app import build_console
from monitoring.api.options import ConsoleOptions
from monitoring.reports import ReportOptions, ReportService
from monitoring.store import Store
from tests.support.console_server import listening
from tests.support.console_store import MemoryCatalogue, StillMonitor, manifest
from tests.support.review_cases import fill

Call = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Store]]:
    root = tmp_path_factory.mktemp("commands")
    store = Store(f"sqlite:///{root}/m.db")
    reports = ReportService(ReportOptions(folder=root / "r"), lambda *_: None)  # type: ignore[arg-type]
    catalogue = MemoryCatalogue(manifests=(manifest(version="1"),))
    app = build_console(store, catalogue, StillMonitor(), list, ConsoleOptions(), reports=reports)
    with listening(app) as address:
        yield address, store
    reports.close()
    store.close()


@pytest.fixture
def call(
    served: tuple[str, Store], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Call:
    host, _, port = served[0].removeprefix("http://").partition(":")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HARDCASE__MONITOR__HOST", host)
    monkeypatch.setenv("HARDCASE__MONITOR__PORT", port)

    def run(*arguments: str) -> tuple[int, str]:
        code = main(["review", *arguments])
        return code, capsys.readouterr().out

    return run


def test_commands_decide_undo_and_tell_the_story(call: Call, served: tuple[str, Store]):
    ids = fill(served[1], 12, model="words")
    taken = json.loads(call("next", "--model", "words", "--count", "2", "--json")[1])
    assert [case["id"] for case in taken["cases"]] == ids[:2]
    code, out = call("decide", ids[0], "label", "--label", "seven", "--key", "k")
    assert (code, "labelled" in out) == (0, True)
    assert call("decide", ids[0], "label", "--label", "seven", "--key", "k", "--edition", "0")[0] == 0
    assert call("decide", ids[0], "dismiss", "--edition", "0")[0] == 4
    code, out = call("bulk", "dismiss", "--model", "words", "--yes")
    assert (code, "11 changed, 1 settled" in out) == (0, True)
    act = out.rpartition("act ")[2].strip(" )\n")
    assert "11 changed" in call("undo", act)[1]
    assert call("undo", act)[0] != 0
    assert "label None → seven" in call("history", ids[0])[1]
    assert [a["kind"] for a in json.loads(call("history", "--json")[1])["acts"][:2]] == ["undo", "bulk"]
    assert json.loads(call("pace", "--model", "words", "--json")[1])["decided"] == 1
    assert call("bulk", "dismiss")[0] == 2
    assert call("history", "0" * 16)[0] == 3


def test_a_session_in_the_terminal_is_one_key_a_case(served: tuple[str, Store]):
    ids = fill(served[1], 6, model="keys")
    shown = io.StringIO()
    keys = iter("cxwzcslq")  # x is no key; the undo takes "wrong" back and shows that case again
    client = MonitorClient(served[0])
    session = ReviewSession(
        client,
        {"model": "keys"},
        Console(file=shown, width=100),
        key=lambda: next(keys),
        line=lambda _: "seven",
    )
    session.run()
    found = {c["id"]: c["standing"] for c in client.cases(model="keys")}
    client.close()
    assert [found[x]["verdict"] for x in ids] == ["correct", "correct", None, "label", None, None]
    assert found[ids[3]]["label"] == "seven"
    assert all(standing["lease_by"] is None for standing in found.values())
    assert "Taken back." in shown.getvalue()
    assert "3 decided." in shown.getvalue()
