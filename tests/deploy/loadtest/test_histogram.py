"""The histogram against numpy: every percentile within one percent, whatever is counted and however it is merged."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.loadtest.histogram import Histogram, curve, merged

PERCENTS = (0.0, 1.0, 50.0, 90.0, 95.0, 99.0, 99.9, 99.999, 100.0)
durations = st.lists(
    st.one_of(st.integers(0, 300), st.integers(0, 10**7), st.integers(0, 2**42)), min_size=1, max_size=300
)


def filled(values: list[int]) -> Histogram:
    made = Histogram()
    made.add(values)
    return made


@given(values=durations, percent=st.one_of(st.sampled_from(PERCENTS), st.floats(0, 100)))
@settings(max_examples=300, deadline=None)
def test_a_percentile_is_within_one_percent_of_numpys(values: list[int], percent: float):
    ours = filled(values).percentile(percent)
    exact = float(np.percentile(values, percent, method="inverted_cdf"))
    near = math.ceil(percent / 100 * len(values) - 1e-9), math.ceil(percent / 100 * len(values))
    if near[0] != near[1]:  # on the very edge between two ranks either is right
        return
    assert abs(ours - exact) <= 0.01 * exact + 1e-9
    assert min(values) <= ours <= max(values)


@given(parts=st.lists(durations, min_size=1, max_size=5))
@settings(max_examples=100, deadline=None)
def test_merging_is_counting_together(parts: list[list[int]]):
    everything = [v for part in parts for v in part]
    together, once = merged(filled(p) for p in parts), filled(everything)
    assert (together.counts == once.counts).all()
    assert (together.min, together.max, together.total) == (min(everything), max(everything), sum(everything))
    assert together.count == len(everything)
    assert together.mean == pytest.approx(np.mean(everything))


@given(values=durations)
@settings(max_examples=50, deadline=None)
def test_it_survives_json(values: list[int]):
    one = filled(values)
    other = Histogram.from_plain(json.loads(json.dumps(one.to_plain())))
    assert (other.counts == one.counts).all()
    assert [other.percentile(p) for p in PERCENTS] == [one.percentile(p) for p in PERCENTS]


@given(values=durations, limit=st.integers(0, 2**42))
@settings(max_examples=100, deadline=None)
def test_the_share_above_a_limit_is_right_but_for_the_limits_own_bucket(values: list[int], limit: int):
    share = filled(values).share_above(limit)
    above = sum(v > limit for v in values) / len(values)
    clearly = sum(v > limit * 1.01 + 1 for v in values) / len(values)
    assert clearly - 1e-12 <= share <= above + 1e-12


def test_nothing_counted_has_no_percentile_and_negative_durations_are_refused():
    empty = Histogram()
    assert (empty.count, empty.mean, empty.share_above(5)) == (0, 0.0, 0.0)
    with pytest.raises(ValueError, match="empty"):
        empty.percentile(50)
    with pytest.raises(ValueError, match="negative"):
        empty.add([3, -1])
    with pytest.raises(ValueError, match="bucket"):
        Histogram.from_plain({"min": 0, "max": 0, "total": 0, "index": [10**9], "count": [1]})


def test_longer_than_the_longest_bucket_is_kept_in_it_with_its_own_maximum():
    one = filled([5, 2**50])
    assert one.max == 2**50
    assert one.percentile(100) == 2**50


def test_a_curve_shows_only_what_the_number_of_requests_can_tell():
    shown = [p for p, _ in curve(filled(list(range(1000))), (50.0, 99.0, 99.9, 99.99))]
    assert shown == [50.0, 99.0, 99.9]
    assert curve(Histogram(), (50.0,)) == ()
