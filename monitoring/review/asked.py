"""What reviewers ask of the ledger, and what they get."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from monitoring.review.contracts import Standing, Verdict


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """What a reviewer says of one case.

    Attributes:
        edition: Of the case as it was read; None: as it stands.
        label: What is right, JSON-compatible; with `Verdict.LABEL`. A class name, a number, a list of labels or boxes
            of the case's row; or {"rows": [...]}, one entry a row of the record.
    """

    case: str
    verdict: Verdict
    edition: int | None = None
    label: Any = None
    comment: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """What became of a decision.

    Attributes:
        standing: How the case stands now; None where there is no such case.
        conflict: Why nothing was done; "" when it was.
    """

    case: str
    ok: bool
    standing: Standing | None
    conflict: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Decided:
    """What became of several decisions."""

    act: int
    results: tuple[Result, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Selection:
    """Which cases: exactly one of the four.

    Attributes:
        cases: Named one by one.
        filter: As `monitoring.listing.asked.terms_of` takes it.
        slice: Id of a slice: the cases among its records.
        like: Id of a case: it, and the cases whose embedding has at least `likeness` as cosine to its, the nearest
            `limit` of them.
    """

    cases: tuple[str, ...] | None = None
    filter: Mapping[str, Any] | None = None
    slice: str | None = None
    like: str | None = None
    likeness: float = 0.9
    limit: int = 500


@dataclass(frozen=True, kw_only=True, slots=True)
class Preview:
    """What a bulk decision would do.

    Attributes:
        count: Cases that would change.
        examples: Ids of the first of them.
        by: Of those that would change, how many were answered how.
        skipped: Of the others, how many why.
    """

    count: int
    examples: tuple[str, ...]
    by: Mapping[str, int]
    skipped: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Changed:
    """What became of an act over many cases.

    Attributes:
        act: Its id, to be undone by.
        changed: How many cases it changed.
        skipped: How many it left, by why.
    """

    act: int
    changed: int
    skipped: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Leased:
    """Cases that a reviewer has.

    Attributes:
        cases: Ids in the order of the queue.
        until_ns: When the lease ends.
        waiting: How many wait for anybody, these included.
    """

    cases: tuple[str, ...]
    until_ns: int
    waiting: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ImportedLabel:
    """A label that came from elsewhere.

    Attributes:
        case: Id of the case.
        reviewer: Who gave it, as the tool names them; "" is the importer.
    """

    case: str
    verdict: Verdict = Verdict.LABEL
    label: Any = None
    comment: str | None = None
    reviewer: str = ""


CaseIds = Sequence[str]
