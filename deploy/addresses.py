"""What answers where, by the settings. A module of its own: short commands need nothing else of `deploy.local`."""

from __future__ import annotations

from deploy.settings import Settings


def addresses(settings: Settings) -> dict[str, str]:
    """What answers where."""
    host, grpc_port = reachable(settings.serving.host), settings.serving.grpc_port
    return {
        "inference": f"http://{host}:{settings.serving.port}",
        **({"grpc": f"{host}:{grpc_port}"} if grpc_port else {}),
        "console": f"http://{reachable(settings.monitor.host)}:{settings.monitor.port}",
    }


def reachable(host: str) -> str:
    """A host as a client on this machine names it: wildcards are this machine, IPv6 stands in brackets."""
    wildcard = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}
    return wildcard.get(host, f"[{host}]" if ":" in host else host)
