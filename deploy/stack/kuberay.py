"""`hardcase render kuberay`: a RayService and the monitor for a Kubernetes cluster with the KubeRay operator.

The Serve part (`serveConfigV2`) is made from the same pools as `hardcase serve` makes; `tests/ray` applies it to a real
cluster. PostgreSQL and the bucket are the cluster's own: they are named, not made. Secrets are named, never written.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from deploy.paths import StatePaths
from deploy.settings import Settings
from deploy.stack.files import DOCKERFILE, dump, settings_yaml
from deploy.stack.kuberay_network import labels as labels_of
from deploy.stack.kuberay_network import meta, pod_monitor, policies
from deploy.stack.values import CONFIG, RUN, STATE, UID, Size, Stack, container_settings
from deploy.wiring import cluster_options, pools
from serving.pools import PoolSpec
from serving.ray_application import pool_arguments

RAY_VERSION = "2.60.0"
SECRETS = {"bucket": "hardcase-bucket", "database": "hardcase-database"}


def write_kuberay(folder: Path, stack: Stack) -> tuple[list[str], str]:
    """Write all files.

    Returns:
        Their names relative to the folder, and an API key that was made because the settings have none.
    """
    settings, key = container_settings(
        stack.settings, endpoint="", database_url="postgresql+psycopg://hardcase@postgres:5432/hardcase",
        ray_address="auto",
    )  # fmt: skip
    stack = replace(stack, settings=settings)
    folder.mkdir(parents=True, exist_ok=True)
    head = "# Written by `hardcase render kuberay`.\n"
    files = {
        "config.yaml": head + dump(_config(stack)),
        "rayservice.yaml": head + dump(ray_service(stack)),
        "monitor.yaml": head + yaml.safe_dump_all(monitor(stack), sort_keys=False, width=120),
        "network.yaml": head + yaml.safe_dump_all(policies(stack), sort_keys=False, width=120),
        "podmonitor.yaml": head + dump(pod_monitor(stack)),
        "Dockerfile": DOCKERFILE,
        "README.md": _README.format(namespace=stack.namespace, **SECRETS),
    }
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    return list(files), key


def serve_config(settings: Settings) -> dict[str, Any]:
    """What Ray Serve is to run: `serveConfigV2`, or a file for `serve deploy`."""
    paths = StatePaths(Path(settings.state_dir))
    cluster = cluster_options(settings, Path(RUN))
    return {
        "proxy_location": "EveryNode",
        "http_options": {"host": settings.serving.host, "port": settings.serving.port},
        "grpc_options": {
            "port": settings.serving.grpc_port,
            "grpc_servicer_functions": ["serving.grpc.ingress:add_to"] if settings.serving.grpc_port else [],
        },
        "logging_config": {"log_level": "WARNING"},
        "applications": [
            {
                "name": pool.application,
                "route_prefix": pool.route,
                "import_path": "serving.ray_application:pool",
                "args": pool_arguments(pool, cluster),
            }
            for pool in pools(settings, paths)
        ],
    }


def ray_service(stack: Stack) -> dict[str, Any]:
    """The RayService."""
    settings = stack.settings
    specs = pools(settings, StatePaths(Path(settings.state_dir)))
    scales = any(pool.autoscaling for pool in specs)
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayService",
        # Our own command runs first, and starts Ray with what KubeRay generates.
        "metadata": {**meta(stack, stack.name), "annotations": {"ray.io/overwrite-container-cmd": "true"}},
        "spec": {
            "serviceUnhealthySecondThreshold": 900,
            "serveConfigV2": dump(serve_config(settings)),
            "rayClusterConfig": {
                "rayVersion": RAY_VERSION,
                "authOptions": {"mode": "token"},  # KubeRay makes the token, and needs it itself
                "enableInTreeAutoscaling": scales,
                **({"autoscalerOptions": {"idleTimeoutSeconds": 300, "upscalingMode": "Default"}} if scales else {}),
                "headGroupSpec": {
                    "rayStartParams": {"num-cpus": "0", "dashboard-host": "0.0.0.0"},
                    "template": _node(stack, stack.head, "head"),
                },
                "workerGroupSpecs": [
                    {
                        "groupName": "replicas",
                        "replicas": stack.workers,
                        "minReplicas": min(stack.workers, _nodes_for(specs, stack.worker, most=False)),
                        "maxReplicas": max(stack.workers, _nodes_for(specs, stack.worker, most=True)),
                        "rayStartParams": {},
                        "template": _node(stack, stack.worker, "worker"),
                    }
                ],
            },
        },
    }


def _nodes_for(specs: tuple[PoolSpec, ...], node: Size, *, most: bool) -> int:
    """Nodes whose CPUs hold all replicas, and one replica of each pool more, for a rolling restart."""
    cpus = sum(((p.most_replicas if most else p.first_replicas) + int(most)) * p.cpus for p in specs)
    return max(1, -int(-cpus // node.cpus))


def _node(stack: Stack, size: Size, role: str) -> dict[str, Any]:
    """Pod of a Ray node: Ray, and the agent that keeps the registry folder and sends the log."""
    port = stack.settings.serving.port
    ports = [{"containerPort": port, "name": "inference"}]
    if stack.settings.serving.grpc_port:
        ports.append({"containerPort": stack.settings.serving.grpc_port, "name": "grpc"})
    if role == "head":
        ports += [{"containerPort": 6379, "name": "gcs"}, {"containerPort": 8265, "name": "dashboard"}]
    state, run = {"name": "state", "mountPath": STATE}, {"name": "run", "mountPath": RUN}
    shared = [state, {"name": "config", "mountPath": str(Path(CONFIG).parent), "readOnly": True}]
    ray = {
        "name": f"ray-{role}",
        "image": stack.image,
        # KubeRay puts `ray start ...` behind this; the environment has to be there before.
        "command": ["/bin/bash", "-c", "--"],
        "args": [f'eval "$(python -m serving.ray_environment --folder {RUN})"; '
                 'eval "$KUBERAY_GEN_RAY_START_CMD"'],
        "ports": ports,
        "env": [{"name": "HOME", "value": STATE}],
        "resources": _resources(size),
        "securityContext": _locked(),
        "volumeMounts": [*shared, run, {"name": "tmp", "mountPath": "/tmp"}, {"name": "shm", "mountPath": "/dev/shm"}],
        "lifecycle": {"preStop": {"exec": {"command": ["/bin/sh", "-c", "ray stop --grace-period 30"]}}},
    }  # fmt: skip
    if role == "worker":
        ray["readinessProbe"] = {
            "httpGet": {"path": "/v2/health/ready", "port": port},
            "initialDelaySeconds": 10, "periodSeconds": 5, "failureThreshold": 3,
        }  # fmt: skip
    agent = {
        "name": "node",
        "image": stack.image,
        "args": ["-c", CONFIG, "node"],
        "env": _bucket_env(),
        "resources": _resources(Size(cpus=0.5, memory_mib=512)),
        "securityContext": _locked(),
        "volumeMounts": [*shared, {"name": "tmp", "mountPath": "/tmp"}],
    }
    return {
        "metadata": {"labels": labels_of(stack, f"ray-{role}")},
        "spec": {
            "terminationGracePeriodSeconds": 120,
            "automountServiceAccountToken": role == "head",
            "securityContext": _pod_security(),
            "containers": [ray, agent],
            "volumes": [
                {"name": "state", "emptyDir": {"sizeLimit": "20Gi"}},
                {"name": "run", "emptyDir": {}},
                {"name": "tmp", "emptyDir": {}},
                {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"}},
                {"name": "config", "configMap": {"name": f"{stack.name}-config"}},
            ],
        },
    }


def monitor(stack: Stack) -> list[dict[str, Any]]:
    """The monitor: a volume, one process (its lease keeps a second one waiting), a service."""
    port, labels = stack.settings.monitor.port, labels_of(stack, "monitor")
    probe = {"httpGet": {"path": "/api/health/ready", "port": port}, "periodSeconds": 10}
    name = f"{stack.name}-monitor"
    container = {
        "name": "monitor",
        "image": stack.image,
        "args": ["-c", CONFIG, "monitor"],
        "ports": [{"containerPort": port, "name": "http"}],
        "env": [*_bucket_env(), {"name": "PGPASSWORD", "valueFrom": _secret(SECRETS["database"], "password")}],
        "startupProbe": {**probe, "failureThreshold": 60},
        "readinessProbe": {**probe, "failureThreshold": 3},
        "livenessProbe": {"httpGet": {"path": "/api/health/live", "port": port}, "periodSeconds": 20,
                          "failureThreshold": 6},
        "resources": _resources(stack.monitor),
        "securityContext": _locked(),
        "volumeMounts": [
            {"name": "state", "mountPath": STATE},
            {"name": "config", "mountPath": str(Path(CONFIG).parent), "readOnly": True},
            {"name": "tmp", "mountPath": "/tmp"},
        ],
    }  # fmt: skip
    return [
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": meta(stack, name),
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "100Gi"}}},
        },
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": meta(stack, name),
            "spec": {
                "replicas": 1,
                "strategy": {"type": "Recreate"},  # the volume is one node's at a time
                "selector": {"matchLabels": labels},
                "template": {
                    "metadata": {"labels": labels},
                    "spec": {
                        "automountServiceAccountToken": False,
                        "securityContext": _pod_security(),
                        "containers": [container],
                        "volumes": [
                            {"name": "state", "persistentVolumeClaim": {"claimName": name}},
                            {"name": "config", "configMap": {"name": f"{stack.name}-config"}},
                            {"name": "tmp", "emptyDir": {}},
                        ],
                    },
                },
            },
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": meta(stack, name),
            "spec": {"selector": labels, "ports": [{"name": "http", "port": port, "targetPort": "http"}]},
        },
    ]


def _config(stack: Stack) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": meta(stack, f"{stack.name}-config"),
        "data": {"hardcase.yaml": settings_yaml(stack.settings)},
    }


def _secret(name: str, key: str) -> dict[str, Any]:
    return {"secretKeyRef": {"name": name, "key": key}}


def _bucket_env() -> list[dict[str, Any]]:
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    return [{"name": name, "valueFrom": _secret(SECRETS["bucket"], name)} for name in names]


def _resources(size: Size) -> dict[str, Any]:
    found = {"cpu": f"{int(size.cpus * 1000)}m", "memory": f"{size.memory_mib}Mi"}
    return {"requests": dict(found), "limits": found}


def _locked() -> dict[str, Any]:
    return {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}


def _pod_security() -> dict[str, Any]:
    return {"runAsNonRoot": True, "runAsUser": UID, "runAsGroup": UID, "fsGroup": UID,
            "seccompProfile": {"type": "RuntimeDefault"}}  # fmt: skip


_README = """\
# Hardcase on Kubernetes

Written by `hardcase render kuberay`, for KubeRay 1.5 or later (it makes Ray's token). Needed: the operator,
PostgreSQL, an S3-compatible bucket.

    kubectl create namespace {namespace}
    kubectl -n {namespace} create secret generic {bucket} --from-literal=AWS_ACCESS_KEY_ID=... \\
      --from-literal=AWS_SECRET_ACCESS_KEY=...
    kubectl -n {namespace} create secret generic {database} --from-literal=password=...
    kubectl apply -f config.yaml -f network.yaml -f monitor.yaml -f rayservice.yaml
    kubectl apply -f podmonitor.yaml      # with the Prometheus operator

`docker build -f Dockerfile` in the repository makes the image. The Service `hardcase-serve-svc` that KubeRay makes
takes inference; terminate TLS in front of it. Replicas load what the registry in the bucket names, so a model is
deployed with `hardcase registry add` and `hardcase deploy` from anywhere that has the bucket's credentials and these
settings.
"""
