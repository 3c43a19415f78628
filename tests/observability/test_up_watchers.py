"""Prometheus beside `up`: an extra that is never in the way, whatever is wrong with it."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from deploy.observability.local import watchers
from deploy.paths import StatePaths
from deploy.settings import Settings
from deploy.supervisor import ChildSpec, StopRequested, Supervisor
from tests.support.hardcase_process import free_ports
from tests.support.watching import program


def settings(**observability: object) -> Settings:
    return Settings.model_validate({"observability": observability})


def chosen(tmp_path: Path, given: Settings) -> tuple[list[ChildSpec], list[str]]:
    said: list[str] = []
    return watchers(given, StatePaths(tmp_path / "state").make(), said.append), said


def test_off_starts_nothing_and_says_nothing(tmp_path: Path) -> None:
    assert chosen(tmp_path, settings(prometheus=False)) == ([], [])


def test_not_installed_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    specs, said = chosen(tmp_path, settings())
    assert specs == []
    assert said == ["prometheus is not installed: none is started (docs/guides/observability.md)"]


def test_a_taken_port_names_its_owner_and_the_setting(tmp_path: Path) -> None:
    program("prometheus")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        specs, (said,) = chosen(tmp_path, settings(prometheus_port=port))
    assert specs == []
    assert said.startswith(f"no prometheus is started: port {port} (observability.prometheus_port) is taken by")
    assert f"pid {os.getpid()}" in said


def test_a_service_behind_tokens_is_not_watched_without_one(tmp_path: Path) -> None:
    given = Settings.model_validate({"monitor": {"token_sha256": ["0" * 64]}})
    specs, (said,) = chosen(tmp_path, given)
    assert specs == []
    assert "--token-file" in said


def test_alertmanager_comes_when_asked_for_and_prometheus_tells_it(tmp_path: Path) -> None:
    program("prometheus-alertmanager", "alertmanager")
    one, two = free_ports(2)
    given = settings(prometheus_port=one, alertmanager=True, alertmanager_port=two, webhook="http://127.0.0.1:1/x")
    specs, said = chosen(tmp_path, given)
    assert [s.role for s in specs] == ["alertmanager", "prometheus"]
    assert all(s.extra for s in specs)
    assert said == []
    folder = tmp_path / "state" / "observability"
    assert f"127.0.0.1:{two}" in (folder / "prometheus.yml").read_text()
    assert "http://127.0.0.1:1/x" in (folder / "alertmanager.yml").read_text()


@pytest.mark.parametrize("why", ["ends at once", "is never ready"])
def test_an_extra_that_does_not_start_is_left_out_and_the_run_goes_on(tmp_path: Path, why: str) -> None:
    said: list[str] = []
    paths = StatePaths(tmp_path / "state").make()
    supervisor = Supervisor(paths, said.append, lambda role, _: said.append(role), tmp_path)
    supervisor.claim()
    sleeps = ("/bin/sleep", "60")
    main = ChildSpec(role="serving", argv=sleeps, ready=lambda: True, ready_timeout_s=10)
    argv = ("/bin/false",) if why == "ends at once" else sleeps
    extra = ChildSpec(role="prometheus", argv=argv, ready=lambda: False, ready_timeout_s=0.5, extra=True)
    try:
        supervisor.start([extra, main], [], {})
        assert "serving" in said
        assert any(line.startswith("prometheus ") and "going on without it" in line for line in said)
        assert supervisor.info.ready
        assert set(supervisor.info.children) == {"serving"}
        supervisor._on_signal(15, None)
        with pytest.raises(StopRequested):
            supervisor.watch()
    finally:
        supervisor.stop()
