"""The traffic plan: which version of a model answers, which one is tried beside it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

TRAFFIC_SCHEMA_VERSION = 1


class Variant(StrEnum):
    """In which part a version took a request."""

    CHAMPION = "champion"  # the plan's answer
    CANARY = "canary"  # the challenger answered its share
    SHADOW = "shadow"  # the challenger ran beside; its answer was discarded
    PINNED = "pinned"  # the request named the version


class ChallengerMode(StrEnum):
    """What the challenger does."""

    NONE = "none"
    SHADOW = "shadow"
    CANARY = "canary"


@dataclass(frozen=True, kw_only=True, slots=True)
class TrafficPlan:
    """One revision of a model's plan. Revisions count up by one; history is append-only.

    Attributes:
        champion: Version that answers; None when the model is registered and not served.
        canary_percent: Share of requests that the challenger answers in mode CANARY. In mode SHADOW, share of the
            champion's requests that it runs on; 0 means all of them there.
        pinned: Versions kept loaded for requests that name them.
        changed_at: RFC 3339, UTC.
        rolled_back: Set on a roll-back: the revision whose champion this plan withdrew.
    """

    model: str
    revision: int
    champion: str | None
    challenger: str | None = None
    mode: ChallengerMode = ChallengerMode.NONE
    canary_percent: float = 0.0
    pinned: tuple[str, ...] = ()
    author: str = "unknown"
    reason: str = ""
    changed_at: str = ""
    rolled_back: int | None = None
    schema_version: int = TRAFFIC_SCHEMA_VERSION

    def __post_init__(self) -> None:
        """Refuse plans that cannot be followed.

        Raises:
            ValueError: says which field and why.
        """
        if not 0.0 <= self.canary_percent <= 100.0:
            raise ValueError(f"canary_percent is {self.canary_percent}: it must lie in 0..100")
        if self.mode is not ChallengerMode.NONE and self.challenger is None:
            raise ValueError(f"mode '{self.mode}' needs a challenger")

    @property
    def challenger_percent(self) -> float:
        """Share of the requests that reach the challenger, 0..100."""
        if self.mode is ChallengerMode.SHADOW:
            return self.canary_percent or 100.0
        return self.canary_percent if self.mode is ChallengerMode.CANARY else 0.0

    @property
    def versions(self) -> tuple[str, ...]:
        """Every version that must be loaded to follow the plan, champion first, none twice."""
        named = (self.champion, self.challenger, *self.pinned)
        return tuple(dict.fromkeys(v for v in named if v is not None))
