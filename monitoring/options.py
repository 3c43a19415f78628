"""The monitor's settings as frozen records. `deploy.settings` builds them; nothing here reads a file."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from export.contracts.privacy import PrivacyPolicy
from monitoring.archive_options import ArchiveOptions
from monitoring.gate.options import GateOptions
from monitoring.inference_options import InferenceOptions
from monitoring.integrations.mlflow.options import ExperimentOptions
from monitoring.integrations.options import IntegrationOptions
from monitoring.loop.options import LoopOptions
from monitoring.notify.options import ChannelOptions
from monitoring.people.contracts import SignIn
from monitoring.rollout.options import RolloutOptions


@dataclass(frozen=True, kw_only=True, slots=True)
class CaseOptions:
    """Which records become failure cases, and how many. A window's budget bounds disk and reviewers' time alike.

    Attributes:
        flag_rate: Share of *healthy* traffic that the low-confidence rule may flag: the threshold on P(wrong) is the
            reference's quantile at 1 - flag_rate.
        flag_above: The threshold on P(wrong) where a version has no reference.
        novelty_level: Quantile of the reference's RMDS above which an input counts as novel.
        audit_rate: Share of answered records drawn uniformly at random for audit.
        probe_rate: Chance with which a record that is certainly wrong is drawn for the alarms
            (`monitoring.alarms.draw`); 0: the audit alone feeds them.
        scored_per_window: Cases that scores and novelty may open per window: the highest P(wrong) win.
        audits_per_window: ... the audit: those with the lowest audit rank win, which keeps the draw uniform.
        probes_per_window: ... the probes: those with the lowest rank for their chance win.
        rules_per_window: ... failed requests, outputs that are not finite, passed deadlines.
        feedback_per_window: ... negative feedback.
        disagreements_per_window: ... answers that a shadow contradicts.
        audit_floor: Share of the review queue's places that go to audit cases, as long as there are any.
        group_s: How far back a case looks for one that is alike, in seconds of event time.
        value_error_factor: A regression's answer counts as wrong when it misses the label by more than this many times
            the mean absolute error on the reference.
        tensor_bytes: Largest tensor kept with a case; of a larger one only its name, datatype and shape are kept.
    """

    flag_rate: float = 0.02
    flag_above: float = 0.5
    novelty_level: float = 0.995
    audit_rate: float = 0.01
    probe_rate: float = 0.0
    scored_per_window: int = 100
    audits_per_window: int = 20
    probes_per_window: int = 20
    rules_per_window: int = 20
    feedback_per_window: int = 200
    disagreements_per_window: int = 50
    audit_floor: float = 0.15
    group_s: float = 86_400.0
    value_error_factor: float = 3.0
    tensor_bytes: int = 1 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoreOptions:
    """When P(wrong) is fitted again, and on what.

    Attributes:
        refit_s: Labels are looked at whenever so much event time has passed.
        hold_s: A refit holds for records from so long after; at least the monitor's lateness.
        min_labels: Labels that a refit needs.
        min_audited: Labels of randomly drawn records among them: without these nothing is known of what was not picked.
        min_wrong: Wrong answers among them, and right ones.
        growth: Labels given since the last refit that the next one needs, as a share of what that one had.
        labels: Labels that a refit uses at most: the newest.
        all_labels: Labels that came by themselves (neither drawn for audit nor picked by the scores) are a fair sample
            of the traffic, as where the truth arrives for every request; otherwise they are left out.
    """

    refit_s: int = 900
    hold_s: int = 60
    min_labels: int = 100
    min_audited: int = 30
    min_wrong: int = 10
    growth: float = 0.2
    labels: int = 4000
    all_labels: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class SliceSearchOptions:
    """When slices are looked for, and among which records.

    Attributes:
        every_windows: Slices are looked for once in so many windows of event time.
        span_s: Records of this long before are looked at.
        records: ... of which at most the newest so many.
        keep: Slices of one search at most.
        shown_days: A slice that was not found for so long is forgotten.
    """

    every_windows: int = 5
    span_s: float = 86_400.0
    records: int = 100_000
    keep: int = 20
    shown_days: float = 30.0


@dataclass(frozen=True, kw_only=True, slots=True)
class DriftOptions:
    """When a difference from the reference counts as a signal.

    Attributes:
        false_signal_rate: Chance that one signal of a healthy window exceeds its threshold.
        min_rows: Below this many rows a signal is "not enough data".
        rolling_windows: Windows that the rolling scope merges.
        interval_s: Signals of changed windows are computed at most this often.
        psi_floor: A population stability index below this is never a signal (0.1: "moderate" in the industry's use).
        wasserstein_floor: The same for Wasserstein-1, in standard deviations of the reference.
        jensen_shannon_floor: The same for the Jensen-Shannon distance (natural logarithm).
        ks_floor: The same for the Kolmogorov-Smirnov distance.
    """

    false_signal_rate: float = 0.001
    min_rows: int = 100
    rolling_windows: int = 10
    interval_s: float = 2.0
    psi_floor: float = 0.1
    wasserstein_floor: float = 0.1
    jensen_shannon_floor: float = 0.1
    ks_floor: float = 0.05


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelTolerance:
    """The error rate that is all right for one model."""

    model: str
    tolerance: float


@dataclass(frozen=True, kw_only=True, slots=True)
class AlarmOptions:
    """When an alarm on the audited error rate fires, and when it ends.

    Attributes:
        margin: The tolerance of a model is its reference's error rate plus this, where nothing else is set.
        tolerances: Of single models.
        lifetime_alpha: Chance that a model's lifetime alarm ever fires falsely.
        run_length: Labels between two false run-length alarms, on average, at least.
        recovery_run_length: The same for the evidence that ends an alarm: while the error rate is not below the
            tolerance, an alarm ends falsely at most once in so many labels.
        interval_s: Labels are counted at most this often.
    """

    margin: float = 0.05
    tolerances: tuple[ModelTolerance, ...] = ()
    lifetime_alpha: float = 0.01
    run_length: float = 10_000.0
    recovery_run_length: float = 200.0
    interval_s: float = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class RetentionOptions:
    """What is kept. Ages count only while the monitor runs, so that a jumping clock deletes nothing early.

    Attributes:
        record_rows: Records in the index: those that late feedback still finds.
        case_rows: Cases; past it the oldest without a label go first.
        tensor_bytes: Bytes of all tensors kept with cases; past it the oldest cases lose theirs.
        log_bytes: Bytes of consumed logs of dead replicas; past it the oldest go.
        audit_label_rows: Audited labels kept per model; past it the oldest go. The evidence does not need them.
    """

    interval_s: float = 60.0
    record_rows: int = 2_000_000
    window_days: float = 90.0
    sample_days: float = 2.0
    signal_days: float = 14.0
    case_rows: int = 50_000
    tensor_bytes: int = 2 << 30
    feedback_days: float = 180.0
    audit_label_rows: int = 100_000
    dead_letter_rows: int = 10_000
    log_bytes: int = 4 << 30
    event_rows: int = 50_000


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportingOptions:
    """Evidently's reports: which are made without anybody asking, and what all of them may cost.

    Attributes:
        every_s: A report of each whole span of this length, aligned to the epoch; 0: none.
        kinds: Of which kinds (`monitoring.report_shelf.ReportKind`).
        at_alarms: Drift and quality reports of the stretch before every alarm that fires.
        keep: Finished reports kept.
        keep_bytes: Bytes of their files kept.
        max_rows: Rows of each table; more are sampled, and the report says so.
        memory_bytes: Address space of the worker process.
        timeout_s: Wall-clock limit of one report.
    """

    every_s: int = 86_400
    kinds: tuple[str, ...] = ("drift", "summary", "quality")
    at_alarms: bool = True
    keep: int = 100
    keep_bytes: int = 1 << 30
    max_rows: int = 2000
    memory_bytes: int = 4 << 30
    timeout_s: float = 180.0


@dataclass(frozen=True, kw_only=True, slots=True)
class MonitorOptions:
    """One monitor process.

    Attributes:
        records_root: The record log's folder, shared with the replicas.
        database_url: SQLAlchemy URL: `sqlite:////absolute/path/monitor.db` or `postgresql+psycopg://…`.
        state_dir: Folder for what is not in the database (reports).
        poll_interval_s: Pause between cycles when there is nothing to read.
        batch_bytes: Log bytes that one cycle, and so one transaction, takes at most.
        window_s: Length of a window.
        lateness_s: How far behind the newest record a record may be before it counts as late. It is counted either way.
        sample_rows: Rows of watched input values kept per window, for reports.
        host: Where console and API listen.
        loop: When and how models are trained again.
        gate: How candidates are judged.
        notify: Channels that are told what happened.
        experiments: MLflow: where it is, and what it is told.
        keys: Request parameters and tags by which feedback may name records.
        token_sha256: SHA-256 (hex) of the bearer tokens that console and API accept.
        sign_in: When people have to say who they are.
        session_idle_s: An unused session ends after so long.
        session_s: Every session ends after so long.
        allowed_hosts: Names under which browsers may reach the console, besides IP addresses and `localhost`.
        public_url: Where browsers reach the console, behind a proxy; empty: where it listens.
        secure_cookie: Browsers reach it by TLS; so they do where `public_url` says https.
        trusted_proxies: Addresses of proxies whose `X-Forwarded-For` is believed.
    """

    records_root: Path
    database_url: str
    state_dir: Path
    poll_interval_s: float = 0.25
    batch_bytes: int = 16 << 20
    window_s: int = 60
    lateness_s: float = 10.0
    sample_rows: int = 100
    host: str = "127.0.0.1"
    port: int = 8080
    token_sha256: tuple[str, ...] = ()
    sign_in: SignIn = SignIn.AUTO
    session_idle_s: float = 7200.0
    session_s: float = 43_200.0
    allowed_hosts: tuple[str, ...] = ()
    public_url: str = ""
    secure_cookie: bool = False
    trusted_proxies: tuple[str, ...] = ()
    cases: CaseOptions = field(default_factory=CaseOptions)
    scores: ScoreOptions = field(default_factory=ScoreOptions)
    slices: SliceSearchOptions = field(default_factory=SliceSearchOptions)
    drift: DriftOptions = field(default_factory=DriftOptions)
    alarms: AlarmOptions = field(default_factory=AlarmOptions)
    reports: ReportingOptions = field(default_factory=ReportingOptions)
    retention: RetentionOptions = field(default_factory=RetentionOptions)
    archive: ArchiveOptions = field(default_factory=ArchiveOptions)
    inference: InferenceOptions = field(default_factory=InferenceOptions)
    integrations: IntegrationOptions = field(default_factory=IntegrationOptions)
    loop: LoopOptions = field(default_factory=LoopOptions)
    gate: GateOptions = field(default_factory=GateOptions)
    rollout: RolloutOptions = field(default_factory=RolloutOptions)
    privacy: tuple[PrivacyPolicy, ...] = ()
    keys: tuple[str, ...] = ()
    notify: tuple[ChannelOptions, ...] = ()
    experiments: ExperimentOptions = field(default_factory=ExperimentOptions)

    @property
    def archive_root(self) -> Path:
        """Folder of the archive: beside the record log, because whoever reads the one needs the other."""
        return self.records_root.with_name("archive")

    @property
    def loop_root(self) -> Path:
        """State of the loop, beside the record log: what trainings and gates leave."""
        return self.records_root.with_name("loop")
