"""Settings of the queue in front of a model: priorities, time limits, overload."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from deploy.settings_base import Section


class LevelSettings(Section):
    """The queue policy of one priority level, where it differs from the model's."""

    level: int = Field(ge=1)
    """Which level; 1 is the highest."""
    timeout_action: Literal["reject", "delay"] = "reject"
    """As `serving.queue.timeout_action`."""
    default_timeout_us: int = Field(default=0, ge=0)
    """As `serving.queue.default_timeout_us`."""
    allow_timeout_override: bool = True
    """As `serving.queue.allow_timeout_override`."""
    max_queue_rows: int = Field(default=0, ge=0)
    """Rows of this level that may wait; 0 for no bound besides `serving.batch.queue_rows`."""


class QueueSettings(Section):
    """Which request goes first, how long one may wait, and when one is turned away. The words are Triton's."""

    priority_levels: int = Field(default=3, ge=1, le=16)
    """Priorities that a request may name, from 1, the highest. A level runs only when none above it waits."""
    default_priority_level: int = Field(default=2, ge=1, le=16)
    """Priority of a request that names none, or one that does not exist."""
    timeout_action: Literal["reject", "delay"] = "reject"
    """A request that waits past its time limit: `reject` answers 504; `delay` lets it run when no other waits."""
    default_timeout_us: int = Field(default=0, ge=0)
    """Time limit of a request that names none; 0 takes `serving.limits.timeout_s`."""
    allow_timeout_override: bool = True
    """A request may name a shorter time limit (parameter `timeout`, microseconds)."""
    levels: tuple[LevelSettings, ...] = ()
    """Levels with a policy of their own."""
    target_queue_ms: float = Field(default=2000.0, ge=0, allow_inf_nan=False)
    """A request that would wait longer than this, or than four largest batches, gets 503 at once; 0 lets it wait."""
    interval_ms: float = Field(default=500.0, ge=0, allow_inf_nan=False)
    """When requests have waited half as long again for this long, the oldest are shed."""

    @model_validator(mode="after")
    def _levels_exist(self) -> QueueSettings:
        named = [self.default_priority_level, *(level.level for level in self.levels)]
        if max(named) > self.priority_levels:
            raise ValueError(f"there is no level {max(named)}: priority_levels is {self.priority_levels}")
        return self


class ModelQueueSettings(Section):
    """What differs from `serving.queue` for one model."""

    model: str = Field(min_length=1)
    """Name of the model."""
    priority_levels: int | None = Field(default=None, ge=1, le=16)
    """As in `serving.queue`."""
    default_priority_level: int | None = Field(default=None, ge=1, le=16)
    """As in `serving.queue`."""
    timeout_action: Literal["reject", "delay"] | None = None
    """As in `serving.queue`."""
    default_timeout_us: int | None = Field(default=None, ge=0)
    """As in `serving.queue`."""
    allow_timeout_override: bool | None = None
    """As in `serving.queue`."""
    levels: tuple[LevelSettings, ...] | None = None
    """As in `serving.queue`."""
    target_queue_ms: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    """As in `serving.queue`."""
    interval_ms: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    """As in `serving.queue`."""
