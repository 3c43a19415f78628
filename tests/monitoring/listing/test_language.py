"""The language of the search box."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from export.contracts.errors import InvalidRequest
from monitoring.listing.language import parse
from monitoring.listing.terms import Field, Span, Term

NOW = datetime(2026, 2, 1, 12, tzinfo=UTC)


def test_every_example_of_the_page_is_read():
    found = parse('model:digits class:7 score:>0.8 tag:night is:open by:anna after:2026-01-01 "free text"', NOW)
    assert [t.field.value for t in found] == ["model", "class", "score", "tag", "is", "by", "after", "text"]
    assert found[2].value == Span(low=0.8, open_low=True)
    assert found[6].value == int(datetime(2026, 1, 1, tzinfo=UTC).timestamp()) * 10**9
    assert found[7].value == "free text"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("score:0.5", Span(low=0.5)),
        ("score:=0.5", Span(low=0.5, high=0.5)),
        ("score:>=50%", Span(low=0.5)),
        ("score:<0.2", Span(high=0.2, open_high=True)),
        ("score:<=.2", Span(high=0.2)),
        ("score:0.2..0.5", Span(low=0.2, high=0.5)),
        ("priority:3", Span(low=3.0, high=3.0)),
    ],
)
def test_spans_are_read_as_they_are_written(text: str, value: Span):
    assert parse(text, NOW)[0].value == value


def test_ages_count_back_from_now():
    assert parse("after:24h", NOW)[0].value == int((NOW.timestamp() - 86_400) * 1e9)
    assert parse("until:7d", NOW)[0].field is Field.BEFORE


def test_a_minus_excludes_and_quotes_keep_spaces():
    assert parse('-tag:"late shift"', NOW) == (Term(field=Field.TAG, value="late shift", excluded=True),)


def test_a_class_means_its_index_too():
    assert parse("class:seven", NOW, {"seven": ("7",)}.__getitem__)[0].others == ("7",)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("modle:digits", "did you mean 'model:'"),
        ("xyzzy:1", "there are model"),
        ("is:opne", "did you mean 'is:open'"),
        ("score:high", "score:>0.8"),
        ("after:yesterday", "2026-01-31"),
        ("after:99999-01-01", "2026-01-31"),
        ('tag:"open', "quotation mark"),
        ("case:12", "16 hex digits"),
        ("a " * 30, "24 words"),
        ("a" * 501, "500 characters"),
    ],
)
def test_a_mistake_is_answered_with_what_would_be_right(text: str, says: str):
    with pytest.raises(InvalidRequest, match=says):
        parse(text, NOW)
