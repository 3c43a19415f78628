"""The queue policy of one model, resolved from the settings: what a request's priority and time limit mean.

The words are Triton's (`ModelDynamicBatching`, `ModelQueuePolicy`): priority 1 is the highest, 0 or none or a number
past `priority_levels` is the default level; a request may shorten its level's time limit, and never lengthen it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from export.contracts.signature import Signature
from serving.options import BatchOptions, QueueOptions, ServingOptions, TimeoutAction


@dataclass(frozen=True, kw_only=True, slots=True)
class LevelPolicy:
    """What holds for the requests of one priority level.

    Attributes:
        delay: A request that is past its time limit goes behind the others of its level, instead of being refused.
        default_timeout_ns: Time limit of a request that names none; 0 takes the server's.
        allow_timeout_override: Whether a request may name a shorter one.
        max_rows: Rows of this level that may wait; 0 for no bound besides the whole queue's.
    """

    delay: bool = False
    default_timeout_ns: int = 0
    allow_timeout_override: bool = True
    max_rows: int = 0

    def timeout_ns(self, asked_ns: int) -> int:
        """The time limit of a request that asks for `asked_ns` (0: for none); 0 means the server's own."""
        default = self.default_timeout_ns
        if asked_ns and self.allow_timeout_override and (not default or asked_ns < default):
            return asked_ns
        return default


@dataclass(frozen=True, kw_only=True, slots=True)
class QueuePolicy:
    """The policy of one model's queues.

    Attributes:
        levels: One a priority, highest first.
        default_level: Priority of requests that name none, counted from 1.
        target_ns: Longest wait that a request is let in for; 0 lets it wait as long as its time limit.
        interval_ns: How long waits may be longer than that before the oldest requests are shed.
        server_timeout_ns: The server's own time limit, which holds also for requests that were delayed.
        weights: Share of an API key in comparison with others; 1 for keys that are not named.
    """

    levels: tuple[LevelPolicy, ...] = (LevelPolicy(), LevelPolicy(), LevelPolicy())
    default_level: int = 2
    target_ns: int = 0
    interval_ns: int = 0
    server_timeout_ns: int = 60_000_000_000
    weights: Mapping[str, int] = field(default_factory=dict)

    def level(self, asked: int) -> int:
        """The priority level of a request that asks for `asked` (0: for none), counted from 1.

        Example:
            >>> [QueuePolicy().level(asked) for asked in (0, 1, 3, 9)]
            [2, 1, 3, 2]
        """
        return asked if 0 < asked <= len(self.levels) else self.default_level

    def timeout_ns(self, level: int, asked_ns: int) -> int:
        """The time limit of a request of a level; 0 means the server's own."""
        return self.levels[level - 1].timeout_ns(asked_ns)


DEFAULT_POLICY = QueuePolicy()


def resolve(options: ServingOptions, model: str) -> QueuePolicy:
    """The policy of a model: `serving.queue`, with what `serving.queues` says about this model on top.

    Raises:
        ValueError: names a level that does not exist.
    """
    queue = options_of(options, model)
    default = LevelPolicy(
        delay=queue.timeout_action == TimeoutAction.DELAY,
        default_timeout_ns=queue.default_timeout_us * 1000,
        allow_timeout_override=queue.allow_timeout_override,
    )
    levels = [default] * queue.priority_levels
    if not 1 <= queue.default_priority_level <= len(levels):
        raise ValueError(
            f"serving.queue: default_priority_level is {queue.default_priority_level}, there are {len(levels)} levels"
        )
    for own in queue.levels:
        if not 1 <= own.level <= len(levels):
            raise ValueError(f"serving.queue.levels: there is no level {own.level}, there are {len(levels)}")
        levels[own.level - 1] = LevelPolicy(
            delay=own.timeout_action == TimeoutAction.DELAY,
            default_timeout_ns=own.default_timeout_us * 1000,
            allow_timeout_override=own.allow_timeout_override,
            max_rows=own.max_queue_rows,
        )
    return QueuePolicy(
        levels=tuple(levels),
        default_level=queue.default_priority_level,
        target_ns=int(queue.target_queue_ms * 1e6),
        interval_ns=int(queue.interval_ms * 1e6),
        server_timeout_ns=int(options.limits.timeout_s * 1e9),
        weights={key.name: key.weight for key in options.auth.keys},
    )


def bounded_rows(options: BatchOptions, signature: Signature) -> int:
    """Rows that may wait: `queue_rows`, and no more than `queue_bytes` holds where a row's size is known.

    Tensors of variable size count as rows only.
    """
    row_bytes = 0
    for spec in signature.inputs:
        dims = spec.shape[signature.batched :]
        if -1 not in dims:
            row_bytes += math.prod(dims) * max(spec.datatype.itemsize, 4)
    return max(1, min(options.queue_rows, options.queue_bytes // max(row_bytes, 1)))


def options_of(options: ServingOptions, model: str) -> QueueOptions:
    """The queue settings of a model, before they are turned into a policy."""
    for own in options.queues:
        if own.model == model:
            named = {
                f.name: value
                for f in dataclasses.fields(own)
                if f.name != "model" and (value := getattr(own, f.name)) is not None
            }
            return dataclasses.replace(options.queue, **named)
    return options.queue
