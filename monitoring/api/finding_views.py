"""Slices, groups and neighbours as the API's answers."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from export.contracts.errors import NotFound
from export.contracts.privacy import policy_of
from monitoring import slice_queries as q
from monitoring.api import fields
from monitoring.api import finding_models as f
from monitoring.api.views import View
from monitoring.baselines import Baselines
from monitoring.batches import Batch, Place, assemble
from monitoring.images import to_png
from monitoring.keys import printable
from monitoring.neighbours import Neighbour, Neighbours
from monitoring.refetch import Refetch
from monitoring.slices.found import SliceState
from monitoring.vectors import cosines, stack, to_vectors

CASES_SHOWN = 24
NO_VECTOR = "this version has no output with the role embedding, or the record was kept without it"


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What the answers about slices and neighbours are made of."""

    view: View
    baselines: Baselines
    neighbours: Neighbours
    refetch: Refetch | None = None

    def slices(self, query: f.SliceQuery) -> list[f.Slice]:
        """Slices of all models, or of one."""
        if query.model is not None:
            self.view.known(query.model)
        hidden = (SliceState.MERGED, SliceState.SPLIT)
        states = [query.state] if query.state is not None else [s for s in SliceState if s not in hidden]
        rows = q.slices(self.view.store, query.model, query.current, query.limit, states=states, owner=query.owner)
        return [self.of_row(row, 6) for row in rows]

    def slice(self, identity: str, cases: int = CASES_SHOWN) -> f.Slice:
        """One slice.

        Raises:
            NotFound: there is none.
        """
        rows = q.slices(self.view.store, identity=identity)
        if not rows:
            raise NotFound("there is no slice with this id")
        return self.of_row(rows[0], cases)

    def of_row(self, row: q.SliceRow, cases: int) -> f.Slice:
        """A slice with some of its cases."""
        same = {n: getattr(row, n) for n in f.Slice.model_fields if hasattr(row, n) and n != "points"}
        points = [
            f.SlicePoint.model_validate(
                {n: getattr(p, n) for n in f.SlicePoint.model_fields if n != "end"}
                | {"end": fields.from_ns(p.end_s * 10**9)}
            )
            for p in row.points
        ]
        return f.Slice.model_validate(
            same
            | {
                "version": row.version or None,
                "owner": row.owner or None,
                "fixed_in": row.fixed_in or None,
                "merged_into": row.merged_into or None,
                "split_from": row.split_from or None,
                "sentence": sentence(row),
                "basis": "labels" if row.labelled >= 10 else "estimate",
                "first_at": fields.from_ns(row.first_s * 10**9),
                "last_at": fields.from_ns(row.last_s * 10**9),
                "points": points,
                "cases": q.cases_of_slice(self.view.store, row.id, cases),
            }
        )

    def members(self, identity: str, limit: int = 200) -> f.Members:
        """What a case stands for."""
        self.view.case_row(identity)
        rows = q.members_of_group(self.view.store, identity, limit)
        leader = q.leader_of(self.view.store, identity)
        count = q.counts_of_groups(self.view.store, [leader]).get(leader)
        return f.Members(
            leader=leader,
            cases=1 if count is None else count.cases,
            records=1 if count is None else count.records,
            members=[
                f.Member(record_id=m.record_id, time=fields.from_ns(m.time_ns), likeness=m.likeness, case=m.case_id)
                for m in rows
            ],
        )

    def near(self, identity: str, query: f.NeighbourQuery) -> f.Neighbours:
        """Inputs like a case's."""
        row = self.view.case_row(identity)
        vector = q.vector_of_case(self.view.store, identity)
        if vector is None:
            return f.Neighbours(neighbours=[], missing=NO_VECTOR)
        if query.of is f.NeighbourSource.REFERENCE:
            return self._near_reference(row.model, row.version, vector, query.k)
        only_cases = query.of is f.NeighbourSource.CASES
        found = self.neighbours.of_records(row.model, row.version, vector, query.k + 1, only_cases)
        others = [n for n in found if (n.record_id, n.time_ns) != (row.record_id, row.time_ns)]
        made = self._lines(row.model, row.version, others)
        return f.Neighbours(neighbours=made[: query.k], missing=None if made else "no other record has an embedding")

    def near_vector(self, model: str, version: str, vector: bytes, k: int) -> list[f.Neighbour]:
        """Recorded inputs of a version whose embedding is most like a vector."""
        return self._lines(model, version, self.neighbours.of_records(model, version, vector, k)) if k else []

    def _lines(self, model: str, version: str, found: list[Neighbour]) -> list[f.Neighbour]:
        names = self.baselines.get(model, version).class_names
        made = []
        for n in found:
            drawable = self.view.picture_of(n.model, n.version) is not None
            kept = n.case_id is not None and n.input_state in ("kept", "thumbnail")
            picture = f"/api/cases/{n.case_id}/input.png" if kept else f"/api/inputs/{n.seq}.png"
            named = n.predicted is not None and n.predicted < len(names)
            made.append(
                f.Neighbour(
                    likeness=n.likeness,
                    record_id=n.record_id,
                    time=fields.from_ns(n.time_ns),
                    predicted=names[n.predicted or 0] if named else None if n.predicted is None else str(n.predicted),
                    p_wrong=n.p_wrong,
                    correct=None if n.correct_rows is None else n.correct_rows == n.rows,
                    label=None if n.label is None else json.loads(n.label),
                    case=n.case_id,
                    picture=picture if drawable else None,
                )
            )
        return made

    def _near_reference(self, model: str, version: str, vector: bytes, k: int) -> f.Neighbours:
        profile = self.baselines.get(model, version).profile
        if profile is None or profile.embedding is None:
            return f.Neighbours(neighbours=[], missing="this version's package has no reference embeddings")
        alike = cosines(to_vectors(profile.embedding.sample), stack([vector]))[:, 0]
        best = np.argsort(-alike, kind="stable")[:k]
        empty = dict.fromkeys(("record_id", "time", "predicted", "p_wrong", "correct", "label", "case", "picture"))
        return f.Neighbours(
            neighbours=[f.Neighbour.model_validate(empty | {"likeness": round(float(alike[i]), 5)}) for i in best],
            missing=None,
        )

    def picture(self, seq: int, side: int) -> bytes:
        """The input of any record that the log, or the archive, still has.

        Raises:
            NotFound: it is gone, or is not a picture.
        """
        row = q.record_at(self.view.store, seq)
        spec = None if row is None else self.view.picture_of(row["model"], row["version"])
        kept = row is not None and policy_of(self.view.privacy, row["model"]).keeps_everything
        if row is None or spec is None or spec.preprocess is not None or self.refetch is None or not kept:
            raise NotFound("there is no such record, or its input is not a picture")
        place = Place(**{name: row[name] for name in ("source", "segment", "offset", "sequence")})
        records = self.refetch(place)
        for batch in [] if records is None else assemble([(place, records)], []):
            found = _input(batch, row["record_id"], row["time_ns"], spec.name, row["worst_row"])
            if found is not None:
                return to_png(found, spec.display, side)
        raise NotFound("the input of this record is no longer kept")


def sentence(row: q.SliceRow) -> str:
    """A slice for a person."""
    share = f"{row.failure_rate:.0%} of {row.rows:,} requests"
    how = "fail" if row.labelled >= 10 else "are expected to fail"
    ratio = row.failure_rate / row.overall_rate if row.overall_rate > 0 else 0.0
    times = f", {ratio:.1f} times as often as overall ({row.overall_rate:.1%})" if ratio >= 1.05 else ""
    words = row.words[:1].upper() + row.words[1:]
    return f"{words}: {share} {how}{times}."


def _input(batch: Batch, record_id: str, time_ns: int, name: str, row: int) -> npt.NDArray[Any] | None:
    for i, identity in enumerate(batch.ids):
        if int(batch.time_ns[i]) == time_ns and printable(identity) == record_id and name in batch.inputs:
            rows = batch.inputs[name][batch.rows_of(i)]
            return np.asarray(rows[row]) if row < len(rows) and rows.dtype != object else None
    return None
