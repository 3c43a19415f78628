"""Which audited inputs belong to the gate: those are never trained on.

Random audit items are the only labels on which "better" can be asked, and the best ones to train on, too. So they are
shared out, by group and by lot: of all groups of near-duplicates that hold an audited item, a fixed share belongs to
the gate. The lot is a hash of the group's name, so that training and gate decide alike without asking each other, on
any machine and in any order.

What groups are can change after a training (a new case joins two of them). Therefore the gate also leaves out every
row that the candidate's or the champion's snapshot was trained on: see `monitoring.gate.sets`.
"""

from __future__ import annotations

import xxhash

SHARE = 0.5  # of the audited groups
_SALT = "hardcase gate"


def held_out(group: str, share: float = SHARE) -> bool:
    """Whether the audited items of a group belong to the gate.

    Args:
        group: The case that stands for the group (`cases.group_id`); the case itself where it has none.
        share: Of the groups, 0 to 1.

    Example:
        >>> held_out("a", 1.0), held_out("a", 0.0)
        (True, False)
        >>> sum(held_out(f"{i:016x}") for i in range(1000))
        500
    """
    return xxhash.xxh64_intdigest(f"{_SALT}\0{group}".encode()) < share * 2.0**64
