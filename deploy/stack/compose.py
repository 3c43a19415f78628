"""`hardcase render compose`: everything in containers, on one machine or a few, from the settings.

Nothing runs as root, every root file system is read-only, every service has limits, a health check and its own
volumes; secrets come from `.env` and from a file, and stand in none of what is written here.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from deploy.observability.grafana import write_grafana
from deploy.observability.local import around_of
from deploy.observability.prometheus import write_prometheus
from deploy.stack.files import DOCKERFILE, NODE_SCRIPT, dump, settings_yaml
from deploy.stack.values import CONFIG, IMAGES, RUN, STATE, TOKEN, UID, Size, Stack, container_settings

DATABASE = "postgresql+psycopg://hardcase@postgres:5432/hardcase"
STORE = "http://store:9000"
_ENV = """\
# Copy to .env and fill in; never commit it. `openssl rand -hex 24` makes a good value.
POSTGRES_PASSWORD=
AWS_ACCESS_KEY_ID=
AWS_SECRET_ACCESS_KEY=
GRAFANA_PASSWORD=
"""


def write_compose(folder: Path, stack: Stack) -> tuple[list[str], str]:
    """Write all files.

    Returns:
        Their names relative to the folder, and an API key that was made because the settings have none.
    """
    settings, key = container_settings(
        stack.settings, endpoint=STORE, database_url=DATABASE, ray_address="ray-head:6379"
    )
    stack = replace(stack, settings=settings)
    folder.mkdir(parents=True, exist_ok=True)
    files = {
        "compose.yaml": "# Written by `hardcase render compose`; the README beside it says how to start it.\n"
        + dump(compose(stack)),
        "hardcase.yaml": settings_yaml(settings),
        "Dockerfile": DOCKERFILE,
        "node.sh": NODE_SCRIPT,
        ".env.example": _ENV,
        "README.md": _README,
    }
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    (folder / "node.sh").chmod(0o755)
    objectives = settings.observability.objectives.as_objectives()
    around = replace(around_of(settings), monitor=f"monitor:{settings.monitor.port}", alertmanager="alertmanager:9093",
                     token_file="/etc/prometheus/monitor-token")  # fmt: skip
    watched = write_prometheus(folder / "observability", around, objectives)
    console = settings.observability.console_url.rstrip("/") or f"http://localhost:{settings.monitor.port}"
    boards = write_grafana(
        folder / "grafana", prometheus="http://prometheus:9090", console=console, objectives=objectives
    )
    provider = folder / "grafana" / "provisioning" / "dashboards" / "hardcase.yml"
    inside = provider.read_text().replace(
        str((folder / "grafana" / "dashboards").resolve()), "/var/lib/hardcase-boards"
    )
    provider.write_text(inside)
    names = [*files, *(f"observability/{n}" for n in watched), *(f"grafana/{n}" for n in boards)]
    return names, key


def compose(stack: Stack) -> dict[str, Any]:
    """The compose file."""
    serving, monitor = stack.settings.serving, stack.settings.monitor
    ours = ["./hardcase.yaml:" + CONFIG + ":ro", "./node.sh:/usr/local/bin/hardcase-node:ro"]
    keys = {name: f"${{{name}:?see .env.example}}" for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
    node: dict[str, Any] = {"environment": {**keys, "HOME": STATE, "TMPDIR": "/tmp"}, "secrets": ["ray_token"],
                            "networks": ["inside"], "shm_size": "1g", "stop_grace_period": "60s"}  # fmt: skip
    ray_alive = f"RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH={TOKEN} ray health-check --address localhost:6379"
    ready = _fetch(f"http://localhost:{serving.port}/v2/health/ready")
    database = {"POSTGRES_USER": "hardcase", "POSTGRES_DB": "hardcase", "PGDATA": "/var/lib/postgresql/data/db"}
    services: dict[str, Any] = {
        "postgres": _service(
            stack.postgres, IMAGES["postgres"], "pg_isready -U hardcase -d hardcase", user="999:999",
            environment={**database, "POSTGRES_PASSWORD": "${POSTGRES_PASSWORD:?see .env.example}"},
            volumes=["postgres:/var/lib/postgresql/data"], tmpfs=["/tmp", "/run/postgresql:uid=999,gid=999"],
            networks=["inside"],
        ),
        # The one service with user 0, without any capability: its image gives its volume to root.
        "store": _service(
            stack.small, IMAGES["store"], "mc ready local", user="0:0", command=["server", "/data"],
            environment={"MINIO_ROOT_USER": keys["AWS_ACCESS_KEY_ID"],
                         "MINIO_ROOT_PASSWORD": keys["AWS_SECRET_ACCESS_KEY"], "MC_CONFIG_DIR": "/tmp/mc"},
            volumes=["store:/data"], tmpfs=["/tmp"], networks=["inside"],
        ),
        "bucket": {
            **_service(stack.small, stack.image, None, entrypoint=["python", "-c", _MAKE_BUCKET], restart="on-failure",
                       environment={**keys, "S3_URL": stack.settings.storage.url,
                                    "S3_ENDPOINT": stack.settings.storage.endpoint}, networks=["inside"]),
            "depends_on": {"store": {"condition": "service_healthy"}}, "build": _BUILD,
        },
        "ray-head": {
            **_service(stack.head, stack.image, f"{ray_alive} && {ready}", entrypoint=["hardcase-node", "head"],
                       ports=[f"{serving.port}:{serving.port}"]
                       + ([f"{serving.grpc_port}:{serving.grpc_port}"] if serving.grpc_port else []),
                       volumes=[*ours, f"head:{STATE}"], tmpfs=["/tmp", f"{RUN}:uid={UID},gid={UID},exec"], **node),
            "depends_on": {"bucket": {"condition": "service_completed_successfully"}},
        },
        "ray-worker": {
            **_service(stack.worker, stack.image, _WORKER_ALIVE,
                       entrypoint=["hardcase-node", "worker"],
                       volumes=[*ours, STATE], tmpfs=["/tmp", f"{RUN}:uid={UID},gid={UID},exec"], **node),
            "depends_on": {"ray-head": {"condition": "service_started"}},
        },
        "monitor": {
            **_service(stack.monitor, stack.image, _fetch(f"http://localhost:{monitor.port}/api/health/ready"),
                       command=["-c", CONFIG, "monitor"], ports=[f"{monitor.port}:{monitor.port}"],
                       environment={**keys, "PGPASSWORD": "${POSTGRES_PASSWORD:?see .env.example}", "HOME": STATE},
                       volumes=[ours[0], f"monitor:{STATE}"], tmpfs=["/tmp"], networks=["inside"]),
            "depends_on": {"postgres": {"condition": "service_healthy"},
                           "bucket": {"condition": "service_completed_successfully"}},
        },
        "prometheus": _service(
            stack.small, IMAGES["prometheus"], "wget -q -O /dev/null http://localhost:9090/-/ready", user="65534:65534",
            command=["--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/prometheus",
                     "--storage.tsdb.retention.time=30d", "--enable-feature=exemplar-storage"],
            volumes=["./observability:/etc/prometheus:ro", "prometheus:/prometheus"], networks=["inside"],
        ),
        "alertmanager": _service(
            stack.small, IMAGES["alertmanager"], "wget -q -O /dev/null http://localhost:9093/-/ready",
            user="65534:65534", command=["--config.file=/etc/alertmanager/alertmanager.yml",
                                         "--storage.path=/alertmanager"],
            volumes=["./observability:/etc/alertmanager:ro", "alertmanager:/alertmanager"], networks=["inside"],
        ),
        "grafana": _service(
            stack.small, IMAGES["grafana"], "wget -q -O /dev/null http://localhost:3000/api/health", user="472:0",
            ports=["127.0.0.1:3000:3000"],
            environment={"GF_SECURITY_ADMIN_PASSWORD": "${GRAFANA_PASSWORD:?see .env.example}",
                         "GF_USERS_ALLOW_SIGN_UP": "false", "GF_ANALYTICS_REPORTING_ENABLED": "false"},
            volumes=["./grafana/provisioning:/etc/grafana/provisioning:ro",
                     "./grafana/dashboards:/var/lib/hardcase-boards:ro", "grafana:/var/lib/grafana"],
            tmpfs=["/tmp"], networks=["inside"],
        ),
    }  # fmt: skip
    services["ray-worker"]["deploy"]["replicas"] = stack.workers
    named = ("postgres", "store", "head", "monitor", "prometheus", "alertmanager", "grafana")
    return {
        "name": stack.name,
        "services": services,
        "networks": {"inside": {}},
        "volumes": {name: {} for name in named},
        "secrets": {"ray_token": {"file": "./ray-token"}},
    }


_BUILD = {"context": "${HARDCASE_SOURCE:-..}", "dockerfile_inline": DOCKERFILE.replace("$", "$$")}
# The image has no ps: a raylet is found where the kernel lists processes.
_WORKER_ALIVE = "grep -qsx raylet /proc/[0-9]*/comm"
_MAKE_BUCKET = (
    "from os import environ as e; import botocore.session as b; "
    "c = b.get_session().create_client('s3', endpoint_url=e['S3_ENDPOINT'] or None, region_name='us-east-1'); "
    "n = e['S3_URL'].split('/')[2]; "
    "n in [x['Name'] for x in c.list_buckets()['Buckets']] or c.create_bucket(Bucket=n)"
)


def _fetch(url: str) -> str:
    return f"python -c \"import urllib.request as u; u.urlopen('{url}', timeout=3)\""


def _service(size: Size, image: str, health: str | None, **more: Any) -> dict[str, Any]:
    """What every service has."""
    found: dict[str, Any] = {
        "image": image,
        "restart": "unless-stopped",
        "init": True,
        "read_only": True,
        "user": f"{UID}:{UID}",
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "pids_limit": 4096,
        "deploy": {"resources": {"limits": {"cpus": str(size.cpus), "memory": f"{size.memory_mib}M"}}},
    }
    if health is not None:
        found["healthcheck"] = {
            "test": ["CMD-SHELL", health], "interval": "10s", "timeout": "5s", "retries": 6, "start_period": "120s",
        }  # fmt: skip
    return {**found, **more}


_README = """\
# Hardcase in containers

Written by `hardcase render compose`. Once:

    cp .env.example .env                # and fill it in
    (umask 077; openssl rand -hex 32 > ray-token; : > observability/monitor-token)
    sudo chown 10001 ray-token          # the containers' user reads it
    HARDCASE_SOURCE=/path/to/the/repository docker compose build
    docker compose up -d

Clients reach inference at port 8000 (HTTP) and 9000 (gRPC) with the API key that was printed, people the console at
8080; `docker compose logs monitor` shows the one-time link of the first admin. For Prometheus make a token of the role
viewer in the console and write it to `observability/monitor-token`. The registry begins empty:

    docker compose run --rm monitor -c /etc/hardcase/hardcase.yaml registry add PACKAGE

`docker compose up -d --scale ray-worker=4` adds Ray nodes. The S3-compatible store here is one process on one disk: for
data that matter set `storage.url` and `storage.endpoint` to a real one and render again.
"""
