"""The table of a replica's metrics: name, type, help and labels of each. Dashboards and documentation read it, too."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

_VERSION = ("model", "version")


class Kind(StrEnum):
    """The Prometheus type of a metric."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class MetricSpec:
    """A line of the table. The name carries the base unit; counters end in `_total`."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()


METRICS: dict[str, MetricSpec] = {
    spec.name: spec
    for spec in (
        MetricSpec(
            "hardcase_requests_total",
            Kind.COUNTER,
            "Inference requests that reached a loaded version, by how they ended.",
            (*_VERSION, "variant", "outcome"),
        ),
        MetricSpec(
            "hardcase_unrouted_requests_total",
            Kind.COUNTER,
            "Inference requests for which no version was loaded, by how they ended.",
            ("outcome",),
        ),
        MetricSpec("hardcase_unauthenticated_requests_total", Kind.COUNTER, "Requests refused for their credential."),
        MetricSpec(
            "hardcase_request_queue_seconds",
            Kind.HISTOGRAM,
            "Answered requests: time from the last byte received to the start of the batch.",
            _VERSION,
        ),
        MetricSpec(
            "hardcase_request_compute_seconds",
            Kind.HISTOGRAM,
            "Answered requests: time of the batch that the request was in, from gathering inputs to splitting answers.",
            _VERSION,
        ),
        MetricSpec(
            "hardcase_request_total_seconds",
            Kind.HISTOGRAM,
            "Answered requests: time from the last byte received to the answer handed to the socket.",
            _VERSION,
        ),
        MetricSpec("hardcase_rows_total", Kind.COUNTER, "Rows answered.", _VERSION),
        MetricSpec("hardcase_batch_rows", Kind.HISTOGRAM, "Rows of the batches that were executed.", _VERSION),
        MetricSpec(
            "hardcase_batch_release_total",
            Kind.COUNTER,
            "Batches by the reason why they left the queue.",
            (*_VERSION, "reason"),
        ),
        MetricSpec("hardcase_queue_rows", Kind.GAUGE, "Rows that wait for a batch.", _VERSION),
        MetricSpec("hardcase_queue_limit_rows", Kind.GAUGE, "Rows that may wait for a batch.", _VERSION),
        MetricSpec(
            "hardcase_queue_expected_wait_seconds",
            Kind.GAUGE,
            "Time until all rows that wait now will have begun to run, at the measured pace.",
            _VERSION,
        ),
        MetricSpec(
            "hardcase_shed_requests_total",
            Kind.COUNTER,
            "Requests turned away because too much waited, by the rule that did it.",
            (*_VERSION, "reason"),
        ),
        MetricSpec("hardcase_in_flight_requests", Kind.GAUGE, "Inference requests that wait for their answer."),
        MetricSpec("hardcase_connections", Kind.GAUGE, "Open HTTP connections."),
        MetricSpec(
            "hardcase_version_state",
            Kind.GAUGE,
            "1 for the state that a version is in, 0 for the others.",
            (*_VERSION, "state"),
        ),
        MetricSpec(
            "hardcase_version_info",
            Kind.GAUGE,
            "1 for each version in memory; the labels say what executes it and where.",
            (*_VERSION, "runtime", "device", "provider"),
        ),
        MetricSpec(
            "hardcase_version_batch_seconds",
            Kind.GAUGE,
            "Time of one largest batch, measured before the version answered anybody.",
            _VERSION,
        ),
        MetricSpec("hardcase_plan_revision", Kind.GAUGE, "Revision of the traffic plan in force.", ("model",)),
        MetricSpec(
            "hardcase_champion_behind",
            Kind.GAUGE,
            "1 while another version than the plan's champion answers, because that one is not READY.",
            ("model",),
        ),
        MetricSpec(
            "hardcase_challenger_on_duty",
            Kind.GAUGE,
            "1 while the plan's challenger runs here as the plan says; 0 while it is loading, refused, or taken out.",
            (*_VERSION, "mode"),
        ),
        MetricSpec(
            "hardcase_challenger_tripped",
            Kind.GAUGE,
            "1 while the plan's challenger is taken out on this replica because it failed too often.",
            _VERSION,
        ),
        MetricSpec(
            "hardcase_canary_fallbacks_total",
            Kind.COUNTER,
            "Requests of a canary's share that the champion answered, by reason.",
            (*_VERSION, "reason"),
        ),
        MetricSpec(
            "hardcase_shadow_requests_total",
            Kind.COUNTER,
            "Requests that a shadow was offered, by what became of them.",
            (*_VERSION, "result"),
        ),
        MetricSpec("hardcase_shadow_waiting_requests", Kind.GAUGE, "Requests that wait for the shadow.", _VERSION),
        MetricSpec(
            "hardcase_shadow_rows_total", Kind.COUNTER, "Rows on which shadow and champion agree or not.", _VERSION
        ),
        MetricSpec(
            "hardcase_shadow_different_rows_total",
            Kind.COUNTER,
            "Rows on which the shadow's answer differs from the champion's, by how.",
            (*_VERSION, "difference"),
        ),
        MetricSpec(
            "hardcase_shadow_max_abs_difference",
            Kind.GAUGE,
            "Largest absolute difference between a float of the shadow's answers and the champion's.",
            _VERSION,
        ),
        MetricSpec(
            "hardcase_shadow_passes_total",
            Kind.COUNTER,
            "Executions in the shadow, by whether they took longer than the champion's for the same rows: yes or no.",
            (*_VERSION, "slower"),
        ),
        MetricSpec("hardcase_ready", Kind.GAUGE, "1 when every promoted model has a version that answers."),
        MetricSpec(
            "hardcase_cpu_fallbacks_total",
            Kind.COUNTER,
            "Versions that run on the CPU although an accelerator was asked for, because the settings allow it.",
        ),
        MetricSpec("hardcase_lane", Kind.GAUGE, "1 for the lane that inference requests take.", ("lane",)),
        MetricSpec("hardcase_grpc_lane", Kind.GAUGE, "1 for the server that gRPC calls reach.", ("lane",)),
        MetricSpec(
            "hardcase_capture_requests_total",
            Kind.COUNTER,
            "Requests that the record log has to account for.",
            _VERSION,
        ),
        MetricSpec(
            "hardcase_capture_records_total",
            Kind.COUNTER,
            "What became of their records: captured, sampled_out, or dropped_<reason>.",
            (*_VERSION, "result"),
        ),
        MetricSpec(
            "hardcase_capture_held_bytes",
            Kind.GAUGE,
            "Bytes of the record log that this replica may not delete, because the monitor has not read them.",
        ),
        MetricSpec("hardcase_capture_quota_bytes", Kind.GAUGE, "Bytes that this replica's record log may hold."),
        MetricSpec(
            "hardcase_cache_lookups_total",
            Kind.COUNTER,
            "Requests that the response cache was asked for, by result: hit or miss.",
            (*_VERSION, "result"),
        ),
        MetricSpec("hardcase_cache_bytes", Kind.GAUGE, "Bytes that the response cache holds.", _VERSION),
        MetricSpec(
            "hardcase_observer_dropped_total",
            Kind.COUNTER,
            "Bunches of requests that the access log or the tracer missed, because its thread was too slow.",
            ("observer",),
        ),
        MetricSpec("hardcase_build_info", Kind.GAUGE, "1; the labels name the releases.", ("version", "python")),
    )
}
