"""Settings of what the monitor finds and keeps: failure cases, drift signals, retention."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from deploy.settings_base import Seconds, Section, Share, Size


class CaseSettings(Section):
    """Which records become failure cases, and how many. A window's budget bounds disk and reviewers' time alike."""

    flag_rate: Share = 0.02
    """Share of *healthy* traffic that the low-confidence rule may flag; sets its threshold on P(wrong)."""
    flag_above: Share = 0.5
    """The threshold on P(wrong) where a version has no reference."""
    novelty_level: Share = 0.995
    """Quantile of the reference's novelty score (RMDS) above which an input counts as novel."""
    audit_rate: Share = 0.01
    """Share of answered records drawn uniformly at random for audit."""
    probe_rate: Share = 0.0
    """Above 0, doubtful records are drawn for the alarms besides: with this chance when they are certainly wrong, less
    by the root of P(wrong) otherwise. An alarm then needs fewer labels; estimates of accuracy go by the audit alone."""
    scored_per_window: int = Field(default=100, ge=0)
    """Cases that scores and novelty may open per window: different inputs, drawn in proportion to P(wrong)."""
    audits_per_window: int = Field(default=20, ge=0)
    """Cases that the audit may open per window; the draw stays uniform."""
    probes_per_window: int = Field(default=20, ge=0)
    """Cases that probes may open per window."""
    rules_per_window: int = Field(default=20, ge=0)
    """Cases per window from failed requests, outputs that are not finite and passed deadlines."""
    feedback_per_window: int = Field(default=200, ge=0)
    """Cases per window from negative feedback."""
    disagreements_per_window: int = Field(default=50, ge=0)
    """Cases per window from answers that a shadow contradicts."""
    audit_floor: Share = 0.15
    """Share of the review queue's places that go to audit cases, as long as there are any."""
    group_s: Seconds = 86_400.0
    """How far back, in event time, a case looks for one that it is a near-duplicate of."""
    value_error_factor: float = Field(default=3.0, gt=0, allow_inf_nan=False)
    """A regression's answer is wrong when it misses the label by more than this many times the reference's mean
    absolute error."""
    tensor_bytes: Size = 1 << 20
    """Largest tensor kept with a case; of a larger one only name, datatype and shape are kept."""


class SliceSearchSettings(Section):
    """When slices (groups of records that fail more than the rest) are looked for, and among which records."""

    every_windows: int = Field(default=5, ge=1)
    """Slices are looked for once in so many windows of event time."""
    span_s: Seconds = 86_400.0
    """Records of this long before are looked at."""
    records: int = Field(default=100_000, ge=100)
    """Of them at most the newest so many."""
    keep: int = Field(default=20, ge=1)
    """Slices of one search at most."""
    shown_days: float = Field(default=30.0, gt=0)
    """A slice that was not found for so long is forgotten."""


class ModelToleranceSettings(Section):
    """The error rate that is all right for one model."""

    model: str = Field(min_length=1)
    """Name of the model."""
    tolerance: float = Field(gt=0, lt=1)
    """Share of wrong answers that is all right."""


class AlarmSettings(Section):
    """When an alarm on the audited error rate fires, and when it ends. See docs/guides/alarms.md."""

    margin: float = Field(default=0.05, gt=0, lt=1)
    """A model's tolerance is its reference's error rate plus this, where `tolerances` does not name it."""
    tolerances: tuple[ModelToleranceSettings, ...] = ()
    """Models whose tolerance is set rather than derived."""
    lifetime_alpha: float = Field(default=0.01, gt=0, lt=1)
    """Chance that a model's lifetime alarm ever fires falsely."""
    run_length: float = Field(default=10_000.0, gt=1)
    """Audited labels between two false run-length alarms of a model: at least so many, on average."""
    recovery_run_length: float = Field(default=200.0, gt=1)
    """While the error rate is not below the tolerance, an alarm ends falsely at most once in so many labels."""
    interval_s: Seconds = 1.0
    """Audited labels are counted at most this often."""


class ScoreSettings(Section):
    """When P(wrong) is fitted again from labels, and on which. A refit is adopted only if it ranks no worse."""

    refit_s: int = Field(default=900, ge=1)
    """Labels are looked at whenever so many seconds of event time have passed."""
    hold_s: int = Field(default=60, ge=1)
    """A refit holds for records from so many seconds after; at least `monitor.lateness_s`."""
    min_labels: int = Field(default=100, ge=20)
    """Labels that a refit needs."""
    min_audited: int = Field(default=30, ge=1)
    """Labels of randomly drawn records among them."""
    min_wrong: int = Field(default=10, ge=2)
    """Wrong answers among them, and right ones."""
    growth: float = Field(default=0.2, ge=0)
    """Labels given since the last refit that the next one needs, as a share of what that one had."""
    labels: int = Field(default=4000, ge=100)
    """Labels that a refit uses at most: the newest."""
    all_labels: bool = False
    """Whether labels that came by themselves (neither drawn nor picked) are a fair sample of the traffic."""


class DriftSettings(Section):
    """When a difference from the reference counts as a drift signal. Signals are drawn; they never page anybody."""

    false_signal_rate: float = Field(default=0.001, gt=0, lt=1)
    """Chance that one signal of a healthy window exceeds its threshold."""
    min_rows: int = Field(default=100, ge=2)
    """Below this many rows a signal is "not enough data"."""
    rolling_windows: int = Field(default=10, ge=1)
    """Windows that the rolling scope merges."""
    interval_s: Seconds = 2.0
    """Signals of changed windows are computed at most this often."""
    psi_floor: float = Field(default=0.1, ge=0)
    """A population stability index below this is never a signal."""
    wasserstein_floor: float = Field(default=0.1, ge=0)
    """The same for Wasserstein-1, in standard deviations of the reference."""
    jensen_shannon_floor: float = Field(default=0.1, ge=0)
    """The same for the Jensen-Shannon distance (natural logarithm)."""
    ks_floor: float = Field(default=0.05, ge=0)
    """The same for the Kolmogorov-Smirnov distance."""


class ReportSettings(Section):
    """Evidently's reports: which are made without anybody asking, and what each may cost."""

    every_s: int = Field(default=86_400, ge=0)
    """Reports of each whole span of so many seconds, when the log's time has passed it; 0: none."""
    kinds: tuple[Literal["drift", "summary", "quality"], ...] = ("drift", "summary", "quality")
    """Of which kinds those are."""
    at_alarms: bool = True
    """Whether every alarm that fires gets a drift and a quality report of the stretch before it."""
    keep: int = Field(default=100, ge=1)
    """Finished reports kept; what they said of each column is kept as long as windows are."""
    keep_bytes: Size = 1 << 30
    """Bytes of their files kept."""
    max_rows: int = Field(default=2000, ge=30)
    """Rows of each table; more are sampled, and the report says so."""
    memory_bytes: Size = 4 << 30
    """Address space of the process that makes a report (the library maps 1.8 GiB before it does anything)."""
    timeout_s: Seconds = 180.0
    """Longest time that one report may take."""


class RetentionSettings(Section):
    """What the monitor keeps. Ages count only while it runs, so that a jumping clock deletes nothing early."""

    interval_s: Seconds = 60.0
    """How often old rows are looked for."""
    record_rows: int = Field(default=2_000_000, ge=1)
    """Records in the index: those that late feedback still finds."""
    window_days: float = Field(default=90.0, gt=0)
    """Days that windows are kept."""
    sample_days: float = Field(default=2.0, gt=0)
    """Days that samples of input values are kept, for reports."""
    signal_days: float = Field(default=14.0, gt=0)
    """Days that drift signals are kept."""
    case_rows: int = Field(default=50_000, ge=1)
    """Cases; past it the oldest without a label go first."""
    tensor_bytes: Size = 2 << 30
    """Bytes of all tensors kept with cases; past it the oldest cases lose theirs."""
    feedback_days: float = Field(default=180.0, gt=0)
    """Days that feedback is kept."""
    audit_label_rows: int = Field(default=100_000, ge=1000)
    """Audited labels kept per model; past it the oldest go. The evidence does not need them."""
    dead_letter_rows: int = Field(default=10_000, ge=1)
    """Records that could not be read, kept with the reason."""
    log_bytes: Size = 4 << 30
    """Bytes of consumed record logs of replicas that ended; past it the oldest go."""
    event_rows: int = Field(default=50_000, ge=1)
    """Events of the replicas that are kept."""
