"""CVAT: requests as the models of its SDK say, labels of completed jobs. There is no server here: see the guide."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from export.contracts.manifest import Task, TaskKind
from export.contracts.task import BoxFormat, BoxRules, BoxUnits
from monitoring.baselines import Baselines
from monitoring.integrations import rows, tool_rows
from monitoring.integrations.contracts import Sheet
from monitoring.integrations.cvat.tool import Cvat
from monitoring.integrations.duty import make_cvat
from monitoring.integrations.names import TaskState, Tool
from monitoring.integrations.options import CvatOptions
from monitoring.integrations.worker import ToolWorker
from monitoring.review.ledger import Ledger
from monitoring.store import Store
from tests.support.console_store import MemoryCatalogue, fill, manifest
from tests.support.cvat_stub import TOKEN, CvatStub, serving

DIGITS = 6


def states(store: Store, cases: tuple[str, ...]) -> list[tuple[str, str | None]]:
    found = [rows.task_of_case(store, Tool.CVAT, case) for case in cases]
    return [(row.state, row.external_id) for row in found if row is not None]


def decisions(store: Store, cases: tuple[str, ...]) -> list[str | None]:
    """The label that CVAT's annotator gave to each case."""
    found = [rows.live_opinions(store, case, "cvat:") for case in cases]
    return [said["cvat:ann"][2] if said else None for said in found]


def test_a_batch_goes_out_as_a_task_and_completed_jobs_come_back(tmp_path: Path):
    store = Store(f"sqlite:///{tmp_path}/monitor.db")
    cases = fill(store, cases=DIGITS).case_ids
    (tmp_path / "token").write_text(TOKEN + "\n")
    stub = CvatStub()
    with serving(stub) as url:
        tool = make_cvat(CvatOptions(url=url, token_file=str(tmp_path / "token")))
        baselines = Baselines(MemoryCatalogue(manifests=(manifest(),)))
        worker = ToolWorker(tool=tool, store=store, baselines=baselines, ledger=Ledger(store), poll_s=0.0)
        rows.ask_for(store, Tool.CVAT, cases, batch="", actor="ann", now_ns=1)
        worker.turn()
        assert states(store, cases) == [(TaskState.PUSHED.value, f"1:{i}") for i in range(DIGITS)]
        assert stub.files == {1: [f"{case}.png" for case in cases]}
        assert [label["type"] for label in stub.projects[1]["labels"]] == ["tag"] * 10

        tags = [{"frame": i, "label_id": stub.label_id("seven"), "group": 0} for i in range(DIGITS - 1)]
        said = {"version": 1, "tags": tags, "shapes": [], "tracks": []}
        stub.complete(1, said, "2026-11-21T11:00:00Z", state="in progress")
        worker.turn()
        assert decisions(store, cases) == [None] * DIGITS  # work in progress says nothing
        stub.complete(1, said, "2026-11-21T11:05:00Z")
        worker.turn()
        assert decisions(store, cases) == ['"seven"'] * (DIGITS - 1) + [None]  # a picture without a tag says nothing
        tags[0] |= {"label_id": stub.label_id("two")}
        stub.complete(1, said, "2026-11-21T11:10:00Z")
        worker.turn()
        assert decisions(store, cases)[:2] == ['"two"', '"seven"']
        stub.complete(1, said, "2026-11-21T11:15:00Z", state="in progress")
        worker.turn()
        assert decisions(store, cases) == [None] * DIGITS  # opened again: taken back

        sheets = [Sheet(case=case, model="digits", version="2") for case in cases]
        again = make_cvat(CvatOptions(url=url, token_file=str(tmp_path / "token")))
        found = again.push("1", manifest(), sheets)
        assert found == {case: f"1:{i}" for i, case in enumerate(cases)}  # found again, not sent again
        assert len(stub.tasks) == 1
    assert stub.wrong == []
    assert tool_rows.tool_row(store, Tool.CVAT).failing_ns == 0
    store.close()


@pytest.mark.parametrize(
    ("rules", "wanted"),
    [
        (BoxRules(), [8.0, 4.0, 16.0, 12.0]),
        (BoxRules(format=BoxFormat.XYWH), [8.0, 4.0, 8.0, 8.0]),
        (BoxRules(format=BoxFormat.CXCYWH, units=BoxUnits.RELATIVE), [0.375, 0.25, 0.25, 0.25]),
    ],
)
def test_rectangles_become_boxes_as_the_model_writes_them(rules: BoxRules, wanted: list[float], tmp_path: Path):
    task = Task(kind=TaskKind.DETECTION, class_names=("ant", "bee"), boxes=rules)
    model = dataclasses.replace(manifest(), task=task)
    (tmp_path / "token").write_text(TOKEN)
    stub = CvatStub()
    with serving(stub) as url:
        tool = make_cvat(CvatOptions(url=url, token_file=str(tmp_path / "token")))
        assert isinstance(tool, Cvat)
        project = tool.make_project("insects", tool.config(model))
        assert tool.make_project("insects", tool.config(model)) == project
        stub.tasks[1], stub.files[1] = {"project_id": 1}, ["00ff00ff00ff00ff.png"] * 3
        stub.jobs[1] = {"id": 1, "task_id": 1, "project_id": 1, "start_frame": 0, "stop_frame": 2}
        box = {"type": "rectangle", "frame": 0, "label_id": stub.label_id("bee"), "points": [8.0, 4.0, 16.0, 12.0]}
        shapes = [box, box | {"frame": 1, "rotation": 30.0}]
        stub.complete(1, {"version": 1, "tags": [], "shapes": shapes, "tracks": []}, "2026-11-21T11:00:00Z")
        (page,) = tool.changes(project, model, "2026-11-21T10:00:00Z")
    given = {changed.task: changed.given[0] for changed in page.changed}
    assert given["1:0"].label == [{"box": wanted, "class": "bee"}]
    assert "upright" in given["1:1"].problem
    assert given["1:2"].label == []  # a completed picture without a box: there is nothing to find
    assert stub.wrong == []


def test_a_model_without_pictures_or_with_numbers_as_answers_is_refused_in_words():
    tool = make_cvat(CvatOptions(url="http://cvat.example", token_file="none"))
    with pytest.raises(ValueError, match="regression"):
        tool.config(dataclasses.replace(manifest(), task=Task(kind=TaskKind.REGRESSION)))
