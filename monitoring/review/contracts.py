"""What review is made of: verdicts, standings, acts, and which changes are allowed.

The state machine (`monitoring.review.machine`) is pure: standing + decision → standing. The ledger applies it
under optimistic editions, writes the trail, and undoes.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from export.contracts.cases import CaseState

LEASE_S = 600
BULK_LIMIT = 50_000


class Verdict(StrEnum):
    """What a reviewer says of a case."""

    CORRECT = "correct"  # the model's answer is right
    LABEL = "label"  # the right answer is the decision's label (which may be the model's)
    WRONG = "wrong"  # the answer is wrong, and the right one is not known
    UNCLEAR = "unclear"  # cannot be told from what is there: somebody else shall look
    DISMISS = "dismiss"  # nothing to learn here


class ActKind(StrEnum):
    """What somebody did at once."""

    DECIDE = "decide"
    BULK = "bulk"
    IMPORT = "import"
    LEASE = "lease"
    RELEASE = "release"
    ASSIGN = "assign"
    PRIORITISE = "prioritise"
    OPINION = "opinion"  # asks for more reviewers
    TAG = "tag"
    COMMENT = "comment"
    UNDO = "undo"


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """Where a case stands with its reviewers: the columns of `cases` that people move.

    Attributes:
        state: As in the list of states.
        edition: Counts up with every change; who changes a case names the edition that was read.
        lease_by: Who has it, while `lease_until_ns` is not past; "" is nobody.
        lease_until_ns: When the lease ends; 0 without one.
        assignee: Who shall look; "" is anybody.
        priority: Above the queue's own order, higher first; 0 is usual.
        opinions: Reviewers who must agree before it is settled.
        verdict: The settled verdict, or "".
        label: The settled label as JSON text, or "".
        decided_by: Who settled it, or "".
        decided_ns: When; 0 while it is open.
    """

    state: CaseState = CaseState.OPEN
    edition: int = 0
    lease_by: str = ""
    lease_until_ns: int = 0
    assignee: str = ""
    priority: int = 0
    opinions: int = 1
    verdict: str = ""
    label: str = ""
    decided_by: str = ""
    decided_ns: int = 0
