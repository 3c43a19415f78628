"""Settings of the gate that candidates pass, or do not."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from deploy.settings_base import Seconds, Section

Share = Annotated[float, Field(gt=0, lt=1)]
Ratio = Annotated[float, Field(ge=1, allow_inf_nan=False)]
Least = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class GatePolicySettings(Section):
    """What is promised, and what is asked. The words are explained in `docs/guides/gate.md`."""

    alpha: Share = 0.01
    """Chance that a candidate which is not better passes "better"."""
    effect: Share = 0.02
    """The gain, of accuracy, that the gate shall be able to see."""
    power: Share = 0.9
    """... with this chance."""
    margin: Share = 0.05
    """On golden, failure and own sets: the loss that is still allowed."""
    margin_alpha: Share = 0.05
    """Chance that a candidate which is worse by `margin` passes "not worse"."""
    slice_alpha: Share = 0.01
    """Chance that a candidate which is worse on no slice is stopped by any of them."""
    smallest_slice: int = Field(default=20, ge=1)
    """Slices with fewer inputs are shown and not tested."""
    uses: int = Field(default=20, ge=1)
    """How often a fixed set may be looked at; `margin_alpha` is shared out among the looks."""
    ask_better: bool = True
    """Whether audited inputs are asked "better"; without it they are asked "not worse" like all others."""


class GateBudgetSettings(Section):
    """How much more a candidate may cost than the champion."""

    latency: Ratio = 1.5
    """Largest ratio of the median time of a request of one row, and of its 95 % quantile."""
    latency_ms: Least = 0.5
    """... a difference of so many milliseconds is never too much."""
    memory: Ratio = 1.5
    """Largest ratio of the memory that loading and answering take."""
    memory_mib: Least = 64.0
    """... a difference of so many MiB is never too much."""
    size: Ratio = 2.0
    """Largest ratio of the packages' sizes."""
    size_mib: Least = 8.0
    """... a difference of so many MiB is never too much."""
    timings: int = Field(default=200, ge=0)
    """Requests of one row that are timed of each version; 0 leaves latency out."""


class OwnSetSettings(Section):
    """A labelled set of the model's owner, as a snapshot folder (`hardcase dataset`)."""

    model: str = Field(min_length=1)
    """Name of the model."""
    name: str = Field(min_length=1, max_length=100)
    """Names the set in reports."""
    folder: str = Field(min_length=1)
    """Where the snapshot lies."""
    kind: Literal["audited", "golden", "failures", "own"] = "own"
    """What it is: only `audited`, drawn at random from recent traffic, is asked "better"."""


class GateSettings(Section):
    """How candidates are judged before they get traffic."""

    policy: GatePolicySettings = GatePolicySettings()
    budgets: GateBudgetSettings = GateBudgetSettings()
    audited_s: Seconds = 30 * 86_400.0
    """Audited inputs of the last so many seconds are asked "better", counted back from the newest record."""
    audited_inputs: int = Field(default=20_000, ge=1)
    """... the newest so many of them at most."""
    sets: tuple[OwnSetSettings, ...] = ()
    """Sets of the models' owners; every candidate of the model is tried on them."""
    batch_rows: int = Field(default=64, ge=1)
    """Inputs that a version answers at once, at most what its package allows."""
    silence_s: Seconds = 300.0
    """A version that answers nothing for so long is given up."""
    report_rows: int = Field(default=1000, ge=1, le=20_000)
    """Inputs that the HTML report lists at most."""
    ray: str = ""
    """Address of a Ray cluster that answers large sets, such as `auto`; empty: the monitor's machine does."""

    @model_validator(mode="after")
    def _apart(self) -> GateSettings:
        names = [(one.model, one.name) for one in self.sets]
        if len(set(names)) != len(names):
            raise ValueError("two sets of one model have the same name")
        return self
