"""A whole turn of the loop in the tables: a training with its metrics, its gate, its roll-out, its place in MLflow."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from monitoring import schema as t
from monitoring.gate.contracts import EvaluatedSet, GatePolicy, Measured, Outcome, SetKind
from monitoring.gate.decide import decide
from monitoring.gate.fit import contract
from monitoring.gate.job import GateResult, SetResult
from monitoring.gate.rows import record_gate
from monitoring.loop.contracts import Stage
from monitoring.loop.rows import STAGE_EVENT
from monitoring.store import Store
from tests.support.console_store import START_S, complete
from tests.support.gate_world import failed_gate
from tests.support.rollout_world import rollout_with_evidence

NS = 10**9
START = START_S * NS
TRAINING = "0123456789ab"
MLFLOW = "http://127.0.0.1:5000"
EPOCHS = 12


@dataclass(frozen=True, kw_only=True)
class WholeTurn:
    """Ids of everything."""

    training: str
    gate: str
    rollout: str


def whole_turn(store: Store, version: str, *, champion: str, snapshot: str, digest: str, rows: int) -> WholeTurn:
    """Write it; the roll-out is under way, in its first canary step."""
    rollout = rollout_with_evidence(store, "digits", version, champion)
    gate = passed_gate(version, champion)
    decision = {
        "model": "digits", "time_ns": START, "last_ns": START + 900 * NS, "looks": 31, "decision": "retrain",
        "actor": "hardcase", "words": "an alarm fires, and 74 labelled failures are new", "evidence": {}, "policy": {},
        "reasons": [{"name": "alarm", "holds": True, "words": "the alarm of version 2 fires since 06:41"},
                    {"name": "failures", "holds": True, "words": "74 new failures, 60 are asked for"},
                    {"name": "cool_down", "holds": True, "words": "the last training ended 9 days ago"}],
    }  # fmt: skip
    row = {
        "id": TRAINING, "model": "digits", "number": 4, "flight": "digits", "stage": Stage.ROLLING_OUT.value,
        "stage_ns": START + 400 * NS, "asked_ns": START + 900 * NS, "actor": "hardcase", "champion": champion,
        "reason": "an alarm fires, and 74 labelled failures are new", "trainer": "digits", "seed": 7, "budget_s": 600.0,
        "silence_s": 60.0, "parameters": {"lr": 0.01}, "recipe": {}, "version": version, "snapshot": snapshot,
        "snapshot_digest": digest, "rows": rows, "labels": 74, "digest": "sha256:" + "2" * 64, "gate_id": gate.id,
        "gate_words": gate.words, "rollout_id": rollout, "requested_ns": START + 901 * NS, "began_ns": START + 903 * NS,
        "trained_ns": START + 960 * NS, "step": EPOCHS, "steps": EPOCHS, "place": "process 4711",
        "metrics": {"loss": 0.08, "val_accuracy": 0.97},
    }  # fmt: skip
    with store.write() as connection:
        made = connection.execute(t.trigger_decisions.insert().values(**complete(t.trigger_decisions, decision)))
        row["decision_id"] = made.inserted_primary_key[0]
        connection.execute(t.trainings.insert().values(**complete(t.trainings, row)))
        connection.execute(t.training_events.insert(), _events())
        record_gate(connection, gate, now_ns=START + 1000 * NS)
        version_row = {"model": "digits", "version": version, "name": "digits", "number": "7", "run": "f" * 32}
        connection.execute(t.experiment_versions.insert().values(**version_row, digest=""))
        run = {"training_id": TRAINING, "experiment": "3", "run": "f" * 32, "metrics": 24, "complete": False}
        connection.execute(t.experiment_runs.insert().values(**run, digest="", problem=""))
    return WholeTurn(training=TRAINING, gate=gate.id, rollout=rollout)


def passed_gate(version: str, champion: str) -> GateResult:
    """A verdict on three sets, with a slice that is seen and one that is too small; 40 gained, 6 lost."""
    rng = np.random.default_rng(1)
    sets = []
    for name, kind, n, before, gained in (
        ("audited", SetKind.AUDITED, 420, 0.70, 0.85),
        ("golden", SetKind.GOLDEN, 300, 0.95, 0.5),
        ("failures: turned digits, November", SetKind.FAILURES, 80, 0.2, 0.9),
    ):
        was = (rng.random(n) < before).astype(float)
        now = np.where(was > 0, rng.random(n) > 0.01, rng.random(n) < gained).astype(float)
        slices = {"camera = 2": np.arange(n) % 3 == 0, "class = eight": np.arange(n) % 9 == 0}
        ids = tuple(f"{name[:3]}-{i:04d}" for i in range(n))
        sets.append(EvaluatedSet(name=name, kind=kind, champion=was, candidate=now, ids=ids, slices=slices))
    costs = [Measured(name="latency_p50_ms", champion=0.31, candidate=0.33, limit=1.5),
             Measured(name="size_mib", champion=0.9, candidate=0.9, limit=2.0)]  # fmt: skip
    verdict = decide(sets, costs, GatePolicy(), [contract("inputs", Outcome.PASSED, "takes every request")])
    base = failed_gate()
    return replace(
        base,
        id="g-whole",
        training_id=TRAINING,
        champion=replace(base.champion, version=champion, digest="sha256:" + "1" * 64),
        candidate=replace(base.candidate, version=version, digest="sha256:" + "2" * 64),
        outcome=verdict.outcome,
        words=verdict.words,
        checks=verdict.checks,
        negative_flips=verdict.negative_flips,
        positive_flips=verdict.positive_flips,
        seconds={"all": 6.4},
        sets=tuple(
            SetResult(
                name=s.name, kind=s.kind, source=s.name, inputs=len(s.ids), digest="sha256:" + "3" * 64,
                champion={"accuracy": float(s.champion.mean())}, candidate={"accuracy": float(s.candidate.mean())},
                unusable=0, trained_on=0, used=0,
            )
            for s in sets
        ),
    )  # fmt: skip


def _events() -> list[dict[str, object]]:
    """Stages, a curve of loss and one of accuracy."""
    found: list[dict[str, object]] = [
        {"time_ns": START + (900 + i) * NS, "kind": STAGE_EVENT, "name": stage.value, "text": ""}
        for i, stage in enumerate((Stage.REQUESTED, Stage.TRAINING))
    ]
    for step in range(1, EPOCHS + 1):
        at = START + (903 + 4 * step) * NS
        for name, value in (("loss", 2.2 * math.exp(-step / 4)), ("val_accuracy", 0.97 - 0.6 * math.exp(-step / 3))):
            found.append({"time_ns": at, "kind": "metric", "name": name, "value": value, "step": step, "text": ""})
    for i, stage in enumerate((Stage.TRAINED, Stage.GATING, Stage.GATED, Stage.ROLLING_OUT)):
        found.append({"time_ns": START + (960 + i) * NS, "kind": STAGE_EVENT, "name": stage.value, "text": ""})
    return [
        complete(
            t.training_events, {"training_id": TRAINING, "number": i, "step": None, "name": None, "value": None} | e
        )
        for i, e in enumerate(found)
    ]
