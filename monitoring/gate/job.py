"""What the gate's job is asked, and what it leaves. The job runs outside the monitor: `python -m deploy.gate_job`.

In the output folder lie, when it has ended well: `verdict.json` (`GateResult`), `report.html` (for people, one file),
`junit.xml`, `openlineage.json`, `inputs.csv` (every input with both answers).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from export.contracts import codec
from monitoring.gate.contracts import Check, Flip, GatePolicy, Outcome, SetKind

GATE_SCHEMA_VERSION = 1
REQUEST_FILE = "request.json"
VERDICT_FILE = "verdict.json"
REPORT_FILE = "report.html"
JUNIT_FILE = "junit.xml"
LINEAGE_FILE = "openlineage.json"
INPUTS_FILE = "inputs.csv"


@dataclass(frozen=True, kw_only=True, slots=True)
class GateSet:
    """A labelled set that lies in a snapshot folder (`export.dataset`).

    Attributes:
        name: Unique among the sets of a request, for people.
        folder: Absolute.
        source: What is looked at again and again, such as "golden:<digest>"; its uses are counted by it.
        used: Gates that looked at it before.
        note: What was left out and why, in a sentence.
    """

    name: str
    kind: SetKind
    folder: str
    source: str = ""
    used: int = 0
    note: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class GateBudgets:
    """How much more a candidate may cost than the champion.

    Attributes:
        latency: Largest ratio of the median time of a request of one row, and of its 95 % quantile.
        latency_ms: ... a difference of so many milliseconds is never too much.
        memory: Largest ratio of the memory that loading and answering take.
        memory_mib: ... a difference of so many MiB is never too much.
        size: Largest ratio of the packages' sizes.
        size_mib: ... a difference of so many MiB is never too much.
        timings: Requests of one row that are timed of each version; 0 leaves latency out.
    """

    latency: float = 1.5
    latency_ms: float = 0.5
    memory: float = 1.5
    memory_mib: float = 64.0
    size: float = 2.0
    size_mib: float = 8.0
    timings: int = 200


@dataclass(frozen=True, kw_only=True, slots=True)
class GateRequest:
    """What a gate is asked. Paths are absolute folders, readable where the gate runs.

    Attributes:
        id: Of the gate.
        champion: Package folder of the version that is to be beaten.
        candidate: Package folder.
        output: Folder that it may write to.
        trained_on: Snapshot folders of the candidate and the champion: their training rows are left out of all sets.
        slice_names: {slice id: what people call it}.
        training_id: Of the training that made the candidate; "" where there was none.
        batch_rows: Inputs that are answered at once, at most what the packages allow.
        silence_s: A version that answers nothing for so long is given up.
        report_rows: Inputs that the HTML report lists at most; `inputs.csv` has all.
        ray: Address of a cluster that answers the inputs; None: this machine.
    """

    id: str
    model: str
    champion: str
    candidate: str
    output: str
    sets: tuple[GateSet, ...]
    policy: GatePolicy = field(default_factory=GatePolicy)
    budgets: GateBudgets = field(default_factory=GateBudgets)
    trained_on: tuple[str, ...] = ()
    slice_names: dict[str, str] = field(default_factory=dict)
    training_id: str = ""
    batch_rows: int = 64
    silence_s: float = 300.0
    report_rows: int = 1000
    ray: str | None = None
    schema_version: int = GATE_SCHEMA_VERSION

    def write(self, folder: Path) -> Path:
        """Write it as `request.json` into a folder that is made when missing, whole or not at all; returns the file."""
        folder.mkdir(parents=True, exist_ok=True)
        temporary = folder / f".{REQUEST_FILE}.new"
        temporary.write_bytes(codec.dumps(self))
        return temporary.replace(folder / REQUEST_FILE)


@dataclass(frozen=True, kw_only=True, slots=True)
class Version:
    """One of the two that were compared. Fields that could not be read are empty."""

    version: str
    digest: str = ""
    created_at: str = ""
    dataset_snapshot: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class SetResult:
    """What a set was, and how both versions did on it.

    Attributes:
        inputs: With a truth that can be compared.
        unusable: Inputs left out, because nobody can compare their label with an answer.
        trained_on: Inputs left out, because one of the two versions was trained on them.
        champion: {metric of the task: value}, such as accuracy, macro_f1, map, mae.
        candidate: The same.
    """

    name: str
    kind: SetKind
    source: str
    digest: str
    inputs: int
    unusable: int
    trained_on: int
    used: int
    note: str = ""
    champion: dict[str, float] = field(default_factory=dict)
    candidate: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class GateResult:
    """What `verdict.json` holds.

    Attributes:
        words: The outcome and why, in one sentence.
        costs: {cost: (champion, candidate)}: latencies in ms, memory and size in MiB, throughput in rows/s.
        started_at: RFC 3339, UTC.
        seconds: {part of the work: its duration}.
    """

    id: str
    model: str
    training_id: str
    task: str
    champion: Version
    candidate: Version
    outcome: Outcome
    words: str
    checks: tuple[Check, ...]
    sets: tuple[SetResult, ...]
    negative_flips: tuple[Flip, ...]
    positive_flips: tuple[Flip, ...]
    policy: GatePolicy
    budgets: GateBudgets
    costs: dict[str, tuple[float, float]]
    started_at: str
    seconds: dict[str, float]
    schema_version: int = GATE_SCHEMA_VERSION


def read_request(path: Path) -> GateRequest:
    """The request that a file holds.

    Raises:
        ValueError: it is no request, or of another release.
    """
    return codec.loads(GateRequest, path.read_bytes())


def read_result(output: Path) -> GateResult:
    """The result that a job left in its output folder.

    Raises:
        OSError: there is none.
        ValueError: it is no result, or of another release.
    """
    return codec.loads(GateResult, (output / VERDICT_FILE).read_bytes())
