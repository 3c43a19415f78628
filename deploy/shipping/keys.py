"""Where the record log is in the bucket.

records/<source>/p/<segment>-<start>-<end>   bytes of a segment, as they stand in the writer's file
records/<source>/counters                    the writer's counters, written after the bytes that they cover
records/<source>/dead                        the writer is dead and everything it left is there
records/<source>/closed                      the receiver has given the source up: nothing more is taken
nodes/<node>                                 what a machine sent last, and up to which time it has sent everything
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass

from monitoring.records.folders import incarnation_of

RECORDS = "records/"
NODES = "nodes/"
_PIECE = re.compile(r"records/([^/]+)/p/(\d{8})-(\d{12})-(\d{12})")
_MARK = re.compile(r"records/([^/]+)/(counters|dead|closed)")


@dataclass(frozen=True, order=True, slots=True)
class Piece:
    """A range of a segment's file."""

    segment: int
    start: int
    end: int

    def key(self, source: str) -> str:
        """Its object."""
        return f"{RECORDS}{source}/p/{self.segment:08d}-{self.start:012d}-{self.end:012d}"


@dataclass(frozen=True, kw_only=True)
class Beat:
    """What a machine says about itself after every round.

    Attributes:
        as_of_ns: Wall clock when the round began: what was committed by then has been sent.
        sources: Living sources, and dead ones that were not sent to their end.
        targets: `host:port` of replicas that this machine knows of, for Prometheus.
    """

    as_of_ns: int
    sources: tuple[str, ...]
    targets: tuple[str, ...] = ()

    def dump(self) -> bytes:
        """As an object."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def load(cls, data: bytes) -> Beat:
        """The inverse of `dump`."""
        plain = json.loads(data)
        return cls(
            as_of_ns=int(plain["as_of_ns"]),
            sources=tuple(str(s) for s in plain["sources"]),
            targets=tuple(str(t) for t in plain.get("targets", ())),
        )


def piece_of(key: str) -> tuple[str, Piece] | None:
    """Source and piece of a key; None for another key, and for a source whose name is none."""
    match = _PIECE.fullmatch(key)
    if match is None or incarnation_of(match[1]) is None:
        return None
    return match[1], Piece(int(match[2]), int(match[3]), int(match[4]))


def mark_of(key: str) -> tuple[str, str] | None:
    """Source and kind of a mark ("counters", "dead", "closed"); None for another key."""
    match = _MARK.fullmatch(key)
    return (match[1], match[2]) if match is not None and incarnation_of(match[1]) is not None else None


def mark(source: str, kind: str) -> str:
    """Key of a mark."""
    return f"{RECORDS}{source}/{kind}"
