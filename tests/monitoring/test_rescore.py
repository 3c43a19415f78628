"""History scored again: like the first time when nothing changed, once for each part, whoever is stopped when."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa

from monitoring import rescore as module
from monitoring import schema as t
from monitoring.baselines import Baselines
from monitoring.cycle import Loop
from monitoring.options import CaseOptions
from monitoring.rescore import RescoreRequest, Summary, plan, rescore_part, summarise
from tests.monitoring.archive.test_archive import compact, consumed
from tests.support import monitor_world as w

EVER = RescoreRequest(start_ns=0, end_ns=1 << 62)


def run(loop: Loop, folder: Path, request: RescoreRequest = EVER, options: CaseOptions | None = None) -> Summary:
    roots = (loop.options.records_root, loop.options.archive_root)
    parts = plan(*roots, request)
    baselines = Baselines(w.catalogue(folder / "ref"))
    for part in parts:
        rescore_part(part, request, baselines, options or loop.options.cases, roots, folder / "out" / request.id)
    total, done = summarise(folder / "out" / request.id, parts)
    assert done == len(parts)
    return total


def results(folder: Path, request: RescoreRequest = EVER) -> pa.Table:
    return pa.concat_tables([pq.read_table(p) for p in (folder / "out" / request.id).glob("*.parquet")])


def test_with_the_same_scores_nothing_changes_and_with_a_stricter_rule_it_says_what_would(tmp_path: Path) -> None:
    loop = consumed(tmp_path)
    with loop.store.read() as connection:
        rows = connection.execute(sa.select(t.records.c.record_id, t.records.c.p_wrong, t.records.c.flags)).all()
    compact(loop)
    total = run(loop, tmp_path)
    assert (total.records, total.compared) == (len(rows), len(rows))
    assert (total.newly, total.no_longer, total.unscored) == (0, 0, 0)
    assert total.moved < 1e-3
    assert total.flagged == sum((f & module.WORTH_A_LOOK) != 0 for _, _, f in rows) > 20
    table = results(tmp_path)
    found = dict(zip(table["id"].to_pylist(), table["p_wrong"].to_pylist(), strict=True))
    assert all(found[i] == p for i, p, _ in rows), "bit for bit"
    both = zip(table["p_wrong"].to_pylist(), table["scores"].to_pylist(), strict=True)
    names = [dict(scores).keys() for p, scores in both if p is not None and 0 <= p <= 1]  # a refusal has none
    assert len(names) > 500
    assert all(has >= {"p_wrong", "msp"} for has in names)
    (tmp_path / "out").rename(tmp_path / "first")
    stricter = run(loop, tmp_path, options=CaseOptions(flag_rate=0.3))
    assert stricter.newly > 10
    assert stricter.no_longer == 0
    assert stricter.flagged == total.flagged + stricter.newly
    loop.store.close()


def test_segments_that_are_not_archived_count_too_and_a_range_of_time_is_kept(tmp_path: Path) -> None:
    loop = consumed(tmp_path)
    everything = run(loop, tmp_path)
    with loop.store.read() as connection:
        count = connection.scalar(sa.select(sa.func.count()).select_from(t.records))
    assert (everything.records, everything.compared) == (count, 0)
    start = (w.START_S + 10) * w.SECOND
    some = RescoreRequest(start_ns=start, end_ns=start + 5 * w.SECOND, model="digits", version="1")
    part = run(loop, tmp_path, some)
    times = results(tmp_path, some)["time"].cast(pa.int64()).to_pylist()
    assert part.records == len(times) >= 100
    assert start <= min(times) <= max(times) < start + 5 * w.SECOND
    assert run(loop, tmp_path, RescoreRequest(start_ns=0, end_ns=1 << 62, model="other")).records == 0
    loop.store.close()


def test_stopped_anywhere_it_goes_on_behind_the_parts_that_are_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = consumed(tmp_path)
    compact(loop)
    wanted = run(loop, tmp_path)
    (tmp_path / "out").rename(tmp_path / "whole")
    calls = 0
    honest = module.score_batch

    def dies(*args: object) -> object:
        nonlocal calls
        calls += 1
        if calls in (3, 7, 8):
            raise KeyboardInterrupt
        return honest(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "score_batch", dies)
    stops = 0
    while True:
        try:
            got = run(loop, tmp_path)
            break
        except KeyboardInterrupt:
            stops += 1
            assert not list((tmp_path / "out").rglob("*.tmp")), "nothing half is left"
    assert stops == 3
    assert got == wanted
    again = calls
    assert run(loop, tmp_path) == wanted
    assert calls == again, "what is done is not done again"
    loop.store.close()
