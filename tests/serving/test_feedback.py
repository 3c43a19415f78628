"""The feedback body: what is taken, and what is refused by name."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from export.contracts.errors import InvalidRequest
from monitoring.records.record import Feedback
from serving.feedback import MAX_ITEMS, read_feedback


def read(plain: Any) -> list[Feedback]:
    return read_feedback(json.dumps(plain).encode(), "digits", 17)


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        ({"id": "a", "label": "7"}, {"label": "7"}),
        ({"id": "a", "label": 7}, {"label": 7}),
        ({"id": "a", "label": 0.25}, {"label": 0.25}),
        ({"id": "a", "label": 0}, {"label": 0}),
        ({"id": "a", "labels": []}, {"labels": ()}),
        ({"id": "a", "labels": ["x", "y"]}, {"labels": ("x", "y")}),
        ({"id": "a", "score": -1, "source": "till"}, {"score": -1.0, "source": "till"}),
        ({"id": "a", "comment": "wrong", "label": None}, {"comment": "wrong"}),
    ],
)
def test_each_kind_of_truth_becomes_a_record(item: dict[str, Any], expected: dict[str, Any]) -> None:
    assert read(item) == [Feedback(record_id="a", model="digits", time_ns=17, **expected)]


def test_a_list_keeps_its_order() -> None:
    items = [{"id": f"r{i}", "label": i} for i in range(MAX_ITEMS)]
    assert [(f.record_id, f.label) for f in read(items)] == [(f"r{i}", i) for i in range(MAX_ITEMS)]


@pytest.mark.parametrize(
    ("plain", "names"),
    [
        ([], "1 to 1000 items"),
        ([{"id": "a", "label": 1}] * (MAX_ITEMS + 1), "1 to 1000 items"),
        (3, "body must be an object"),
        ([3], r"\[0\] must be an object"),
        ([{"id": "a", "label": 1}, {"id": "b"}], r"\[1\]\.label"),
        ({"label": 1}, "'id'"),
        ({"id": "", "label": 1}, "'id'"),
        ({"id": 3, "label": 1}, "'id'"),
        ({"id": "ü" * 65, "label": 1}, "'id'"),
        ({"id": "a", "label": True}, "'label'"),
        ({"id": "a", "label": ""}, "'label'"),
        ({"id": "a", "label": [1]}, "'label'"),
        ({"id": "a", "label": 1 << 63}, "'label'"),
        ({"id": "a", "labels": "x"}, "'labels'"),
        ({"id": "a", "labels": ["x", 3]}, r"'labels\[1\]'"),
        ({"id": "a", "labels": ["x"] * 257}, "'labels'"),
        ({"id": "a", "score": "high"}, "'score'"),
        ({"id": "a", "score": False}, "'score'"),
        ({"id": "a", "label": 1, "score": 1}, "'label' and 'score' exclude"),
        ({"id": "a", "comment": ""}, "'comment'"),
        ({"id": "a", "comment": "x" * 4097}, "'comment'"),
        ({"id": "a", "label": 1, "source": "x" * 65}, "'source'"),
        ({"id": "a", "lable": 1}, "unknown field 'lable'; known are"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(plain: Any, names: str) -> None:
    with pytest.raises(InvalidRequest, match=names):
        read(plain)


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("field", ["label", "score"])
def test_numbers_that_are_not_finite_never_get_in(field: str, number: float) -> None:
    with pytest.raises(InvalidRequest):
        read({"id": "a", field: number})
    with pytest.raises(InvalidRequest):
        read_feedback(b'{"id": "a", "%s": 1e999}' % field.encode(), "digits", 0)


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 100_000, b'{"id": "\\ud800", "label": 1}', b"{} {}"])
def test_what_is_no_json_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        read_feedback(body, "digits", 0)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["id", "label", "labels"]), inner),
    max_leaves=12,
)


@given(plain=JSON)
def test_any_json_is_taken_or_refused(plain: Any) -> None:
    try:
        items = read(plain)
    except InvalidRequest:
        return
    assert all(1 <= len(item.record_id.encode()) <= 128 for item in items)
