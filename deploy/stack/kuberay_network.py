"""Kubernetes objects around the pods: who may talk to whom, and what Prometheus scrapes."""

from __future__ import annotations

from typing import Any

from deploy.stack.values import Stack


def policies(stack: Stack) -> list[dict[str, Any]]:
    """Who may talk to whom: Ray's control plane only within itself; inference and the console are open."""
    ray = {"matchExpressions": [{"key": "app.kubernetes.io/component", "operator": "In",
                                 "values": ["ray-head", "ray-worker"]}]}  # fmt: skip
    serving = [stack.settings.serving.port, stack.settings.serving.grpc_port]
    open_ports = [{"protocol": "TCP", "port": port} for port in serving if port]

    def policy(name: str, selector: dict[str, Any], ingress: list[dict[str, Any]]) -> dict[str, Any]:
        spec = {"podSelector": selector, "policyTypes": ["Ingress"], "ingress": ingress}
        kind = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy"}
        return {**kind, "metadata": meta(stack, f"{stack.name}-{name}"), "spec": spec}

    return [
        policy("ray", ray, [
            {"from": [{"podSelector": ray}]},
            {"from": [{"podSelector": {"matchLabels": {"app.kubernetes.io/name": "kuberay-operator"}},
                       "namespaceSelector": {}}], "ports": [{"protocol": "TCP", "port": 8265}]},
            {"from": [{"podSelector": {"matchLabels": labels(stack, "monitor")}}]},
            {"from": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}],
             "ports": open_ports[:1]},
            {"ports": open_ports},
        ]),
        policy("monitor", {"matchLabels": labels(stack, "monitor")}, [
            {"ports": [{"protocol": "TCP", "port": stack.settings.monitor.port}]},
        ]),
    ]  # fmt: skip


def pod_monitor(stack: Stack) -> dict[str, Any]:
    """For the Prometheus operator: every Ray pod's HAProxy front, behind which each replica answers for itself."""
    key = {"authorization": {"credentials": {"name": "hardcase-metrics-key", "key": "key", "optional": True}}}
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PodMonitor",
        "metadata": meta(stack, stack.name),
        "spec": {
            "selector": {"matchLabels": {"app.kubernetes.io/part-of": stack.name}},
            "podMetricsEndpoints": [
                {"port": "inference", "path": "/metrics", "interval": "15s", **key},
                {"port": "http", "path": "/metrics", "interval": "15s", **key},
            ],
        },
    }


def meta(stack: Stack, name: str) -> dict[str, Any]:
    """Metadata of an object."""
    return {"name": name, "namespace": stack.namespace, "labels": {"app.kubernetes.io/part-of": stack.name}}


def labels(stack: Stack, component: str) -> dict[str, str]:
    """Labels of the pods of a component."""
    return {"app.kubernetes.io/part-of": stack.name, "app.kubernetes.io/component": component}
