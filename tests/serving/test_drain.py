"""When a client counts as one that does not take in its answers."""

from __future__ import annotations

from serving.drain import MIN_DRAINED_BYTES, Drain


def test_who_takes_in_nothing_is_stuck_when_patience_ends() -> None:
    drain = Drain()
    assert [drain.is_stuck(now, 100_000, 10.0) for now in (1.0, 6.0, 11.0, 11.1)] == [False, False, False, True]


def test_answers_that_are_added_do_not_set_the_clock_back() -> None:
    drain = Drain()
    seen = [drain.is_stuck(1.0 + step, 100_000 + 200 * step, 10.0) for step in range(12)]
    assert seen == [False] * 11 + [True]


def test_who_takes_in_enough_begins_anew() -> None:
    drain = Drain()
    assert not drain.is_stuck(1.0, 1_000_000, 10.0)
    assert not drain.is_stuck(10.9, 1_000_000 - MIN_DRAINED_BYTES, 10.0)
    assert not drain.is_stuck(20.8, 1_000_000 - MIN_DRAINED_BYTES, 10.0)
    assert drain.is_stuck(21.0, 1_000_000 - MIN_DRAINED_BYTES, 10.0)


def test_an_empty_buffer_is_nobodys_fault() -> None:
    drain = Drain()
    assert not drain.is_stuck(1.0, 5, 10.0)
    assert not drain.is_stuck(20.0, 0, 10.0)
    assert not drain.is_stuck(21.0, 5, 10.0)
