"""Taking requests out of a queue that do not run: pushed out for others, past their time limit, without a client."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from serving.entry import Entry
from serving.queueing.level import Flow, Level
from serving.request_plan import Shapes

NEVER_NS = 1 << 62


def push_out(levels: Sequence[Level], priority: int, share: float, rows: int) -> list[Entry]:
    """Take out the newest requests of those who have more waiting than their share.

    Args:
        levels: All levels, highest first.
        priority: Level of the request that needs room. Lower levels give way first, whoever is in them.
        share: What its caller has waiting in that level, that request included, in rows a weight.
        rows: How much room it needs.

    Returns:
        What was taken out, in no order; less than needed when there is no more that may be.
    """
    out: list[Entry] = []
    freed = 0
    for index in range(len(levels) - 1, priority - 2, -1):
        level = levels[index]
        while freed < rows:
            flows = [flow for flow in level.ring if not flow.large]
            if not flows:
                break
            largest = max(flows, key=lambda flow: flow.rows / flow.weight)
            if index == priority - 1 and largest.rows / largest.weight <= share:
                break
            shapes, queue = max(largest.queues.items(), key=lambda item: item[1][-1].received_ns)
            entry = queue.pop()
            if not queue:
                del largest.queues[shapes]
            level.uncount(largest, entry.plan.rows)
            out.append(entry)
            freed += entry.plan.rows
    return out


def purge(level: Level, now: int, timeout_ns: int, late: list[Entry], gone: list[Entry]) -> None:
    """Take out requests past their time limit, and those whose client is gone.

    Requests that their level delays are past it when the server's own limit has passed. The others are delayed when
    their turn comes, not here.

    Args:
        level: Where to look.
        now: `perf_counter_ns`.
        timeout_ns: The server's own time limit.
        late: What is past its time limit is added here.
        gone: What has no client any more is added here.
    """
    for flow in list(level.ring):
        if flow.begun_rows:  # its first request runs, in parts
            continue
        for shapes, queue in list(flow.queues.items()):
            _purge_queue(level, flow, shapes, queue, now, timeout_ns, late, gone)
    for entry in [e for e in level.delayed if e.cancelled or e.deadline_ns <= now]:
        level.delayed.remove(entry)
        level.rows -= entry.plan.rows
        (gone if entry.cancelled else late).append(entry)


def _purge_queue(
    level: Level,
    flow: Flow,
    shapes: Shapes | None,
    queue: deque[Entry],
    now: int,
    timeout_ns: int,
    late: list[Entry],
    gone: list[Entry],
) -> None:
    kept: deque[Entry] = deque()
    rows = 0
    for entry in queue:
        if entry.cancelled:
            gone.append(entry)
        elif limit_ns(level, entry, timeout_ns) <= now:
            late.append(entry)
        else:
            kept.append(entry)
            continue
        rows += entry.plan.rows
    if not rows:
        return
    if kept:
        flow.queues[shapes] = kept
    else:
        del flow.queues[shapes]
    level.uncount(flow, rows)


def limit_ns(level: Level, entry: Entry, timeout_ns: int) -> int:
    """When nobody wants the answer any more (`perf_counter_ns`)."""
    return entry.received_ns + timeout_ns if level.policy.delay else entry.deadline_ns


def earliest_ns(levels: Sequence[Level], timeout_ns: int) -> int:
    """The earliest of all waiting requests' limits; NEVER_NS when nothing waits."""
    return min(
        (limit_ns(level, entry, timeout_ns) for level in levels for entry in level.entries()),
        default=NEVER_NS,
    )
