"""The two tables of a drift report: the reference's stored sample, and the samples that windows keep.

Nothing is re-read from the record log: each window keeps a uniform sample of its rows (`monitoring.samples`), and the
samples of a range are cut so that every window takes part in proportion to its traffic.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from export.contracts.errors import InvalidRequest
from export.contracts.reference import ReferenceProfile
from monitoring.catalogue import Catalogue
from monitoring.queries import WindowLine, window_lines
from monitoring.report_frames import Column, Frame, finite_frame, sample_rows
from monitoring.report_shelf import ReportRequest
from monitoring.samples import WindowSample
from monitoring.store import Store

MAX_COLUMNS = 128  # past it a report takes minutes and nobody reads it:
MAX_NAMELESS = 32  # elements without a name, such as pixels: of more than these nobody reads 64 histograms
MAX_WINDOWS = 20_000
PREDICTED = "predicted class"


def frame_source(store: Store, catalogue: Catalogue) -> Callable[[ReportRequest, int], tuple[Frame, Frame]]:
    """What `ReportService` asks for the tables."""

    def frames(request: ReportRequest, max_rows: int) -> tuple[Frame, Frame]:
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
