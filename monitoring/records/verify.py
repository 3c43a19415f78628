"""Check a record log from end to end and explain in words what is wrong with it: `hardcase records verify`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from monitoring.records.counters import Accounting
from monitoring.records.cursor import Cursor, source_state
from monitoring.records.folders import list_sources
from monitoring.records.frames import Kind
from monitoring.records.reader import settle
from monitoring.records.scan import Damage, DamageKind

_WORDS = {
    DamageKind.TORN: "expected after a kill; nothing to do, its records are counted as lost in the crash",
    DamageKind.CHECKSUM: "the storage changed or lost bytes: check the disk; the other frames are readable",
    DamageKind.MISSING: "something deleted or cut the file: only the log's own retention may delete segments",
    DamageKind.FOREIGN: "the file was swapped, renamed or restored from elsewhere: put the right one back",
    DamageKind.REPEATED: "the file was edited or stitched together; the repetition was left out",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceReport:
    """What was found in one source.

    Attributes:
        records: Records that can be read now.
        deleted: Records in acknowledged segments that retention has deleted.
        damages: What had to be left out; a torn end alone leaves the source `ok`.
        problems: Everything that is wrong, one sentence each.
    """

    source: str
    replica: str
    alive: bool
    clean: bool
    segments: int
    frames: int
    records: int
    deleted: int
    feedback: int
    events: int
    accounting: Mapping[tuple[str, str], Accounting]
    damages: tuple[Damage, ...]
    problems: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether everything that was written can be read, and the account balances."""
        return not self.problems


@dataclass(frozen=True, kw_only=True, slots=True)
class VerifyReport:
    """What was found under a root."""

    sources: tuple[SourceReport, ...]

    @property
    def ok(self) -> bool:
        """Whether every source is."""
        return all(s.ok for s in self.sources)


def verify(root: Path, source: str | None = None) -> VerifyReport:
    """Read every frame of one source, or of all; changes nothing.

    Raises:
        FileNotFoundError: there is no such source.
    """
    names = list_sources(Path(root))
    if source is not None:
        if source not in names:
            raise FileNotFoundError(f"there is no record log source '{source}'")
        names = (source,)
    return VerifyReport(sources=tuple(_verify(Path(root) / name) for name in names))


def _verify(directory: Path) -> SourceReport:
    state = source_state(directory)
    alive = state.committed is not None
    cursor = Cursor(directory, state.incarnation, None)
    frames = 0
    counts = {Kind.RECORDS: 0, Kind.FEEDBACK: 0, Kind.EVENT: 0}
    while (item := cursor.advance(state)) is not None:
        frames += 1
        counts[item[0].kind] += item[0].count
    damages = tuple(sorted(cursor.take_damages()))
    deleted = sum(count for _, _, count in cursor.totals_before)
    cursor.close()
    problems = [f"segment {d.segment} at byte {d.offset}: {d.reason}. {_hint(d)}" for d in damages if _is_problem(d)]
    accounting: Mapping[tuple[str, str], Accounting] = {}
    if state.counters is None:
        problems.append("the counter file is missing or damaged, so losses in a crash cannot be known")
    if alive:
        accounting = state.counters.slots if state.counters else {}
        captured = sum(a.captured for a in accounting.values())
        # The counters were read first, and counted only after the commit that bounds the reading.
        if counts[Kind.RECORDS] + deleted < captured and not damages:
            problems.append(f"the counters say {captured} records, the log holds {counts[Kind.RECORDS] + deleted}")
    else:
        accounting = settle(directory, state)
        for (model, version), account in accounting.items():
            if account.lost_corrupt:
                name = f"model '{model}' version '{version}'" if model else "requests for no known model"
                problems.append(f"{name}: {account.lost_corrupt} written record(s) cannot be read any more")
    return SourceReport(
        source=directory.name,
        replica=state.counters.replica if state.counters else "",
        alive=alive,
        clean=state.clean,
        segments=len(state.numbers),
        frames=frames,
        records=counts[Kind.RECORDS],
        deleted=deleted,
        feedback=counts[Kind.FEEDBACK],
        events=counts[Kind.EVENT],
        accounting=accounting,
        damages=damages,
        problems=tuple(problems),
    )


def _is_problem(damage: Damage) -> bool:
    return damage.kind is not DamageKind.TORN


def _hint(damage: Damage) -> str:
    words = _WORDS[damage.kind]
    return f"{words[0].upper()}{words[1:]}."
