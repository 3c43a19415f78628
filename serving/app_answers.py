"""What the pool knows, in the protocol's JSON: metadata, statistics, configuration, repository index. All pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from export.contracts import codec
from export.contracts.datatypes import Datatype
from export.contracts.manifest import Manifest
from export.contracts.signature import InputSpec, OutputSpec
from serving.options import ServingOptions
from serving.queueing.describe import dynamic_batching
from serving.queueing.policy import bounded_rows
from serving.response_cache import ResponseCache
from serving.stats import VersionStats

SERVER_NAME = "hardcase"
# PROTOCOL: the extensions that `/v2` names. A test asks the live server for each of them.
EXTENSIONS = (
    "binary_tensor_data",
    "classification",
    "feedback",
    "model_configuration",
    "model_repository",
    "parameters",
    "schedule_policy",
    "softmax",
    "statistics",
)

_CONFIG_TYPE = {Datatype.BYTES: "TYPE_STRING"}


def server_metadata(version: str) -> dict[str, Any]:
    """`GET /v2`."""
    return {"name": SERVER_NAME, "version": version, "extensions": list(EXTENSIONS)}


def model_metadata(manifest: Manifest, versions: Sequence[str]) -> dict[str, Any]:
    """`GET /v2/models/{model}`; `versions` are the ones that answer in this process."""
    return {
        "name": manifest.name,
        "versions": list(versions),
        "platform": manifest.runtimes[0].kind.platform,
        "inputs": [_tensor(spec) for spec in manifest.signature.inputs],
        "outputs": [_tensor(spec) for spec in manifest.signature.outputs],
    }


def _tensor(spec: InputSpec | OutputSpec) -> dict[str, Any]:
    return {"name": spec.name, "datatype": spec.datatype.value, "shape": list(spec.shape)}


def model_config(manifest: Manifest, options: ServingOptions, max_rows: int) -> dict[str, Any]:
    """`GET /v2/models/{model}/config`, in the words of Triton's model configuration.

    Of the queue: `serving.queueing.describe`.
    """
    batched = manifest.signature.batched
    config: dict[str, Any] = {
        "name": manifest.name,
        "platform": manifest.runtimes[0].kind.platform,
        "backend": manifest.runtimes[0].kind.value,
        "version_policy": {"specific": {"versions": [manifest.version]}},
        "max_batch_size": max_rows if batched else 0,
        "input": [_config_tensor(spec, batched) for spec in manifest.signature.inputs],
        "output": [_config_tensor(spec, batched) for spec in manifest.signature.outputs],
        "instance_group": [{"name": manifest.name, "count": 1, "kind": "KIND_AUTO"}],
        "default_model_filename": manifest.runtimes[0].path,
        "parameters": {
            "hardcase_max_queue_rows": {"string_value": str(bounded_rows(options.batch, manifest.signature))},
            "hardcase_max_timeout_microseconds": {"string_value": str(int(options.limits.timeout_s * 1e6))},
        },
    }
    encoded = {spec.name: spec.preprocess for spec in manifest.signature.inputs if spec.preprocess is not None}
    if encoded:
        config["parameters"]["hardcase_preprocess"] = {"string_value": json.dumps(codec.to_plain(encoded))}
    if batched:
        config["dynamic_batching"] = dynamic_batching(manifest, options, max_rows)
    return config


def _config_tensor(spec: InputSpec | OutputSpec, batched: bool) -> dict[str, Any]:
    dims = list(spec.shape[1:] if batched else spec.shape)
    tensor: dict[str, Any] = {
        "name": spec.name,
        "data_type": _CONFIG_TYPE.get(spec.datatype, f"TYPE_{spec.datatype.value}"),
        "dims": dims,
    }
    return tensor


def _duration(count: int, ns: int) -> dict[str, int]:
    return {"count": count, "ns": ns}


def version_statistics(name: str, version: str, stats: VersionStats, cache: ResponseCache | None) -> dict[str, Any]:
    """One entry of `model_stats`. Requests that the cache answered are successes that computed nothing."""
    answered = stats.success_count
    hit, miss = ((cache.hits, cache.hit_ns), (cache.misses, cache.miss_ns)) if cache else ((0, 0), (0, 0))
    computed = max(0, answered - hit[0])
    return {
        "name": name,
        "version": version,
        "last_inference": stats.last_inference_ms,
        "inference_count": stats.inference_count,
        "execution_count": stats.execution_count,
        "inference_stats": {
            "success": _duration(answered, stats.success_ns),
            "fail": _duration(stats.fail_count, stats.fail_ns),
            "queue": _duration(computed, stats.queue_ns),
            "compute_input": _duration(computed, stats.compute_input_ns),
            "compute_infer": _duration(computed, stats.compute_infer_ns),
            "compute_output": _duration(computed, stats.compute_output_ns),
            "cache_hit": _duration(*hit),
            "cache_miss": _duration(*miss),
        },
        "batch_stats": [
            {
                "batch_size": rows,
                "compute_input": _duration(cost.count, cost.input_ns),
                "compute_infer": _duration(cost.count, cost.infer_ns),
                "compute_output": _duration(cost.count, cost.output_ns),
            }
            for rows, cost in sorted(stats.batch_sizes.items())
        ],
    }


def repository_index(statuses: Iterable[Any], ready_only: bool) -> list[dict[str, str]]:
    """`POST /v2/repository/index`: every version that this process hosts or tried to host."""
    return [
        {"name": s.name, "version": s.version, "state": str(s.state), "reason": s.reason or ""}
        for s in statuses
        if not ready_only or str(s.state) == "READY"
    ]
