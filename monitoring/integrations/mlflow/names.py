"""Names that Hardcase uses in MLflow, and states of what comes from it."""

from __future__ import annotations

from enum import StrEnum

MARK = "hardcase"  # tag of a version: what somebody asks of us, or what became of it
ASKED = "import"  # value of the tag by which somebody asks
CHAMPION = "champion"  # alias: answers the clients
CANDIDATE = "candidate"  # alias: shadow or canary, or what the gate looks at


class Service(StrEnum):
    """What the monitor talks to, besides labelling tools."""

    MLFLOW = "mlflow"


class ImportState(StrEnum):
    """Where a version stands that somebody registered for us."""

    FOUND = "found"  # is to be fetched
    TAKEN = "taken"  # a turn of the loop has it: gate and roll-out follow
    REFUSED = "refused"  # cannot become a version here; `problem` says why
