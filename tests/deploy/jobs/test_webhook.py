"""A training that runs elsewhere: a real HTTP server takes the signed event and answers with signed letters."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from deploy.jobs.inbox import FileInbox, letter_of, make_secret, read_letter
from deploy.jobs.local import SupervisedJobs
from deploy.paths import StatePaths
from deploy.settings import Settings
from deploy.workshop import programs
from export.contracts.errors import Conflict, InvalidRequest, Unauthenticated
from export.contracts.training import EventKind
from monitoring.loop.contracts import JobKind, JobState
from tests.deploy.jobs.trainers import end, job, until


@dataclass
class Receiver:
    """What a workflow system would be.

    Attributes:
        refuse: So many requests are answered 503 first.
    """

    refuse: int = 0
    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    port: int = 0

    def kinds(self) -> list[str]:
        return [json.loads(body)["type"] for _, body in self.got]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            made.got.append(({k.lower(): v for k, v in self.headers.items()}, body))
            self.send_response(503 if len(made.got) <= made.refuse else 202)
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield made
    server.shutdown()
    thread.join()
    server.server_close()


@dataclass
class Place:
    """Jobs with one webhook trainer "hook"."""

    paths: StatePaths
    jobs: SupervisedJobs
    inbox: FileInbox
    secret: str

    def send(self, kind: str, data: dict[str, object], identity: str, job_id: str = "one", **more: str) -> int:
        letter = letter_of(more.get("secret", self.secret), identity, int(time.time()), kind, data)
        return self.inbox.take(job_id, letter)


@pytest.fixture
def place(tmp_path: Path, receiver: Receiver) -> Place:
    secret = make_secret()
    (tmp_path / "secret").write_text(secret + "\n")
    hook = {"name": "hook", "executor": "webhook", "url": f"http://127.0.0.1:{receiver.port}/train?x=1"}
    hook |= {"secret_file": str(tmp_path / "secret"), "models": ["m"], "callback_url": "http://console:8080"}
    settings = Settings.model_validate({"retrain": {"trainers": [hook]}})
    paths = StatePaths(tmp_path / "state").make()
    jobs = SupervisedJobs(paths.jobs, programs(settings.retrain.trainers, settings, paths))
    return Place(paths=paths, jobs=jobs, inbox=FileInbox(paths.jobs), secret=secret)


def test_a_training_elsewhere_from_the_event_to_the_end(place: Place, receiver: Receiver, tmp_path: Path) -> None:
    receiver.refuse = 1  # the first try fails: the same event comes again
    place.jobs.start(job(tmp_path, kind=JobKind.TRAIN, program="hook"))
    until(place.jobs, "one", lambda _: len(receiver.got) == 2)
    (first, body), (second, _) = receiver.got
    event = json.loads(body)
    assert (event["specversion"], event["type"], event["subject"]) == ("1.0", "io.hardcase.training.requested", "m")
    assert event["data"]["request"]["id"] == "one"
    assert event["data"]["callback"] == "http://console:8080/api/loop/jobs/one/events"
    assert first["webhook-id"] == second["webhook-id"] == event["id"]
    key = base64.b64decode(place.secret.removeprefix("whsec_"))
    signed = f"{first['webhook-id']}.{first['webhook-timestamp']}.".encode() + body
    wanted = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    assert first["webhook-signature"] == f"v1,{wanted}"

    metric = {"event": "metric", "name": "val_accuracy", "value": 0.5, "step": 1}
    assert place.send("events", {"events": [metric, {"event": "progress", "step": 1, "of": 2}]}, "a") == 2
    with pytest.raises(Conflict, match="was taken before"):
        place.send("events", {"events": [metric]}, "a")
    with pytest.raises(Unauthenticated):
        place.send("done", {}, "b", secret=make_secret())
    place.send("done", {"package": "output", "metrics": {"accuracy": 1.0}}, "c")
    report = end(place.jobs)
    # The receiver lied: nothing lies there.
    assert (report.state, report.reason) == (JobState.FAILED, "it ended with status 0 and left no package")
    assert [e.kind for e in report.events] == [EventKind.METRIC, EventKind.PROGRESS, EventKind.DONE]
    with pytest.raises(Conflict, match="has ended"):
        place.send("events", {"events": [metric]}, "d")
    assert len(receiver.got) == 2


def test_a_failure_elsewhere_and_an_end_from_here(place: Place, receiver: Receiver, tmp_path: Path) -> None:
    place.jobs.start(job(tmp_path, "failing", kind=JobKind.TRAIN, program="hook"))
    place.jobs.start(job(tmp_path, "ended", kind=JobKind.TRAIN, program="hook"))
    until(place.jobs, "failing", lambda _: len(receiver.got) == 2)
    place.send("failed", {"reason": "no machine was free"}, "a", "failing")
    place.jobs.cancel("ended")
    assert end(place.jobs, "failing").reason == "it ended with status 1: no machine was free"
    assert end(place.jobs, "ended").state is JobState.CANCELLED
    assert receiver.kinds()[2:] == ["io.hardcase.training.cancelled"]


def test_letters_that_prove_nothing_are_refused_alike(tmp_path: Path) -> None:
    secret, inbox = make_secret(), FileInbox(tmp_path, clock=lambda: 1_000_000.0)
    (tmp_path / "one").mkdir()
    good = letter_of(secret, "a", 1_000_000, "events", {"events": []})
    for job_id, letter in (
        ("one", good),  # no such job
        ("../one", good),
        ("one", letter_of(secret, "a", 999_000, "events", {"events": []})),  # old
        ("one", letter_of(secret, "../a", 1_000_000, "events", {"events": []})),
    ):
        with pytest.raises(Unauthenticated, match="no letter of a job of ours"):
            inbox.take(job_id, letter)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'{"specversion": "1.0", "type": "io.hardcase.job.events", "data": {"events": [{"event": "done"}]}}',
        b'{"specversion": "1.0", "type": "io.hardcase.job.events", "data": {"events": [{"event": "metric"}]}}',
        b'{"specversion": "1.0", "type": "io.hardcase.job.done", "data": {"package": "/etc"}}',
        b'{"specversion": "1.0", "type": "io.hardcase.job.done", "data": {"metrics": {"a": NaN}}}',
        b'{"specversion": "1.0", "type": "io.hardcase.job.failed", "data": {}}',
        b'{"specversion": "1.0", "type": "other", "data": {}}',
        b"[" * 100_000,
    ],
)
def test_letters_that_say_nothing_of_sense_are_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        read_letter(body)
