"""What the API says about accuracy."""

from __future__ import annotations

from pydantic import Field

from monitoring.accuracy.estimate import AccuracyScope, Measure, Method
from monitoring.accuracy.queries import AccuracyRow
from monitoring.api import fields
from monitoring.api.fields import Answer, Time


class AccuracyEstimate(Answer):
    """One estimate of how accurate a version was over some time."""

    version: str
    variant: str
    scope: AccuracyScope
    start: Time = Field(description="Start of the newest window in it.")
    length_s: int = Field(description="How far it reaches back from that window's end.")
    method: Method
    measure: Measure
    value: float | None = Field(description="None: `missing` says why.")
    low: float | None
    high: float | None
    level: float | None = Field(
        description="Coverage of the interval: nominal for audits; of the similar rehearsed windows for a rehearsal."
    )
    rows: int
    labels: int = Field(description="Audited labels behind it.")
    trusted: bool = Field(description="False where something speaks against it; `caveat` says what.")
    best: bool = Field(description="The one to show where there is room for one.")
    missing: str
    caveat: str
    sentence: str = Field(description="The same for people.")

    @classmethod
    def of(cls, row: AccuracyRow) -> AccuracyEstimate:
        """From a stored row."""
        values = {name: getattr(row, name) for name in cls.model_fields if name != "start"}
        return cls.model_validate(values | {"start": fields.from_ns(row.start_s * 10**9)})


class Accuracy(Answer):
    """How accurate a model is: the one estimate to show of each version, and everything behind it."""

    model: str
    now: list[AccuracyEstimate]
    estimates: list[AccuracyEstimate]
