"""Values are planted in requests and feedback, and the whole store is searched for them, under every policy."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

from export.contracts.bf16 import narrow, widen
from export.contracts.cases import FlagReason
from export.contracts.datatypes import Datatype
from export.contracts.privacy import Keep, PrivacyPolicy, policy_of
from export.contracts.signature import InputSpec, OutputSpec
from export.contracts.traffic import Variant
from monitoring import schema as t
from monitoring.archive_options import ArchiveOptions
from monitoring.cycle import make_loop
from monitoring.facts import write_fact
from monitoring.flags import FLAG_BITS
from monitoring.log_limits import LogLimits
from monitoring.options import CaseOptions
from monitoring.privacy import at_rest
from monitoring.purge import Purger
from monitoring.records.record import CaptureOptions, Feedback, Outcome
from monitoring.records.verify import verify
from monitoring.records.writer import RecordLogWriter
from monitoring.retention_limits import apply_time_limits
from monitoring.store import Store
from serving.capture import Capture
from serving.feedback import without_redacted
from tests.monitoring.erasure.test_erasure import MARK, search
from tests.support import monitor_world as w
from tests.support.monitor_child import drain

COMMENT, EMAIL, OTHER = "Mrs Planted", "planted@example.org", "kept-parameter"
OUT = np.float32(0.7654321).tobytes()


class Plan:
    """What capture asks of a request's plan."""

    def __init__(self, params: bytes) -> None:
        self.rows, self.params = 1, params


class Request:
    """What capture asks of a request."""

    def __init__(self, number: int) -> None:
        self.id, self.time_ns = f"r{number}".encode(), (w.START_S + number) * w.SECOND
        self.trace_id, self.variant = b"planted-trace", Variant.CHAMPION
        self.plan = Plan(json.dumps({"user": {"email": EMAIL}, "note": OTHER}).encode())


class Outputs:
    """What capture asks of a batch's outputs."""

    def __init__(self, arrays: list[Any]) -> None:
        self.arrays = arrays


def record(folder: Path, policy: PrivacyPolicy) -> None:
    """The real capture into the real log: planted pixel, planted output, parameters, feedback."""
    writer = RecordLogWriter(folder / "records", "r", CaptureOptions(segment_bytes=20_000))
    m, d = w.manifest(), w.digits()
    capture = Capture(writer, "digits", "1", "sha256:1", m.signature, policy)
    for start in range(0, 48, 8):
        requests = [Request(start + i) for i in range(8)]
        images = w.turned(d.images[start : start + 8]).copy()
        images.reshape(8, -1)[:, :2] = np.frombuffer(MARK * 2, np.float32)
        answer = d.answer(images)
        answer["embedding"][:, 0] = np.frombuffer(OUT, np.float32)[0]
        capture.received(8)
        capture.offer(
            requests,  # type: ignore[arg-type]
            Outcome.OK,
            total_ns=[1000] * 8,
            inputs=[images],
            outputs=Outputs([answer["logits"], answer["embedding"]]),  # type: ignore[arg-type]
        )
        item = Feedback(record_id=f"r{start}", model="digits", time_ns=(w.START_S + start) * w.SECOND, score=-1.0,
                        comment=COMMENT, source=EMAIL)  # fmt: skip
        writer.feedback(without_redacted(item, policy))
        assert writer.flush(5.0)
    writer.close()


ALL = PrivacyPolicy(model="digits")
POINTERS = ("/inputs/x", "/outputs/embedding", "/parameters/user/email", "/feedback/comment", "/feedback/source",
            "/trace_id")  # fmt: skip
GONE: dict[str, tuple[PrivacyPolicy, tuple[bytes, ...], tuple[bytes, ...]]] = {
    # policy, what must be nowhere, what must still be there
    "full": (ALL, (), (MARK, OUT, COMMENT.encode(), EMAIL.encode(), OTHER.encode())),
    "thumbnail": (replace(ALL, keep=Keep.THUMBNAIL), (MARK,), (OUT, EMAIL.encode())),
    "embedding": (replace(ALL, keep=Keep.EMBEDDING), (MARK,), (OUT, EMAIL.encode())),
    "nothing": (replace(ALL, keep=Keep.NOTHING), (MARK, OUT, EMAIL.encode()[:9], OTHER.encode(), COMMENT.encode()), ()),
    "redacted": (
        replace(ALL, redact=POINTERS),
        (MARK, OUT, EMAIL.encode(), COMMENT.encode(), b"planted-trace"),
        (OTHER.encode(), b"[redacted]"),
    ),
}
GONE["nothing"] = (
    replace(ALL, keep=Keep.NOTHING, redact=("/feedback/source",)), *GONE["nothing"][1:]
)  # fmt: skip


@pytest.mark.parametrize("archive", [False, True])
@pytest.mark.parametrize("name", list(GONE))
def test_planted_values_are_nowhere(name: str, archive: bool, tmp_path: Path) -> None:
    policy, gone, stays = GONE[name]
    record(tmp_path, policy)
    written = search(tmp_path, *gone)
    if name == "thumbnail":
        assert written, "positive control: the monitor needs the picture once"
    else:
        assert written == [], "a replica writes nothing that may not stay"
    store = Store(f"sqlite:///{tmp_path / 'monitor.db'}")
    options = w.options(
        tmp_path,
        privacy=(policy,),
        cases=CaseOptions(flag_above=0.0, flag_rate=1.0),
        archive=ArchiveOptions(enabled=archive, file_bytes=1, age_s=0.0, interval_s=0.01),
        sample_rows=500,
    )
    loop = make_loop(options, store, w.catalogue(tmp_path / "ref"))
    drain(loop)
    assert loop.progress.dead_letters == 0, "scoring goes on with what there is"
    store.scrub()
    assert search(tmp_path, *gone) == []
    for needle in stays:
        assert search(tmp_path, needle), needle
    with store.read() as connection:
        cases = connection.execute(sa.select(t.cases.c.id, t.cases.c.input_state)).all()
        pictures = connection.execute(
            sa.select(t.case_tensors.c.data).where(t.case_tensors.c.direction == "png")
        ).scalars().all()  # fmt: skip
    assert cases
    if name == "thumbnail":
        assert {c.input_state for c in cases} == {"thumbnail"}
        assert len(pictures) == len(cases)
        assert all(p.startswith(b"\x89PNG") for p in pictures)
    assert sum(a.unexplained + a.captured - a.ingested for a in store.accounting()) == 0
    store.close()


def test_what_was_recorded_before_the_settings_leaves_the_log(tmp_path: Path) -> None:
    record(tmp_path, ALL)
    policy = replace(ALL, keep=Keep.NOTHING)
    store = Store(f"sqlite:///{tmp_path / 'monitor.db'}")
    loop = make_loop(w.options(tmp_path, privacy=(policy,)), store, w.catalogue(tmp_path / "ref"))
    assert search(tmp_path, MARK)
    drain(loop)
    store.scrub()
    assert search(tmp_path, MARK, OUT) == []
    assert Purger(store, tmp_path / "records", at_rest((policy,))).turn() is False
    store.close()


def test_time_limits_hold_for_each_kind(tmp_path: Path) -> None:
    record(tmp_path, ALL)
    store = Store(f"sqlite:///{tmp_path / 'monitor.db'}")
    loop = make_loop(w.options(tmp_path), store, w.catalogue(tmp_path / "ref"))
    drain(loop)

    def counts() -> dict[str, int]:
        with store.read() as c:
            n = lambda table: c.scalar(sa.select(sa.func.count()).select_from(table))  # noqa: E731
            inputs = sa.select(sa.func.count()).select_from(t.case_tensors).where(t.case_tensors.c.direction == "in")
            return {
                "inputs": c.scalar(inputs) or 0,
                "records": n(t.records),
                "cases": n(t.cases),
                "feedback": n(t.feedback),
            }

    def limit(days_later: float, **days: float) -> dict[str, int]:
        with store.write() as c:
            apply_time_limits(c, w.START_S + days_later * 86_400, (replace(ALL, **days),))
        return counts()

    before = counts()
    assert min(before.values()) > 0
    assert limit(5, input_days=6, record_days=6, case_days=6, feedback_days=6) == before
    assert limit(5, input_days=4) == before | {"inputs": 0}
    assert limit(5, record_days=4, feedback_days=4) == before | {"inputs": 0, "records": 0, "feedback": 0}
    assert limit(5, case_days=4) == dict.fromkeys(before, 0)
    store.close()


LOG_LIMITS = [
    # policy, what must be gone from the log, what stays in it
    (replace(ALL, input_days=10), (MARK,), (OUT, OTHER.encode(), COMMENT.encode())),
    (replace(ALL, record_days=10), (MARK, OUT, OTHER.encode(), b"planted-trace"), (COMMENT.encode(),)),
    (replace(ALL, feedback_days=10), (COMMENT.encode(),), (MARK, OUT)),
    (PrivacyPolicy(model="faces", input_days=10, record_days=10), (), (MARK, OUT, COMMENT.encode())),
]


@pytest.mark.parametrize(("policy", "gone", "stays"), LOG_LIMITS)
def test_time_limits_reach_consumed_segments(
    policy: PrivacyPolicy, gone: tuple[bytes, ...], stays: tuple[bytes, ...], tmp_path: Path
) -> None:
    record(tmp_path, ALL)
    store = Store(f"sqlite:///{tmp_path / 'monitor.db'}")
    limits = LogLimits(store, tmp_path / "records", (policy,))

    def later(days: float) -> None:
        with store.write() as connection:
            write_fact(connection, "retention_clock_s", time.time() + days * 86_400)
        while limits.turn():
            pass

    later(11)
    assert search(tmp_path / "records", *gone) or not gone, "control: what was not consumed is left alone"
    drain(make_loop(w.options(tmp_path), store, w.catalogue(tmp_path / "ref")))
    later(9)
    everything = (*gone, *stays)
    assert all(search(tmp_path / "records", needle) for needle in everything), "a day is left"
    later(11)
    assert search(tmp_path / "records", *gone) == []
    assert all(search(tmp_path / "records", needle) for needle in stays)
    assert sum(a.unexplained + a.captured - a.ingested for a in store.accounting()) == 0
    assert verify(tmp_path / "records").ok
    store.close()


def test_what_is_younger_in_an_old_segment_is_looked_at_again(tmp_path: Path) -> None:
    """Of a replica that was nearly idle: its segment was begun long before its last record."""
    days = 1e-4  # of a limit so short that a segment's seconds count
    writer = RecordLogWriter(tmp_path / "records", "r", CaptureOptions())
    d = w.digits()
    now_ns = time.time_ns()
    for offset_s in (0, 100):
        images = d.images[:4].copy()
        images.reshape(4, -1)[:, :2] = np.frombuffer(MARK * 2, np.float32)
        times = [now_ns + offset_s * w.SECOND + i for i in range(4)]
        writer.offer(w.batch(images, [f"{offset_s}-{i}" for i in range(4)], times))
        assert writer.flush(5.0)
    writer.close()
    store = Store(f"sqlite:///{tmp_path / 'monitor.db'}")
    drain(make_loop(w.options(tmp_path), store, w.catalogue(tmp_path / "ref")))
    limits = LogLimits(store, tmp_path / "records", (replace(ALL, input_days=days),))
    (segment,) = (tmp_path / "records").glob("*/*.seg")
    before = segment.read_bytes().count(MARK)
    found = []
    for after_s in (20, 200):
        with store.write() as connection:
            write_fact(connection, "retention_clock_s", now_ns / 1e9 + after_s)
        limits.turn()
        found.append(segment.read_bytes().count(MARK))
    assert found == [before / 2, 0]
    store.close()


def test_a_pointer_that_names_nothing_is_refused_and_the_default_holds_for_other_models() -> None:
    for wrong in ("x", "/", "/input/x", "/inputs", "/trace_id/x"):
        with pytest.raises(ValueError, match="names nothing"):
            PrivacyPolicy(redact=(wrong,))
    policies = (PrivacyPolicy(keep=Keep.EMBEDDING), PrivacyPolicy(model="digits"))
    assert policy_of(policies, "digits").keep is Keep.FULL
    assert policy_of(policies, "faces").keep is Keep.EMBEDDING
    assert "no input is ever written" in policy_of(policies, "faces").text


def test_parameters_are_redacted_by_pointer() -> None:
    redact = PrivacyPolicy(redact=("/parameters/a~1b/1", "/parameters/c")).redactor("parameters")
    assert redact is not None
    assert json.loads(redact(b'{"a/b":[1,2,3],"c":{"d":1},"e":5}') or b"") == {
        "a/b": [1, "[redacted]", 3],
        "c": "[redacted]",
        "e": 5,
    }
    assert redact(None) is None
    assert redact(b"\xff") == b'"[redacted]"'
    assert PrivacyPolicy().redactor("parameters") is None


def test_a_signature_with_a_redacted_column_is_still_watched_in_the_others(tmp_path: Path) -> None:
    from monitoring.scores import _unknown_inputs

    spec = InputSpec(name="age", datatype=Datatype.INT64, shape=(-1, 2))
    made = _unknown_inputs([spec], 3, batched=True)
    assert made is not None
    assert made["age"].shape == (3, 2)
    assert np.isnan(made["age"]).all()
    assert _unknown_inputs([replace(spec, shape=(-1, -1))], 3, batched=True) is None
    bits = _unknown_inputs([replace(spec, datatype=Datatype.BF16)], 3, batched=True)
    assert bits is not None
    assert bits["age"].dtype == np.uint16
    assert np.isnan(widen(bits["age"])).all()


def test_a_bf16_output_that_is_not_finite_is_flagged() -> None:
    from types import SimpleNamespace

    from monitoring.baseline import compile_baseline
    from monitoring.scores import _flags

    scores = narrow(np.float32([[1.0, 2.0], [np.nan, 0.0], [np.inf, 0.0], [3.0, -1.0]]))
    outputs = tuple(
        OutputSpec(name=n, datatype=d, shape=(-1, 2)) for n, d in (("y", Datatype.BF16), ("count", Datatype.UINT16))
    )
    manifest: Any = SimpleNamespace(signature=SimpleNamespace(outputs=outputs))
    baseline: Any = SimpleNamespace(manifest=manifest, profile=None, task=compile_baseline(None, None).task)
    answered: Any = SimpleNamespace(p_wrong=np.zeros(4, np.float32), scores={})

    class Rows(SimpleNamespace):
        def __len__(self) -> int:
            return 4

    batch: Any = Rows(outcome=Outcome.OK, outputs={"y": scores, "count": scores}, row_record=np.arange(4))
    flags = _flags(baseline, batch, CaseOptions(), answered, None)
    assert (flags & FLAG_BITS[FlagReason.RULE_NOT_FINITE] != 0).tolist() == [False, True, True, False]
