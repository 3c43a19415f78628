"""The queue against a naive one: every request leaves it exactly once, in an order that the rules allow."""

from __future__ import annotations

from collections import defaultdict

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from serving.entry import Entry
from serving.queueing.flows import TURNS_IN_A_BATCH, RowQueue
from serving.queueing.level import Batch
from serving.queueing.policy import LevelPolicy, QueuePolicy
from tests.support.queueing import waiting

MAX_ROWS = 8
HARD_NS = 1_000
CALLERS = ("a", "b", "c")
SHAPES = (None, ((1,),), ((2,),))


class QueueMachine(RuleBasedStateMachine):
    """Random traffic; `waits` is what a plain list of requests says should be waiting."""

    @initialize(delays=st.tuples(st.booleans(), st.booleans(), st.booleans()), variable=st.booleans())
    def begin(self, delays: tuple[bool, bool, bool], variable: bool) -> None:
        self.policy = QueuePolicy(
            levels=tuple(LevelPolicy(delay=delay) for delay in delays),
            server_timeout_ns=HARD_NS,
            weights={"a": 1, "b": 2, "c": 3},
        )
        self.queue = RowQueue(self.policy, MAX_ROWS)
        self.shapes = SHAPES[1:] if variable else SHAPES[:1]
        self.now = 0
        self.count = 0
        self.waits: dict[Entry, int] = {}  # rows that have not begun to run
        self.left: dict[Entry, str] = {}
        self.soft: dict[Entry, int] = {}

    # ---- what may happen

    @rule(
        rows=st.one_of(st.integers(1, MAX_ROWS), st.integers(MAX_ROWS + 1, 3 * MAX_ROWS)),
        priority=st.integers(1, 3),
        caller=st.sampled_from(CALLERS),
        shape=st.integers(0, 1),
        timeout=st.sampled_from((20, 200, HARD_NS)),
    )
    def put(self, rows: int, priority: int, caller: str, shape: int, timeout: int) -> None:
        self.count += 1
        entry = waiting(
            rows,
            priority=priority,
            caller=caller,
            shapes=self.shapes[shape % len(self.shapes)],
            received_ns=self.now,
            deadline_ns=self.now + timeout,
            name=str(self.count),
        )
        self.waits[entry] = rows
        self.soft[entry] = entry.deadline_ns
        self.queue.put(entry)

    @rule(by=st.integers(1, 100))
    def time_passes(self, by: int) -> None:
        self.now += by

    @precondition(lambda self: self.waits)
    @rule(index=st.integers(0, 1 << 30))
    def client_goes(self, index: int) -> None:
        list(self.waits)[index % len(self.waits)].cancelled = True

    @rule()
    def take(self) -> None:
        live = {e for e in self.waits if not e.cancelled and self._limit(e) > self.now}
        urgent = min((e.plan.queue[0] for e in live), default=None)
        order = [e for e in self.waits if e in live]
        batch = self.queue.take(self.now)
        passed = self.queue.passed
        for entry in passed.gone:
            assert entry.cancelled
            self._leaves(entry, "gone")
        for entry in passed.late:
            assert self._limit(entry) <= self.now
            self._leaves(entry, "late")
        assert not passed.shed
        passed.gone, passed.late = [], []
        if batch is None:
            assert not live, "work is left undone"
            return
        assert batch.entries[0].plan.queue[0] == urgent, "a higher priority waits"
        assert {e.plan.queue[1] for e in batch.entries} == {batch.entries[0].plan.queue[1]} or batch.part
        assert 0 < batch.rows <= MAX_ROWS
        self._ran(batch, order)
        self.full = batch.full
        if not batch.full:
            shape = batch.entries[0].plan.queue[1]
            left = [e for e in self.waits if e in live and e.plan.queue[1] == shape and e.plan.rows <= MAX_ROWS]
            assert not left, "requests that fit were left behind"

    @rule()
    def sweep(self) -> None:
        late, gone = self.queue.purge(self.now)
        for entry in late:
            assert self._limit(entry) <= self.now
            self._leaves(entry, "late")
        for entry in gone:
            assert entry.cancelled
            self._leaves(entry, "gone")

    @rule(priority=st.integers(1, 3), caller=st.sampled_from(CALLERS), rows=st.integers(1, 12))
    def make_room(self, priority: int, caller: str, rows: int) -> None:
        before = self._rows_of(priority, caller)
        out = self.queue.make_room(priority, caller, rows, rows)
        assert not out or sum(e.plan.rows for e in out) >= rows
        for entry in out:
            assert entry.plan.queue[0] >= priority
            if entry.plan.queue[0] == priority:
                theirs = self._rows_of(priority, entry.caller) / self.policy.weights[entry.caller]
                assert theirs > before / self.policy.weights[caller], "pushed out although it had less"
        for entry in out:
            self._leaves(entry, "pushed out")

    @rule()
    def close(self) -> None:
        for entry in self.queue.clear():
            self._leaves(entry, "closed")
        assert not self.waits

    # ---- what must hold

    @invariant()
    def rows_are_counted(self) -> None:
        if hasattr(self, "queue"):
            assert self.queue.rows == sum(self.waits.values())

    def teardown(self) -> None:
        if hasattr(self, "queue"):
            self.close()
            assert len(self.left) == self.count

    def _limit(self, entry: Entry) -> int:
        delay = self.policy.levels[entry.plan.queue[0] - 1].delay
        return entry.received_ns + HARD_NS if delay else self.soft[entry]

    def _leaves(self, entry: Entry, how: str) -> None:
        assert entry not in self.left, f"left twice: {self.left.get(entry)}, {how}"
        self.left[entry] = how
        del self.waits[entry]

    def _rows_of(self, priority: int, caller: str) -> int:
        return sum(
            e.plan.rows
            for e in self.waits
            if e.plan.queue[0] == priority and e.caller == caller and e.plan.rows <= MAX_ROWS
        )

    def _ran(self, batch: Batch, order: list[Entry]) -> None:
        if batch.part is not None:
            (entry,) = batch.entries
            start, stop = batch.part
            assert start == entry.plan.rows - self.waits[entry], "parts run in order, each once"
            assert stop - start == batch.rows == min(MAX_ROWS, entry.plan.rows - start)
            self.waits[entry] -= batch.rows
            if not self.waits[entry]:
                self._leaves(entry, "ran")
            return
        assert batch.rows == sum(e.plan.rows for e in batch.entries)
        for entry in batch.entries:
            on_time = self.soft[entry] > self.now
            mine = [
                e
                for e in order
                if (e.plan.queue, e.caller, e.plan.rows <= MAX_ROWS) == (entry.plan.queue, entry.caller, True)
                and e in self.waits
                and (self.soft[e] > self.now) == on_time
            ]
            assert not on_time or mine[0] is entry, "a caller's requests run in the order in which they came"
            self._leaves(entry, "ran")


TestQueue = QueueMachine.TestCase
TestQueue.settings = settings(
    max_examples=150, stateful_step_count=60, deadline=None, suppress_health_check=list(HealthCheck)
)


@given(
    sizes=st.lists(st.lists(st.integers(1, 6), min_size=1), min_size=2, max_size=5),
    weights=st.lists(st.integers(1, 4), min_size=5, max_size=5),
)
@settings(max_examples=100, deadline=None)
def test_callers_that_all_have_much_waiting_get_rows_by_their_weight(
    sizes: list[list[int]], weights: list[int]
) -> None:
    max_rows = 32
    names = [f"caller{i}" for i in range(len(sizes))]
    by_name = dict(zip(names, weights, strict=False))
    queue = RowQueue(QueuePolicy(weights=by_name), max_rows)
    for name, pattern in zip(names, sizes, strict=True):
        for i in range(400):
            queue.put(waiting(pattern[i % len(pattern)], caller=name))
    served: dict[str, int] = defaultdict(int)
    quantum = max_rows // TURNS_IN_A_BATCH
    for _ in range(12):
        batch = queue.take(0)
        assert batch is not None
        for entry in batch.entries:
            served[entry.caller] += entry.plan.rows
        shares = [served[name] / by_name[name] for name in names]
        # one turn ahead and one largest request in debt, each way
        assert max(shares) - min(shares) <= 2 * (quantum + 6)


def test_a_caller_that_has_just_come_is_in_the_next_batch() -> None:
    queue = RowQueue(QueuePolicy(), 64)
    for _ in range(10_000):
        queue.put(waiting(caller="flood"))
    assert queue.take(0) is not None
    for _ in range(3):
        queue.put(waiting(caller="modest"))
    batch = queue.take(0)
    assert batch is not None
    assert batch.rows == 64
    assert [e.caller for e in batch.entries].count("modest") == 3


def test_a_huge_request_does_not_hold_up_the_others() -> None:
    queue = RowQueue(QueuePolicy(), 64)
    huge = waiting(6_400)
    queue.put(huge)
    kinds = []
    for step in range(40):
        if step % 2 == 0:
            queue.put(waiting(name=str(step)))
        batch = queue.take(0)
        assert batch is not None
        kinds.append("part" if batch.part else "rows")
    assert queue.rows > 0, "the huge one still runs"
    assert sum(kind == "rows" for kind in kinds) == 20, "everybody else ran in the batch after it came, or the next"
    assert kinds.count("part") == 20


def test_debts_are_forgotten_when_nobody_waits() -> None:
    queue = RowQueue(QueuePolicy(), 64)
    for caller in ("a", "b"):
        queue.put(waiting(60, caller=caller))
    assert [queue.take(0), queue.take(0)]
    assert queue.rows == 0
    queue.put(waiting(1, caller="b"))
    queue.put(waiting(1, caller="a"))
    batch = queue.take(0)
    assert batch is not None
    assert [e.caller for e in batch.entries] == ["b", "a"]


def test_urgent_requests_take_the_rest_of_their_batch_along() -> None:
    queue = RowQueue(QueuePolicy(), 8)
    for _ in range(20):
        queue.put(waiting(priority=3))
    queue.put(waiting(2, priority=1))
    batch = queue.take(0)
    assert batch is not None
    assert [e.plan.queue[0] for e in batch.entries] == [1] + [3] * 6
    assert batch.rows == 8


def test_a_delayed_request_runs_when_nothing_else_of_its_level_waits() -> None:
    policy = QueuePolicy(levels=(LevelPolicy(delay=True), LevelPolicy()), default_level=1, server_timeout_ns=HARD_NS)
    queue = RowQueue(policy, 2)
    late = waiting(2, priority=1, received_ns=0, deadline_ns=10, name="late")
    queue.put(late)
    for _ in range(2):
        queue.put(waiting(2, priority=1, received_ns=5, deadline_ns=900))
    queue.put(waiting(2, priority=2, received_ns=5, deadline_ns=900))
    ran = [batch.entries[0] for _ in range(4) if (batch := queue.take(20)) is not None]
    assert [e is late for e in ran] == [False, False, True, False], "behind its own level, before the lower one"
    assert late.deadline_ns == HARD_NS, "it has until the server's own limit"
    queue.put(waiting(2, priority=1, received_ns=20, deadline_ns=30, name="never"))
    queue.put(waiting(2, priority=1, received_ns=21, deadline_ns=900))
    assert queue.take(40) is not None
    assert queue.take(20 + HARD_NS) is None
    assert [e.id for e in queue.passed.late] == [b"never"]
