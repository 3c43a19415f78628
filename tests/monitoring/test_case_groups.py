"""Groups of like cases and the queue: functions of the cases, whatever the order in which they came."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

from export.contracts.cases import FlagReason
from export.contracts.datatypes import Datatype
from monitoring import schema as t
from monitoring.case_groups import group_counts
from monitoring.case_order import herd, queue_values, suppress
from monitoring.case_pools import AUDIT_BIT, Standing, survivors
from monitoring.cycle import make_loop, run_cycle
from monitoring.options import CaseOptions
from monitoring.records.record import RecordSchema, TensorColumn
from monitoring.slice_queries import members_of_group
from monitoring.store import Store
from monitoring.store_filters import CaseOrder
from monitoring.vectors import to_vectors
from tests.support import monitor_world as w


def vectors(rng: np.random.Generator, n: int, width: int = 8) -> Any:
    return to_vectors(rng.standard_normal((n, width)))


def test_a_group_has_one_leader_and_no_chains():
    angles = np.deg2rad([0.0, 4.0, 8.0, 90.0])
    fan = to_vectors(np.stack([np.cos(angles), np.sin(angles)], axis=1))
    folds = suppress(fan, [None] * 4, float(np.cos(np.deg2rad(5.0))), fan[:0], [])
    # 4 degrees is near 0; 8 is near 4 but not near the leader: it leads a group of its own.
    assert [fold and fold[0] for fold in folds] == [None, 0, None, None]


def test_the_same_input_is_one_group_without_any_embedding():
    folds = suppress(np.empty((3, 0), np.int8), [7, 8, 7], None, np.empty((1, 0), np.int8), [8])
    assert folds == [None, (0, 1.0), (1, 1.0)]


def test_herding_covers_every_mode_before_it_repeats_one():
    rng = np.random.default_rng(3)
    modes = np.eye(8)[:4]
    points = to_vectors(np.repeat(modes, 20, axis=0) + 0.05 * rng.standard_normal((80, 8)))
    first = herd(np.full(80, 0.5), points, 1.0)[:4]
    assert sorted(first // 20) == [0, 1, 2, 3]


def test_audits_are_dealt_evenly_and_the_rest_keeps_its_order():
    rng = np.random.default_rng(4)
    audits = np.zeros(60, dtype=bool)
    audits[rng.permutation(60)[:12]] = True
    points, ranks = vectors(rng, 60), rng.random(60)
    values = queue_values(ranks, points, 1.0, audits, np.zeros(60, dtype=bool), 0.2)
    order = np.argsort(-values, kind="stable")
    for places in (10, 20, 40, 60):
        assert 0.1 <= audits[order[:places]].mean() <= 0.2
    alone = queue_values(ranks[~audits], points[~audits], 1.0, np.zeros(48, bool), np.zeros(48, bool), 0.2)
    ours = np.flatnonzero(~audits)[np.argsort(-alone, kind="stable")]
    assert order[~audits[order]].tolist() == ours.tolist()


def test_places_go_to_windows_by_their_expected_failures():
    nobody, bare = np.zeros(30, dtype=bool), np.empty((30, 0), dtype=np.int8)
    bad = queue_values(np.full(30, 0.9), bare, 0.0, nobody, nobody, 0.0)
    mild = queue_values(np.full(30, 0.3), bare, 0.0, nobody, nobody, 0.0)
    top = np.argsort(-np.concatenate([bad, mild]))[:20]
    assert 14 <= int((top < 30).sum()) <= 16


def standings(rng: np.random.Generator, n: int) -> list[Standing]:
    """Some inputs come twice: then with the same score and region, as one version sees them."""
    scores, cells, contents = rng.random(n), rng.integers(0, 16, n), rng.integers(0, n // 2, n)
    return [
        Standing(
            id=f"{i:016x}",
            flags=1 | (AUDIT_BIT if rng.random() < 0.1 else 0),
            rank=float(scores[contents[i]]),
            audit_rank=float(rng.random()),
            content=int(contents[i]),
            cell=int(cells[contents[i]]),
        )
        for i in range(n)
    ]


@pytest.mark.parametrize("seed", range(5))
def test_a_pool_that_is_filled_piece_by_piece_ends_as_one_filled_at_once(seed: int):
    rng = np.random.default_rng(seed)
    options = CaseOptions(scored_per_window=40, audits_per_window=5)
    everything = standings(rng, 300)
    at_once = survivors(everything, options)
    for _ in range(5):
        rng.shuffle(everything)  # type: ignore[arg-type]
        held: list[Standing] = []
        for piece in _pieces(everything, 37):
            kept = survivors([*held, *piece], options)
            held = [s for s in [*held, *piece] if s.id in kept]
        assert {s.id for s in held} == at_once


def _pieces(items: list[Standing], size: int) -> Iterator[list[Standing]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def test_each_region_has_places_and_each_input_one():
    rng = np.random.default_rng(9)
    loud = [replace(s, rank=0.9 + s.rank / 10, cell=0, content=1000 + i) for i, s in enumerate(standings(rng, 300))]
    quiet = [replace(s, id=f"q{i:015x}", rank=0.3, cell=7, content=i) for i, s in enumerate(standings(rng, 20))]
    kept = survivors([*loud, *quiet], CaseOptions(scored_per_window=64, audits_per_window=0))
    assert sum(identity.startswith("q") for identity in kept) >= 2
    same = [replace(s, content=1) for s in standings(rng, 300)]
    assert len(survivors(same, CaseOptions(audits_per_window=0))) == 1


def test_audit_weights_stay_unbiased_under_budgets_and_folding():
    """Horvitz-Thompson over the audit cases that are kept estimates the whole window's error rate without bias."""
    rng = np.random.default_rng(11)
    options = CaseOptions(audit_rate=0.05, audits_per_window=10)
    n, estimates = 600, []
    wrong = rng.random(n) < np.where(np.arange(n) % 3 == 0, 0.4, 0.05)
    for _ in range(2000):
        lots = rng.random(n)
        audited = np.sort(np.flatnonzero(lots < options.audit_rate))
        by_lot = audited[np.argsort(lots[audited])][: options.audits_per_window]
        full = len(audited) >= options.audits_per_window
        last = float(lots[by_lot[-1]]) if full else options.audit_rate
        # As in monitoring.cases: the last place sets the chance of those before it (bottom-k).
        used = by_lot[:-1] if full else by_lot
        estimates.append(wrong[used].sum() / last / n)
    error = np.std(estimates) / np.sqrt(len(estimates))
    assert abs(np.mean(estimates) - wrong.mean()) <= 3 * error


@pytest.fixture(scope="module")
def repeated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A monitor that has read a log in which few turned digits come again and again."""
    folder = tmp_path_factory.mktemp("repeated")
    options = w.options(folder)
    images = w.turned(w.digits().images[:12])
    rng = np.random.default_rng(5)
    for name in ("r1", "r2"):
        replica = w.Replica(options.records_root, name)
        for second in range(0, 120, 6):
            chosen = rng.integers(0, len(images), 10)
            times = [(w.START_S + second) * w.SECOND + i for i in range(10)]
            replica.offer(w.batch(images[chosen], [f"{name}-{second}-{i}" for i in range(10)], times))
        replica.close()
    store = Store(options.database_url)
    loop = make_loop(options, store, w.catalogue(folder / "reference"))
    while run_cycle(loop):
        pass
    loop.roster.finish(loop)
    yield store
    store.close()


def test_the_list_shows_each_input_once_and_says_how_often_it_came(repeated: Store):
    listed = repeated.cases(grouped=True, limit=500).cases
    with repeated.read() as connection:
        hashes = list(connection.scalars(sa.select(t.cases.c.content_hash)))
        shown = [connection.scalar(sa.select(t.cases.c.content_hash).where(t.cases.c.id == case.id)) for case in listed]
        counts = group_counts(connection, [case.id for case in listed])
        flagged = connection.scalar(
            sa.select(sa.func.count()).select_from(t.records).where(t.records.c.content_hash.is_not(None))
        )
    assert len(hashes) > len(set(hashes)) == len(set(shown)) >= len(listed) >= 1  # the control: there were repeats
    assert len(shown) == len(set(shown))
    assert sum(counts[case.id].records for case in listed) == flagged
    members = members_of_group(repeated, listed[0].id, 1000)
    assert len({(m.record_id, m.time_ns) for m in members}) == counts[listed[0].id].records


def test_the_queue_pages_and_starts_with_what_is_unlike(repeated: Store):
    first = repeated.cases(order=CaseOrder.QUEUE, limit=3, grouped=True)
    rest = repeated.cases(order=CaseOrder.QUEUE, limit=500, grouped=True, cursor=first.cursor)
    ids = [case.id for case in (*first.cases, *rest.cases)]
    assert len(ids) == len(set(ids)) == len(repeated.cases(grouped=True, limit=500).cases)


def test_a_shadow_that_says_something_else_makes_a_case_of_the_champions_answer(tmp_path: Path):
    options = w.options(tmp_path)
    images = w.digits().images[:20]
    answers = w.digits().answer(images)
    other = {"logits": answers["logits"].copy(), "embedding": answers["embedding"]}
    other["logits"][4] = np.roll(other["logits"][4], 1)  # the shadow differs on one request
    ids, times = [f"q{i}" for i in range(20)], [w.START_S * w.SECOND + i for i in range(20)]
    columns = (TensorColumn("logits", Datatype.FP32), TensorColumn("embedding", Datatype.FP32))
    shadow = w.batch(images, ids, times, variant="shadow", outputs=other)
    shadow = replace(shadow, schema=RecordSchema("digits", "2", w.SCHEMA.digest, (), columns), inputs=())
    replica = w.Replica(options.records_root)
    replica.offer(w.batch(images, ids, times))
    replica.offer(shadow)
    replica.close()
    store = Store(options.database_url)
    catalogue = w.MemoryCatalogue((w.manifest("1"), w.manifest("2")))
    loop = make_loop(options, store, catalogue)
    while run_cycle(loop):
        pass
    found = store.cases(reason=FlagReason.DISAGREEMENT).cases
    assert [(case.record_id, case.version) for case in found] == [("q4", "1")]
    store.close()
