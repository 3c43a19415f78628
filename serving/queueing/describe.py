"""The queue policy in the words of Triton's model configuration (`ModelDynamicBatching`)."""

from __future__ import annotations

from typing import Any

from export.contracts.manifest import Manifest
from serving.options import ServingOptions
from serving.queueing.policy import LevelPolicy, bounded_rows, resolve


def dynamic_batching(manifest: Manifest, options: ServingOptions, max_rows: int) -> dict[str, Any]:
    """The section `dynamic_batching`.

    The queue delay is zero because batches are never held back for company. Sizes of queues are rows, where Triton
    counts requests. A limit of time is never missing: where no other is set, the server's own holds.
    """
    policy = resolve(options, manifest.name)
    queue_rows = bounded_rows(options.batch, manifest.signature)
    default = policy.levels[policy.default_level - 1]
    return {
        "preferred_batch_size": [max_rows],
        "max_queue_delay_microseconds": 0,
        "priority_levels": len(policy.levels),
        "default_priority_level": policy.default_level,
        "default_queue_policy": _queue_policy(default, options, queue_rows),
        "priority_queue_policy": {
            str(number): _queue_policy(level, options, queue_rows)
            for number, level in enumerate(policy.levels, 1)
            if level != default
        },
    }


def _queue_policy(level: LevelPolicy, options: ServingOptions, queue_rows: int) -> dict[str, Any]:
    server_us = int(options.limits.timeout_s * 1e6)
    own_us = level.default_timeout_ns // 1000
    return {
        "timeout_action": "DELAY" if level.delay else "REJECT",
        "default_timeout_microseconds": min(own_us, server_us) if own_us else server_us,
        "allow_timeout_override": level.allow_timeout_override,
        "max_queue_size": min(level.max_rows, queue_rows) if level.max_rows else queue_rows,
    }
