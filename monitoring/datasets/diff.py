"""What differs between two snapshots, row by row. The difference from b to a is the inverse of that from a to b."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from export.dataset import Snapshot


class Change(StrEnum):
    """What became of a row."""

    ADDED = "added"
    REMOVED = "removed"
    RELABELLED = "relabelled"
    MOVED = "moved"  # into another split


_INVERSE = {Change.ADDED: Change.REMOVED, Change.REMOVED: Change.ADDED}


@dataclass(frozen=True, kw_only=True, slots=True)
class RowChange:
    """A row that differs. A row with another label and another split is in twice.

    Attributes:
        before: Label as JSON text, or split, in the first snapshot; None where the row is not in it.
        after: The same in the second.
        label: As JSON text, in the second; of a removed row in the first.
        source: The same.
        was: Label and source in the first; of an added row in the second.
    """

    row_id: str
    change: Change
    before: str | None
    after: str | None
    label: str
    source: str
    case_id: str
    was: tuple[str, str]

    @property
    def inverse(self) -> RowChange:
        """Seen from the other side."""
        label, source = self.was
        return replace(
            self,
            change=_INVERSE.get(self.change, self.change),
            before=self.after,
            after=self.before,
            label=label,
            source=source,
            was=(self.label, self.source),
        )


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Everything that differs, by row id.

    Attributes:
        same: Rows that are in both with one label and one split.
    """

    same: int
    rows: Sequence[RowChange]

    @property
    def counts(self) -> Mapping[Change, int]:
        """How many of each."""
        found = Counter(row.change for row in self.rows)
        return {change: found[change] for change in Change}

    def by_label(self) -> Mapping[str, Mapping[Change, int]]:
        """How many of each, by label as JSON text."""
        return self._by("label")

    def by_source(self) -> Mapping[str, Mapping[Change, int]]:
        """How many of each, by source."""
        return self._by("source")

    @property
    def inverse(self) -> Difference:
        """From the second to the first."""
        return Difference(same=self.same, rows=[row.inverse for row in self.rows])

    def _by(self, name: str) -> dict[str, dict[Change, int]]:
        found: dict[str, Counter[Change]] = {}
        for row in self.rows:
            found.setdefault(getattr(row, name), Counter())[row.change] += 1
        return {key: {change: found[key][change] for change in Change} for key in sorted(found)}


def diff(before: Snapshot, after: Snapshot) -> Difference:
    """From `before` to `after`."""
    old, new = _facts(before), _facts(after)
    rows: list[RowChange] = []
    same = 0
    for row_id in sorted(old.keys() | new.keys()):
        a, b = old.get(row_id), new.get(row_id)
        first, second = a or b, b or a
        if first is None or second is None:
            continue
        was = (first[0], first[2])
        given: dict[str, Any] = {"row_id": row_id, "label": second[0], "source": second[2], "was": was}
        given["case_id"] = second[3]
        if a is None or b is None:
            change = Change.ADDED if a is None else Change.REMOVED
            rows.append(RowChange(change=change, before=a and a[0], after=b and b[0], **given))
            continue
        if a[0] != b[0]:
            rows.append(RowChange(change=Change.RELABELLED, before=a[0], after=b[0], **given))
        if a[1] != b[1]:
            rows.append(RowChange(change=Change.MOVED, before=a[1], after=b[1], **given))
        same += a[:2] == b[:2]
    return Difference(same=same, rows=rows)


def _facts(snapshot: Snapshot) -> dict[str, tuple[str, str, str, str]]:
    table = snapshot.table(columns=["row_id", "label", "split", "source", "case_id"])
    columns = [table[name].to_pylist() for name in ("label", "split", "source", "case_id")]
    return dict(zip(table["row_id"].to_pylist(), zip(*columns, strict=True), strict=True))
