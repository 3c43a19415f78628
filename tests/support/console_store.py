"""A store filled with a day in the life of a digits model, straight into the tables: for tests of API and console.

The pictures are scikit-learn's real digits; the last third of the day they are turned by 90 degrees. `Day` says what
was put in, so that a test can ask for it.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa

from export.contracts.datatypes import Datatype
from export.contracts.manifest import (
    FileRole,
    Manifest,
    PackageFile,
    Provenance,
    RuntimeFile,
    RuntimeKind,
    Task,
    TaskKind,
)
from export.contracts.signature import InputDisplay, InputKind, InputSpec, OutputRole, OutputSpec, Signature
from export.contracts.traffic import TrafficPlan
from monitoring import schema as t
from monitoring.api.options import IngestHealth
from monitoring.keys import case_id, record_hash
from monitoring.store import FIXED_POINT, Store
from monitoring.windows import WindowStats

START_S = 1_772_000_040  # 2026-02-25T06:14:00Z
CLASSES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


# Statistics that another layout counted: the pages say that there is nothing to compare.
NO_STATS = WindowStats(
    layout="made up", **{f.name: np.zeros(0, np.int64) for f in dataclasses.fields(WindowStats) if f.name != "layout"}
).encode()


def manifest(name: str = "digits", version: str = "2", classes: tuple[str, ...] = CLASSES) -> Manifest:
    display = InputDisplay(kind=InputKind.IMAGE, layout="CHW", value_range=(0.0, 16.0))
    x = InputSpec(name="x", datatype=Datatype.FP32, shape=(-1, 1, 8, 8), display=display)
    y = OutputSpec(name="logits", datatype=Datatype.FP32, shape=(-1, 10), role=OutputRole.LOGITS)
    return Manifest(
        name=name,
        version=version,
        task=Task(kind=TaskKind.CLASSIFICATION, class_names=classes),
        signature=Signature(inputs=(x,), outputs=(y,)),
        runtimes=(RuntimeFile(kind=RuntimeKind.ONNX, path="model.onnx"),),
        files=(PackageFile(path="model.onnx", role=FileRole.WEIGHTS, sha256="0" * 64, size_bytes=1),),
        provenance=Provenance(created_at="2026-02-01T00:00:00Z", source="test"),
    )


@dataclass(kw_only=True)
class MemoryCatalogue:
    """A catalogue of what it is given."""

    manifests: tuple[Manifest, ...] = ()
    champion: str | None = "2"
    reference: Path | None = None

    def models(self) -> tuple[str, ...]:
        return tuple(sorted({m.name for m in self.manifests}))

    def versions(self, model: str) -> tuple[str, ...]:
        return tuple(m.version for m in self.manifests if m.name == model)

    def manifest(self, model: str, version: str) -> Manifest | None:
        return next((m for m in self.manifests if (m.name, m.version) == (model, version)), None)

    def reference_dir(self, model: str, version: str) -> Path | None:
        return self.reference if self.manifest(model, version) else None

    def plan(self, model: str) -> TrafficPlan | None:
        if model not in self.models():
            return None
        return TrafficPlan(model=model, revision=3, champion=self.champion, author="ann", reason="better on noise")


@dataclass(kw_only=True)
class StillMonitor:
    """A monitor that is as it is told to be."""

    state: IngestHealth = field(default_factory=lambda: IngestHealth(heartbeat_age_s=0.3, records=7200))

    def health(self) -> IngestHealth:
        return self.state


@dataclass(frozen=True, kw_only=True)
class Day:
    """What `fill` put in."""

    windows: int
    case_ids: tuple[str, ...]
    record_ids: tuple[str, ...]
    texts: tuple[str, ...] = ()


def fill(
    store: Store,
    *,
    seed: int = 5,
    windows: int = 90,
    cases: int = 130,
    texts: tuple[str, ...] = (),
) -> Day:
    """Fill the store. `texts` are put into every captured string, one after the other."""
    rng = np.random.default_rng(seed)
    text = _Cycle(texts)
    with store.write() as connection:
        for version, share in (("1", 0.15), ("2", 0.85)):
            made = connection.execute(
                t.versions.insert().values(
                    model="digits",
                    version=version,
                    digest="sha256:" + version * 64,
                    first_ns=START_S * 10**9,
                    last_ns=(START_S + windows * 60) * 10**9,
                )
            )
            version_id = int(made.inserted_primary_key[0])
            made_windows, signals = [], []
            for i in range(windows):
                made_windows.append(_window(rng, version_id, i, windows, share))
                signals += _signals(rng, version_id, i, windows)
            connection.execute(t.windows.insert(), made_windows)
            connection.execute(t.signals.insert(), signals)
        rows, tensors, feedback = _cases(rng, windows, cases, text)
        connection.execute(t.cases.insert(), [complete(t.cases, r) for r in rows])
        connection.execute(t.case_tensors.insert(), tensors)
        connection.execute(t.feedback.insert(), feedback)
        connection.execute(t.records.insert(), [_record(r, version_id) for r in rows])
        connection.execute(
            t.accounting.insert(),
            complete(
                t.accounting,
                {
                    "source": "r-1",
                    "model": "digits",
                    "version": "2",
                    "requests": 7230,
                    "captured": 7200,
                    "dropped": {"buffer_full": 25},
                    "lost": 5,
                    "ingested": 7200,
                },
            ),
        )
        connection.execute(
            t.events.insert(),
            complete(
                t.events,
                {
                    "source": "r-1",
                    "sequence": 1,
                    "time_ns": START_S * 10**9,
                    "kind": "version_ready",
                    "model": "digits",
                    "version": "2",
                    "detail": {"load_s": 0.21, "note": text("loaded")},
                },
            ),
        )
    return Day(
        windows=windows,
        case_ids=tuple(r["id"] for r in rows),
        record_ids=tuple(r["record_id"] for r in rows),
        texts=texts,
    )


class _Cycle:
    def __init__(self, texts: tuple[str, ...]) -> None:
        self._texts, self._at = texts, 0

    def __call__(self, usual: str) -> str:
        if not self._texts:
            return usual
        self._at += 1
        return self._texts[self._at % len(self._texts)]


def complete(table: sa.Table, values: dict[str, Any]) -> dict[str, Any]:
    """Values with zero, false or empty for the required columns that a test does not care about."""
    return _required(table) | values


@cache
def _required(table: sa.Table) -> dict[str, Any]:
    plain: dict[type, Any] = {bool: False, int: 0, float: 0.0, str: "", object: {}, bytes: b""}
    return {
        c.name: plain[c.type.python_type]
        for c in table.columns
        if not c.nullable and not (c.primary_key and c.autoincrement is True)
    }


def _window(rng: np.random.Generator, version_id: int, i: int, windows: int, share: float) -> dict[str, Any]:
    shifted = i >= windows * 2 // 3
    requests = int(rng.poisson(80 * share * (1 + 0.4 * np.sin(i / 9))))
    failed = int(rng.random() < 0.1)
    wrong = 0.45 if shifted else 0.04
    labelled = requests // 4 if i % 3 == 0 else 0
    audits = labelled // 4
    values = {
        "version_id": version_id,
        "variant": "champion",
        "start_s": START_S + 60 * i,
        "length_s": 60,
        "requests": requests + failed,
        "rows": requests,
        "outcomes": {"ok": requests} | ({"failed": failed} if failed else {}),
        "flagged": int(rng.binomial(requests, wrong * 0.6)),
        "labelled": labelled,
        "correct": int(rng.binomial(labelled, 1 - wrong)),
        "audit_labelled": audits,
        "audit_correct": int(rng.binomial(audits, 1 - wrong)),
        "p_wrong_sum": int(requests * FIXED_POINT * (wrong * 0.8 + 0.01 * rng.random())),
        "stats": NO_STATS,
    }
    return complete(t.windows, values)


def _signals(rng: np.random.Generator, version_id: int, i: int, windows: int) -> list[dict[str, Any]]:
    shift = 4.0 if i >= windows * 2 // 3 else 1.0
    named = [("descriptor", "psi", "x:sharpness", 0.2), ("descriptor", "wasserstein", "x:mean", 0.15)]
    named += [("score", "ks", "msp", 0.08), ("prediction", "jensen_shannon", "predicted", 0.1)]
    named += [("embedding", "mmd", "embedding", 0.004)]
    named += [("feature", "psi", f"x[{n}]", 0.2) for n in range(20)]
    rows = []
    for scope in ("window", "rolling"):
        for n, (kind, method, subject, threshold) in enumerate(named):
            enough = subject != "x[3]"
            value = float(threshold * abs(rng.normal(0.35, 0.12)) * (shift if n < 8 else 1.0)) if enough else None
            row = {
                "version_id": version_id,
                "scope": scope,
                "start_s": START_S + 60 * i,
                "length_s": 60 if scope == "window" else 600,
                "kind": kind,
                "method": method,
                "subject": subject,
                "state": "ok" if enough else "not_enough_data",
                "value": value,
                "threshold": threshold,
                "threshold_source": "99.9 % of healthy windows of this size stay below",
                "exceeded": bool(value is not None and value >= threshold),
                "rows": 80,
            }
            rows.append(complete(t.signals, row))
    return rows


@cache
def _digits() -> Any:
    from sklearn.datasets import load_digits

    return load_digits()


def _cases(
    rng: np.random.Generator, windows: int, count: int, text: _Cycle
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[dict[str, Any]]]:
    digits = _digits()
    rows, tensors, feedback = [], [], []
    for i in range(count):
        shifted = i % 3 != 0
        start = START_S + 60 * int(windows * (2 / 3 + rng.random() / 3) if shifted else windows * rng.random() * 2 / 3)
        time_ns = start * 10**9 + int(rng.integers(60 * 10**9))
        which = int(rng.integers(len(digits.images)))
        picture = np.rot90(digits.images[which], k=1 if shifted else 0).astype("<f4").copy()
        truth = int(digits.target[which])
        failed = i % 17 == 9
        flat = rng.dirichlet(np.full(10, 0.5))
        predicted = int(flat.argmax())
        if i % 4 == 0:
            flat[[truth, predicted]] = flat[[predicted, truth]]
            predicted = truth
        record_id = text(f"req-{rng.integers(1 << 40):010x}") + (f"/{i}" if text._texts else "")
        known = i % 2 == 0 and not failed
        correct = predicted == truth if known else None
        confidence = float(flat.max())
        p_wrong = float(np.clip(1.1 - confidence + 0.05 * rng.normal(), 0.01, 0.99))
        label = json.dumps(text(CLASSES[truth]) if i % 6 == 0 else truth) if known else None
        rows.append(
            {
                "id": case_id("digits", record_id, time_ns),
                "id_hash": record_hash("digits", record_id),
                "record_id": record_id,
                "model": "digits",
                "version": "2",
                "variant": "champion",
                "time_ns": time_ns,
                "window_start_s": start,
                "state": ("open", "open", "open", "labelled", "dismissed")[i % 5],
                "flags": 4 if failed else int((1, 3, 64, 33)[i % 4]),
                "rank": 1.00001 if failed else round(p_wrong, 2),  # ties on purpose
                "p_wrong": None if failed else p_wrong,
                "confidence": None if failed else confidence,
                "predicted": None if failed else predicted,
                "predicted_label": None if failed else text(CLASSES[predicted]),
                "label": label,
                "correct": correct,
                "scores": {}
                if failed
                else {"msp": confidence, "margin": 0.2, "entropy": 1.5, "gen": 6.1, "rmds": None, "p_wrong": p_wrong},
                "probabilities": None if failed else [round(float(p), 6) for p in flat],
                "outcome": "failed" if failed else "ok",
                "error": text("the model raised: shape mismatch") if failed else None,
                "rows": 1,
                "row": 0,
                "inclusion_probability": 0.01 if i % 4 == 2 else None,
                "audit_rank": 0.5,
                "timing_us": {"queue": 42, "compute": 187, "total": 311},
                "params": json.dumps({"camera": text("door-3")}),
                "trace_id": text("4bf92f3577b34da6a3ce929d0e0e4736")[:64],
                "tags": text("night"),
                "comment": None,
                "source": "r-1",
                "input_state": "not_recorded" if failed else "kept",
            }
        )
        if not failed:
            tensor = {"case_id": rows[-1]["id"], "direction": "in", "name": "x", "position": 0, "datatype": "FP32"}
            tensors.append(tensor | {"shape": [1, 1, 8, 8], "data": picture.tobytes()})
        if known:
            feedback.append(
                {
                    "uid": i,
                    "id_hash": rows[-1]["id_hash"],
                    "model": "digits",
                    "record_id": record_id,
                    "time_ns": time_ns + 10**9,
                    "label": label,
                    "labels": None,
                    "score": None,
                    "comment": text("read it off the parcel"),
                    "author": text("ann"),
                    "joined": True,
                }
            )
    return rows, tensors, feedback


def _record(case: dict[str, Any], version_id: int) -> dict[str, Any]:
    same = ("id_hash", "time_ns", "record_id", "variant", "outcome", "rows", "predicted", "confidence", "p_wrong")
    values = {n: case[n] for n in same} | {
        "version_id": version_id,
        "worst_row": 0,
        "flags": case["flags"],
        "probability": 1.0,
        "source": "r-1",
        "segment": 1,
        "offset": 0,
        "sequence": 0,
        "label": case["label"],
        "correct_rows": None if case["correct"] is None else int(case["correct"]),
    }
    return complete(t.records, values)
