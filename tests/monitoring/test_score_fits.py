"""P(wrong) is fitted again from labels: fairly, never for the worse, and the same whenever the monitor looked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

from export.contracts.scores import ScoreName, softmax, softmax_scores
from export.contracts.scores.fitting import FOLDS
from monitoring import schema as t
from monitoring.api.fit_models import score_fits
from monitoring.api.views import View
from monitoring.console.build_fits import fits_block
from monitoring.cycle import Loop, make_loop
from monitoring.ingest_rows import Cursor
from monitoring.log_frames import read_frames
from monitoring.options import DriftOptions, MonitorOptions, ScoreOptions
from monitoring.records.reader import RecordLogReader
from monitoring.score_fits.book import FitBook, InForce, threshold
from monitoring.score_fits.clock import FitClock
from monitoring.score_fits.refit import FitState, Judged, Sample, decide, refit
from monitoring.score_fits.rows import read_fits
from monitoring.score_rows import STORED, pack, unpack
from monitoring.store import Store
from tests.support import monitor_world as w
from tests.support.monitor_child import drain

OFTEN = ScoreOptions(
    refit_s=30, hold_s=10, min_labels=60, min_audited=30, min_wrong=3, growth=0.2, all_labels=True, labels=1000
)
AT = 1_772_000_100  # a multiple of 900 s


def sample(rows: int = 600, seed: int = 0, *, say: float = 1.0) -> Sample:
    """Labelled answers of a model whose softmax is `say` times too sure."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (rows, 6))
    truth = np.array([rng.choice(6, p=p) for p in softmax(logits)])
    scores = softmax_scores(softmax(logits * say))
    return Sample(
        scores=scores,
        wrong=truth != logits.argmax(axis=1),
        weight=np.ones(rows),
        fold=rng.integers(0, FOLDS, rows),
        audited=rows,
        reviewed=0,
        fresh=rows,
        left_out=0,
    )


def test_a_model_that_is_too_sure_is_set_right_and_ranks_no_worse() -> None:
    made = refit(sample(say=3.0), None, None)
    e = made.evidence
    assert made.state is FitState.ADOPTED
    assert e.new.augrc <= e.msp.augrc
    assert e.new.log_loss < 0.9 * e.present.log_loss
    fresh = sample(3000, 1, say=3.0)
    assert made.fit.model.predict(fresh.scores).mean() == pytest.approx(fresh.wrong.mean(), abs=0.04)
    assert (1 - fresh.scores["msp"]).mean() < fresh.wrong.mean() - 0.1, "what it was before"


def test_the_same_sample_gives_the_same_decision_in_any_order() -> None:
    one, order = sample(), np.random.default_rng(3).permutation(600)
    other = replace(
        one,
        scores={name: column[order] for name, column in one.scores.items()},
        wrong=one.wrong[order],
        fold=one.fold[order],
    )
    a, b = refit(one, None, None), refit(other, None, None)
    assert a.state is b.state
    np.testing.assert_allclose(a.fit.model.weights, b.fit.model.weights, rtol=1e-6)
    assert refit(one, None, None) == a


def test_labels_that_say_nothing_never_replace_what_there_is() -> None:
    kept = 0
    for seed in range(12):
        first = refit(sample(seed=seed), None, None)
        noise = np.random.default_rng(seed).permutation(600)
        nonsense = replace(sample(seed=100 + seed), wrong=sample(seed=100 + seed).wrong[noise])
        again = refit(nonsense, first.fit, None)
        assert again.evidence.new.augrc <= again.evidence.msp.augrc or again.state is FitState.KEPT
        assert again.evidence.new.augrc <= again.evidence.present.augrc or again.state is FitState.KEPT
        kept += again.state is FitState.KEPT
    assert kept > 0


@pytest.mark.parametrize(
    ("new", "present", "msp", "state"),
    [
        ((0.10, 0.3), (0.11, 0.2), (0.12, 0.4), FitState.ADOPTED),  # ranks better
        ((0.10, 0.1), (0.10, 0.2), (0.10, 0.4), FitState.ADOPTED),  # ranks the same, fits better
        ((0.10, 0.2), (0.10, 0.2), (0.10, 0.4), FitState.KEPT),  # no better at all
        ((0.11, 0.1), (0.10, 0.2), (0.12, 0.4), FitState.KEPT),  # worse than the present one
        ((0.10, 0.1), (0.11, 0.2), (0.09, 0.4), FitState.KEPT),  # worse than MSP
    ],
)
def test_what_is_adopted(new: Any, present: Any, msp: Any, state: FitState) -> None:
    judged = [Judged(augrc=a, auroc=0.5, log_loss=loss) for a, loss in (new, present, msp)]
    assert decide(*judged)[0] is state


def test_weights_keep_the_biased_queue_from_bending_the_probabilities() -> None:
    """Reviewers see the worst 10 % and one in twenty of the rest; unweighted, everything looks as bad as the queue."""
    traffic = sample(20_000, 5)
    rng = np.random.default_rng(0)
    suspicion = 1 - traffic.scores["msp"]
    picked = suspicion > np.quantile(suspicion, 0.9)
    chosen = np.flatnonzero(np.where(picked, rng.random(20_000) < 0.3, rng.random(20_000) < 0.02))
    weight = np.where(picked[chosen], picked.sum() / picked[chosen].sum(), (~picked).sum() / (~picked[chosen]).sum())

    def learn(weights: Any) -> float:
        scores = {name: column[chosen] for name, column in traffic.scores.items()}
        made = refit(replace(traffic, scores=scores, wrong=traffic.wrong[chosen], weight=weights,
                             fold=traffic.fold[chosen]), None, None)  # fmt: skip
        return made.evidence.error_rate

    assert learn(weight) == pytest.approx(traffic.wrong.mean(), abs=0.03)
    assert learn(np.ones(len(chosen))) > traffic.wrong.mean() + 0.1


def test_scores_survive_the_row_and_an_older_row_is_read_too() -> None:
    scores = {ScoreName.MSP.value: np.array([0.5, 0.25]), ScoreName.KNN.value: np.array([1.0, np.nan])}
    stored = pack(scores, np.array([1, 0]))
    assert unpack(stored)["msp"].tolist() == [0.25, 0.5]
    assert np.isnan(unpack(stored)["knn"][0])
    assert np.isnan(unpack([None, b"", stored[0][:4]])["knn"]).all()  # type: ignore[index]
    assert unpack([stored[0][:4]])["msp"].tolist() == [0.25]  # type: ignore[index]
    assert pack({}, np.array([0, 1])) == [None, None]
    assert set(STORED) | {ScoreName.P_WRONG.value} == {name.value for name in ScoreName}


@dataclass
class Frame:
    source: str
    kind: str
    at_s: int = 0

    def records(self) -> Any:
        @dataclass
        class Records:
            time_ns: Any

        return Records(np.array([self.at_s * w.SECOND], dtype=np.int64))


def clock(folder: Path, looked_s: int = AT) -> FitClock:
    options = MonitorOptions(records_root=folder, database_url="", state_dir=folder)
    return FitClock(options, looked_s * w.SECOND)


def ends(**at_s: int) -> dict[str, Cursor]:
    return {source: Cursor(1, 0, 1, at * w.SECOND) for source, at in at_s.items()}


def test_before_the_first_record_nothing_is_due(tmp_path: Path) -> None:
    c = clock(tmp_path, looked_s=0)
    assert c.due({}) is None
    c.hold([Frame("a", "records", AT + 10), Frame("b", "records", AT + 5000)], frozenset())
    assert c.due(ends(a=AT + 10)) == (AT * w.SECOND, (AT + 4500) * w.SECOND)


def test_records_wait_for_the_refit_before_them_and_others_do_not(tmp_path: Path) -> None:
    c = clock(tmp_path)
    early, late, after = Frame("a", "records", AT + 950), Frame("a", "records", AT + 970), Frame("a", "feedback")
    other = Frame("b", "records", AT + 100)
    assert c.hold([early, late, after, other], frozenset({"b"})) == ([early, other], frozenset({"a", "b"}))
    assert c.due(ends(a=AT + 950, b=AT + 100)) is None, "b may still bring labels from before"
    assert c.hold([late, after], frozenset()) == ([], frozenset({"a"}))
    assert c.due(ends(a=AT + 950, b=AT + 100)) == (AT * w.SECOND, (AT + 900) * w.SECOND)
    c.looked((AT + 900) * w.SECOND)
    assert c.hold([late, after], frozenset())[0] == [late, after]
    assert c.due(ends(a=AT + 970)) is None


def test_a_source_that_waits_takes_no_budget_from_those_it_waits_for(log: Path) -> None:
    """Else one with a long gap, and more than a cycle's bytes behind it, would keep the others where they are."""
    reader = RecordLogReader(log)
    first, _ = read_frames(reader, {}, 1)
    again, behind = read_frames(reader, {}, 1, last={first[0].source})
    assert again[0].source != first[0].source
    assert first[0].source in behind


def test_live_traffic_never_waits(tmp_path: Path) -> None:
    c = clock(tmp_path)
    for second in range(AT, AT + 4000):
        frames = [Frame("a", "records", second)]
        assert c.hold(frames, frozenset())[0] == frames
        span = c.due(ends(a=second))
        if span is not None:
            c.looked(span[1])


def test_the_book_gives_the_refit_of_a_records_time() -> None:
    made = refit(sample(), None, None)
    book = FitBook()
    assert book.of("m", "1") == ()
    profile = w.digits().profile
    level = threshold(made.fit.model, profile, 0.02)
    rows = np.asarray(profile.classes.score_rows, dtype=np.float64)  # type: ignore[union-attr]
    columns = dict(zip(profile.classes.score_names, rows.T, strict=True))  # type: ignore[union-attr]
    assert (made.fit.model.predict(columns) > level).mean() == pytest.approx(0.02, abs=0.01)
    assert InForce(number=1, active_ns=5, model=made.fit.model).number == 1


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("fits") / "records"
    w.day(root, seconds=140, rate=12, shift_from=40)
    return root


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> w.MemoryCatalogue:
    return w.catalogue(tmp_path_factory.mktemp("reference"))


def new_loop(folder: Path, catalogue: w.MemoryCatalogue, root: Path, **changes: Any) -> Loop:
    folder.mkdir(parents=True, exist_ok=True)
    options = w.options(folder, records_root=root, **({"scores": OFTEN} | changes))
    return make_loop(options, Store(options.database_url), catalogue)


@pytest.fixture(scope="module")
def day(log: Path, reference: w.MemoryCatalogue, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loop]:
    loop = new_loop(tmp_path_factory.mktemp("day"), reference, log)
    drain(loop)
    yield loop
    loop.store.close()


def test_labels_of_a_shift_are_learnt_from_and_every_decision_is_kept(day: Loop) -> None:
    with day.store.read() as connection:
        fits = read_fits(connection, "digits", "1")
        r = t.records.c
        scored = connection.execute(sa.select(r.time_ns, r.fit, r.p_wrong, r.correct_rows, r.scores)).all()
    assert [fit.number for fit in fits] == list(range(1, len(fits) + 1))
    adopted = [fit for fit in fits if fit.state is FitState.ADOPTED]
    assert adopted
    assert all(fit.active_ns - fit.until_ns == 10 * w.SECOND for fit in fits)
    assert all(fit.evidence.new.augrc <= fit.evidence.msp.augrc for fit in adopted)
    assert all(fit.evidence.new.augrc <= fit.evidence.present.augrc for fit in adopted)
    for row in scored:
        if row.p_wrong is not None:
            force = [fit.number for fit in adopted if fit.active_ns <= row.time_ns]
            assert row.fit == (force[-1] if force else 0)
            assert row.scores is not None
    last = [row for row in scored if row.fit == adopted[-1].number and row.correct_rows is not None]
    said = np.mean([row.p_wrong for row in last])
    wrong = np.mean([1 - row.correct_rows for row in last])
    assert said == pytest.approx(wrong, abs=0.15), "the probabilities follow the shift"


def test_a_stored_p_wrong_stays_what_it_was(day: Loop) -> None:
    with day.store.read() as connection:
        r = t.records.c
        before = connection.execute(sa.select(r.p_wrong, r.scores).where(r.fit == 0, r.p_wrong.is_not(None))).all()
    model = w.digits().profile
    scores = {name: column.astype(np.float64) for name, column in unpack([row.scores for row in before]).items()}
    known = {name: column for name, column in scores.items() if np.isfinite(column).any()}
    np.testing.assert_allclose(model.p_wrong(known), [row.p_wrong for row in before], atol=1e-4)


@pytest.mark.parametrize("batch_bytes", [3_000, 40_000])
def test_how_the_log_is_cut_leaves_no_trace_in_fits_and_scores(
    day: Loop, log: Path, reference: w.MemoryCatalogue, tmp_path: Path, batch_bytes: int
) -> None:
    loop = new_loop(tmp_path / "again", reference, log, batch_bytes=batch_bytes)
    drain(loop)
    for name in ("score_fits", "records", "cases"):
        assert w.snapshot(loop.store)[name] == w.snapshot(day.store)[name], name
    loop.store.close()


def test_a_monitor_that_stops_and_starts_anywhere_makes_the_same_fits(
    day: Loop, log: Path, reference: w.MemoryCatalogue, tmp_path: Path
) -> None:
    from monitoring.cycle import run_cycle

    for _ in range(400):  # a new process every cycle
        loop = new_loop(tmp_path / "again", reference, log, batch_bytes=20_000)
        more = run_cycle(loop)
        loop.store.close()
        if not more:
            break
    loop = new_loop(tmp_path / "again", reference, log)
    drain(loop)
    for name in ("score_fits", "records", "cases"):
        assert w.snapshot(loop.store)[name] == w.snapshot(day.store)[name], name
    loop.store.close()


def test_labels_that_came_by_themselves_are_left_out_unless_called_fair(
    log: Path, reference: w.MemoryCatalogue, tmp_path: Path
) -> None:
    loop = new_loop(tmp_path / "strict", reference, log, scores=replace(OFTEN, all_labels=False))
    drain(loop)
    with loop.store.read() as connection:
        fits = read_fits(connection)
    loop.store.close()
    assert not fits, "one in a hundred is drawn for audit: too few to learn from"


def test_the_api_and_the_page_show_every_decision_with_its_evidence(day: Loop, reference: w.MemoryCatalogue) -> None:
    view = View(store=day.store, catalogue=reference, drift_options=DriftOptions())
    found = score_fits(view, "digits", "1", 50)
    with day.store.read() as connection:
        stored = read_fits(connection, "digits", "1")
    assert [fit.number for fit in found.fits] == [fit.number for fit in reversed(stored)]
    assert found.in_force == [fit.number for fit in stored if fit.state is FitState.ADOPTED][-1]
    assert found.problem is None
    first = found.fits[0]
    assert first.new.auroc is not None
    assert set(first.weights) <= set(STORED)
    assert min(first.weights.values()) >= 0
    block = fits_block(view, "digits", "1")
    assert f"refit {found.in_force}" in block.sentence
    assert sum(line.in_force for line in block.lines) == 1
    assert block.lines[0].augrc == (first.new.augrc, first.present.augrc, first.msp.augrc)
