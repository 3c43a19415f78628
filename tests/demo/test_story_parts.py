"""The story's parts: pictures, what the trainer finds in labels, strict accounts, the reviewer, claims."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from dataclasses import asdict, replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from deploy.demo.background import Account, Order, judge
from deploy.demo.crowd import Traffic, add_up
from deploy.demo.digits import Part, load_digits
from deploy.demo.learn import NOTHING, find_changes
from deploy.demo.loop_claims import judge_told
from deploy.demo.overlay import FAULTS, for_up, overlay
from deploy.demo.pictures import DEAD, Camera, Scene
from deploy.demo.reviewer import Reviewer
from deploy.demo.systems import own_settings, why_not_here
from deploy.demo.told import Event, Happened, Labels, Moment, Recovery, Told, Turn, accuracy
from deploy.demo.told_page import render_told
from deploy.demo.wire import BrokenAnswer, Wire
from deploy.errors import CommandError
from deploy.paths import StatePaths
from deploy.settings import Settings
from deploy.settings_file import load_settings
from export.registry import Registry


def part(camera: Camera, scene: Scene, count: int) -> Part:
    """So many pictures."""
    shown = [camera.take(scene, "a", dead_pixel=False) for _ in range(count)]
    return Part(images=np.concatenate([s.image for s in shown]), labels=np.array([s.label for s in shown]))


def test_the_two_pools_share_no_digit_and_pictures_are_all_different():
    camera = Camera(3)
    shown = {pool: [camera.take(Scene.TURNED, pool, dead_pixel=False) for _ in range(300)] for pool in ("a", "b")}
    numbers = {pool: {s.number for s in taken} for pool, taken in shown.items()}
    assert not numbers["a"] & numbers["b"]
    assert len({s.image.tobytes() for s in shown["a"]}) == 300
    assert all(s.label == load_digits().live.labels[s.number] for s in shown["b"])


def test_a_dead_pixel_shows_exactly_what_the_brittle_network_divides_by():
    camera = Camera(3)
    assert camera.take(Scene.INVERTED, "a", dead_pixel=True).image[0, 0, 0, 0] == DEAD
    alive = [camera.take(scene, "a", dead_pixel=False).image[0, 0, 0, 0] for scene in Scene for _ in range(100)]
    assert DEAD not in alive


@pytest.mark.parametrize("count", [25, 60])
def test_a_few_labels_tell_what_happened_to_the_pictures(count: int):
    base, camera = load_digits().train, Camera(5)
    turned = find_changes(base, part(camera, Scene.TURNED, count))
    assert abs(turned[0].degrees - 50) <= 10
    assert not turned[0].inverted
    assert find_changes(base, part(camera, Scene.INVERTED, count))[0].inverted
    assert find_changes(base, part(camera, Scene.UPRIGHT, count)) in ([], [NOTHING])


async def served(answer: bytes) -> tuple[str, int]:
    """The version and class that come of an answer of a real socket."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        wire = Wire(*server.sockets[0].getsockname()[:2], timeout_s=5.0)
        reply = await wire.ask(b"POST / HTTP/1.1\r\n\r\n")
        wire.close()
        return judge(reply.status, reply.body)


def answered(body: bytes, status: int = 200) -> bytes:
    return b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n" % (status, len(body)) + body


GOOD = json.dumps({"model_version": "7", "outputs": [{"name": "logits", "data": [0.0, 9.0, *[0.0] * 8]}]}).encode()


async def test_a_whole_answer_names_version_and_class():
    assert await served(answered(GOOD)) == ("7", 1)


@pytest.mark.parametrize(
    "answer",
    [
        answered(GOOD, status=503),
        answered(GOOD)[:-10],  # it breaks off in the body
        b"HTTP/1.1 200 X\r\nContent-Le",
        b"",
        answered(GOOD.replace(b"9.0, ", b"")),  # nine logits
        answered(b"{}"),
    ],
    ids=["503", "half a body", "half a head", "nothing", "a logit is missing", "no outputs"],
)
async def test_everything_else_is_a_failure(answer: bytes):
    with pytest.raises((BrokenAnswer, ValueError, KeyError, OSError)):
        await served(answer)


def test_requests_that_nobody_answers_are_counted_as_failed_one_by_one(tmp_path: Path):
    """The real process against a port where nobody listens."""
    order = Order(rate=100.0)
    traffic = Traffic("127.0.0.1:9", None, run="t", seed=0, order=order, log=tmp_path / "log")
    try:
        for _ in range(100):
            if traffic.totals().sent >= 5:
                break
            time.sleep(0.1)
        totals = traffic.close()
    finally:
        traffic.kill()
    assert totals.sent >= 5
    assert totals.failed == totals.sent
    assert totals.answered == 0
    assert totals.balanced
    assert "keep-alive" in totals.reasons[0] or "new connections" in totals.reasons[0]


def test_clients_that_end_with_an_error_are_not_believed(tmp_path: Path):
    traffic = Traffic("127.0.0.1:9", None, run="t", seed=0, order=Order(scene="no such scene"), log=tmp_path / "log")
    with pytest.raises(CommandError, match="ended with"):
        traffic.close()
    assert "no such scene" in (tmp_path / "log").read_text()


def test_accounts_add_up():
    one = Account(time_s=0.0, scene="turned", sent=3, failed=1, by_client={"a": 3}, answers={"1": [2, 1]})
    two = Account(time_s=1.0, scene="turned", sent=2, by_client={"a": 1, "b": 1}, answers={"1": [1, 1], "2": [1, 0]})
    totals = add_up([one, two])
    assert (totals.sent, totals.answered, totals.failed, totals.balanced) == (5, 4, 1, True)
    assert totals.by_version == {"1": (3, 2), "2": (1, 0)}
    assert totals.by_client == {"a": 4, "b": 1}


class Console:
    """The two operations of the review API that the reviewer uses, over cases in memory."""

    def __init__(self, cases: list[dict[str, object]]) -> None:
        self.waiting = cases
        self.decided: list[dict[str, object]] = []

    def post(self, path: str, body: dict[str, object]) -> dict[str, object]:
        if path.endswith("lease"):
            free = [c for c in self.waiting if c["id"] not in body["skip"]]  # type: ignore[operator]
            return {"cases": free[: body["count"]]}  # type: ignore[misc]
        done = body["decisions"]
        self.decided += done  # type: ignore[arg-type]
        ids = {d["case"] for d in done}  # type: ignore[union-attr]
        self.waiting = [c for c in self.waiting if c["id"] not in ids]
        return {"results": [{"ok": True} for _ in ids]}


def case(number: int, record_id: str, predicted: str) -> dict[str, object]:
    return {
        "id": f"{number:016x}", "record_id": record_id, "version": "1", "variant": "champion", "reasons": ["audit"],
        "predicted_label": predicted, "standing": {"verdict": None, "edition": 0},
    }  # fmt: skip


def test_the_reviewer_types_the_truth_but_for_the_stated_share_and_leaves_what_it_does_not_know():
    truths = np.random.default_rng(1).integers(0, 10, 797)
    cases = [case(i, f"run-{i:07d}-{i % 797}", str(truths[i % 797])) for i in range(1500)]
    console = Console([case(9999, "somebody-else", "3"), *cases])
    reviewer = Reviewer(console, "run", truths, error_rate=0.02, seed=4)  # type: ignore[arg-type]
    while reviewer.review(1000):
        pass
    assert len(reviewer.labelled) == 1500
    wrong = sum(one.mistaken for one in reviewer.labelled)
    assert 10 <= wrong <= 55
    assert all((d["verdict"] == "correct") is ("label" not in d) for d in console.decided)
    assert [c["record_id"] for c in console.waiting] == ["somebody-else"]


def told() -> Told:
    """A story that went well."""
    moments = [
        Moment(at_s=t / 2, scene="upright" if t < 20 else "turned", sent=100, failed=0,
               answers={"1": (50, 49), "2": (50, 48)} if t > 60 else {"1": (100, 98 if t < 20 else 18)},
               mean_ms=2.0, slowest_ms=9.0)
        for t in range(120)
    ]  # fmt: skip
    good = Turn(id="a", version="2", stage="promoted", fault="", reason="", trigger="alarm", began_s=15, ended_s=30,
                took_s=15, answered=40)  # fmt: skip
    bad = replace(good, id="b", version="3", stage="rejected", fault="shuffled", answered=0)
    brittle = replace(good, id="c", version="4", stage="rolled_back", fault="dead_pixel", answered=3, ended_s=52.0)
    return Told(
        run="r", started_at="2026-11-21T00:00:00Z", seconds=300, console="http://127.0.0.1:1", quick=False,
        error_rate=0.02, sent=100_000, answered=100_000, failed=0, failures=[], by_client={"gRPC <1>": 100_000},
        by_version={"1": (60_000, 1), "2": (40_000, 1)},
        recoveries=[Recovery(scene="turned", before=0.98, under=0.18, after=0.95, labels=90, seconds=60)],
        labels=[Labels(chapter="askew", typed=90, audits=40, mistaken=2)], turns=[good, bad, brittle],
        events=[Event(at_s=10, kind=Happened.WORLD, text="the camera <askew>"),
                Event(at_s=20, kind=Happened.ALARM, text="alarm"),
                Event(at_s=50, kind=Happened.WORLD, text="a pixel of the camera dies")],
        moments=moments, accounting={"balanced": True}, settings={}, machine={"processor": "x", "cores": "2"},
    )  # fmt: skip


def test_a_good_story_holds():
    assert [c for c in judge_told(told()) if not c.holds] == []


@pytest.mark.parametrize(
    ("spoil", "claim"),
    [
        (lambda t: replace(t, failed=1, answered=t.answered - 1), "every request was answered"),
        (lambda t: replace(t, sent=99_999, answered=99_999), "every request was answered"),
        (lambda t: replace(t, events=[e for e in t.events if e.kind is not Happened.ALARM]), "the alarm fires"),
        (lambda t: replace(t, events=[replace(t.events[1], at_s=1), *t.events]), "the alarm fires"),
        (lambda t: replace(t, recoveries=[replace(t.recoveries[0], after=0.85)]), "at least 90 %"),
        (lambda t: replace(t, recoveries=[replace(t.recoveries[0], labels=201)]), "at least 90 %"),
        (lambda t: replace(t, recoveries=[]), "at least 90 %"),
        (lambda t: replace(t, turns=[*t.turns[:1], replace(t.turns[1], stage="promoted")]), "good candidates"),
        (lambda t: replace(t, turns=[*t.turns[:2], replace(t.turns[2], answered=2000)]), "at most 1 %"),
        (lambda t: replace(t, turns=[*t.turns[:2], replace(t.turns[2], ended_s=81.0)]), "a canary that fails"),
        (lambda t: replace(t, accounting={"balanced": False}), "every request is accounted for"),
        (lambda t: replace(t, seconds=601), "it takes ten minutes"),
    ],
)
def test_every_claim_can_fail(spoil, claim: str):
    failing = [c.name for c in judge_told(spoil(told())) if not c.holds]
    assert any(name.startswith(claim) for name in failing), failing


def test_accuracy_of_a_span_and_of_nothing():
    moments = told().moments
    assert accuracy(moments, "upright", 0, 5) == pytest.approx(0.98)
    assert accuracy(moments, "inverted", 0, 100) is None


def test_the_page_is_whole_escaped_and_needs_nothing_else():
    seen: list[tuple[str, dict[str, str | None]]] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            seen.append((tag, dict(attrs)))

    story = told()
    page = render_told(replace(story, claims=judge_told(story)))
    Reader().feed(page)
    tags = [tag for tag, _ in seen]
    assert tags.count("svg") == 3
    assert "script" not in tags
    assert not [a for t, a in seen if t in ("link", "img", "iframe")]
    assert "the camera &lt;askew&gt;" in page
    assert "gRPC &lt;1&gt;" in page
    assert "96.2 %" in page, "(95 - 18) of (98 - 18)"
    assert json.loads(json.dumps(asdict(story)))["turns"][2]["fault"] == "dead_pixel"


def test_the_overlay_is_settings_that_hold_and_keys_of_ones_own_hold_more(tmp_path: Path):
    chosen = overlay(tmp_path / "trainer.json", quick=False)
    (tmp_path / "hardcase.yaml").write_text("monitor: {window_s: 30, cases: {audit_floor: 0.2}}")
    variable = {"HARDCASE__MONITOR__ALARMS__INTERVAL_S": "2"}
    loaded = load_settings(None, variable, tmp_path, beneath=chosen).settings
    assert (loaded.monitor.window_s, loaded.monitor.cases.audit_floor, loaded.monitor.alarms.interval_s) == (30, 0.2, 2)
    assert loaded.monitor.cases.audit_rate == chosen["monitor"]["cases"]["audit_rate"]
    assert [t.name for t in loaded.retrain.trainers] == ["digits"]
    assert str(tmp_path / "trainer.json") in loaded.retrain.trainers[0].program
    assert [m.min_labels for m in loaded.retrain.models] == [60]
    assert loaded.retrain.policy == load_settings(None, {}, tmp_path).settings.retrain.policy, "other models"
    assert loaded.rollout.steps == load_settings(None, {}, tmp_path).settings.rollout.steps


def test_up_is_set_for_the_demo_as_long_as_it_is_about_nothing_else(tmp_path: Path):
    from tests.support import packages as p

    plain = load_settings(None, {}, tmp_path)
    registry = Registry(tmp_path / "registry")
    assert for_up(plain, registry, {}).settings.retrain.trainers, "an empty registry gets the demo's model"
    own = load_settings(None, {"HARDCASE__STORAGE__URL": "s3://bucket/p"}, tmp_path)
    assert for_up(own, registry, {}) is own
    trainer = '[{"name": "mine", "models": ["digits"], "program": ["python", "train.py"]}]'
    own = load_settings(None, {"HARDCASE__RETRAIN__TRAINERS": trainer}, tmp_path)
    assert for_up(own, registry, {}) is own
    registry.add(p.digits_like_package(tmp_path / "p", version="1", seed=0).dir)
    assert registry.models() == ("digits",)
    assert for_up(plain, registry, {}) is plain, "somebody else's model of that name"


class Monitor:
    """What the running system says of its past."""

    def __init__(self, trainings: int = 0, alarms: int = 0) -> None:
        self.said = {"/api/loop/trainings": {"trainings": [{}] * trainings}, "/api/alarms": {"alarms": [{}] * alarms}}

    def get(self, path: str, **query: object) -> object:
        return self.said[path]


def test_a_running_system_is_told_the_story_when_it_is_the_demos_and_new_to_it(tmp_path: Path):
    from tests.support import packages as p

    paths = StatePaths(tmp_path / "state").make()
    faults = paths.demo / FAULTS
    fit = load_settings(None, {}, tmp_path, beneath=overlay(faults, quick=False)).settings
    registry = Registry(paths.registry)
    for version, seed in (("1", 0), ("2", 7)):
        registry.add(p.digits_like_package(tmp_path / version, version=version, seed=seed).dir)
    registry.promote("digits", "1", author="test")

    def why(settings: Settings, monitor: Monitor) -> str:
        return why_not_here(settings, paths, monitor, faults)  # type: ignore[arg-type]

    assert why(fit, Monitor()) == ""
    assert "trainer" in why(load_settings(None, {}, tmp_path).settings, Monitor())
    assert "already" in why(fit, Monitor(alarms=1))
    assert "already" in why(fit, Monitor(trainings=1))
    registry.promote("digits", "2", author="test")
    assert "champion" in why(fit, Monitor())


def test_a_system_of_its_own_takes_ports_from_the_settings_and_nothing_that_reaches_out(tmp_path: Path):
    theirs = load_settings(
        None,
        {
            "HARDCASE__SERVING__PORT": "7001",
            "HARDCASE__STORAGE__URL": "s3://bucket/p",
            "HARDCASE__MONITOR__DATABASE_URL": "postgresql://db/hardcase",
            "HARDCASE__RAY__ADDRESS": "10.0.0.1:6379",
        },
        tmp_path,
    ).settings
    sections = overlay(tmp_path / FAULTS, quick=True)
    alone = Settings.model_validate(own_settings(theirs, tmp_path / "story", sections, beside=False))
    assert (alone.serving.port, alone.serving.grpc_port, alone.monitor.port) == (7001, 9000, 8080)
    assert (alone.storage.url, alone.ray.address, alone.serving.standalone) == ("", None, False)
    assert alone.monitor.database_url == Settings().monitor.database_url
    beside = Settings.model_validate(own_settings(theirs, tmp_path / "story", sections, beside=True))
    assert beside.serving.standalone
    assert len({7001, 9000, 8080, beside.serving.port, beside.serving.grpc_port, beside.monitor.port}) == 6


def test_the_trainer_refuses_to_work_without_a_request():
    done = subprocess.run(
        [sys.executable, "-m", "deploy.demo.trainer", "nowhere.json"], capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "request file cannot be read" in done.stderr
