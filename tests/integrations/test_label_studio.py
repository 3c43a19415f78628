"""A real Label Studio: 200 flagged digits pushed, annotated through its API, and pulled back, whatever happens."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from deploy.processes import free_ports
from monitoring import schema as t
from monitoring.api.app import build_console
from monitoring.api.options import ConsoleOptions
from monitoring.integrations import tool_rows
from monitoring.integrations.egress import Answer, Egress, EgressFailed
from monitoring.integrations.label_studio.tool import HOOK_HEADER, HOOK_PATH
from monitoring.integrations.names import TaskState
from monitoring.reports import ReportOptions, ReportService
from tests.support.console_server import listening
from tests.support.console_store import MemoryCatalogue, StillMonitor, manifest
from tests.support.label_studio import EMAIL, PROGRAM, TOKEN, RealServer, choice, real_server
from tests.support.label_world import TOOL, LabelWorld, label_world, truth_of

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not PROGRAM.exists(), reason="python -m benchmarks.peers.setup label-studio"),
]
DIGITS = 212  # of which 200 have an input that was kept


@dataclass(kw_only=True)
class Forgetful(Egress):
    """Loses the answer to the first import."""

    lost: list[int] = field(default_factory=list)

    def send(self, method: str, url: str, **more: Any) -> Answer:
        answer = super().send(method, url, **more)
        if "/import" in url and not self.lost:
            self.lost.append(answer.status)
            raise EgressFailed("there was no whole answer in time")
        return answer


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    with real_server(tmp_path_factory.mktemp("label-studio") / "data", free_ports(1)[0]) as made:
        yield made


@pytest.fixture(autouse=True)
def no_projects(server: RealServer) -> None:
    for project in server.call("GET", "/api/projects/?page_size=1000")["results"]:
        server.call("DELETE", f"/api/projects/{project['id']}/")
    for hook in server.call("GET", "/api/webhooks/"):
        server.call("DELETE", f"/api/webhooks/{hook['id']}/")


def pushed_world(folder: Path, server: RealServer, **more: object) -> LabelWorld:
    """All digits there."""
    world = label_world(folder, server.url, TOKEN, cases=DIGITS, **more)  # type: ignore[arg-type]
    world.ask()
    world.turns()
    assert len(world.tasks(TaskState.PUSHED)) == 200
    assert len(world.tasks(TaskState.REFUSED)) == DIGITS - 200  # their input was not kept
    return world


def annotate(server: RealServer, world: LabelWorld, truth: dict[str, str]) -> None:
    for case, name in truth.items():
        task = world.task(case).external_id
        server.call("POST", f"/api/tasks/{task}/annotations/", {"result": choice(name), "lead_time": 1.0})


def expect(world: LabelWorld, truth: dict[str, str]) -> None:
    """What came back is what was said, each once."""
    assert world.decided() == {case: json.dumps(name) for case, name in truth.items()}
    assert sorted(world.truths()) == sorted(json.dumps(name) for name in truth.values())


def count_tasks(server: RealServer) -> int:
    projects = server.call("GET", "/api/projects/?page_size=1000")["results"]
    assert len(projects) == 1
    return int(server.call("GET", f"/api/projects/{projects[0]['id']}/")["task_number"])


def test_two_hundred_digits_come_back_by_polling_equal_to_what_was_said(server: RealServer, tmp_path: Path):
    world = pushed_world(tmp_path, server)
    cases = world.tasks(TaskState.PUSHED)
    shown = server.call("GET", f"/api/tasks/{world.task(cases[0]).external_id}/")
    assert shown["data"]["case_id"] == cases[0]
    assert shown["data"]["input_0"].startswith("data:image/png;base64,")
    assert shown["predictions"][0]["model_version"] == "2"
    project = server.call("GET", f"/api/projects/{shown['project']}/")
    assert project["show_collab_predictions"] is False  # what the model said is not put into anybody's mouth
    truth = truth_of(cases)
    annotate(server, world, truth)
    world.turns()
    expect(world, truth)
    before = world.ledger.counts.decisions.total()
    tool_rows.ask_to_look(world.store, TOOL, time.time_ns(), everything=True)
    world.turns()
    assert world.ledger.counts.decisions.total() == before  # a second look takes nothing over again
    expect(world, truth)


def test_a_changed_a_deleted_a_skipped_and_a_foreign_annotation(server: RealServer, tmp_path: Path):
    world = pushed_world(tmp_path, server)
    changed, deleted, skipped, foreign, other = world.tasks(TaskState.PUSHED)[:5]
    annotate(server, world, dict.fromkeys((changed, deleted, skipped, other), "one"))
    server.call("POST", f"/api/tasks/{world.task(foreign).external_id}/annotations/", {"result": choice("eleven")})
    world.turns()
    assert set(world.decided()) == {changed, deleted, skipped, other}
    assert "'eleven' is no class of the model" in world.task(foreign).problem
    numbers = {}
    for case in (changed, deleted, skipped):
        task = world.task(case).external_id
        numbers[case] = server.call("GET", f"/api/tasks/{task}/annotations/")[0]["id"]
    server.call("PATCH", f"/api/annotations/{numbers[changed]}/", {"result": choice("two")})
    server.call("DELETE", f"/api/annotations/{numbers[deleted]}/")
    server.call("PATCH", f"/api/annotations/{numbers[skipped]}/", {"was_cancelled": True})
    world.turns()
    assert world.decided() == {changed: '"two"', other: '"one"'}
    assert sorted(world.truths()) == ['"one"', '"two"']
    # Somebody thinks better of it: what was skipped is answered after all.
    server.call("PATCH", f"/api/annotations/{numbers[skipped]}/", {"was_cancelled": False, "result": choice("six")})
    world.turns()
    assert world.decided()[skipped] == '"six"'


def test_the_tool_is_down_for_a_while_and_nothing_is_lost_or_doubled(server: RealServer, tmp_path: Path):
    world = label_world(tmp_path, server.url, TOKEN, cases=DIGITS)
    world.worker.tool.client.egress.sleep = lambda s: None  # type: ignore[attr-defined]
    world.ask()
    world.worker.turn()  # a first part is there
    first = len(world.tasks(TaskState.PUSHED))
    assert 0 < first < 200
    truth = truth_of(world.tasks(TaskState.PUSHED))
    annotate(server, world, truth)
    server.stop()
    try:
        for _ in range(3):
            tool_rows.ask_to_look(world.store, TOOL, time.time_ns())  # somebody insists
            assert world.worker.turn() is False
        state = tool_rows.tool_row(world.store, TOOL)
        assert state.failing_ns
        assert state.failures == 3
        assert "no connection" in state.problem
        assert len(world.tasks(TaskState.WAITING)) > 0
        assert world.decided() == {}
    finally:
        server.start()
    tool_rows.ask_to_look(world.store, TOOL, time.time_ns())
    world.turns()
    assert tool_rows.tool_row(world.store, TOOL).failing_ns == 0
    assert len(world.tasks(TaskState.WAITING)) == 0
    assert count_tasks(server) == 200
    expect(world, truth)


def test_an_import_whose_answer_was_lost_makes_no_twins(server: RealServer, tmp_path: Path):
    world = label_world(tmp_path, server.url, TOKEN, cases=40)
    world.ask()
    client = world.worker.tool.client  # type: ignore[attr-defined]
    client.egress = Forgetful(options=client.egress.options)
    world.worker.turn()
    assert client.egress.lost == [201]  # the server has them, and we do not know
    assert world.tasks(TaskState.PUSHED) == []
    tool_rows.ask_to_look(world.store, TOOL, time.time_ns())
    world.turns()
    assert count_tasks(server) == len(world.tasks(TaskState.PUSHED)) > 30


def test_two_hundred_digits_come_back_by_webhook_and_forged_ones_do_nothing(server: RealServer, tmp_path: Path):
    port = free_ports(1)[0]
    world = pushed_world(tmp_path, server, poll_s=1e9, callback_url=f"http://127.0.0.1:{port}")
    app = console_of(world, tmp_path)
    truth = truth_of(world.tasks(TaskState.PUSHED))
    stop = threading.Event()

    def work() -> None:
        while not stop.wait(0.05):
            world.worker.turn()

    worker = threading.Thread(target=work)
    with listening(app, port) as url, httpx.Client(base_url=url, trust_env=False) as client:
        seen = tool_rows.projects(world.store, TOOL)[0].looked_ns
        worker.start()
        try:
            for forged in ({}, {HOOK_HEADER: "0" * 64}, {HOOK_HEADER: TOKEN}):
                answer = client.post(HOOK_PATH, json={"action": "ANNOTATION_CREATED"}, headers=forged)
                assert answer.status_code == 401
            time.sleep(0.5)
            assert tool_rows.tool_row(world.store, TOOL).hints == 0
            assert tool_rows.projects(world.store, TOOL)[0].looked_ns == seen  # nobody went to look
            annotate(server, world, truth)
            deadline = time.monotonic() + 60
            while world.decided() != {c: json.dumps(n) for c, n in truth.items()} and time.monotonic() < deadline:
                time.sleep(0.2)
            hints = tool_rows.tool_row(world.store, TOOL).hints
            genuine = server.call("GET", "/api/webhooks/")[0]["headers"]
            for _ in range(3):  # the same one again, and again: each is one look that finds nothing new
                assert client.post(HOOK_PATH, json={}, headers=genuine).status_code == 204
            time.sleep(0.5)
        finally:
            stop.set()
            worker.join()
    assert hints >= 200
    expect(world, truth)
    assert all(act.startswith(f"label-studio:{EMAIL}") for act in actors(world))


def test_two_annotators_who_agree_settle_a_case_and_two_who_do_not_leave_it_open(server: RealServer, tmp_path: Path):
    world = label_world(tmp_path, server.url, TOKEN, cases=8, annotators=2)
    world.ask()
    world.turns()
    agreed, split = world.tasks(TaskState.PUSHED)[:2]
    # The second annotator's word goes in through a second account, as the invite link would make it.
    annotate(server, world, {agreed: "one", split: "one"})
    world.turns()
    assert world.decided() == {}
    with second_account(server) as second:
        for case, name in ((agreed, "one"), (split, "two")):
            second("POST", f"/api/tasks/{world.task(case).external_id}/annotations/", {"result": choice(name)})
    world.turns()
    assert world.decided() == {agreed: '"one"'}
    found = world.store.case(split)
    assert found is not None
    assert found.state == "second_opinion"


def refuse(request: object, most: int) -> object:
    raise AssertionError("no report is wanted here")


def console_of(world: LabelWorld, folder: Path):  # type: ignore[no-untyped-def]
    reports = ReportService(ReportOptions(folder=folder / "reports"), refuse)  # type: ignore[arg-type]  # never called
    return build_console(
        world.store,
        MemoryCatalogue(manifests=(manifest(),)),
        StillMonitor(),
        lambda: [],
        ConsoleOptions(token_sha256=("0" * 64,)),  # whoever comes without a credential is refused, but for the hook
        reports=reports,
        integrations=world.options,
    )


def actors(world: LabelWorld) -> set[str]:
    with world.store.read() as connection:
        return set(connection.scalars(sa.select(t.acts.c.actor).where(t.acts.c.kind == "import")))


@contextmanager
def second_account(server: RealServer) -> Iterator[Callable[[str, str, object], None]]:
    """Signs up by the invite link; gives a caller with that account's session."""
    invite = server.call("GET", "/api/invite")["invite_url"]
    with httpx.Client(base_url=server.url, follow_redirects=True, timeout=60, trust_env=False) as client:
        client.get(invite)
        token = client.cookies["csrftoken"]
        form = {"email": "bob@example.com", "password": "S3cret-Pass", "csrfmiddlewaretoken": token}
        client.post(invite, data=form, headers={"referer": server.url + invite})

        def call(method: str, path: str, body: object) -> None:
            headers = {"x-csrftoken": client.cookies["csrftoken"], "referer": server.url}
            client.request(method, path, json=body, headers=headers).raise_for_status()

        yield call
