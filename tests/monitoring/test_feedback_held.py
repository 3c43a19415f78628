"""Which piece of feedback counts, in words, and that it is the one that the loop settles on."""

from __future__ import annotations

from typing import Any

import pytest

from monitoring.feedback_held import Held, standings
from monitoring.rows import FeedbackRow

S = 10**9


def said(number: int, second: float, label: Any = None, **more: Any) -> FeedbackRow:
    values = {"labels": None, "score": None, "comment": None, "author": "shop", "joined": True} | more
    return FeedbackRow(model="m", record_id="r", time_ns=int((100 + second) * S), label=label, id=number, **values)


def held(*rows: FeedbackRow, names: tuple[str, ...] = ()) -> list[tuple[Held, str]]:
    return [(s.held, s.because) for s in standings(rows, 100 * S, names)]


def test_the_newest_label_counts_and_says_how_late_it_is() -> None:
    found = held(said(1, 0.5, 3), said(2, 7200, 5))
    assert found == [
        (Held.OVERTAKEN, "a newer label counts"),
        (Held.COUNTS, "the newest label counts, said 2 h after the request"),
    ]


def test_what_comes_last_but_speaks_of_an_earlier_time_does_not_count() -> None:
    assert held(said(9, 10, 3), said(2, 70, 5))[0] == (
        Held.OVERTAKEN,
        "it came last, but speaks of a time 1 min before the one that counts",
    )


@pytest.mark.parametrize("label", [2, "2", "two", {"rows": [2]}])
def test_the_same_answer_in_other_words_is_no_conflict(label: Any) -> None:
    assert held(said(1, 1, label), said(2, 2, "two"), names=("zero", "one", "two"))[0][0] is Held.AGREES


def test_what_is_no_label_is_a_complaint_or_a_remark() -> None:
    rows = (said(1, 1, score=-1.0), said(2, 2, score=1.0), said(3, 3, comment="?"))
    assert [h for h, _ in held(*rows)] == [Held.COMPLAINT, Held.REMARK, Held.REMARK]


def test_names_of_one_label_are_compared_as_a_whole() -> None:
    rows = (said(1, 1, labels=("a", "b")), said(2, 2, labels=("a",)))
    assert [h for h, _ in held(*rows)] == [Held.OVERTAKEN, Held.COUNTS]
