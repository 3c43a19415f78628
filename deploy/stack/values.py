"""What compose and KubeRay files are made of: the same settings as everywhere, and what only containers need."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from typing import Any

from deploy.settings import Settings

STATE = "/var/lib/hardcase"
CONFIG = "/etc/hardcase/hardcase.yaml"
TOKEN = "/run/secrets/ray_token"
RUN = "/run/hc"  # short: it holds Unix sockets
RAY_PORT = 6379
UID = 10001

IMAGES = {
    "postgres": "postgres:17.6",
    "prometheus": "prom/prometheus:v3.5.0",
    "alertmanager": "prom/alertmanager:v0.28.1",
    "grafana": "grafana/grafana:12.1.1",
    "store": "minio/minio:RELEASE.2025-04-22T22-12-26Z",
}


@dataclass(frozen=True, kw_only=True)
class Size:
    """Limits of one container.

    Attributes:
        memory_mib: Past it the container is killed.
    """

    cpus: float
    memory_mib: int


@dataclass(frozen=True, kw_only=True)
class Stack:
    """One installation.

    Attributes:
        settings: The settings that the containers get.
        image: Ours, built from the Dockerfile.
        workers: Ray nodes besides the head.
    """

    settings: Settings
    image: str = "hardcase:latest"
    workers: int = 2
    namespace: str = "hardcase"
    name: str = "hardcase"
    head: Size = Size(cpus=2, memory_mib=4096)
    worker: Size = Size(cpus=4, memory_mib=8192)
    monitor: Size = Size(cpus=2, memory_mib=4096)
    postgres: Size = Size(cpus=2, memory_mib=2048)
    small: Size = Size(cpus=1, memory_mib=1024)


def container_settings(settings: Settings, **changes: Any) -> tuple[Settings, str]:
    """The settings as containers need them: reachable, with credentials, several machines.

    Args:
        settings: The user's.
        changes: `endpoint`, `database_url` and `ray_address`.

    Returns:
        The settings, and the API key that was made because there was none; it stands nowhere else.
    """
    plain = settings.model_dump(mode="json")
    made = ""
    if not settings.serving.auth.keys:
        made = secrets.token_urlsafe(32)
        plain["serving"]["auth"]["keys"] = [{"name": "first", "sha256": hashlib.sha256(made.encode()).hexdigest()}]
    plain["state_dir"] = STATE
    plain["serving"] |= {"host": "0.0.0.0", "standalone": False}
    plain["monitor"] |= {"host": "0.0.0.0", "sign_in": "always", "database_url": changes["database_url"]}
    names = {*plain["monitor"]["allowed_hosts"], "monitor"}
    plain["monitor"]["allowed_hosts"] = sorted(names)
    plain["observability"]["prometheus"] = False
    plain["ray"] |= {
        "address": changes["ray_address"],
        "auth_token_file": TOKEN,
        "drain_s": max(10.0, settings.ray.drain_s),
        "temp_root": RUN,
    }
    if not settings.storage.url:
        plain["storage"] |= {"url": "s3://hardcase/main", "endpoint": changes["endpoint"], "region": "us-east-1"}
    return Settings.model_validate(plain), made


def different(settings: Settings) -> dict[str, Any]:
    """What differs from the defaults, as a settings file says it."""

    def pick(value: Any, default: Any) -> Any:
        if isinstance(value, dict) and isinstance(default, dict):
            found = {key: pick(value[key], default.get(key)) for key in value if value[key] != default.get(key)}
            return {key: part for key, part in found.items() if part != {}}
        return value

    picked: dict[str, Any] = pick(settings.model_dump(mode="json"), Settings().model_dump(mode="json"))
    return picked
