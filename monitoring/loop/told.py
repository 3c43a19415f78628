"""Whom the loop tells: notices of stages that somebody may want to know of."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

from monitoring.loop.contracts import Stage
from monitoring.notify.contracts import Notice, NoticeKind, Severity
from monitoring.notify.outbox import announce

if TYPE_CHECKING:
    from monitoring.loop.rows import TurnRow

_TOLD = {
    Stage.ASKED: (NoticeKind.TRAINING_ASKED, Severity.WARNING, "may be trained again when somebody approves"),
    Stage.TRAINING: (NoticeKind.TRAINING_STARTED, Severity.INFO, "is being trained again"),
    Stage.FAILED: (NoticeKind.TRAINING_FAILED, Severity.WARNING, "could not be trained again"),
    Stage.CANCELLED: (NoticeKind.TRAINING_CANCELLED, Severity.INFO, "is not trained again: it was cancelled"),
    Stage.REJECTED: (NoticeKind.GATE_REJECTED, Severity.WARNING, "has a candidate that the gate did not pass"),
    Stage.PROMOTED: (NoticeKind.LOOP_PROMOTED, Severity.INFO, "has a new champion"),
    Stage.ROLLED_BACK: (NoticeKind.LOOP_ROLLED_BACK, Severity.WARNING, "keeps its champion: the roll-out was undone"),
}


def announce_stage(connection: sa.Connection, turn: TurnRow, says: str, now_ns: int) -> None:
    """Tell of a turn that has come to this stage, where that is of interest; in the transaction that moves it."""
    if turn.stage not in _TOLD:
        return
    kind, severity, what = _TOLD[turn.stage]
    announce(
        connection,
        Notice(
            event=f"loop:{turn.id}:{turn.stage.value}",
            kind=kind,
            severity=severity,
            time_ns=now_ns,
            title=f"{turn.model} {what}",
            text=says,
            model=turn.model,
            version=turn.version,
            page=f"/loop/{turn.id}",
            data={"training": turn.id, "number": turn.number, "stage": turn.stage.value},
        ),
    )


def announce_suggestion(connection: sa.Connection, model: str, decision: int, words: str, now_ns: int) -> None:
    """A model should be trained again, and has no trainer."""
    announce(
        connection,
        Notice(
            event=f"loop:suggested:{decision}",
            kind=NoticeKind.TRAINING_SUGGESTED,
            severity=Severity.WARNING,
            time_ns=now_ns,
            title=f"{model} should be trained again, and has no trainer",
            text=words,
            model=model,
            page="/loop",
            data={"decision": decision},
        ),
    )
