"""Label Studio's own answers, recorded: push, pull, change, delete, skip. The real server: tests/integrations."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from monitoring.integrations import tool_rows
from monitoring.integrations.names import TaskState
from tests.support.label_studio import EMAIL, TOKEN
from tests.support.label_studio_tape import DIGITS, TAPE, Tape, replaying, story
from tests.support.label_world import TOOL, LabelWorld, label_world


def numbers(method: str, path: str, body: object) -> list[dict[str, int]]:
    """The annotators' part has happened, on the tape."""
    return [{"id": 0}]


def play(tmp_path: Path, upto: str) -> tuple[LabelWorld, Tape]:
    tape = Tape(exchanges=json.loads(TAPE.read_text(encoding="utf-8")))
    with replaying(tape) as url:
        world = label_world(tmp_path, url, TOKEN, cases=DIGITS)
        world.worker.tool.client.egress.sleep = lambda s: None  # type: ignore[attr-defined]
        for name in story(world, numbers):
            if name == upto:
                break
    assert tape.wrong == []
    return world, tape


def test_each_case_is_pushed_once_as_a_task_of_one_project(tmp_path: Path):
    world, _ = play(tmp_path, "pushed")
    assert world.tasks(TaskState.PUSHED) == list(world.cases)
    assert len({world.task(case).external_id for case in world.cases}) == DIGITS
    assert len(tool_rows.projects(world.store, TOOL)) == 1
    assert world.ask() == {"added": 0, "known": DIGITS, "unknown": 0}
    world.store.close()


def test_annotations_become_decisions_of_whoever_gave_them(tmp_path: Path):
    world, _ = play(tmp_path, "annotated")
    assert list(world.decided().values()) == ['"one"', '"two"', '"three"'] or set(world.decided().values()) == {
        '"one"', '"two"', '"three"'
    }  # fmt: skip
    found = world.store.case(world.cases[0])
    assert found is not None
    assert "'eleven' is no class of the model" in world.task(world.cases[3]).problem
    assert EMAIL in world.task(world.cases[3]).problem
    state = tool_rows.tool_row(world.store, TOOL)
    assert (state.pulled, state.refused) == (3, 1)
    world.store.close()


def test_the_newer_annotation_replaces_a_deleted_one_is_taken_back_a_skipped_one_asks_for_somebody_else(tmp_path: Path):
    world, _ = play(tmp_path, "changed")
    assert world.decided() == {world.cases[0]: '"nine"'}
    assert world.truths() == ['"nine"']
    skipped = world.store.case(world.cases[2])
    assert skipped is not None
    assert skipped.state == "second_opinion"
    world.store.close()


def test_looking_at_everything_again_changes_nothing(tmp_path: Path):
    world, tape = play(tmp_path, "looked again")
    assert tape.at == len(tape.exchanges)
    assert world.decided() == {world.cases[0]: '"nine"'}
    assert tool_rows.tool_row(world.store, TOOL).pulled == 5  # three, the changed one, the skip
    world.store.close()


@pytest.mark.parametrize("status", [401, 302])
def test_a_tool_that_refuses_is_shown_as_failing_and_what_waits_goes_on_waiting(tmp_path: Path, status: int):
    tape = Tape(exchanges=[{"method": "GET", "path": "", "status": status, "answer": {"detail": "no"}}] * 20)
    for exchange in tape.exchanges:
        exchange["path"] = json.loads(TAPE.read_text(encoding="utf-8"))[0]["path"]
    with replaying(tape) as url:
        world = label_world(tmp_path, url, TOKEN, cases=DIGITS)
        world.ask()
        assert world.worker.turn() is False
        state = tool_rows.tool_row(world.store, TOOL)
        assert state.failing_ns
        assert str(status) in state.problem
        assert TOKEN not in state.problem
        assert world.tasks(TaskState.WAITING) == list(world.cases)
        asked = tape.at
        assert world.worker.turn() is False  # it is left alone for a while
        assert tape.at == asked
        world.store.close()
