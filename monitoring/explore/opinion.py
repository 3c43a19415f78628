"""What the monitor makes of an answer that was just given: the same scores that a record would get."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from export.contracts.signature import OutputRole
from monitoring.baseline import Baseline
from monitoring.batches import Batch
from monitoring.explore.serving_client import Reply, Tensor
from monitoring.flags import to_reasons
from monitoring.options import CaseOptions
from monitoring.origins import ASIDE
from monitoring.records.record import Outcome
from monitoring.score_fits.book import InForce
from monitoring.scores import score_batch
from monitoring.tasks.protocol import Shown
from monitoring.tasks.tensors import flat_output, number
from monitoring.vectors import to_vectors


@dataclass(frozen=True, kw_only=True, slots=True)
class Opinion:
    """Of one row of an answer. What is not known is None."""

    shown: Shown
    confidence: float | None
    p_wrong: float | None
    value: float | None
    scores: Mapping[str, float | None]
    reasons: tuple[str, ...]
    vector: bytes | None


def opinions(
    baseline: Baseline,
    inputs: Sequence[Tensor],
    reply: Reply,
    options: CaseOptions,
    fits: Sequence[InForce] = (),
    time_ns: int = 0,
) -> list[Opinion]:
    """One opinion a row of the answer.

    Raises:
        ValueError: the answer does not fit the version's signature.
    """
    signature = None if baseline.manifest is None else baseline.manifest.signature
    batched = signature is None or signature.batched
    arrays = {f"in.{x.name}": x for x in inputs} | {f"out.{n}": x for n, x in reply.outputs.items()}
    blocks = {name: x.array if batched else x.array[None] for name, x in arrays.items()}
    rows = max((len(b) for n, b in blocks.items() if n.startswith("out.")), default=0)
    batch = _batch(reply, blocks, {name: x.datatype for name, x in arrays.items()}, rows, time_ns)
    scored = score_batch(baseline, batch, options, fits)
    spec = None if signature is None else signature.output_with_role(OutputRole.EMBEDDING)
    embedding = flat_output(batch, spec)
    vectors = None if embedding is None or not embedding.size else to_vectors(embedding)
    watched = list(enumerate(baseline.quantities))[baseline.input_columns :]
    return [
        Opinion(
            shown=baseline.task.show(scored.answered, row),
            confidence=number(scored.confidence[row]),
            p_wrong=number(scored.p_wrong[row]),
            value=None if scored.answered.value is None else number(scored.answered.value[row]),
            scores={q.name: number(scored.values[row, i]) for i, q in watched},
            reasons=tuple(reason.value for reason in to_reasons(int(scored.flags[0]))),
            vector=None if vectors is None or not vectors[row].any() else vectors[row].tobytes(),
        )
        for row in range(rows)
    ]


def _batch(reply: Reply, blocks: dict[str, Any], datatypes: dict[str, Any], rows: int, time_ns: int) -> Batch:
    us = np.array([int(reply.seconds * 1e6)], dtype=np.int64)
    return Batch(
        model=reply.model,
        version=reply.version,
        digest="",
        variant=ASIDE,
        outcome=Outcome.OK,
        pieces=[],
        ids=[reply.id],
        time_ns=np.array([time_ns], dtype=np.int64),
        rows=np.array([rows], dtype=np.int64),
        queue_us=np.zeros(1, dtype=np.int64),
        compute_us=us,
        total_us=us,
        probability=np.ones(1),
        row_record=np.zeros(rows, dtype=np.int64),
        inputs={name[3:]: array for name, array in blocks.items() if name.startswith("in.")},
        outputs={name[4:]: array for name, array in blocks.items() if name.startswith("out.")},
        datatypes=datatypes,
    )
