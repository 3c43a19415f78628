"""Who is let in, on a clock of the test's own: expected wait, fairness, room, standing queues, when to come back."""

from __future__ import annotations

import pytest

from export.contracts.errors import Overloaded
from serving.entry import Entry
from serving.queueing.gate import ShedReason
from serving.queueing.policy import LevelPolicy, QueuePolicy
from tests.support.queueing import Simulation, waiting

MS = 1_000_000
S = 1_000_000_000


def simulation(*, target_ms: int = 500, weights: dict[str, int] | None = None, queue_rows: int = 4096) -> Simulation:
    """A model that runs 8 rows in 80 ms: 100 rows a second."""
    policy = QueuePolicy(target_ns=target_ms * MS, interval_ns=500 * MS, weights=weights or {})
    return Simulation(policy=policy, max_rows=8, batch_ns=80 * MS, queue_rows=queue_rows)


def p99(values: list[int]) -> int:
    return sorted(values)[int(0.99 * (len(values) - 1))]


def test_at_ten_times_the_load_nothing_is_lost_and_nobody_waits_longer_than_the_target() -> None:
    world = simulation()
    for i in range(5_000):
        world.at(i * MS, lambda: world.send(waiting(deadline_ns=60 * S)) and None)
    world.run(5 * S)
    assert len(world.ran) >= 0.98 * 500, "as many as without the overload"
    assert max(r.waited_ns for r in world.ran) <= (500 + 80) * MS
    assert world.gate.shed[ShedReason.WAIT] == len(world.refused) > 4000
    world.run(5 * S + 600 * MS)  # the flood is over: what waited has run
    assert world.queue.rows == 0
    assert world.send(waiting(deadline_ns=60 * S)) is None


def test_without_a_target_the_queue_fills_to_its_rows() -> None:
    world = simulation(target_ms=0, queue_rows=300)
    for i in range(5_000):
        world.at(i * MS, lambda: world.send(waiting(deadline_ns=60 * S)) and None)
    world.run(5 * S)
    assert world.queue.rows >= 300 - 8
    assert world.gate.shed[ShedReason.FULL] == len(world.refused)


@pytest.mark.parametrize("clients", [300, 1500])
def test_who_waits_as_long_as_it_is_told_is_let_in(clients: int) -> None:
    world = simulation(target_ms=2000)
    told: dict[Entry, int] = {}
    again: list[bool] = []

    def come(entry: Entry, first: bool) -> None:
        answer = world.send(entry)
        if not first:
            again.append(answer is None)
        if answer is not None:
            told[entry] = answer.retry_after_s
            retry = waiting(deadline_ns=60 * S)
            world.at(world.now + answer.retry_after_s * S, lambda: come(retry, first=False))

    for _ in range(clients):
        entry = waiting(deadline_ns=60 * S)
        world.at(0, lambda entry=entry: come(entry, first=True))  # type: ignore[misc]
    world.run(120 * S)
    assert len(world.ran) == clients, "everybody was served in the end"
    assert len(again) >= clients - 220
    assert sum(again) >= 0.99 * len(again), f"{again.count(False)} of {len(again)} were sent away again"
    needed_s = (clients - 200) / 100
    assert max(told.values()) <= 1.25 * needed_s + 2, "and nobody was told to wait for much longer than needed"


def test_a_flood_from_one_key_does_not_touch_another() -> None:
    world = simulation()
    for i in range(10_000):  # 20 times what the model can do
        world.at(i * MS // 2, lambda: world.send(waiting(caller="flood", deadline_ns=60 * S)) and None)
    for i in range(150):  # a third of what it can do
        world.at(i * 33 * MS, lambda: world.send(waiting(caller="modest", deadline_ns=60 * S)) and None)
    world.run(5 * S)
    modest = [r.waited_ns for r in world.ran if r.entry.caller == "modest"]
    assert not [e for e, _ in world.refused if e.caller == "modest"]
    assert len(modest) >= 150 - 4
    assert p99(modest) <= 2 * 80 * MS, "two batches"
    assert len(world.ran) >= 0.98 * 500
    assert p99([r.waited_ns for r in world.ran if r.entry.caller == "flood"]) <= (750 + 160) * MS


def test_without_fair_turns_the_flood_would_touch_the_other() -> None:
    """The negative control: both behind one key."""
    world = simulation()
    modest: list[Entry] = []

    def come() -> None:
        modest.append(waiting(deadline_ns=60 * S))
        world.send(modest[-1])

    for i in range(10_000):
        world.at(i * MS // 2, lambda: world.send(waiting(deadline_ns=60 * S)) and None)
    for i in range(150):
        world.at(i * 33 * MS, come)
    world.run(5 * S)
    ran = [r.waited_ns for r in world.ran if r.entry in set(modest)]
    assert len(ran) < 100 or p99(ran) > 2 * 80 * MS


def test_weights_share_a_model_that_both_flood() -> None:
    world = simulation(weights={"gold": 3, "tin": 1})
    for i in range(3_000):
        for caller in ("gold", "tin"):
            world.at(i * MS, lambda caller=caller: world.send(waiting(caller=caller, deadline_ns=60 * S)) and None)  # type: ignore[misc]
    world.run(3 * S)
    gold = sum(r.entry.caller == "gold" for r in world.ran)
    assert 0.70 <= gold / len(world.ran) <= 0.80


def test_a_request_that_would_die_waiting_is_refused_at_once() -> None:
    world = simulation(target_ms=2000)
    for _ in range(100):
        world.send(waiting(deadline_ns=60 * S))
    refused = world.send(waiting(deadline_ns=300 * MS))
    assert refused is not None
    assert world.gate.shed[ShedReason.DEADLINE] == 1
    assert world.send(waiting(deadline_ns=1500 * MS)) is None


def test_urgent_requests_come_in_when_others_do_not() -> None:
    world = simulation()
    for _ in range(2000):
        world.send(waiting(deadline_ns=60 * S))
    assert world.send(waiting(deadline_ns=60 * S)) is not None
    assert world.send(waiting(priority=1, deadline_ns=60 * S)) is None


def test_room_goes_to_higher_priorities_and_to_those_with_less() -> None:
    world = simulation(target_ms=0, queue_rows=100)
    for _ in range(200):
        world.send(waiting(caller="a", priority=2, deadline_ns=60 * S))
    assert world.queue.rows == 100
    full = len(world.refused)
    assert world.send(waiting(3, caller="b", priority=2, deadline_ns=60 * S)) is None, "b has less than a"
    assert world.send(waiting(caller="a", priority=1, deadline_ns=60 * S)) is None, "higher priority"
    assert world.send(waiting(caller="a", priority=2, deadline_ns=60 * S)) is not None
    assert world.send(waiting(caller="c", priority=3, deadline_ns=60 * S)) is not None, "lower priority"
    pushed = [e for e, _ in world.refused[full : full + 4]]
    assert [e.caller for e in pushed] == ["a"] * 4
    assert world.queue.rows <= 100


def test_a_level_may_have_a_bound_of_its_own() -> None:
    policy = QueuePolicy(levels=(LevelPolicy(), LevelPolicy(), LevelPolicy(max_rows=10)))
    world = Simulation(policy=policy, max_rows=8, batch_ns=80 * MS)
    for _ in range(20):
        world.send(waiting(priority=3, deadline_ns=60 * S))
    assert world.queue.level_rows(3) == 10
    assert world.send(waiting(priority=2, deadline_ns=60 * S)) is None


@pytest.mark.parametrize("interval_ms", [500, 1_000_000])
def test_a_queue_that_stands_longer_than_expected_is_cut(interval_ms: int) -> None:
    policy = QueuePolicy(target_ns=500 * MS, interval_ns=interval_ms * MS)
    world = Simulation(policy=policy, max_rows=8, batch_ns=80 * MS)
    for i in range(1_000):
        world.at(i * MS, lambda: world.send(waiting(deadline_ns=60 * S)) and None)
    world.run(1 * S)
    world.batch_ns = 800 * MS  # ten times slower than when those who wait were let in
    world.learns = False  # and nobody notices
    world.run(8 * S)
    longest = max(r.waited_ns for r in world.ran[-8:])
    if interval_ms == 500:
        assert world.shed > 0
        assert longest <= 750 * MS + 2 * 800 * MS
    else:  # the negative control: without the rule they wait for all that is before them
        assert world.shed == 0
        assert longest > 3 * S


def test_a_refusal_says_at_least_one_second_and_never_more_than_half_a_minute() -> None:
    world = simulation(target_ms=100)
    told = [e.retry_after_s for _ in range(20_000) if (e := world.send(waiting(deadline_ns=60 * S))) is not None]
    assert min(told) >= 1
    assert max(told) == 30
    assert told == sorted(told)


def test_a_body_is_refused_unread_only_when_it_names_no_priority() -> None:
    world = simulation()
    for _ in range(2000):
        world.send(waiting(deadline_ns=60 * S))
    assert world.gate.crowded
    with pytest.raises(Overloaded):
        world.gate.refuse_unread("anonymous", b'{"inputs":[]}', None, 0)
    world.gate.refuse_unread("anonymous", b'{"parameters":{"priority":1},"inputs":[]}', None, 0)
    world.gate.refuse_unread("somebody else", b'{"inputs":[]}', None, 0)
    with pytest.raises(Overloaded):
        world.gate.refuse_unread("anonymous", b'{"inputs":[]}priority', b"13", 0)
