"""How a snapshot is made: everything that decides what is in it, besides the log and what people decided."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from export.contracts import codec
from monitoring.gate.holdout import SHARE

PARENT = "parent"
NONE = "none"


class Labels(StrEnum):
    """Whose labels count."""

    ANY = "any"  # whatever holds of a record: feedback of clients, decisions of people
    REVIEWED = "reviewed"  # a person decided it here
    AGREED = "agreed"  # at least `opinions` people say the same, and nobody says something else


class SplitBy(StrEnum):
    """Which groups go into validation and test."""

    GROUP = "group"  # drawn by the groups' names, class by class
    TIME = "time"  # the newest


class Balance(StrEnum):
    """What is done about classes of different size, among training rows."""

    NONE = "none"
    WEIGHTS = "weights"  # every class has the same sum of weights


class Noise(StrEnum):
    """What is done about labels that look wrong (`monitoring.datasets.noise`)."""

    OFF = "off"
    LIST = "list"  # they are counted in the notes and kept
    DROP = "drop"  # they are left out


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """What goes into a snapshot.

    Attributes:
        name: Of the snapshot, for people.
        base: Whose rows are carried on: "parent" (the champion's snapshot), "none", or a snapshot's digest or id.
        base_rows: Of its rows at most so many, drawn class by class; 0: all.
        cases: Whether labelled cases are taken in.
        feedback: Whether records with a label that are no case are.
        audit: Whether random audit items are.
        labels: Whose labels count.
        opinions: People who must agree, of `Labels.AGREED`.
        slices: Only records of these slices; empty: of all.
        since: RFC 3339; only records from then on. "": all.
        until: RFC 3339; only records before. "": all.
        validation: Share of the rows for validation, of those that were in no split before.
        test: ... for test.
        split_by: Which ones.
        balance: What is done about classes of different size.
        class_rows: New rows of a class at most; 0: as many as there are.
        slice_rows: New rows of a slice at most; 0: as many as there are. A row counts for each slice that it is in.
        slice_quotas: The same for single slices.
        max_rows: New rows at most.
        new_share: Share of all training weight that the new rows have together; 0: every row weighs the same.
        noise: What is done about labels that look wrong.
        holdout_test_sets: Rows like one of a protected test set are left out.
        holdout_audit: Share of the groups with an audit item that belongs to the gate (`monitoring.gate.holdout`) and
            is left out, with what is like it.
        seed: Of whatever is drawn.

    Raises:
        ValueError: a share or number out of its range, or a time that is none.
    """

    name: str = ""
    base: str = PARENT
    base_rows: int = 0
    cases: bool = True
    feedback: bool = True
    audit: bool = True
    labels: Labels = Labels.ANY
    opinions: int = 2
    slices: tuple[str, ...] = ()
    since: str = ""
    until: str = ""
    validation: float = 0.2
    test: float = 0.0
    split_by: SplitBy = SplitBy.GROUP
    balance: Balance = Balance.NONE
    class_rows: int = 0
    slice_rows: int = 0
    slice_quotas: dict[str, int] = field(default_factory=dict)
    max_rows: int = 100_000
    new_share: float = 0.0
    noise: Noise = Noise.LIST
    holdout_test_sets: bool = True
    holdout_audit: float = SHARE
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ("validation", "test", "new_share"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ValueError(f"recipe.{name} must be at least 0 and below 1")
        if self.validation + self.test >= 1.0:
            raise ValueError("recipe.validation and recipe.test leave nothing to train on")
        for name in ("base_rows", "class_rows", "slice_rows"):
            if getattr(self, name) < 0:
                raise ValueError(f"recipe.{name} must not be negative")
        if not 0.0 <= self.holdout_audit <= 1.0:
            raise ValueError("recipe.holdout_audit must be between 0 and 1")
        if self.opinions < 1 or self.max_rows < 1 or any(n < 0 for n in self.slice_quotas.values()):
            raise ValueError("recipe.opinions and recipe.max_rows must be positive, quotas not negative")
        for name in ("since", "until"):
            if getattr(self, name):
                to_ns(getattr(self, name), f"recipe.{name}")

    def to_plain(self) -> dict[str, Any]:
        """As JSON, complete with its defaults."""
        plain: dict[str, Any] = codec.to_plain(Recipe.from_plain(codec.to_plain(self)))  # 0 and 0.0 are spelled alike
        return plain

    @classmethod
    def from_plain(cls, plain: Any) -> Recipe:
        """From JSON; what is not given has its default.

        Raises:
            ValueError: names the field.
        """
        return codec.from_plain(cls, plain, "recipe")

    @property
    def span_ns(self) -> tuple[int, int]:
        """From and to, nanoseconds since the epoch."""
        latest = (1 << 63) - 1  # what a column holds
        since = to_ns(self.since, "since") if self.since else 0
        until = to_ns(self.until, "until") if self.until else latest
        return min(max(since, 0), latest), min(max(until, 0), latest)


def to_ns(text: str, name: str) -> int:
    """An RFC 3339 time as nanoseconds since the epoch.

    Raises:
        ValueError: it is none.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{name}: {text[:64]!r} is no time, as 2026-05-01T12:00:00Z is one") from None
    if moment.tzinfo is None:
        raise ValueError(f"{name}: {text[:64]!r} says no time zone; end it with Z for UTC")
    delta = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (delta.days * 86_400 + delta.seconds) * 10**9 + delta.microseconds * 1000
