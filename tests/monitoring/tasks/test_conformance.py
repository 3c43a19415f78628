"""Every kind of task passes the same tests, with real small models on real data (`tests.support.task_models`)."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

from export.contracts.reference import ReferenceProfile
from monitoring import schema as t
from monitoring.api.app import build_console
from monitoring.api.options import ConsoleOptions
from monitoring.baseline import Baseline, compile_baseline
from monitoring.batches import Batch, Place, assemble
from monitoring.flags import FLAG_BITS, FlagReason
from monitoring.metrics_tasks import task_metrics
from monitoring.options import CaseOptions
from monitoring.scores import Scored, score_batch
from monitoring.store import Store
from monitoring.windows import WindowStats
from tests.support import task_models, task_stream
from tests.support.console_server import client as connected
from tests.support.monitor_world import Replica, snapshot
from tests.support.task_models import WORLDS, World

JUDGED = [name for name in WORLDS if name != "segmentation"]
KINDS = list(WORLDS)


def batch_of(tmp_path: Path, world: World, x: np.ndarray[Any, Any], **how: Any) -> Batch:
    """What the monitor decodes of records that the data plane wrote."""
    from monitoring.records.reader import RecordLogReader

    replica = Replica(tmp_path, "r1")
    replica.offer(task_stream.records(world, x, how.pop("ids", [f"a{i}" for i in range(len(x))]), **how))
    replica.close()
    reader = RecordLogReader(tmp_path)
    (source,) = reader.sources()
    poisons: list[Any] = []
    frames = [
        (Place(source=source, segment=0, offset=i, sequence=i), frame.records())
        for i, frame in enumerate(reader.read(source, None, 1 << 30))
        if frame.kind == "records"
    ]
    batches = assemble(frames, poisons)
    reader.close()
    assert not poisons
    assert len(batches) == 1
    return batches[0]


def scored(world: World, batch: Batch) -> tuple[Baseline, Scored]:
    baseline = compile_baseline(world.manifest, world.profile)
    return baseline, score_batch(baseline, batch, CaseOptions())


@pytest.fixture(scope="module")
def days(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Store, Path]]:
    """The monitor's database after each model's stream, and its log."""
    made: dict[str, tuple[Store, Path]] = {}
    for name, make in WORLDS.items():
        folder = tmp_path_factory.mktemp(name)
        task_stream.stream(folder / "log", make())
        known = task_stream.catalogue(folder / "reference", make())
        made[name] = (task_stream.consume(folder / "db", folder / "log", known), folder)
    return made


def rows_of(store: Store, table: sa.Table) -> list[dict[str, Any]]:
    with store.read() as connection:
        return [dict(row) for row in connection.execute(sa.select(table)).mappings()]


@pytest.mark.parametrize("name", KINDS)
def test_the_reference_survives_being_written_and_read(name: str, tmp_path: Path) -> None:
    profile = WORLDS[name]().profile
    profile.save(tmp_path)
    read = ReferenceProfile.load(tmp_path)
    assert (read.answers is None) == (profile.answers is None)
    if profile.answers is not None and read.answers is not None:
        for field in dataclasses.fields(profile.answers):
            np.testing.assert_array_equal(getattr(read.answers, field.name), getattr(profile.answers, field.name))
    assert (
        compile_baseline(WORLDS[name]().manifest, read).layout
        == compile_baseline(WORLDS[name]().manifest, profile).layout
    )


@pytest.mark.parametrize("name", KINDS)
def test_every_watched_quantity_of_the_reference_is_scored_live(name: str, tmp_path: Path) -> None:
    world = WORLDS[name]()
    baseline, result = scored(world, batch_of(tmp_path, world, world.x[:60]))
    for i, quantity in enumerate(baseline.quantities):
        assert np.isfinite(result.values[:, i]).any(), quantity.name
    assert len(baseline.quantities) > baseline.input_columns


@pytest.mark.parametrize("name", KINDS)
def test_a_record_scores_the_same_alone_among_others_and_as_one_of_many_rows(name: str, tmp_path: Path) -> None:
    world = WORLDS[name]()
    x, one = world.x[:9], slice(4, 5)
    answer = world.answer(x)  # once: a matrix product of another height may differ in its last bits
    _, together = scored(world, batch_of(tmp_path / "a", world, x, **answer))
    baseline, alone = scored(world, batch_of(tmp_path / "b", world, x[one], **{n: a[one] for n, a in answer.items()}))
    _, rows = scored(world, batch_of(tmp_path / "c", world, x, rows=[2, 7], ids=["two", "seven"], **answer))
    np.testing.assert_array_equal(together.values[4], alone.values[0])
    np.testing.assert_array_equal(together.values, rows.values)
    task = baseline.task
    assert task.show(together.answered, 4) == task.show(alone.answered, 0) == task.show(rows.answered, 4)


@pytest.mark.parametrize("name", KINDS)
def test_an_answer_that_is_not_a_number_is_flagged_and_harms_no_other_row(name: str, tmp_path: Path) -> None:
    world = WORLDS[name]()
    output = next(s for s in world.signature.outputs if s.name != "embedding")
    answer = world.answer(world.x[:4])[output.name].copy()
    answer[1] = np.nan
    baseline, broken = scored(world, batch_of(tmp_path / "a", world, world.x[:4], **{output.name: answer}))
    _, whole = scored(world, batch_of(tmp_path / "b", world, world.x[:4]))
    assert broken.flags[1] & FLAG_BITS[FlagReason.RULE_NOT_FINITE]
    assert not broken.flags[[0, 2, 3]].astype(bool).any() or (broken.flags[[0, 2, 3]] == whole.flags[[0, 2, 3]]).all()
    np.testing.assert_array_equal(broken.values[[0, 2, 3]], whole.values[[0, 2, 3]])
    if name != "segmentation":
        assert np.isnan(broken.p_wrong[1])
    baseline.task.show(broken.answered, 1)  # a page can be made of it


@pytest.mark.parametrize("name", JUDGED)
def test_p_wrong_ranks_wrong_answers_first_and_is_about_right_on_average(name: str, tmp_path: Path) -> None:
    world = WORLDS[name]()
    n = min(len(world.x), 300)
    batch = batch_of(tmp_path, world, world.x[:n])
    baseline, result = scored(world, batch)
    wrong = []
    for i in range(n):
        truth = baseline.task.truth(_stored(world, world.truth[i]), {"rows": 1})
        assert truth is not None
        details = result.answered.details
        record = {
            "rows": 1,
            "predicted": int(result.predicted[i]),
            "predicted_rows": None,
            "answer": None if details is None else [details[i]],
            "value": None if result.answered.value is None else float(result.answered.value[i]),
        }
        verdict = baseline.task.judge(truth, record, CaseOptions().value_error_factor)
        assert verdict.rows == 1
        wrong.append(verdict.wrong)
    p, y = result.p_wrong.astype(np.float64), np.array(wrong)
    assert abs(p.mean() - y.mean()) < 0.12, "P(wrong) is calibrated"
    if 5 <= y.sum() <= n - 5 and name not in ("ensemble", "quantiles"):
        ranks = p.argsort().argsort()
        auroc = (ranks[y].mean() - (y.sum() - 1) / 2) / (~y).sum()
        assert auroc > 0.65, "P(wrong) ranks"


def _stored(world: World, truth: Any) -> Any:
    from monitoring.tasks.protocol import Said

    item = task_stream.said(world, "x", truth)
    return Said(label=item.label, labels=None if item.labels is None else list(item.labels), truth=item.truth)


@pytest.mark.parametrize("name", KINDS)
def test_windows_count_what_was_answered_and_what_was_right(name: str, days: dict[str, tuple[Store, Path]]) -> None:
    store, _ = days[name]
    windows = rows_of(store, t.windows)
    assert sum(w["requests"] for w in windows) == sum(w["rows"] for w in windows) == 240
    labelled = sum(w["labelled"] for w in windows)
    records = rows_of(store, t.records)
    if name == "segmentation":
        assert labelled == 0
        return
    # Every third record has a truth; the stream's second half is harder, so that some are wrong and some are right.
    judged = [r for r in records if r["correct_rows"] is not None]
    assert labelled == len(judged) == sum(r["label"] is not None for r in records) == 80
    right = sum(w["correct"] for w in windows)
    assert right == sum(r["correct_rows"] for r in judged)
    assert 0 < right < labelled
    stats = [WindowStats.decode(w["stats"]) for w in windows]
    if name in ("classification", "multi_label", "detection"):
        assert sum(int(s.predicted.sum()) for s in stats) > 0
        assert sum(int(s.labels.sum()) for s in stats) > 0
    if name in ("multi_label", "detection"):
        counted = {key: sum(w[key] for w in windows) for key in ("matched", "missed", "spurious")}
        assert min(counted.values()) > 0
        assert counted["matched"] + counted["missed"] == sum(int(s.labels.sum()) for s in stats)
    if name in ("ensemble", "quantiles"):
        assert sum(w["error_sum"] for w in windows) > 0


@pytest.mark.parametrize("name", JUDGED)
def test_the_metrics_say_what_was_matched_and_how_far_answers_miss(
    name: str, days: dict[str, tuple[Store, Path]]
) -> None:
    samples = {(s.name, s.labels.get("result", "")): s.value for m in task_metrics(days[name][0]) for s in m.samples}
    windows = rows_of(days[name][0], t.windows)
    if name in ("multi_label", "detection"):
        for result in ("matched", "missed", "spurious"):
            assert samples.pop(("hardcase_answer_items", result)) == sum(w[result] for w in windows)
    if name in ("ensemble", "quantiles"):
        assert 0.05 < samples.pop(("hardcase_answer_error_tolerances", "")) < 10
    assert not samples


@pytest.mark.parametrize("name", KINDS)
def test_cases_are_opened_and_wrong_answers_become_failures(name: str, days: dict[str, tuple[Store, Path]]) -> None:
    store, _ = days[name]
    cases = rows_of(store, t.cases)
    assert cases
    if name == "segmentation":
        assert any(c["flags"] & FLAG_BITS[FlagReason.NOVELTY] for c in cases)
        return
    complaints = [c for c in cases if c["flags"] & FLAG_BITS[FlagReason.NEGATIVE_FEEDBACK]]
    wrong = [r for r in rows_of(store, t.records) if r["correct_rows"] == 0]
    assert {c["record_id"] for c in complaints} == {r["record_id"] for r in wrong}
    assert all(c["correct"] is False for c in complaints)


@pytest.mark.parametrize("name", JUDGED)
def test_a_correction_moves_the_counts_back(name: str, tmp_path: Path) -> None:
    """The newest truth holds, and nothing of the one before stays in the window."""
    world = WORLDS[name]()
    known = task_stream.catalogue(tmp_path / "reference", world)
    counts = []
    for label, truths in {"twice": [world.truth[1], world.truth[0]], "once": [world.truth[0]]}.items():
        replica = Replica(tmp_path / label, "r1")
        replica.offer(task_stream.records(world, world.x[:1], ["a"]))
        for second, truth in enumerate(truths, start=2 - len(truths)):
            replica.feedback(task_stream.said(world, "a", truth, 5 + second))
        replica.close()
        store = task_stream.consume(tmp_path / f"{label}-db", tmp_path / label, known)
        (window,) = rows_of(store, t.windows)
        counts.append([window[k] for k in ("labelled", "correct", "matched", "missed", "spurious", "error_sum")])
        counts[-1].append(WindowStats.decode(window["stats"]).labels.tolist())
        store.close()
    assert counts[0] == counts[1]
    assert counts[0][0] == 1


@pytest.mark.parametrize("name", KINDS)
def test_the_case_page_and_the_api_show_the_answer(name: str, days: dict[str, tuple[Store, Path]]) -> None:
    from monitoring.reports import ReportOptions, ReportService
    from tests.support.console_store import StillMonitor

    store, folder = days[name]
    world = WORLDS[name]()
    reports = ReportService(
        ReportOptions(folder=folder / "reports"), lambda request, most: (_ for _ in ()).throw(KeyError)
    )
    known = task_stream.catalogue(folder / "reference", world)
    app = build_console(store, known, StillMonitor(), list, ConsoleOptions(), reports=reports)
    cases = sorted(rows_of(store, t.cases), key=lambda c: (c["label"] is None, c["id"]))
    with connected(app) as client:
        case = client.get(f"/api/cases/{cases[0]['id']}").json()
        page = client.get(f"/cases/{cases[0]['id']}")
        assert page.status_code == 200, page.text[:500]
        assert client.get(f"/cases?model={world.kind}").status_code == 200
        assert client.get(f"/models/{world.kind}").status_code == 200
    reports.close()
    assert case["task"] == world.task.kind.value
    if name == "segmentation":
        assert case["answer"] is None
        return
    assert case["truth"] is not None
    if name == "multi_label":
        assert isinstance(case["answer"], list)
        assert "Label probabilities" in page.text
    if name in ("ensemble", "quantiles"):
        assert case["answer"]["low"][0] < case["answer"]["value"][0] < case["answer"]["high"][0]
        assert 'class="band"' in page.text
        assert 'class="true"' in page.text
    if name == "detection":
        assert all(set(b) == {"box", "class", "score", "right"} for b in case["answer"])
        assert 'class="boxed"' in page.text


@pytest.mark.parametrize("name", ["multi_label", "ensemble", "detection"])
def test_cut_into_other_cycles_and_broken_off_in_the_middle_the_result_is_the_same(
    name: str, days: dict[str, tuple[Store, Path]], tmp_path: Path
) -> None:
    whole, folder = days[name]
    known = task_stream.catalogue(folder / "reference", WORLDS[name]())
    half = task_stream.consume(tmp_path, folder / "log", known, cycles=2, batch_bytes=4_000)
    before = len(rows_of(half, t.records))
    half.close()  # as if killed: what was committed is all that is left
    again = task_stream.consume(tmp_path, folder / "log", known, batch_bytes=4_000)
    assert 0 < before < 240, "it was broken off in the middle"
    found, expected = snapshot(again), snapshot(whole)
    for table in ("records", "windows", "cases", "case_tensors"):
        assert found[table] == expected[table], table
    again.close()


def test_a_picture_without_boxes_is_an_answer(tmp_path: Path) -> None:
    world = task_models.detection()
    empty = np.zeros_like(world.x[:2])
    nothing = np.zeros((2, 9), np.float32)
    baseline, result = scored(world, batch_of(tmp_path, world, empty, scores=nothing))
    assert result.answered.details == [[], []]
    assert (result.values[:, baseline.index["boxes"]] == 0).all()
    assert np.isnan(result.values[:, baseline.index["box_confidence"]]).all()
    assert np.isfinite(result.p_wrong).all()
    record = {"rows": 2, "answer": result.answered.details}
    right = baseline.task.judge([[], []], record, 3.0)
    assert (right.rows, right.correct, right.matched, right.missed, right.spurious) == (2, 2, 0, 0, 0)
    missed = baseline.task.judge([[], [{"box": [0, 0, 8, 8], "class": "3"}]], record, 3.0)
    assert (missed.correct, missed.missed, missed.wrong) == (1, 1, True)
    assert baseline.task.judge([[], [{"box": [0, 0, 8]}]], record, 3.0).rows == 0, "what is no box is not compared"
