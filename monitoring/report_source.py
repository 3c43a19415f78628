"""The two tables of a report: the reference's stored sample, and the samples that windows keep.

Nothing is re-read from the record log: each window keeps a uniform sample of its rows (`monitoring.samples`), and the
samples of a range are cut so that every window takes part in proportion to its traffic.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from export.contracts.errors import InvalidRequest
from export.contracts.manifest import TaskKind
from export.contracts.reference import ReferenceProfile
from monitoring.baselines import Baselines
from monitoring.catalogue import Catalogue
from monitoring.queries import WindowLine, window_lines
from monitoring.report_frames import Column, Frame, finite_frame, sample_rows
from monitoring.report_quality import class_frames, value_frames
from monitoring.report_rows import labelled_answers
from monitoring.report_shelf import ReportKind, ReportRequest
from monitoring.samples import WindowSample
from monitoring.store import Store
from monitoring.tasks.protocol import Said

MAX_COLUMNS = 128  # past it a report takes minutes and nobody reads it:
MAX_NAMELESS = 32  # elements without a name, such as pixels: of more than these nobody reads 64 histograms
MAX_WINDOWS = 20_000
PREDICTED = "predicted class"


def frame_source(store: Store, catalogue: Catalogue) -> Callable[[ReportRequest, int], tuple[Frame, Frame]]:
    """What `ReportService` asks for the tables."""

    def frames(request: ReportRequest, max_rows: int) -> tuple[Frame, Frame]:
        if request.kind is ReportKind.QUALITY:
            return _quality_frames(store, catalogue, request, max_rows)
        profile = _profile(catalogue, request)
        start_s, end_s = int(request.start.timestamp()), int(-(-request.end.timestamp() // 1))
        lines = window_lines(
            store, request.model, version=request.version, from_s=start_s, to_s=end_s, limit=MAX_WINDOWS
        )
        stored = _stored(store, [line.id for line in lines if line.rows])
        sizes = [line.rows for line in lines if line.id in stored]
        samples = [WindowSample.decode(stored[line.id]) for line in lines if line.id in stored]
        seed = int(request.id[:8], 16)
        return _reference(profile, max_rows, seed), current_frame(profile, samples, sizes, lines, max_rows, seed)

    return frames


def _quality_frames(store: Store, catalogue: Catalogue, request: ReportRequest, max_rows: int) -> tuple[Frame, Frame]:
    """Labels and answers, row by row, of the records of the range that have a label."""
    baseline = Baselines(catalogue).get(request.model, request.version)
    kind = None if baseline.manifest is None else baseline.manifest.task.kind
    if kind not in (TaskKind.CLASSIFICATION, TaskKind.REGRESSION):
        raise InvalidRequest("a quality report is about classifications and regressions")
    start_ns, end_ns = (int(x.timestamp()) * 1_000_000_000 for x in (request.start, request.end))
    rows, total = labelled_answers(store, request.model, request.version, start_ns, end_ns, max_rows)
    if kind is TaskKind.REGRESSION:
        numbers = [(json.loads(row["label"]), row["value"]) for row in rows]
        return value_frames([(float(a), float(b)) for a, b in numbers if _is_number(a) and b is not None], total)
    pairs: list[tuple[float, float]] = []
    for row in rows:
        truth = baseline.task.truth(Said.stored(json.loads(row["label"])), row)
        classes = () if truth is None else baseline.task.judge(truth, row, 0.0).classes
        predicted = row["predicted_rows"] or [row["predicted"]]
        if len(classes) == len(predicted):
            pairs += zip(map(float, classes), map(float, predicted), strict=True)
    names = baseline.class_names or tuple(str(i) for i in range(baseline.classes))
    return class_frames(baseline.profile, names, pairs, total)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _stored(store: Store, ids: Sequence[int]) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    for i in range(0, len(ids), 500):  # SQLite bounds the parameters of a query
        found |= store.window_samples(ids[i : i + 500])
    return found


def _profile(catalogue: Catalogue, request: ReportRequest) -> ReferenceProfile:
    folder = catalogue.reference_dir(request.model, request.version)
    if folder is None:
        raise InvalidRequest(f"version '{request.version}' has no reference profile to compare with")
    try:
        return ReferenceProfile.load(folder)
    except (ValueError, OSError):
        raise InvalidRequest(f"the reference profile of version '{request.version}' cannot be read") from None


def _chosen(columns: Sequence[str]) -> list[int]:
    """Columns of the report: descriptors, then features that have a name, then the others where they are few."""
    descriptors = [i for i, name in enumerate(columns) if ":" in name]
    features = [i for i, name in enumerate(columns) if ":" not in name]
    named = [i for i in features if not columns[i].endswith("]")]
    nameless = [i for i in features if columns[i].endswith("]")]
    return (descriptors + named + (nameless if len(nameless) <= MAX_NAMELESS else []))[:MAX_COLUMNS]


def _columns(profile: ReferenceProfile) -> tuple[Column, ...]:
    named = tuple(Column(name=profile.columns[i]) for i in _chosen(profile.columns))
    return named if profile.classes is None else (*named, Column(name=PREDICTED, categories=_labels(profile)))


def _labels(profile: ReferenceProfile) -> tuple[str, ...]:
    assert profile.classes is not None
    count = len(profile.classes.predicted_counts)
    return profile.classes.class_names or tuple(str(i) for i in range(count))


def _reference(profile: ReferenceProfile, max_rows: int, seed: int) -> Frame:
    """The profile's stored sample; predictions as often as the reference had them.

    A report compares column by column, so it does not matter that the predictions stand beside other rows.
    """
    values = sample_rows(profile.frame, max_rows, seed)[:, _chosen(profile.columns)]
    if profile.classes is not None:
        values = np.column_stack([values, _spread(profile.classes.predicted_counts, len(values))])
    return finite_frame(_columns(profile), values, profile.rows)


def _spread(counts: npt.NDArray[np.int64], rows: int) -> npt.NDArray[np.float64]:
    """Class indices in the proportions of `counts`, (rows,): the middle of each row's share of the total."""
    ends = np.cumsum(counts)
    at = (np.arange(rows) + 0.5) / max(rows, 1) * ends[-1]
    return np.asarray(np.searchsorted(ends, at, side="right"), dtype=np.float64)


def current_frame(
    profile: ReferenceProfile,
    samples: Sequence[WindowSample],
    sizes: Sequence[int],
    lines: Sequence[WindowLine],
    max_rows: int,
    seed: int,
) -> Frame:
    """Rows of the windows, each window in proportion to its traffic.

    Args:
        profile: Says which columns there are.
        samples: One a window that kept any; rows in the order of their lots, so a prefix is a uniform sample too.
        sizes: Scored rows behind each sample.
        lines: All windows of the range, for the total.
        max_rows: Most rows.
        seed: For the last cut.
    """
    columns = _columns(profile)
    fitting = [
        (s, n) for s, n in zip(samples, sizes, strict=True) if s.columns == profile.columns and len(s.lots) and n
    ]
    total = sum(line.rows for line in lines)
    if not fitting:
        return Frame(columns=columns, values=np.zeros((0, len(columns)), dtype=np.float32), total_rows=total)
    all_rows = sum(n for _, n in fitting)
    # The largest sample in which no window must give more rows than it kept.
    share = min(len(s.lots) / n for s, n in fitting)
    chosen = _chosen(profile.columns)
    parts = []
    for sample, size in fitting:
        take = min(len(sample.lots), max(round(share * size), 1))
        part: npt.NDArray[np.floating] = sample.values[:take, chosen]
        if profile.classes is not None:
            part = np.column_stack([part, sample.predicted[:take]])
        parts.append(part)
    values = np.concatenate(parts)
    return finite_frame(columns, sample_rows(values, max_rows, seed), max(total, all_rows))
