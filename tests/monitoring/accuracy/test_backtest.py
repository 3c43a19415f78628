"""A labelled history through every estimate: from arrays, from files by the command, from the monitor's own records."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from deploy.backtest import read_history, table, write_html
from deploy.errors import UsageError
from monitoring.accuracy.backtest import Tried, backtest, score_methods
from monitoring.accuracy.estimate import Estimate, Method
from monitoring.accuracy.queries import labelled_history
from monitoring.api.accuracy_models import backtest_of
from monitoring.cycle import make_loop
from monitoring.options import CaseOptions
from monitoring.records.record import Feedback
from monitoring.store import Store
from tests.support import monitor_world as w
from tests.support.monitor_child import drain


def history(rows: int = 900) -> dict[str, np.ndarray]:  # type: ignore[type-arg]
    d = w.digits()
    chosen = np.random.default_rng(3).integers(0, len(d.images), rows)
    images = d.images[chosen].copy()
    images[rows // 2 :] = w.turned(images[rows // 2 :], 35.0)
    return d.answer(images) | {"labels": d.labels[chosen]}


def test_what_failed_is_shown_as_failed_and_audits_hold_what_they_promise() -> None:
    h = history()
    tried = backtest(w.baseline(), h["logits"], h["embedding"], h["labels"], window_rows=300)
    assert [t.rows for t in tried] == [300, 300, 300]
    right = h["logits"].argmax(axis=1) == h["labels"]
    assert [t.truth for t in tried] == pytest.approx([right[i : i + 300].mean() for i in (0, 300, 600)])
    scores = {s.method: s for s in score_methods(tried)}
    confidence, rehearsal, audit = (scores[m] for m in (Method.CONFIDENCE, Method.REHEARSAL, Method.AUDIT))
    assert confidence.error is not None
    assert rehearsal.error is not None
    assert confidence.error > rehearsal.error + 0.03
    assert confidence.bias is not None
    assert confidence.bias > 0.05
    assert audit.tried == 60
    assert audit.coverage is not None
    assert audit.coverage >= 0.85, "60 draws of 95 %"
    assert confidence.coverage is None, "it has no interval"


def test_a_score_is_arithmetic_and_what_was_never_said_is_none() -> None:
    said = [
        Tried(
            start=i,
            rows=100,
            truth=0.8,
            estimates=(
                Estimate(
                    method=Method.ATC, value=value, low=value - 0.05, high=value + 0.05, level=0.9, trusted=i == 0
                ),
                Estimate(method=Method.TRANSPORT, missing="not enough data"),
            ),
            audits=(),
        )
        for i, value in enumerate((0.84, 0.7))
    ]
    atc, transport = score_methods(said)
    assert atc.error == pytest.approx(0.07)
    assert atc.bias == pytest.approx(-0.03)
    assert atc.worst == pytest.approx(0.1)
    assert (atc.coverage, atc.trusted) == (0.5, 1)
    assert atc.error_trusted == pytest.approx(0.04)
    assert (transport.said, transport.tried, transport.error) == (0, 2, None)


@pytest.mark.parametrize("kind", ["npz", "csv", "parquet"])
def test_a_history_is_read_alike_from_every_kind_of_file(tmp_path: Path, kind: str) -> None:
    h, path = history(60), tmp_path / f"history.{kind}"
    if kind == "npz":
        np.savez(path, **h)  # type: ignore[arg-type]
    else:
        import pyarrow as pa
        from pyarrow import csv, parquet

        data = {name: h["logits"][:, i] for i, name in enumerate(w.NAMES)} | {
            "label": [w.NAMES[y] for y in h["labels"]]
        }
        (csv.write_csv if kind == "csv" else parquet.write_table)(pa.table(data), path)
    read = read_history(path, w.manifest(), w.digits().profile)
    np.testing.assert_allclose(read.output, h["logits"], rtol=1e-5)
    assert read.labels.tolist() == h["labels"].tolist()
    assert (read.embedding is None) == (kind != "npz")


def test_a_file_that_cannot_be_used_says_what_is_missing(tmp_path: Path) -> None:
    h, path = history(60), tmp_path / "h.npz"
    for arrays, text in (({"labels": h["labels"]}, "no class scores"), ({"logits": h["logits"]}, "no labels")):
        np.savez(path, **arrays)  # type: ignore[arg-type]
        with pytest.raises(UsageError, match=text):
            read_history(path, w.manifest(), w.digits().profile)
    (tmp_path / "h.txt").write_text("x")
    with pytest.raises(UsageError, match=r"known are .npz, .parquet and .csv"):
        read_history(tmp_path / "h.txt", w.manifest(), w.digits().profile)


def test_the_page_and_the_table_show_every_method(tmp_path: Path) -> None:
    h = history()
    tried = backtest(w.baseline(), h["logits"], h["embedding"], h["labels"], window_rows=300)
    found = backtest_of("digits", "1", 100, tried)
    write_html(found, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert page.count("<polyline") == 5
    for row in table(found):
        assert all(f"<td>{cell}</td>" in page for cell in row)


def test_the_monitors_own_records_are_a_history(tmp_path: Path) -> None:
    options = w.options(tmp_path, cases=CaseOptions(audit_rate=0.1))
    loop = make_loop(options, Store(options.database_url), w.catalogue(tmp_path / "reference"))
    replica, d = w.Replica(tmp_path / "records"), w.digits()
    for window, labelled in ((0, 200), (1, 40)):
        images, truth = d.images[:200], d.labels[:200]
        ids = [f"{window}-{i}" for i in range(200)]
        times = [(w.START_S + 60 * window) * w.SECOND + i for i in range(200)]
        replica.offer(w.batch(images, ids, times))
        replica.feedback(
            *(
                Feedback(record_id=ids[i], model="digits", time_ns=times[i], label=w.NAMES[truth[i]])
                for i in range(labelled)
            )
        )
    drain(loop)
    tried = labelled_history(loop.store, "digits", "1")
    assert [t.start for t in tried] == [w.START_S], "labels for a fifth of a window are no truth"
    right = d.answer(d.images[:200])["logits"].argmax(axis=1) == d.labels[:200]
    assert tried[0].truth == pytest.approx(right.mean())
    assert {e.method for e in tried[0].estimates} == set(Method) - {Method.AUDIT, Method.AUDIT_ERROR}
    assert all(e.value is not None for e in tried[0].audits)
    replica.close()
    loop.store.close()
