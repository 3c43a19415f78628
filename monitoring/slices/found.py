"""Slices of one span of records: by attributes and by embedding, those merged that say the same, each in words."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from monitoring.slices.attributes import SliceOptions, find_slices
from monitoring.slices.clusters import Known, find_clusters

LABELS_ENOUGH = 10  # labelled records from which a slice's rate is theirs, not P(wrong)'s
_INSIDE = 0.7  # share of a slice's records in another one, from which that one explains it
_AS_BAD = 0.5  # ... when it fails at least this share as often
_TYPICAL_SHARE, _TYPICAL_LIFT = 0.5, 1.5
_Z = 1.959963984540054


class SliceKind(StrEnum):
    """How a slice was found."""

    ATTRIBUTES = "attributes"  # conditions on what is known of a record
    CLUSTER = "cluster"  # a neighbourhood in the embedding


class SliceState(StrEnum):
    """Where a slice stands: as an issue in an error tracker."""

    NEW = "new"  # nobody has done anything about it
    ACKNOWLEDGED = "acknowledged"  # somebody knows
    BATCHED = "batched"  # its cases are in a labelling batch
    FIXED = "fixed"  # fixed in a version
    REGRESSED = "regressed"  # was fixed, and was found again on that version or a later one
    IGNORED = "ignored"  # until it grows
    MERGED = "merged"  # is part of another slice
    SPLIT = "split"  # its parts are slices of their own


@dataclass(frozen=True, kw_only=True, eq=False)
class Span:
    """Records of one model over a stretch of time.

    Attributes:
        attributes: Name to one value a record, (n,); "" is not known.
        failure: (n,) 1 wrong, 0 right, P(wrong) where the truth is not known.
        labelled: (n,) whether the truth is known.
        versions: (n,).
        vectors: By version, the records that have a vector, (m,), and their unit vectors, (m, width).
    """

    attributes: Mapping[str, npt.NDArray[np.str_]]
    failure: npt.NDArray[np.float64]
    labelled: npt.NDArray[np.bool_]
    versions: npt.NDArray[np.str_]
    vectors: Mapping[str, tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Rate:
    """How often a group fails, with a 95 % interval.

    From its labels alone when it has ten or more (Wilson 1927); else the mean of labels and P(wrong), which is as good
    as P(wrong) is calibrated.
    """

    rate: float
    low: float
    high: float
    labelled: int
    labelled_wrong: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Found:
    """A slice of a span. `rows` are its records, the most telling first; `conditions` name it or what is typical."""

    id: str
    kind: SliceKind
    version: str
    conditions: tuple[tuple[str, str], ...]
    words: str
    centre: npt.NDArray[np.float32] | None
    rows: npt.NDArray[np.int64]
    rate: Rate
    p_value: float
    explains: tuple[str, ...] = ()


def rate_of(span: Span, rows: npt.NDArray[np.int64]) -> Rate:
    """How often these records fail."""
    known = rows[span.labelled[rows]]
    n, wrong = len(known), round(float(span.failure[known].sum()))
    if n >= LABELS_ENOUGH:
        p = wrong / n
        centre = (p + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
        half = _Z / (1 + _Z**2 / n) * math.sqrt(p * (1 - p) / n + _Z**2 / (4 * n * n))
        return Rate(rate=p, low=max(0.0, centre - half), high=min(1.0, centre + half), labelled=n, labelled_wrong=wrong)
    e = span.failure[rows]
    mean = float(e.mean()) if len(e) else 0.0
    half = _Z * math.sqrt(float((e * (1.0 - e)).sum())) / max(len(e), 1)
    return Rate(rate=mean, low=max(0.0, mean - half), high=min(1.0, mean + half), labelled=n, labelled_wrong=wrong)


def members(span: Span, conditions: Sequence[tuple[str, str]]) -> npt.NDArray[np.int64]:
    """Records that meet every condition."""
    inside = np.ones(len(span.failure), dtype=bool)
    for name, value in conditions:
        column = span.attributes.get(name)
        inside &= (column == value) if column is not None else False
    return np.flatnonzero(inside)


def search(model: str, span: Span, known: Mapping[str, Sequence[Known]], keep: int) -> list[Found]:
    """All slices of a span, worst first.

    Args:
        model: Its name: part of what a slice of attributes is known by.
        span: Records.
        known: Clusters of earlier spans by version, to be recognised.
        keep: At most so many.
    """
    found = [*_by_attributes(model, span, keep), *_by_embedding(model, span, known)]
    found.sort(key=lambda f: (-f.rate.rate * math.sqrt(len(f.rows)), f.id))
    return _merged(found)[:keep]


def _by_attributes(model: str, span: Span, keep: int) -> list[Found]:
    made = []
    for one in find_slices(span.attributes, span.failure, SliceOptions(keep=keep)):
        rows = one.rows[np.argsort(-span.failure[one.rows], kind="stable")]
        made.append(
            Found(
                id=slice_id(model, one.conditions),
                kind=SliceKind.ATTRIBUTES,
                version="",
                conditions=one.conditions,
                words=in_words(one.conditions),
                centre=None,
                rows=rows,
                rate=rate_of(span, rows),
                p_value=one.p_value,
            )
        )
    return made


def _by_embedding(model: str, span: Span, known: Mapping[str, Sequence[Known]]) -> list[Found]:
    made = []
    for version, (places, units) in sorted(span.vectors.items()):
        for one in find_clusters(units, span.failure[places], known.get(version, ())):
            rows = places[one.rows]
            typical = _typical(span, rows, places)
            told = {k.identity for k in known.get(version, ())}
            fresh = hashlib.sha256(f"{model}\0{version}\0{one.identity}".encode()).hexdigest()[:12]
            made.append(
                Found(
                    id=one.identity if one.identity in told else fresh,
                    kind=SliceKind.CLUSTER,
                    version=version,
                    conditions=typical,
                    words=f"inputs that look alike{', mostly ' + in_words(typical) if typical else ''}",
                    centre=np.asarray(one.centre, dtype=np.float32),
                    rows=rows,
                    rate=rate_of(span, rows),
                    p_value=one.p_value,
                )
            )
    return made


def _typical(span: Span, rows: npt.NDArray[np.int64], among: npt.NDArray[np.int64]) -> tuple[tuple[str, str], ...]:
    """Attribute values that most of the records share and that are rarer elsewhere; at most three."""
    ranked: list[tuple[float, str, str]] = []
    for name, column in span.attributes.items():
        values, counts = np.unique(column[rows], return_counts=True)
        top = int(np.argmax(counts))
        value, share = str(values[top]), counts[top] / len(rows)
        overall = float((column[among] == value).mean())
        if value and share >= _TYPICAL_SHARE and share >= _TYPICAL_LIFT * overall:
            ranked.append((share / max(overall, 1e-9), name, value))
    ranked.sort(key=lambda item: (-item[0], item[1]))
    return tuple((name, value) for _, name, value in ranked[:3])


def _merged(found: Sequence[Found]) -> list[Found]:
    """Without those that another one explains: nearly all of their records are its, and it fails about as often."""
    kept: list[Found] = []
    for one in sorted(found, key=lambda f: (-len(f.rows), f.id)):
        mine = set(one.rows.tolist())
        host = next(
            (
                i
                for i, k in enumerate(kept)
                if k.kind is not one.kind
                and len(mine & set(k.rows.tolist())) >= _INSIDE * len(mine)
                and k.rate.rate >= _AS_BAD * one.rate.rate
            ),
            None,
        )
        if host is None:
            kept.append(one)
        elif one.kind is SliceKind.ATTRIBUTES and len(mine) >= _INSIDE * len(kept[host].rows):
            # Nearly the same records: the one that has a name stays.
            kept[host] = replace(one, explains=(*kept[host].explains, kept[host].words))
        else:
            kept[host] = replace(kept[host], explains=(*kept[host].explains, one.words))
    order = {f.id: i for i, f in enumerate(found)}
    return sorted(kept, key=lambda f: order[f.id])


def slice_id(model: str, conditions: Sequence[tuple[str, str]]) -> str:
    """By what a slice of attributes is known in every search: its model and its conditions, sorted by name."""
    name = "\0".join([model, *(part for condition in conditions for part in condition)])
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:12]


def in_words(conditions: Sequence[tuple[str, str]]) -> str:
    """Conditions for a person.

    Example:
        >>> in_words((("predicted", "eight"), ("x:brightness", "low")))
        'predicted is eight and x brightness is low'
    """
    return " and ".join(f"{name.replace(':', ' ')} is {value}" for name, value in conditions)
