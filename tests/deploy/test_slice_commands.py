"""`hardcase slices` against a console that listens."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from deploy.cli import main
from deploy.monitor_client import MonitorClient
from tests.support.slice_world import EIGHTS, SliceWorld, slice_world

Call = Callable[..., str]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SliceWorld]:
    with slice_world(tmp_path_factory.mktemp("cli")) as made:
        yield made


@pytest.fixture
def call(
    world: SliceWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Call:
    monkeypatch.chdir(tmp_path)
    client = MonitorClient(str(world.client.base_url), client=world.client)
    monkeypatch.setattr(MonitorClient, "of", lambda settings: client)

    def made(*arguments: str, code: int = 0) -> str:
        assert main(["slices", *arguments]) == code
        return capsys.readouterr().out

    return made


def test_a_slice_is_followed_from_the_command_line(call: Call) -> None:
    assert "predicted is eight" in call("list")
    assert json.loads(call("act", EIGHTS, "own", "bea", "--json"))["owner"] == "bea"
    assert "fixed" in call("act", EIGHTS, "fix", "2")
    batch = json.loads(call("batch", EIGHTS, "--limit", "7", "--json"))
    assert batch["cases"] == 7
    assert batch["id"] in call("batches")
    assert "failures" in call("test-set", EIGHTS, "eights")
    history = json.loads(call("show", EIGHTS, "--json"))["history"]
    assert [event["kind"] for event in history] == ["test_set", "batch", "fix", "own"]
    assert json.loads(call("list", "--state", "batched", "--json"))["slices"][0]["id"] == EIGHTS
    call("show", "0" * 12, code=3)
