"""Whatever a trainer prints: lines stay bounded, and only what is an event becomes one."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from export.contracts.training import EventKind
from export.training.lines import CUT, MAX_LINE_BYTES, MAX_METRICS, LineSplitter, event_of, parse_event, to_line


@given(st.lists(st.binary(max_size=40)), st.integers(1, 12))
def test_however_a_stream_is_cut_its_lines_are_the_same_and_bounded(pieces: list[bytes], limit: int) -> None:
    whole, parts = LineSplitter(limit), LineSplitter(limit)
    stream = b"".join(pieces)
    expected = whole.feed(stream) + whole.rest()
    found = [line for piece in pieces for line in parts.feed(piece)] + parts.rest()
    assert [line.removesuffix(CUT) for line in found] == [line.removesuffix(CUT) for line in expected]
    assert all(len(line) <= limit + len(CUT) for line in found)


@given(st.binary() | st.recursive(st.none() | st.floats() | st.text(), lambda x: st.dictionaries(st.text(), x)))
def test_nothing_that_is_printed_breaks_the_reader(thing: object) -> None:
    line = thing if isinstance(thing, bytes) else json.dumps(thing).encode()
    event = parse_event(line)
    assert event is None or parse_event(to_line(event).rstrip(b"\n")) == event


@pytest.mark.parametrize("kind", list(EventKind))
@given(data=st.data())
def test_a_lying_event_is_log_or_comes_back_as_it_is(kind: EventKind, data: st.DataObject) -> None:
    odd = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=70) | st.just({"a": 1.0})
    plain = {name: data.draw(odd) for name in ("step", "of", "name", "value", "text", "path", "metrics")}
    event = event_of({"event": kind.value, **plain})
    assert event is None or parse_event(to_line(event).rstrip(b"\n")) == event


@pytest.mark.parametrize(
    "line",
    [
        b'{"event": "metric", "name": "a", "value": 1e999}',
        b'{"event": "metric", "name": "a", "value": true}',
        b'{"event": "metric", "name": "", "value": 1}',
        b'{"event": "progress", "step": -1}',
        b'{"event": "progress", "step": 1.5}',
        b'{"event": "artefact", "path": "../secret"}',
        b'{"event": "artefact", "path": "/etc/passwd"}',
        b'{"event": "artefact", "path": "a//b"}',
        b'{"event": "note"}',
        b'{"event": "promote", "text": "me"}',
        b'{"event": ["done"]}',
        b'{"event": "done", "metrics": {"a": "b"}}',
        b"{" * 50_000,
        b'{"event": "note", "text": "' + b"x" * MAX_LINE_BYTES + b'"}',
        json.dumps({"event": "done", "metrics": {f"m{i}": 1 for i in range(MAX_METRICS + 1)}}).encode(),
    ],
)
def test_what_only_looks_like_an_event_is_log(line: bytes) -> None:
    assert parse_event(line) is None


def test_texts_are_cut_and_hold_no_control_characters() -> None:
    event = event_of({"event": "note", "text": "a\x1b[31m\x00\ud800" + "b" * 5000})
    assert event is not None
    assert len(event.text) == 2000
    assert event.text.isprintable()
