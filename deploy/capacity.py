"""How much of everything a load needs, from what was measured: sizing for plans, not a promise.

Every constant is a measurement of `benchmarks/results/` on two cores of an AMD EPYC (a test holds them equal), or is
marked as an estimate. The model adds and divides; what it leaves out stands in `docs/guides/scale.md`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

DAY_S = 86_400


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Costs on one core.

    Attributes:
        replica_us: Of a request in a replica: protocol, the 8 x 8 digits model, metrics, capture (`taxes.json`).
        front_us: Of a request in HAProxy, an upper bound: what the way through it costs more than the way to the
            replica's own port, the load generator on the same two cores (`serving.json`).
        ingest_per_s: Records that one monitor scores and stores in a second of one core, the worst run (`ingest.json`).
        record_bytes: Of the log for a digits request, outputs and embedding included (`ingest.json`).
        row_bytes: Of a record's row and its indexes in the database. An estimate.
        parquet_share: Of the log's bytes that are left in the archive. An estimate; numbers hardly compress.
    """

    replica_us: float = 37.3
    front_us: float = 35.0
    ingest_per_s: float = 26_754.0
    record_bytes: float = 584.0
    row_bytes: float = 400.0
    parquet_share: float = 0.7


@dataclass(frozen=True, kw_only=True)
class Load:
    """What is asked for.

    Attributes:
        rps: Requests a second, the peak.
        mean_share: Mean over the day as a share of the peak; it decides bytes and rows.
        model_us: CPU time of the model for a request, more than the digits model's 16 us.
        payload_bytes: Of a request's tensors, more than the digits model's.
        sample: Share of ordinary records that is kept (`capture.sample`).
        utilisation: Share of the time in which replicas are busy at the peak.
        catch_up: How much faster than live the monitor must be able to read after an outage.
        retention_days: Days that record rows stay in the database.
        archive_days: Days that records stay in the archive.
        ship_s: `storage.ship_s`.
    """

    rps: float
    mean_share: float = 0.5
    model_us: float = 0.0
    payload_bytes: float = 0.0
    sample: float = 1.0
    utilisation: float = 0.7
    catch_up: float = 5.0
    retention_days: float = 14.0
    archive_days: float = 90.0
    ship_s: float = 1.0
    cores_per_node: int = 16

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        if self.rps <= 0 or not 0 < self.mean_share <= 1 or not 0 < self.sample <= 1:
            raise ValueError("rps must be above 0, mean_share and sample above 0 and at most 1")
        if not 0 < self.utilisation <= 1 or self.catch_up < 1 or self.model_us < 0 or self.payload_bytes < 0:
            raise ValueError("utilisation must be above 0 and at most 1, catch_up at least 1, nothing negative")


@dataclass(frozen=True, kw_only=True)
class Need:
    """What a load needs.

    Attributes:
        replicas: Processes, each one core of Python and its model.
        front_cores: Of HAProxy, all nodes together.
        nodes: Of `cores_per_node`, with a tenth left for Ray, the agent and the system.
        log_bytes_per_s: Over all nodes, at the peak; the network and the bucket carry it twice.
        log_bytes_per_day: On the mean.
        archive_bytes: Parquet after `archive_days`.
        monitor_shards: Monitors that keep up, and catch up; one is what there is today for one model.
        database_bytes: Rows after `retention_days`.
        bucket_puts_per_s: Requests that cost money.
        limits: What breaks first, the tightest first.
    """

    replicas: int
    front_cores: float
    nodes: int
    log_bytes_per_s: float
    log_bytes_per_day: float
    archive_bytes: float
    monitor_shards: int
    database_bytes: float
    bucket_puts_per_s: float
    limits: tuple[str, ...]


def plan(load: Load, measured: Measured | None = None) -> Need:
    """What `load` needs.

    Example:
        >>> need = plan(Load(rps=10_000))
        >>> need.replicas, need.nodes, need.monitor_shards
        (1, 1, 2)
    """
    m = measured or Measured()
    replica_cores = load.rps * (m.replica_us + load.model_us) / 1e6 / load.utilisation
    front = load.rps * m.front_us / 1e6 / load.utilisation
    replicas = math.ceil(replica_cores)
    nodes = math.ceil((replicas + front) / (0.9 * load.cores_per_node))
    kept = load.rps * load.sample
    bytes_each = m.record_bytes + load.payload_bytes
    day = kept * load.mean_share * DAY_S
    shards = math.ceil(kept * load.catch_up / m.ingest_per_s)
    return Need(
        replicas=replicas,
        front_cores=round(front, 1),
        nodes=nodes,
        log_bytes_per_s=kept * bytes_each,
        log_bytes_per_day=day * bytes_each,
        archive_bytes=day * bytes_each * m.parquet_share * load.archive_days,
        monitor_shards=shards,
        database_bytes=day * m.row_bytes * load.retention_days,
        bucket_puts_per_s=(2 * replicas + nodes) / load.ship_s,
        limits=tuple(_limits(load, m, shards, replicas, day * m.row_bytes * load.retention_days)),
    )


def most_rps_of_one_monitor(load: Load, measured: Measured | None = None) -> float:
    """Requests a second up to which one monitor is enough.

    Example:
        >>> round(most_rps_of_one_monitor(Load(rps=1, sample=0.01)))
        870480
    """
    m = measured or Measured()
    return m.ingest_per_s / load.catch_up / load.sample


def fitting_sample(load: Load, measured: Measured | None = None) -> float:
    """The largest `capture.sample` with which one monitor is enough."""
    m = measured or Measured()
    return min(1.0, m.ingest_per_s / load.catch_up / load.rps)


def _limits(load: Load, m: Measured, shards: int, replicas: int, database: float) -> list[str]:
    found = []
    if shards > 1:
        found.append(
            f"the monitor: one reads {m.ingest_per_s:,.0f} records/s, and {load.catch_up:g} times live is asked for; "
            f"capture.sample {fitting_sample(load, m):.4f} makes one enough (failed, flagged and refused requests are "
            "kept in any case)"
        )
    if database > 1e12:
        found.append("the database: past a terabyte of rows; lower monitor.retention, the archive has the records")
    if replicas > 200:
        found.append("one receiver: it lists the bucket every round, and takes over a second from about 200 replicas")
    if load.rps * (m.record_bytes + load.payload_bytes) * load.sample > 1e9:
        found.append("the network: the log alone is more than a gigabyte a second, once to the bucket and once from it")
    if load.rps > 100_000:
        found.append(
            "the way in: what spreads clients over the nodes' HAProxies (a cloud's load balancer) is not in this model"
        )
    return found
