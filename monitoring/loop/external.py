"""Turns of the loop that begin with a package from elsewhere: no training, but the same gate and roll-out."""

from __future__ import annotations

import sqlalchemy as sa

from monitoring.loop import rows, writes
from monitoring.loop.contracts import Stage
from monitoring.triggers.contracts import AlarmCondition, Decision, Evidence, Reason, TriggerPolicy, Verdict


def insert_external(
    connection: sa.Connection,
    *,
    model: str,
    version: str,
    digest: str,
    champion: str,
    origin: str,
    reason: str,
    now_ns: int,
    snapshot_digest: str = "",
) -> str:
    """Begin a turn with a version that is registered already; the gate is next.

    Args:
        connection: Of the writing transaction.
        model: Its name.
        version: The candidate, as the registry has it.
        digest: Of its package.
        champion: That it is held against.
        origin: Where it comes from; stands in the place of the trainer, and of who decided.
        reason: Why, in one sentence.
        now_ns: The clock.
        snapshot_digest: What it says it was trained on; "" where it says nothing.

    Returns:
        Id of the turn.

    Raises:
        Conflict: the model has a turn that has not ended.
    """
    verdict = Verdict(
        decision=Decision.RETRAIN, reasons=(Reason(name="registered", holds=True, words=reason),), words=reason
    )
    evidence = Evidence(now_s=now_ns / 1e9)
    policy = TriggerPolicy(condition=AlarmCondition(), min_labels=0)  # asked nothing: somebody else decided
    decision, _ = writes.note_decision(connection, model, verdict, evidence, policy, now_ns, origin)
    plan = writes.Plan(champion=champion, trainer=origin, seed=0, budget_s=0.0, silence_s=0.0)
    turn = writes.begin(
        connection,
        model=model,
        decision=decision,
        verdict=verdict,
        evidence=evidence,
        plan=plan,
        now_ns=now_ns,
        actor=origin,
        reason=reason,
    )
    seen = rows.turn(connection, turn)
    writes.move(
        connection, seen, Stage.TRAINED, now_ns, version=version, digest=digest, snapshot_digest=snapshot_digest
    )
    return turn
