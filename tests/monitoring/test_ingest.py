"""Records become windows, cases and offsets: exactly once, whatever the order, the cuts and the faults."""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from export.contracts.cases import FlagReason
from export.contracts.datatypes import Datatype
from monitoring import schema as t
from monitoring.cycle import Loop, make_loop, run_cycle
from monitoring.flags import FLAG_BITS
from monitoring.ingest_rows import Cursor, read_cursors
from monitoring.log_frames import read_frames
from monitoring.options import CaseOptions
from monitoring.records.reader import RecordLogReader
from monitoring.records.record import Feedback, Outcome, Ragged, RecordSchema, Rows, TensorColumn
from monitoring.store import Store
from monitoring.windows import WindowStats
from tests.support import monitor_world as w
from tests.support.monitor_child import drain


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, bool]]:
    root = tmp_path_factory.mktemp("day") / "records"
    return root, w.day(root, seconds=150, rate=16)


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> w.MemoryCatalogue:
    return w.catalogue(tmp_path_factory.mktemp("reference"))


def new_loop(folder: Path, catalogue: w.MemoryCatalogue, **changes: Any) -> Loop:
    folder.mkdir(parents=True, exist_ok=True)
    options = w.options(folder, **changes)
    return make_loop(options, Store(options.database_url), catalogue)


def consumed(folder: Path, catalogue: w.MemoryCatalogue, **changes: Any) -> Loop:
    loop = new_loop(folder, catalogue, **changes)
    drain(loop)
    return loop


@pytest.fixture(scope="module")
def day(
    log: tuple[Path, dict[str, bool]], reference: w.MemoryCatalogue, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Loop]:
    """The day, consumed; for tests that only look."""
    loop = consumed(tmp_path_factory.mktemp("consumed"), reference, records_root=log[0])
    yield loop
    loop.store.close()


def test_a_day_is_counted_as_a_naive_count_of_the_log_counts_it(day: Loop, log: tuple[Path, dict[str, bool]]) -> None:
    root, right = log
    outcomes: Counter[int] = Counter()
    labelled: Counter[int] = Counter()
    correct: Counter[int] = Counter()
    reader = RecordLogReader(root)
    when: dict[str, int] = {}
    said: list[str] = []
    for source in reader.sources():
        for frame in reader.read(source, None, 1 << 40):
            if frame.kind == "records":
                records = frame.records()
                for identity, time_ns in zip(records.ids, records.time_ns.tolist(), strict=True):
                    start = time_ns // (60 * w.SECOND) * 60
                    outcomes[start, records.outcome.value] += 1  # type: ignore[index]
                    when[identity] = start
            elif frame.kind == "feedback":
                said += [item.record_id for item in frame.feedback()]
    for identity in said:
        if identity != "0-5-3":  # the answer that is not finite has no class to compare
            labelled[when[identity]] += 1
            correct[when[identity]] += right[identity]
    windows = day.store.windows("digits")
    assert {(x.start_s, o): n for x in windows for o, n in x.outcomes.items()} == dict(outcomes)
    assert {x.start_s: x.labelled for x in windows} == dict(labelled)
    assert {x.start_s: x.correct for x in windows} == dict(correct)
    assert sum(labelled.values()) > 400
    healthy, shifted = windows[0], windows[-1]
    assert healthy.accuracy is not None
    assert healthy.accuracy > 0.9
    assert shifted.accuracy is not None
    assert shifted.accuracy < 0.5
    assert healthy.p_wrong_mean is not None
    assert shifted.p_wrong_mean is not None
    assert shifted.p_wrong_mean > 2 * healthy.p_wrong_mean
    for account in day.store.accounting():
        assert account.unexplained == 0
        assert account.ingested == account.captured
        assert account.final


def test_drift_shows_in_every_kind_of_signal_under_the_shift_and_hardly_before(day: Loop) -> None:
    healthy, shifted = (
        day.store.signals("digits", scope="window", from_s=x, to_s=x + 1, exceeded=True)
        for x in (w.START_S, w.START_S + 120)
    )
    assert len(healthy) <= 1  # one in a thousand by chance, and there are two dozen
    assert {s.kind for s in shifted} == {"input", "prediction", "score", "embedding"}
    assert len(shifted) >= 15


def test_most_of_the_best_ranked_cases_under_the_shift_are_wrong_answers(
    day: Loop, log: tuple[Path, dict[str, bool]]
) -> None:
    shifted_ns = (w.START_S + 90) * w.SECOND
    cases = day.store.cases(from_ns=shifted_ns, reason=FlagReason.LOW_CONFIDENCE, limit=50).cases
    assert len(cases) == 50
    assert sum(not log[1][case.record_id] for case in cases) >= 35
    assert [c.rank for c in cases] == sorted((c.rank for c in cases), reverse=True)


def test_a_row_that_is_not_finite_is_a_case_and_poisons_no_window(day: Loop, log: tuple[Path, dict[str, bool]]) -> None:
    (case,) = day.store.cases(reason=FlagReason.RULE_NOT_FINITE).cases
    assert (case.record_id, case.confidence, case.predicted) == ("0-5-3", None, None)
    assert all(value is None for name, value in case.scores.items() if name not in ("rmds", "knn"))
    window = day.store.windows("digits")[0]
    assert window.p_wrong_mean is not None
    assert np.isfinite(window.p_wrong_mean)
    stats, index = WindowStats.decode(window.stats), w.baseline().index
    assert stats.not_finite[index["msp"]] == 1
    assert stats.counts[index["msp"]].sum() == window.rows - 1
    assert all(s.value is None or np.isfinite(s.value) for s in day.store.signals("digits"))


@pytest.mark.parametrize("cycle_bytes", [1, 20_000, 300_000])
def test_how_the_log_is_cut_into_cycles_leaves_no_trace(
    cycle_bytes: int, day: Loop, log: tuple[Path, dict[str, bool]], reference: w.MemoryCatalogue, tmp_path: Path
) -> None:
    cut = consumed(tmp_path / "b", reference, records_root=log[0], batch_bytes=cycle_bytes)
    assert cut.progress.cycles > day.progress.cycles
    assert ignoring_late(day.store) == ignoring_late(cut.store)
    cut.store.close()


def ignoring_late(store: Store) -> dict[str, list[tuple[Any, ...]]]:
    """A snapshot without the count of late records, which says in which order they came."""
    with store.write() as connection:
        connection.execute(t.windows.update().values(late=0))
    return w.snapshot(store)


def test_frames_that_were_consumed_before_change_nothing(
    log: tuple[Path, dict[str, bool]], reference: w.MemoryCatalogue, tmp_path: Path
) -> None:
    loop = consumed(tmp_path, reference, records_root=log[0])
    before = w.snapshot(loop.store)
    frames, _ = read_frames(RecordLogReader(log[0]), {}, 1 << 40)
    assert len(frames) > 100
    with loop.store.write() as connection:
        cursors = read_cursors(connection)
        again = loop.ingest.prepare(frames, cursors)
        assert again.records == 0
        loop.ingest.commit(connection, again)
    assert w.snapshot(loop.store) == before
    loop.store.close()


@pytest.fixture(scope="module")
def small_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("small") / "records"
    w.day(root, seconds=40, rate=8, shift_from=20, seed=3, replicas=3)
    return root


@given(data=st.data())
@settings(
    max_examples=8,
    deadline=None,
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_sources_may_arrive_in_any_order_and_be_delivered_twice(
    data: st.DataObject,
    small_log: Path,
    reference: w.MemoryCatalogue,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    tight = CaseOptions(
        scored_per_window=15,
        audits_per_window=2,
        probes_per_window=3,
        feedback_per_window=10,
        audit_rate=0.05,
        probe_rate=0.6,
    )
    frames, _ = read_frames(RecordLogReader(small_log), {}, 1 << 40)
    by_source = {s: list(fs) for s, fs in itertools.groupby(frames, key=lambda f: f.source)}
    turns = data.draw(st.permutations([s for s, fs in by_source.items() for _ in range(4)]))
    sizes = {s: -(-len(fs) // 4) for s, fs in by_source.items()}
    loop = new_loop(tmp_path_factory.mktemp("order"), reference, records_root=small_log, cases=tight)
    cursors: dict[str, Cursor] = {}
    for source in turns:
        part, by_source[source] = by_source[source][: sizes[source]], by_source[source][sizes[source] :]
        for frames_now in (part, part):  # at least once
            prepared = loop.ingest.prepare(frames_now, cursors)
            with loop.store.write() as connection:
                loop.ingest.commit(connection, prepared)
            cursors = {**cursors, **prepared.ends}
    drain(loop)
    baseline = consumed(tmp_path_factory.mktemp("plain"), reference, records_root=small_log, cases=tight)
    got, wanted = ignoring_late(loop.store), ignoring_late(baseline.store)
    for table in wanted:
        assert got[table] == wanted[table], table
    loop.store.close()
    baseline.store.close()


def test_feedback_that_comes_long_after_finds_the_input_in_the_log(
    reference: w.MemoryCatalogue, tmp_path: Path
) -> None:
    d, none = w.digits(), CaseOptions(scored_per_window=0, audits_per_window=0)
    replica = w.Replica(tmp_path / "records")
    times = [w.START_S * w.SECOND + i for i in range(6)]
    replica.offer(w.batch(d.images[:6], list("abcdef"), times))
    loop = new_loop(tmp_path, reference, cases=none)
    drain(loop)
    assert loop.store.cases().cases == ()
    wrong = w.NAMES[(int(d.answer(d.images[2:3])["logits"].argmax()) + 1) % 10]
    replica.feedback(Feedback(record_id="c", model="digits", time_ns=times[0] + 10**12, label=wrong, comment="no!"))
    drain(loop)
    (case,) = loop.store.cases().cases
    assert (case.record_id, case.reasons, case.correct, case.label) == ("c", ("negative_feedback",), False, wrong)
    assert case.comment == "no!"
    assert case.state == "labelled"
    kept = loop.store.case_tensors(case.id, "in")[0]
    assert kept.data == np.ascontiguousarray(d.images[2]).tobytes()
    assert kept.shape == (1, 1, 8, 8)
    replica.close()
    loop.store.close()


def test_a_corrected_label_moves_the_window_and_keeps_the_reason(reference: w.MemoryCatalogue, tmp_path: Path) -> None:
    d = w.digits()
    replica = w.Replica(tmp_path / "records")
    at = w.START_S * w.SECOND
    replica.offer(w.batch(d.images[:1], ["a"], [at]))
    predicted = int(d.answer(d.images[:1])["logits"].argmax())
    later = Feedback(record_id="a", model="digits", time_ns=at + 2, label=w.NAMES[predicted])
    earlier = Feedback(record_id="a", model="digits", time_ns=at + 1, label=w.NAMES[(predicted + 1) % 10])
    loop = new_loop(tmp_path, reference)
    for item, wanted in ((later, (1, 1)), (earlier, (1, 1))):  # the older one comes last and must not win
        replica.feedback(item)
        drain(loop)
        (window,) = loop.store.windows("digits")
        assert (window.labelled, window.correct) == wanted
        assert WindowStats.decode(window.stats).labels.sum() == 1
    (record,) = loop.store.records("a")
    assert record.correct_rows == 1
    assert "negative_feedback" in record.reasons
    replica.close()
    loop.store.close()


def test_a_record_of_several_rows_is_judged_by_its_worst_row_and_labelled_row_by_row(
    reference: w.MemoryCatalogue, tmp_path: Path
) -> None:
    d = w.digits()
    images = np.concatenate([d.images[:2], w.turned(d.images[2:3])])
    answer = d.answer(images)
    replica = w.Replica(tmp_path / "records")
    made = w.batch(images, ["a"], [w.START_S * w.SECOND])
    replica.offer(dataclasses.replace(made, rows=[3]))
    predicted = [w.NAMES[i] for i in answer["logits"].argmax(1)]
    labels = (predicted[0], predicted[1], "zero" if predicted[2] != "zero" else "one")
    replica.feedback(Feedback(record_id="a", model="digits", time_ns=1, labels=labels))
    replica.close()
    loop = consumed(tmp_path, reference)
    (window,) = loop.store.windows("digits")
    assert (window.requests, window.rows, window.labelled, window.correct) == (1, 3, 3, 2)
    (case,) = loop.store.cases().cases
    probabilities = d.profile.classes.probabilities(answer["logits"])  # type: ignore[union-attr]
    assert case.row == int(np.argmin(probabilities.max(1)))
    assert case.correct is False
    assert loop.store.case_tensors(case.id, "in")[0].shape == (3, 1, 8, 8)
    loop.store.close()


def test_a_tensor_whose_bytes_lie_is_set_aside_and_its_neighbours_count(
    reference: w.MemoryCatalogue, tmp_path: Path
) -> None:
    text = RecordSchema("texts", "1", "", (TensorColumn("t", Datatype.BYTES),), ())
    lying = Ragged([b"\2\0\0\0hi", b"\xff\0\0\0hi"], [(1,), (1,)])
    made = dataclasses.replace(
        w.refusal(["a", "b"], [w.START_S * w.SECOND] * 2, Outcome.OK), schema=text, inputs=(lying,), error=None
    )
    replica = w.Replica(tmp_path / "records")
    replica.offer(made)
    replica.close()
    loop = consumed(tmp_path, reference)
    (letter,) = loop.store.dead_letters()
    assert (letter.reason, letter.item) == ("tensor_unreadable", 1)
    assert loop.store.windows("texts")[0].requests == 1
    assert len(loop.store.records("a", "texts")) == 1
    loop.store.close()


def test_outputs_that_do_not_fit_the_model_are_counted_and_not_scored(
    reference: w.MemoryCatalogue, tmp_path: Path
) -> None:
    d = w.digits()
    narrow = RecordSchema("digits", "1", "", w.SCHEMA.inputs, (TensorColumn("logits", Datatype.FP32),))
    made = w.batch(d.images[:3], ["a", "b", "c"], [w.START_S * w.SECOND] * 3)
    five = Rows(np.ones((3, 5), dtype=np.float32), (5,), 20)
    replica = w.Replica(tmp_path / "records")
    replica.offer(dataclasses.replace(made, schema=narrow, outputs=(five,)))
    replica.offer(w.batch(d.images[:3], ["x", "y", "z"], [w.START_S * w.SECOND] * 3))
    replica.close()
    loop = consumed(tmp_path, reference)
    assert [x.reason for x in loop.store.dead_letters()] == ["not_scored"]
    (window,) = loop.store.windows("digits")
    assert (window.requests, window.rows) == (6, 3)
    loop.store.close()


def test_a_frame_that_cannot_be_decoded_stops_nothing(reference: w.MemoryCatalogue, tmp_path: Path) -> None:
    d = w.digits()
    replica = w.Replica(tmp_path / "records")
    for i in range(3):
        replica.offer(w.batch(d.images[i : i + 1], [f"r{i}"], [w.START_S * w.SECOND + i]))
    loop = new_loop(tmp_path, reference)
    frames, _ = read_frames(loop.reader, {}, 1 << 30)
    assert len(frames) == 3
    broken = dataclasses.replace(frames[1], payload=memoryview(bytes(frames[1].payload[:4]) + b"\0" * 40))
    prepared = loop.ingest.prepare([frames[0], broken, frames[2]], {})
    with loop.store.write() as connection:
        loop.ingest.commit(connection, prepared)
    (letter,) = loop.store.dead_letters()
    assert (letter.reason, letter.item) == ("records_undecodable", -1)
    assert {len(loop.store.records(f"r{i}")) for i in (0, 2)} == {1}
    assert not loop.store.records("r1")
    assert run_cycle(loop) is False  # the offsets stand behind the broken frame
    replica.close()
    loop.store.close()


@pytest.mark.parametrize("identity", ["", "a\0b", "b\udcff", "日本", "x" * 128])
def test_any_id_is_recorded_and_found_again(identity: str, reference: w.MemoryCatalogue, tmp_path: Path) -> None:
    replica = w.Replica(tmp_path / "records")
    replica.offer(w.batch(w.turned(w.digits().images[:1]), [identity], [w.START_S * w.SECOND]))
    replica.close()
    loop = consumed(tmp_path, reference, cases=CaseOptions(flag_rate=0.999))
    with loop.store.read() as connection:
        stored = connection.scalar(sa.select(t.records.c.record_id))
    (case,) = loop.store.cases().cases
    assert case.record_id == stored
    loop.store.close()


def test_an_id_used_twice_is_two_records(reference: w.MemoryCatalogue, tmp_path: Path) -> None:
    d, at = w.digits(), w.START_S * w.SECOND
    replica = w.Replica(tmp_path / "records")
    replica.offer(w.batch(d.images[:4], ["same"] * 4, [at] * 4))
    replica.close()
    loop = consumed(tmp_path, reference)
    assert loop.store.windows("digits")[0].rows == 4
    assert len(loop.store.records("same", "digits")) == 4
    loop.store.close()


def test_an_unknown_version_is_counted_without_scores(tmp_path: Path) -> None:
    replica = w.Replica(tmp_path / "records")
    replica.offer(w.batch(w.digits().images[:5], list("abcde"), [w.START_S * w.SECOND] * 5))
    replica.offer(w.refusal(["x"], [w.START_S * w.SECOND], Outcome.REJECTED))
    replica.close()
    loop = consumed(tmp_path, w.MemoryCatalogue(()))
    (window,) = loop.store.windows("digits")
    assert (dict(window.outcomes), window.flagged) == ({"ok": 5, "rejected": 1}, 0)
    assert {s.state for s in loop.store.latest_signals("digits", "1")} == {"no_reference"}
    loop.store.close()


def test_without_a_reference_low_confidence_still_flags(tmp_path: Path) -> None:
    d = w.digits()
    replica = w.Replica(tmp_path / "records")
    unsure = {"logits": np.zeros((2, 10), dtype=np.float32), "embedding": np.ones((2, 64), dtype=np.float32)}
    replica.offer(w.batch(d.images[:2], ["a", "b"], [w.START_S * w.SECOND] * 2, outputs=unsure))
    replica.close()
    loop = consumed(tmp_path, w.MemoryCatalogue((w.manifest(),)))
    assert {c.reasons for c in loop.store.cases().cases} == {("low_confidence",)}
    assert loop.store.cases().cases[0].p_wrong == pytest.approx(0.9)
    loop.store.close()


def test_a_statement_that_fails_anywhere_in_the_transaction_leaves_no_half(
    small_log: Path, reference: w.MemoryCatalogue, tmp_path: Path
) -> None:
    plain = consumed(tmp_path / "plain", reference, records_root=small_log)
    loop = new_loop(tmp_path / "cut", reference, records_root=small_log)
    frames, _ = read_frames(loop.reader, {}, 1 << 40)
    prepared = loop.ingest.prepare(frames, {})
    statements = itertools.count()
    limit = 0

    def cut(*_: object) -> None:
        if next(statements) == limit:
            raise KeyboardInterrupt

    failures = 0
    while True:
        statements = itertools.count()
        try:
            with loop.store.write() as connection:
                sa.event.listen(connection, "before_cursor_execute", cut)
                loop.ingest.commit(connection, prepared)
            break
        except KeyboardInterrupt:
            failures += 1
            with loop.store.read() as connection:
                assert read_cursors(connection) == {}
                assert connection.scalar(sa.select(sa.func.count()).select_from(t.records)) == 0
            limit += 1 if failures < 20 else 23
    assert failures > 25
    drain(loop)
    assert ignoring_late(loop.store) == ignoring_late(plain.store)
    plain.store.close()
    loop.store.close()


def test_sampled_records_keep_their_probability(reference: w.MemoryCatalogue, tmp_path: Path) -> None:
    replica = w.Replica(tmp_path / "records")
    replica.offer(w.batch(w.digits().images[:1], ["a"], [w.START_S * w.SECOND], probability=0.25))
    replica.close()
    loop = consumed(tmp_path, reference, cases=CaseOptions(audit_rate=1.0))
    (case,) = loop.store.cases().cases
    assert case.inclusion_probability == pytest.approx(0.25)
    assert FLAG_BITS[FlagReason.AUDIT]
    loop.store.close()
