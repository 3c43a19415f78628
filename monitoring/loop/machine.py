"""What a turn of the loop does next: a pure function of its stage and of what is seen outside.

The driver (`monitoring.loop.driver`) looks, asks `step`, does the act, and writes the new stage in one transaction. An
act that was done and not written, because the process died between the two, is done again: each is idempotent by the
turn's id, so the machine needs to know nothing of crashes.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from monitoring.gate.contracts import Outcome
from monitoring.loop.contracts import JobState, Stage


class Act(StrEnum):
    """What the driver is to do outside before it writes the new stage."""

    NONE = "none"
    BUILD = "build"  # the snapshot, and which version the package will have
    TRAIN = "train"  # write the request, start the training's job
    FOLLOW = "follow"  # take over what the job has said
    ADMIT = "admit"  # check the package and register it
    JUDGE = "judge"  # write the labelled sets, start the gate's job
    RECORD = "record"  # write down what the gate said
    ROLL_OUT = "roll_out"  # begin the roll-out
    STOP_JOB = "stop_job"
    STOP_ROLLOUT = "stop_rollout"


class RolloutEnd(StrEnum):
    """How a roll-out ended."""

    PROMOTED = "promoted"  # the candidate is the champion
    ROLLED_BACK = "rolled_back"  # on evidence
    WITHDRAWN = "withdrawn"  # a person ended it


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """A turn, and what is seen of it outside.

    Attributes:
        trainer: The model has one.
        approved: By a person, where that is needed.
        cancelled: A person wants it ended.
        approval_over: Nobody approved for too long.
        built: The snapshot is made.
        job: Of the stage's job; UNKNOWN where the stage has none.
        job_reason: Why it failed.
        overdue: The job took longer than its budget, and its executor did not end it.
        admitted: The package is registered.
        judged: What the gate said; None while nothing is written down.
        judged_words: ... in a sentence.
        rolling: The roll-out has begun.
        rollout: How it ended; None before.
        rollout_words: ... in a sentence.
    """

    stage: Stage
    trainer: bool = True
    approved: bool = False
    cancelled: bool = False
    approval_over: bool = False
    built: bool = False
    job: JobState = JobState.UNKNOWN
    job_reason: str = ""
    overdue: bool = False
    admitted: bool = False
    judged: Outcome | None = None
    judged_words: str = ""
    rolling: bool = False
    rollout: RolloutEnd | None = None
    rollout_words: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """What to do, and where the turn stands once that is done.

    Attributes:
        act: To be done first. When it is refused (`HardcaseError`) the turn ends as FAILED with the error's text.
        stage: Afterwards.
        problem: Why it ended without a promotion; "" otherwise.
    """

    act: Act
    stage: Stage
    problem: str = ""


def step(f: Facts) -> Step:
    """The next step. The same facts, the same step; a turn that has ended takes none."""
    if f.stage.ended:
        return Step(act=Act.NONE, stage=f.stage)
    if f.cancelled and not (f.stage is Stage.ROLLING_OUT and f.rollout is not None):
        return _end_it(f)
    match f.stage:
        case Stage.ASKED:
            return _asked(f)
        case Stage.REQUESTED:
            return _requested(f)
        case Stage.TRAINING:
            return _training(f)
        case Stage.TRAINED:
            return Step(act=Act.JUDGE, stage=Stage.GATING) if f.admitted else Step(act=Act.ADMIT, stage=Stage.TRAINED)
        case Stage.GATING:
            return _gating(f)
        case Stage.GATED:
            return Step(act=Act.ROLL_OUT, stage=Stage.ROLLING_OUT)
        case _:
            return _rolling_out(f)


def _end_it(f: Facts) -> Step:
    """A person wants it ended: whatever was, or may just have been, started outside is stopped first."""
    if f.stage in (Stage.GATED, Stage.ROLLING_OUT):
        act = Act.STOP_ROLLOUT
    elif f.stage is Stage.ASKED or (f.stage is Stage.REQUESTED and not f.built):
        act = Act.NONE
    else:
        act = Act.STOP_JOB
    return Step(act=act, stage=Stage.CANCELLED, problem="a person ended it")


def _asked(f: Facts) -> Step:
    if f.approved:
        return Step(act=Act.NONE, stage=Stage.REQUESTED)
    if f.approval_over:
        return Step(act=Act.NONE, stage=Stage.CANCELLED, problem="nobody approved it in time")
    return Step(act=Act.NONE, stage=Stage.ASKED)


def _requested(f: Facts) -> Step:
    if not f.trainer:
        return Step(act=Act.NONE, stage=Stage.FAILED, problem="no trainer is configured for this model")
    if not f.built:
        return Step(act=Act.BUILD, stage=Stage.REQUESTED)
    return Step(act=Act.TRAIN, stage=Stage.TRAINING)


def _training(f: Facts) -> Step:
    if f.job is JobState.UNKNOWN:  # whoever runs jobs has lost everything: the same job again
        return Step(act=Act.TRAIN, stage=Stage.TRAINING)
    if f.job is JobState.SUCCEEDED:
        return Step(act=Act.FOLLOW, stage=Stage.TRAINED)
    return _still(f, Stage.TRAINING, "the training")


def _gating(f: Facts) -> Step:
    if f.judged is Outcome.PASSED:
        return Step(act=Act.NONE, stage=Stage.GATED)
    if f.judged is not None:
        return Step(act=Act.NONE, stage=Stage.REJECTED, problem=f.judged_words or "the gate did not pass it")
    if f.job is JobState.UNKNOWN:
        return Step(act=Act.JUDGE, stage=Stage.GATING)
    if f.job is JobState.SUCCEEDED:
        return Step(act=Act.RECORD, stage=Stage.GATING)
    return _still(f, Stage.GATING, "the gate")


def _still(f: Facts, here: Stage, what: str) -> Step:
    """A job that runs, or has ended without success."""
    if f.job is JobState.FAILED:
        return Step(act=Act.FOLLOW, stage=Stage.FAILED, problem=f.job_reason or f"{what} failed")
    if f.job is JobState.CANCELLED:
        return Step(act=Act.FOLLOW, stage=Stage.CANCELLED, problem=f"{what} was cancelled")
    if f.overdue:
        return Step(act=Act.STOP_JOB, stage=Stage.FAILED, problem=f"{what} took longer than its budget")
    return Step(act=Act.FOLLOW, stage=here)


def _rolling_out(f: Facts) -> Step:
    if not f.rolling:
        return Step(act=Act.ROLL_OUT, stage=Stage.ROLLING_OUT)
    ends = {
        RolloutEnd.PROMOTED: Stage.PROMOTED,
        RolloutEnd.ROLLED_BACK: Stage.ROLLED_BACK,
        RolloutEnd.WITHDRAWN: Stage.CANCELLED,
    }
    if f.rollout is None:
        return Step(act=Act.NONE, stage=Stage.ROLLING_OUT)
    stage = ends[f.rollout]
    problem = "" if stage is Stage.PROMOTED else f.rollout_words or f"the roll-out ended as {f.rollout.value}"
    return Step(act=Act.NONE, stage=stage, problem=problem)
