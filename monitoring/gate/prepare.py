"""From what the monitor knows to the request of a gate: the labelled sets written, the policy filled in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from export.contracts.manifest import Manifest
from monitoring.datasets.build import SnapshotSource
from monitoring.gate.job import GateRequest
from monitoring.gate.options import GateOptions
from monitoring.gate.sets import write_gate_sets


@dataclass(frozen=True, kw_only=True)
class Competitor:
    """A version with its package folder. The manifest of a candidate that cannot be read is None."""

    folder: Path
    manifest: Manifest | None


def prepare_gate(
    source: SnapshotSource,
    champion: Competitor,
    candidate: Competitor,
    *,
    gate_id: str,
    output: Path,
    options: GateOptions,
    datasets: Path,
    training_id: str = "",
) -> Path:
    """Write the sets and the request of a gate; returns the request file. Done again, it gives the same.

    Args:
        source: Records, cases, labels.
        champion: With its manifest.
        candidate: Who is judged.
        gate_id: Of the gate.
        output: Folder of the gate: the request lies in it, the sets below `sets`, and what the job leaves.
        options: Settings of the gate.
        datasets: Folder of the snapshots.
        training_id: Of the training that made the candidate.

    Raises:
        ValueError: the champion has no manifest.
        OSError: disk.
    """
    if champion.manifest is None:
        raise ValueError("a gate needs the champion's manifest")
    made = write_gate_sets(
        source, champion.manifest, candidate.manifest, options=options, datasets=datasets, root=output / "sets"
    )
    request = GateRequest(
        id=gate_id,
        model=champion.manifest.name,
        champion=str(champion.folder),
        candidate=str(candidate.folder),
        output=str(output),
        sets=made.sets,
        policy=options.policy,
        budgets=options.budgets,
        trained_on=made.trained_on,
        slice_names=made.slice_names,
        training_id=training_id,
        batch_rows=options.batch_rows,
        silence_s=options.silence_s,
        report_rows=options.report_rows,
        ray=options.ray,
    )
    return request.write(output)
