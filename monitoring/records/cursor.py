"""A place in a source that moves from frame to frame across segments."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from monitoring.records.counters import CounterSnapshot, Global, read_counters
from monitoring.records.folders import Position, acknowledged, incarnation_of, is_locked
from monitoring.records.frames import Kind, SegmentHeader, segment_numbers
from monitoring.records.scan import Damage, DamageKind, RawFrame, SegmentScan

_NO_LIMIT = 1 << 62


@dataclass(frozen=True, slots=True)
class SourceState:
    """A source as it was at one moment.

    Attributes:
        committed: (segment, offset) up to which a living writer's log may be read; None for a dead one.
        acknowledged_segment: Segments below this may have been deleted on purpose.
    """

    incarnation: str
    counters: CounterSnapshot | None
    committed: tuple[int, int] | None
    numbers: tuple[int, ...]
    acknowledged_segment: int

    @property
    def clean(self) -> bool:
        """Whether the writer was closed in order."""
        return self.counters is not None and bool(self.counters.globals[Global.CLEAN])


def source_state(directory: Path) -> SourceState:
    """Look at a source. The order matters: who was dead before we listed the files writes no more."""
    alive = is_locked(directory)
    counters = read_counters(directory)
    committed = None
    if alive:
        committed = counters.committed if counters else (0, 0)
    done = acknowledged(directory)
    return SourceState(
        incarnation=counters.incarnation if counters else incarnation_of(directory.name) or "",
        counters=counters,
        committed=committed,
        numbers=tuple(segment_numbers(directory)),
        acknowledged_segment=done.segment if done else 0,
    )


class Cursor:
    """Moves over the data frames of a source.

    Attributes:
        position: Behind the last frame that was returned; None at the beginning.
        totals_before: Records in segments before the first one that was read, as (model, version, records).
    """

    def __init__(self, directory: Path, incarnation: str, after: Position | None) -> None:
        self.position = after
        self.totals_before: tuple[tuple[str, str, int], ...] = ()
        self._directory = directory
        self._incarnation = incarnation
        self._scan: SegmentScan | None = None
        self._skip_to = after.offset if after else 0  # in the segment of `after`: read again for its schemas only
        self._damages: list[Damage] = []
        self._seen: list[Damage] = []  # of the segment at hand
        self._first = True
        self._bound: tuple[SourceState, int, tuple[int, bool, bool]] | None = None
        self._last: tuple[int, int | None] = (0, None)  # segment and sequence at which the scan before ended
        self._last_chain: int | None = None  # ... and its chain, when nothing in it was damaged

    @property
    def position_now(self) -> Position:
        """The position after a frame was returned."""
        if self.position is None:
            raise ValueError("no frame has been returned yet")
        return self.position

    def close(self) -> None:
        """Close the file."""
        if self._scan is not None:
            self._scan.close()

    def take_damages(self) -> list[Damage]:
        """What was left out since the last call."""
        damages, self._damages = self._damages, []
        return damages

    def advance(self, state: SourceState) -> tuple[RawFrame, bytes] | None:
        """The next data frame, with the schema message of a record frame; None at the end of what can be read."""
        while True:
            scan = self._scan or self._open_next(state)
            if scan is None:
                return None
            limit, closed, ends = self._limit(scan.number, state)
            raw = scan.next(limit, closed=closed)
            if raw is None:
                self._collect(scan, state)
                if not ends:
                    return None
                self._leave(scan, state)
                continue
            if raw.kind is Kind.SEGMENT:
                self._enter(scan, state)
            self._collect(scan, state)
            if not raw.kind.is_data or (self.position and raw.sequence <= self.position.sequence):
                continue
            schema = b""
            if raw.kind is Kind.RECORDS:
                schema_id = int.from_bytes(raw.payload[:4], "little")
                schema = scan.schemas.get(schema_id, b"")
                if not schema:
                    length = raw.end - raw.offset
                    reason = "records whose schema frame is damaged"
                    self._note(scan, Damage(scan.number, raw.offset, length, DamageKind.CHECKSUM, reason))
                    continue
            self.position = Position(scan.number, raw.end, raw.sequence)
            return raw, schema

    def _open_next(self, state: SourceState) -> SegmentScan | None:
        """The scan of the next segment that exists and may be read."""
        floor = self._last[0] + 1
        if self._first and self.position is not None:
            floor = self.position.segment
        ceiling = state.committed[0] if state.committed is not None else _NO_LIMIT
        for number in state.numbers:
            if not floor <= number <= ceiling:
                continue
            scan = SegmentScan(self._directory, number, self._incarnation)
            if not scan.open():
                continue
            self._missing(floor, number, state)
            if self.position is not None and number > self.position.segment:
                self._skip_to = 0
            self._scan = scan
            self._first = False
            return scan
        return None

    def _missing(self, floor: int, number: int, state: SourceState) -> None:
        """Note segments between two that exist, unless they were acknowledged and so may be gone."""
        start = max(floor, state.acknowledged_segment, 1)
        for gone in range(start, number):
            self._damages.append(Damage(gone, 0, 0, DamageKind.MISSING, "the segment's file is missing"))

    def _limit(self, number: int, state: SourceState) -> tuple[int, bool, bool]:
        """How far a segment may be read, whether that part is finished, and whether the segment ends there."""
        if self._bound is not None and self._bound[0] is state and self._bound[1] == number:
            return self._bound[2]
        bound = self._find_limit(number, state)
        self._bound = (state, number, bound)
        return bound

    def _find_limit(self, number: int, state: SourceState) -> tuple[int, bool, bool]:
        following = next((n for n in state.numbers if n > number), None)
        if state.committed is not None:
            segment, offset = state.committed
            if number >= segment:
                return (offset if number == segment else 0), True, False
        if state.clean and state.counters is not None:
            # A writer that closed in order said where its log ends; what lies behind it had been given up.
            segment, offset = state.counters.committed
            if number >= segment:
                return (offset if number == segment else 0), True, True
        if following is None:
            return _NO_LIMIT, True, True
        header = self._header(following)
        if header is None or header.previous > number:
            return _NO_LIMIT, True, True
        return (header.previous_end if header.previous == number else 0), True, True

    def _header(self, number: int) -> SegmentHeader | None:
        scan = SegmentScan(self._directory, number, self._incarnation)
        if not scan.open():
            return None
        raw = scan.next(_NO_LIMIT, closed=False)
        scan.close()
        return scan.header if raw is not None and raw.kind is Kind.SEGMENT else None

    def _enter(self, scan: SegmentScan, state: SourceState) -> None:
        """A header was read: does the segment continue the one before?"""
        header = scan.header
        if header is None:
            return
        last, sequence = self._last
        if not last:
            # Segments that are gone without an acknowledgement were not deleted by retention: records are missing.
            if self.position is None and scan.number <= max(1, state.acknowledged_segment):
                self.totals_before = header.totals
        elif header.previous == last and sequence is not None and header.previous_sequence > sequence:
            missing = header.previous_sequence - sequence
            reason = f"{missing} frame(s) at the segment's end are missing"
            self._damages.append(Damage(header.previous, 0, 0, DamageKind.MISSING, reason))
        elif header.previous == last and self._last_chain not in (None, header.previous_chain):
            reason = "the segment is whole, and is not the one that the next segment continues"
            self._damages.append(Damage(header.previous, 0, 0, DamageKind.FOREIGN, reason))

    def _leave(self, scan: SegmentScan, state: SourceState) -> None:
        """A closed segment was read to its end."""
        limit = min(scan.size(), self._limit(scan.number, state)[0])
        if not scan.frames and limit and not self._is_killed_end(scan, state):
            reason = "nothing in the file verifies as this segment of this log"
            self._note(scan, Damage(scan.number, 0, limit, DamageKind.FOREIGN, reason))
        if state.clean and state.counters is not None:
            segment, offset = state.counters.committed
            if scan.number == segment and scan.offset < offset:
                reason = "the log was closed in order, and ends before its last committed byte"
                self._note(scan, Damage(scan.number, scan.offset, offset - scan.offset, DamageKind.MISSING, reason))
        # An empty segment, given up by its writer, does not know the sequence; the one before it may.
        known = scan.sequence if scan.frames else self._last[1]
        if known is None and self.position is not None and scan.number <= self.position.segment:
            known = self.position.sequence
        self._last = (scan.number, known)
        self._last_chain = None if any(d.segment == scan.number for d in self._seen) else scan.chain
        self._seen.clear()
        scan.close()
        self._scan = None

    def _collect(self, scan: SegmentScan, state: SourceState) -> None:
        """Take over what the scan left out, and tell a torn end from damage."""
        if not scan.damages:
            return
        killed_end = self._is_killed_end(scan, state)
        self._seen += scan.damages
        for damage in scan.damages:
            at_end = damage.length and damage.offset + damage.length >= scan.size()
            if killed_end and at_end and damage.kind is DamageKind.CHECKSUM:
                reason = "the end of the log of a writer that was killed: a frame that was not finished"
                self._note(scan, replace(damage, kind=DamageKind.TORN, reason=reason))
            else:
                self._note(scan, damage)
        scan.damages.clear()

    def _is_killed_end(self, scan: SegmentScan, state: SourceState) -> bool:
        """Whether a segment is the one that a killed writer was at."""
        return state.committed is None and scan.number == state.numbers[-1] and not state.clean

    def _note(self, scan: SegmentScan, damage: Damage) -> None:
        if damage.offset + damage.length > self._skip_to or damage.segment != scan.number:
            self._damages.append(damage)
