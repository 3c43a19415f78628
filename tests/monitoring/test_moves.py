"""What moved: the right thing first, in the right words, in the right direction, and silence where nothing did."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from export.contracts.reference import ReferenceProfile
from monitoring.baseline import compile_baseline
from monitoring.cycle import make_loop, run_cycle
from monitoring.distance_tables import group_table, ks_table, mean_excess, psi_table, quantile_table, wasserstein_table
from monitoring.distances import decile_groups, kolmogorov_smirnov, psi, wasserstein
from monitoring.drift_spans import COLUMNS, SizePoint, distribution, since, span_drift
from monitoring.move_words import sentence
from monitoring.moves import Move, MoveKind, moves
from monitoring.options import DriftOptions
from monitoring.sides import Side
from monitoring.store import Store
from monitoring.windows import WindowStats
from tests.monitoring.test_drift import window
from tests.support import monitor_world as w

SIGNATURE = w.manifest().signature


def ranked(images: np.ndarray, **changes: bool) -> tuple[Move, ...]:
    baseline = w.baseline()
    before, after = Side.of_reference(baseline), Side.of_windows(window(images))
    return moves(baseline, before, after, DriftOptions(), **changes)


def told(found: tuple[Move, ...], subject: str) -> str:
    return sentence(next(m for m in found if m.subject == subject), SIGNATURE)


def test_the_table_functions_agree_with_their_single_twins() -> None:
    baseline, stats = w.baseline(), window(w.turned(w.digits().images))
    chosen = np.flatnonzero(baseline.counted)
    live, past, edges, scale = (a[chosen] for a in (stats.counts, baseline.counts, baseline.edges, baseline.scale))
    groups, bins = group_table(past)
    excess = mean_excess(stats.below[chosen], stats.above[chosen], live.sum(axis=1))
    far = wasserstein_table(live, past, edges, scale, excess)
    for i, q in enumerate(chosen):
        single = decile_groups(past[i])
        a, b = (np.bincount(single, weights=h, minlength=bins[i]) for h in (live[i], past[i]))
        assert psi_table(live, past, groups, bins)[i] == pytest.approx(psi(a, b))
        assert ks_table(live, past)[i] == pytest.approx(kolmogorov_smirnov(live[i], past[i]))
        out = int(stats.below[q]), int(stats.above[q])
        assert far[i] == pytest.approx(wasserstein(live[i], past[i], edges[i], float(scale[i]), *out))


def test_quantiles_from_counts_are_those_of_the_values() -> None:
    baseline, images = w.baseline(), w.digits().images
    row = baseline.index["x:mean"]
    got = quantile_table(window(images).counts[[row]], baseline.edges[[row]], 0.5)[0]
    assert got == pytest.approx(float(np.median(images.mean(axis=(1, 2, 3)))), abs=0.004)
    assert np.isnan(quantile_table(np.zeros((1, 103), dtype=np.int64), baseline.edges[[row]], 0.5)[0])


def test_brighter_pictures_are_told_with_both_medians() -> None:
    images = np.clip(w.digits().images * 0.5 + 0.4, 0, 1)
    found = ranked(images)
    assert told(found, "x:mean").startswith("brightness rose: median 0.305 → 0.39")
    assert next(m for m in found if m.subject == "x:mean").moved
    assert [m.size for m in found] == sorted((m.size for m in found), reverse=True)


def test_a_class_that_takes_over_is_told_with_both_shares_and_the_embeddings_go_towards_it() -> None:
    only = w.digits().images[w.digits().labels == 7].repeat(3, axis=0)
    found = ranked(only)
    assert "class 'seven' rose from 10 % to 9" in told(found, "seven")
    assert told(found, "six").startswith("class 'six' fell from 15 % to")
    assert "towards class 'seven'" in told(found, "embedding")


def test_where_nothing_changed_nothing_moved() -> None:
    found = ranked(w.digits().images)
    assert found
    assert not any(m.moved for m in found)
    assert "moved" not in told(found, "embedding")


def test_pixels_share_a_line_unless_they_are_asked_for_one_by_one() -> None:
    images = w.turned(w.digits().images)
    (line,) = (m for m in ranked(images) if m.kind is MoveKind.INPUT and m.subject == "x[*]")
    each = [m for m in ranked(images, each=True) if m.subject.startswith("x[")]
    assert len(each) == 64
    assert line.moved_of == (sum(m.moved for m in each), 64)
    assert line.size == max(m.size for m in each)
    assert sentence(line, SIGNATURE).startswith(f"{line.moved_of[0]} of 64 elements of x moved; most: x[")


def test_values_that_stop_arriving_are_told() -> None:
    images = w.digits().images.copy()
    images[::4, 0, 3, 3] = np.nan
    found = ranked(images, each=True)
    (missing,) = (m for m in found if m.kind is MoveKind.MISSING)
    assert missing.moved
    assert sentence(missing, SIGNATURE) == "missing values of x[27] rose from 0 % to 25 %"


def test_too_few_rows_are_no_moves_at_all() -> None:
    assert ranked(w.turned(w.digits().images[:60])) == ()


def test_distributions_are_shares_of_the_same_columns() -> None:
    baseline, images = w.baseline(), np.clip(w.digits().images + 0.3, 0, 1)
    before, after = Side.of_reference(baseline), Side.of_windows(window(images))
    for move in moves(baseline, before, after, DriftOptions(), each=True):
        drawn = distribution(baseline, before, after, move)
        if move.kind in (MoveKind.EMBEDDING, MoveKind.MISSING):
            assert drawn is None
            continue
        assert drawn is not None
        assert sum(drawn.before) == pytest.approx(1.0)
        assert sum(drawn.after) == pytest.approx(1.0)
        assert min(drawn.before + drawn.after) >= -1e-12
        assert len(drawn.labels) == len(drawn.before) == len(drawn.after) <= COLUMNS


def test_since_is_the_start_of_the_unbroken_end() -> None:
    def points(*sizes: float | None) -> list[SizePoint]:
        return [SizePoint(start_s=60 * i, end_s=60 * i + 60, size=x) for i, x in enumerate(sizes)]

    assert since(points(0.2, 3.0, 0.4, None, 2.0, 5.0)) == 240
    assert since(points(2.0, None, 2.0)) == 0
    assert since(points(2.0, 0.9)) is None
    assert since(points(None, None)) is None


def test_a_span_says_what_moved_and_since_when(tmp_path: Path) -> None:
    options = w.options(tmp_path, window_s=20)
    w.day(options.records_root, seconds=160, rate=20, shift_from=80)
    store = Store(options.database_url)
    loop = make_loop(options, store, w.catalogue(tmp_path / "reference"))
    while run_cycle(loop):
        pass
    baseline = loop.baselines.get("digits", "1")
    whose = {"model": "digits", "version": "1"}
    found = span_drift(store, baseline, options.drift, **whose, timelines=3)
    assert found.rows == 160 * 20
    assert found.moves[0].moved
    for points in found.timelines.values():
        assert since(points) == w.START_S + 80
    healthy = span_drift(store, baseline, options.drift, **whose, to_s=w.START_S + 80)
    assert healthy.rows == 80 * 20
    # The fixture's 300 reference rows hold 15 % sixes, all digits 10 %: a difference that is there.
    assert {m.subject for m in healthy.moves if m.moved} <= {"six"}
    empty = span_drift(store, baseline, options.drift, **whose, from_s=w.START_S + 10**6)
    assert empty.problem == "no window of this version lies in the range"
    few = span_drift(store, baseline, DriftOptions(min_rows=10**6), **whose)
    assert few.problem == "not enough data: 3200 rows in the range, 1000000 are needed"
    bare = span_drift(store, compile_baseline(w.manifest(), None, "the package has no reference profile"),
                      options.drift, **whose)  # fmt: skip
    assert bare.problem == "nothing to compare with: the package has no reference profile"
    store.close()


def test_a_profile_from_before_has_no_directions_and_still_moves(tmp_path: Path) -> None:
    profile = w.digits().profile
    assert profile.embedding is not None
    old = dataclasses.replace(
        profile, embedding=dataclasses.replace(profile.embedding, class_features=None), frame_predicted=None
    )
    old.save(tmp_path)
    baseline = compile_baseline(w.manifest(), ReferenceProfile.load(tmp_path))
    only = window(w.digits().images[w.digits().labels == 7].repeat(3, axis=0), baseline)
    found = moves(baseline, Side.of_reference(baseline), Side.of_windows(only), DriftOptions())
    (embedding,) = (m for m in found if m.kind is MoveKind.EMBEDDING)
    assert embedding.moved
    assert sentence(embedding, SIGNATURE) == "the embeddings moved"


def test_the_order_of_merging_leaves_no_trace() -> None:
    images = w.turned(w.digits().images)
    parts = [window(images[i::7]) for i in range(7)]
    there = parts[0]
    for part in parts[1:]:
        there = there.merge(part)
    back = WindowStats.empty(w.baseline())
    for part in reversed(parts):
        back = part.merge(back)
    baseline, options = w.baseline(), DriftOptions()
    before = Side.of_reference(baseline)
    assert moves(baseline, before, Side.of_windows(there), options) == moves(
        baseline, before, Side.of_windows(back), options
    )
