"""*Serving internals*: queues, batches, lanes, capture, processes."""

from __future__ import annotations

from deploy.observability.panels import Board, Panel, Query, Row, Step, mean, percentile, pick, rate, total

_NEAR_FULL = (Step(above=None, color="green"), Step(above=0.8, color="orange"), Step(above=0.95, color="red"))
_HIT = 'result="hit"'

_QUEUES = Row(
    title="Queues",
    panels=(
        Panel(
            title="How full are the queues?",
            text="Rows that wait, as a share of what may wait. What comes when it is full is answered with 503.",
            unit="percentunit",
            low=0,
            high=1,
            steps=_NEAR_FULL,
            queries=(
                Query(
                    expression="max by (model, version) "
                    f"({pick('hardcase_queue_rows')} / {pick('hardcase_queue_limit_rows')})",
                    legend="{{model}} {{version}}",
                ),
            ),
        ),
        Panel(
            title="How long would a new request wait?",
            text="Until all rows that wait now will have begun to run, at the measured pace; of the slowest replica.",
            unit="s",
            low=0,
            queries=(total(pick("hardcase_queue_expected_wait_seconds"), "model", "version", how="max"),),
        ),
        Panel(
            title="What is turned away, by which rule?",
            text="Requests answered with 503 because too much waited.",
            unit="reqps",
            low=0,
            queries=(total(rate("hardcase_shed_requests_total"), "model", "reason", legend="{{model}}: {{reason}}"),),
        ),
        Panel(
            title="How long did requests wait?",
            text="95th percentile of the time from the last byte received to the start of the batch.",
            unit="s",
            low=0,
            queries=(
                Query(
                    expression=percentile(0.95, "hardcase_request_queue_seconds", "model, version"),
                    legend="{{model}} {{version}}",
                ),
            ),
        ),
        Panel(
            title="How many requests are under way?",
            text="Requests that wait for their answer, and open HTTP connections, by replica.",
            unit="short",
            low=0,
            queries=(
                total(pick("hardcase_in_flight_requests"), "instance", legend="requests, {{instance}}"),
                total(pick("hardcase_connections"), "instance", legend="connections, {{instance}}"),
            ),
        ),
        Panel(
            title="Who is refused before any version?",
            text="Requests for models that are not here, by outcome, and requests with a wrong credential.",
            unit="reqps",
            low=0,
            queries=(
                total(rate("hardcase_unrouted_requests_total"), "outcome"),
                total(rate("hardcase_unauthenticated_requests_total"), legend="wrong credential"),
            ),
        ),
    ),
)

_BATCHES = Row(
    title="Batches",
    panels=(
        Panel(
            title="How large are batches?",
            text="Mean rows of the batches that were executed.",
            unit="short",
            low=0,
            queries=(Query(expression=mean("hardcase_batch_rows", "model, version"), legend="{{model}} {{version}}"),),
        ),
        Panel(
            title="Why do batches leave the queue?",
            text="idle: nothing was running; free: the batch before ended; full: the largest batch was reached.",
            unit="ops",
            low=0,
            stacked=True,
            queries=(total(rate("hardcase_batch_release_total"), "reason"),),
        ),
        Panel(
            title="How long does a batch take?",
            text="95th percentile over answered requests, from gathering inputs to splitting answers.",
            unit="s",
            low=0,
            queries=(
                Query(
                    expression=percentile(0.95, "hardcase_request_compute_seconds", "model, version"),
                    legend="{{model}} {{version}}",
                ),
            ),
        ),
    ),
)

_LANES = Row(
    title="Lanes and versions",
    panels=(
        Panel(
            title="Which lane do requests take?",
            text="Replicas by lane. asgi and grpcio answer the same, several times slower.",
            unit="short",
            low=0,
            queries=(
                total(pick("hardcase_lane"), "lane", legend="HTTP {{lane}}"),
                total(pick("hardcase_grpc_lane"), "lane", legend="gRPC {{lane}}"),
            ),
        ),
        Panel(
            title="In which state are the versions?",
            text="Versions on all replicas by state.",
            unit="short",
            low=0,
            queries=(total(pick("hardcase_version_state"), "state"),),
        ),
        Panel(
            title="How often does the response cache know the answer?",
            text="Share of cached models' requests that were answered from memory.",
            unit="percentunit",
            low=0,
            high=1,
            queries=(
                Query(
                    expression=f"sum by (model) ({rate('hardcase_cache_lookups_total', _HIT)})"
                    f" / sum by (model) ({rate('hardcase_cache_lookups_total')})",
                    legend="{{model}}",
                    may_be_empty="serving.cache is off",
                ),
            ),
        ),
    ),
)

_CAPTURE = Row(
    title="Record log",
    panels=(
        Panel(
            title="What becomes of the records?",
            text="captured, sampled_out as the settings say, or dropped with a reason. The sum is all requests.",
            unit="ops",
            low=0,
            stacked=True,
            queries=(total(rate("hardcase_capture_records_total"), "result"),),
        ),
        Panel(
            title="How full is the log?",
            text="What may not be deleted because the monitor has not read it, as a share of the quota.",
            unit="percentunit",
            low=0,
            high=1,
            steps=_NEAR_FULL,
            queries=(
                Query(
                    expression="max by (instance) "
                    f"({pick('hardcase_capture_held_bytes')} / {pick('hardcase_capture_quota_bytes')})",
                    legend="{{instance}}",
                ),
            ),
        ),
        Panel(
            title="Do access log and tracer keep up?",
            text="Bunches of requests that they missed because their thread was too slow.",
            unit="ops",
            low=0,
            queries=(
                total(
                    rate("hardcase_observer_dropped_total"),
                    "observer",
                    missing="serving.access_log and serving.tracing are off",
                ),
            ),
        ),
    ),
)

_PROCESSES = Row(
    title="Processes",
    panels=(
        Panel(
            title="How much memory do the processes take?",
            text="Resident memory of replicas and monitor.",
            unit="bytes",
            low=0,
            width=12,
            queries=(Query(expression=pick("process_resident_memory_bytes"), legend="{{instance}}"),),
        ),
        Panel(
            title="How busy are the processes?",
            text="Processor cores in use.",
            unit="short",
            low=0,
            width=12,
            queries=(Query(expression=rate("process_cpu_seconds_total"), legend="{{instance}}"),),
        ),
    ),
)

SERVING = Board(
    uid="hardcase-serving",
    title="Hardcase / Serving internals",
    text="Queues, batches, lanes, versions, record log and processes. Ray's own metrics are Ray's dashboards.",
    rows=(_QUEUES, _BATCHES, _LANES, _CAPTURE, _PROCESSES),
)
