"""A real little world for the monitor: a classifier on real digits, its compiled reference, a log of its answers."""

from __future__ import annotations

import functools
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa
from scipy import ndimage

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
from export.contracts.reference import ReferenceProfile
from export.contracts.signature import InputDisplay, InputKind, InputSpec, OutputRole, OutputSpec, Signature
from export.reference import compile_reference
from monitoring import schema as t
from monitoring.baseline import Baseline, compile_baseline
from monitoring.options import MonitorOptions
from monitoring.records.record import CaptureOptions, Feedback, Outcome, RecordBatch, RecordSchema, Rows, TensorColumn
from monitoring.records.writer import RecordLogWriter
from monitoring.store import Store

Array = np.ndarray[Any, Any]
START_S = 1_772_000_040  # a whole minute
SECOND = 1_000_000_000
NAMES = tuple(["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"])


def manifest(version: str = "1") -> Manifest:
    display = InputDisplay(kind=InputKind.IMAGE, layout="CHW", value_range=(0.0, 1.0))
    x = InputSpec(name="x", datatype=Datatype.FP32, shape=(-1, 1, 8, 8), display=display)
    logits = OutputSpec(name="logits", datatype=Datatype.FP32, shape=(-1, 10), role=OutputRole.LOGITS)
    hidden = OutputSpec(name="embedding", datatype=Datatype.FP32, shape=(-1, 64), role=OutputRole.EMBEDDING)
    return Manifest(
        name="digits",
        version=version,
        task=Task(kind=TaskKind.CLASSIFICATION, class_names=NAMES),
        signature=Signature(inputs=(x,), outputs=(logits, hidden)),
        runtimes=(RuntimeFile(kind=RuntimeKind.ONNX, path="model.onnx"),),
        files=(PackageFile(path="model.onnx", role=FileRole.WEIGHTS, sha256="0" * 64, size_bytes=1),),
        provenance=Provenance(created_at="2026-02-01T00:00:00Z", source="test"),
    )


@dataclass(frozen=True)
class Digits:
    """A trained classifier, its reference, and images that neither has seen."""

    weights: tuple[Array, Array, Array, Array]
    images: Array  # (797, 1, 8, 8) in [0, 1]
    labels: Array
    profile: ReferenceProfile

    def answer(self, images: Array) -> dict[str, Array]:
        """Logits and embedding."""
        w1, b1, w2, b2 = self.weights
        hidden = np.maximum(images.reshape(len(images), -1) @ w1 + b1, 0.0)
        return {"logits": (hidden @ w2 + b2).astype(np.float32), "embedding": hidden.astype(np.float32)}


@functools.cache
def digits() -> Digits:
    """Trained once a session, in about a second."""
    from sklearn.datasets import load_digits
    from sklearn.neural_network import MLPClassifier

    data = load_digits()
    images, labels = (data.images / 16.0).astype(np.float32)[:, None], data.target
    order = np.random.default_rng(7).permutation(len(images))
    images, labels = images[order], labels[order]
    model = MLPClassifier((64,), random_state=1, max_iter=60, alpha=1e-2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(images[:700].reshape(700, -1), labels[:700])
    weights = (model.coefs_[0], model.intercepts_[0], model.coefs_[1], model.intercepts_[1])
    bare = Digits(weights, images[1000:], labels[1000:], None)  # type: ignore[arg-type]
    m, held = manifest(), images[700:1000]
    profile = compile_reference(
        m.signature,
        m.task,
        {"x": held},
        bare.answer(held),
        labels[700:1000],
        answer=lambda rows: bare.answer(rows["x"]),
    )
    return Digits(weights, images[1000:], labels[1000:], profile)


@functools.cache
def baseline() -> Baseline:
    return compile_baseline(manifest(), digits().profile)


def turned(images: Array, degrees: float = 50.0) -> Array:
    """Images rotated: a shift on which the classifier fails."""
    return np.clip(ndimage.rotate(images, degrees, axes=(2, 3), reshape=False, order=1), 0.0, 1.0).astype(np.float32)


@dataclass
class MemoryCatalogue:
    """A catalogue of what it is given."""

    manifests: tuple[Manifest, ...]
    folders: dict[str, Path] = field(default_factory=dict)

    def models(self) -> tuple[str, ...]:
        return tuple(sorted({m.name for m in self.manifests}))

    def versions(self, model: str) -> tuple[str, ...]:
        return tuple(m.version for m in self.manifests if m.name == model)

    def manifest(self, model: str, version: str) -> Manifest | None:
        return next((m for m in self.manifests if (m.name, m.version) == (model, version)), None)

    def reference_dir(self, model: str, version: str) -> Path | None:
        return self.folders.get(version)

    def plan(self, model: str) -> None:
        return None


def catalogue(folder: Path) -> MemoryCatalogue:
    """One version, "1", with its reference in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    digits().profile.save(folder)
    return MemoryCatalogue((manifest(),), {"1": folder})


SCHEMA = RecordSchema(
    "digits",
    "1",
    "sha256:" + "1" * 64,
    (TensorColumn("x", Datatype.FP32),),
    (TensorColumn("logits", Datatype.FP32), TensorColumn("embedding", Datatype.FP32)),
)


def batch(
    images: Array,
    ids: list[str],
    times_ns: list[int],
    *,
    variant: str = "champion",
    outputs: dict[str, Array] | None = None,
    probability: float = 1.0,
) -> RecordBatch:
    """What the data plane captures for these images, one row a record."""
    answer = digits().answer(images) if outputs is None else outputs
    n = len(ids)
    return RecordBatch(
        schema=SCHEMA,
        ids=[i.encode("utf-8", "surrogateescape") for i in ids],
        time_ns=times_ns,
        variant=variant,
        outcome=Outcome.OK,
        queue_ns=[100_000 + 10 * i for i in range(n)],
        total_ns=[400_000 + 1000 * i for i in range(n)],
        compute_ns=200_000,
        inputs=(Rows(np.ascontiguousarray(images), (1, 8, 8), 256),),
        outputs=(Rows(answer["logits"], (10,), 40), Rows(answer["embedding"], (64,), 256)),
        probability=probability,
    )


def refusal(ids: list[str], times_ns: list[int], outcome: Outcome, error: str = "no") -> RecordBatch:
    """Requests that no model saw."""
    schema = RecordSchema("digits", "1", SCHEMA.digest)
    return RecordBatch(
        schema=schema,
        ids=[i.encode() for i in ids],
        time_ns=times_ns,
        variant="champion",
        outcome=outcome,
        queue_ns=[0] * len(ids),
        total_ns=[1000] * len(ids),
        error=[error] * len(ids),
    )


class Replica:
    """A writer of the log that counts what it is given, as the data plane does."""

    def __init__(self, root: Path, name: str = "r1", **options: Any) -> None:
        self.writer = RecordLogWriter(root, name, CaptureOptions(**options))

    def offer(self, *batches: RecordBatch) -> None:
        for one in batches:
            self.writer.slot(one.schema.model, one.schema.version).received(len(one.ids))
            self.writer.offer(one)
        assert self.writer.flush(10.0)

    def feedback(self, *items: Feedback) -> None:
        for item in items:
            self.writer.feedback(item)
        assert self.writer.flush(10.0)

    def close(self) -> None:
        self.writer.close()


def options(folder: Path, **changes: Any) -> MonitorOptions:
    values: dict[str, Any] = {
        "records_root": folder / "records",
        "database_url": f"sqlite:///{folder / 'monitor.db'}",
        "state_dir": folder,
        "poll_interval_s": 0.01,
    }
    return MonitorOptions(**(values | changes))


def day(
    root: Path,
    *,
    seconds: int = 150,
    rate: int = 40,
    shift_from: int = 90,
    seed: int = 0,
    replicas: int = 2,
    capture: dict[str, Any] | None = None,
) -> dict[str, bool]:
    """A log of healthy, then turned digits, feedback for some, refusals and a NaN. Returns {id: answered right}."""
    rng = np.random.default_rng(seed)
    d = digits()
    writers = [Replica(root, f"r{i}", **(capture or {})) for i in range(replicas)]
    right: dict[str, bool] = {}
    for second in range(seconds):
        chosen = rng.integers(0, len(d.images), rate)
        images = turned(d.images[chosen]) if second >= shift_from else d.images[chosen]
        ids = [f"{seed}-{second}-{i}" for i in range(rate)]
        times = [(START_S + second) * SECOND + int(x) for x in rng.integers(0, SECOND, rate)]
        answers = d.answer(images)
        if second == 5:
            answers["logits"][3] = np.nan
        for i, identity in enumerate(ids):
            right[identity] = bool(answers["logits"][i].argmax() == d.labels[chosen[i]])
        writer = writers[second % replicas]
        writer.offer(batch(images, ids, times, outputs=answers))
        if second % 10 == 0:
            writer.offer(refusal([f"{seed}-x{second}"], [times[0]], Outcome.FAILED, "the model raised"))
        items = [
            Feedback(record_id=ids[i], model="digits", time_ns=times[i] + SECOND, label=NAMES[d.labels[chosen[i]]])
            for i in range(0, rate, 4)
        ]
        writers[(second + 1) % replicas].feedback(*items)  # through another replica: may be read before its record
    for writer in writers:
        writer.close()
    return right


# Where the monitor stands and what it did lately, not what it knows.
NOT_DERIVED = ("offsets", "facts", "alembic_version", "leases", "purges", "archive_files", "case_changes")


def snapshot(store: Store) -> dict[str, list[tuple[Any, ...]]]:
    """Everything derived, without the numbers that only say in which order rows were made."""
    out: dict[str, list[tuple[Any, ...]]] = {}
    ids: dict[str, dict[int, tuple[Any, ...]]] = {}
    with store.read() as c:
        for table, key in ((t.versions, ("model", "version")), (t.windows, ("version_id", "variant", "start_s"))):
            ids[table.name] = {r["id"]: tuple(r[k] for k in key) for r in c.execute(sa.select(table)).mappings()}
        for table in t.metadata.sorted_tables:
            if table.name in NOT_DERIVED:
                continue
            skip = {"id", "seq"} if table.name != "cases" else set()
            skip |= {"routed"} if table.name == "notices" else set()  # how far they were told
            rows = []
            for r in c.execute(sa.select(table)).mappings():
                row = {k: v for k, v in r.items() if k not in skip}
                if "version_id" in row:
                    row["version_id"] = ids["versions"][row["version_id"]]
                if "window_id" in row:
                    row["window_id"] = ids["windows"][row["window_id"]][1:]
                rows.append(tuple(repr(v) for v in row.values()))
            out[table.name] = sorted(rows)
    return out
