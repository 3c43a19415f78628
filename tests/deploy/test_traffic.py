"""`hardcase traffic`: plans changed in one step, and the standing of every replica, asked of real servers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from deploy.cli import main
from deploy.convergence import Standing
from deploy.errors import UsageError
from deploy.traffic_change import Change, changed
from export.contracts.traffic import ChallengerMode, TrafficPlan
from export.registry import Registry
from serving.options import RuntimeOptions, ServingOptions
from tests.support import packages as p
from tests.support.server import Server, standalone
from tests.support.traffic import digits, driving

OPTIONS = ServingOptions(registry="", records="", plan_poll_s=0.1, runtime=RuntimeOptions(device="cpu"))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hardcase.yaml").write_text("serving: {port: 1}\nmonitor: {port: 2}\n")
    return tmp_path


@pytest.fixture
def registry(here: Path) -> Registry:
    registry = Registry(here / ".hardcase" / "registry")
    for version in ("1", "2", "3"):
        registry.add(p.digits_like_package(here / "made", version=version, seed=int(version)).dir)
    registry.promote("digits", "1", author="test")
    return registry


@pytest.fixture
def replicas(here: Path, registry: Registry) -> Iterator[list[Server]]:
    with (
        standalone(here / "a", registry.root, options=OPTIONS) as first,
        standalone(here / "b", registry.root, options=OPTIONS) as second,
    ):
        yield [first, second]


class Command:
    """Calls the command with `--json` and the replicas' addresses."""

    def __init__(self, capsys: pytest.CaptureFixture[str], servers: list[Server] = []) -> None:  # noqa: B006 # never changed
        self._capsys = capsys
        self._replicas = [a for s in servers for a in ("--replica", s.netloc)]

    def __call__(self, *arguments: str, code: int = 0) -> Any:
        self._capsys.readouterr()
        got = main(["traffic", *arguments, "--json"])
        out = self._capsys.readouterr().out
        assert got == code, out
        return json.loads(out)

    def status(self, *arguments: str, code: int = 0) -> Any:
        return self("status", "digits", *self._replicas, *arguments, code=code)


def test_a_plan_is_changed_in_one_step_and_the_same_call_again_changes_nothing(
    registry: Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    traffic = Command(capsys)
    plan = traffic(
        "set", "digits", "--challenger", "2", "--mode", "canary", "--percent", "5", "--pin", "3", "-m", "try"
    )
    assert (plan["challenger"], plan["mode"], plan["canary_percent"], plan["pinned"]) == ("2", "canary", 5.0, ["3"])
    assert (plan["revision"], plan["reason"]) == (2, "try")
    again = traffic("set", "digits", "--challenger", "2", "--mode", "canary", "--percent", "5", "--pin", "3")
    assert again == plan
    assert traffic("set", "digits", "--percent", "25")["canary_percent"] == 25.0
    assert traffic("set", "digits", "--mode", "shadow", "--unpin", "3")["pinned"] == []
    promoted = traffic("promote", "digits", "--yes")
    assert (promoted["champion"], promoted["challenger"], promoted["mode"]) == ("2", None, "none")
    assert traffic("rollback", "digits")["champion"] == "1"
    assert [x["revision"] for x in traffic("history", "digits")] == [6, 5, 4, 3, 2, 1]
    assert "no challenger" in traffic("promote", "digits", code=2)["error"]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (Change(challenger="2"), "what is version 2 to do"),
        (Change(mode="canary"), "needs a version"),
        (Change(mode="loud"), "there is no mode 'loud'"),
        (Change(challenger="2", mode="canary"), "a canary needs its share"),
        (Change(challenger="1", mode="shadow"), "champion and challenger at once"),
        (Change(champion="2", challenger="2", mode="shadow"), "champion and challenger at once"),
    ],
)
def test_a_change_that_contradicts_itself_is_refused(registry: Registry, change: Change, expected: str) -> None:
    with pytest.raises(UsageError, match=expected):
        changed(registry, "digits", registry.plan("digits"), change)


def test_a_challenger_that_is_made_champion_stops_being_one(registry: Registry) -> None:
    plan = registry.challenge("digits", "2", ChallengerMode.CANARY, 5.0, author="test")
    after = changed(registry, "digits", plan, Change(champion="2"))
    assert (after.champion, after.challenger, after.mode, after.canary_percent) == ("2", None, ChallengerMode.NONE, 0.0)
    swapped = changed(registry, "digits", plan, Change(champion="2", challenger="1", mode="shadow"))
    assert (swapped.champion, swapped.challenger, swapped.challenger_percent) == ("2", "1", 100.0)
    assert changed(registry, "digits", None, Change(champion="3")) == TrafficPlan(
        model="digits", revision=0, champion="3"
    )


def test_the_status_names_every_replica_and_waits_until_all_follow(
    registry: Registry, replicas: list[Server], capsys: pytest.CaptureFixture[str]
) -> None:
    traffic = Command(capsys, replicas)
    first = traffic.status("--wait")
    assert first["converged"]
    assert [r["standing"] for r in first["replicas"]] == ["current", "current"]
    assert len({r["pid"] for r in first["replicas"]}) == 2
    assert all(r["since"].endswith("Z") and r["answering"] == "1" for r in first["replicas"])
    traffic("set", "digits", "--challenger", "2", "--mode", "shadow")
    shadowed = traffic.status("--wait")
    assert shadowed["converged"]
    assert all(r["revision"] == 2 and r["challenger"]["on_duty"] for r in shadowed["replicas"])
    with driving(replicas[0].port, "digits", digits(2), threads=1) as load:
        load.wait_for(100)
    traffic("promote", "digits", "--yes")
    seen = traffic.status("--wait")
    assert {r["answering"] for r in seen["replicas"]} == {"2"}
    # a person's view
    assert main(["traffic", "status", "digits", "--replica", replicas[0].netloc]) == 0
    out = capsys.readouterr().out
    assert "every replica follows the plan" in out
    assert replicas[0].netloc in out


def test_a_replica_that_refuses_ends_the_wait_with_its_reason(
    registry: Registry, replicas: list[Server], here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    registry.add(p.nan_package(here / "made", version="bad").dir)
    registry.promote("digits", "bad", author="test")
    traffic = Command(capsys, replicas)
    status = traffic.status("--wait", code=4)
    assert not status["converged"]
    stuck = [r for r in status["replicas"] if r["standing"] == Standing.REFUSED]
    assert stuck
    assert "not finite" in stuck[0]["reason"]
    assert {r["answering"] for r in status["replicas"]} == {"1"}, "the champion goes on"


def test_a_replica_that_is_silent_or_does_not_follow_in_time_is_named(
    registry: Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    status = Command(capsys)("status", "digits", "--replica", "127.0.0.1:1", "--wait", "--timeout", "0.3", code=1)
    assert [(r["address"], r["standing"]) for r in status["replicas"]] == [("127.0.0.1:1", "silent")]
    nobody = Command(capsys)("status", "digits")
    assert (nobody["converged"], nobody["replicas"]) == (False, [])


def test_deploy_and_rollback_wait_for_all_replicas(
    registry: Registry, replicas: list[Server], here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = here / ".hardcase" / "run"
    run.mkdir(parents=True)
    (run / "replicas.json").write_text(json.dumps([s.netloc for s in replicas]))
    x = digits()
    assert main(["deploy", "digits@2", "--json"]) == 0
    done = json.loads(capsys.readouterr().out)
    assert (done["serving"], done["replicas"]) == ("ready", 2)
    assert {s.infer("digits", x).version for s in replicas} == {"2"}
    assert main(["rollback", "digits"]) == 0
    assert {s.infer("digits", x).version for s in replicas} == {"1"}
    registry.add(p.nan_package(here / "made", version="bad").dir)
    capsys.readouterr()
    assert main(["deploy", "digits@bad", "--json"]) == 4
    assert "serving refuses digits bad" in json.loads(capsys.readouterr().out)["error"]
    # negative control: a replica that nobody reaches is not counted as done
    (run / "replicas.json").write_text(json.dumps([replicas[0].netloc, "127.0.0.1:1"]))
    assert main(["deploy", "digits@3", "--wait", "4", "--json"]) == 1
    assert "127.0.0.1:1 is silent" in json.loads(capsys.readouterr().out)["error"]


def test_a_tripped_challenger_is_a_final_state(registry: Registry) -> None:
    plan = registry.challenge("digits", "2", ChallengerMode.CANARY, 5.0, author="test")
    assert Standing.TRIPPED.final
    assert Standing.REFUSED.final
    assert not Standing.LOADING.final
    assert replace(plan, canary_percent=1.0).challenger_percent == 1.0
