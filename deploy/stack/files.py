"""Files that compose and KubeRay share: the Dockerfile, the start script of a node, the settings."""

from __future__ import annotations

import yaml

from deploy.settings import Settings
from deploy.stack.values import CONFIG, RAY_PORT, RUN, STATE, TOKEN, UID, different

DOCKERFILE = f"""\
# Written by `hardcase render`. Build it in a clone of the repository: docker build -f DIR/Dockerfile -t hardcase .
FROM python:3.11-slim AS build
WORKDIR /src
COPY constraints.txt pyproject.toml README.md LICENSE ./
COPY export export
COPY serving serving
COPY monitoring monitoring
COPY deploy deploy
RUN python -m venv /opt/hardcase \\
 && /opt/hardcase/bin/pip install --no-cache-dir -c constraints.txt "setuptools>=77" \\
 && /opt/hardcase/bin/pip install --no-cache-dir -c constraints.txt ".[postgres,bucket,tracing]"

FROM python:3.11-slim
RUN apt-get update && apt-get install -y --no-install-recommends libgomp1 && rm -rf /var/lib/apt/lists/* \\
 && useradd --uid {UID} --user-group --home-dir {STATE} --create-home hardcase \\
 && mkdir -p {RUN} && chown hardcase:hardcase {RUN}
COPY --from=build /opt/hardcase /opt/hardcase
ENV PATH=/opt/hardcase/bin:$PATH PYTHONUNBUFFERED=1 RAY_USAGE_STATS_ENABLED=0
USER {UID}:{UID}
WORKDIR {STATE}
ENTRYPOINT ["hardcase"]
CMD ["--help"]
"""

# One script for every kind of container. The agent goes with the node, because the node's log is on the node's disk.
NODE_SCRIPT = f"""\
#!/bin/sh
# Written by `hardcase render`: starts a Ray node that can serve, and what belongs to it.
set -eu
role="$1"
address="$(hostname -i | cut -d' ' -f1)"
eval "$(python -m serving.ray_environment --folder {RUN} --token-file {TOKEN})"
case "$role" in
head)
  ray start --head --port={RAY_PORT} --node-ip-address="$address" --temp-dir={RUN}/ray --num-cpus=0 \\
    --include-dashboard=false --disable-usage-stats
  hardcase -c {CONFIG} node &
  exec hardcase -c {CONFIG} serve
  ;;
worker)
  hardcase -c {CONFIG} node &
  exec ray start --address="${{RAY_HEAD:-ray-head}}:{RAY_PORT}" --node-ip-address="$address" \\
    --disable-usage-stats --block
  ;;
*)
  echo "usage: node.sh head|worker" >&2
  exit 2
  ;;
esac
"""


def settings_yaml(settings: Settings) -> str:
    """`hardcase.yaml` of the containers: what differs from the defaults."""
    head = "# Written by `hardcase render`; every key: docs/settings.md. No secrets: they come from the environment.\n"
    return head + yaml.safe_dump(different(settings), sort_keys=False, width=120)


def dump(value: object) -> str:
    """YAML of ours."""
    return yaml.safe_dump(value, sort_keys=False, width=120)
