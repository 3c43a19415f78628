"""Slices: bounded by name and not by arrival, exact under any cut and order, unlike themselves when they change."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitoring.attributes import read_attributes
from monitoring.cycle import make_loop, run_cycle
from monitoring.options import DriftOptions
from monitoring.records.record import RecordBatch
from monitoring.slice_drift import SliceState, slice_drift
from monitoring.slice_rows import newest_slices, read_stretches
from monitoring.slice_stats import (
    MAX_ATTRIBUTES,
    MAX_VALUES,
    OWN,
    SliceStats,
    count_slices,
    watched_columns,
)
from monitoring.store import Store
from tests.support import monitor_world as w


def counted(rng: np.random.Generator, attributes: dict[str, list[str]], shift: float = 0.0) -> SliceStats:
    """Random rows, as many as there are attributes' values."""
    baseline = w.baseline()
    rows = len(next(iter(attributes.values())))
    values = rng.normal(0.3 + shift, 0.2, (rows, len(baseline.quantities))).astype(np.float32)
    values[rng.random(values.shape) < 0.02] = np.nan
    return count_slices(baseline, values, rng.random(rows), {k: np.array(v) for k, v in attributes.items()})


def same(a: SliceStats, b: SliceStats) -> bool:
    return a.encode() == b.encode()


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10**6), cuts=st.lists(st.integers(1, 199), min_size=1, max_size=5))
def test_any_cut_and_order_of_the_rows_gives_the_same_bytes(seed: int, cuts: list[int]) -> None:
    rng = np.random.default_rng(seed)
    baseline = w.baseline()
    values = rng.normal(0.3, 0.5, (200, len(baseline.quantities))).astype(np.float32)
    wrong = rng.random(200)
    attributes = {f"tag{i}": np.array([f"v{x}" if x else "" for x in rng.integers(0, 40, 200)]) for i in range(7)} | {
        "variant": np.array(["champion", "canary"])[rng.integers(0, 2, 200)]
    }
    whole = count_slices(baseline, values, wrong, attributes)
    order = rng.permutation(200)
    parts = [
        count_slices(baseline, values[p], wrong[p], {k: v[p] for k, v in attributes.items()})
        for p in np.split(order, sorted(set(cuts)))
        if len(p)
    ]
    merged = parts[0]
    for part in parts[1:]:
        merged = part.merge(merged)
    assert same(whole, merged)
    assert same(whole, SliceStats.decode(whole.encode()))
    assert len({k for k, _ in whole.slices} - set(OWN)) == MAX_ATTRIBUTES
    assert all(sum(k == name for k, _ in whole.slices) <= MAX_VALUES for name, _ in whole.slices)


def test_the_order_in_which_many_values_come_leaves_no_trace() -> None:
    parts = [counted(np.random.default_rng(i), {"site": [f"s{i}", f"s{i + 30}"]}) for i in range(12)]
    results = set()
    for order in itertools.islice(itertools.permutations(parts), 0, 60_000, 1999):
        merged = order[0]
        for part in order[1:]:
            merged = merged.merge(part)
        results.add(merged.encode())
    assert len(results) == 1
    assert len(merged.slices) == MAX_VALUES < 24


def test_counts_are_those_of_the_rows_by_hand() -> None:
    baseline = w.baseline()
    values = np.full((6, len(baseline.quantities)), 0.3, dtype=np.float32)
    values[4, baseline.index["x:mean"]] = 100.0
    found = count_slices(baseline, values, np.array([0.5, 0, 0, np.nan, 0.25, 0]),
                         {"site": np.array(["a", "a", "", "b", "b", "b"])})  # fmt: skip
    assert {k: c.rows for k, c in found.slices.items()} == {("site", "a"): 2, ("site", "b"): 3}
    place = watched_columns(baseline).tolist().index(baseline.index["x:mean"])
    b = found.slices["site", "b"]
    assert b.counts[place, -1] == 1
    assert b.above[place] > 0
    assert found.slices["site", "a"].above[place] == 0
    assert b.p_wrong_sum == (1 << 20) // 4


def test_a_slice_that_is_no_longer_like_itself_is_found_and_the_others_are_quiet() -> None:
    rng = np.random.default_rng(3)
    past = [(600 * i, counted(rng, {"site": ["a", "b", "c"] * 200})) for i in range(5)]
    now = counted(rng, {"site": ["a", "c"] * 300}).merge(counted(rng, {"site": ["b"] * 200}, shift=0.3))
    found = slice_drift(w.baseline(), [*past, (3000, now)], DriftOptions())
    assert [(s.value, s.size > 1) for s in found] == [("b", True), ("a", False), ("c", False)] or [
        (s.value, s.size > 1) for s in found
    ] == [("b", True), ("c", False), ("a", False)]
    assert found[0].against == "its own past"
    assert "rose" in found[0].words


def test_without_a_past_a_predicted_class_has_the_reference_and_a_tag_has_nothing() -> None:
    baseline, images = w.baseline(), w.digits().images
    rows = np.flatnonzero(w.digits().labels == 7).repeat(3)
    from export.contracts.descriptors import frame

    values = np.full((len(rows), len(baseline.quantities)), np.nan, dtype=np.float32)
    values[:, : baseline.input_columns] = frame(w.manifest().signature, {"x": images[rows]})
    stats = count_slices(baseline, values, np.full(len(rows), np.nan),
                         {"predicted class": np.full(len(rows), "seven"), "site": np.full(len(rows), "a")})  # fmt: skip
    found = {s.attribute: s for s in slice_drift(baseline, [(0, stats)], DriftOptions(min_rows=20))}
    assert found["predicted class"].state is SliceState.OK
    assert found["predicted class"].against == "the reference"
    assert found["site"].state is SliceState.NO_PAST
    few = {s.attribute: s for s in slice_drift(baseline, [(0, stats)], DriftOptions(min_rows=10_000))}
    assert few["site"].state is SliceState.NOT_ENOUGH_DATA
    assert few["site"].words.startswith("not enough data: ")


def test_healthy_slices_move_as_seldom_as_promised() -> None:
    options, moved, worlds = DriftOptions(false_signal_rate=0.05), 0, 60
    for seed in range(worlds):
        rng = np.random.default_rng(1000 + seed)
        stretches = [(i, counted(rng, {"site": ["a", "b", "c", "d"] * 60})) for i in range(3)]
        moved += any(s.size > 1 for s in slice_drift(w.baseline(), stretches, options))
    assert moved <= 7  # 5 % of 60 are 3; 8 or more have a chance below 1.5 %


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b'{"site":"north","n":3,"dark":false}', {"site": "north", "n": "3", "dark": "no"}),
        (b'{"priority":1,"binary_data_output":true,"sequence_id":7}', {}),
        (b'{"a":1.5,"b":null,"c":[1],"d":{"x":1},"e":"' + b"y" * 61 + b'","":"z"}', {"": "z"}),
        (b"[1]", {}),
        (b"{", {}),
        (None, {}),
    ],
)
def test_only_single_values_of_the_client_are_attributes(text: bytes | None, told: dict[str, str]) -> None:
    assert read_attributes(text) == told


def tagged(images: np.ndarray, ids: list[str], times: list[int], sites: list[str]) -> RecordBatch:
    made = w.batch(images, ids, times)
    made.params = [json.dumps({"site": s, "priority": 1}).encode() for s in sites]
    return made


def test_tags_travel_from_the_log_to_the_slices(tmp_path: Path) -> None:
    options = w.options(tmp_path, window_s=10)
    replica, rng = w.Replica(options.records_root), np.random.default_rng(0)
    d = w.digits()
    for stretch in range(4):
        chosen = rng.integers(0, len(d.images), 240)
        images = d.images[chosen].copy()
        sites = ["north", "south"] * 120
        if stretch == 3:
            images[1::2] = np.clip(images[1::2] * 0.5 + 0.4, 0, 1)  # only the south gets a lamp
        times = [(w.START_S // 100 * 100 + 100 * stretch) * w.SECOND + i * 10**8 for i in range(240)]
        replica.offer(tagged(images, [f"{stretch}-{i}" for i in range(240)], times, sites))
    replica.close()
    store = Store(options.database_url)
    loop = make_loop(options, store, w.catalogue(tmp_path / "reference"))
    while run_cycle(loop):
        pass
    found = newest_slices(store, loop.baselines.get("digits", "1"), options.drift, "digits", "1")
    by_site = {s.value: s for s in found if s.attribute == "site"}
    assert by_site["south"].size > 1 > by_site["north"].size
    assert len(read_stretches(store, "digits", "1")) == 4
    assert {s.attribute for s in found} == {"site", "predicted class", "variant"}
    store.close()
